package admin

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ixmage/alias"
)

func TestAuthorization(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const line = "Authorization: "
	for _, c := range []struct {
		name, headers string
		status        int
	}{
		{"right", line + "Bearer " + testToken + "\r\n", 200},
		{"scheme in lower case", line + "bearer " + testToken + "\r\n", 200},
		{"scheme in capitals", "AUTHORIZATION: BEARER " + testToken + "\r\n", 200},
		{"two spaces", line + "Bearer  " + testToken + "\r\n", 200},
		{"missing", "", 401},
		{"empty", line + "\r\n", 401},
		{"scheme only", line + "Bearer\r\n", 401},
		{"scheme and space", line + "Bearer \r\n", 401},
		{"no scheme", line + testToken + "\r\n", 401},
		{"other scheme", line + "Basic " + testToken + "\r\n", 401},
		{"longer scheme", line + "Bearers " + testToken + "\r\n", 401},
		{"tab", line + "Bearer\t" + testToken + "\r\n", 401},
		{"no space", line + "Bearer" + testToken + "\r\n", 401},
		{"wrong", line + "Bearer canary-token-0123456789abcdeX\r\n", 401},
		{"first half", line + "Bearer " + testToken[:14] + "\r\n", 401},
		{"longer", line + "Bearer " + testToken + "0\r\n", 401},
		{"case of the token", line + "Bearer " + strings.ToUpper(testToken) + "\r\n", 401},
		{"quoted", line + `Bearer "` + testToken + "\"\r\n", 401},
		{"list", line + "Bearer " + testToken + ", Bearer " + testToken + "\r\n", 401},
		{"twice the right one", line + "Bearer " + testToken + "\r\n" + line + "Bearer " + testToken + "\r\n", 401},
		{"right then wrong", line + "Bearer " + testToken + "\r\n" + line + "Bearer x\r\n", 401},
		{"wrong then right", line + "Basic eDp5\r\n" + "authorization: Bearer " + testToken + "\r\n", 401},
		{"other header", "Proxy-Authorization: Bearer " + testToken + "\r\n", 401},
		{"cookie", "Cookie: token=" + testToken + "; Authorization=Bearer " + testToken + "\r\n", 401},
		{"NUL", line + "Bearer " + testToken + "\x00\r\n", 400},
	} {
		a.forgetWrongTokens()
		r := a.raw("GET /api/v1/aliases HTTP/1.1\r\nHost: localhost\r\n" + c.headers + "\r\n")
		if r.status != c.status {
			t.Errorf("%s: got %d, want %d", c.name, r.status, c.status)
		}
		if got, want := r.header.Get("WWW-Authenticate"), map[bool]string{true: "Bearer"}[c.status == 401]; got != want {
			t.Errorf("%s: WWW-Authenticate: got %q, want %q", c.name, got, want)
		}
	}
	a.raw("GET /api/v1/aliases?access_token="+testToken+" HTTP/1.1\r\nHost: localhost\r\n\r\n").want(401, "unauthorized")
}

// TestAuthorizationFirst sends requests that are also invalid in other ways: a client
// without the token does not learn this.
func TestAuthorizationFirst(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	for _, request := range []string{
		"GET /api/v1/aliases/shop", "GET /api/v1/aliases/nope", "HEAD /api/v1/aliases", "GET /api/v1/nowhere", "GET /api", "GET /api/",
		"GET /api/v1/aliases?x=1", "POST /api/v1/aliases", "PATCH /api/v1/aliases/shop", "DELETE /api/v1/aliases/shop",
		"PUT /api/v1/credentials/shop", "DELETE /api/v1/credentials/shop", "POST /api/v1/provision", "POST /api/v1/purge", "GET /api/v1/explain?path=/shop/a.jpg", "OPTIONS /api/v1/aliases",
		"TRACE /api/v1/aliases", "BREW /api/v1/aliases", "get /api/v1/aliases", "GET http://localhost/api/v1/aliases",
		"GET /api/v1/aliases%2fshop",
	} {
		a.raw(request+" HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n").want(401, "")
	}
	a.raw("GET http://elsewhere/api/v1/aliases HTTP/1.1\r\nHost: localhost\r\n\r\n").want(421, "host")
	a.do("GET", "/api/v1/aliases/shop", "").want(200, "")
	for _, path := range []string{"/API/v1/aliases", "//api/v1/aliases", "/%61pi/v1/aliases", "/x/../api/v1/aliases"} {
		a.raw("GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n").want(404, "not-found")
	}
}

