package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// Codes of an operation that failed. Programs may rely on them.
const (
	codeNameTaken      = "name-taken"       // another client's user or policy has the name
	codeBoundary       = "boundary-missing" // the permissions boundary does not exist, or the server dropped it
	codePermission     = "permission-missing"
	codeQuota          = "quota"
	codeIAM            = "iam-error"
	codeNotSeen        = "iam-not-seen" // IAM did not show a change in time
	codeIAMUnreachable = "iam-unreachable"
	codeUnknownKeys    = "unknown-keys"
	codeChanged        = "user-changed" // another client changed the user
	codeScope          = "scope-violated"
	codeNotVerified    = "not-verified"
	codeOldKeyWorks    = "old-key-works"
	codeUserMissing    = "user-missing"
	codeCopied         = "generation"    // another copy of the registry changed the user
	codeNotAdoptable   = "not-adoptable" // the user to adopt has what is not ours to own
	codeSuperseded     = "superseded"    // a removal or an emergency took its place
	codeInternal       = "internal"

	codeBucketMissing = "bucket-missing"
	codeWrongRegion   = "wrong-region"   // the bucket is in another one
	codeObjectMissing = "object-missing" // probe.inside, or the canary
	codeReadDenied    = "read-denied"    // S3 refuses the new key, and names why
	codeKMSDenied     = "kms-denied"     // the new key may not decrypt
	codeKMSKey        = "kms-key"        // the KMS key is disabled or gone
	codeS3Unreachable = "s3-unreachable" // S3 did not answer before IAM was asked for anything
)

// stepError means that a step cannot succeed. detail is for the operator.
type stepError struct {
	code   string
	detail string
	err    error
}

func (e *stepError) Error() string { return e.detail }

func (e *stepError) Unwrap() error { return e.err }

func failf(code, format string, args ...any) error {
	return &stepError{code: code, detail: fmt.Sprintf(format, args...)}
}

// callError is a failed call of IAM. Its text names the action, the resource, IAM's
// code and a missing permission, and nothing else from IAM's message, because that
// quotes the request.
type callError struct {
	action   string // iam:CreateUser
	resource string // user shop
	code     string // IAM's, or codeIncomplete; empty without an answer
	status   int
	reason   awserr.Reason // of a denial, if AWS names it
	missing  string        // the required element that the answer lacks
	role     string        // the ARN of the role that made the call; empty for the server
	err      error
}

// codeIncomplete is the code of an answer with a status of success that lacks a
// required element.
const codeIncomplete = "IncompleteAnswer"

func newCallError(action, resource string, err error) *callError {
	e := &callError{action: action, resource: resource, err: err}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		e.code = plainCode(api.ErrorCode())
		if e.denied() {
			// CreateUser with tags needs iam:TagUser too: the message names the missing one.
			e.action = cmp.Or(awserr.MissingAction(api.ErrorMessage()), action)
			e.reason = awserr.ReasonOf(api.ErrorMessage())
		}
	}
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		e.status = resp.HTTPStatusCode()
	}
	return e
}

// plainCode replaces an error code that is not a plain word, so that a server which
// is not AWS cannot put text into messages for operators.
func plainCode(code string) string {
	const longest = 64
	if len(code) > longest || strings.ContainsFunc(code, func(r rune) bool {
		return r != '.' && r != ':' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return "UnreadableCode"
	}
	return code
}

func (e *callError) Unwrap() error { return e.err }

func (e *callError) Error() string {
	switch {
	case e.denied():
		return e.denialText()
	case e.code == codeLimit:
		return fmt.Sprintf("%s on %s: %s: %s", e.action, e.resource, e.code, quotaText(e.action))
	case e.refused():
		return fmt.Sprintf("%s does not accept the credentials of %s (%s on %s): %s",
			e.server(), e.who(), e.action, e.resource, e.code)
	case e.missing != "":
		return fmt.Sprintf("%s on %s: the %s server answered 200 with no %s", e.action, e.resource, e.server(), e.missing)
	case e.code == "":
		return fmt.Sprintf("%s on %s got no answer: %s", e.action, e.resource, e.plainCause())
	}
	return fmt.Sprintf("%s on %s: %s", e.action, e.resource, e.code)
}

// server is the one that was called, and who called it.
func (e *callError) server() string {
	if e.action == actionAssume {
		return "STS"
	}
	return "IAM"
}

func (e *callError) who() string {
	if e.role != "" {
		return "the role " + e.role
	}
	return "this server"
}

// denialText says what denies the call. Only for a missing permission of this server's own is
// the policy in docs/iam.md the remedy.
func (e *callError) denialText() string {
	who := "the credentials of this server"
	switch {
	case e.action == actionWhoAmI:
		who = "the key"
	case e.role != "":
		who = e.who()
	}
	d := denial{action: e.action, reason: e.reason, whose: "of " + who}
	text := fmt.Sprintf("%s may not %s on %s: %s; ", who, e.action, e.resource, e.code)
	switch {
	case e.action == actionAssume &&
		(d.byIdentity() || d.reason == awserr.ReasonOther || d.reason == awserr.ReasonResource):
		return text + "the trust policy of the role must name the credentials of this server, with the external_id of the " +
			"account if it asks for one, and their own policy must allow sts:AssumeRole on the role; docs/iam.md has both"
	case e.action == actionWhoAmI && d.byIdentity():
		return text + "every key may, so a policy of the network or of the AWS organization forbids it"
	case d.byIdentity():
		return text + "docs/iam.md has the required policy"
	case d.reason == awserr.ReasonIdentityDeny:
		return text + d.String() + ", and compare ACCOUNT, INSTALL (--install-id) and BOUNDARY (--iam-boundary) " +
			"in the policy of docs/iam.md with the flags"
	}
	return text + d.String() + "; the policy in docs/iam.md cannot change that"
}

const (
	actionWhoAmI = "sts:GetCallerIdentity"
	codeLimit    = "LimitExceeded"
)

// quotaText says which quota of IAM an action has used up
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).
func quotaText(action string) string {
	switch action {
	case "iam:CreateUser":
		return "the account has as many IAM users as its quota allows, or the user has too many tags: " +
			"delete users, have the quota raised, or reuse a credential (field credential)"
	case "iam:AttachUserPolicy":
		return "the user has as many managed policies as the quota allows (10, unless it was raised): " +
			"use the policy inline, or another credential for this location"
	case "iam:CreatePolicy":
		return "the account has as many customer managed policies as its quota allows: " +
			"delete policies, have the quota raised, or use the policy inline"
	case "iam:PutUserPolicy":
		return "the inline policies of a user hold 2,048 characters: use another credential for this location"
	case "iam:CreateAccessKey":
		return "a user has at most two access keys"
	}
	return "a quota of IAM is used up"
}

