package provision

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/smithy-go"

	"ixmage/alias/policy"
	fakeiam "ixmage/internal/awstest/iam"
)

type iamCall = func(context.Context, *iam.Client) error

func creating(path, boundary string, tags map[string]string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		in := &iam.CreateUserInput{UserName: aws.String("new"), Path: &path, Tags: iamTags(tags)}
		if boundary != "" {
			in.PermissionsBoundary = &boundary
		}
		_, err := c.CreateUser(ctx, in)
		return err
	}
}

func putting(user string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.PutUserPolicy(ctx, &iam.PutUserPolicyInput{
			UserName: &user, PolicyName: aws.String(policy.InlineName), PolicyDocument: aws.String(anything),
		})
		return err
	}
}

func attaching(user, arn string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &user, PolicyArn: &arn})
		return err
	}
}

func makingKey(user *string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: user})
		return err
	}
}

func makingPolicy(name string, tags map[string]string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.CreatePolicy(ctx, &iam.CreatePolicyInput{
			PolicyName: &name, PolicyDocument: aws.String(anything), Tags: iamTags(tags),
		})
		return err
	}
}

func deletingPolicy(name string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: aws.String(policyARN(name))})
		return err
	}
}

// simulating asks for what is no call of IAM, or one that the fake does not know.
func simulating(action, resource string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		out, err := c.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{
			PolicySourceArn: aws.String("arn:aws:iam::" + testAccount + ":user/provisioner"),
			ActionNames:     []string{action}, ResourceArns: []string{resource},
		})
		if err == nil && out.EvaluationResults[0].EvalDecision != types.PolicyEvaluationDecisionTypeAllowed {
			return &smithy.GenericAPIError{Code: "AccessDenied"}
		}
		return err
	}
}

func policyARN(name string) string { return "arn:aws:iam::" + testAccount + ":policy/" + name }

const anything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// Ways to spoil the document. A call that a rule forbids must go through without it.
type spoiling = func(*delegatedPolicy)

func dropping(sid string) spoiling {
	return func(d *delegatedPolicy) {
		d.Statement = slices.DeleteFunc(d.Statement, func(st map[string]any) bool { return st["Sid"] == sid })
	}
}

// freeing takes the condition from a statement, and what it is limited to.
func freeing(sid string) spoiling {
	return func(d *delegatedPolicy) {
		st := d.statement(sid)
		delete(st, "Condition")
		st["Resource"] = "*"
	}
}

func turning(sid string) spoiling {
	return func(d *delegatedPolicy) { d.statement(sid)["Effect"] = "Allow" }
}

func adding(action string) spoiling {
	return func(d *delegatedPolicy) {
		d.Statement = append(d.Statement, map[string]any{"Effect": "Allow", "Action": action, "Resource": "*"})
	}
}

func both(a, b spoiling) spoiling {
	return func(d *delegatedPolicy) {
		a(d)
		b(d)
	}
}

