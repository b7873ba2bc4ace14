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

// iamUser is a user with its tags, as IAM returns it.
type iamUser struct {
	alias.IAMUser
	tags    map[string]string
	created time.Time
}

// operation is the id of the operation that made the user, from its tag. The second
// result reports whether the tags say that this installation made the user under a path.
func (u *iamUser) operation(installID, path string) (string, bool) {
	ours := u.tags[policy.TagManagedBy] == policy.ManagedBy && u.tags[policy.TagInstall] == installID && u.Path == path
	return u.tags[policy.TagOperation], ours && u.tags[policy.TagOperation] != ""
}

// getUser reads a user with its tags and boundary.
func (c caller) getUser(ctx context.Context, name string) (*iamUser, error) {
	return c.read("iam:GetUser", name).getUser(ctx)
}

func (a apiCall) getUser(ctx context.Context) (*iamUser, error) {
	out, err := call(ctx, a, a.iam().GetUser, &iam.GetUserInput{UserName: aws.String(a.user)})
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
// crash can leave a user without them. An existing user is looked at: this operation may
// have made it, in an attempt whose answer was lost. The SDK does not repeat the call, so that
// the attempts are counted.
func (t *task) createUser(ctx context.Context, _ decision) (string, error) {
	tags := maps.Clone(t.prov.Tags)
	tags[policy.TagGeneration] = t.prov.Generation
	client, in := t.iam(), &iam.CreateUserInput{
		UserName: aws.String(t.prov.User.Name), Path: aws.String(t.prov.User.Path), Tags: iamTags(tags),
	}
	if t.prov.User.Boundary != "" {
		in.PermissionsBoundary = aws.String(t.prov.User.Boundary)
	}
	create, asked := t.caller().write("iam:CreateUser", t.prov.User.Name), 0
	create.once = true
	err := t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		asked++
		out, err := call(ctx, create, client.CreateUser, in)
		if err == nil {
			made := iamUserOf(out.User)
			t.prov.User.ARN, t.prov.User.ID = made.ARN, made.ID
		}
		return err == nil, err
	})
	switch {
	case isTaken(err):
		t.seen.user, t.seen.taken, t.maybeOurs = userView{}, true, asked > 1 || t.resumed
		return "", nil
	case isGone(err) && t.prov.User.Boundary != "":
		return "", t.boundaryMissing()
	case err != nil:
		return "", err
	}
	t.seen.user, t.seen.rights = userView{}, viewDiffers
	return "made " + t.prov.User.Name, t.store(ctx)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
