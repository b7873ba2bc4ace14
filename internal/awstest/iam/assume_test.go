package iam_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

const (
	ofAccount = "arn:aws:iam::123456789012:"
	testKey   = "arn:aws:kms:us-east-1:123456789012:key/k"
	testRole  = ofAccount + "role/ixmage/reader"
)

// withReader is an account with two objects, a user without policies, and a role that the
// user may assume and that reads the whole bucket.
func withReader(t *testing.T, cfg fakeiam.Config, trust string) (*fakeiam.Server, aws.CredentialsProvider) {
	t.Helper()
	s := fakeiam.New(t, cfg)
	s.PutObject("media", "shop/a", fakes3.Object{Body: []byte("shop")})
	s.PutObject("media", "blog/a", fakes3.Object{Body: []byte("blog")})
	s.AddUser("/", "u", "")
	if trust == "" {
		trust = fakeiam.Trust("", ofAccount+"user/u")
	}
	s.AddRole(fakeiam.Role{
		Name: "reader", Path: "/ixmage/", Trust: trust, Inline: map[string]string{"read": readPolicy("media", "")},
	})
	kp := s.AddKey("u")
	return s, pairCredentials(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
}

func pairCredentials(id, secret, token string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token}, nil
	})
}

// asked is the usual request for a session of the reader, changed.
func asked(changes ...func(*sts.AssumeRoleInput)) *sts.AssumeRoleInput {
	in := &sts.AssumeRoleInput{RoleArn: aws.String(testRole), RoleSessionName: aws.String("ixmage-i1-shop")}
	for _, change := range changes {
		change(in)
	}
	return in
}

func assume(t *testing.T, s *fakeiam.Server, as aws.CredentialsProvider, in *sts.AssumeRoleInput) aws.CredentialsProvider {
	t.Helper()
	out, err := s.STSClientOf(as).AssumeRole(t.Context(), in)
	must(t, err)
	return sessionOf(out.Credentials)
}

func policy(text string) func(*sts.AssumeRoleInput) {
	return func(in *sts.AssumeRoleInput) { in.Policy = &text }
}

func seconds(n int32) func(*sts.AssumeRoleInput) {
	return func(in *sts.AssumeRoleInput) { in.DurationSeconds = &n }
}

func externalID(id string) func(*sts.AssumeRoleInput) {
	return func(in *sts.AssumeRoleInput) { in.ExternalId = &id }
}

func named(name string) func(*sts.AssumeRoleInput) {
	return func(in *sts.AssumeRoleInput) { in.RoleSessionName = &name }
}

func identity(id string) func(*sts.AssumeRoleInput) {
	return func(in *sts.AssumeRoleInput) { in.SourceIdentity = &id }
}

