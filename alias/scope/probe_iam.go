package scope

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awserr"
)

// probeName is the name of an IAM user or role that does not exist.
func probeName() string { return "ixmage-probe-" + random() }

// whoami asks STS for the owner of the key. The call needs no permission. STS of a region
// that the account of the key has not enabled does not know the key, so STS of the default
// region is asked too, and then used for the other calls.
func (r *round) whoami(ctx context.Context) awserr.Reply {
	rep := r.callerIdentity(ctx, r.STS)
	if rep.Code == "InvalidClientTokenId" && r.STSDefault != nil {
		if again := r.callerIdentity(ctx, r.STSDefault); again.OK() {
			r.STS = r.STSDefault
			return again
		}
	}
	return rep
}

func (r *round) callerIdentity(ctx context.Context, client *sts.Client) awserr.Reply {
	return r.send(ctx, serviceSTS, func(ctx context.Context) error {
		out, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, markSTS)
		if err == nil {
			r.arn = plainARN(aws.ToString(out.Arn))
		}
		return err
	})
}

// plainARN removes spaces, control characters and all beyond 256 bytes, so that a server
// cannot put other text into a check.
func plainARN(s string) string {
	s = strings.Map(func(c rune) rune {
		if c <= ' ' || c >= 0x7f {
			return -1
		}
		return c
	}, s)
	return s[:min(len(s), 256)]
}

// userName is the name of the key's user. It is nil if the name is unknown; IAM then
// uses the caller.
func (r *round) userName() *string {
	if r.User.Name != "" {
		return &r.User.Name
	}
	resource := r.arn[strings.LastIndexByte(r.arn, ':')+1:]
	if !strings.HasPrefix(resource, "user/") {
		return nil
	}
	return aws.String(resource[strings.LastIndexByte(resource, '/')+1:])
}

// anyARN is the ARN of the key's user, as STS or the registry knows it.
func (r *round) anyARN() string { return cmp.Or(r.arn, r.User.ARN) }

// root reports whether the key belongs to the root user of an account.
func (r *round) root() bool { return strings.HasSuffix(r.arn, ":root") }

func (r *round) getUser(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceIAM, func(ctx context.Context) error {
		_, err := r.IAM.GetUser(ctx, &iam.GetUserInput{}, markIAM)
		return err
	})
}

// listKeys lists the keys of the key's user, once. others is their number without this one.
func (r *round) listKeys(ctx context.Context) (rep awserr.Reply, others int) {
	if r.keys != nil {
		return *r.keys, r.others
	}
	rep = r.send(ctx, serviceIAM, func(ctx context.Context) error {
		out, err := r.IAM.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: r.userName()}, markIAM)
		if err == nil {
			others = max(0, len(out.AccessKeyMetadata)-1)
		}
		return err
	})
	r.keys, r.others = &rep, others
	return rep, others
}

// changeKeys asks for a key for a user that does not exist, and for a change of a key that
// the key's own user does not have. Neither can change anything. The standard policy with
// which users manage their own keys allows the second only.
func (r *round) changeKeys(ctx context.Context) awserr.Reply {
	calls := []func(context.Context) error{func(ctx context.Context) error {
		_, err := r.IAM.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String(probeName())}, markIAM)
		return err
	}}
	if user := r.userName(); user != nil {
		calls = append(calls, func(ctx context.Context) error {
			_, err := r.IAM.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{
				UserName: user, AccessKeyId: aws.String(noKeyID()), Status: types.StatusTypeActive,
			}, markIAM)
			return err
		})
	}
	return r.worst(ctx, NameIAMCreateKey, calls)
}

// noKeyID is the id of a key that does not exist: ids have no digits 0, 1, 8 and 9.
func noKeyID() string { return "AKIA0" + strings.ToUpper(random())[:15] }

