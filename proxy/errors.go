package proxy

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"ixmage/cache"
	"ixmage/proxy/origin"
	"ixmage/proxy/transform"
)

// problem is an answer that is not a picture: a status and a code that clients may rely
// on. The details of a failure go to the log only.
type problem struct {
	status int
	code   string
	title  string
}

// The problems that clients can see. Statuses of failures are decided in this file and
// nowhere else.
var (
	probNotFound     = problem{http.StatusNotFound, "not-found", "Not found"}
	probBadKey       = problem{http.StatusBadRequest, "bad-key", "The path is not a valid key"}
	probBadRequest   = problem{http.StatusBadRequest, "bad-request", "The request is malformed"}
	probNotImage     = problem{http.StatusUnsupportedMediaType, "not-an-image", "The object is not a picture"}
	probPrecondition = problem{http.StatusPreconditionFailed, "precondition-failed", "A precondition does not hold"}
	probRange        = problem{http.StatusRequestedRangeNotSatisfiable, "range", "The range lies outside the object"}
	probMethod       = problem{http.StatusMethodNotAllowed, "method", "Only GET and HEAD are allowed"}
	probBody         = problem{http.StatusRequestEntityTooLarge, "body", "A request must not have a body"}
	probExpect       = problem{http.StatusExpectationFailed, "expect", "The Expect header is not supported"}
	probHeaders      = problem{http.StatusRequestHeaderFieldsTooLarge, "headers", "The request header is too large"}
	probSlow         = problem{http.StatusRequestTimeout, "request-timeout", "The request did not arrive in time"}
	probVersion      = problem{http.StatusHTTPVersionNotSupported, "http-version", "Only HTTP/1 is supported"}
	probCredential   = problem{http.StatusBadGateway, "origin-credential", "The origin refused our credential"}
	probDenied       = problem{http.StatusBadGateway, "origin-denied", "The origin refuses all of the alias"}
	probOrigin       = problem{http.StatusBadGateway, "origin-error", "The origin failed"}
	probUnreachable  = problem{http.StatusBadGateway, "origin-unreachable", "The origin cannot be reached"}
	probTimeout      = problem{http.StatusGatewayTimeout, "origin-timeout", "The origin did not answer in time"}
	probThrottled    = problem{http.StatusServiceUnavailable, "origin-throttled", "The origin is throttling us"}
	probCircuit      = problem{http.StatusServiceUnavailable, "circuit-open",
		"The origin fails, and is left alone for a moment"}
	probSignature     = problem{http.StatusForbidden, "signature", "The URL needs a valid signature"}
	probBadOption     = problem{http.StatusBadRequest, "bad-option", "An option of the URL is not valid"}
	probTransform     = problem{http.StatusUnprocessableEntity, "transform-failed", "The picture cannot be transformed"}
	probLimited       = problem{http.StatusTooManyRequests, "transform-limit", "Too much work was asked for"}
	probOverloaded    = problem{http.StatusServiceUnavailable, "overloaded", "Too many requests are waiting"}
	probRegistryStale = problem{http.StatusServiceUnavailable, "registry-stale", "The configuration cannot be checked now"}
	probInternal      = problem{http.StatusInternalServerError, "internal", "Internal error"}
)

// problemOf is the one table from error to status. A wrapped error gets the status of the
// error that it wraps; an unknown error is internal.
func problemOf(err error) problem {
	switch {
	case errors.Is(err, errNoRoute):
		return probNotFound
	case errors.Is(err, errBadKey):
		return probBadKey
	case errors.Is(err, errNotImage):
		return probNotImage
	case errors.Is(err, errAliasDenied):
		return probDenied
	case errors.Is(err, errVersionGone), errors.Is(err, errNoLength), errors.Is(err, origin.ErrOtherVersion),
		errors.Is(err, errUnconfirmed):
		return probOrigin
	case errors.Is(err, cache.ErrClosed), errors.Is(err, cache.ErrAbandoned), errors.Is(err, errClientLimit):
		return probOverloaded
	case errors.Is(err, cache.ErrTooLong):
		return probOrigin
	}
	if prob, ok := variantProblem(err); ok {
		return prob
	}
	if oe, ok := errors.AsType[*origin.Error](err); ok {
		return originProblem(oe)
	}
	return probInternal
}

// variantProblem maps the errors of requests for variants.
func variantProblem(err error) (problem, bool) {
	refused, ok := errors.AsType[*transform.RefusedError](err)
	switch {
	case ok && refused.Why == transform.CropOutside:
		return probBadOption, true
	case ok, transform.Killed(err), errors.Is(err, transform.ErrInternal):
		return probTransform, true
	case errors.Is(err, transform.ErrLimited):
		return probLimited, true
	case errors.Is(err, transform.ErrOverloaded), errors.Is(err, transform.ErrOff):
		return probOverloaded, true
	case errors.Is(err, transform.ErrSlowSource):
		return probTimeout, true
	}
	if _, ok := errors.AsType[*transform.OptionError](err); ok {
		return probBadOption, true
	}
	if _, ok := errors.AsType[*unsignedError](err); ok {
		return probSignature, true
	}
	return problem{}, false
}

// detailOf says more of a problem with an option or with the picture; empty for all others. It is for everybody
// who may see the picture, so it has nothing of the server, nor of a watermark but that there is one.
func detailOf(err error) string {
	if option, ok := errors.AsType[*transform.OptionError](err); ok {
		return option.Detail
	}
	if refused, ok := errors.AsType[*transform.RefusedError](err); ok {
		return refused.Error()
	}
	if transform.Killed(err) {
		return "the picture takes too much time or memory"
	}
	return ""
}

// originProblem maps the outcome of a request to S3. A missing object, a missing alias
// and a refusal look the same to clients: without s3:ListBucket, S3 itself answers
// AccessDenied for a missing object.
func originProblem(oe *origin.Error) problem {
	switch oe.Outcome {
	case origin.OutcomeNotFound, origin.OutcomeDenied:
		return probNotFound
	case origin.OutcomeBadCredential:
		if oe.Outdated {
			return probRegistryStale
		}
		return probCredential
	case origin.OutcomeThrottled:
		return probThrottled
	case origin.OutcomeTimeout:
		return probTimeout
	case origin.OutcomeNetwork:
		return probUnreachable
	case origin.OutcomeCircuitOpen:
		return probCircuit
	case origin.OutcomeOverloaded:
		return probOverloaded
	case origin.OutcomeError, origin.OutcomeAborted, origin.OutcomeNotModified,
		origin.OutcomeRange, origin.OutcomePrecondition:
		return probOrigin
	case origin.OutcomeOK: // is no error
	}
	return probInternal
}

// requestProblem maps the error of a request that the HTTP server could not read.
func requestProblem(err error) problem {
	var small *fasthttp.ErrSmallBuffer
	var netErr net.Error
	switch {
	case errors.As(err, &small):
		return probHeaders
	case errors.Is(err, fasthttp.ErrBodyTooLarge), errors.Is(err, fasthttp.ErrUnsupportedTransferEncoding):
		return probBody
	case errors.As(err, &netErr) && netErr.Timeout():
		return probSlow
	}
	return probBadRequest
}

// retryAfter is the Retry-After of a 503, in seconds.
func retryAfter(err error) string {
	wait := time.Second
	if oe, ok := errors.AsType[*origin.Error](err); ok {
		wait = max(wait, oe.RetryAfter)
	}
	if limited, ok := errors.AsType[*transform.LimitedError](err); ok {
		wait = max(wait, limited.RetryAfter)
	}
	return strconv.Itoa(int((wait + time.Second - 1) / time.Second))
}
