package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestMethods(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withMetrics)
	a.register("shop")
	for _, c := range []struct{ path, allow string }{
		{"/api/v1/aliases", "GET, HEAD, POST"},
		{"/api/v1/aliases/shop", "GET, HEAD, DELETE, PATCH"},
		{"/api/v1/aliases/not-there", "GET, HEAD, DELETE, PATCH"},
		{"/api/v1/credentials", "GET, HEAD, POST"},
		{"/api/v1/credentials/shop", "GET, HEAD, PUT, DELETE, PATCH"},
		{"/api/v1/aliases/shop/verify", "POST"},
		{"/api/v1/aliases/shop/usage", "GET, HEAD"},
		{"/api/v1/credentials/shop/rotate", "POST"},
		{"/api/v1/credentials/shop/reclaim", "POST"},
		{"/api/v1/provision", "POST"},
		{"/api/v1/provision/plan", "POST"},
		{"/api/v1/operations", "GET, HEAD"},
		{"/api/v1/operations/x", "GET, HEAD"},
		{"/api/v1/audit", "GET, HEAD"},
		{"/api/v1/purge", "POST"},
		{"/api/v1/explain", "GET, HEAD"},
		{"/api/v1/orphans", "GET, HEAD"},
		{"/api/v1/orphans/x", "DELETE"},
		{"/metrics", "GET, HEAD"},
		{"/-/healthz", "GET, HEAD"},
		{"/-/readyz", "GET, HEAD"},
		{"/", "GET, HEAD"},
		{"/console/app.js", "GET, HEAD"},
	} {
		tried := 0
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get", "PROPFIND", "M-SEARCH"} {
			if strings.Contains(c.allow, method) {
				continue
			}
			tried++
			r := a.raw(method+" "+c.path+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+testToken+"\r\nContent-Length: 0\r\n\r\n").want(405, "method")
			if got := r.header.Values("Allow"); strings.Join(got, ", ") != c.allow {
				t.Errorf("%s %s: Allow: got %q, want %q", method, c.path, got, c.allow)
			}
		}
		if tried < 7 {
			t.Errorf("%s: only %d methods tried", c.path, tried)
		}
	}
	for _, request := range []string{"BREW /nowhere", "OPTIONS *", "POST /x", "TRACE /x"} {
		a.raw(request+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").want(404, "not-found")
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withMetrics)
	a.register("shop")
	for _, path := range []string{"/api/v1/aliases", "/api/v1/aliases/shop", "/api/v1/credentials/shop", "/metrics", "/-/healthz", "/api/v1/aliases/nope", "/", "/console/app.js"} {
		get, head := a.do("GET", path, ""), a.do("HEAD", path, "")
		if head.status != get.status || head.body != "" {
			t.Errorf("%s: HEAD gives %d and a body of %d bytes, GET %d", path, head.status, len(head.body), get.status)
		}
		for _, h := range []string{"Content-Type", "ETag", "Content-Length"} {
			if head.header.Get(h) != get.header.Get(h) {
				t.Errorf("%s: %s: HEAD gives %q, GET %q", path, h, head.header.Get(h), get.header.Get(h))
			}
		}
	}
}

// TestPaths asks for paths that net/http would redirect, or take for another one.
func TestPaths(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withMetrics)
	a.register("shop")
	for _, method := range []string{"GET", "HEAD", "POST", "CONNECT"} {
		for _, path := range []string{
			"//", "//metrics", "/metrics/", "/metrics//", "/./metrics", "/x/../metrics", "/metrics/.", "/metrics/..", "/%6detrics", "/metrics%2f",
			"/metrics;x.png", "/metrics%00.png", "/Metrics", "/console", "/console/", "/console/none.js", "/console/screens/", "/console/console.go", "/console/../console/app.js", "/console/%61pp.js", "/api", "/api/", "/api/v1", "/api/v1/aliases/", "/api/v1//aliases", "/api/v1/aliases//",
			"/api/v1/aliases/shop/", "/api/v1/aliases/shop//verify", "/api/v1/aliases/./shop", "/api/v1/aliases/x/../shop", "/api/v1/aliases/..",
			"/api/v1/aliases%2fshop", "/api/v1/aliases/shop/verify/", "/api/v1/operations/", "http://localhost", "http://localhost//metrics",
		} {
			if method == "CONNECT" && path[0] != '/' {
				continue // it takes a host
			}
			r := a.raw(method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + testToken + "\r\nContent-Length: 0\r\n\r\n")
			if r.status != 404 || r.header.Get("Location") != "" || r.header.Get("Allow") != "" {
				t.Errorf("%s %s: got %d, %v", method, path, r.status, r.header)
			}
		}
	}
	a.raw("GET http://localhost/api/v1/aliases/shop HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+testToken+"\r\n\r\n").want(200, "")
	a.raw("GET /metrics? HTTP/1.1\r\nHost: localhost\r\n\r\n").want(200, "")
	a.raw("GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n").want(400, "bad-request")
}

