package iam_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	fakeiam "ixmage/internal/awstest/iam"
)

// TestBoundaryNeedsPut makes a bounded user with and without the right to put a boundary.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html
func TestBoundaryNeedsPut(t *testing.T) {
	t.Parallel()
	const denied, users = "403 AccessDenied", `'Resource':'arn:aws:iam::123456789012:user/ixmage/i1/*'`
	bounded := `{'Effect':'Allow','Action':['iam:CreateUser','iam:TagUser'],` + users + `}`
	put := `{'Effect':'Allow','Action':'iam:PutUserPermissionsBoundary',` + users + `,'Condition':{'StringEquals':{'iam:PermissionsBoundary':'` + testBoundary + `'}}}`
	never := `{'Effect':'Deny','Action':'iam:PutUserPermissionsBoundary','Resource':'*'}`
	unless := `{'Effect':'Deny','Action':'iam:PutUserPermissionsBoundary','Resource':'*','Condition':{'StringNotEquals':{'iam:PermissionsBoundary':'` + testBoundary + `'}}}`
	for _, tt := range []struct {
		name, boundary string
		policy         []string
		plain, strict  string // without and with the option
	}{
		{"no right to put", testBoundary, []string{bounded}, "", denied},
		{"right to put", testBoundary, []string{bounded, put}, "", ""},
		{"never", testBoundary, []string{bounded, put, never}, "", denied},
		{"never another", testBoundary, []string{bounded, put, unless}, "", ""},
		{"another", "arn:aws:iam::aws:policy/AdministratorAccess", []string{bounded, put}, "", denied},
		{"none", "", []string{bounded}, "", ""},
	} {
		for strict, want := range map[bool]string{false: tt.plain, true: tt.strict} {
			t.Run(tt.name, func(t *testing.T) {
				s := fakeiam.New(t, fakeiam.Config{BoundaryNeedsPut: strict})
				s.AddPolicy("/ixmage/", "ixmage-boundary", readPolicy("media", ""))
				in := &iam.CreateUserInput{UserName: aws.String("n"), Path: aws.String("/ixmage/i1/"), Tags: tagsOf("a=b")}
				if tt.boundary != "" {
					in.PermissionsBoundary = &tt.boundary
				}
				_, err := s.IAMClient(s.AddUser("/", "provisioner", statements(tt.policy...))).CreateUser(t.Context(), in)
				wantRefused(t, "CreateUser", err, want)
				if want == denied && !strings.Contains(err.Error(), "iam:PutUserPermissionsBoundary on resource: arn:aws:iam::123456789012:user/ixmage/i1/n") {
					t.Errorf("message: %v", err)
				}
			})
		}
	}
}

// TestTagsNeedTheirRight: a policy and a user that are made with tags need the right to
// tag them too.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags_customer-managed-policies.html
func TestTagsNeedTheirRight(t *testing.T) {
	t.Parallel()
	ctx, doc := t.Context(), readPolicy("media", "")
	for _, tt := range []struct {
		name, policy string
		user, made   string
	}{
		{"no right to tag", `{'Effect':'Allow','Action':['iam:CreateUser','iam:CreatePolicy'],'Resource':'*'}`, "403 AccessDenied", "403 AccessDenied"},
		{"all rights", `{'Effect':'Allow','Action':['iam:CreateUser','iam:CreatePolicy','iam:TagUser','iam:TagPolicy'],'Resource':'*'}`, "", ""},
		{"certain keys", `{'Effect':'Allow','Action':['iam:CreateUser','iam:CreatePolicy','iam:TagUser','iam:TagPolicy'],'Resource':'*','Condition':{'ForAllValues:StringEquals':{'aws:TagKeys':['a','b']}}}`, "", ""},
		{"other keys", `{'Effect':'Allow','Action':['iam:CreateUser','iam:CreatePolicy','iam:TagUser','iam:TagPolicy'],'Resource':'*','Condition':{'ForAllValues:StringEquals':{'aws:TagKeys':['b']}}}`, "403 AccessDenied", "403 AccessDenied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := fakeiam.New(t, fakeiam.Config{})
			c := s.IAMClient(s.AddUser("/", "provisioner", statements(tt.policy)))
			_, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("n"), Tags: tagsOf("a=b")})
			wantRefused(t, "CreateUser", err, tt.user)
			_, err = c.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: &doc, Tags: tagsOf("a=b")})
			wantRefused(t, "CreatePolicy", err, tt.made)
		})
	}
}

