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

// Codes of a Reply where the server sent none.
const (
	OK       = "200"
	TimedOut = "timeout"  // no answer within the time of the call
	Network  = "network"  // no connection, or it broke
	Canceled = "canceled" // the caller ended the call
)

// Reply is the outcome of one call. It holds a server's code and nothing else of
// its text: messages quote what was sent and name users.
type Reply struct {
	Code   string // the server's, or one of the above; the status where there is no code
	Status int    // 0 without an answer, and for success
	// Action is the action that was not allowed, where AWS says so in its
	// message: evidence, since the text is no contract.
	Action string
}

// OK reports whether the call succeeded.
func (r Reply) OK() bool { return r.Code == OK }

// Silent reports whether there was no answer.
func (r Reply) Silent() bool { return r.Code == TimedOut || r.Code == Network || r.Code == Canceled }

// Denied reports whether the key may not do what was asked. A 403 without a code
// is one too: a HEAD has no body to bring it in. Every other code of 403 (an
// archived object, a skewed clock, an unknown key) says nothing about what the
// key may do.
func (r Reply) Denied() bool {
	return Denied(r.Code) || r.Code == "403" && r.Status == http.StatusForbidden
}

// Passing reports whether the same call may be answered otherwise a moment later:
// the key is not known everywhere yet, or the server is slow, busy or failing.
func (r Reply) Passing() bool { return Passing(r.Code) }

// Unimplemented reports whether the server does not have the call.
func (r Reply) Unimplemented() bool {
	return Unimplemented(r.Code) || r.Status == http.StatusNotImplemented || r.Status == http.StatusMethodNotAllowed
}

// Passing is Reply.Passing for a code that was kept.
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

// ReplyOf reads the outcome of a call of the SDK.
func ReplyOf(err error) Reply {
	if err == nil {
		return Reply{Code: OK}
	}
	var r Reply
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		r.Status = resp.HTTPStatusCode()
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && r.Status != 0 {
		r.Code, r.Action = plain(Code(api, r.Status)), MissingAction(api.ErrorMessage())
	}
	switch {
	case r.Status == 0:
		r.Code = Silence(err)
	case r.Code == "", r.Status >= 500 && r.Status != http.StatusNotImplemented && !r.Passing():
		r.Code = strconv.Itoa(r.Status)
	}
	return r
}

// Silence is the code of a call that got no answer.
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

// plain drops from a code what codes do not have, so that a server cannot put
// text of its own into what operators see.
func plain(code string) string {
	code = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return -1
	}, code)
	return code[:min(len(code), 64)]
}
