package iam_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	fakeiam "ixmage/internal/awstest/iam"
)

// TestRoleLifecycle makes, changes and deletes a role with the calls of IAM.
func TestRoleLifecycle(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.AddUser("/", "u", "")
	boundary := s.AddPolicy("/", "boundary", readPolicy("media", ""))
	root, name, trust := s.IAMClient(s.Root), aws.String("reader"), fakeiam.Trust("secret", ofAccount+"user/u")
	made, err := root.CreateRole(ctx, &iam.CreateRoleInput{
		RoleName: name, Path: aws.String("/ixmage/"), AssumeRolePolicyDocument: &trust, MaxSessionDuration: aws.Int32(7200),
		PermissionsBoundary: &boundary, Tags: tagsOf("team=web"), Description: aws.String("reads"),
	})
	must(t, err)
	if *made.Role.Arn != testRole || !strings.HasPrefix(*made.Role.RoleId, "AROA") {
		t.Errorf("got %s, %s", *made.Role.Arn, *made.Role.RoleId)
	}
	got, err := root.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
	must(t, err)
	if text, err := url.PathUnescape(*got.Role.AssumeRolePolicyDocument); err != nil || text != trust {
		t.Errorf("trust: got %s, %v", text, err)
	}
	if *got.Role.MaxSessionDuration != 7200 || *got.Role.PermissionsBoundary.PermissionsBoundaryArn != boundary || len(got.Role.Tags) != 1 || *got.Role.Description != "reads" {
		t.Errorf("got %+v", got.Role)
	}
	doc := readPolicy("media", "shop/")
	_, err = root.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String("read"), PolicyDocument: &doc})
	must(t, err)
	back, err := root.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: name, PolicyName: aws.String("read")})
	must(t, err)
	if text, _ := url.PathUnescape(*back.PolicyDocument); text != doc {
		t.Errorf("policy: got %s", text)
	}
	arn := s.ReadOnlyARN()
	_, err = root.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: name, PolicyArn: &arn})
	must(t, err)
	inline, err := root.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: name})
	must(t, err)
	attached, err := root.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: name})
	must(t, err)
	if len(inline.PolicyNames) != 1 || inline.PolicyNames[0] != "read" || len(attached.AttachedPolicies) != 1 || *attached.AttachedPolicies[0].PolicyArn != arn {
		t.Errorf("got %v, %v", inline.PolicyNames, attached.AttachedPolicies)
	}
	entities, err := root.ListEntitiesForPolicy(ctx, &iam.ListEntitiesForPolicyInput{PolicyArn: &arn})
	must(t, err)
	if len(entities.PolicyRoles) != 1 || *entities.PolicyRoles[0].RoleName != "reader" || len(entities.PolicyUsers) != 0 {
		t.Errorf("entities: %+v", entities)
	}
	roles, err := root.ListRoles(ctx, &iam.ListRolesInput{PathPrefix: aws.String("/ixmage/")})
	must(t, err)
	if len(roles.Roles) != 1 {
		t.Errorf("got %d roles", len(roles.Roles))
	}
	wider := fakeiam.Trust("", ofAccount+"root")
	_, err = root.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: name, PolicyDocument: &wider})
	must(t, err)
	_, err = root.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: name, MaxSessionDuration: aws.Int32(3600)})
	must(t, err)
	_, err = root.TagRole(ctx, &iam.TagRoleInput{RoleName: name, Tags: tagsOf("a=b")})
	must(t, err)
	_, err = root.UntagRole(ctx, &iam.UntagRoleInput{RoleName: name, TagKeys: []string{"team"}})
	must(t, err)
	tags, err := root.ListRoleTags(ctx, &iam.ListRoleTagsInput{RoleName: name})
	must(t, err)
	if role, _ := s.Role("reader"); role.Trust != wider || role.MaxSession != time.Hour || len(tags.Tags) != 1 || role.Tags["a"] != "b" {
		t.Errorf("got %+v, tags %v", role, tags.Tags)
	}
	_, err = root.DeleteRolePermissionsBoundary(ctx, &iam.DeleteRolePermissionsBoundaryInput{RoleName: name})
	must(t, err)
	_, err = root.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name})
	wantRefused(t, "with policies", err, "409 DeleteConflict")
	_, err = root.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: name, PolicyName: aws.String("read")})
	must(t, err)
	_, err = root.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name})
	wantRefused(t, "with an attached policy", err, "409 DeleteConflict")
	_, err = root.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: name, PolicyArn: &arn})
	must(t, err)
	_, err = root.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name})
	must(t, err)
	_, err = root.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
	wantRefused(t, "GetRole afterwards", err, "404 NoSuchEntity")
	if left := s.Roles(); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

