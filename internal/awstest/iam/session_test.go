package iam_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"ixmage/alias"
	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

// sessionOf are the credentials that GetSessionToken answered.
func sessionOf(c *ststypes.Credentials) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
}

// TestSessionOutlivesItsKey: temporary credentials work until they expire, without the
// key that asked for them, but not without the user.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_disable-perms.html
func TestSessionOutlivesItsKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*fakeiam.Server, *manualClock, alias.KeyPair)
		want   string // of GetObject
	}{
		{"nothing", func(*fakeiam.Server, *manualClock, alias.KeyPair) {}, ""},
		{"key inactive", func(s *fakeiam.Server, _ *manualClock, kp alias.KeyPair) { s.SetKey(kp.AccessKeyID, false) }, ""},
		{"key deleted", func(s *fakeiam.Server, _ *manualClock, kp alias.KeyPair) { s.RemoveKey(kp.AccessKeyID) }, ""},
		{"just before its end", func(_ *fakeiam.Server, c *manualClock, _ alias.KeyPair) { c.advance(12*time.Hour - time.Second) }, ""},
		{"at its end", func(_ *fakeiam.Server, c *manualClock, _ alias.KeyPair) { c.advance(12 * time.Hour) }, "ExpiredToken"},
		{"user deleted", func(s *fakeiam.Server, _ *manualClock, _ alias.KeyPair) { s.RemoveUser("u") }, "InvalidAccessKeyId"},
		{"user made again", func(s *fakeiam.Server, _ *manualClock, _ alias.KeyPair) {
			s.RemoveUser("u")
			s.AddUser("/", "u", readPolicy("media", ""))
		}, "InvalidAccessKeyId"},
		{"policy removed", func(s *fakeiam.Server, _ *manualClock, _ alias.KeyPair) {
			s.ChangeUser("u", func(u *fakeiam.User) { u.Inline = nil })
		}, "AccessDenied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock, ctx := &manualClock{now: time.Now()}, t.Context()
			s := fakeiam.New(t, fakeiam.Config{Now: clock.Now})
			s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
			kp := s.AddUser("/", "u", readPolicy("media", ""))
			out, err := s.STSClient(kp).GetSessionToken(ctx, &sts.GetSessionTokenInput{})
			must(t, err)
			if !strings.HasPrefix(*out.Credentials.AccessKeyId, "ASIA") {
				t.Errorf("got key %s", *out.Credentials.AccessKeyId)
			}
			tt.change(s, clock, kp)
			if _, code := sdk.Get(t, s.S3ClientOf(sessionOf(out.Credentials)), "media", "a"); code != tt.want {
				t.Errorf("got %q, want %q", code, tt.want)
			}
		})
	}
}

// TestSessionLimits: how long a session may be, and what it may not call.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
func TestSessionLimits(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
	nothing := s.AddUser("/", "nothing", statements(`{'Effect':'Deny','Action':'*','Resource':'*'}`))
	for seconds, want := range map[int32]string{899: "400 ValidationError", 900: "", 129600: "", 129601: "400 ValidationError"} {
		_, err := s.STSClient(nothing).GetSessionToken(ctx, &sts.GetSessionTokenInput{DurationSeconds: &seconds})
		wantRefused(t, time.Duration(seconds).String(), err, want)
	}
	s.AddUser("/", "u", statements(`{'Effect':'Allow','Action':'*','Resource':'*'}`))
	session := s.NewSession("u")
	_, err := s.IAMClientOf(session).GetUser(ctx, &iam.GetUserInput{})
	wantRefused(t, "IAM", err, "403 InvalidClientTokenId")
	who, err := s.STSClientOf(session).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	must(t, err)
	if *who.Arn != "arn:aws:iam::123456789012:user/u" {
		t.Errorf("identity: got %s", *who.Arn)
	}
	_, err = s.STSClientOf(session).GetSessionToken(ctx, &sts.GetSessionTokenInput{})
	wantRefused(t, "another session", err, "403 AccessDenied")
	if body, code := sdk.Get(t, s.S3ClientOf(session), "media", "a"); body != "x" {
		t.Errorf("got %q", code)
	}
	creds, err := session.Retrieve(ctx)
	must(t, err)
	for token, want := range map[string]string{"": "InvalidAccessKeyId", "x": "InvalidToken"} {
		bare := credentials.NewStaticCredentialsProvider(creds.AccessKeyID, creds.SecretAccessKey, token)
		if _, code := sdk.Get(t, s.S3ClientOf(bare), "media", "a"); code != want {
			t.Errorf("token %q: got %q, want %q", token, code, want)
		}
		_, err := s.STSClientOf(bare).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		wantRefused(t, "STS with token "+token, err, "403 InvalidClientTokenId")
	}
}

