package origin

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"ixmage/internal/awserr"
)

// Outcome says how a call to S3 ended.
type Outcome string

// Outcomes of calls. The last four are not labels of a metric: see Label.
const (
	OutcomeOK            Outcome = "ok"
	OutcomeNotModified   Outcome = "not_modified"
	OutcomeNotFound      Outcome = "not_found"      // no such object
	OutcomeDenied        Outcome = "denied"         // AccessDenied: also S3's answer for a missing object
	OutcomeBadCredential Outcome = "bad_credential" // the key pair is refused, whatever the object
	OutcomeThrottled     Outcome = "throttled"
	OutcomeTimeout       Outcome = "timeout" // slower than a deadline
	OutcomeNetwork       Outcome = "network" // unreachable, or the connection broke
	OutcomeError         Outcome = "error"   // S3 failed, or its reply is not valid
	OutcomeAborted       Outcome = "aborted" // the caller went away

	OutcomeOverloaded   Outcome = "overloaded"   // no free slot or file descriptor: S3 was not asked
	OutcomeRange        Outcome = "range"        // 416: the object has no such bytes
	OutcomePrecondition Outcome = "precondition" // 412: If-Match does not hold
	OutcomeCircuitOpen  Outcome = "circuit_open" // the circuit is open: S3 was not asked
)

// Changed reports whether the object is no longer the one that was asked for.
func (o Outcome) Changed() bool { return o == OutcomeRange || o == OutcomePrecondition }

// Label is the outcome in metrics. A 412 or 416 is ok: S3 answered the request. Calls
// that an open circuit refuses are not counted, because no request went out.
func (o Outcome) Label() string {
	switch {
	case o.Changed():
		return string(OutcomeOK)
	case o == OutcomeOverloaded:
		return string(OutcomeNetwork) // a call that had a slot and got no file descriptor
	}
	return string(o)
}

// Errors inside an *Error that say why a body ended early.
var (
	ErrTruncated = errors.New("body ended before its last byte")
	ErrCorrupt   = errors.New("body differs from its declared length or checksum")
	ErrChanged   = errors.New("object changed while its body was read")
)

// Errors inside an *Error about a reply that cannot be used.
var (
	ErrNoEnd    = errors.New("reply has neither a length nor chunks nor a checksum")
	ErrBadRange = errors.New("reply is not the range that was asked for")
)

// ErrOtherVersion is a 304 that would refresh one version with the headers of
// another (RFC 9111, section 4.3.4).
var ErrOtherVersion = errors.New("reply says that another version is unchanged")

// ErrNoSession is inside an *Error if there are no temporary keys to sign with. S3 was not asked.
var ErrNoSession = errors.New("no session")

var (
	errNoObject  = errors.New("key is empty or ends in a slash")
	errSlow      = errors.New("no answer in time")
	errClosed    = errors.New("body is closed")
	errQueueFull = errors.New("too many calls wait for S3")
	errQueueTime = errors.New("no slot became free before the deadline")

	errCircuitOpen = errors.New("too many calls failed")
	errBroken      = errors.New("the call panicked")
)

// Error is a call to S3, or the reading of a body, that failed. Its text is for
// logs and operators: it names S3's code, request id and message and never a secret, and
// nothing in it is meant for clients.
type Error struct {
	Outcome     Outcome
	Operation   string // GetObject or HeadObject; empty when S3 was not asked
	Status      int    // HTTP status of S3's reply; 0 without one
	Code        string // S3's error code, as S3 sent it; empty without one
	Message     string // S3's own message, cleaned by cleanMessage; empty without one
	Fault       awserr.Fault
	Region      string // the region that S3 names when it refuses another one; empty without one
	S3RequestID string
	Cause       Cause         // why there was no reply; empty with one
	Hint        string        // what to do about Cause; may be empty
	RetryAfter  time.Duration // set for OutcomeThrottled, OutcomeOverloaded and OutcomeCircuitOpen
	Outdated    bool          // set for OutcomeBadCredential if the key may have been replaced: see Config
	err         error
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Operation != "" {
		b.WriteString(e.Operation + ": ")
	}
	b.WriteString(string(e.Outcome))
	if e.Code != "" {
		b.WriteString(": " + e.Code)
	}
	if e.Status != 0 {
		b.WriteString(": status " + strconv.Itoa(e.Status))
	}
	if e.S3RequestID != "" {
		b.WriteString(", S3 request id " + e.S3RequestID)
	}
	if reason := reason(e.err); reason != "" {
		b.WriteString(": " + reason)
	}
	if e.Message != "" {
		b.WriteString(": S3 says " + strconv.Quote(e.Message))
	}
	if e.Hint != "" {
		b.WriteString(". " + e.Hint)
	}
	return b.String()
}

