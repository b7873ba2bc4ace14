package main

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias/policy"
	"ixmage/internal/awserr"
)

// roleChecks are about AssumeRole.
func roleChecks() []check {
	return []check{
		{name: "assume-missing-role", run: assumeMissingRole(true), want: []string{"AccessDenied"},
			says: "AssumeRole of a role that does not exist, with the right to assume it: the same AccessDenied as without, " +
				"so that such a probe proves nothing"},
		{name: "assume-missing-role-no-right", run: assumeMissingRole(false), want: []string{"AccessDenied"},
			says: "the same without the right"},
		{name: "new-role", run: newRole, says: "time until a new role can be assumed"},
		{name: "new-trust", run: newTrust, says: "time until a change of the trust policy counts"},
		{name: "external-id-wrong", run: externalID("wrong-one"), want: []string{"AccessDenied"},
			says: "a wrong external id is an AccessDenied that does not name it"},
		{name: "external-id-absent", run: externalID(""), want: []string{"AccessDenied"},
			says: "so is an external id that is not sent"},
		{name: "source-identity-no-right", run: sourceIdentityNoRight,
			want: []string{"AccessDenied names sts:SetSourceIdentity"},
			says: "a source identity that the trust policy does not allow"},
		{name: "duration-above-role", run: durationAboveRole, want: []string{"ValidationError names DurationSeconds"},
			says: "a session longer than the role's maximum; ixmage tells it by DurationSeconds in the message"},
		{name: "chained-duration", run: chainedDuration,
			want: []string{"1h allowed, longer ValidationError names DurationSeconds"},
			says: "a role that a session assumes: an hour at most, whatever its maximum"},
		{name: "deleted-role", run: deletedRole, want: []string{"InvalidAccessKeyId"},
			says: "the session of a role that was deleted; ixmage renews a session once that S3 refuses by its key"},
		{name: "sts-clock", run: stsClock,
			says: "clock of STS minus clock of this host, regional and global; ixmage counts the life of a session " +
				"from STS's Date"},
		{name: "region-disabled", run: regionDisabled, want: []string{"InvalidClientTokenId", "RegionDisabledException"},
			says: "STS in a region that the account has not enabled (af-south-1)"},
	}
}

func assumeMissingRole(right bool) func(context.Context, *env) (answer, error) {
	return func(ctx context.Context, e *env) (answer, error) {
		var rules []rule
		if right {
			rules = []rule{allow("*", "sts:AssumeRole")}
		}
		p, err := e.newPrincipal(ctx, userSpec{rules: rules})
		if err != nil {
			return answer{}, err
		}
		arn := e.arn("role", "no-such-role")
		_, err = e.assume(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &arn})
		return outcome(err), nil
	}
}

func newRole(ctx context.Context, e *env) (answer, error) {
	p, err := e.assumer()
	if err != nil {
		return answer{}, err
	}
	x, err := e.newRole(ctx, roleSpec{trust: policy.Trust{Principal: p.arn}})
	if err != nil {
		return answer{}, err
	}
	return answer{got: e.timed(ctx, func(ctx context.Context) bool {
		_, err := e.assume(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &x.arn})
		return err == nil
	})}, nil
}

const rightID = "the-right-one"

// guardedRole is a role with an external id, that can be assumed with it.
func (e *env) guardedRole(ctx context.Context) (*principal, *role, error) {
	p, err := e.assumer()
	if err != nil {
		return nil, nil, err
	}
	x, err := e.newRole(ctx, roleSpec{trust: policy.Trust{Principal: p.arn, ExternalID: rightID}})
	if err != nil {
		return nil, nil, err
	}
	_, err = e.untilAssumed(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &x.arn, ExternalId: aws.String(rightID)})
	return p, x, err
}

func newTrust(ctx context.Context, e *env) (answer, error) {
	p, x, err := e.guardedRole(ctx)
	if err != nil {
		return answer{}, err
	}
	trust, err := policy.TrustDocument(policy.Trust{Principal: p.arn, ExternalID: "another-one"})
	if err != nil {
		return answer{}, err
	}
	_, err = e.iam(nil).UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{
		RoleName: &x.name, PolicyDocument: aws.String(string(trust)),
	})
	if err != nil {
		return answer{}, err
	}
	assumed := func(id string) bool {
		_, err := e.assume(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &x.arn, ExternalId: &id})
		return err == nil
	}
	return answer{got: "the new one " + e.timed(ctx, func(context.Context) bool { return assumed("another-one") }) +
		", the old one refused " + e.timed(ctx, func(context.Context) bool { return !assumed(rightID) })}, nil
}

