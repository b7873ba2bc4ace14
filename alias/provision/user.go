package provision

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// iamUser is a user as IAM shows it.
type iamUser struct {
	alias.IAMUser
	tags    map[string]string
	created time.Time
}

// operation is the id of the operation that made the user, if it was made by
// this installation.
func (u *iamUser) operation(installID string) (string, bool) {
	ours := u.tags[policy.TagManagedBy] == policy.ManagedBy && u.tags[policy.TagInstall] == installID &&
		u.Path == policy.UserPath(installID)
	return u.tags[policy.TagOperation], ours && u.tags[policy.TagOperation] != ""
}

// getUser reads a user with its tags and boundary.
func (c caller) getUser(ctx context.Context, name string) (*iamUser, error) {
	client := c.p.cfg.AWS.iam()
	out, err := call(ctx, c.read("iam:GetUser", name), client.GetUser, &iam.GetUserInput{UserName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	return iamUserOf(out.User), nil
}

func iamUserOf(u *types.User) *iamUser {
	f := &iamUser{tags: map[string]string{}, created: aws.ToTime(u.CreateDate), IAMUser: alias.IAMUser{
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
	var made *iamUser
	err = t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		out, err := call(ctx, t.caller().write("iam:CreateUser", p.User.Name), client.CreateUser, in)
		if err == nil {
			made = iamUserOf(out.User)
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
func (t *task) adopt(ctx context.Context, name string) (*iamUser, error) {
	var user *iamUser
	err := t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		var err error
		user, err = t.caller().getUser(ctx, name)
		if isGone(err) {
			return false, nil // it was made a moment ago and is not seen yet
		}
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	if operation, ours := user.operation(t.p.cfg.InstallID); !ours || operation != t.op.ID {
		return nil, failf(codeNameTaken, "there is an IAM user %s that this operation did not make; "+
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
		return "", failf(codeBoundary, "the permissions boundary of %s is %s, not %s: "+
			"the IAM server does not keep it, or somebody changed it", p.User.Name, orNone(user.Boundary), p.User.Boundary)
	}
	for key, value := range p.Tags {
		if got, ok := user.tags[key]; !ok || got != value {
			return "", failf(codeIAM, "the IAM server did not keep the tag %s of %s", key, p.User.Name)
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
