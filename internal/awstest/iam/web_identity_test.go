package iam_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

const (
	issuer     = "https://oidc.eks.eu-west-1.amazonaws.com/id/A1B2"
	podAccount = "system:serviceaccount:default:ixmage"
)

// TestWebIdentity: which tokens STS takes for a role.
func TestWebIdentity(t *testing.T) {
	t.Parallel()
	good := fakeiam.WebIdentity{Issuer: issuer, Subject: podAccount, Life: time.Hour}
	for _, tt := range []struct {
		name   string
		change func(*fakeiam.WebIdentity)
		token  func(string) string
		role   string
		later  time.Duration
		want   string
		reason string
	}{
		{name: "good"},
		{name: "another subject", change: func(id *fakeiam.WebIdentity) { id.Subject = "system:serviceaccount:default:other" }, want: "403 AccessDenied", reason: "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		{name: "another audience", change: func(id *fakeiam.WebIdentity) { id.Audience = "vault" }, want: "400 InvalidIdentityToken", reason: "Incorrect token audience"},
		{name: "an audience that the provider has and the role does not trust", change: func(id *fakeiam.WebIdentity) { id.Audience = "second" }, want: "403 AccessDenied"},
		{name: "another issuer", change: func(id *fakeiam.WebIdentity) { id.Issuer = "https://example.com" }, want: "400 InvalidIdentityToken", reason: "No OpenIDConnect provider found in your account for https://example.com"},
		{name: "another provider of the account", change: func(id *fakeiam.WebIdentity) { id.Issuer = "https://second.example.com" }, want: "403 AccessDenied"},
		{name: "just before its end", later: time.Hour - time.Second},
		{name: "at its end", later: time.Hour, want: "400 ExpiredTokenException", reason: "Token expired"},
		{name: "forged", token: func(text string) string { return text + "x" }, want: "400 InvalidIdentityToken", reason: "Couldn't retrieve verification key"},
		{name: "no JWT", token: func(string) string { return "text" }, want: "400 InvalidIdentityToken", reason: "The ID Token provided is not a valid JWT"},
		{name: "a missing role", role: "none", want: "403 AccessDenied"},
		{name: "a role that trusts users", role: "users", want: "403 AccessDenied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := &manualClock{now: time.Now()}
			s := fakeiam.New(t, fakeiam.Config{Now: clock.Now})
			s.AddIdentityProvider("https://second.example.com")
			arn := s.AddIdentityProvider(issuer, "sts.amazonaws.com", "second")
			s.AddRole(fakeiam.Role{Name: "web", Trust: fakeiam.WebTrust(arn, podAccount)})
			s.AddRole(fakeiam.Role{Name: "users", Trust: fakeiam.Trust("", ofAccount+"root")})
			id := good
			if tt.change != nil {
				tt.change(&id)
			}
			token := s.WebToken(id)
			if tt.token != nil {
				token = tt.token(token)
			}
			clock.advance(tt.later)
			role := "web"
			if tt.role != "" {
				role = tt.role
			}
			out, err := s.STSClientOf(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
				RoleArn: aws.String(ofAccount + "role/" + role), RoleSessionName: aws.String("pod"), WebIdentityToken: &token,
			})
			wantRefused(t, "AssumeRoleWithWebIdentity", err, tt.want)
			if !strings.Contains(message(err), tt.reason) {
				t.Errorf("got %q, want %q in it", message(err), tt.reason)
			}
			if err == nil && (*out.Provider != arn || *out.SubjectFromWebIdentityToken != podAccount || *out.AssumedRoleUser.Arn != "arn:aws:sts::123456789012:assumed-role/web/pod") {
				t.Errorf("got %s, %s, %s", *out.Provider, *out.SubjectFromWebIdentityToken, *out.AssumedRoleUser.Arn)
			}
			for _, c := range s.Calls() {
				if c.Params.Has("WebIdentityToken") {
					t.Error("the log of calls holds the token")
				}
			}
		})
	}
}

// TestWebIdentityOfSDK: the SDK's default chain reads the token from its file.
func TestWebIdentityOfSDK(t *testing.T) { //nolint:paralleltest // it sets the environment
	s := fakeiam.New(t, fakeiam.Config{})
	s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
	s.AddRole(fakeiam.Role{
		Name: "web", Trust: fakeiam.WebTrust(s.AddIdentityProvider(issuer), podAccount),
		Inline: map[string]string{"read": readPolicy("media", "")},
	})
	file := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(file, []byte(s.WebToken(fakeiam.WebIdentity{Issuer: issuer, Subject: podAccount, Life: time.Hour})), 0o600))
	for name, value := range map[string]string{
		"AWS_WEB_IDENTITY_TOKEN_FILE": file, "AWS_ROLE_ARN": ofAccount + "role/web", "AWS_ENDPOINT_URL_STS": s.URL,
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "",
		"AWS_CONFIG_FILE": file + ".none", "AWS_SHARED_CREDENTIALS_FILE": file + ".none",
	} {
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	must(t, err)
	c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = &s.S3URL, true })
	if body, code := sdk.Get(t, c, "media", "a"); body != "x" {
		t.Errorf("got %q", code)
	}
}