func TestOps(t *testing.T) {
	t.Parallel()
	logs := &logBuffer{}
	ready := make(chan bool, 1)
	s := NewOps(OpsConfig{Metrics: testMetrics, Ready: func() bool { return <-ready }, Log: slog.New(slog.NewJSONHandler(logs, nil))})
	ops := serve(t, s, logs)
	both := newAPI(t, withMetrics, func(c *Config) { c.Ready = func() bool { return <-ready } })
	bare := newAPI(t)
	for _, a := range []*api{ops, both} {
		r := a.do("GET", "/metrics", "", "Authorization", "").want(200, "")
		if r.body != "ixmage_aliases 1\n" || r.header.Get("Content-Type") != "text/plain; version=0.0.4" {
			t.Errorf("metrics: got %q of type %q", r.body, r.header.Get("Content-Type"))
		}
		if r := a.do("GET", "/-/healthz", "", "Authorization", "").want(200, ""); r.body != "ok\n" {
			t.Errorf("healthz: got %q", r.body)
		}
		ready <- true
		a.do("GET", "/-/readyz", "", "Authorization", "").want(200, "")
		ready <- false
		a.do("GET", "/-/readyz", "", "Authorization", "").want(503, "not-ready")
	}
	for _, path := range []string{"/api/v1/aliases", "/api", "/", "/shop/a.jpg"} {
		ops.do("GET", path, "").want(404, "not-found") // with the right token: it means nothing there
	}
	bare.do("GET", "/-/readyz", "").want(200, "")
	bare.do("GET", "/metrics", "").want(404, "not-found")
}

// TestUnknownPath: the problem names the paths that this listener has.
func TestUnknownPath(t *testing.T) {
	t.Parallel()
	logs := &logBuffer{}
	ops := serve(t, NewOps(OpsConfig{Metrics: testMetrics, Log: slog.New(slog.NewJSONHandler(logs, nil))}), logs)
	both, bare := newAPI(t, withMetrics), newAPI(t)
	const unknown = "there is no such path on this listener"
	for _, c := range []struct {
		name   string
		on     *api
		path   string
		detail string
	}{
		{"API and metrics", both, "/shop/a.jpg", unknown + "; try /api/v1/aliases or /metrics"},
		{"API and metrics, a path that is not clean", both, "//shop/", unknown + "; try /api/v1/aliases or /metrics"},
		{"API and metrics, under /api/", both, "/api/v1/none", unknown},
		{"API alone", bare, "/metrics", unknown + "; try /api/v1/aliases"},
		{"metrics alone", ops, "/shop/a.jpg", unknown + "; try /metrics"},
	} {
		if r := c.on.do("GET", c.path, "").want(404, "not-found"); !strings.Contains(r.body, `"detail":"`+c.detail+`"`) {
			t.Errorf("%s: got %s, want the detail %q", c.name, r.body, c.detail)
		}
	}
}

func TestInternalErrorIsNotEchoed(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/api/v1/aliases", ""}, {"GET", "/api/v1/aliases/shop", ""}, {"POST", "/api/v1/aliases", good},
		{"PATCH", "/api/v1/aliases/shop", `{"enabled":false}`}, {"DELETE", "/api/v1/aliases/shop", ""},
		{"GET", "/api/v1/operations", ""}, {"GET", "/api/v1/operations/x", ""}, {"GET", "/api/v1/operations?before=x", ""},
		{"GET", "/api/v1/audit", ""}, {"POST", "/api/v1/credentials/shop/rotate", ""},
		{"GET", "/api/v1/credentials", ""}, {"PUT", "/api/v1/credentials/shop", keyPair}, {"DELETE", "/api/v1/credentials/shop", ""},
	} {
		r := a.do(c.method, c.path, c.body).want(500, "internal")
		if strings.Contains(r.body, "sql") || strings.Contains(r.body, "database") {
			t.Errorf("%s %s echoes the cause: %s", c.method, c.path, r.body)
		}
		lines := a.logs.lines(t)
		last := lines[len(lines)-1]
		if cause, _ := last["error"].(string); last["request_id"] != r.problem().RequestID || !strings.Contains(cause, "closed") || last["level"] != "WARN" {
			t.Errorf("%s %s: log line %v", c.method, c.path, last)
		}
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) { c.Ready = func() bool { panic("boom") } })
	r := a.do("GET", "/-/readyz", "").want(500, "internal")
	if strings.Contains(r.body, "boom") {
		t.Errorf("the panic is echoed: %s", r.body)
	}
	if !strings.Contains(a.logs.String(), "boom") || !strings.Contains(a.logs.String(), "server_test.go") {
		t.Errorf("the log does not tell of the panic: %s", a.logs)
	}
	a.do("GET", "/-/healthz", "").want(200, "")
}