// TestTrust: who may assume a role, by its trust policy and by the policies of who asks.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_update-role-trust-policy.html
func TestTrust(t *testing.T) {
	t.Parallel()
	const denied = "403 AccessDenied"
	trust := func(principal, rest string) string {
		return statements(`{'Effect':'Allow','Principal':{'AWS':'` + principal + `'},'Action':['sts:AssumeRole','sts:SetSourceIdentity']` + rest + `}`)
	}
	when := func(condition string) string {
		return trust(ofAccount+"user/u", `,'Condition':{`+condition+`}`)
	}
	mayAssume := statements(`{'Effect':'Allow','Action':'sts:*','Resource':'` + ofAccount + `role/ixmage/*'}`)
	mayAssumeOther := statements(`{'Effect':'Allow','Action':'sts:*','Resource':'` + ofAccount + `role/other/*'}`)
	mayNot := statements(`{'Effect':'Deny','Action':'sts:AssumeRole','Resource':'*'}`)
	for _, tt := range []struct {
		name, trust, own string
		in               *sts.AssumeRoleInput
		want, reason     string
	}{
		{"the user", trust(ofAccount+"user/u", ""), "", asked(), "", ""},
		{"another user", trust(ofAccount+"user/v", ""), mayAssume, asked(), denied, "because no role trust policy allows the sts:AssumeRole action"},
		{"everyone", trust("*", ""), "", asked(), "", ""},
		{"another account", trust("arn:aws:iam::999999999999:root", ""), mayAssume, asked(), denied, "because no role trust policy allows"},
		{"the account alone", trust(ofAccount+"root", ""), "", asked(), denied, "because no identity-based policy allows the sts:AssumeRole action"},
		{"the account and a right", trust(ofAccount+"root", ""), mayAssume, asked(), "", ""},
		{"the account by its number", trust("123456789012", ""), mayAssume, asked(), "", ""},
		{"the account and a right to another role", trust(ofAccount+"root", ""), mayAssumeOther, asked(), denied, "identity-based"},
		{"the user, whose own policy denies", trust(ofAccount+"user/u", ""), mayNot, asked(), denied, "with an explicit deny in an identity-based policy"},
		{"a trust that denies", statements(`{'Effect':'Allow','Principal':'*','Action':'sts:AssumeRole'}`, `{'Effect':'Deny','Principal':{'AWS':'`+ofAccount+`user/u'},'Action':'sts:AssumeRole'}`), mayAssume, asked(), denied, "with an explicit deny in the role trust policy"},
		{"another action", statements(`{'Effect':'Allow','Principal':'*','Action':'sts:TagSession'}`), mayAssume, asked(), denied, "role trust policy"},
		{"a missing role", trust("*", ""), mayAssume, asked(func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String(ofAccount + "role/ixmage/none") }), denied, "on resource: " + ofAccount + "role/ixmage/none"},
		{"a role without its path", trust("*", ""), mayAssume, asked(func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String(ofAccount + "role/reader") }), denied, ""},
		{"the external id", fakeiam.Trust("secret-1", ofAccount+"user/u"), "", asked(externalID("secret-1")), "", ""},
		{"no external id", fakeiam.Trust("secret-1", ofAccount+"user/u"), "", asked(), denied, "because no role trust policy allows"},
		{"a wrong external id", fakeiam.Trust("secret-1", ofAccount+"user/u"), "", asked(externalID("secret-2")), denied, "because no role trust policy allows"},
		{"an external id that nobody asks for", trust("*", ""), "", asked(externalID("secret-2")), "", ""},
		{"the session name", when(`'StringLike':{'sts:RoleSessionName':'ixmage-i1-*'}`), "", asked(), "", ""},
		{"another session name", when(`'StringLike':{'sts:RoleSessionName':'ixmage-i2-*'}`), "", asked(), denied, "role trust policy"},
		{"the own name", when(`'StringEquals':{'sts:RoleSessionName':'${aws:username}'}`), "", asked(named("u2")), denied, ""},
		{"the source identity", when(`'StringEquals':{'sts:SourceIdentity':'shop'}`), "", asked(identity("shop")), "", ""},
		{"no source identity", when(`'StringEquals':{'sts:SourceIdentity':'shop'}`), "", asked(), denied, ""},
		{"a source identity without the right to set it", fakeiam.Trust("", ofAccount+"user/u"), mayAssume, asked(identity("shop")), denied, "because no role trust policy allows the sts:SetSourceIdentity action"},
		{"a tag of the user", when(`'StringEquals':{'aws:PrincipalTag/team':'web'}`), "", asked(), "", ""},
		{"another tag of the user", when(`'StringEquals':{'aws:PrincipalTag/team':'ops'}`), "", asked(), denied, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, u := withReader(t, fakeiam.Config{}, tt.trust)
			s.ChangeUser("u", func(u *fakeiam.User) { u.Tags = map[string]string{"team": "web"} })
			if tt.own != "" {
				s.PutPolicy("u", "own", tt.own)
			}
			_, err := s.STSClientOf(u).AssumeRole(t.Context(), tt.in)
			wantRefused(t, "AssumeRole", err, tt.want)
			if !strings.Contains(message(err), tt.reason) {
				t.Errorf("got %q, want %q in it", message(err), tt.reason)
			}
			if made := len(s.Sessions("reader")); made != map[bool]int{true: 1, false: 0}[tt.want == ""] {
				t.Errorf("sessions: %d", made)
			}
		})
	}
	s, _ := withReader(t, fakeiam.Config{}, trust("*", ""))
	_, err := s.STSClient(s.Root).AssumeRole(t.Context(), asked())
	wantRefused(t, "root", err, denied)
	if want := "Roles may not be assumed by root accounts."; message(err) != want {
		t.Errorf("root: got %q, want %q", message(err), want)
	}
}