// TestDelegatedMayNot: what the document does not let a provisioner do that was
// taken over. Each row is also tried against a document that was spoiled, which must
// let it through: else the row would prove nothing.
func TestDelegatedMayNot(t *testing.T) {
	t.Parallel()
	const ours, admin, readOnly = "ours", "arn:aws:iam::aws:policy/AdministratorAccess", "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
	path := policy.UserPath(testInstall)
	good := map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: testInstall, policy.TagOperation: "op-1"}
	elsewhere := map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: "elsewhere"}
	bounded := dropping("NeverWithoutBoundary")
	user := func(fn func(context.Context, *iam.Client, *string) error) iamCall {
		return func(ctx context.Context, c *iam.Client) error { return fn(ctx, c, aws.String(ours)) }
	}
	for _, row := range []struct {
		name  string
		call  iamCall
		spoil spoiling
	}{
		{"create without boundary", creating(path, "", good), bounded},
		{"create with another boundary", creating(path, admin, good), bounded},
		{"create at the root", creating("/", testBoundary, good), freeing("CreateOnlyBoundedAndTagged")},
		{"create in another installation", creating("/ixmage/elsewhere/", testBoundary, good), freeing("CreateOnlyBoundedAndTagged")},
		{"create without tags", creating(path, testBoundary, nil), freeing("CreateOnlyBoundedAndTagged")},
		{"create with half the tags", creating(path, testBoundary, map[string]string{policy.TagManagedBy: policy.ManagedBy}), freeing("CreateOnlyBoundedAndTagged")},
		{"create with another's tags", creating(path, testBoundary, elsewhere), freeing("CreateOnlyBoundedAndTagged")},
		{"tag otherwise", user(func(ctx context.Context, c *iam.Client, u *string) error {
			_, err := c.TagUser(ctx, &iam.TagUserInput{UserName: u, Tags: iamTags(elsewhere)})
			return err
		}), freeing("CreateOnlyBoundedAndTagged")},
		{"untag", user(func(ctx context.Context, c *iam.Client, u *string) error {
			_, err := c.UntagUser(ctx, &iam.UntagUserInput{UserName: u, TagKeys: []string{policy.TagInstall}})
			return err
		}), turning("NeverLoosen")},
		{"remove boundary", user(func(ctx context.Context, c *iam.Client, u *string) error {
			_, err := c.DeleteUserPermissionsBoundary(ctx, &iam.DeleteUserPermissionsBoundaryInput{UserName: u})
			return err
		}), turning("NeverLoosen")},
		{"change boundary", user(func(ctx context.Context, c *iam.Client, u *string) error {
			_, err := c.PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{UserName: u, PermissionsBoundary: aws.String(admin)})
			return err
		}), turning("NeverLoosen")},
		{"console password", user(func(ctx context.Context, c *iam.Client, u *string) error {
			_, err := c.CreateLoginProfile(ctx, &iam.CreateLoginProfileInput{UserName: u, Password: aws.String("x")})
			return err
		}), turning("NeverLoosen")},
		{"add to a group", user(func(ctx context.Context, c *iam.Client, u *string) error {
			_, err := c.AddUserToGroup(ctx, &iam.AddUserToGroupInput{UserName: u, GroupName: aws.String("admins")})
			return err
		}), turning("NeverLoosen")},
		{"new version of a policy", func(ctx context.Context, c *iam.Client) error {
			_, err := c.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{
				PolicyArn: aws.String(policyARN("bucket-specific-ours")), PolicyDocument: aws.String(anything), SetAsDefault: true,
			})
			return err
		}, turning("NeverLoosen")},
		{"new version of the boundary", func(ctx context.Context, c *iam.Client) error {
			_, err := c.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{
				PolicyArn: aws.String(testBoundary), PolicyDocument: aws.String(anything), SetAsDefault: true,
			})
			return err
		}, turning("NeverLoosen")},
		{"older version of a policy", simulating("iam:SetDefaultPolicyVersion", policyARN("bucket-specific-ours")), turning("NeverLoosen")},
		{"pass a role", simulating("iam:PassRole", "arn:aws:iam::"+testAccount+":role/admin"), turning("NeverLoosen")},
		{"make a role", simulating("iam:CreateRole", "arn:aws:iam::"+testAccount+":role/new"), adding("iam:CreateRole")},
		{"take a role", simulating("sts:AssumeRole", "arn:aws:iam::"+testAccount+":role/admin"), adding("sts:AssumeRole")},
		{"read a bucket", simulating("s3:GetObject", "arn:aws:s3:::"+testBucket+"/web/a.png"), adding("s3:GetObject")},
		{"put policy on a stranger", putting("stranger"), both(bounded, freeing("UsersUnderOurPath"))},
		{"attach to itself", attaching("provisioner", admin), both(bounded, freeing("OnlyForAttachedPolicies"))},
		{"put policy on one without boundary", putting("unbounded"), bounded},
		{"attach AdministratorAccess", attaching(ours, admin), freeing("OnlyForAttachedPolicies")},
		{"attach another policy", attaching(ours, policyARN("other")), freeing("OnlyForAttachedPolicies")},
		{"attach to a stranger", attaching("stranger", readOnly), both(bounded, freeing("OnlyForAttachedPolicies"))},
		{"attach to one without boundary", attaching("unbounded", readOnly), bounded},
		{"key of a stranger", makingKey(aws.String("stranger")), freeing("UsersUnderOurPath")},
		{"key of its own", makingKey(nil), freeing("UsersUnderOurPath")},
		{"key in another installation", makingKey(aws.String("theirs")), freeing("UsersUnderOurPath")},
		{"look at a stranger", func(ctx context.Context, c *iam.Client) error {
			_, err := c.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("stranger")})
			return err
		}, freeing("UsersUnderOurPath")},
		{"delete a stranger's key", func(ctx context.Context, c *iam.Client) error {
			out, err := c.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: aws.String("stranger")})
			if err == nil {
				_, err = c.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: aws.String("stranger"), AccessKeyId: out.AccessKeyMetadata[0].AccessKeyId})
			}
			return err
		}, freeing("UsersUnderOurPath")},
		{"make another policy", makingPolicy("other-policy", good), freeing("OnlyForTheManagedMode")},
		{"make a policy without tags", makingPolicy("bucket-specific-new", nil), freeing("OnlyForTheManagedMode")},
		{"delete another policy", deletingPolicy("other"), freeing("OnlyToDeleteOurManagedPolicies")},
		{"delete a policy made by hand", deletingPolicy("bucket-specific-by-hand"), freeing("OnlyToDeleteOurManagedPolicies")},
		{"list policies", func(ctx context.Context, c *iam.Client) error {
			_, err := c.ListPolicies(ctx, &iam.ListPoliciesInput{})
			return err
		}, adding("iam:ListPolicies")},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if err := tryDelegated(t, readDelegated(t), row.call); !isDenied(err) {
				t.Errorf("got %v, want AccessDenied", err)
			}
			spoiled := readDelegated(t)
			row.spoil(spoiled)
			if err := tryDelegated(t, spoiled, row.call); err != nil {
				t.Errorf("with the document spoiled: %v: this row proves nothing", err)
			}
		})
	}
}

func isDenied(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == "AccessDenied"
}

// tryDelegated makes a call in an account with users and policies of everybody.
func tryDelegated(t *testing.T, doc *delegatedPolicy, call iamCall) error {
	t.Helper()
	adapted := append(slices.Clone(doc.Statement), map[string]any{
		"Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy", "Resource": "*",
	})
	w := delegate(t, fakeiam.Config{}, &delegatedPolicy{doc.Version, adapted})
	for name, path := range map[string]string{
		"ours": policy.UserPath(testInstall), "unbounded": policy.UserPath(testInstall), "theirs": "/ixmage/elsewhere/", "stranger": "/",
	} {
		w.iam.AddUser(path, name, "")
	}
	w.iam.ChangeUser("ours", func(u *fakeiam.User) {
		u.Boundary, u.Tags = testBoundary, map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: testInstall}
	})
	for _, name := range []string{"other", "bucket-specific-by-hand", "bucket-specific-ours"} {
		w.iam.AddPolicy("/", name, anything)
	}
	return call(t.Context(), w.iam.IAMClient(w.power))
}