func TestNoTokenAllowsNothing(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) { c.Token = alias.Secret{} })
	for _, header := range []string{"Bearer ", "Bearer", "", "Bearer [redacted]"} {
		a.do("GET", "/api/v1/aliases", "", "Authorization", header).want(401, "unauthorized")
	}
	// net/http trims a header, so this one can only be made here.
	if p, err := a.server.bearers.holder(alias.DigestOf(""), "::1"); err == nil {
		t.Errorf("the empty token is that of %s where none is set", p.Name)
	}
}

func TestOriginAndHost(t *testing.T) {
	t.Parallel()
	names := func(c *Config) { c.Hosts = []string{"admin.example", "192.0.2.7", "2001:db8::7"} }
	local := newAPI(t, withMetrics, names)
	server, _, logs := newTestServer(t, withMetrics, names)
	everywhere, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	anywhere := serveOn(t, server, logs, everywhere)
	_, port, _ := net.SplitHostPort(anywhere.addr)
	anywhere.addr = "127.0.0.1:" + port
	for _, c := range []struct {
		name, host, origin string
		local, anywhere    int // the status by a listener on loopback, and on all addresses
	}{
		{"address", "127.0.0.1:80", "", 200, 200},
		{"address without port", "127.0.0.1", "", 200, 200},
		{"other loopback address", "127.8.9.10:80", "", 200, 200},
		{"localhost", "localhost:" + port, "", 200, 200},
		{"localhost without port", "LOCALHOST", "", 200, 200},
		{"IPv6", "[::1]:" + port, "", 200, 200},
		{"IPv6 without port", "[::1]", "", 200, 200},
		{"name that was given", "admin.example", "", 200, 200},
		{"name that was given, in capitals", "Admin.Example", "", 200, 200},
		{"name with another port", "admin.example:1", "", 200, 200},
		{"address that was given", "192.0.2.7:80", "", 200, 200},
		{"IPv6 address that was given", "[2001:db8::7]:80", "", 200, 200},
		{"other name", "evil.example", "", 421, 200},
		{"other name with the port", "evil.example:" + port, "", 421, 200},
		{"below localhost", "ixmage.localhost", "", 421, 200},
		{"localhost as a label", "localhost.evil.example", "", 421, 200},
		{"address as a label", "127.0.0.1.evil.example", "", 421, 200},
		{"below the name", "x.admin.example", "", 421, 200},
		{"above the name", "example", "", 421, 200},
		{"end of the name", "evil-admin.example", "", 421, 200},
		{"other address", "192.0.2.1:80", "", 421, 200},
		{"any address", "0.0.0.0:80", "", 421, 200},
		{"short form of an address", "127.1", "", 421, 200},
		{"number", "2130706433", "", 421, 200},
		{"other IPv6 address", "[2001:db8::8]", "", 421, 200},
		{"single label", "ixmage", "", 421, 200},
		{"other name as its own origin", "evil.example", "Origin: http://evil.example\r\n", 421, 200},
		{"own origin by name", "admin.example", "Origin: https://admin.example\r\n", 200, 200},
		{"other origin by name", "admin.example", "Origin: https://evil.example\r\n", 403, 403},
		{"origin below the name", "admin.example", "Origin: https://x.admin.example\r\n", 403, 403},
		{"own origin", "127.0.0.1:80", "Origin: http://127.0.0.1:80\r\n", 200, 200},
		{"other origin", "127.0.0.1:80", "Origin: https://evil.example\r\n", 403, 403},
		{"other port", "127.0.0.1:80", "Origin: http://127.0.0.1:1\r\n", 403, 403},
		{"null", "127.0.0.1:80", "Origin: null\r\n", 403, 403},
		{"empty", "127.0.0.1:80", "Origin:\r\n", 403, 403},
		{"two", "127.0.0.1:80", "Origin: http://127.0.0.1:80\r\nOrigin: https://evil.example\r\n", 403, 403},
	} {
		for a, want := range map[*api]int{local: c.local, anywhere: c.anywhere} {
			code := map[int]string{421: "host", 403: "forbidden"}[want]
			for _, path := range []string{"/api/v1/aliases", "/metrics"} {
				r := a.raw("GET " + path + " HTTP/1.1\r\nHost: " + c.host + "\r\n" + c.origin + "Authorization: Bearer " + testToken + "\r\n\r\n")
				if r.status != want || code != "" && !strings.HasSuffix(r.problem().Type, "/"+code) {
					t.Errorf("%s %s at %s: got %d, want %d; %s", c.name, path, a.addr, r.status, want, r.body)
				}
			}
			if want == 403 { // health may be asked for by any page
				want = 200
			}
			for _, path := range []string{"/-/healthz", "/-/readyz", "http://" + c.host + "/-/healthz"} {
				r := a.raw("GET " + path + " HTTP/1.1\r\nHost: " + c.host + "\r\n" + c.origin + "\r\n")
				if r.status != want {
					t.Errorf("%s %s at %s: got %d, want %d; %s", c.name, path, a.addr, r.status, want, r.body)
				}
			}
		}
	}
	// The host of the target counts (RFC 9112, 3.2.2); one is needed but in HTTP/1.0.
	local.raw("GET http://evil.example/-/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").want(421, "host")
	local.raw("GET http://localhost/-/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n").want(200, "")
	local.raw("GET /-/healthz HTTP/1.0\r\n\r\n").want(200, "")
	local.raw("GET /-/healthz HTTP/1.1\r\nHost:\r\n\r\n").want(400, "bad-request")
	for _, host := range []string{"localhost@evil.example", "evil.example@localhost", "local host", "localhost/", "localhost\x00"} {
		local.raw("GET /metrics HTTP/1.1\r\nHost: "+host+"\r\n\r\n").want(400, "bad-request")
	}
	local.raw("GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n\r\n").want(421, "host")
}