// TestAssumeRoleParameters: what STS refuses whoever asks, in its words.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func TestAssumeRoleParameters(t *testing.T) {
	t.Parallel()
	const (
		invalid = "400 ValidationError"
		chain   = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
		longer  = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
	)
	big := func(n int) string { // n characters
		text := readPolicy("media", "")
		return strings.Replace(text, "media/", "media/"+strings.Repeat("x", n-len(text)), 1)
	}
	for _, tt := range []struct {
		name         string
		in           *sts.AssumeRoleInput
		want, reason string
	}{
		{"shortest", asked(seconds(900)), "", ""},
		{"too short", asked(seconds(899)), invalid, "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"},
		{"longest of the role", asked(seconds(7200)), "", ""},
		{"longer than the role's", asked(seconds(7201)), invalid, longer},
		{"longest of all", asked(seconds(43200)), invalid, longer},
		{"too long", asked(seconds(43201)), invalid, "Member must have value less than or equal to 43200"},
		{"name of two characters", asked(named("ab")), "", ""},
		{"name of one character", asked(named("a")), invalid, "at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2"},
		{"name of 64 characters", asked(named(strings.Repeat("a", 64))), "", ""},
		{"name of 65 characters", asked(named(strings.Repeat("a", 65))), invalid, "Member must have length less than or equal to 64"},
		{"name with a slash", asked(named("a/b")), invalid, `Member must satisfy regular expression pattern: [\w+=,.@-]*`},
		{"external id of one character", asked(externalID("a")), invalid, "at 'externalId'"},
		{"external id with a space", asked(externalID("a b")), invalid, "at 'externalId'"},
		{"short ARN", asked(func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String("role/reader") }), invalid, "at 'roleArn'"},
		{"not of a role", asked(func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String(ofAccount + "user/u") }), invalid, "is invalid"},
		{"policy", asked(policy(readPolicy("media", "shop/"))), "", ""},
		{"policy that is no JSON", asked(policy("{")), "400 MalformedPolicyDocument", ""},
		{"policy with a principal", asked(policy(fakeiam.Trust("", "*"))), "400 MalformedPolicyDocument", ""},
		{"policy of 2,048 characters", asked(policy(big(2048))), "", ""},
		{"policy of 2,049 characters", asked(policy(big(2049))), "400 PackedPolicyTooLarge", "Packed policy consumes 101% of allotted space, please use smaller policy."},
		{"policy of 2,049 characters with spaces", asked(policy(readPolicy("media", "") + strings.Repeat(" ", 2049-len(readPolicy("media", ""))))), "400 PackedPolicyTooLarge", "101%"},
		{"policy and a managed one", asked(policy(big(2000)), func(in *sts.AssumeRoleInput) {
			in.PolicyArns = []ststypes.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")}}
		}), "400 PackedPolicyTooLarge", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, u := withReader(t, fakeiam.Config{}, "")
			s.ChangeRole("reader", func(role *fakeiam.Role) { role.MaxSession = 2 * time.Hour })
			_, err := s.STSClientOf(u).AssumeRole(t.Context(), tt.in)
			wantRefused(t, "AssumeRole", err, tt.want)
			if !strings.Contains(message(err), tt.reason) {
				t.Errorf("got %q, want %q in it", message(err), tt.reason)
			}
		})
	}
	// A role that a session assumes.
	s, u := withReader(t, fakeiam.Config{}, "")
	s.AddRole(fakeiam.Role{Name: "second", Trust: fakeiam.Trust("", testRole), MaxSession: 12 * time.Hour})
	second := func(n int32) *sts.AssumeRoleInput {
		return asked(seconds(n), func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String(ofAccount + "role/second") })
	}
	first := assume(t, s, u, asked())
	_, err := s.STSClientOf(first).AssumeRole(t.Context(), second(3601))
	if wantRefused(t, "chained", err, invalid); message(err) != chain {
		t.Errorf("chained: got %q, want %q", message(err), chain)
	}
	assume(t, s, first, second(3600))
	if x := s.Sessions("second"); len(x) != 1 || !x[0].Chained {
		t.Errorf("sessions: %+v", x)
	}
	_, err = s.STSClientOf(u).AssumeRole(t.Context(), second(900))
	wantRefused(t, "the user itself", err, "403 AccessDenied")
}

