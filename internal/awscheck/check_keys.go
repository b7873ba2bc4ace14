package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias/policy"
	"ixmage/internal/awserr"
)

// keyChecks are about the keys of users.
func keyChecks() []check {
	return []check{
		{name: "new-key-sts", run: newKeySTS,
			says: "time until STS knows a new key, in each region; ixmage waits up to 2 min for S3 and STS"},
		{name: "new-key-s3", run: newKeyS3,
			says: "time until S3 serves a new key; field reports say 8 to 15 s with relapses, ixmage demands five reads " +
				"in a row"},
		{name: "inactive-key", run: deadKey(deactivate),
			says: "time until an inactive key is refused; ixmage waits up to 2 min and deletes it only then"},
		{name: "deleted-key", run: deadKey(deleteKey),
			says: "time until a deleted key is refused"},
		{name: "last-used-new-key", run: lastUsedNewKey, want: []string{"allowed", "AccessDenied", "NoSuchEntity"},
			says: "GetAccessKeyLastUsed of a key that is seconds old, with rights to the users of a path only; ixmage takes a " +
				"refusal for unknown"},
		{name: "last-used-deleted-key", run: lastUsedDeletedKey, want: []string{"AccessDenied", "NoSuchEntity"},
			says: "the same of a key that was deleted"},
		{name: "last-used-lag", run: lastUsedLag, long: true,
			says: "time until GetAccessKeyLastUsed tells of a use; ixmage deletes unknown keys a day after they seem unused"},
		{name: "session-outlives-key", run: sessionOutlivesKey, want: []string{"reads"},
			says: "a session of GetSessionToken reads after its key was deleted, up to 36 h; this is " +
				"why boundary and emergency deny sessions"},
		{name: "session-revoked", run: sessionRevoked, want: []string{"AccessDenied"},
			says: "the policy ixmage-revoke ends the sessions of a user's keys"},
		{name: "boundary-sessions", run: boundarySessions, want: []string{"the key reads, its session is AccessDenied"},
			says: "docs/boundary-policy.json lets a key read and not the sessions made with it (Null aws:TokenIssueTime)"},
		{name: "service-credentials", run: serviceCredentials, want: []string{"DeleteConflict"},
			says: "a long-term key of Bedrock is a service-specific credential of the user, and DeleteUser refuses while " +
				"there is one"},
	}
}

// knows asks STS in a region for the owner of a key.
func (e *env) knows(ctx context.Context, keys aws.CredentialsProvider, region string) error {
	_, err := e.sts(keys, region).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	return err
}

// perRegion measures in all regions at once.
func (e *env) perRegion(measure func(region string) string) string {
	out := make([]string, len(e.o.regions))
	var group sync.WaitGroup
	for i, region := range e.o.regions {
		group.Go(func() { out[i] = region + " " + measure(region) })
	}
	group.Wait()
	return strings.Join(out, ", ")
}

// timed is the time until ok holds, as text.
func (e *env) timed(ctx context.Context, ok func(context.Context) bool) string {
	took, err := e.until(ctx, ok)
	if err != nil {
		return err.Error()
	}
	return rounded(took)
}

// withKey makes a user that may read the bucket, and a key of it.
func (e *env) withKey(ctx context.Context, boundary string) (*principal, error) {
	p, err := e.user(ctx, userSpec{rules: []rule{allow(e.objects(""), "s3:GetObject")}, boundary: boundary})
	if err != nil {
		return nil, err
	}
	return p, e.key(ctx, p)
}

// reading is withKey when the key reads.
func (e *env) reading(ctx context.Context, boundary string) (*principal, error) {
	p, err := e.withKey(ctx, boundary)
	if err != nil {
		return nil, err
	}
	_, err = e.until(ctx, func(ctx context.Context) bool {
		rep, _ := e.read(ctx, p.keys, inside)
		return rep.OK()
	})
	return p, err
}

func newKeySTS(ctx context.Context, e *env) (answer, error) {
	p, err := e.withKey(ctx, "")
	if err != nil {
		return answer{}, err
	}
	return answer{got: e.perRegion(func(region string) string {
		return e.timed(ctx, func(ctx context.Context) bool { return e.knows(ctx, p.keys, region) == nil })
	})}, nil
}