func externalID(id string) func(context.Context, *env) (answer, error) {
	return func(ctx context.Context, e *env) (answer, error) {
		p, x, err := e.guardedRole(ctx)
		if err != nil {
			return answer{}, err
		}
		_, err = e.assume(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &x.arn, ExternalId: optional(id)})
		return outcome(err), nil
	}
}

// standard are the principal and the role that checks share.
func (e *env) standard() (*principal, *role, error) {
	p, err := e.assumer()
	if err != nil {
		return nil, nil, err
	}
	x, err := e.reader()
	return p, x, err
}

func sourceIdentityNoRight(ctx context.Context, e *env) (answer, error) {
	p, x, err := e.standard()
	if err != nil {
		return answer{}, err
	}
	_, err = e.assume(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &x.arn, SourceIdentity: &e.id})
	return refusedBy(awserr.ReplyOf(err), err), nil
}

// aboutDuration is the outcome of a call with a duration that is too long.
func aboutDuration(err error) answer {
	out := outcome(err)
	if strings.Contains(out.detail, "DurationSeconds") {
		out.got += " names DurationSeconds"
	}
	return out
}

func durationAboveRole(ctx context.Context, e *env) (answer, error) {
	p, x, err := e.standard()
	if err != nil {
		return answer{}, err
	}
	_, err = e.assume(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &x.arn, DurationSeconds: seconds(2 * time.Hour)})
	return aboutDuration(err), nil
}

func chainedDuration(ctx context.Context, e *env) (answer, error) {
	p, first, err := e.standard()
	if err != nil {
		return answer{}, err
	}
	second, err := e.newRole(ctx, roleSpec{trust: policy.Trust{Principal: first.arn}, max: 12 * time.Hour})
	if err != nil {
		return answer{}, err
	}
	x, err := e.assume(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &first.arn})
	if err != nil {
		return answer{}, err
	}
	in := sts.AssumeRoleInput{RoleArn: &second.arn, DurationSeconds: seconds(time.Hour)}
	if _, err := e.untilAssumed(ctx, x, in); err != nil {
		return answer{}, err
	}
	in.DurationSeconds = seconds(2 * time.Hour)
	_, err = e.assume(ctx, x, in)
	out := aboutDuration(err)
	out.got = "1h allowed, longer " + out.got
	return out, nil
}

func deletedRole(ctx context.Context, e *env) (answer, error) {
	x, own, err := e.ownSession(ctx)
	if err != nil {
		return answer{}, err
	}
	if _, err := e.removeRole(ctx, own.name); err != nil {
		return answer{}, err
	}
	return e.untilDenied(ctx, x)
}

// ownSession is a session, which reads, of a role of the check's own.
func (e *env) ownSession(ctx context.Context) (*session, *role, error) {
	p, err := e.assumer()
	if err != nil {
		return nil, nil, err
	}
	own, err := e.newRole(ctx, e.readerOf(p))
	if err != nil {
		return nil, nil, err
	}
	x, err := e.untilAssumed(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &own.arn})
	if err != nil {
		return nil, nil, err
	}
	_, err = e.until(ctx, func(ctx context.Context) bool {
		rep, _ := e.read(ctx, x, inside)
		return rep.OK()
	})
	return x, own, err
}

func stsClock(ctx context.Context, e *env) (answer, error) {
	regions := append([]string{"aws-global"}, e.o.regions...)
	parts := make([]string, 0, len(regions))
	for _, region := range regions {
		began := time.Now()
		out, err := e.sts(nil, region).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return answer{}, err
		}
		half := time.Since(began) / 2
		at, ok := middleware.GetServerTime(out.ResultMetadata)
		if !ok {
			parts = append(parts, region+" no Date")
			continue
		}
		parts = append(parts, region+" "+at.Sub(began.Add(half)).Round(time.Second).String())
	}
	return answer{got: joined(parts...)}, nil
}

func regionDisabled(ctx context.Context, e *env) (answer, error) {
	if e.o.custom() {
		return answer{}, notTriedError("the server has no regions to enable")
	}
	_, err := e.sts(nil, "af-south-1").GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	return outcome(err), nil
}
