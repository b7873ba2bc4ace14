package session

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// Outcomes of a call for keys, as the metrics count them.
const (
	outcomeOK        = "ok"
	outcomeDenied    = "denied"
	outcomeThrottled = "throttled"
	outcomeTimeout   = "timeout"
	outcomeNetwork   = "network"
	outcomeError     = "error"
)

// Error is why there is no session. Its text is for operators, and never holds a secret.
type Error struct {
	Outcome string // as the metrics count it
	Code    string // of the answer; empty without one
	// Field is the member of the credential that is to blame; empty if STS could not answer, so
	// that it is not known whether the credential is right.
	Field  string
	Detail string // what is wrong, and what to do
}

func (e *Error) Error() string { return e.Detail }

// Refused reports whether the credential is to blame: STS answered, or need not be asked.
func (e *Error) Refused() bool { return e.Field != "" }

// asError returns the *Error in err, nil if there is none.
func asError(err error) *Error {
	e, _ := errors.AsType[*Error](err)
	return e
}

// refusals are the codes of STS that tell which member of the credential is to blame.
var refusals = map[string]struct{ field, detail string }{
	"PackedPolicyTooLarge":    {"session_policy", "the session policy is too large for STS: use a shorter prefix"},
	"MalformedPolicyDocument": {"session_policy", "STS does not accept the session policy"},
	"RegionDisabledException": {"region", "STS is not active for this account in the region: name another one, or " +
		"activate it in IAM"},
}

// stsError explains an error of AssumeRole.
func stsError(err error, role alias.Role) *Error {
	rep := awserr.ReplyOf(err)
	if outcome, detail := passing(rep); outcome != "" {
		return &Error{Outcome: outcome, Code: rep.Code, Detail: detail}
	}
	e := &Error{Outcome: outcomeDenied, Code: rep.Code, Field: "role_arn", Detail: "STS answers " + rep.Code}
	known, ok := refusals[rep.Code]
	switch {
	case ok:
		e.Field, e.Detail = known.field, known.detail
	case rep.Denied():
		e.Detail = denied(role)
	case awserr.KeyRefused(rep.Code) || awserr.KeyUnknown(rep.Code):
		e.Field, e.Detail = "source", fmt.Sprintf("STS refuses the key of the source %s (%s): it is wrong, inactive or of "+
			"another partition, or this server does not give sessions of roles", role.Source, rep.Code)
	case rep.Code == "ValidationError" && isAboutDuration(err):
		e.Field, e.Detail = "duration", "it is longer than the role allows: shorten it, or raise the maximum session "+
			"duration of the role"
	case rep.Unimplemented():
		e.Detail = "this STS server does not give sessions of roles (" + rep.Code + ")"
	}
	return e
}

// passing is the outcome of an answer that tells nothing about the credential; empty for any
// other.
func passing(rep awserr.Reply) (outcome, detail string) {
	switch {
	case rep.Code == awserr.TimedOut:
		return outcomeTimeout, unreachable(rep)
	case rep.Silent():
		return outcomeNetwork, unreachable(rep)
	case awserr.Throttled(rep.Code):
		return outcomeThrottled, "STS throttles the calls of this account; ixmage tries again"
	case rep.Passing() && !awserr.KeyUnknown(rep.Code):
		return outcomeError, "STS fails (" + rep.Code + "); ixmage tries again"
	}
	return "", ""
}

func unreachable(rep awserr.Reply) string {
	return "STS cannot be reached (" + rep.Code + "): check --sts-endpoint, the region and the network of this host"
}

// denied says who may have refused: AWS gives one answer for all.
func denied(role alias.Role) string {
	who := "the credential " + string(role.Source)
	if role.Source == alias.SourceDefault {
		who = "the server's own credentials"
	}
	text := "STS refuses to give a session of this role: the role must exist, its trust policy must allow " + who +
		" the action sts:AssumeRole"
	if role.SourceIdentity {
		text += " and sts:SetSourceIdentity"
	}
	if role.ExternalID != "" {
		text += " with this external id"
	} else {
		text += ", without an external id"
	}
	return text + ", and they must be allowed to assume it themselves"
}

// isAboutDuration reads the text of a ValidationError, which has no code for its member.
func isAboutDuration(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && strings.Contains(strings.ToLower(api.ErrorMessage()), "durationseconds")
}

// ownError explains why the server has no credentials of its own.
func ownError(err error, field string) *Error {
	const do = "give it some by the environment, a profile, web identity, EKS Pod Identity, ECS or an instance profile"
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &Error{Outcome: outcomeTimeout, Detail: "the server's own credentials could not be read in time"}
	}
	// With web identity and in a profile with a role, STS gives them.
	if op, ok := errors.AsType[*smithy.OperationError](err); ok && op.Service() == sts.ServiceID {
		if outcome, detail := passing(awserr.ReplyOf(err)); outcome != "" {
			return &Error{Outcome: outcome, Detail: "the server's own credentials are a session: " + detail}
		}
	}
	detail := "the server has no AWS credentials of its own: " + do
	if field == "source" {
		detail += "; or name a credential of the kind static as the source"
	}
	return &Error{Outcome: outcomeDenied, Field: field, Detail: detail}
}
