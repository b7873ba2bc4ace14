package provision

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// iamUser is a user with its tags, as IAM returns it.
type iamUser struct {
	alias.IAMUser
	tags    map[string]string
	created time.Time
}

// operation is the id of the operation that made the user, from its tag. The second
// result reports whether this installation made the user.
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

// createUser makes the user with its tags and its boundary in one call, so that no
// crash can leave a user without them. An existing user is accepted only if this
// operation made it, in an attempt whose answer was lost. The client does not retry, so that
// the attempts are counted.
func (t *task) createUser(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	if err := t.checkBucket(ctx); err != nil {
		return "", err
	}
	client, in := t.p.cfg.AWS.iamOnce(), &iam.CreateUserInput{
		UserName: aws.String(p.User.Name), Path: aws.String(p.User.Path), Tags: iamTags(p.Tags),
	}
	if p.User.Boundary != "" {
		in.PermissionsBoundary = aws.String(p.User.Boundary)
	}
	var made *iamUser
	asked := 0
	err = t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		asked++
		out, err := call(ctx, t.caller().write("iam:CreateUser", p.User.Name), client.CreateUser, in)
		if err == nil {
			made = iamUserOf(out.User)
		}
		return err == nil, err
	})
	detail := "made " + p.User.Name
	switch {
	case isTaken(err):
		detail = p.User.Name + " exists, made by this operation"
		made, err = t.adopt(ctx, p.User.Name, asked > 1 || t.resumed)
		if errors.Is(err, errNotSeen) {
			err = hiddenUser(p.User.Name)
		}
	case isGone(err) && p.User.Boundary != "":
		return "", boundaryMissing(p.User.Boundary)
	}
	if err != nil {
		return "", err
	}
	p.User.ARN, p.User.ID = made.ARN, made.ID
	return detail, t.save(ctx, t.changed(c, p))
}

// adopt returns the existing user of this name, if this operation made it. If it may have made
// the user (asked), adopt waits until IAM shows it.
func (t *task) adopt(ctx context.Context, name string, asked bool) (*iamUser, error) {
	var user *iamUser
	err := t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		var err error
		user, err = t.caller().getUser(ctx, name)
		switch {
		case isGone(err) && !asked:
			return false, hiddenUser(name)
		case isGone(err):
			return false, nil // it was just made and is not visible yet
		}
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	if operation, ours := user.operation(t.p.cfg.InstallID); !ours || operation != t.op.ID {
		return nil, nameTaken(name)
	}
	return user, nil
}

// waitUser waits until IAM shows the user, and checks its boundary and tags. A server
// that ignores the boundary would make a user without one.
func (t *task) waitUser(ctx context.Context) (string, error) {
	_, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	user, err := t.adopt(ctx, p.User.Name, true)
	if err != nil {
		return "", err
	}
	if user.Boundary != p.User.Boundary {
		return "", failf(codeBoundary, "the permissions boundary of %s is %s, not %s: "+
			"the IAM server ignored it, or another client changed it", p.User.Name, orNone(user.Boundary), p.User.Boundary)
	}
	for key, value := range p.Tags {
		if got, ok := user.tags[key]; !ok || got != value {
			return "", failf(codeIAM, "the IAM server did not store the tag %s of %s", key, p.User.Name)
		}
	}
	detail := "visible, with its tags"
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