// TestAssumedRole: the answer of AssumeRole, who a session is, and the log of calls.
func TestAssumedRole(t *testing.T) {
	t.Parallel()
	clock := &manualClock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	s, u := withReader(t, fakeiam.Config{
		Now: clock.Now, SessionLife: func(asked time.Duration) time.Duration { return asked / 900 },
	}, statements(`{'Effect':'Allow','Principal':'*','Action':'sts:*'}`))
	text := readPolicy("media", "shop/")
	out, err := s.STSClientOf(u).AssumeRole(t.Context(), asked(seconds(1800), policy(text), identity("alias-shop")))
	must(t, err)
	role, _ := s.Role("reader")
	const arn = "arn:aws:sts::123456789012:assumed-role/reader/ixmage-i1-shop" // without the path
	if *out.AssumedRoleUser.Arn != arn || *out.AssumedRoleUser.AssumedRoleId != role.ID+":ixmage-i1-shop" {
		t.Errorf("got %s, %s", *out.AssumedRoleUser.Arn, *out.AssumedRoleUser.AssumedRoleId)
	}
	if *out.SourceIdentity != "alias-shop" || *out.PackedPolicySize != int32((len(text)*100+2047)/2048) {
		t.Errorf("got identity %s, packed %d", *out.SourceIdentity, *out.PackedPolicySize)
	}
	if want := clock.now.Add(2 * time.Second); !out.Credentials.Expiration.Equal(want) {
		t.Errorf("expiration: got %s, want %s", out.Credentials.Expiration, want)
	}
	session := sessionOf(out.Credentials)
	who, err := s.STSClientOf(session).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	must(t, err)
	if *who.Arn != arn || *who.UserId != role.ID+":ixmage-i1-shop" || *who.Account != "123456789012" {
		t.Errorf("identity: got %s %s %s", *who.Arn, *who.UserId, *who.Account)
	}
	if body, code := sdk.Get(t, s.S3ClientOf(session), "media", "shop/a"); body != "shop" {
		t.Errorf("got %q", code)
	}
	calls := s.Calls()
	made, read := calls[0], calls[2]
	if made.Action != "AssumeRole" || made.Caller != ofAccount+"user/u" || made.Session != *out.Credentials.AccessKeyId || made.Params.Get("RoleArn") != testRole || made.Params.Get("Policy") != text {
		t.Errorf("call: %+v", made)
	}
	if read.Caller != arn || read.AccessKeyID != made.Session || read.Session != "" {
		t.Errorf("read: %+v", read)
	}
	x := s.Sessions("reader")
	if len(x) != 1 || x[0].Name != "ixmage-i1-shop" || x[0].SourceIdentity != "alias-shop" || x[0].Policies[0] != text || x[0].Chained {
		t.Errorf("sessions: %+v", x)
	}
	// A session keeps its source identity when it assumes a role.
	s.AddRole(fakeiam.Role{Name: "second", Trust: statements(`{'Effect':'Allow','Principal':'*','Action':'sts:*','Condition':{'StringEquals':{'aws:SourceIdentity':'alias-shop'}}}`)})
	again := func(changes ...func(*sts.AssumeRoleInput)) *sts.AssumeRoleInput {
		return asked(append(changes, func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String(ofAccount + "role/second") })...)
	}
	whole := assume(t, s, u, asked(identity("alias-shop")))
	_, err = s.STSClientOf(whole).AssumeRole(t.Context(), again(identity("other")))
	wantRefused(t, "another identity", err, "403 AccessDenied")
	assume(t, s, whole, again())
	if x := s.Sessions("second"); x[0].SourceIdentity != "alias-shop" {
		t.Errorf("got identity %q", x[0].SourceIdentity)
	}
}

