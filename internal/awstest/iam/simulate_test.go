package iam_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
)

// TestSimulationIsTheEvaluation makes calls and simulates them: both decide alike.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
func TestSimulationIsTheEvaluation(t *testing.T) {
	t.Parallel()
	boundary := func(document string) func(*fakeiam.Server) {
		return func(s *fakeiam.Server) {
			arn := s.AddPolicy("/", "boundary", document)
			s.ChangeUser("u", func(u *fakeiam.User) { u.Boundary = arn })
		}
	}
	when := func(condition string) string {
		return `{'Effect':'Allow','Action':'*','Resource':'*','Condition':{` + condition + `}}`
	}
	const yes, no, denied = "allowed", "implicitDeny", "explicitDeny"
	for _, tt := range []struct {
		name, policy string
		set          func(*fakeiam.Server)
		want         string
		missing      string // context keys
		within       string // what the boundary and the organization allow: "true/true", none for no boundary
	}{
		{"everything", allowAll, nil, yes, "", "none/true"},
		{"nothing", allowNone, nil, no, "", "none/true"},
		{"denied", allowAll + "," + denyAll, nil, denied, "", "none/true"},
		{"boundary allows", allowAll, boundary(statements(allowAll)), yes, "", "true/true"},
		{"boundary does not", allowAll, boundary(statements(allowNone)), no, "", "false/true"},
		{"boundary denies", allowAll, boundary(statements(allowAll, denyAll)), denied, "", "false/true"},
		{"boundary only", allowNone, boundary(statements(allowAll)), no, "", "true/true"},
		{"boundary without sessions", allowAll, boundary(statements(when(`'Null':{'aws:TokenIssueTime':'true'}`))), yes, "aws:TokenIssueTime", "true/true"},
		{"organization does not", allowAll, func(s *fakeiam.Server) {
			s.SetServiceControlPolicy(statements(`{'Effect':'Allow','Action':'iam:*','Resource':'*'}`))
		}, no, "", "none/false"},
		{"organization denies", allowAll, func(s *fakeiam.Server) {
			s.SetServiceControlPolicy(statements(allowAll, `{'Effect':'Deny','Action':'s3:*','Resource':'*'}`))
		}, denied, "", "none/false"},
		{"group", allowNone, func(s *fakeiam.Server) {
			s.AddToGroup("u", "staff")
			s.SetGroupPolicy("staff", statements(allowAll))
		}, yes, "", "none/true"},
		{"attached", allowNone, func(s *fakeiam.Server) { s.AttachPolicy("u", "arn:aws:iam::aws:policy/AdministratorAccess") }, yes, "", "none/true"},
		{"its name", when(`'StringEquals':{'aws:username':'u'}`), nil, yes, "", "none/true"},
		{"another name", when(`'StringEquals':{'aws:username':'v'}`), nil, no, "", "none/true"},
		{"its tag", when(`'StringEquals':{'aws:PrincipalTag/team':'web'}`), nil, yes, "", "none/true"},
		{"a tag that it has not", when(`'StringEquals':{'aws:PrincipalTag/other':'web'}`), nil, no, "aws:PrincipalTag/other", "none/true"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
			s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
			kp := s.AddUser("/", "u", statements(tt.policy))
			s.ChangeUser("u", func(u *fakeiam.User) { u.Tags = map[string]string{"team": "web"} })
			in := iam.SimulatePrincipalPolicyInput{
				PolicySourceArn: aws.String("arn:aws:iam::123456789012:user/u"), ActionNames: []string{"s3:GetObject"},
				ResourceArns: []string{"arn:aws:s3:::media/a"},
			}
			if tt.set != nil {
				tt.set(s)
			}
			_, err := s.S3Client(kp).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("media"), Key: aws.String("a")})
			wantRefused(t, "GetObject", err, map[bool]string{true: "", false: "403 AccessDenied"}[tt.want == yes])
			out, err := s.IAMClient(s.Root).SimulatePrincipalPolicy(ctx, &in)
			must(t, err)
			for _, result := range out.EvaluationResults {
				within := "none"
				if d := result.PermissionsBoundaryDecisionDetail; d != nil {
					within = map[bool]string{true: "true", false: "false"}[d.AllowedByPermissionsBoundary]
				}
				within += map[bool]string{true: "/true", false: "/false"}[result.OrganizationsDecisionDetail.AllowedByOrganizations]
				if string(result.EvalDecision) != tt.want || strings.Join(result.MissingContextValues, " ") != tt.missing || within != tt.within {
					t.Errorf("%s: got %s, missing %q, within %s", *result.EvalActionName, result.EvalDecision, result.MissingContextValues, within)
				}
			}
		})
	}
}

// TestSimulationOfResources: the policy of a bucket counts only if the request has it.
func TestSimulationOfResources(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.AddUser("/", "u", statements(allowNone))
	grant := statements(`{'Effect':'Allow','Principal':{'AWS':'arn:aws:iam::123456789012:user/u'},'Action':'s3:GetObject','Resource':'arn:aws:s3:::media/*'}`)
	s.SetBucketPolicy("media", grant)
	for policy, want := range map[string]string{"": "implicitDeny", grant: "allowed"} {
		in := &iam.SimulatePrincipalPolicyInput{
			PolicySourceArn: aws.String("arn:aws:iam::123456789012:user/u"), ActionNames: []string{"s3:GetObject"},
			ResourceArns: []string{"arn:aws:s3:::media/a"},
		}
		if policy != "" {
			in.ResourcePolicy = &policy
		}
		out, err := s.IAMClient(s.Root).SimulatePrincipalPolicy(ctx, in)
		must(t, err)
		if got := string(out.EvaluationResults[0].EvalDecision); got != want {
			t.Errorf("with %q: got %s, want %s", policy, got, want)
		}
	}
}
