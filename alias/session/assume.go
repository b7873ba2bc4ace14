package session

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"ixmage/alias"
	"ixmage/alias/policy"
)

const (
	// maxName is STS's limit for the name of a session.
	maxName = 64
	// maxChained is the longest session of a role that is assumed with the keys of another session
	// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html, role chaining).
	maxChained = time.Hour
	// attempts of one call: the second hides a lost connection.
	attempts = 2
)

// request is what is asked of STS for a session.
type request struct {
	name   string
	policy string // empty for none
	err    error  // the policy cannot be made
}

// sessionFor is the session of a role for an alias, or for none.
func (s *Sessions) sessionFor(role alias.Role, a *alias.Alias) request {
	if a == nil {
		return request{name: s.name(""), policy: policy.DenyAll}
	}
	q := request{name: s.name(a.Name)}
	if role.SessionPolicy != alias.SessionPolicyNone {
		q.policy, q.err = Policy(role, a.Location)
	}
	return q
}

// Policy is the session policy of a role for a location: it allows to read the objects, and to
// decrypt them if the role has a KMS key. The error is an *Error.
func Policy(role alias.Role, at alias.Location) (string, error) {
	doc, err := policy.SessionDocument(role.Partition(), alias.Grant{
		Bucket: at.Bucket, Prefix: at.Prefix, KMSKeyARN: role.KMSKeyARN,
		Region: at.Region, Endpoint: at.Endpoint, PathStyle: at.PathStyle,
	})
	if err != nil {
		return "", &Error{Outcome: outcomeDenied, Field: "session_policy", Detail: err.Error()}
	}
	return doc, nil
}

// name is the name of a session, by which CloudTrail tells installation and alias.
func (s *Sessions) name(a alias.Name) string {
	name := "ixmage-" + s.cfg.InstallID
	if a != "" {
		name += "-" + string(a)
	}
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	end := "-" + hex.EncodeToString(sum[:4])
	return name[:maxName-len(end)] + end
}

// assume asks STS for a session of a role. Its errors are *Error.
func (s *Sessions) assume(ctx context.Context, role alias.Role, q request) (*lease, error) {
	l, err := s.askSTS(ctx, role, q)
	e := asError(err)
	if err != nil && e == nil {
		e = stsError(err, role)
	}
	if e != nil {
		s.cfg.Recorder.SessionRenewal(e.Outcome)
		s.log.WarnContext(ctx, "no session of a role", "role", role.ARN, "session", q.name, "error", e)
		return nil, e
	}
	s.cfg.Recorder.SessionRenewal(outcomeOK)
	s.log.DebugContext(ctx, "session of a role", "role", role.ARN, "session", q.name, "expires", l.expires)
	return l, nil
}

func (s *Sessions) askSTS(ctx context.Context, role alias.Role, q request) (*lease, error) {
	if q.err != nil {
		return nil, q.err
	}
	if err := s.completeByAccount(&role); err != nil {
		return nil, err
	}
	source, err := s.source(ctx, role)
	if err != nil {
		return nil, err
	}
	duration := role.Duration
	if source.SessionToken != "" {
		duration = min(duration, maxChained)
	}
	began := time.Now()
	out, err := s.client(role, source).AssumeRole(ctx, input(role, q, duration))
	if err != nil {
		return nil, err
	}
	keys, err := keysIn(out.Credentials)
	if err != nil {
		return nil, err
	}
	// The life is counted from the clock of STS, because that of this machine may be wrong.
	life := duration
	if at, ok := middleware.GetServerTime(out.ResultMetadata); ok && keys.Expires.After(at) {
		life = keys.Expires.Sub(at)
	}
	l := newLease(keys, began, life)
	l.sent = q
	return l, nil
}

// completeByAccount gives a role the external id and the region of its account, if it has none of
// its own.
func (s *Sessions) completeByAccount(role *alias.Role) error {
	if role.Account == "" {
		return nil
	}
	a := s.cfg.Accounts.Find(role.Account)
	if a == nil {
		return &Error{Outcome: outcomeDenied, Field: "account",
			Detail: fmt.Sprintf("there is no account %s: %s", role.Account, s.cfg.Accounts.Unknown())}
	}
	if a.ID != role.AccountID() {
		return &Error{Outcome: outcomeDenied, Field: "role_arn",
			Detail: fmt.Sprintf("it is a role of account %s, and not of account %s", role.AccountID(), a)}
	}
	role.ExternalID, role.Region = cmp.Or(role.ExternalID, a.ExternalID), cmp.Or(role.Region, a.Region)
	return nil
}