// TestSessionOfRole: what a session may read, and for how long. A grant to the role in the
// policy of the bucket does not widen the session, one to the session itself does.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session
func TestSessionOfRole(t *testing.T) {
	t.Parallel()
	const no = "AccessDenied"
	grant := func(principal, key string) string {
		return statements(`{'Effect':'Allow','Principal':` + principal + `,'Action':'s3:GetObject','Resource':'arn:aws:s3:::media/` + key + `'}`)
	}
	bucket := func(text string) func(*fakeiam.Server, *manualClock) {
		return func(s *fakeiam.Server, _ *manualClock) { s.SetBucketPolicy("media", text) }
	}
	role := func(change func(*fakeiam.Role)) func(*fakeiam.Server, *manualClock) {
		return func(s *fakeiam.Server, _ *manualClock) { s.ChangeRole("reader", change) }
	}
	later := func(d time.Duration) func(*fakeiam.Server, *manualClock) {
		return func(_ *fakeiam.Server, c *manualClock) { c.advance(d) }
	}
	revoke := func(code string) func(*fakeiam.Server, *manualClock) {
		return func(s *fakeiam.Server, _ *manualClock) { s.RevokeSessions("reader", code) }
	}
	limit := func(text string) func(*fakeiam.Server, *manualClock) {
		return func(s *fakeiam.Server, _ *manualClock) {
			arn := s.AddPolicy("/", "boundary", text)
			s.ChangeRole("reader", func(role *fakeiam.Role) { role.Boundary = arn })
		}
	}
	encrypt := func(s *fakeiam.Server, _ *manualClock) {
		s.Encrypt("media", testKey)
		s.ChangeRole("reader", func(role *fakeiam.Role) {
			role.Inline["key"] = statements(`{'Effect':'Allow','Action':'kms:Decrypt','Resource':'` + testKey + `'}`)
		})
	}
	narrow := policy(readPolicy("media", "shop/"))
	session := `{'AWS':'arn:aws:sts::123456789012:assumed-role/reader/ixmage-i1-shop'}`
	for _, tt := range []struct {
		name       string
		in         *sts.AssumeRoleInput
		change     func(*fakeiam.Server, *manualClock)
		shop, blog string // the code of reading it
	}{
		{"no session policy", asked(), nil, "", ""},
		{"a session policy", asked(narrow), nil, "", no},
		{"a session policy for another bucket", asked(policy(readPolicy("other", ""))), nil, no, no},
		{"a wider session policy", asked(policy(statements(`{'Effect':'Allow','Action':'*','Resource':'*'}`))), nil, "", ""},
		{"a managed session policy", asked(func(in *sts.AssumeRoleInput) {
			in.PolicyArns = []ststypes.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")}}
		}), nil, "", ""},
		{"a role that reads less", asked(narrow), role(func(role *fakeiam.Role) { role.Inline["read"] = readPolicy("media", "blog/") }), no, no},
		{"a boundary", asked(), limit(readPolicy("media", "blog/")), no, ""},
		{"a boundary and a session policy", asked(narrow), limit(readPolicy("media", "blog/")), no, no},
		{"an attached policy", asked(narrow), role(func(role *fakeiam.Role) {
			role.Inline, role.Attached = nil, []string{"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"}
		}), "", no},
		{"a bucket that grants to the role", asked(narrow), bucket(grant(`{'AWS':'`+testRole+`'}`, "*")), "", no},
		{"a bucket that grants to everyone", asked(narrow), bucket(grant(`'*'`, "*")), "", no},
		{"a bucket that grants to the session", asked(narrow), bucket(grant(session, "blog/*")), "", ""},
		{"a bucket that denies the role", asked(), bucket(strings.Replace(grant(`{'AWS':'`+testRole+`'}`, "shop/*"), "Allow", "Deny", 1)), no, ""},
		{"an encrypted bucket and no right to the key", asked(narrow), encrypt, no, no},
		{"an encrypted bucket and the right to the key", asked(policy(statements(
			`{'Effect':'Allow','Action':'s3:GetObject','Resource':'arn:aws:s3:::media/shop/*'}`,
			`{'Effect':'Allow','Action':'kms:Decrypt','Resource':'`+testKey+`'}`,
		))), encrypt, "", no},
		{"a bucket of another account that grants to the role", asked(narrow), func(s *fakeiam.Server, _ *manualClock) {
			s.SetBucketOwner("media", "999999999999")
			s.SetBucketPolicy("media", grant(`{'AWS':'`+testRole+`'}`, "*"))
		}, "", no},
		{"a bucket of another account that grants nothing", asked(narrow), func(s *fakeiam.Server, _ *manualClock) {
			s.SetBucketOwner("media", "999999999999")
		}, no, no},
		{"just before its end", asked(), later(time.Hour - time.Second), "", ""},
		{"at its end", asked(), later(time.Hour), "ExpiredToken", "ExpiredToken"},
		{"revoked by a policy", asked(), revoke("AccessDenied"), no, no},
		{"ended", asked(), revoke("ExpiredToken"), "ExpiredToken", "ExpiredToken"},
		{"forgotten", asked(), revoke("InvalidToken"), "InvalidToken", "InvalidToken"},
		{"role deleted", asked(), func(s *fakeiam.Server, _ *manualClock) { s.RemoveRole("reader") }, "InvalidAccessKeyId", "InvalidAccessKeyId"},
		{"role made again", asked(), func(s *fakeiam.Server, _ *manualClock) {
			role, _ := s.Role("reader")
			s.AddRole(role)
		}, "InvalidAccessKeyId", "InvalidAccessKeyId"},
		{"user deleted", asked(), func(s *fakeiam.Server, _ *manualClock) { s.RemoveUser("u") }, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := &manualClock{now: time.Now()}
			s, u := withReader(t, fakeiam.Config{Now: clock.Now}, "")
			c := s.S3ClientOf(assume(t, s, u, tt.in))
			if tt.change != nil {
				tt.change(s, clock)
			}
			for key, want := range map[string]string{"shop/a": tt.shop, "blog/a": tt.blog} {
				if _, code := sdk.Get(t, c, "media", key); code != want {
					t.Errorf("%s: got %q, want %q", key, code, want)
				}
			}
		})
	}
}