func TestLog(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withMetrics)
	for _, c := range []struct {
		call, body, token string
		level, route      string
		status            int
		about, problem    string
	}{
		{"POST /api/v1/aliases", strings.Replace(good, "null", keyPair, 1), testToken, "INFO", "/api/v1/aliases", 201, "alias=x", ""},
		{"GET /api/v1/aliases", "", testToken, "DEBUG", "/api/v1/aliases", 200, "", ""},
		{"GET /api/v1/aliases/x", "", testToken, "DEBUG", "/api/v1/aliases/{name}", 200, "alias=x", ""},
		{"HEAD /api/v1/aliases/x", "", testToken, "DEBUG", "/api/v1/aliases/{name}", 200, "alias=x", ""},
		{"PATCH /api/v1/aliases/x", `{"enabled":false}`, testToken, "INFO", "/api/v1/aliases/{name}", 200, "alias=x", ""},
		{"PATCH /api/v1/aliases/x", `{"` + testSecret + `":1,"bucket":"` + testSecret + `"}`, testToken, "INFO", "/api/v1/aliases/{name}", 400, "alias=x", "invalid"},
		{"PUT /api/v1/credentials/x", keyPair, testToken, "INFO", "/api/v1/credentials/{name}", 200, "credential=x", ""},
		{"POST /api/v1/credentials", `{"name":"c","kind":"anonymous"}`, testToken, "INFO", "/api/v1/credentials", 201, "credential=c", ""},
		{"DELETE /api/v1/credentials/c", "", testToken, "INFO", "/api/v1/credentials/{name}", 204, "credential=c", ""},
		{"DELETE /api/v1/aliases/nope", "", testToken, "INFO", "/api/v1/aliases/{name}", 404, "alias=nope", "not-found"},
		{"GET /api/v1/operations/op-1", "", testToken, "DEBUG", "/api/v1/operations/{id}", 404, "operation=op-1", "not-found"},
		{"GET /api/v1/operations/%00", "", testToken, "DEBUG", "/api/v1/operations/{id}", 404, "", "not-found"},
		{"DELETE /api/v1/orphans/u", "", testToken, "INFO", "/api/v1/orphans/{user}", 403, "orphan=u", "not-allowed"},
		{"POST /api/v1/credentials/c/rotate", "", testToken, "INFO", "/api/v1/credentials/{name}/rotate", 404, "credential=c", "not-found"},
		{"GET /api/v1/aliases/" + testSecret, "", testToken, "DEBUG", "", 404, "", "not-found"},
		{"GET /api/v1/aliases", "", "wrong", "WARN", "", 401, "", "unauthorized"},
		{"GET /nowhere?token=" + testToken, "", testToken, "DEBUG", "", 404, "", "not-found"},
		{"POST /metrics", "", testToken, "INFO", "", 405, "", "method"},
		{"GET /metrics", "", testToken, "DEBUG", "/metrics", 200, "", ""},
		{"GET /-/healthz", "", testToken, "DEBUG", "/-/healthz", 200, "", ""},
		{"BREW" + " /nowhere", "", testToken, "INFO", "", 404, "", "not-found"},
	} {
		before := len(a.logs.lines(t))
		method, path, _ := strings.Cut(c.call, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.addr+path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+c.token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := a.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		lines := a.logs.lines(t)[before:]
		if len(lines) != 1 {
			t.Errorf("%s: got %d log lines, want one: %v", c.call, len(lines), lines)
			continue
		}
		l := lines[0]
		wantMethod := method
		if method == "BREW" {
			wantMethod = "other"
		}
		about := ""
		for _, resource := range []string{"alias", "credential", "operation", "orphan"} {
			if n, ok := l[resource]; ok {
				about = fmt.Sprintf("%s=%s", resource, n)
			}
		}
		problem, _ := l["problem"].(string)
		got := fmt.Sprint(l["level"], l["method"], l["route"], l["status"], about, problem, l["request_id"])
		want := fmt.Sprint(c.level, wantMethod, c.route, c.status, c.about, c.problem, resp.Header.Get("X-Request-Id"))
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.call, got, want)
		}
	}
}

// dial opens a connection and reads the answers on it.
func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

// wantOK reads one answer to the end.
func wantOK(t *testing.T, r *bufio.Reader) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("got %d, %v", resp.StatusCode, err)
	}
}

func TestShutdownDrains(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	s := NewOps(OpsConfig{Ready: func() bool { close(entered); <-leave; return true }, Log: slog.New(slog.DiscardHandler)})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()

	idle, idleReader := dial(t, ln.Addr().String())
	fmt.Fprint(idle, "GET /-/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	wantOK(t, idleReader)
	busy, busyReader := dial(t, ln.Addr().String())
	fmt.Fprint(busy, "GET /-/readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-entered

	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(short); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown with a request under way and no time: got %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: got %v, want nil after Shutdown", err)
	}
	if _, err := idleReader.ReadByte(); err == nil {
		t.Error("the idle connection stays open")
	}
	close(leave)
	wantOK(t, busyReader)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("second Shutdown: %v", err)
	}
	wantClosed(t, ln)
}

func TestServeAfterShutdown(t *testing.T) {
	t.Parallel()
	s := NewOps(OpsConfig{Log: slog.New(slog.DiscardHandler)})
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ln); err != nil {
		t.Errorf("Serve: got %v", err)
	}
	wantClosed(t, ln)
}

// wantClosed asks the listener itself: its port may be another's by now.
func wantClosed(t *testing.T, ln net.Listener) {
	t.Helper()
	if err := ln.(*net.TCPListener).SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
}
