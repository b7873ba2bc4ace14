package iam_test

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
)

const (
	allowAll  = `{'Effect':'Allow','Action':'*','Resource':'*'}`
	toAll     = `{'Effect':'Allow','Principal':'*','Action':'*','Resource':'*'}`
	allowNone = `{'Effect':'Allow','Action':'ec2:*','Resource':'*'}`
	toNone    = `{'Effect':'Allow','Principal':'*','Action':'ec2:*','Resource':'*'}`
	denyAll   = `{'Effect':'Deny','Action':['iam:*','s3:*','sts:*'],'Resource':'*'}`
	refuseAll = `{'Effect':'Deny','Principal':'*','Action':['iam:*','s3:*','sts:*'],'Resource':'*'}`
)

// denials are calls of IAM, STS and S3, with the part of the message before the reason.
var denials = []struct {
	action, text string
	call         func(context.Context, *iam.Client, *sts.Client, *s3.Client) error
}{
	{"iam:CreateUser", "iam:CreateUser on resource: arn:aws:iam::123456789012:user/new ", func(ctx context.Context, c *iam.Client, _ *sts.Client, _ *s3.Client) error {
		_, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("new")})
		return err
	}},
	{"sts:GetFederationToken", "sts:GetFederationToken on resource: arn:aws:sts::123456789012:federated-user/fed ", func(ctx context.Context, _ *iam.Client, c *sts.Client, _ *s3.Client) error {
		_, err := c.GetFederationToken(ctx, &sts.GetFederationTokenInput{Name: aws.String("fed")})
		return err
	}},
	{"s3:GetObject", `s3:GetObject on resource: "arn:aws:s3:::media/a" `, func(ctx context.Context, _ *iam.Client, _ *sts.Client, c *s3.Client) error {
		_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("media"), Key: aws.String("a")})
		return err
	}},
}

