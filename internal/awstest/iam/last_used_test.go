package iam_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	fakeiam "ixmage/internal/awstest/iam"
)

// TestLastUsedOfNewKey asks for a key just before and just after it is known, as root
// and with a right to one path.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccessKeyLastUsed.html
func TestLastUsedOfNewKey(t *testing.T) {
	t.Parallel()
	const gone, denied = "404 NoSuchEntity", "403 AccessDenied"
	for _, tt := range []struct {
		name           string
		cfg            fakeiam.Config
		root, limited  string // just before
		withoutWaiting bool
	}{
		{name: "no lag", withoutWaiting: true},
		{name: "as an unknown key", cfg: fakeiam.Config{LastUsedLag: time.Minute}, root: gone, limited: denied},
		{name: "denied", cfg: fakeiam.Config{LastUsedLag: time.Minute, LastUsedError: "AccessDenied"}, root: denied, limited: denied},
		{name: "not found", cfg: fakeiam.Config{LastUsedLag: time.Minute, LastUsedError: "NoSuchEntity"}, root: gone, limited: gone},
		{name: "failure", cfg: fakeiam.Config{LastUsedLag: time.Minute, LastUsedError: "ServiceFailure"}, root: "500 ServiceFailure", limited: "500 ServiceFailure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock, ctx := &manualClock{now: time.Now()}, t.Context()
			tt.cfg.Now = clock.Now
			s := fakeiam.New(t, tt.cfg)
			limited := s.AddUser("/", "limited", provisionerPolicy())
			kp := s.AddUser("/ixmage/i1/", "u", "")
			must(t, who(ctx, s, kp)) // it authenticates from the start
			ask := func(c *iam.Client) (string, string) {
				out, err := c.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &kp.AccessKeyID})
				if err != nil {
					return "", refused(err)
				}
				return *out.UserName, ""
			}
			if !tt.withoutWaiting {
				clock.advance(time.Minute - 1)
				for name, row := range map[string]struct {
					c    *iam.Client
					want string
				}{"root": {s.IAMClient(s.Root), tt.root}, "limited": {s.IAMClient(limited), tt.limited}} {
					if _, code := ask(row.c); code != row.want {
						t.Errorf("%s: got %q, want %q", name, code, row.want)
					}
				}
				clock.advance(1)
			}
			for _, c := range []*iam.Client{s.IAMClient(s.Root), s.IAMClient(limited)} {
				if user, code := ask(c); user != "u" {
					t.Errorf("afterwards: got %q, %q", user, code)
				}
			}
		})
	}
}

// TestLastUsedLagsBehind: a use is seen when the lag has passed, and the one before
// until then.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_last-accessed.html
func TestLastUsedLagsBehind(t *testing.T) {
	t.Parallel()
	clock, ctx := &manualClock{now: time.Now().Truncate(time.Second)}, t.Context()
	s := fakeiam.New(t, fakeiam.Config{Now: clock.Now, LastUsedValueLag: time.Hour})
	kp := s.AddUser("/", "u", "")
	start := clock.Now()
	seen := func() time.Duration {
		out, err := s.IAMClient(s.Root).GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &kp.AccessKeyID})
		must(t, err)
		if out.AccessKeyLastUsed.LastUsedDate == nil {
			return -1
		}
		return out.AccessKeyLastUsed.LastUsedDate.Sub(start)
	}
	for i, step := range []struct{ advance, want time.Duration }{
		{0, -1}, {30 * time.Minute, -1}, {30 * time.Minute, 0}, {30 * time.Minute, 30 * time.Minute},
	} {
		clock.advance(step.advance)
		must(t, who(ctx, s, kp))
		if got := seen(); got != step.want {
			t.Errorf("step %d: got %s, want %s", i, got, step.want)
		}
	}
	if got := s.Keys("u")[0].LastUsed.Sub(start); got != 90*time.Minute {
		t.Errorf("the key itself was used at %s", got)
	}
	clock.advance(24 * time.Hour)
	s.RecordUse(kp.AccessKeyID, start.Add(20*time.Hour))
	if got := seen(); got != 20*time.Hour {
		t.Errorf("recorded use: got %s", got)
	}
}

// TestDeleteConflicts: the message names what is in the way, in the words of AWS.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteUser.html
func TestDeleteConflicts(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*fakeiam.User){
		"delete policies":           func(u *fakeiam.User) { u.Inline["p"] = readPolicy("media", "") },
		"detach all policies":       func(u *fakeiam.User) { u.Attached = []string{"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"} },
		"remove users from group":   func(u *fakeiam.User) { u.Groups = []string{"staff"} },
		"delete login profile":      func(u *fakeiam.User) { u.LoginProfile = true },
		"delete MFA device":         func(u *fakeiam.User) { u.MFADevices = []string{"mfa"} },
		"delete certificates":       func(u *fakeiam.User) { u.SigningCerts = []string{"cert"} },
		"remove referenced objects": func(u *fakeiam.User) { u.ServiceCredentials = []string{"ACCA1"} },
		"delete access keys":        nil,
	} {
		t.Run(want, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
			kp := s.AddUser("/", "u", "")
			if change != nil {
				s.RemoveKey(kp.AccessKeyID)
				s.ChangeUser("u", change)
			}
			_, err := s.IAMClient(s.Root).DeleteUser(ctx, &iam.DeleteUserInput{UserName: aws.String("u")})
			wantRefused(t, "DeleteUser", err, "409 DeleteConflict")
			if text := "Cannot delete entity, must " + want + " first."; message(err) != text {
				t.Errorf("got %q, want %q", message(err), text)
			}
		})
	}
}

// TestQuarantine: AWS's policy for a leaked key leaves reading alone and stops the
// use of IAM; the eleventh attached policy is one too many.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
func TestQuarantine(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	kp := s.AddUser("/", "u", statements(allowAll))
	s.Quarantine("u")
	for _, d := range denials {
		want := ""
		if d.action == "iam:CreateUser" {
			want = "403 AccessDenied"
		}
		if d.action == "s3:GetObject" {
			want = "404 NoSuchBucket"
		}
		wantRefused(t, d.action, d.call(ctx, s.IAMClient(kp), s.STSClient(kp), s.S3Client(kp)), want)
	}
	out, err := s.IAMClient(s.Root).ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: aws.String("u")})
	must(t, err)
	if len(out.AttachedPolicies) != 1 || *out.AttachedPolicies[0].PolicyArn != "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3" {
		t.Errorf("attached: %+v", out.AttachedPolicies)
	}
	for i := range 10 {
		arn := s.AddPolicy("/", "p"+string(rune('0'+i)), statements(allowNone))
		_, err = s.IAMClient(s.Root).AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: aws.String("u"), PolicyArn: &arn})
		want := ""
		if i == 9 {
			want = "409 LimitExceeded"
		}
		wantRefused(t, arn, err, want)
	}
	if text := "Cannot exceed quota for PoliciesPerUser: 10"; message(err) != text {
		t.Errorf("got %q, want %q", message(err), text)
	}
}

// TestSelfManagedKeys: such a user makes itself a second key, and no other a first one.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/access-keys_required-permissions.html
func TestSelfManagedKeys(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	kp := s.AddUser("/", "u", fakeiam.SelfManagedKeys)
	s.AddUser("/", "v", "")
	for user, want := range map[string]string{"u": "", "v": "403 AccessDenied"} {
		_, err := s.IAMClient(kp).CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &user})
		wantRefused(t, user, err, want)
	}
}
