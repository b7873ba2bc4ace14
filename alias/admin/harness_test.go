package admin

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
	"ixmage/alias/sqlstore/sqltest"
	"ixmage/internal/apitest"
	"ixmage/internal/awstest/pipe"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(cmp.Or(code, checkCoverage())) })) //nolint:forbidigo // as goleak does
}

const (
	testToken  = "canary-token-0123456789abcdef"
	testSecret = "canary-secret-AbCdEf/0123456789+xyz" // in every key pair of these tests
	testKeyID  = "AKIAEXAMPLE000000001"
)

// api is a server on a real listener with a real store.
type api struct {
	t      *testing.T
	addr   string
	server *Server
	store  *sqlstore.Store
	dir    string // of the store
	logs   *logBuffer
	client *http.Client
	dial   func() (net.Conn, error)
	lax    atomic.Bool // answers may differ from the document of the API
}

// logBuffer is the log of the server.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines decodes the log lines.
func (l *logBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		out = append(out, m)
	}
	return out
}

func newAPI(t *testing.T, edit ...func(*Config)) *api {
	t.Helper()
	dir := t.TempDir()
	s, store, logs := newTestServerIn(t, dir, edit...)
	a := serve(t, s, logs)
	a.store, a.dir = store, dir
	return a
}

// newTestServer makes a server that does not serve yet.
func newTestServer(t *testing.T, edit ...func(*Config)) (*Server, *sqlstore.Store, *logBuffer) {
	t.Helper()
	return newTestServerIn(t, t.TempDir(), edit...)
}

// newTestServerIn keeps its registry in dir.
func newTestServerIn(t *testing.T, dir string, edit ...func(*Config)) (*Server, *sqlstore.Store, *logBuffer) {
	t.Helper()
	ctx := t.Context()
	path := filepath.Join(dir, "registry.db")
	if _, err := os.Stat(path); err != nil {
		empty, err := sqltest.Empty()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, empty, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store, err := sqlstore.OpenSQLite(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	keys, err := seal.Open(ctx, seal.Spec{Dir: dir, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := alias.Open(ctx, store, keys, alias.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := alias.OpenTokens(ctx, store)
	if err != nil {
		t.Fatal(err)
	}
	logs := &logBuffer{}
	cfg := Config{
		Registry: registry, Tokens: tokens, Token: alias.NewSecret(testToken),
		Log: slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range edit {
		f(&cfg)
	}
	return New(cfg), store, logs
}

// serve runs s until the test ends, and then looks for secrets in its log.
func serve(t *testing.T, s *Server, logs *logBuffer) *api {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, s, logs, ln)
}

func serveOn(t *testing.T, s *Server, logs *logBuffer, ln net.Listener) *api {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	a := &api{t: t, addr: ln.Addr().String(), server: s, logs: logs}
	a.dial = func() (net.Conn, error) { return net.Dial("tcp", a.addr) }
	if p, ok := ln.(*pipe.Listener); ok {
		a.dial = func() (net.Conn, error) { return p.Dial(context.Background()) }
	}
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return a.dial() }}
	a.client = &http.Client{Transport: contract().Transport(transport, a.undescribed)}
	a.lax.Store(s.bearers == nil) // the document is of the admin listener
	t.Cleanup(func() {
		a.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		a.noSecret("log", logs.String())
	})
	return a
}

// serveInBubble serves in a bubble of fake time, without a network: the clock stands still while the
// server or a client has something to do, however long that takes.
func serveInBubble(t *testing.T, s *Server, logs *logBuffer) *api {
	t.Helper()
	return serveOn(t, s, logs, pipe.Listen())
}

// newAPIInBubble is newAPI in a bubble of fake time.
func newAPIInBubble(t *testing.T, edit ...func(*Config)) *api {
	t.Helper()
	s, store, logs := newTestServer(t, edit...)
	a := serveInBubble(t, s, logs)
	a.store = store
	return a
}

func (a *api) noSecret(where, text string) {
	a.t.Helper()
	for _, s := range []string{testToken, testSecret} {
		if strings.Contains(text, s) {
			a.t.Errorf("%s holds %q:\n%s", where, s, text)
		}
	}
}

// answer is a response that has been read.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   string
	close  bool // the server closes the connection
}

// do sends a request with the token. body "" sends none; header is pairs.
func (a *api) do(method, path, body string, header ...string) answer {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, "http://"+a.addr+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := a.client.Do(req)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a.read(resp)
}

// raw sends text over a connection of its own and reads one answer.
func (a *api) raw(text string) answer {
	a.t.Helper()
	conn, err := a.dial()
	if err != nil {
		a.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		a.t.Fatal(err)
	}
	return a.readFrom(conn, text)
}

// connect opens a connection of its own, which ends with the test.
func (a *api) connect() (net.Conn, *bufio.Reader) {
	a.t.Helper()
	conn, err := a.dial()
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

func (a *api) readFrom(conn net.Conn, request string) answer {
	a.t.Helper()
	method, _, _ := strings.Cut(request, " ")
	got := a.readNext(bufio.NewReader(conn), method)
	if r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request))); err == nil {
		body, _ := io.ReadAll(r.Body)
		a.compare(apitest.Exchange{
			Method: r.Method, Target: r.RequestURI, Header: r.Header, Body: body,
			Status: got.status, AnswerHeader: got.header, Answer: []byte(got.body),
		})
	}
	return got
}

