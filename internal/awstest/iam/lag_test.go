package iam_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

// manualClock is a clock that stands until advance moves it.
type manualClock struct {
	mu  sync.Mutex
	now time.Time
}

func (h *manualClock) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *manualClock) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func who(ctx context.Context, s *fakeiam.Server, kp alias.KeyPair) error {
	_, err := s.STSClient(kp).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	return err
}

func pairOf(k *iam.CreateAccessKeyOutput) alias.KeyPair {
	return alias.KeyPair{AccessKeyID: *k.AccessKey.AccessKeyId, SecretAccessKey: alias.NewSecret(*k.AccessKey.SecretAccessKey)}
}

// TestLag makes one change and reads it at once, just before the lag has passed,
// and just after.
func TestLag(t *testing.T) {
	t.Parallel()
	const gone, unknown, refusedHere = "404 NoSuchEntity", "403 InvalidClientTokenId", "403 AccessDenied"
	user, policyName := aws.String("u"), aws.String("p")
	doc, other := readPolicy("media", ""), readPolicy("other", "")
	var boundary, managed string
	getUser := func(ctx context.Context, s *fakeiam.Server, _ alias.KeyPair) string {
		_, err := s.IAMClient(s.Root).GetUser(ctx, &iam.GetUserInput{UserName: user})
		return refused(err)
	}
	identity := func(ctx context.Context, s *fakeiam.Server, kp alias.KeyPair) string { return refused(who(ctx, s, kp)) }
	read := func(bucket string) func(context.Context, *fakeiam.Server, alias.KeyPair) string {
		return func(ctx context.Context, s *fakeiam.Server, kp alias.KeyPair) string {
			_, err := s.S3Client(kp).GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("a")})
			return refused(err)
		}
	}
	for _, tt := range []struct {
		name          string
		change        func(context.Context, *iam.Client, string) error // given the id of the user's key
		look          func(context.Context, *fakeiam.Server, alias.KeyPair) string
		before, after string
	}{
		{"tag", func(ctx context.Context, c *iam.Client, _ string) error {
			_, err := c.TagUser(ctx, &iam.TagUserInput{UserName: user, Tags: tagsOf("a=b")})
			return err
		}, func(ctx context.Context, s *fakeiam.Server, _ alias.KeyPair) string {
			out, err := s.IAMClient(s.Root).ListUserTags(ctx, &iam.ListUserTagsInput{UserName: user})
			must(t, err)
			if len(out.Tags) == 0 {
				return ""
			}
			return *out.Tags[0].Key
		}, "", "a"},
		{"inline policy is read", func(ctx context.Context, c *iam.Client, _ string) error {
			_, err := c.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: user, PolicyName: policyName, PolicyDocument: &doc})
			return err
		}, func(ctx context.Context, s *fakeiam.Server, _ alias.KeyPair) string {
			_, err := s.IAMClient(s.Root).GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: user, PolicyName: policyName})
			return refused(err)
		}, gone, ""},
		{"inline policy grants", func(ctx context.Context, c *iam.Client, _ string) error {
			_, err := c.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: user, PolicyName: policyName, PolicyDocument: &doc})
			return err
		}, read("media"), refusedHere, ""},
		{"managed policy grants", func(ctx context.Context, c *iam.Client, _ string) error {
			_, err := c.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: user, PolicyArn: &managed})
			return err
		}, read("media"), refusedHere, ""},
		{"inline policy is deleted", func(ctx context.Context, c *iam.Client, _ string) error {
			_, err := c.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: user, PolicyName: aws.String("there")})
			return err
		}, read("other"), "", refusedHere},
		{"boundary limits", func(ctx context.Context, c *iam.Client, _ string) error {
			_, err := c.PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{UserName: user, PermissionsBoundary: &boundary})
			return err
		}, read("other"), "", refusedHere},
		{"key is switched off", func(ctx context.Context, c *iam.Client, id string) error {
			_, err := c.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: user, AccessKeyId: &id, Status: gateway.KeyInactive})
			return err
		}, identity, "", unknown},
		{"key is deleted", func(ctx context.Context, c *iam.Client, id string) error {
			_, err := c.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: user, AccessKeyId: &id})
			return err
		}, identity, "", unknown},
		{"deleted key is listed", func(ctx context.Context, c *iam.Client, id string) error {
			_, err := c.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: user, AccessKeyId: &id})
			return err
		}, func(ctx context.Context, s *fakeiam.Server, _ alias.KeyPair) string {
			out, err := s.IAMClient(s.Root).ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: user})
			must(t, err)
			return []string{"", "one"}[len(out.AccessKeyMetadata)]
		}, "one", ""},
		{"user is deleted", func(ctx context.Context, c *iam.Client, id string) error {
			_, err1 := c.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: user, AccessKeyId: &id})
			_, err2 := c.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: user, PolicyName: aws.String("there")})
			_, err3 := c.DeleteUser(ctx, &iam.DeleteUserInput{UserName: user})
			return errors.Join(err1, err2, err3)
		}, getUser, "", gone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock, ctx := &manualClock{now: time.Now()}, t.Context()
			s := fakeiam.New(t, fakeiam.Config{Now: clock.Now, Lag: 10 * time.Second})
			s.PutObject("media", "a", fakes3.Object{})
			s.PutObject("other", "a", fakes3.Object{})
			boundary = s.AddPolicy("/", "boundary", readPolicy("media", ""))
			managed = s.AddPolicy("/", "managed", doc)
			kp := s.AddUser("/", "u", "")
			s.PutPolicy("u", "there", other)
			must(t, tt.change(ctx, s.IAMClient(s.Root), kp.AccessKeyID))
			for _, step := range []struct {
				at   time.Duration
				want string
			}{{0, tt.before}, {10*time.Second - 1, tt.before}, {1, tt.after}} {
				clock.advance(step.at)
				if got := tt.look(ctx, s, kp); got != step.want {
					t.Errorf("after another %s: got %q, want %q", step.at, got, step.want)
				}
			}
		})
	}
}

