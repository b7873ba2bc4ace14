package provision

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// foundUser is a user as IAM shows it.
type foundUser struct {
	alias.IAMUser
	tags    map[string]string
	created time.Time
}

// operation is the id of the operation that made the user, if it was made by
// this installation.
func (u *foundUser) operation(installID string) (string, bool) {
	ours := u.tags[policy.TagManagedBy] == policy.ManagedBy && u.tags[policy.TagInstall] == installID && u.Path == policy.UserPath(installID)
	return u.tags[policy.TagOperation], ours && u.tags[policy.TagOperation] != ""
}

// lookUp reads a user with its tags and boundary.
func (c caller) lookUp(ctx context.Context, name string) (*foundUser, error) {
	client := c.p.cfg.AWS.iam()
	out, err := call(ctx, c.look("iam:GetUser", name), client.GetUser, &iam.GetUserInput{UserName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	return asFound(out.User), nil
}

func asFound(u *types.User) *foundUser {
	f := &foundUser{tags: map[string]string{}, created: aws.ToTime(u.CreateDate), IAMUser: alias.IAMUser{
		Name: aws.ToString(u.UserName), Path: aws.ToString(u.Path), ARN: aws.ToString(u.Arn), ID: aws.ToString(u.UserId),
	}}
	if u.PermissionsBoundary != nil {
		f.Boundary = aws.ToString(u.PermissionsBoundary.PermissionsBoundaryArn)
	}
	for _, tag := range u.Tags {
		f.tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return f
}

func iamTags(tags map[string]string) []types.Tag {
	out := make([]types.Tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out
}

// createUser makes the user with everything that marks and bounds it in one
// call: no crash comes in between. A user that is there already is taken only
// if this very operation made it, in an attempt whose answer was lost.
func (t *task) createUser(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	client, in := t.p.cfg.AWS.iam(), &iam.CreateUserInput{
		UserName: aws.String(p.User.Name), Path: aws.String(p.User.Path), Tags: iamTags(p.Tags),
	}
	if p.User.Boundary != "" {
		in.PermissionsBoundary = aws.String(p.User.Boundary)
	}
	var made *foundUser
	err = t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		out, err := call(ctx, t.caller().ask("iam:CreateUser", p.User.Name), client.CreateUser, in)
		if err == nil {
			made = asFound(out.User)
		}
		return err == nil, err
	})
	detail := "made " + p.User.Name
	if isTaken(err) {
		detail = p.User.Name + " was there, made by this operation"
		made, err = t.adopt(ctx, p.User.Name)
	}
	if err != nil {
		return "", err
	}
	p.User.ARN, p.User.ID = made.ARN, made.ID
	return detail, t.save(ctx, t.changed(c, p))
}

// adopt takes a user that has the name we wanted, if it is of this operation.
func (t *task) adopt(ctx context.Context, name string) (*foundUser, error) {
	var user *foundUser
	err := t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		var err error
		user, err = t.caller().lookUp(ctx, name)
		if isGone(err) {
			return false, nil // it was made a moment ago and is not seen yet
		}
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	if operation, ours := user.operation(t.p.cfg.InstallID); !ours || operation != t.op.ID {
		return nil, stop(codeNameTaken, "there is an IAM user %s that this operation did not make; "+
			"it was left as it is: choose another user_name", name)
	}
	return user, nil
}

// waitUser waits until the user is seen, and reads back what was asked for. A
// server that drops the boundary in silence would make an unbounded user.
func (t *task) waitUser(ctx context.Context) (string, error) {
	_, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	user, err := t.adopt(ctx, p.User.Name)
	if err != nil {
		return "", err
	}
	if user.Boundary != p.User.Boundary {
		return "", stop(codeBoundary, "the permissions boundary of %s is %s, not %s: "+
			"the IAM server does not keep it, or somebody changed it", p.User.Name, orNone(user.Boundary), p.User.Boundary)
	}
	for key, value := range p.Tags {
		if got, ok := user.tags[key]; !ok || got != value {
			return "", stop(codeIAM, "the IAM server did not keep the tag %s of %s", key, p.User.Name)
		}
	}
	detail := "seen, with its tags"
	if p.User.Boundary != "" {
		detail += " and the boundary " + p.User.Boundary
	}
	return detail, nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// accessKey is a key as IAM lists it.
type accessKey struct {
	id      string
	active  bool
	created int64 // seconds since 1970
}

// keys lists the keys of a user.
func (c caller) keys(ctx context.Context, user string) ([]accessKey, error) {
	client := c.p.cfg.AWS.iam()
	in := &iam.ListAccessKeysInput{UserName: aws.String(user)}
	var keys []accessKey
	for {
		out, err := call(ctx, c.look("iam:ListAccessKeys", user), client.ListAccessKeys, in)
		if err != nil {
			return nil, err
		}
		for _, k := range out.AccessKeyMetadata {
			keys = append(keys, accessKey{
				id: aws.ToString(k.AccessKeyId), active: k.Status == types.StatusTypeActive,
				created: aws.ToTime(k.CreateDate).Unix(),
			})
		}
		if !out.IsTruncated {
			return keys, nil
		}
		in.Marker = out.Marker
	}
}

// setKey makes a key active or inactive. That it is gone is no error.
func (c caller) setKey(ctx context.Context, user, id string, status types.StatusType) error {
	client := c.p.cfg.AWS.iam()
	return c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.ask("iam:UpdateAccessKey", user).onKey(id), client.UpdateAccessKey, &iam.UpdateAccessKeyInput{
			UserName: aws.String(user), AccessKeyId: aws.String(id), Status: status,
		})
		return done(err)
	})
}

