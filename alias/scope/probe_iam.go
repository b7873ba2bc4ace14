package scope

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias/policy"
	"ixmage/internal/awserr"
)

// probeName is the name of an IAM user or role that does not exist.
func probeName() string { return "ixmage-probe-" + random() }

// whoami asks STS for the owner of the key. The call needs no permission.
func (r *round) whoami(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceSTS, func(ctx context.Context) error {
		out, err := r.STS.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
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

// root reports whether the key belongs to the root user of an account.
func (r *round) root() bool { return strings.HasSuffix(r.arn, ":root") }

func (r *round) getUser(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceIAM, func(ctx context.Context) error {
		_, err := r.IAM.GetUser(ctx, &iam.GetUserInput{})
		return err
	})
}

// listKeys lists the keys of the key's user. others is their number without this one.
func (r *round) listKeys(ctx context.Context) (rep awserr.Reply, others int) {
	rep = r.send(ctx, serviceIAM, func(ctx context.Context) error {
		out, err := r.IAM.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: r.userName()})
		if err == nil {
			others = max(0, len(out.AccessKeyMetadata)-1)
		}
		return err
	})
	return rep, others
}

// createKey asks for a key for a user that does not exist, so that it cannot make one.
func (r *round) createKey(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceIAM, func(ctx context.Context) error {
		_, err := r.IAM.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String(probeName())})
		return err
	})
}

func (r *round) loginProfile(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceIAM, func(ctx context.Context) error {
		_, err := r.IAM.GetLoginProfile(ctx, &iam.GetLoginProfileInput{UserName: r.userName()})
		return err
	})
}

// assumeRole asks for a role that does not exist, in the key's own account.
func (r *round) assumeRole(ctx context.Context) awserr.Reply {
	arn := r.arn
	if arn == "" {
		arn = r.User.ARN
	}
	partition, account := policy.ARNParts(arn)
	if account == "" {
		account = "000000000000"
	}
	role := "arn:" + partition + ":iam::" + account + ":role/" + probeName()
	return r.send(ctx, serviceSTS, func(ctx context.Context) error {
		_, err := r.STS.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("ixmage-probe")})
		return err
	})
}

// denyAll is a policy that makes temporary credentials useless, if the call succeeds.
const denyAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`

func (r *round) federate(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceSTS, func(ctx context.Context) error {
		_, err := r.STS.GetFederationToken(ctx, &sts.GetFederationTokenInput{
			Name: aws.String("ixmage-probe"), DurationSeconds: aws.Int32(900), Policy: aws.String(denyAll),
		})
		return err
	})
}