// changeOwnRights asks for changes of the rights of the key's own user that are impossible,
// because each names a policy or group that does not exist. IAM says so only to a caller
// with the right.
func (r *round) changeOwnRights(ctx context.Context) awserr.Reply {
	user := r.userName()
	partition, account := policy.ARNParts(r.anyARN())
	missing := "arn:" + partition + ":iam::" + account + ":policy/" + probeName()
	return r.worst(ctx, NameIAMOwnRights, []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := r.IAM.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: user, PolicyArn: &missing}, markIAM)
			return err
		},
		func(ctx context.Context) error {
			_, err := r.IAM.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{
				UserName: user, PolicyName: aws.String(probeName()),
			}, markIAM)
			return err
		},
		func(ctx context.Context) error {
			_, err := r.IAM.PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{
				UserName: user, PermissionsBoundary: &missing,
			}, markIAM)
			return err
		},
		func(ctx context.Context) error {
			_, err := r.IAM.AddUserToGroup(ctx, &iam.AddUserToGroupInput{
				UserName: user, GroupName: aws.String(probeName()),
			}, markIAM)
			return err
		},
	})
}

// changeRoleRights is changeOwnRights for the role of a session.
func (r *round) changeRoleRights(ctx context.Context) awserr.Reply {
	arn := cmp.Or(r.arn, r.Session.roleARN())
	role := aws.String(roleOf(arn))
	partition, account := policy.ARNParts(arn)
	missing := "arn:" + partition + ":iam::" + account + ":policy/" + probeName()
	return r.worst(ctx, NameIAMOwnRights, []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := r.IAM.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: role, PolicyArn: &missing}, markIAM)
			return err
		},
		func(ctx context.Context) error {
			_, err := r.IAM.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{
				RoleName: role, PolicyName: aws.String(probeName()),
			}, markIAM)
			return err
		},
		func(ctx context.Context) error {
			_, err := r.IAM.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{
				RoleName: role, PermissionsBoundary: &missing,
			}, markIAM)
			return err
		},
	})
}

// worst makes calls until one reveals a right. It returns the answer that says least for
// the key: one that proves nothing before a refusal, a refusal of another reason than the
// key's policies before one of theirs. Calls that the server does not support count only
// if it supports none.
func (r *round) worst(ctx context.Context, name string, calls []func(context.Context) error) awserr.Reply {
	var worst awserr.Reply
	rank := -1
	for _, call := range calls {
		rep := r.send(ctx, serviceIAM, call)
		v := denyVerdict(name, rep)
		if v == alias.VerdictProven {
			v, _ = r.refused(name, rep, true)
		}
		n := 1 + slices.Index([]alias.Verdict{
			alias.VerdictProven, alias.VerdictWeak, alias.VerdictNotProven, alias.VerdictViolated,
		}, v)
		if rep.Unimplemented() {
			n = 0
		}
		if n > rank {
			worst, rank = rep, n
		}
		if v == alias.VerdictViolated {
			break
		}
	}
	return worst
}

func (r *round) loginProfile(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceIAM, func(ctx context.Context) error {
		_, err := r.IAM.GetLoginProfile(ctx, &iam.GetLoginProfileInput{UserName: r.userName()}, markIAM)
		return err
	})
}

// assumeRole asks for a role that does not exist, in the key's own account, and with a session
// for its own role, of which it would get a session that may do nothing.
func (r *round) assumeRole(ctx context.Context) awserr.Reply {
	partition, account := policy.ARNParts(r.anyARN())
	if account == "" {
		account = "000000000000"
	}
	role := cmp.Or(r.Session.roleARN(), "arn:"+partition+":iam::"+account+":role/"+probeName())
	return r.send(ctx, serviceSTS, func(ctx context.Context) error {
		_, err := r.STS.AssumeRole(ctx, &sts.AssumeRoleInput{
			RoleArn: &role, RoleSessionName: aws.String("ixmage-probe"), Policy: aws.String(policy.DenyAll),
		}, markSTS)
		return err
	})
}

func (r *round) federate(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceSTS, func(ctx context.Context) error {
		_, err := r.STS.GetFederationToken(ctx, &sts.GetFederationTokenInput{
			Name: aws.String("ixmage-probe"), DurationSeconds: aws.Int32(900), Policy: aws.String(policy.DenyAll),
		}, markSTS)
		return err
	})
}