// TestRevokedSession: a new session of the same role reads, in the same second.
func TestRevokedSession(t *testing.T) {
	t.Parallel()
	clock := &manualClock{now: time.Now()}
	s, u := withReader(t, fakeiam.Config{Now: clock.Now}, "")
	old := assume(t, s, u, asked())
	if n := s.RevokeSessions("other", "ExpiredToken"); n != 0 {
		t.Errorf("another role: %d sessions", n)
	}
	if n := s.RevokeSessions("", "ExpiredToken"); n != 1 {
		t.Errorf("revoked %d sessions, want 1", n)
	}
	_, err := s.STSClientOf(old).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	wantRefused(t, "identity", err, "403 ExpiredToken")
	if _, code := sdk.Get(t, s.S3ClientOf(assume(t, s, u, asked())), "media", "shop/a"); code != "" {
		t.Errorf("a new session: got %q", code)
	}
}

// TestHundredSessions: each session of one role reads its own prefix and no other.
func TestHundredSessions(t *testing.T) {
	t.Parallel()
	s, u := withReader(t, fakeiam.Config{}, "")
	const n = 100
	for i := range n {
		s.PutObject("media", fmt.Sprintf("p%d/a", i), fakes3.Object{Body: []byte{byte(i)}})
	}
	for i := range n {
		prefix := fmt.Sprintf("p%d/", i)
		c := s.S3ClientOf(assume(t, s, u, asked(named("alias-"+prefix[:len(prefix)-1]), policy(readPolicy("media", prefix)))))
		if body, code := sdk.Get(t, c, "media", prefix+"a"); body != string([]byte{byte(i)}) {
			t.Errorf("%s: got %q", prefix, code)
		}
		if _, code := sdk.Get(t, c, "media", fmt.Sprintf("p%d/a", (i+1)%n)); code != "AccessDenied" {
			t.Errorf("%s reads the next prefix: %q", prefix, code)
		}
	}
}