// boundaryMissing is the error of a CreateUser with a permissions boundary that IAM does not
// find: NoSuchEntity, "Scope ARN … does not exist or is not attachable".
func (t *task) boundaryMissing() error {
	return failf(codeBoundary, "the permissions boundary %s does not exist, or is no policy that can be attached: "+
		"create it from docs/boundary-policy.json, or correct %s", t.prov.User.Boundary, t.p.boundaryFrom(t.prov.Account))
}

func nameTaken(user string) error {
	return failf(codeNameTaken, "the IAM user %s exists, and this operation did not make it; "+
		"it was not changed: choose another user_name", user)
}

// hiddenUser is the error for a user whose name is taken and which IAM does not show to this
// server, because it is under another path.
func hiddenUser(user string) error {
	return failf(codeNameTaken, "an IAM user %s exists, and IAM does not show it to this server, so it is under another "+
		"path; names are unique in an account: choose another user_name", user)
}

// plainCause is the reason for a missing answer, without addresses and request data.
func (e *callError) plainCause() string {
	err := e.err
	var dial *net.OpError
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.As(err, &dns):
		return "its name does not resolve"
	case errors.As(err, &dial) && dial.Op == "dial":
		return "no server answers at the " + e.server() + " endpoint"
	}
	if op, ok := errors.AsType[*smithy.OperationError](err); ok && strings.Contains(op.Error(), "credentials") {
		return "this server has no AWS credentials; set them by environment, shared file or role"
	}
	return "the connection broke"
}

func (e *callError) denied() bool { return awserr.Denied(e.code) }

// refused reports whether IAM refuses the key that the call was signed with.
func (e *callError) refused() bool { return awserr.KeyRefused(e.code) }

// passing reports whether the same call may succeed later. A call without an answer
// may have had its effect.
func (e *callError) passing() bool {
	return e.code == "" || awserr.Temporary(e.code) || awserr.Busy(e.code) || e.status >= 500 && !e.unimplemented()
}

// unimplemented reports whether the server does not support the call.
func (e *callError) unimplemented() bool { return awserr.Unimplemented(e.code) }

func (e *callError) operationCode() string {
	switch {
	case e.denied(), e.refused():
		return codePermission
	case e.code == codeLimit:
		return codeQuota
	case e.code == "":
		return codeIAMUnreachable
	}
	return codeIAM
}

// hasCode reports whether err is a *callError with this code.
func hasCode(err error, code string) bool {
	call, ok := errors.AsType[*callError](err)
	return ok && call.code == code
}

func isGone(err error) bool { return hasCode(err, "NoSuchEntity") }

func isTaken(err error) bool { return hasCode(err, "EntityAlreadyExists") }

func isPassing(err error) bool {
	if notAssumed, ok := errors.AsType[*notAssumedError](err); ok {
		return notAssumed.call != nil && notAssumed.call.passing()
	}
	call, ok := errors.AsType[*callError](err)
	return ok && call.passing()
}

// isUnanswered reports whether a call may have had its effect although it failed.
func isUnanswered(err error) bool {
	call, ok := errors.AsType[*callError](err)
	return ok && (call.code == "" || call.status >= 500 && !call.unimplemented())
}

func isUnimplemented(err error) bool {
	call, ok := errors.AsType[*callError](err)
	return ok && call.unimplemented()
}

// operationError makes the error of an operation from the error of a step.
func operationError(step string, err error) *alias.OperationError {
	out := &alias.OperationError{Code: codeInternal, Step: step, Detail: err.Error()}
	if s, ok := errors.AsType[*stepError](err); ok {
		out.Code = s.code
	} else if call, ok := errors.AsType[*callError](err); ok {
		out.Code, out.Detail = call.operationCode(), call.Error()
	} else if notAssumed, ok := errors.AsType[*notAssumedError](err); ok {
		out.Code = notAssumed.operationCode()
	}
	return out
}
