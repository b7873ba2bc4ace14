package admin

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"ixmage/alias"
)

// record has the data of a request for the log line and the answer.
type record struct {
	id       string
	method   string // empty if the request could not be parsed
	route    string // the pattern and not the path, because text of a client is not logged
	resource string // "alias", "credential", …
	name     alias.Name
	code     string // of the problem, if there is one
	err      error  // the cause of an answer of 500 or above
	actor    string // of the token, if it has one
	admitted bool   // it had the token, if its path needs one
	dry      bool   // a dry run, which changes nothing
	start    time.Time
}

// about notes the resource of the request.
func (r *record) about(resource string, name alias.Name) {
	if name != "" {
		r.resource, r.name = resource, name
	}
}

// methods are those of HTTP, in the order in which Allow lists them.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodConnect,
	http.MethodOptions, http.MethodTrace, http.MethodPatch,
}

// newRecord replaces a method that HTTP does not define: text of a client is not logged.
func newRecord(method string) *record {
	if method != "" && !slices.Contains(methods, method) {
		method = "other"
	}
	return &record{id: rand.Text(), start: time.Now(), method: method}
}

// exchange is a request whose body has been read, and its answer.
type exchange struct {
	http.ResponseWriter
	server    *Server
	rec       *record
	conn      *conn
	body      []byte
	begun     bool       // parts of the answer were sent
	principal *principal // nil before it is admitted, and where no token is needed
}

// send sends the headers and a whole body. It writes the log line before the first
// byte. The write deadline starts here, and not with the request as in
// http.Server, because an answer may be held for minutes.
func (x *exchange) send(status int, body []byte) {
	if status != http.StatusNoContent && status != http.StatusNotModified {
		x.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	x.server.finish(x.Header(), x.rec, status)
	_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTimeout))
	x.WriteHeader(status)
	_, _ = x.Write(body) // it fails if the client has left
}

// begin sends the headers of an answer, whose body push sends. After it the answer cannot
// become a problem.
func (x *exchange) begin(status int) error {
	x.begun = true
	x.server.finish(x.Header(), x.rec, status)
	x.WriteHeader(status)
	return x.push(nil)
}

// push sends a part of the body at once. It fails if the client has left, or does not take
// the part in time.
func (x *exchange) push(part []byte) error {
	c := http.NewResponseController(x.ResponseWriter)
	_ = c.SetWriteDeadline(time.Now().Add(pushTimeout))
	if _, err := x.Write(part); err != nil {
		return err
	}
	return c.Flush()
}

// fail answers with the problem of err. If the answer has begun, it cuts the connection, so
// that the client does not take the part for the whole.
func (x *exchange) fail(err error) {
	if x.begun {
		x.server.log.Warn("admin answer cut", "route", x.rec.route, "request_id", x.rec.id, "error", err)
		if x.conn != nil {
			x.conn.Conn.Close()
		}
		return
	}
	h := x.Header()
	maps.DeleteFunc(h, func(name string, _ []string) bool { return name != "Connection" })
	status, text := problem(h, x.rec, err)
	x.send(status, text)
}

// hangUp answers a request that was not read completely, and ends the connection.
func (x *exchange) hangUp(err error) {
	x.Header().Set("Connection", "close")
	x.fail(err)
	_ = http.NewResponseController(x.ResponseWriter).Flush()
	x.conn.linger()
}

// ServeHTTP answers every request of the listener.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, server: s, conn: connOf(r), rec: newRecord(r.Method)}
	x.conn.state.Store(connServing)
	r.TLS = x.conn.tlsState()
	defer func() {
		if p := recover(); p != nil {
			x.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	if err := x.readBody(r); err != nil {
		x.hangUp(err)
		return
	}
	// ServeMux compares unescaped paths, in which %61pi is api. With the raw path as
	// Path it compares the bytes that the client sent.
	r.URL = &url.URL{Path: rawPath(r.URL), RawQuery: r.URL.RawQuery}
	if err := s.admit(x, r); err != nil {
		x.fail(err)
		return
	}
	if x.principal != nil {
		x.rec.admitted, x.rec.actor = true, x.principal.actor()
	}
	s.routes.serve(x, r)
}

// readBody reads the whole body of every request first: the next request on the
// connection begins after it, and net/http detects that the client has left only after
// the body was read. It also refuses some requests that net/http accepts.
func (x *exchange) readBody(r *http.Request) error {
	if r.ProtoMajor != 1 { // net/http passes on the preface of HTTP/2
		return errVersion
	}
	if r.Host == "" && r.ProtoAtLeast(1, 1) && r.Method != http.MethodConnect {
		return errBadRequest
	}
	// net/http hides a Content-Length beside chunks, and a Transfer-Encoding in
	// HTTP/1.0. A proxy in front may see the end of such a request elsewhere (request
	// smuggling), so no further request is read from the connection.
	if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
		x.Header().Set("Connection", "close")
	}
	if r.ContentLength > bodyLimit {
		return errTooLarge
	}
	var err error
	x.body, err = io.ReadAll(io.LimitReader(r.Body, bodyLimit+1))
	switch {
	case len(x.body) > bodyLimit:
		return errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errTimeout
	case err != nil: // its text may repeat bytes of the client
		return errBadRequest
	}
	return nil
}

// rawPath is the path as the client sent it.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// finish sets the headers of every answer and writes the log line.
func (s *Server) finish(h http.Header, rec *record, status int) {
	h.Set("X-Request-Id", rec.id)
	if h.Get("Cache-Control") == "" { // the files of the console have one
		h.Set("Cache-Control", "no-store")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	attrs := []slog.Attr{
		slog.String("method", rec.method), slog.String("route", rec.route), slog.Int("status", status),
		slog.String("request_id", rec.id), slog.Duration("duration", time.Since(rec.start)),
	}
	if rec.name != "" {
		attrs = append(attrs, slog.String(rec.resource, string(rec.name)))
	}
	if rec.actor != "" {
		attrs = append(attrs, slog.String("actor", rec.actor))
	}
	if rec.dry {
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	if rec.code != "" {
		attrs = append(attrs, slog.String("problem", rec.code))
	}
	if rec.err != nil {
		attrs = append(attrs, slog.String("error", rec.err.Error()))
	}
	level := levelOf(rec, status)
	if !s.log.Enabled(s.closing, level) || !rec.admitted && level > slog.LevelDebug && !s.refusals.admit() {
		return
	}
	s.log.LogAttrs(s.closing, level, "admin request", attrs...)
}

func levelOf(rec *record, status int) slog.Level {
	switch {
	case rec.code == "unauthorized", rec.code == "wrong-tokens",
		status >= http.StatusInternalServerError && rec.code != "not-ready" && rec.code != "http-version":
		return slog.LevelWarn
	case rec.method == http.MethodGet, rec.method == http.MethodHead, rec.method == "", rec.dry:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