func input(role alias.Role, q request, duration time.Duration) *sts.AssumeRoleInput {
	in := &sts.AssumeRoleInput{
		RoleArn: aws.String(role.ARN), RoleSessionName: aws.String(q.name),
		DurationSeconds: aws.Int32(int32(duration / time.Second)),
	}
	if q.policy != "" {
		in.Policy = aws.String(q.policy)
	}
	if role.ExternalID != "" {
		in.ExternalId = aws.String(role.ExternalID)
	}
	if role.SourceIdentity {
		in.SourceIdentity = aws.String(q.name)
	}
	return in
}

// keysIn reads the keys in an answer of STS.
func keysIn(c *types.Credentials) (aws.Credentials, error) {
	var keys aws.Credentials
	if c != nil {
		keys = aws.Credentials{
			AccessKeyID: aws.ToString(c.AccessKeyId), SecretAccessKey: aws.ToString(c.SecretAccessKey),
			SessionToken: aws.ToString(c.SessionToken), Expires: aws.ToTime(c.Expiration),
		}
	}
	if !keys.HasKeys() || keys.SessionToken == "" || keys.Expires.IsZero() {
		return keys, &Error{Outcome: outcomeError, Detail: "the answer of STS has no keys, no token or no end of them"}
	}
	return keys, nil
}

// source returns the keys that assume a role.
func (s *Sessions) source(ctx context.Context, role alias.Role) (aws.Credentials, error) {
	if role.Source == alias.SourceDefault {
		return s.ownKeys(ctx, "source")
	}
	c, ok := s.cfg.Registry.CredentialInMemory(role.Source)
	if !ok {
		return aws.Credentials{}, &Error{Outcome: outcomeDenied, Field: "source",
			Detail: fmt.Sprintf("there is no credential named %q", role.Source)}
	}
	kp, err := s.cfg.Registry.Reveal(c)
	if err != nil {
		return aws.Credentials{}, &Error{Outcome: outcomeError, Field: "source", Detail: err.Error()}
	}
	return aws.Credentials{AccessKeyID: kp.AccessKeyID, SecretAccessKey: kp.SecretAccessKey.Reveal()}, nil
}

// client makes a client of STS that signs with keys and nothing else.
func (s *Sessions) client(role alias.Role, keys aws.Credentials) *sts.Client {
	return sts.NewFromConfig(s.cfg.AWS, func(o *sts.Options) {
		o.Credentials = credentials.StaticCredentialsProvider{Value: keys}
		o.RetryMaxAttempts = attempts
		o.Region = policy.STSRegion(role.Region, o.Region, role.Partition())
		if s.cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(s.cfg.Endpoint)
		}
	})
}

// ownKeys returns the credentials of the server itself. Its error is an *Error about field.
func (s *Sessions) ownKeys(ctx context.Context, field string) (aws.Credentials, error) {
	if s.cfg.AWS.Credentials == nil {
		return aws.Credentials{}, ownError(nil, field)
	}
	keys, err := s.cfg.AWS.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, ownError(err, field)
	}
	return keys, nil
}

// resetOwn drops the credentials of the server from the cache of the SDK. Roles and IAM use that
// too, so keys that are alive stay: their issuer may be away just then.
func (s *Sessions) resetOwn() {
	if cache, ok := s.cfg.AWS.Credentials.(*aws.CredentialsCache); ok {
		cache.Invalidate()
	}
}

// own fetches the credentials of the server for a credential of the kind default. The cache of the
// SDK gets others when those that it has are at their end.
func (s *Sessions) own(ctx context.Context) (*lease, error) {
	keys, err := s.ownKeys(ctx, "kind")
	if e := asError(err); e != nil {
		s.cfg.Recorder.SessionRenewal(e.Outcome)
		s.log.WarnContext(ctx, "no credentials of the server", "error", e)
		return nil, e
	}
	s.cfg.Recorder.SessionRenewal(outcomeOK)
	if !keys.CanExpire {
		return &lease{keys: keys}, nil
	}
	return newLease(keys, time.Now(), max(time.Until(keys.Expires), time.Second)), nil
}
