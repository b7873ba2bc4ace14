package provision

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias/accounts"
)

// accountRole signs calls in an account of the file, for one operation: with a session of the account's
// role, which is made when a call needs one. It is safe for concurrent use.
type accountRole struct {
	p         *Provisioner
	account   *accounts.Account
	missing   error // why there is no account
	operation string

	mu   sync.Mutex // guards the fields below
	keys aws.Credentials
	end  time.Time // no call begins with keys after that
}

const (
	// roleSessionLife is the shortest session that STS makes. It needs no refresh by the clock of
	// this host: roleSessionMargin before its end, counted from before the call, it is made again.
	roleSessionLife   = 15 * time.Minute
	roleSessionMargin = time.Minute
	// longestSessionName is the most that STS takes.
	longestSessionName = 64

	actionAssume = "sts:AssumeRole"
)

// roleIn is the role of an operation in the account with an id; nil in that of the server.
func (p *Provisioner) roleIn(id, operation string) *accountRole {
	if id == "" {
		return nil
	}
	a, err := p.accountOf(id)
	return &accountRole{p: p, account: a, missing: err, operation: operation}
}

// iam makes a client that acts in the account.
func (w *accountRole) iam() *iam.Client { return w.aws().iam() }

func (w *accountRole) aws() *AWS {
	region := ""
	if w.account != nil {
		region = w.account.Region
	}
	return w.p.cfg.AWS.signedBy(w, region)
}

// role is its ARN; empty for the credentials of the server itself.
func (w *accountRole) role() string {
	if w == nil || w.account == nil {
		return ""
	}
	return w.account.Role
}

// Retrieve implements aws.CredentialsProvider.
func (w *accountRole) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if w.missing != nil {
		return aws.Credentials{}, &notAssumedError{text: w.missing.Error()}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	began := w.p.clock.Now()
	if began.Before(w.end) {
		return w.keys, nil
	}
	keys, failed := w.assume(ctx)
	if failed != nil {
		return aws.Credentials{}, &notAssumedError{text: failed.Error(), call: failed}
	}
	w.keys, w.end = keys, began.Add(roleSessionLife-roleSessionMargin)
	return keys, nil
}

// drop forgets the session. A later call makes another.
func (w *accountRole) drop() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys, w.end = aws.Credentials{}, time.Time{}
}

// sessionName tells CloudTrail the installation and the operation.
func (w *accountRole) sessionName() string {
	name := "ixmage-" + w.p.cfg.InstallID + "-" + w.operation
	return name[:min(len(name), longestSessionName)]
}

func (w *accountRole) assume(ctx context.Context) (aws.Credentials, *callError) {
	in := &sts.AssumeRoleInput{
		RoleArn: aws.String(w.account.Role), RoleSessionName: aws.String(w.sessionName()),
		DurationSeconds: aws.Int32(int32(roleSessionLife / time.Second)),
	}
	if w.account.ExternalID != "" {
		in.ExternalId = aws.String(w.account.ExternalID)
	}
	out, err := w.p.cfg.AWS.stsIn(w.account.Region).AssumeRole(ctx, in, func(o *sts.Options) {
		o.APIOptions = append(o.APIOptions, middleware.AddUserAgentKeyValue("ixmage-operation", w.operation))
	})
	failed := &callError{
		action: actionAssume, resource: "the role " + w.account.Role + " of the account " + w.account.String(),
	}
	if err != nil {
		return aws.Credentials{}, newCallError(failed.action, failed.resource, err)
	}
	got := out.Credentials
	if got == nil || got.SecretAccessKey == nil ||
		aws.ToString(got.AccessKeyId) == "" || aws.ToString(got.SessionToken) == "" {
		failed.code, failed.missing = codeIncomplete, "Credentials"
		return aws.Credentials{}, failed
	}
	w.p.log.Debug("role assumed", "account", w.account.ID, "role", w.account.Role, "session", *in.RoleSessionName)
	return aws.Credentials{
		AccessKeyID: *got.AccessKeyId, SecretAccessKey: *got.SecretAccessKey, SessionToken: *got.SessionToken,
		Source: "ixmage",
	}, nil
}

// notAssumedError means that the role of an account could not be assumed, so that a call was not sent. It wraps
// nothing: the answer of STS is none to the call.
type notAssumedError struct {
	text string
	call *callError // of STS; nil if it was not asked
}

func (e *notAssumedError) Error() string { return e.text }

// code is the outcome of the call in the audit, and operationCode that of its operation.
func (e *notAssumedError) code() string {
	if e.call == nil || e.call.code == "" {
		return "no-power"
	}
	return e.call.code
}

func (e *notAssumedError) operationCode() string {
	if e.call == nil {
		return codePermission
	}
	return e.call.operationCode()
}

func isNotAssumed(err error) bool {
	_, ok := errors.AsType[*notAssumedError](err)
	return ok
}