// deleteKey deletes a key. That it is gone is no error.
func (c caller) deleteKey(ctx context.Context, user, id string) error {
	client := c.p.cfg.AWS.iam()
	return c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.ask("iam:DeleteAccessKey", user).onKey(id), client.DeleteAccessKey, &iam.DeleteAccessKeyInput{
			UserName: aws.String(user), AccessKeyId: aws.String(id),
		})
		return done(err)
	})
}

// done is what a deletion means for until: that there is nothing is as good.
func done(err error) (bool, error) {
	if isGone(err) {
		return true, nil
	}
	return err == nil, err
}

// lastUse says in words when a key was used last, for the operator. It is a
// hint that lags by hours, and decides nothing.
func (c caller) lastUse(ctx context.Context, id string) string {
	client := c.p.cfg.AWS.iam()
	out, err := call(ctx, c.look("iam:GetAccessKeyLastUsed", "").onKey(id), client.GetAccessKeyLastUsed,
		&iam.GetAccessKeyLastUsedInput{AccessKeyId: aws.String(id)})
	switch {
	case err != nil:
		return "when it was used last is not known"
	case out.AccessKeyLastUsed == nil || out.AccessKeyLastUsed.LastUsedDate == nil:
		return "never used"
	}
	return fmt.Sprintf("last used %s for %s", out.AccessKeyLastUsed.LastUsedDate.UTC().Format("2006-01-02 15:04"),
		aws.ToString(out.AccessKeyLastUsed.ServiceName))
}

// usedSince names a key of a user that was used after a moment.
func (c caller) usedSince(ctx context.Context, user string, since time.Time) (string, error) {
	keys, err := c.keys(ctx, user)
	if err != nil {
		return "", ignoreGone(err)
	}
	for _, k := range keys {
		last, err := c.lastUsed(ctx, k.id)
		if err != nil && !isUnimplemented(err) {
			return "", err
		}
		if last.After(since) {
			return k.id, nil
		}
	}
	return "", nil
}

// lastUsed is when a key was used last, as far as IAM knows yet; zero for never.
func (c caller) lastUsed(ctx context.Context, id string) (time.Time, error) {
	client := c.p.cfg.AWS.iam()
	out, err := call(ctx, c.look("iam:GetAccessKeyLastUsed", "").onKey(id), client.GetAccessKeyLastUsed,
		&iam.GetAccessKeyLastUsedInput{AccessKeyId: aws.String(id)})
	if err != nil || out.AccessKeyLastUsed == nil {
		return time.Time{}, err
	}
	return aws.ToTime(out.AccessKeyLastUsed.LastUsedDate), nil
}
