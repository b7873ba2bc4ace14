package provision

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// What is noted in place of a code where there is none.
const (
	gotOK       = "200"
	gotTimeout  = "timeout"  // no answer in the probe's time
	gotNetwork  = "network"  // nobody there, or the connection broke
	gotCanceled = "canceled" // whoever asked has gone
)

// reply is what a probe was answered. It holds a server's code and nothing
// else of its text: messages quote what was sent and name users.
type reply struct {
	code   string // S3's or IAM's, or one of the above; the status where there is no code
	status int    // 0 without an answer, and for success
	// named is the action that was not allowed, where AWS says so in its
	// message: evidence, since the text is no contract.
	named string
}

func (r reply) ok() bool { return r.code == gotOK }

// refused reports whether the answer is that the key may not do it.
func (r reply) refused() bool { return isRefusal(r.code, r.status) }

// isRefusal takes a 403 without a code for one too: a HEAD has no body to bring
// it in. Every other code of 403 (an archived object, a skewed clock, an
// unknown key) says nothing about what the key may do.
func isRefusal(code string, status int) bool {
	switch code {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		return true
	}
	return code == "403" && status == http.StatusForbidden
}

// isPassingCode reports whether the same question may be answered otherwise a
// moment later: a key that is not known everywhere yet, a server that is slow,
// busy or failing.
func isPassingCode(code string) bool {
	switch code {
	case "InvalidAccessKeyId", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException",
		gotTimeout, gotNetwork, gotCanceled,
		"RequestTimeout", "RequestTimeoutException", "SlowDown", "RequestLimitExceeded", "BandwidthLimitExceeded",
		"InternalError", "InternalFailure", "ServiceFailure", "ServiceUnavailable", "ServiceFailureException":
		return true
	}
	if strings.HasPrefix(code, "Throttl") || strings.HasPrefix(code, "RequestThrottled") ||
		strings.HasPrefix(code, "TooManyRequests") {
		return true
	}
	status, err := strconv.Atoi(code)
	return err == nil && (status >= 500 && status != http.StatusNotImplemented || status == http.StatusTooManyRequests)
}

// isMissing reports whether the server does not have such a call.
func isMissing(code string, status int) bool {
	switch code {
	case "NotImplemented", "InvalidAction", "UnknownOperation", "UnknownOperationException", "MethodNotAllowed",
		"UnsupportedOperation":
		return true
	}
	return status == http.StatusNotImplemented || status == http.StatusMethodNotAllowed
}

// replyOf reads the outcome of a call of the SDK.
func replyOf(err error) reply {
	if err == nil {
		return reply{code: gotOK}
	}
	var r reply
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		r.status = resp.HTTPStatusCode()
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && r.status != 0 {
		r.code, r.named = ownCode(api, r.status), namedAction(api.ErrorMessage())
	}
	switch {
	case r.status == 0:
		r.code = silence(err)
	case r.code == "", r.status >= 500 && r.status != http.StatusNotImplemented && !isPassingCode(r.code):
		r.code = strconv.Itoa(r.status)
	}
	return r
}

// silence says why there was no answer.
func silence(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.Canceled):
		return gotCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return gotTimeout
	}
	return gotNetwork
}

// ownCode is a server's code, in the form that codes have. The SDK makes one
// up from the status when there is none; that is none.
func ownCode(api smithy.APIError, status int) string {
	code, text := api.ErrorCode(), http.StatusText(status)
	if code == "UnknownError" || api.ErrorMessage() == text && code == strings.ReplaceAll(text, " ", "") {
		return ""
	}
	code = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return -1
	}, code)
	return code[:min(len(code), 64)]
}

// notAllowed is how AWS says in a message which action was missing: "User: … is
// not authorized to perform: s3:ListBucket on resource: …".
var notAllowed = regexp.MustCompile(`is not authorized to perform: ([a-z0-9-]{1,32}:[A-Za-z]{1,64}) `)

func namedAction(message string) string {
	found := notAllowed.FindStringSubmatch(message)
	if found == nil {
		return ""
	}
	return found[1]
}
