package iam_test

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	fakeiam "ixmage/internal/awstest/iam"
)

const (
	testAccount  = "123456789012"
	testBoundary = "arn:aws:iam::" + testAccount + ":policy/ixmage/ixmage-boundary"
)

// provisionerPolicy is the least that provisioning needs: users under one path,
// bounded and tagged from the start.
func provisionerPolicy() string {
	const (
		users   = `'Resource':'arn:aws:iam::123456789012:user/ixmage/i1/*'`
		tagged  = `'aws:RequestTag/managed-by':'ixmage','aws:RequestTag/ixmage-install':'i1'`
		bounded = `'iam:PermissionsBoundary':'` + testBoundary + `'`
	)
	return statements(
		`{'Sid':'CreateOnlyBoundedAndTagged','Effect':'Allow','Action':'iam:CreateUser',`+users+`,'Condition':{'StringEquals':{`+bounded+`,`+tagged+`}}}`,
		`{'Sid':'TagAtCreate','Effect':'Allow','Action':'iam:TagUser',`+users+`,'Condition':{'StringEquals':{`+tagged+`}}}`,
		`{'Sid':'PolicyOnlyWhileBounded','Effect':'Allow','Action':['iam:PutUserPolicy','iam:DeleteUserPolicy'],`+users+`,'Condition':{'StringEquals':{`+bounded+`}}}`,
		`{'Sid':'OptionalUnscopedMode','Effect':'Allow','Action':['iam:AttachUserPolicy','iam:DetachUserPolicy'],`+users+`,'Condition':{'ArnEquals':{'iam:PolicyARN':'arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess'},'StringEquals':{`+bounded+`}}}`,
		`{'Sid':'KeysAndLifecycle','Effect':'Allow','Action':['iam:CreateAccessKey','iam:UpdateAccessKey','iam:DeleteAccessKey','iam:ListAccessKeys','iam:GetAccessKeyLastUsed','iam:GetUser','iam:ListUserTags','iam:GetUserPolicy','iam:ListUserPolicies','iam:ListAttachedUserPolicies','iam:ListGroupsForUser','iam:DeleteUser','iam:SimulatePrincipalPolicy'],`+users+`}`,
		`{'Sid':'Scan','Effect':'Allow','Action':['iam:ListUsers','iam:GetAccountSummary'],'Resource':'*'}`,
		`{'Sid':'NeverLoosen','Effect':'Deny','Action':['iam:DeleteUserPermissionsBoundary','iam:PutUserPermissionsBoundary','iam:AddUserToGroup','iam:CreateLoginProfile','iam:UpdateLoginProfile','iam:CreatePolicyVersion','iam:SetDefaultPolicyVersion','iam:CreatePolicy','iam:PassRole','iam:UntagUser'],'Resource':'*'}`,
	)
}

func tagsOf(pairs ...string) []iamtypes.Tag {
	var out []iamtypes.Tag
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		out = append(out, iamtypes.Tag{Key: &key, Value: &value})
	}
	return out
}