// TestConditionsOfRequests reads with a long-term key and with a session of it. The
// condition stands in the policy, in the boundary, and in the policy of the bucket.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
func TestConditionsOfRequests(t *testing.T) {
	t.Parallel()
	const yes, no = "", "AccessDenied"
	for _, tt := range []struct{ condition, key, session string }{
		{`'Null':{'aws:TokenIssueTime':'true'}`, yes, no},
		{`'Null':{'aws:TokenIssueTime':'false'}`, no, yes},
		{`'DateLessThan':{'aws:TokenIssueTime':'2026-01-02T00:00:00Z'}`, no, yes},
		{`'DateLessThan':{'aws:TokenIssueTime':'2026-01-01T00:00:00Z'}`, no, no},
		{`'DateGreaterThanEquals':{'aws:TokenIssueTime':'2026-01-01'}`, no, yes},
		{`'DateLessThanIfExists':{'aws:TokenIssueTime':'2026-01-01T00:00:00Z'}`, yes, no},
		{`'DateGreaterThan':{'aws:CurrentTime':'2025-12-31T00:00:00Z'}`, yes, yes},
		{`'NumericLessThan':{'aws:EpochTime':'1767225601'}`, yes, yes},
		{`'NumericLessThan':{'aws:EpochTime':'1767225600'}`, no, no},
		{`'Bool':{'aws:ViaAWSService':'false'}`, yes, yes},
		{`'Bool':{'aws:ViaAWSService':'true'}`, no, no},
		{`'StringEquals':{'aws:PrincipalTag/team':'web'}`, yes, yes},
		{`'StringEquals':{'aws:PrincipalTag/team':'other'}`, no, no},
		{`'StringEquals':{'aws:PrincipalTag/none':'x'}`, no, no},
		{`'StringEqualsIfExists':{'aws:PrincipalTag/none':'x'}`, yes, yes},
		{`'StringEquals':{'aws:username':['v','u']}`, yes, yes},
		{`'StringEquals':{'aws:ResourceAccount':'123456789012'}`, yes, yes},
		{`'StringLike':{'aws:UserAgent':'*aws-sdk-go-v2*'}`, yes, yes},
	} {
		for _, where := range []string{"policy", "boundary", "bucket"} {
			t.Run(where+" "+tt.condition, func(t *testing.T) {
				clock := &manualClock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
				s := fakeiam.New(t, fakeiam.Config{Now: clock.Now})
				s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
				allow := func(who string) string {
					return statements(`{'Effect':'Allow',` + who + `'Action':'s3:GetObject','Resource':'arn:aws:s3:::media/*','Condition':{` + tt.condition + `}}`)
				}
				kp := s.AddUser("/", "u", "")
				s.ChangeUser("u", func(u *fakeiam.User) { u.Tags = map[string]string{"team": "web"} })
				switch where {
				case "policy":
					s.PutPolicy("u", "p", allow(""))
				case "boundary":
					s.PutPolicy("u", "p", readPolicy("media", ""))
					arn := s.AddPolicy("/", "boundary", allow(""))
					s.ChangeUser("u", func(u *fakeiam.User) { u.Boundary = arn })
				default:
					s.SetBucketPolicy("media", allow(`'Principal':{'AWS':'arn:aws:iam::123456789012:user/u'},`))
				}
				if _, code := sdk.Get(t, s.S3Client(kp), "media", "a"); code != tt.key {
					t.Errorf("key: got %q, want %q", code, tt.key)
				}
				if _, code := sdk.Get(t, s.S3ClientOf(s.NewSession("u")), "media", "a"); code != tt.session {
					t.Errorf("session: got %q, want %q", code, tt.session)
				}
			})
		}
	}
}

// TestSessionRevoked: a Deny that a policy has for every session takes effect at once,
// and leaves the decryption that S3 asks for in the name of a long-term key alone.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/access_forward_access_sessions.html
func TestSessionRevoked(t *testing.T) {
	t.Parallel()
	s := fakeiam.New(t, fakeiam.Config{})
	s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
	s.Encrypt("media", "arn:aws:kms:us-east-1:123456789012:key/k")
	kp := s.AddUser("/", "u", statements(`{'Effect':'Allow','Action':['s3:GetObject','kms:Decrypt'],'Resource':'*'}`))
	read := func(what, wantKey, wantSession string) {
		t.Helper()
		if _, code := sdk.Get(t, s.S3Client(kp), "media", "a"); code != wantKey {
			t.Errorf("%s, key: got %q, want %q", what, code, wantKey)
		}
		if _, code := sdk.Get(t, s.S3ClientOf(s.NewSession("u")), "media", "a"); code != wantSession {
			t.Errorf("%s, session: got %q, want %q", what, code, wantSession)
		}
	}
	read("before", "", "")
	deny := `{'Effect':'Deny','Action':'*','Resource':'*','Condition':{'Null':{'aws:TokenIssueTime':'false'}`
	s.PutPolicy("u", "revoke", statements(deny+`}}`))
	read("every session", "AccessDenied", "AccessDenied")
	s.PutPolicy("u", "revoke", statements(deny+`,'Bool':{'aws:ViaAWSService':'false'}}}`))
	read("sessions but those of S3", "", "AccessDenied")
}
