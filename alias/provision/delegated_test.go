package provision

import (
	"context"
	"errors"
	"maps"
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

func makingPolicy(path, name string, tags map[string]string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.CreatePolicy(ctx, &iam.CreatePolicyInput{
			PolicyName: &name, Path: &path, PolicyDocument: aws.String(anything), Tags: iamTags(tags),
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

func tagging(user string, tags map[string]string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.TagUser(ctx, &iam.TagUserInput{UserName: &user, Tags: iamTags(tags)})
		return err
	}
}

func taggingPolicy(name string, tags map[string]string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: aws.String(policyARN(name)), Tags: iamTags(tags)})
		return err
	}
}

func bounding(user, boundary string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{UserName: &user, PermissionsBoundary: &boundary})
		return err
	}
}

func deletingUser(user string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.DeleteUser(ctx, &iam.DeleteUserInput{UserName: &user})
		return err
	}
}

func detaching(user, arn string) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_, err := c.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: &user, PolicyArn: &arn})
		return err
	}
}

// then makes two calls, the second also if the first is refused.
func then(first, second iamCall) iamCall {
	return func(ctx context.Context, c *iam.Client) error {
		_ = first(ctx, c)
		return second(ctx, c)
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
	const ours, byHand = "ours", "by-hand"
	const admin, readOnly = "arn:aws:iam::aws:policy/AdministratorAccess", "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
	path := policy.UserPath(testInstall)
	good := map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: testInstall, policy.TagOperation: "op-1"}
	elsewhere := map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: "elsewhere"}
	role := map[string]string{"role": "admin"}
	withRole := maps.Clone(good)
	maps.Copy(withRole, role)
	bounded := dropping("NeverWithoutBoundary")
	untagged := both(freeing("CreateOnlyBoundedAndTagged"), freeing("TagOnlyOurKeys"))
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
		{"create at the root", creating("/", testBoundary, good), untagged},
		{"create in another installation", creating("/ixmage/elsewhere/", testBoundary, good), untagged},
		{"create without tags", creating(path, testBoundary, nil), untagged},
		{"create with half the tags", creating(path, testBoundary, map[string]string{policy.TagManagedBy: policy.ManagedBy}), untagged},
		{"create with another's tags", creating(path, testBoundary, elsewhere), untagged},
		{"create with a tag that opens buckets", creating(path, testBoundary, withRole), untagged},
		{"tag otherwise", tagging(ours, elsewhere), freeing("TagOnlyOurKeys")},
		{"tag with a tag that opens buckets", tagging(ours, role), freeing("TagOnlyOurKeys")},
		{"tag with one more tag", tagging(ours, withRole), freeing("TagOnlyOurKeys")},
		{"tag a stranger", tagging("stranger", good), freeing("TagOnlyOurKeys")},
		{"tag and delete a stranger", then(tagging("empty", good), deletingUser("empty")), freeing("UsersUnderOurPath")},
		{"untag", user(func(ctx context.Context, c *iam.Client, u *string) error {
			_, err := c.UntagUser(ctx, &iam.UntagUserInput{UserName: u, TagKeys: []string{policy.TagInstall}})
			return err
		}), freeing("OnlyToTagAdopted")},
		{"untag an adopted user otherwise", func(ctx context.Context, c *iam.Client) error {
			_, err := c.UntagUser(ctx, &iam.UntagUserInput{UserName: aws.String(byHand), TagKeys: []string{"role"}})
			return err
		}, freeing("OnlyToTagAdopted")},
		{"remove boundary", user(func(ctx context.Context, c *iam.Client, u *string) error {
			_, err := c.DeleteUserPermissionsBoundary(ctx, &iam.DeleteUserPermissionsBoundaryInput{UserName: u})
			return err
		}), turning("NeverLoosen")},
		{"change boundary", bounding(ours, admin), both(bounded, freeing("SetOnlyOurBoundary"))},
		{"bound a stranger", bounding("stranger", testBoundary), freeing("SetOnlyOurBoundary")},
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
		{"make another policy", makingPolicy(path, "other-policy", good), freeing("OnlyForTheManagedMode")},
		{"make a policy at the root", makingPolicy("/", "bucket-specific-new", good), freeing("OnlyForTheManagedMode")},
		{"make a policy without tags", makingPolicy(path, "bucket-specific-new", nil), freeing("OnlyForTheManagedMode")},
		{"tag a policy made by hand", taggingPolicy("bucket-specific-by-hand", good), freeing("OnlyForTheManagedMode")},
		{"delete another policy", deletingPolicy("other"), freeing("OnlyToDeleteOurManagedPolicies")},
		{"delete a policy made by hand", deletingPolicy("bucket-specific-by-hand"), freeing("OnlyToDeleteOurManagedPolicies")},
		{"tag and delete a policy made by hand", then(taggingPolicy("bucket-specific-by-hand", good), deletingPolicy("bucket-specific-by-hand")),
			freeing("OnlyForTheManagedMode")},
		{"delete an adopted user", deletingUser("by-hand-empty"), freeing("UsersUnderOurPath")},
		{"adopt without the boundary", putting(byHand), bounded},
		{"adopt with another boundary", then(bounding(byHand, admin), putting(byHand)), both(bounded, freeing("OnlyToBoundAdopted"))},
		{"adopt a stranger", makingKey(aws.String("stranger")), freeing("OnlyToAdopt")},
		{"tag an adopted user otherwise", tagging(byHand, role), freeing("OnlyToTagAdopted")},
		{"attach AdministratorAccess to an adopted user", then(bounding(byHand, testBoundary), attaching(byHand, admin)), freeing("OnlyToAttachToAdopted")},
		{"detach what others attached", detaching(ours, admin), freeing("OnlyToRemoveLeakedUsers")},
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

// TestDelegatedMay: what the document allows besides the steps of an operation.
func TestDelegatedMay(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]iamCall{
		"set our boundary":     bounding("ours", testBoundary),
		"write the generation": tagging("ours", map[string]string{policy.TagGeneration: "7-abcdefgh"}),
		"write an allowed tag": tagging("ours", map[string]string{"team": "web"}),
		"adopt": then(bounding("by-hand", testBoundary), then(putting("by-hand"),
			attaching("by-hand", policyARN("bucket-specific-ours")))),
		"mark an adopted user": tagging("by-hand", map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: testInstall}),
		"make a policy": makingPolicy(policy.UserPath(testInstall), "bucket-specific-new",
			map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: testInstall}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := tryDelegated(t, readDelegated(t), call); err != nil {
				t.Error(err)
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
		"by-hand": "/",
	} {
		w.iam.AddUser(path, name, "")
	}
	for _, name := range []string{"empty", "by-hand-empty"} { // without a key, so that it can be deleted
		w.iam.RemoveKey(w.iam.AddUser("/", name, "").AccessKeyID)
	}
	w.iam.AttachPolicy("ours", "arn:aws:iam::aws:policy/AdministratorAccess")
	w.iam.ChangeUser("ours", func(u *fakeiam.User) {
		u.Boundary, u.Tags = testBoundary, map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: testInstall}
	})
	for _, name := range []string{"other", "bucket-specific-by-hand", "bucket-specific-ours"} {
		w.iam.AddPolicy("/", name, anything)
	}
	return call(t.Context(), w.iam.IAMClient(w.power))
}