// TestProvisionerPolicy holds the calls of a provisioner against its policy:
// it may make those that it needs, and no other.
func TestProvisionerPolicy(t *testing.T) {
	t.Parallel()
	good := tagsOf("managed-by=ixmage", "ixmage-install=i1")
	create := func(name, path, boundary string, tags []iamtypes.Tag) func(context.Context, *iam.Client) error {
		return func(ctx context.Context, c *iam.Client) error {
			in := &iam.CreateUserInput{UserName: &name, Path: &path, Tags: tags}
			if boundary != "" {
				in.PermissionsBoundary = &boundary
			}
			_, err := c.CreateUser(ctx, in)
			return err
		}
	}
	put := func(user string) func(context.Context, *iam.Client) error {
		return func(ctx context.Context, c *iam.Client) error {
			doc := readPolicy("media", "")
			_, err := c.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &user, PolicyName: aws.String("p"), PolicyDocument: &doc})
			return err
		}
	}
	attach := func(user, arn string) func(context.Context, *iam.Client) error {
		return func(ctx context.Context, c *iam.Client) error {
			_, err := c.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &user, PolicyArn: &arn})
			return err
		}
	}
	key := func(user *string) func(context.Context, *iam.Client) error {
		return func(ctx context.Context, c *iam.Client) error {
			_, err := c.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: user})
			return err
		}
	}
	const denied, conflict = "403 AccessDenied", "409 DeleteConflict"
	readOnly, admin := "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess", "arn:aws:iam::aws:policy/AdministratorAccess"
	for _, tt := range []struct {
		name string
		call func(context.Context, *iam.Client) error
		want string
	}{
		{"create", create("n", "/ixmage/i1/", testBoundary, good), ""},
		{"create without boundary", create("n", "/ixmage/i1/", "", good), denied},
		{"create with another boundary", create("n", "/ixmage/i1/", admin, good), denied},
		{"create without tags", create("n", "/ixmage/i1/", testBoundary, nil), denied},
		{"create with half the tags", create("n", "/ixmage/i1/", testBoundary, tagsOf("managed-by=ixmage")), denied},
		{"create with another install", create("n", "/ixmage/i1/", testBoundary, tagsOf("managed-by=ixmage", "ixmage-install=i2")), denied},
		{"create elsewhere", create("n", "/", testBoundary, good), denied},
		{"create in another install", create("n", "/ixmage/i2/", testBoundary, good), denied},
		{"create twice", create("ours", "/ixmage/i1/", testBoundary, good), "409 EntityAlreadyExists"},
		{"put policy", put("ours"), ""},
		{"put policy without boundary", put("unbounded"), denied},
		{"put policy on a stranger", put("stranger"), denied},
		{"put policy on nobody", put("nobody"), denied},
		{"attach read-only", attach("ours", readOnly), ""},
		{"attach administrator", attach("ours", admin), denied},
		{"attach to a stranger", attach("stranger", readOnly), denied},
		{"key", key(aws.String("ours")), ""},
		{"key of a stranger", key(aws.String("stranger")), denied},
		{"key of itself", key(nil), denied},
		{"tag with the right tags", func(ctx context.Context, c *iam.Client) error {
			_, err := c.TagUser(ctx, &iam.TagUserInput{UserName: aws.String("ours"), Tags: good})
			return err
		}, ""},
		{"tag otherwise", func(ctx context.Context, c *iam.Client) error {
			_, err := c.TagUser(ctx, &iam.TagUserInput{UserName: aws.String("ours"), Tags: tagsOf("a=b")})
			return err
		}, denied},
		{"untag", func(ctx context.Context, c *iam.Client) error {
			_, err := c.UntagUser(ctx, &iam.UntagUserInput{UserName: aws.String("ours"), TagKeys: []string{"managed-by"}})
			return err
		}, denied},
		{"remove boundary", func(ctx context.Context, c *iam.Client) error {
			_, err := c.DeleteUserPermissionsBoundary(ctx, &iam.DeleteUserPermissionsBoundaryInput{UserName: aws.String("ours")})
			return err
		}, denied},
		{"change boundary", func(ctx context.Context, c *iam.Client) error {
			_, err := c.PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{UserName: aws.String("ours"), PermissionsBoundary: &admin})
			return err
		}, denied},
		{"make a policy", func(ctx context.Context, c *iam.Client) error {
			doc := readPolicy("media", "")
			_, err := c.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: &doc})
			return err
		}, denied},
		{"list users", func(ctx context.Context, c *iam.Client) error {
			_, err := c.ListUsers(ctx, &iam.ListUsersInput{PathPrefix: aws.String("/ixmage/i1/")})
			return err
		}, ""},
		{"list policies", func(ctx context.Context, c *iam.Client) error {
			_, err := c.ListPolicies(ctx, &iam.ListPoliciesInput{})
			return err
		}, denied},
		{"summary", func(ctx context.Context, c *iam.Client) error {
			out, err := c.GetAccountSummary(ctx, &iam.GetAccountSummaryInput{})
			if err == nil && (out.SummaryMap["UsersQuota"] != 5000 || out.SummaryMap["Users"] != 4) {
				t.Errorf("summary: got %v", out.SummaryMap)
			}
			return err
		}, ""},
		{"groups", func(ctx context.Context, c *iam.Client) error {
			_, err := c.ListGroupsForUser(ctx, &iam.ListGroupsForUserInput{UserName: aws.String("ours")})
			return err
		}, ""},
		{"login profile", func(ctx context.Context, c *iam.Client) error {
			_, err := c.GetLoginProfile(ctx, &iam.GetLoginProfileInput{UserName: aws.String("ours")})
			return err
		}, denied},
		{"get a stranger", func(ctx context.Context, c *iam.Client) error {
			_, err := c.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("stranger")})
			return err
		}, denied},
		{"delete", func(ctx context.Context, c *iam.Client) error {
			_, err := c.DeleteUser(ctx, &iam.DeleteUserInput{UserName: aws.String("unbounded")})
			return err
		}, conflict},
		{"delete a stranger", func(ctx context.Context, c *iam.Client) error {
			_, err := c.DeleteUser(ctx, &iam.DeleteUserInput{UserName: aws.String("stranger")})
			return err
		}, denied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := fakeiam.New(t, fakeiam.Config{})
			s.AddPolicy("/ixmage/", "ixmage-boundary", readPolicy("media", ""))
			kp := s.AddUser("/", "provisioner", provisionerPolicy())
			s.AddUser("/ixmage/i1/", "ours", "")
			s.ChangeUser("ours", func(u *fakeiam.User) { u.Boundary = testBoundary })
			s.AddUser("/ixmage/i1/", "unbounded", "")
			s.AddUser("/", "stranger", "")
			before := s.Users()
			err := tt.call(t.Context(), s.IAMClient(kp))
			wantRefused(t, tt.name, err, tt.want)
			if tt.want == denied {
				if len(s.Users()) != len(before) || len(s.Keys("")) != 4 || len(s.Policies()) != 1 {
					t.Error("it was denied and acted all the same")
				}
				if !strings.Contains(err.Error(), "User: arn:aws:iam::123456789012:user/provisioner is not authorized to perform: iam:") {
					t.Errorf("message: %v", err)
				}
			}
		})
	}
}