// TestAssumeRoleFaults: the faults of STS.
func TestAssumeRoleFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		fault        *fakeiam.Fault
		want, reason string
	}{
		{"denied", fakeiam.Fail("AccessDenied"), "403 AccessDenied", "User: " + ofAccount + "user/u is not authorized to perform: sts:AssumeRole on resource: " + testRole},
		{"throttled", fakeiam.Fail("Throttling"), "400 Throttling", "Rate exceeded"},
		{"unavailable", fakeiam.Fail("ServiceUnavailable"), "503 ServiceUnavailable", ""},
		{"region", fakeiam.Fail("RegionDisabledException"), "403 RegionDisabledException", "STS is not activated in this region for account:123456789012."},
		{"cut before", fakeiam.LostBefore(), "lost", ""},
		{"cut after", fakeiam.LostAfter(), "lost", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, u := withReader(t, fakeiam.Config{}, "")
			s.SetFault(tt.fault, "AssumeRole")
			_, err := s.STSClientOf(u).AssumeRole(t.Context(), asked())
			wantRefused(t, "AssumeRole", err, tt.want)
			if !strings.HasPrefix(message(err), tt.reason) {
				t.Errorf("got %q, want %q", message(err), tt.reason)
			}
			s.SetFault(nil, "AssumeRole")
			assume(t, s, u, asked())
		})
	}
	s, u := withReader(t, fakeiam.Config{}, "")
	ctx, leave := context.WithCancel(t.Context())
	s.OnCall(func(fakeiam.Call) *fakeiam.Fault { return &fakeiam.Fault{Hang: true, Before: leave} })
	if _, err := s.STSClientOf(u).AssumeRole(ctx, asked()); err == nil || len(s.Sessions("")) != 0 {
		t.Errorf("hung: got %v and %d sessions", err, len(s.Sessions("")))
	}
}

// TestDateOfAnswers: answers bear the time of the account, by which sessions end.
func TestDateOfAnswers(t *testing.T) {
	t.Parallel()
	clock := &manualClock{now: time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)}
	s := fakeiam.New(t, fakeiam.Config{Now: clock.Now})
	for _, url := range []string{s.URL, s.S3URL} {
		resp, err := http.Get(url)
		must(t, err)
		resp.Body.Close()
		if got := resp.Header["Date"]; len(got) != 1 || got[0] != "Tue, 06 May 2031 07:08:09 GMT" {
			t.Errorf("got %q", got)
		}
	}
}

// TestIAMOfRole: a role calls IAM by its own policies, and names the user.
func TestIAMOfRole(t *testing.T) {
	t.Parallel()
	s, u := withReader(t, fakeiam.Config{}, "")
	s.ChangeRole("reader", func(role *fakeiam.Role) {
		role.Inline["iam"] = statements(`{'Effect':'Allow','Action':'iam:GetUser','Resource':'*'}`)
	})
	c := s.IAMClientOf(assume(t, s, u, asked()))
	_, err := c.GetUser(t.Context(), &iam.GetUserInput{UserName: aws.String("u")})
	must(t, err)
	_, err = c.GetUser(t.Context(), &iam.GetUserInput{})
	wantRefused(t, "without a name", err, "400 ValidationError")
	_, err = c.ListUsers(t.Context(), &iam.ListUsersInput{})
	if wantRefused(t, "ListUsers", err, "403 AccessDenied"); !strings.Contains(message(err), "User: arn:aws:sts::123456789012:assumed-role/reader/ixmage-i1-shop is not authorized") {
		t.Errorf("got %q", message(err))
	}
	_, err = s.STSClientOf(assume(t, s, u, asked())).GetSessionToken(t.Context(), &sts.GetSessionTokenInput{})
	wantRefused(t, "GetSessionToken", err, "403 AccessDenied")
}