// TestLagOfNewUser: a new user is invisible until the lag has passed, and counts
// at once for names and limits.
func TestLagOfNewUser(t *testing.T) {
	t.Parallel()
	clock, ctx := &manualClock{now: time.Now()}, t.Context()
	s := fakeiam.New(t, fakeiam.Config{Now: clock.Now, Lag: time.Minute})
	s.PutObject("media", "a", fakes3.Object{})
	root, user, doc := s.IAMClient(s.Root), aws.String("u"), readPolicy("media", "")
	create := func() error {
		_, err := root.CreateUser(ctx, &iam.CreateUserInput{UserName: user})
		return err
	}
	put := func() error {
		_, err := root.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: user, PolicyName: aws.String("p"), PolicyDocument: &doc})
		return err
	}
	key := func() (*iam.CreateAccessKeyOutput, error) {
		return root.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: user})
	}
	const gone = "404 NoSuchEntity"
	must(t, create())
	wantRefused(t, "the name is taken", create(), "409 EntityAlreadyExists")
	_, err := root.GetUser(ctx, &iam.GetUserInput{UserName: user})
	wantRefused(t, "GetUser", err, gone)
	wantRefused(t, "PutUserPolicy", put(), gone)
	_, err = key()
	wantRefused(t, "CreateAccessKey", err, gone)
	list, err := root.ListUsers(ctx, &iam.ListUsersInput{})
	must(t, err)
	if len(list.Users) != 0 || len(s.Users()) != 1 {
		t.Errorf("listed %d users, want 0; there are %d, want 1", len(list.Users), len(s.Users()))
	}

	clock.advance(time.Minute)
	must(t, put())
	first, err := key()
	must(t, err)
	_, err = key()
	must(t, err)
	_, err = key()
	wantRefused(t, "third key", err, "409 LimitExceeded")
	kp := pairOf(first)
	wantRefused(t, "new key", who(ctx, s, kp), "403 InvalidClientTokenId")
	if _, code := sdk.Get(t, s.S3Client(kp), "media", "a"); code != "InvalidAccessKeyId" {
		t.Errorf("new key at S3: got %q", code)
	}
	_, err = root.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: user, AccessKeyId: &kp.AccessKeyID})
	wantRefused(t, "delete what is not seen", err, gone)

	clock.advance(time.Minute)
	must(t, who(ctx, s, kp))
	if _, code := sdk.Get(t, s.S3Client(kp), "media", "a"); code != "" {
		t.Errorf("key at S3: got %q", code)
	}
	s.RemoveUser("u")
	must(t, create()) // the name is free, and the old keys are not of the new user
	clock.advance(time.Minute)
	wantRefused(t, "key of the old user", who(ctx, s, kp), "403 InvalidClientTokenId")
}

// TestLagVaries: a later visible change makes earlier ones visible, and direct
// changes are visible at once.
func TestLagVaries(t *testing.T) {
	t.Parallel()
	clock, ctx := &manualClock{now: time.Now()}, t.Context()
	lags := []time.Duration{time.Hour, time.Second}
	var mu sync.Mutex
	s := fakeiam.New(t, fakeiam.Config{Now: clock.Now, LagFunc: func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		if len(lags) == 0 {
			return 0
		}
		lag := lags[0]
		lags = lags[1:]
		return lag
	}})
	s.AddUser("/", "u", "")
	root, user := s.IAMClient(s.Root), aws.String("u")
	tag := func(pair string) {
		_, err := root.TagUser(ctx, &iam.TagUserInput{UserName: user, Tags: tagsOf(pair)})
		must(t, err)
	}
	seen := func() []string {
		out, err := root.ListUserTags(ctx, &iam.ListUserTagsInput{UserName: user})
		must(t, err)
		var keys []string
		for _, tag := range out.Tags {
			keys = append(keys, *tag.Key)
		}
		return keys
	}
	tag("slow=1")
	tag("quick=1")
	if got := seen(); len(got) != 0 {
		t.Errorf("at once: got %v", got)
	}
	clock.advance(time.Second)
	if got, want := seen(), []string{"quick", "slow"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	s.SetLag(time.Hour)
	tag("later=1")
	s.ChangeUser("u", func(u *fakeiam.User) { u.Tags = map[string]string{"outside": "1"} })
	if got, want := seen(), []string{"outside"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
