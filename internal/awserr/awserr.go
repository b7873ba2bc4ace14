// Package awserr says what the error codes of AWS mean: those of S3, IAM and
// STS, and of servers that speak like them. It is the one place that lists
// codes, so that the proxy, the probes and the provisioner agree on them.
package awserr

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
)

// Code is the code that the server sent, and empty where it sent none. The SDK
// makes one up from the status of a reply without a body, with the text of the
// status for a message. S3 itself has codes like that (ServiceUnavailable), but
// says more about them.
func Code(api smithy.APIError, status int) string {
	code, text := api.ErrorCode(), http.StatusText(status)
	if code == "UnknownError" || api.ErrorMessage() == text && code == strings.ReplaceAll(text, " ", "") {
		return ""
	}
	return code
}

// Denied reports whether the key is known and lacks the right.
func Denied(code string) bool {
	switch code {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		return true
	}
	return false
}

// KeyUnknown reports whether the key is not known, or not known yet: a new key
// takes some seconds to reach all servers of a region.
func KeyUnknown(code string) bool {
	switch code {
	case "InvalidAccessKeyId", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException":
		return true
	}
	return false
}

// KeyRefused reports whether the key itself is refused, whatever it is used for.
func KeyRefused(code string) bool {
	switch code {
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthFailure", "MissingAuthenticationToken",
		"IncompleteSignature":
		return true
	}
	return KeyUnknown(code)
}

// Throttled reports whether there were too many calls.
func Throttled(code string) bool {
	switch code {
	case "SlowDown", "RequestLimitExceeded", "BandwidthLimitExceeded":
		return true
	}
	return strings.HasPrefix(code, "Throttl") || strings.HasPrefix(code, "RequestThrottled") ||
		strings.HasPrefix(code, "TooManyRequests")
}

// Timeout reports whether the server waited too long for the request.
func Timeout(code string) bool { return code == "RequestTimeout" || code == "RequestTimeoutException" }

// Temporary reports whether the same call may succeed a moment later, because the
// server is busy or failing.
func Temporary(code string) bool {
	switch code {
	case "InternalError", "InternalFailure", "ServiceFailure", "ServiceFailureException", "ServiceUnavailable":
		return true
	}
	return Throttled(code) || Timeout(code)
}

// Busy reports whether IAM refuses a change because another change of the same
// user or policy is under way.
func Busy(code string) bool {
	switch code {
	case "ConcurrentModification", "ConcurrentModificationException", "EntityTemporarilyUnmodifiable":
		return true
	}
	return false
}

// Unimplemented reports whether the server does not have the call.
func Unimplemented(code string) bool {
	switch code {
	case "NotImplemented", "InvalidAction", "UnknownOperation", "UnknownOperationException", "MethodNotAllowed",
		"UnsupportedOperation":
		return true
	}
	return false
}

// notAllowed is how AWS says in a message which action was missing: "User: … is
// not authorized to perform: s3:ListBucket on resource: …".
var notAllowed = regexp.MustCompile(`is not authorized to perform: ([a-z0-9-]{1,32}:[A-Za-z]{1,64}) `)

// MissingAction is the action that a message names as not allowed, and empty
// where it names none. It is evidence and no proof: the text is no contract.
func MissingAction(message string) string {
	found := notAllowed.FindStringSubmatch(message)
	if found == nil {
		return ""
	}
	return found[1]
}
