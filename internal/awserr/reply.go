package awserr

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Codes of a Reply if the server sent none.
const (
	OK       = "200"
	TimedOut = "timeout"  // no answer within the time of the call
	Network  = "network"  // no connection, or it broke
	Canceled = "canceled" // the caller ended the call
)

// Reply is the outcome of one call. It holds the server's code and not its message,
// because messages quote the request and name users.
type Reply struct {
	Code   string // the server's, or one of the above, or the status if there is no code
	Status int    // 0 without an answer, and for success
	// Action is the denied action, if AWS names it in its message; see MissingAction.
	Action string
	// Reason is the reason of a refusal, if AWS states it in its message; see ReasonOf.
	Reason Reason
}

// OK reports whether the call succeeded.
func (r Reply) OK() bool { return r.Code == OK }

// Silent reports whether there was no answer.
func (r Reply) Silent() bool { return r.Code == TimedOut || r.Code == Network || r.Code == Canceled }

// Denied reports whether the key lacks the permission. A 403 without a code counts,
// because the answer to a HEAD has no body for one. Other codes with status 403 (an
// archived object, a skewed clock, an unknown key) say nothing about permissions.
func (r Reply) Denied() bool {
	return Denied(r.Code) || r.Code == "403" && r.Status == http.StatusForbidden
}

// Passing reports whether the same call may get another answer soon, because the key
// is not known everywhere yet, or the server is slow, busy or failing.
func (r Reply) Passing() bool { return Passing(r.Code) }

// Unimplemented reports whether the server does not support the call.
func (r Reply) Unimplemented() bool {
	return Unimplemented(r.Code) || r.Status == http.StatusNotImplemented || r.Status == http.StatusMethodNotAllowed
}

// Passing is Reply.Passing for a stored code.
func Passing(code string) bool {
	switch code {
	case TimedOut, Network, Canceled:
		return true
	}
	if KeyUnknown(code) || Temporary(code) {
		return true
	}
	status, err := strconv.Atoi(code)
	return err == nil && (status >= 500 && status != http.StatusNotImplemented || status == http.StatusTooManyRequests)
}

// ReplyOf converts the error of an SDK call.
func ReplyOf(err error) Reply {
	if err == nil {
		return Reply{Code: OK}
	}
	var r Reply
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		r.Status = resp.HTTPStatusCode()
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && r.Status != 0 {
		message := api.ErrorMessage()
		r.Code, r.Action = plain(Code(api, r.Status)), MissingAction(message)
		if r.Denied() {
			r.Reason = ReasonOf(message)
		}
	}
	switch {
	case r.Status == 0:
		r.Code = Silence(err)
	case r.Code == "", r.Status >= 500 && r.Status != http.StatusNotImplemented && !r.Passing():
		r.Code = strconv.Itoa(r.Status)
	}
	return r
}

// Silence is the code of a call without an answer.
func Silence(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return TimedOut
	}
	return Network
}

// plain removes unusual characters from a code, so that a server cannot put text into
// messages for operators.
func plain(code string) string {
	code = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return -1
	}, code)
	return code[:min(len(code), 64)]
}