func TestResolveMissing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		resolve bool
		want    string
	}{
		{"as versitygw", false, "403 AccessDenied"},
		{"by the last path", true, "404 NoSuchEntity"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{ResolveMissing: tt.resolve}), t.Context()
			kp := s.AddUser("/", "provisioner", provisionerPolicy())
			s.AddUser("/ixmage/i1/", "gone", "")
			s.RemoveUser("gone")
			_, err := s.IAMClient(kp).GetUser(ctx, &iam.GetUserInput{UserName: aws.String("gone")})
			wantRefused(t, "provisioner", err, tt.want)
			_, err = s.IAMClient(s.Root).GetUser(ctx, &iam.GetUserInput{UserName: aws.String("gone")})
			wantRefused(t, "root", err, "404 NoSuchEntity")
		})
	}
}

func TestSTS(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{Account: "210987654321", Partition: "aws-cn"}), t.Context()
	none := s.AddUser("/p/", "none", "")
	may := s.AddUser("/", "may", statements(`{'Effect':'Allow','Action':'sts:*','Resource':'*'}`))
	who, err := s.STSClient(none).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	must(t, err)
	if *who.Arn != "arn:aws-cn:iam::210987654321:user/p/none" || *who.Account != "210987654321" {
		t.Errorf("got %s of %s", *who.Arn, *who.Account)
	}
	who, err = s.STSClient(s.Root).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	must(t, err)
	if *who.Arn != "arn:aws-cn:iam::210987654321:root" {
		t.Errorf("root: got %s", *who.Arn)
	}
	assume := &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws-cn:iam::210987654321:role/r"), RoleSessionName: aws.String("sess")}
	_, err = s.STSClient(may).AssumeRole(ctx, assume)
	wantRefused(t, "AssumeRole", err, "403 AccessDenied")
	_, err = s.STSClient(none).GetFederationToken(ctx, &sts.GetFederationTokenInput{Name: aws.String("x1")})
	wantRefused(t, "GetFederationToken", err, "403 AccessDenied")
	out, err := s.STSClient(may).GetFederationToken(ctx, &sts.GetFederationTokenInput{Name: aws.String("x1")})
	must(t, err)
	if !strings.HasPrefix(*out.Credentials.AccessKeyId, "ASIA") {
		t.Errorf("got key %s", *out.Credentials.AccessKeyId)
	}
}