// IsHead reports whether the failed request was a HEAD, whose reply has no error document.
func (e *Error) IsHead() bool { return e.Operation == opHead }

// Unwrap returns the cause. It is never io.EOF, which readers would take for a
// complete body.
func (e *Error) Unwrap() error { return e.err }

// brief copies e without the SDK's error, which would keep a whole reply in memory. It
// keeps its text and the errors of this package that it wraps.
func (e *Error) brief() *Error {
	b := *e
	b.Code, b.S3RequestID, b.Region = strings.Clone(e.Code), strings.Clone(e.S3RequestID), strings.Clone(e.Region)
	text := briefError{text: reason(e.err)}
	for _, known := range []error{ErrTruncated, ErrCorrupt, ErrChanged, ErrBadRange, ErrNoEnd, ErrNoSession} {
		if errors.Is(e.err, known) {
			text.is = known
			break
		}
	}
	if b.err = nil; text != (briefError{}) {
		b.err = &text
	}
	return &b
}

// briefError is the text of an error, and the error of this package that it wrapped.
type briefError struct {
	text string
	is   error
}

func (e *briefError) Error() string { return e.text }
func (e *briefError) Unwrap() error { return e.is }

// reason is the cause without the SDK's layers and without the URL. S3's own message
// is left out here: Error.Message has it without secrets. The meaning for a body is kept.
func reason(err error) string {
	var u *url.Error
	var api smithy.APIError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &api):
		for _, body := range []error{ErrChanged, ErrTruncated} {
			if errors.Is(err, body) {
				return body.Error()
			}
		}
		return ""
	case errors.As(err, &u):
		err = u.Err
	}
	return clip(err.Error(), 300)
}

// clip bounds a text that a server sent to n bytes on one line.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s[:min(len(s), n)])
	return strings.ToValidUTF8(s, "")
}

// callError makes an *Error from what the SDK returned. ctx is the call's own:
// its cause shows whether a timer of this package or the caller ended the call.
func callError(ctx context.Context, operation string, err error) *Error {
	e := &Error{Operation: operation, err: err}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) {
		e.Status = resp.HTTPStatusCode()
		e.S3RequestID = clip(resp.ServiceRequestID(), 128)
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		e.Code = clip(awserr.Code(api, e.Status), 64)
		e.readMessage(awserr.Message(api, e.Status), resp, keyIDsOf(ctx))
	}
	if e.Status == http.StatusUnauthorized && e.Fault == awserr.NoFault {
		e.Fault = awserr.RefusedKey // R2's code and message are those of the status
	}
	switch outcome, known := outcomeOfCode(e.Code, e.Fault); {
	case known:
		e.Outcome = outcome
	case e.Status != 0:
		e.Outcome = outcomeOfStatus(e.Status, e.Code)
	default:
		e.fail(ctx, err)
	}
	switch {
	case e.Outcome == OutcomeThrottled:
		e.RetryAfter = retryAfter(resp)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		// No file descriptor is free for a connection: the cause is this process, not S3.
		e.Outcome, e.RetryAfter, e.Cause, e.Hint = OutcomeOverloaded, defaultRetryAfter, "", ""
	}
	e.err = noEOF(e.err)
	return e
}

// fail sets the outcome and the cause of a call without a reply.
func (e *Error) fail(ctx context.Context, err error) {
	e.Outcome = outcomeOfCause(ctx, err)
	var at variant
	var last lastError
	if t, ok := ctx.Value(callStatsKey{}).(*callStats); ok {
		at = t.endpoint
		last, _ = t.failure.Load().(lastError)
	}
	switch e.Outcome {
	case OutcomeTimeout:
		e.Cause, e.Hint = CauseTimeout, slowHint
		for _, err := range []error{last.error, err} {
			// The timer closes the connection: a reset is no cause.
			if cause, hint := diagnose(err, at); hint != "" && cause != CauseReset {
				e.Cause, e.Hint = cause, hint
			}
		}
	case OutcomeNetwork, OutcomeError:
		e.Cause, e.Hint = diagnose(err, at)
	default: // the caller left, or no descriptor is free
	}
}