func newKeyS3(ctx context.Context, e *env) (answer, error) {
	p, err := e.withKey(ctx, "")
	if err != nil {
		return answer{}, err
	}
	var codes []string
	reads, relapses := false, 0
	took, err := e.until(ctx, func(ctx context.Context) bool {
		rep, _ := e.read(ctx, p.keys, inside)
		if !slices.Contains(codes, rep.Code) {
			codes = append(codes, rep.Code)
		}
		if reads && !rep.OK() {
			relapses++
		}
		reads = rep.OK()
		return reads
	})
	return answer{rounded(took), fmt.Sprintf("answers %s; %d relapses", strings.Join(codes, ", "), relapses)}, err
}

func deactivate(ctx context.Context, e *env, p *principal) error {
	_, err := e.iam(nil).UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{
		UserName: &p.name, AccessKeyId: &p.keyID, Status: types.StatusTypeInactive,
	})
	return err
}

func deleteKey(ctx context.Context, e *env, p *principal) error {
	return e.again(ctx, func() error { // it may be new
		_, err := e.iam(nil).DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &p.name, AccessKeyId: &p.keyID})
		return err
	}, "NoSuchEntity")
}

// deadKey measures how long a key works after something was done to it.
func deadKey(do func(context.Context, *env, *principal) error) func(context.Context, *env) (answer, error) {
	return func(ctx context.Context, e *env) (answer, error) {
		p, err := e.reading(ctx, "")
		if err != nil {
			return answer{}, err
		}
		if err := do(ctx, e, p); err != nil {
			return answer{}, err
		}
		ofS3, code := "", ""
		var group sync.WaitGroup
		group.Go(func() {
			ofS3 = e.timed(ctx, func(ctx context.Context) bool {
				rep, _ := e.read(ctx, p.keys, inside)
				code = rep.Code
				return awserr.KeyUnknown(code) || awserr.KeyRefused(code)
			})
		})
		ofSTS := e.perRegion(func(region string) string {
			return e.timed(ctx, func(ctx context.Context) bool {
				code := awserr.ReplyOf(e.knows(ctx, p.keys, region)).Code
				return awserr.KeyUnknown(code) || awserr.KeyRefused(code)
			})
		})
		group.Wait()
		return answer{"S3 " + ofS3 + ", STS " + ofSTS, "S3 answers " + code}, nil
	}
}

// asker may ask for the last use of the keys of the users of the run, and nothing else.
func (e *env) asker(ctx context.Context) (*principal, error) {
	return e.newPrincipal(ctx, userSpec{rules: []rule{allow(e.arn("user", "*"), "iam:GetAccessKeyLastUsed")}})
}

func (e *env) lastUsed(ctx context.Context, by *principal, keyID string) error {
	_, err := e.iam(by.keys).GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &keyID})
	return err
}

func lastUsedNewKey(ctx context.Context, e *env) (answer, error) {
	by, err := e.asker(ctx)
	if err != nil {
		return answer{}, err
	}
	p, err := e.withKey(ctx, "")
	if err != nil {
		return answer{}, err
	}
	first := outcome(e.lastUsed(ctx, by, p.keyID))
	first.detail += "; allowed after " + e.timed(ctx, func(ctx context.Context) bool {
		return e.lastUsed(ctx, by, p.keyID) == nil
	})
	first.detail = strings.TrimPrefix(first.detail, "; ")
	return first, nil
}

func lastUsedDeletedKey(ctx context.Context, e *env) (answer, error) {
	p, err := e.withKey(ctx, "")
	if err != nil {
		return answer{}, err
	}
	if err := deleteKey(ctx, e, p); err != nil {
		return answer{}, err
	}
	by, err := e.asker(ctx)
	if err != nil {
		return answer{}, err
	}
	took := e.timed(ctx, func(ctx context.Context) bool {
		err = e.lastUsed(ctx, by, p.keyID)
		return err != nil
	})
	out := outcome(err)
	out.detail += "; after " + took
	return out, nil
}

func lastUsedLag(ctx context.Context, e *env) (answer, error) {
	p, err := e.reading(ctx, "")
	if err != nil {
		return answer{}, err
	}
	began := time.Now()
	for ctx.Err() == nil {
		out, err := e.iam(nil).GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &p.keyID})
		if err == nil && out.AccessKeyLastUsed != nil && out.AccessKeyLastUsed.LastUsedDate != nil {
			return answer{got: rounded(time.Since(began))}, nil
		}
		if unimplemented(err) {
			return answer{}, err
		}
		_ = pause(ctx, e.o.poll) // the loop sees its end
	}
	return answer{got: "more than " + time.Since(began).Round(time.Second).String()}, nil
}