// compare compares an exchange with the document of the API.
func (a *api) compare(x apitest.Exchange) {
	a.t.Helper()
	if err := contract().Check(x); err != nil {
		a.undescribed(err)
	}
}

// undescribed reports an answer that the document of the API does not describe.
func (a *api) undescribed(err error) {
	a.t.Helper()
	if !a.lax.Load() {
		a.t.Errorf("the document of the API differs: %v", err)
	}
}

// readNext reads the next answer on a connection.
func (a *api) readNext(r *bufio.Reader, method string) answer {
	a.t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		a.t.Fatalf("answer to %s: %v", method, err)
	}
	return a.read(resp)
}

// read reads the answer and checks the properties of every answer.
func (a *api) read(resp *http.Response) answer {
	a.t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	got := answer{a.t, resp.StatusCode, resp.Header, string(body), resp.Close}
	a.noSecret("answer", got.body)
	stored := "no-store"
	if resp.Header.Get("X-Frame-Options") != "" { // a file of the console
		stored = "no-cache"
	}
	for name, want := range map[string]string{"Cache-Control": stored, "X-Content-Type-Options": "nosniff", "Server": ""} {
		if v := resp.Header.Get(name); v != want {
			a.t.Errorf("%s: got %q, want %q", name, v, want)
		}
	}
	if resp.Header.Get("X-Request-Id") == "" {
		a.t.Errorf("no X-Request-Id")
	}
	if got.status >= 400 && resp.Request.Method != http.MethodHead {
		got.checkProblem()
	}
	return got
}

// checkProblem checks the rules of RFC 9457 and the API for every error.
func (r answer) checkProblem() {
	r.t.Helper()
	if ct := r.header.Get("Content-Type"); ct != "application/problem+json" {
		r.t.Errorf("Content-Type of an error: got %q; body %s", ct, r.body)
		return
	}
	p := r.problem()
	if p.Status != r.status || p.Title == "" || p.Detail == "" || !strings.HasPrefix(p.Type, "https://ixmage.dev/problems/") ||
		p.Type == "https://ixmage.dev/problems/" {
		r.t.Errorf("problem is not complete: status %d, %s", r.status, r.body)
	}
	if id := r.header.Get("X-Request-Id"); p.RequestID != id {
		r.t.Errorf("request_id: got %q, want that of the header, %q", p.RequestID, id)
	}
}

func (r answer) problem() problemJSON {
	r.t.Helper()
	var p problemJSON
	r.decode(&p)
	return p
}

func (r answer) decode(v any) {
	r.t.Helper()
	d := json.NewDecoder(strings.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		r.t.Fatalf("body %q: %v", r.body, err)
	}
}

// want checks the status and, for a problem, its code.
func (r answer) want(status int, code string) answer {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status: got %d, want %d; body %s", r.status, status, r.body)
	}
	if code != "" {
		if got := strings.TrimPrefix(r.problem().Type, problemType); got != code {
			r.t.Errorf("code: got %q, want %q; body %s", got, code, r.body)
		}
	}
	return r
}

// fields are the names of the fields that a problem is about, in its order.
func (r answer) fields() []string {
	r.t.Helper()
	var names []string
	for _, e := range r.problem().Errors {
		names = append(names, e.Field)
		if e.Detail == "" {
			r.t.Errorf("field %q has no detail", e.Field)
		}
	}
	return names
}

const keyPair = `{"access_key_id":"` + testKeyID + `","secret_access_key":"` + testSecret + `"}`

// register makes an alias with a key pair of its own.
func (a *api) register(name string) answer {
	a.t.Helper()
	return a.do("POST", "/api/v1/aliases",
		`{"name":"`+name+`","bucket":"acme-media","region":"eu-west-1","credential":`+keyPair+`}`).want(201, "")
}

// newTestAdmin returns the holder of the token of the configuration.
func newTestAdmin() *principal {
	p, err := newBearers(alias.NewSecret(testToken), nil).holder(alias.DigestOf(testToken), "127.0.0.1:1")
	if err != nil {
		panic(err)
	}
	return p
}
