package origin

import (
	"context"
	"errors"
	"net/http"
)

// SpanID names a span: its trace in 16 bytes and the span itself in 8 (W3C Trace Context).
type SpanID [24]byte

// Span is a timed part of a traced request, as OpenTelemetry has it. Names and keys are
// constants. Values must not hold a path, key, bucket, key id, address or text of S3 or a
// client. Its methods are safe for concurrent use. A nil Span is a part that is not traced:
// the functions of this package accept it.
type Span interface {
	// Start begins a part of the span. It may outlast the span.
	Start(name string) Span
	ID() SpanID
	// Link says that the span waited for another one.
	Link(to SpanID)
	Set(key, value string)
	SetInt(key string, value int64)
	// End ends the span. failure is why it failed, from a fixed set; "" if it did not.
	End(failure string)
}

type spanKey struct{}

// WithSpan makes calls to S3 with the context parts of span.
func WithSpan(ctx context.Context, span Span) context.Context {
	if span == nil {
		return ctx
	}
	return context.WithValue(ctx, spanKey{}, span)
}

// startSpan begins the span of a call to S3, nil if the context has none.
func startSpan(ctx context.Context, operation string, r Request) Span {
	parent, _ := ctx.Value(spanKey{}).(Span)
	if parent == nil {
		return nil
	}
	s := parent.Start("S3 " + operation)
	s.Set("rpc.service", "S3")
	s.Set("rpc.method", operation)
	s.Set("ixmage.alias", string(r.Route.Alias.Name))
	return s
}

// endSpan ends the span of a call with its outcome. Answers that say something about the
// object are no failures.
func endSpan(s Span, err error) {
	if s == nil {
		return
	}
	outcome := OutcomeOK
	if err != nil {
		outcome = outcomeOf(err)
	}
	s.Set("ixmage.outcome", outcome.Label())
	switch outcome {
	case OutcomeOK, OutcomeNotModified, OutcomeNotFound, OutcomePrecondition, OutcomeRange, OutcomeAborted:
		s.End("")
	default:
		s.End(string(outcome))
	}
}

// attempt begins the span of one request of a call. It may be called on nil.
func (t *callStats) attempt() Span {
	if t == nil || t.span == nil {
		return nil
	}
	s := t.span.Start("attempt")
	s.SetInt("ixmage.attempt", t.requests.Load())
	return s
}

// endAttempt ends the span of a request when its headers have arrived, or will not.
func endAttempt(s Span, resp *http.Response, err error) {
	switch {
	case s == nil:
	case errors.Is(err, context.Canceled):
		s.End("")
	case err != nil && isTimeout(err):
		s.End(string(OutcomeTimeout))
	case err != nil:
		s.End(string(OutcomeNetwork))
	default:
		s.SetInt("http.response.status_code", int64(resp.StatusCode))
		failure := ""
		if resp.StatusCode >= http.StatusInternalServerError {
			failure = "status"
		}
		s.End(failure)
	}
}