// TestRefusesRoles: what IAM refuses in a role.
func TestRefusesRoles(t *testing.T) {
	t.Parallel()
	good := fakeiam.Trust("", ofAccount+"root")
	create := func(change func(*iam.CreateRoleInput)) func(context.Context, *iam.Client) error {
		return func(ctx context.Context, c *iam.Client) error {
			in := &iam.CreateRoleInput{RoleName: aws.String("new"), AssumeRolePolicyDocument: &good}
			change(in)
			_, err := c.CreateRole(ctx, in)
			return err
		}
	}
	trust := func(text string) func(context.Context, *iam.Client) error {
		return create(func(in *iam.CreateRoleInput) { in.AssumeRolePolicyDocument = &text })
	}
	for _, tt := range []struct {
		name string
		do   func(context.Context, *iam.Client) error
		want string
	}{
		{"good", create(func(*iam.CreateRoleInput) {}), ""},
		{"taken in other letters", create(func(in *iam.CreateRoleInput) { in.RoleName = aws.String("READER") }), "409 EntityAlreadyExists"},
		{"odd name", create(func(in *iam.CreateRoleInput) { in.RoleName = aws.String("a/b") }), "400 ValidationError"},
		{"short sessions", create(func(in *iam.CreateRoleInput) { in.MaxSessionDuration = aws.Int32(3599) }), "400 ValidationError"},
		{"long sessions", create(func(in *iam.CreateRoleInput) { in.MaxSessionDuration = aws.Int32(43201) }), "400 ValidationError"},
		{"missing boundary", create(func(in *iam.CreateRoleInput) { in.PermissionsBoundary = aws.String(testBoundary) }), "404 NoSuchEntity"},
		{"trust for a user", trust(fakeiam.Trust("", ofAccount+"user/u")), ""},
		{"trust for a missing user", trust(fakeiam.Trust("", ofAccount+"user/none")), "400 MalformedPolicyDocument"},
		{"trust for a user of another account", trust(fakeiam.Trust("", "arn:aws:iam::999999999999:user/x")), ""},
		{"trust for a service", trust(statements(`{'Effect':'Allow','Principal':{'Service':'ec2.amazonaws.com'},'Action':'sts:AssumeRole'}`)), ""},
		{"trust with a resource", trust(statements(`{'Effect':'Allow','Principal':'*','Action':'sts:AssumeRole','Resource':'*'}`)), "400 MalformedPolicyDocument"},
		{"trust without a principal", trust(statements(`{'Effect':'Allow','Action':'sts:AssumeRole'}`)), "400 MalformedPolicyDocument"},
		{"long trust", trust(fakeiam.Trust(strings.Repeat("x", 2048), "*")), "409 LimitExceeded"},
		{"missing role", func(ctx context.Context, c *iam.Client) error {
			_, err := c.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: aws.String("none"), PolicyName: aws.String("p")})
			return err
		}, "404 NoSuchEntity"},
		{"missing policy", func(ctx context.Context, c *iam.Client) error {
			_, err := c.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: aws.String("reader"), PolicyName: aws.String("p")})
			return err
		}, "404 NoSuchEntity"},
		{"policy with a principal", func(ctx context.Context, c *iam.Client) error {
			_, err := c.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String("reader"), PolicyName: aws.String("p"), PolicyDocument: &good})
			return err
		}, "400 MalformedPolicyDocument"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := withReader(t, fakeiam.Config{}, "")
			wantRefused(t, tt.name, tt.do(t.Context(), s.IAMClient(s.Root)), tt.want)
		})
	}
	s, _ := withReader(t, fakeiam.Config{}, "")
	none := s.IAMClient(s.AddUser("/", "none", statements(`{'Effect':'Allow','Action':'iam:GetRole','Resource':'`+ofAccount+`role/other/*'}`)))
	_, err := none.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("reader")})
	wantRefused(t, "without the right", err, "403 AccessDenied")
}

// TestLagOfRole: a change of a role is visible, and acts, after the lag.
func TestLagOfRole(t *testing.T) {
	t.Parallel()
	clock := &manualClock{now: time.Now()}
	s, u := withReader(t, fakeiam.Config{Now: clock.Now}, "")
	s.SetLag(10 * time.Second)
	nobody := fakeiam.Trust("", ofAccount+"root")
	_, err := s.IAMClient(s.Root).UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String("reader"), PolicyDocument: &nobody})
	must(t, err)
	assume(t, s, u, asked())
	clock.advance(10 * time.Second)
	_, err = s.STSClientOf(u).AssumeRole(t.Context(), asked())
	wantRefused(t, "after the lag", err, "403 AccessDenied")
}

// TestSimulateRole: a simulation of a role decides by the policies of the role.
func TestSimulateRole(t *testing.T) {
	t.Parallel()
	s, _ := withReader(t, fakeiam.Config{}, "")
	for resource, want := range map[string]string{"arn:aws:s3:::media/a": "allowed", "arn:aws:s3:::other/a": "implicitDeny"} {
		out, err := s.IAMClient(s.Root).SimulatePrincipalPolicy(t.Context(), &iam.SimulatePrincipalPolicyInput{
			PolicySourceArn: aws.String(testRole), ActionNames: []string{"s3:GetObject"}, ResourceArns: []string{resource},
		})
		must(t, err)
		if got := string(out.EvaluationResults[0].EvalDecision); got != want {
			t.Errorf("%s: got %s, want %s", resource, got, want)
		}
	}
}

