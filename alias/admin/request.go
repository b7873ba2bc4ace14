package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ixmage/alias"
)

// record is what is known of a request for its log line and its answer.
type record struct {
	id     string
	method string
	route  string // the pattern, not the path: what a client sent is not logged
	thing  string // "alias", "credential", …, if it is about one
	name   alias.Name
	code   string // of the problem, if there is one
	err    error  // what went wrong inside
	start  time.Time
}

// about notes what the request is about.
func (r *record) about(thing string, name alias.Name) {
	if name != "" {
		r.thing, r.name = thing, name
	}
}

type recordKey struct{}

func newRecord(ctx *fasthttp.RequestCtx) *record {
	rec := &record{id: rand.Text(), start: time.Now(), method: methodOf(ctx)}
	ctx.SetUserValue(recordKey{}, rec)
	return rec
}

func recordOf(ctx *fasthttp.RequestCtx) *record {
	rec, ok := ctx.UserValue(recordKey{}).(*record)
	if !ok {
		return newRecord(ctx)
	}
	return rec
}

// methodOf names the method if HTTP has such a one: what a client made up does
// not get into the log.
func methodOf(ctx *fasthttp.RequestCtx) string {
	method := string(ctx.Method())
	for _, known := range fiber.DefaultMethods {
		if method == known {
			return known
		}
	}
	return "other"
}

// handle is the outermost part of every request.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	rec := newRecord(ctx)
	defer s.finish(ctx, rec)
	defer func() {
		if p := recover(); p != nil {
			ctx.Response.Reset()
			writeProblem(ctx, rec, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	if rec.method == "other" {
		// Fiber answers a method that it does not know with plain text, before
		// any of our handlers. No route has TRACE, so with it the request meets
		// the token, 404 and 405 like all others.
		ctx.Request.Header.SetMethod(fiber.MethodTrace)
	}
	s.routes(ctx)
}

// finish sets what every answer has and writes the log line.
func (s *Server) finish(ctx *fasthttp.RequestCtx, rec *record) {
	h := &ctx.Response.Header
	h.Set(fiber.HeaderXRequestID, rec.id)
	h.Set(fiber.HeaderCacheControl, "no-store")
	h.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	status := ctx.Response.StatusCode()
	level := levelOf(rec, status)
	attrs := []slog.Attr{
		slog.String("method", rec.method), slog.String("route", rec.route), slog.Int("status", status),
		slog.String("request_id", rec.id), slog.Duration("duration", time.Since(rec.start)),
	}
	if rec.name != "" {
		attrs = append(attrs, slog.String(rec.thing, string(rec.name)))
	}
	if rec.code != "" {
		attrs = append(attrs, slog.String("problem", rec.code))
	}
	if rec.err != nil {
		attrs = append(attrs, slog.String("error", rec.err.Error()))
	}
	// The request is over: it has no context that a handler of logs could use.
	s.log.LogAttrs(context.Background(), level, "admin request", attrs...)
}

func levelOf(rec *record, status int) slog.Level {
	switch {
	case rec.code == "unauthorized", status >= fiber.StatusInternalServerError && rec.code != "not-ready":
		return slog.LevelWarn
	case rec.method == fiber.MethodGet, rec.method == fiber.MethodHead:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// refuse answers what a handler, or Fiber's router, returned as an error.
func (s *Server) refuse(c *fiber.Ctx, err error) error {
	ctx := c.Context()
	writeProblem(ctx, recordOf(ctx), ofRouter(err))
	return nil
}

// ofRouter turns Fiber's own errors, whose text repeats the path, into ours.
func ofRouter(err error) error {
	var e *fiber.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case fiber.StatusNotFound:
		return errNoRoute
	case fiber.StatusMethodNotAllowed:
		return errMethod
	}
	return err
}

// refuseMalformed answers what fasthttp could not read as a request. Its errors
// repeat what the client sent, which may be the token: they go nowhere.
func (s *Server) refuseMalformed(ctx *fasthttp.RequestCtx, err error) {
	rec := newRecord(ctx)
	defer s.finish(ctx, rec)
	var timeout net.Error
	switch {
	case errors.As(err, new(*fasthttp.ErrSmallBuffer)):
		err = errHeaders
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		err = errTooLarge
	case errors.As(err, &timeout) && timeout.Timeout():
		err = errTimeout
	default:
		err = errBadRequest
	}
	linger(ctx)
	writeProblem(ctx, rec, err)
}