// TestBoundaryThatIsMissing: https://github.com/hashicorp/boundary/issues/4255
func TestBoundaryThatIsMissing(t *testing.T) {
	t.Parallel()
	s, missing := fakeiam.New(t, fakeiam.Config{}), testBoundary
	_, err := s.IAMClient(s.Root).CreateUser(t.Context(), &iam.CreateUserInput{UserName: aws.String("n"), PermissionsBoundary: &missing})
	wantRefused(t, "CreateUser", err, "404 NoSuchEntity")
	if text := "Scope ARN: " + missing + " does not exist or is not attachable."; message(err) != text || len(s.Users()) != 0 {
		t.Errorf("got %q, want %q, and users %v", message(err), text, s.Users())
	}
}

// TestNameTakenElsewhere: names are unique in the account, whatever the path, but the
// rights to a path do not show the other user.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
func TestNameTakenElsewhere(t *testing.T) {
	t.Parallel()
	for _, resolve := range []bool{false, true} {
		s, ctx := fakeiam.New(t, fakeiam.Config{ResolveMissing: resolve}), t.Context()
		s.AddPolicy("/ixmage/", "ixmage-boundary", readPolicy("media", ""))
		s.AddUser("/", "ixmage-s3read", "")
		c, boundary := s.IAMClient(s.AddUser("/", "provisioner", provisionerPolicy())), testBoundary
		_, err := c.CreateUser(ctx, &iam.CreateUserInput{
			UserName: aws.String("ixmage-s3read"), Path: aws.String("/ixmage/i1/"), PermissionsBoundary: &boundary,
			Tags: tagsOf("managed-by=ixmage", "ixmage-install=i1"),
		})
		wantRefused(t, "CreateUser", err, "409 EntityAlreadyExists")
		_, err = c.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("ixmage-s3read")})
		wantRefused(t, "GetUser", err, "403 AccessDenied")
	}
}

// TestTagsOfResources: a right to what bears a tag holds for what somebody else has made,
// as soon as one may put the tag on it; a path is in the way of that.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/access_tags.html
func TestTagsOfResources(t *testing.T) {
	t.Parallel()
	const denied, mine = "403 AccessDenied", `'Condition':{'StringEquals':{'aws:RESOURCE/managed-by':'ixmage'}}`
	rule := func(action, resource, kind string) string {
		return `{'Effect':'Allow','Action':'` + action + `','Resource':'arn:aws:iam::123456789012:policy/` + resource + `',` + strings.Replace(mine, "RESOURCE", kind, 1) + `}`
	}
	for _, tt := range []struct{ name, resource, tag, after string }{
		{"by name", "bucket-specific-*", "", ""},
		{"by path", "ixmage/i1/*", denied, denied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
			c := s.IAMClient(s.AddUser("/", "provisioner", statements(
				rule("iam:TagPolicy", tt.resource, "RequestTag"), rule("iam:DeletePolicy", tt.resource, "ResourceTag"))))
			arn := s.AddPolicy("/", "bucket-specific-media", readPolicy("media", ""))
			remove := func() error {
				_, err := c.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: &arn})
				return err
			}
			wantRefused(t, "delete", remove(), denied)
			_, err := c.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: &arn, Tags: tagsOf("managed-by=other")})
			wantRefused(t, "another value", err, denied)
			_, err = c.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: &arn, Tags: tagsOf("managed-by=ixmage")})
			wantRefused(t, "tag", err, tt.tag)
			wantRefused(t, "delete what is tagged", remove(), tt.after)
		})
	}
}