// TestReasons: a denial ends with the kind of the policy that denies.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html and
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/troubleshoot-403-errors.html
func TestReasons(t *testing.T) {
	t.Parallel()
	boundary := func(document string) func(*fakeiam.Server) {
		return func(s *fakeiam.Server) {
			arn := s.AddPolicy("/", "boundary", document)
			s.ChangeUser("u", func(u *fakeiam.User) { u.Boundary = arn })
		}
	}
	endpoint := func(document string) func(*fakeiam.Server) {
		return func(s *fakeiam.Server) {
			for _, service := range []string{"iam", "sts", "s3"} {
				s.SetEndpointPolicy(service, document)
			}
		}
	}
	scp := func(document string) func(*fakeiam.Server) {
		return func(s *fakeiam.Server) { s.SetServiceControlPolicy(document) }
	}
	const everywhere, notIAM, onlyS3 = "iam sts s3", "sts s3", "s3"
	for _, tt := range []struct {
		name, policy string
		set          func(*fakeiam.Server)
		denied       string // the services that deny
		want         string // ACTION stands for the action
	}{
		{"allowed", allowAll, func(*fakeiam.Server) {}, "", ""},
		{"no policy", allowNone, func(*fakeiam.Server) {}, everywhere, "because no identity-based policy allows the ACTION action"},
		{"policy denies", allowAll + "," + denyAll, func(*fakeiam.Server) {}, everywhere, "with an explicit deny in an identity-based policy"},
		{"group denies", allowAll, func(s *fakeiam.Server) {
			s.AddToGroup("u", "staff")
			s.SetGroupPolicy("staff", statements(denyAll))
		}, everywhere, "with an explicit deny in an identity-based policy"},
		{"group allows", allowNone, func(s *fakeiam.Server) {
			s.AddToGroup("u", "staff")
			s.SetGroupPolicy("staff", statements(allowAll))
		}, "", ""},
		{"group of another user", allowNone, func(s *fakeiam.Server) { s.SetGroupPolicy("staff", statements(allowAll)) }, everywhere, "because no identity-based policy allows the ACTION action"},
		{"boundary does not allow", allowAll, boundary(statements(allowNone)), everywhere, "because no permissions boundary allows the ACTION action"},
		{"boundary denies", allowAll, boundary(statements(allowAll, denyAll)), everywhere, "with an explicit deny in a permissions boundary"},
		{"organization allows", allowAll, scp(statements(allowAll)), "", ""},
		{"organization does not allow", allowAll, scp(statements(allowNone)), everywhere, "because no service control policy allows the ACTION action"},
		{"organization denies", allowAll, scp(statements(allowAll, denyAll)), everywhere, "with an explicit deny in a service control policy"},
		{"organization grants nothing", allowNone, scp(statements(allowAll)), everywhere, "because no identity-based policy allows the ACTION action"},
		{"resources are denied", allowAll, func(s *fakeiam.Server) { s.SetResourceControlPolicy(statements(refuseAll)) }, notIAM, "with an explicit deny in a resource control policy"},
		{"endpoint allows", allowAll, endpoint(statements(toAll)), "", ""},
		{"endpoint does not allow", allowAll, endpoint(statements(toNone)), everywhere, "because no VPC endpoint policy allows the ACTION action"},
		{"endpoint denies", allowAll, endpoint(statements(toAll, refuseAll)), everywhere, "with an explicit deny in a VPC endpoint policy"},
		{"endpoint allows another user", allowAll, endpoint(statements(`{'Effect':'Allow','Principal':{'AWS':'arn:aws:iam::123456789012:user/v'},'Action':'*','Resource':'*'}`)), everywhere, "because no VPC endpoint policy allows the ACTION action"},
		{"endpoint of S3", allowAll, func(s *fakeiam.Server) { s.SetEndpointPolicy("s3", statements(toNone)) }, onlyS3, "because no VPC endpoint policy allows the ACTION action"},
		{"bucket denies", allowAll, func(s *fakeiam.Server) {
			s.SetBucketPolicy("media", statements(`{'Effect':'Deny','Principal':'*','Action':'s3:*','Resource':'arn:aws:s3:::media/*'}`))
		}, onlyS3, "with an explicit deny in a resource-based policy"},
		{"bucket asks for an endpoint", allowAll, func(s *fakeiam.Server) {
			s.SetBucketPolicy("media", statements(`{'Effect':'Deny','Principal':'*','Action':'s3:*','Resource':'arn:aws:s3:::media/*','Condition':{'Null':{'aws:SourceVpce':'true'}}}`))
		}, onlyS3, "with an explicit deny in a resource-based policy"},
		{"session policy", allowAll, func(s *fakeiam.Server) {
			s.OnCall(func(fakeiam.Call) *fakeiam.Fault {
				return fakeiam.Deny("with an explicit deny in a session policy")
			})
		}, everywhere, "with an explicit deny in a session policy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := fakeiam.New(t, fakeiam.Config{})
			s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
			kp := s.AddUser("/", "u", statements(tt.policy))
			tt.set(s)
			for _, d := range denials {
				service, _, _ := strings.Cut(d.action, ":")
				err := d.call(t.Context(), s.IAMClient(kp), s.STSClient(kp), s.S3Client(kp))
				if !strings.Contains(" "+tt.denied+" ", " "+service+" ") {
					wantRefused(t, d.action, err, "")
					continue
				}
				wantRefused(t, d.action, err, "403 AccessDenied")
				want := "User: arn:aws:iam::123456789012:user/u is not authorized to perform: " + d.text +
					strings.ReplaceAll(tt.want, "ACTION", d.action)
				if err == nil || !strings.HasSuffix(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
		})
	}
}

// TestReasonOptions: servers that give no reason, and AWS's ARN of the policy.
// https://aws.amazon.com/blogs/security/enhanced-access-denied-error-messages-with-policy-arns
func TestReasonOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		cfg    fakeiam.Config
		iam    string
		object string
	}{
		{"as AWS", fakeiam.Config{}, "user/new with an explicit deny in an identity-based policy", `media/a" with an explicit deny in an identity-based policy`},
		{"no reasons", fakeiam.Config{NoReasons: true}, "user/new", "AccessDenied: Access Denied"},
		{"terse", fakeiam.Config{Terse: true}, "user/new with an explicit deny in an identity-based policy", "AccessDenied: Access Denied"},
		{
			"with the policy", fakeiam.Config{PolicyARNs: true}, "in an identity-based policy: arn:aws:iam::123456789012:policy/deny",
			"in an identity-based policy: arn:aws:iam::123456789012:policy/deny",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := fakeiam.New(t, tt.cfg)
			s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
			kp := s.AddUser("/", "u", statements(allowAll))
			s.AttachPolicy("u", s.AddPolicy("/", "deny", statements(denyAll)))
			for i, want := range map[int]string{0: tt.iam, 2: tt.object} {
				err := denials[i].call(t.Context(), s.IAMClient(kp), s.STSClient(kp), s.S3Client(kp))
				if err == nil || !strings.HasSuffix(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
		})
	}
}

// TestGuardsLimitRoot: a service control policy limits the root user of a member account.
// https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_scps.html
func TestGuardsLimitRoot(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.SetServiceControlPolicy(statements(allowAll, `{'Effect':'Deny','Action':'iam:CreateAccessKey','Resource':'*'}`))
	s.AddUser("/", "u", "")
	_, err := s.IAMClient(s.Root).CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("v")})
	must(t, err)
	_, err = s.IAMClient(s.Root).CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("u")})
	wantRefused(t, "CreateAccessKey", err, "403 AccessDenied")
	s.SetServiceControlPolicy("")
	_, err = s.IAMClient(s.Root).CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("u")})
	must(t, err)
}

// TestIdentityOnTheNetwork: GetCallerIdentity needs no right, and no identity policy can
// deny it, but the policy of a VPC endpoint can.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
func TestIdentityOnTheNetwork(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	kp := s.AddUser("/", "u", statements(denyAll))
	s.SetServiceControlPolicy(statements(denyAll))
	must(t, who(ctx, s, kp))
	s.SetEndpointPolicy("sts", statements(toNone))
	err := who(ctx, s, kp)
	wantRefused(t, "GetCallerIdentity", err, "403 AccessDenied")
	if err == nil || !strings.HasSuffix(err.Error(), "because no VPC endpoint policy allows the sts:GetCallerIdentity action") {
		t.Errorf("got %v", err)
	}
	s.SetEndpointPolicy("sts", "")
	must(t, who(ctx, s, kp))
}