// roleSteps are the life of a role, for TestConformance.
func roleSteps() []step {
	const gone, malformed = "404 NoSuchEntity", "400 MalformedPolicyDocument"
	everyone, doc := fakeiam.Trust("", "*"), readPolicy("media", "shop/")
	create := func(trust string, seconds int32) func(context.Context, *account) (string, error) {
		return func(ctx context.Context, a *account) (string, error) {
			out, err := a.iam().CreateRole(ctx, &iam.CreateRoleInput{
				RoleName: aws.String("r"), Path: aws.String("/ixmage/"), AssumeRolePolicyDocument: &trust, MaxSessionDuration: &seconds,
			})
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%s AROA:%v %d", (*out.Role.Arn)[strings.Index(*out.Role.Arn, ":role/")+1:], strings.HasPrefix(*out.Role.RoleId, "AROA"), *out.Role.MaxSessionDuration), nil
		}
	}
	get := func(name string) func(context.Context, *account) (string, error) {
		return func(ctx context.Context, a *account) (string, error) {
			out, err := a.iam().GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
			if err != nil {
				return "", err
			}
			return url.PathUnescape(*out.Role.AssumeRolePolicyDocument)
		}
	}
	put := func(name, doc string) func(context.Context, *account) (string, error) {
		return call(func(ctx context.Context, a *account) (*iam.PutRolePolicyOutput, error) {
			return a.iam().PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &name, PolicyName: aws.String("p"), PolicyDocument: &doc})
		})
	}
	policyOf := func(name string) func(context.Context, *account) (string, error) {
		return func(ctx context.Context, a *account) (string, error) {
			out, err := a.iam().GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: aws.String("r"), PolicyName: &name})
			if err != nil {
				return "", err
			}
			return url.PathUnescape(*out.PolicyDocument)
		}
	}
	trust := func(name, doc string) func(context.Context, *account) (string, error) {
		return call(func(ctx context.Context, a *account) (*iam.UpdateAssumeRolePolicyOutput, error) {
			return a.iam().UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &name, PolicyDocument: &doc})
		})
	}
	removePolicy := call(func(ctx context.Context, a *account) (*iam.DeleteRolePolicyOutput, error) {
		return a.iam().DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: aws.String("r"), PolicyName: aws.String("p")})
	})
	remove := call(func(ctx context.Context, a *account) (*iam.DeleteRoleOutput, error) {
		return a.iam().DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String("r")})
	})
	return stepsOf("root",
		step{name: "role with a trust that is no JSON", do: create("hello", 3600), want: malformed},
		step{name: "role with a trust without principal", do: create(statements(`{'Effect':'Allow','Action':'sts:AssumeRole'}`), 3600), want: malformed},
		step{name: "role with a trust with a resource", do: create(statements(`{'Effect':'Allow','Principal':'*','Action':'sts:AssumeRole','Resource':'*'}`), 3600), want: malformed},
		step{name: "role with short sessions", do: create(everyone, 3599), want: "400 ValidationError"},
		step{name: "role with long sessions", do: create(everyone, 43201), want: "400 ValidationError"},
		step{name: "role", do: create(everyone, 7200), want: "role/ixmage/r AROA:true 7200"},
		step{name: "role again", do: create(everyone, 3600), want: "409 EntityAlreadyExists"},
		step{name: "get role", do: get("r"), want: everyone},
		step{name: "get no role", do: get("none"), want: gone},
		step{name: "trust", do: trust("r", fakeiam.Trust("x1", "*")), want: ""},
		step{name: "trust of no role", do: trust("none", everyone), want: gone},
		step{name: "trust now", do: get("r"), want: fakeiam.Trust("x1", "*")},
		step{name: "role policy", do: put("r", doc), want: ""},
		step{name: "role policy of no role", do: put("none", doc), want: gone},
		step{name: "role policy with a principal", do: put("r", everyone), want: malformed},
		step{name: "get role policy", do: policyOf("p"), want: doc},
		step{name: "get no role policy", do: policyOf("none"), want: gone},
		step{name: "role policies", do: func(ctx context.Context, a *account) (string, error) {
			out, err := a.iam().ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: aws.String("r")})
			if err != nil {
				return "", err
			}
			return strings.Join(out.PolicyNames, ","), nil
		}, want: "p"},
		step{name: "delete role with a policy", do: remove, want: "409 DeleteConflict"},
		step{name: "delete role policy", do: removePolicy, want: ""},
		step{name: "delete role policy again", do: removePolicy, want: gone},
		step{name: "delete role", do: remove, want: ""},
		step{name: "delete role again", do: remove, want: gone},
	)
}
