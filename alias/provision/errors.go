package provision

import (
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
	codeBoundary       = "boundary-missing" // the server dropped the permissions boundary
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
	missing  string // the required element that the answer lacks
	err      error
}

// codeIncomplete is the code of an answer with a status of success that lacks a
// required element.
const codeIncomplete = "IncompleteAnswer"

func newCallError(action, resource string, err error) *callError {
	e := &callError{action: action, resource: resource, err: err}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		e.code = plainCode(api.ErrorCode())
		// CreateUser with tags needs iam:TagUser too: the message names the missing one.
		if action := awserr.MissingAction(api.ErrorMessage()); action != "" && e.denied() {
			e.action = action
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
		return fmt.Sprintf("the credentials of this server may not %s on %s: %s; docs/iam.md has the required policy",
			e.action, e.resource, e.code)
	case e.refused():
		return fmt.Sprintf("IAM does not accept the credentials of this server (%s on %s): %s", e.action, e.resource, e.code)
	case e.missing != "":
		return fmt.Sprintf("%s on %s: the IAM server answered 200 with no %s", e.action, e.resource, e.missing)
	case e.code == "":
		return fmt.Sprintf("%s on %s got no answer: %s", e.action, e.resource, plainCause(e.err))
	}
	return fmt.Sprintf("%s on %s: %s", e.action, e.resource, e.code)
}

// plainCause is the reason for a missing answer, without addresses and request data.
func plainCause(err error) string {
	var dial *net.OpError
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.As(err, &dns):
		return "its name does not resolve"
	case errors.As(err, &dial) && dial.Op == "dial":
		return "no server answers at the IAM endpoint"
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
	return e.code == "" || awserr.Temporary(e.code) || awserr.Busy(e.code) || e.status >= 500
}

// unimplemented reports whether the server does not support the call.
func (e *callError) unimplemented() bool { return awserr.Unimplemented(e.code) }

func (e *callError) operationCode() string {
	switch {
	case e.denied(), e.refused():
		return codePermission
	case e.code == "LimitExceeded":
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
	call, ok := errors.AsType[*callError](err)
	return ok && call.passing()
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
	}
	return out
}
