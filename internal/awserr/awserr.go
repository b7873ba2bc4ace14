// Package awserr classifies the error codes of S3, IAM and STS, and of compatible
// servers. No other package lists codes, so that the proxy, the probes and the
// provisioner agree on them.
package awserr

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
)

// Code is the code that the server sent, and empty if it sent none. For a reply without
// a body the SDK derives a code from the status, with the status text as message. S3
// has such codes too (ServiceUnavailable), but with another message.
func Code(api smithy.APIError, status int) string {
	code, text := api.ErrorCode(), http.StatusText(status)
	if code == "UnknownError" || api.ErrorMessage() == text && code == strings.ReplaceAll(text, " ", "") {
		return ""
	}
	return code
}

// Message is the message that the server sent, and empty if it sent none. It may quote the
// request and name users, keys and accounts.
func Message(api smithy.APIError, status int) string {
	message := api.ErrorMessage()
	if message == "UnknownError" || Code(api, status) == "" && message == http.StatusText(status) {
		return ""
	}
	return message
}

// Denied reports whether the key is known and lacks the permission.
func Denied(code string) bool {
	switch code {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		return true
	}
	return false
}

// KeyUnknown reports whether the server does not know the key, or not yet: a new key
// takes some seconds to reach all servers of a region.
func KeyUnknown(code string) bool {
	switch code {
	case "InvalidAccessKeyId", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException":
		return true
	}
	return false
}

// KeyRefused reports whether the key itself is refused, for every action.
func KeyRefused(code string) bool {
	switch code {
	case "AuthFailure", "MissingAuthenticationToken", "IncompleteSignature":
		return true
	}
	return faults[code].OfKey()
}

// Throttled reports whether the server refused the call because of its rate.
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

// Busy reports whether IAM refuses a change because another change of the same user or
// policy is in progress.
func Busy(code string) bool {
	switch code {
	case "ConcurrentModification", "ConcurrentModificationException", "EntityTemporarilyUnmodifiable":
		return true
	}
	return false
}

// Unimplemented reports whether the server does not support the call.
func Unimplemented(code string) bool {
	switch code {
	case "NotImplemented", "InvalidAction", "UnknownOperation", "UnknownOperationException", "MethodNotAllowed",
		"UnsupportedOperation":
		return true
	}
	return false
}

// notAllowed matches the part of an AWS message that names the denied action: "User: …
// is not authorized to perform: s3:ListBucket on resource: …".
var notAllowed = regexp.MustCompile(`is not authorized to perform: ([a-z0-9-]{1,32}:[A-Za-z]{1,64}) `)

// MissingAction is the denied action that a message names, and empty if it names none.
// It is evidence and no proof, because AWS does not document the text.
func MissingAction(message string) string {
	found := notAllowed.FindStringSubmatch(message)
	if found == nil {
		return ""
	}
	return found[1]
}
