package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
	roles "ixmage/alias/session"
	"ixmage/internal/awserr"
)

// sessionChecks are about the sessions of roles.
func sessionChecks() []check {
	return []check{
		{name: "session-policy", run: sessionPolicy, want: []string{"inside 200, outside AccessDenied"},
			says: "the session policy of an alias limits a role that may read the whole bucket"},
		{name: "session-policy-named", run: sessionPolicyNamed, want: []string{"session"},
			says: "S3 names the session policy as the reason of a refusal"},
		{name: "packed-size", run: packedSize,
			says: "PackedPolicySize of the session policy of the longest prefix that ixmage sends; above 100 % it is refused"},
		{name: "packed-large", run: packedLarge,
			says: "whether a session policy of nearly 2,048 characters may be too large when it is packed " +
				"(PackedPolicyTooLarge)"},
		{name: "expired-s3", run: expired(s3Code), want: []string{"ExpiredToken"}, long: true,
			says: "S3's answer to a session that has ended"},
		{name: "expired-sts", run: expired(stsCode), want: []string{"ExpiredToken"}, long: true,
			says: "STS's answer to a session that has ended"},
		{name: "token-malformed", run: wrongToken("malformed"), want: []string{"InvalidToken"},
			says: "S3's answer to a key of a session with another token"},
		{name: "token-absent", run: wrongToken(""), want: []string{"InvalidAccessKeyId"},
			says: "S3's answer to a key of a session without a token"},
		{name: "revoked-sessions", run: revokedSessions, want: []string{"AccessDenied"},
			says: "the console's \"revoke sessions\" is a policy that denies what was issued before; ixmage does not " +
				"renew on AccessDenied"},
	}
}

// policyFor is what ixmage sends for an alias with a prefix in the bucket.
func (e *env) policyFor(x *role, under string) (string, error) {
	return roles.Policy(alias.NewRole(x.arn), alias.Location{
		Bucket: e.bucketName(), Prefix: under, Region: e.o.region, Endpoint: e.o.s3URL, PathStyle: e.o.s3URL != "",
	})
}

// narrowed is a session of the standard role with the session policy of an alias.
func (e *env) narrowed(ctx context.Context, in sts.AssumeRoleInput) (*session, error) {
	p, x, err := e.standard()
	if err != nil {
		return nil, err
	}
	text, err := e.policyFor(x, prefix)
	if err != nil {
		return nil, err
	}
	in.RoleArn, in.Policy = &x.arn, &text
	return e.assume(ctx, p.keys, in)
}

// reads waits until a session reads: its role may be new to S3.
func (e *env) reads(ctx context.Context, x *session) error {
	_, err := e.until(ctx, func(ctx context.Context) bool {
		rep, _ := e.read(ctx, x, inside)
		return rep.OK()
	})
	return err
}

func sessionPolicy(ctx context.Context, e *env) (answer, error) {
	x, err := e.narrowed(ctx, sts.AssumeRoleInput{})
	if err != nil {
		return answer{}, err
	}
	if err := e.reads(ctx, x); err != nil {
		return answer{}, err
	}
	rep, err := e.read(ctx, x, outside)
	return answer{"inside 200, outside " + rep.Code, messageOf(err)}, nil
}

func sessionPolicyNamed(ctx context.Context, e *env) (answer, error) {
	x, err := e.narrowed(ctx, sts.AssumeRoleInput{})
	if err != nil {
		return answer{}, err
	}
	if err := e.reads(ctx, x); err != nil {
		return answer{}, err
	}
	rep, err := e.read(ctx, x, outside)
	if rep.Reason == awserr.ReasonNone {
		return answer{"none", messageOf(err)}, nil
	}
	return answer{string(rep.Reason), messageOf(err)}, nil
}

// longest is the longest prefix of a letter that random text separates, for which ixmage
// sends a session policy. Random text cannot be packed.
func (e *env) longest(x *role, letter string) (under, doc string, err error) {
	random := strings.ToLower(rand.Text())
	for n := alias.MaxKey; n > 0; n-- {
		under = strings.Repeat(letter+random, n/len(letter+random)+1)
		under = strings.ToValidUTF8(under[:n], "") + "/"
		a := alias.New()
		a.Name, a.State = "longest", alias.StateActive
		a.Location = alias.Location{Bucket: e.bucketName(), Prefix: under, Region: e.o.region}
		if a.Validate(alias.Policy{}) != nil {
			continue
		}
		if doc, err = e.policyFor(x, under); err == nil {
			return under, doc, nil
		}
	}
	return "", "", errors.New("no prefix is possible")
}