// TestHostOfOps: the metrics listener goes by its own address and names.
func TestHostOfOps(t *testing.T) {
	t.Parallel()
	logs := &logBuffer{}
	log := slog.New(slog.NewJSONHandler(logs, nil))
	ops := serve(t, NewOps(OpsConfig{Metrics: testMetrics, Hosts: []string{"prometheus.example"}, Log: log}), logs)
	for host, want := range map[string]int{"localhost": 200, "prometheus.example:9090": 200, "evil.example": 421} {
		for _, path := range []string{"/metrics", "/-/healthz", "/-/readyz"} {
			r := ops.raw("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
			if r.status != want {
				t.Errorf("%s %s: got %d, want %d", host, path, r.status, want)
			}
		}
	}
}

func withMetrics(c *Config) { c.Metrics = testMetrics }

var testMetrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = w.Write([]byte("ixmage_aliases 1\n"))
})

// TestTLS uses a listener like main's.
func TestTLS(t *testing.T) {
	t.Parallel()
	certified := httptest.NewTLSServer(nil) // for its certificate, valid for example.com
	client := certified.Client()
	certificates := certified.TLS.Certificates
	certified.Close()
	logs := &logBuffer{}
	s := NewOps(OpsConfig{Metrics: testMetrics, Hosts: []string{"example.com"}, Log: slog.New(slog.NewJSONHandler(logs, nil))})
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := serveOn(t, s, logs, tls.NewListener(plain, &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS12}))
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+a.addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "example.com"
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	a.read(resp).want(200, "")
}