// readMessage sets the fields that come from S3's message and error document.
func (e *Error) readMessage(message string, resp *awshttp.ResponseError, keyIDs []string) {
	e.Message = cleanMessage(message, keyIDs...)
	e.Fault = awserr.FaultOf(e.Code, message)
	if e.Fault != awserr.Region {
		return
	}
	region := headerOf(resp).Get("X-Amz-Bucket-Region")
	if region == "" && resp != nil && resp.Response != nil {
		if d, ok := resp.Response.Body.(*errorDocument); ok { // some servers name it there alone
			region = awserr.RegionOf(string(d.text))
		}
	}
	e.Region = clip(cmp.Or(region, awserr.RegionOf(message)), 32)
}

func outcomeOfCode(code string, fault awserr.Fault) (Outcome, bool) {
	switch {
	case fault.OfKey():
		return OutcomeBadCredential, true
	case fault == awserr.Cap: // AccessDenied of B2
		return OutcomeError, true
	}
	switch code {
	case "NoSuchKey", "NotFound":
		return OutcomeNotFound, true
	case "InvalidRange":
		return OutcomeRange, true
	case "PreconditionFailed":
		return OutcomePrecondition, true
	// A missing bucket means a broken alias, not a broken URL.
	case "NoSuchBucket":
		return OutcomeError, true
	}
	switch {
	case awserr.Denied(code):
		return OutcomeDenied, true
	case awserr.KeyRefused(code):
		return OutcomeBadCredential, true
	case awserr.Throttled(code):
		return OutcomeThrottled, true
	case awserr.Timeout(code):
		return OutcomeTimeout, true
	}
	return "", false
}

func outcomeOfStatus(status int, code string) Outcome {
	switch status {
	case http.StatusNotModified:
		return OutcomeNotModified
	case http.StatusNotFound:
		return OutcomeNotFound
	case http.StatusUnauthorized:
		return OutcomeBadCredential
	case http.StatusForbidden:
		// Every other code of 403 (an archived object, a skewed clock, a
		// closed account) is an error and says nothing about the object.
		if code == "" {
			return OutcomeDenied
		}
	case http.StatusRequestTimeout:
		return OutcomeTimeout
	case http.StatusPreconditionFailed:
		return OutcomePrecondition
	case http.StatusRequestedRangeNotSatisfiable:
		return OutcomeRange
	case http.StatusTooManyRequests:
		return OutcomeThrottled
	}
	return OutcomeError
}

// outcomeOfCause is the outcome of a call without a reply.
func outcomeOfCause(ctx context.Context, err error) Outcome {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSlow), errors.Is(cause, context.DeadlineExceeded):
		return OutcomeTimeout
	case cause != nil:
		return OutcomeAborted
	}
	if isDial(err) {
		// The server cannot be reached, even if that took until a timeout.
		return OutcomeNetwork
	}
	if isTimeout(err) {
		return OutcomeTimeout
	}
	if _, op := errors.AsType[*net.OpError](err); op || isTLS(err) || isConnBroken(err) {
		return OutcomeNetwork
	}
	return OutcomeError
}

// outcomeOf reads the outcome of an error that this package made.
func outcomeOf(err error) Outcome {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Outcome
	}
	return OutcomeError
}

// isDial reports whether name resolution or the TCP connection failed.
func isDial(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

// connectionFailed reports whether no connection was made. No object can be the cause.
func connectionFailed(err error) bool { return isDial(err) || isTLS(err) }

func isTLS(err error) bool {
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var handshake *handshakeError
	return errors.As(err, &handshake) || errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &verify) ||
		errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid)
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func isConnBroken(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &errno)
}

// noEOF keeps errors.Is(err, io.EOF) false.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w (%s)", io.ErrUnexpectedEOF, reason(err))
	}
	return err
}

// headerOf returns nil if there was no reply.
func headerOf(resp *awshttp.ResponseError) http.Header {
	if resp == nil || resp.HTTPResponse() == nil || resp.HTTPResponse().Response == nil {
		return nil
	}
	return resp.HTTPResponse().Header
}

const (
	defaultRetryAfter = time.Second
	maxRetryAfter     = time.Minute
)

// retryAfter is the Retry-After of a throttling reply, at most maxRetryAfter.
func retryAfter(resp *awshttp.ResponseError) time.Duration {
	seconds, err := strconv.Atoi(headerOf(resp).Get("Retry-After"))
	if err != nil || seconds < 1 {
		return defaultRetryAfter
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}