// sessionOf is a session of GetSessionToken that reads.
func (e *env) sessionOf(ctx context.Context, p *principal) (*session, error) {
	out, err := e.sts(p.keys, "").GetSessionToken(ctx, &sts.GetSessionTokenInput{DurationSeconds: aws.Int32(3600)})
	if err != nil {
		return nil, err
	}
	return e.newSession(out.Credentials), nil
}

func sessionOutlivesKey(ctx context.Context, e *env) (answer, error) {
	p, err := e.reading(ctx, "")
	if err != nil {
		return answer{}, err
	}
	x, err := e.sessionOf(ctx, p)
	if err != nil {
		return answer{}, err
	}
	if err := deleteKey(ctx, e, p); err != nil {
		return answer{}, err
	}
	for began := time.Now(); ; {
		rep, err := e.read(ctx, x, inside)
		after := time.Since(began)
		switch {
		case !rep.OK():
			return answer{rep.Code, messageOf(err) + "; after " + rounded(after)}, nil
		case after >= e.o.observe:
			return answer{"reads", "watched for " + rounded(after)}, nil
		}
		if err := pause(ctx, e.o.poll); err != nil {
			return answer{}, err
		}
	}
}

func sessionRevoked(ctx context.Context, e *env) (answer, error) {
	p, err := e.reading(ctx, "")
	if err != nil {
		return answer{}, err
	}
	x, err := e.sessionOf(ctx, p)
	if err != nil {
		return answer{}, err
	}
	if err := e.putUserPolicy(ctx, p.name, policy.RevokeName, policy.Revoke); err != nil {
		return answer{}, err
	}
	return e.untilDenied(ctx, x)
}

// untilDenied waits until a session may not read.
func (e *env) untilDenied(ctx context.Context, x *session) (answer, error) {
	var out answer
	took, err := e.until(ctx, func(ctx context.Context) bool {
		rep, err := e.read(ctx, x, inside)
		out = outcome(err)
		return !rep.OK()
	})
	out.detail += "; after " + rounded(took)
	return out, err
}

// filled replaces the words in capitals of a document to copy.
func (r *testRun) filled(signer policy.Signer, boundary string) (string, error) {
	text, err := policy.CopiedPolicy(signer)
	return strings.NewReplacer("PARTITION", r.account.Partition, "ACCOUNT", r.account.ID, "INSTALL", r.id,
		"BUCKETS", r.bucketName(), `"BOUNDARY"`, `"`+boundary+`"`, `"TAGS"`, `"`+marker+`"`, "ADOPT", marker+"-none",
		"GIVEN", marker+"-none").Replace(string(text)), err
}

func boundarySessions(ctx context.Context, e *env) (answer, error) {
	doc, err := e.filled(policy.ByKey, "")
	if err != nil {
		return answer{}, err
	}
	arn, err := e.managed(ctx, doc)
	if err != nil {
		return answer{}, err
	}
	p, err := e.reading(ctx, arn)
	if err != nil {
		return answer{}, fmt.Errorf("with the boundary: %w", err)
	}
	x, err := e.sessionOf(ctx, p)
	if err != nil {
		return answer{}, err
	}
	rep, err := e.read(ctx, x, inside)
	return answer{"the key reads, its session is " + rep.Code, messageOf(err)}, nil
}

func serviceCredentials(ctx context.Context, e *env) (answer, error) {
	p, err := e.user(ctx, userSpec{})
	if err != nil {
		return answer{}, err
	}
	var id *string
	err = e.again(ctx, func() error {
		out, err := e.iam(nil).CreateServiceSpecificCredential(ctx, &iam.CreateServiceSpecificCredentialInput{
			UserName: &p.name, ServiceName: aws.String("bedrock.amazonaws.com"), CredentialAgeDays: aws.Int32(1),
		})
		if err == nil {
			c := out.ServiceSpecificCredential
			id = c.ServiceSpecificCredentialId
			e.keepSecret(aws.ToString(c.ServicePassword))
			e.keepSecret(aws.ToString(c.ServiceCredentialSecret))
		}
		return err
	}, "NoSuchEntity")
	if err != nil {
		return answer{}, err
	}
	_, err = e.iam(nil).DeleteUser(ctx, &iam.DeleteUserInput{UserName: &p.name})
	out := outcome(err)
	out.detail += "; credential " + aws.ToString(id)
	return out, nil
}
