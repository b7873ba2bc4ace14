package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"ixmage/cache"
	"ixmage/proxy/origin"
)

// Tracer begins the spans of requests. It must be quick and safe for concurrent use.
type Tracer interface {
	// Start begins the span of a request that arrived at a time, or returns nil if the request
	// is not traced. parent is the traceparent (W3C Trace Context) that a trusted proxy sent,
	// "" if there is none; it may be malformed.
	Start(parent string, at time.Time) origin.Span
}

// trace begins the span of a request. Health checks are not traced. The traceparent of a client
// that is no trusted proxy is ignored: it could have every request of its own traced.
func (x *exchange) trace(h *fasthttp.RequestHeader) {
	if bytes.HasPrefix(h.RequestURI(), healthPrefix) {
		return
	}
	parent := ""
	if x.open != nil && x.open.trusted {
		parent = string(h.Peek("traceparent"))
	}
	x.span = x.proxy.tracer.Start(parent, x.start)
}

// endSpan ends the span of a request with what the log and the metrics have of it.
func (x *exchange) endSpan() {
	s := x.span
	s.Set("http.request.method", x.method())
	s.SetInt("http.response.status_code", int64(x.code))
	s.SetInt("http.response.body.size", x.bytes)
	s.Set("ixmage.request_id", string(x.id[:]))
	s.Set("ixmage.cache", x.cache)
	if x.alias != "" {
		s.Set("ixmage.alias", x.alias)
	}
	if x.aborted {
		s.Set("ixmage.client_aborted", "true")
	}
	if x.broken {
		s.End("cut")
		return
	}
	s.End(failureOf(x.prob))
}

// fetchSpan is the span of a fetch, which lasts until its body is closed. Its methods may be
// called on nil.
type fetchSpan struct {
	origin.Span

	request origin.SpanID // that started the fetch
}

// startFetch begins the span of a fetch, and gives it to calls to S3 with the context that it
// returns. Without a parent it returns nil and ctx.
func startFetch(ctx context.Context, parent origin.Span, revalidate bool) (context.Context, *fetchSpan) {
	if parent == nil {
		return ctx, nil
	}
	name := "fetch"
	if revalidate {
		name = "revalidate"
	}
	s := &fetchSpan{Span: parent.Start(name), request: parent.ID()}
	return origin.WithSpan(ctx, s.Span), s
}

// resolve notes the span in an error of the fetch, so that other requests that get the error can
// link to it, and ends it with the body.
func (s *fetchSpan) resolve(src *cache.Source, err error) (*cache.Source, error) {
	switch {
	case s == nil:
		return src, err
	case err != nil:
		s.End(failureOf(problemOf(err)))
		return src, &tracedError{err, s}
	case src.Same:
		s.End("")
	default:
		src.Body = &tracedBody{ReadCloser: src.Body, span: s}
	}
	return src, nil
}

// mark notes the span in an object that the fetch has made, for the same purpose.
func (s *fetchSpan) mark(src *cache.Source) {
	if s != nil && src != nil {
		id := s.ID()
		src.Meta.(*object).fetched = &id
	}
}

// failureOf is the failure of a span that ends with a problem. One that the client, or a missing
// object, has caused is none.
func failureOf(p problem) string {
	if p.status < http.StatusInternalServerError {
		return ""
	}
	return p.code
}

// tracedError is the error of a fetch that is traced.
type tracedError struct {
	error

	span *fetchSpan
}

func (e *tracedError) Unwrap() error { return e.error }

// tracedBody ends the span of a fetch.
type tracedBody struct {
	io.ReadCloser

	span *fetchSpan
	once sync.Once
}

func (b *tracedBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(func() { b.span.End("") })
	return err
}

// linkFetch links the request to the fetch that it joined, if both are traced.
func (x *exchange) linkFetch(r *cache.Reader, err error) {
	if x.span == nil {
		return
	}
	if err == nil {
		if id := r.Meta.(*object).fetched; id != nil && r.Status == cache.Collapsed {
			x.span.Link(*id)
		}
		return
	}
	if e, ok := errors.AsType[*tracedError](err); ok && e.span.request != x.span.ID() {
		x.span.Link(e.span.ID())
	}
}