func packedSize(ctx context.Context, e *env) (answer, error) {
	p, x, err := e.standard()
	if err != nil {
		return answer{}, err
	}
	parts := make([]string, 0, 2)
	for _, letter := range []string{"a", "ü"} {
		under, doc, err := e.longest(x, letter)
		if err != nil {
			return answer{}, err
		}
		size := fmt.Sprintf("prefix of %d bytes with %s, policy of %d characters: ", len(under), letter, len(doc))
		y, err := e.assume(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &x.arn, Policy: &doc})
		if err != nil {
			parts = append(parts, size+awserr.ReplyOf(err).Code)
			continue
		}
		parts = append(parts, fmt.Sprintf("%s%d %%", size, y.packed))
	}
	return answer{got: joined(parts...)}, nil
}

func packedLarge(ctx context.Context, e *env) (answer, error) {
	p, x, err := e.standard()
	if err != nil {
		return answer{}, err
	}
	// Random names fill the room below 2,048 characters.
	rules := make([]rule, 0, 16)
	for text := ""; len(text) < 1900; text = document(rules...) {
		rules = append(rules, allow(e.objects(rand.Text()), "s3:GetObject"))
	}
	doc := document(rules[:len(rules)-1]...)
	y, err := e.assume(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &x.arn, Policy: &doc})
	if err != nil {
		return outcome(err), nil
	}
	return answer{"allowed", fmt.Sprintf("%d characters are %d %%", len(doc), y.packed)}, nil
}

func s3Code(ctx context.Context, e *env, x *session) error {
	_, err := e.read(ctx, x, inside)
	return err
}

func stsCode(ctx context.Context, e *env, x *session) error { return e.knows(ctx, x, "") }

// expired uses the shortest session until it is refused.
func expired(use func(context.Context, *env, *session) error) func(context.Context, *env) (answer, error) {
	const early = 20 * time.Second
	return func(ctx context.Context, e *env) (answer, error) {
		x, err := e.narrowed(ctx, sts.AssumeRoleInput{DurationSeconds: seconds(15 * time.Minute)})
		if err != nil {
			return answer{}, err
		}
		end := x.Expires
		x.CanExpire = false // or the SDK asks for other keys
		if err := pause(ctx, time.Until(end)-early); err != nil {
			return answer{}, err
		}
		for {
			// A new role may be unknown to S3 at first, and then refused for another reason.
			err := use(ctx, e, x)
			if late := time.Since(end); err != nil && late > -early {
				out := outcome(err)
				out.detail += "; " + late.Round(100*time.Millisecond).String() + " after the Expiration, by the clock of this host"
				return out, nil
			}
			if err := pause(ctx, e.o.poll); err != nil {
				return answer{}, err
			}
		}
	}
}

func wrongToken(token string) func(context.Context, *env) (answer, error) {
	return func(ctx context.Context, e *env) (answer, error) {
		x, err := e.narrowed(ctx, sts.AssumeRoleInput{})
		if err != nil {
			return answer{}, err
		}
		if err := e.reads(ctx, x); err != nil {
			return answer{}, err
		}
		wrong := *x
		wrong.SessionToken = token
		_, err = e.read(ctx, &wrong, inside)
		return outcome(err), nil
	}
}

func revokedSessions(ctx context.Context, e *env) (answer, error) {
	x, own, err := e.ownSession(ctx)
	if err != nil {
		return answer{}, err
	}
	older := rule{Effect: "Deny", Action: "*", Resource: "*", Condition: map[string]any{
		"DateLessThan": map[string]string{"aws:TokenIssueTime": time.Now().Add(time.Minute).UTC().Format(time.RFC3339)},
	}}
	if err := e.putRolePolicy(ctx, own, "AWSRevokeOlderSessions", document(older)); err != nil {
		return answer{}, err
	}
	return e.untilDenied(ctx, x)
}
