package e2e

import (
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

const shopOrigin = "https://shop.example.com"

// preflight sends the request that a browser sends before one with headers of its own.
func (s *env) preflight(target string, lines ...string) *response {
	head := "OPTIONS " + target + " HTTP/1.1\r\nHost: x\r\n"
	for _, line := range lines {
		head += line + "\r\n"
	}
	return s.dial().send(head + "\r\n").answer(http.MethodOptions)
}

// corsOf is the part of an answer's header that CORS defines.
func corsOf(r *response) string {
	var lines []string
	for _, name := range []string{"Allow-Origin", "Allow-Methods", "Allow-Headers", "Max-Age", "Allow-Credentials"} {
		if v := r.Header.Values("Access-Control-" + name); v != nil {
			lines = append(lines, name+": "+strings.Join(v, "|"))
		}
	}
	for _, name := range []string{"Vary", "Cross-Origin-Resource-Policy"} {
		if v := r.Header.Values(name); v != nil {
			lines = append(lines, name+": "+strings.Join(v, "|"))
		}
	}
	return strings.Join(lines, "; ")
}

// TestPreflight: an alias with origins answers OPTIONS without S3, and any other OPTIONS is
// refused with one answer for all.
func TestPreflight(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.open("closed", "media", "web/", map[string]any{"cors_origins": []string{"*"}, "enabled": false})
	s.open("plain", "media", "web/", nil)
	asks := []string{"Origin: " + shopOrigin, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-viewer"}
	const methods, age, policy = "Allow-Methods: GET, HEAD", "Max-Age: 86400", "Cross-Origin-Resource-Policy: cross-origin"
	for _, tc := range []struct {
		name, patch string
		lines       []string
		want        string
	}{
		{"allowed", `{"cors_origins":["` + shopOrigin + `"]}`, asks, "Allow-Origin: " + shopOrigin + "; " + methods + "; " + age + "; Vary: Origin; " + policy},
		{
			"headers", `{"cors_headers":["X-Viewer","authorization"]}`, asks,
			"Allow-Origin: " + shopOrigin + "; " + methods + "; Allow-Headers: X-Viewer, authorization; " + age + "; Vary: Origin; " + policy,
		},
		{
			"another method", `{}`, []string{"Origin: " + shopOrigin, "Access-Control-Request-Method: PUT"},
			"Allow-Origin: " + shopOrigin + "; " + methods + "; Allow-Headers: X-Viewer, authorization; " + age + "; Vary: Origin; " + policy,
		},
		{
			"another origin", `{}`, []string{"Origin: https://evil.example.com", "Access-Control-Request-Method: GET"},
			methods + "; Allow-Headers: X-Viewer, authorization; " + age + "; Vary: Origin; " + policy,
		},
		{"no preflight", `{"cors_headers":null}`, nil, methods + "; " + age + "; Vary: Origin; " + policy},
		{"everyone", `{"cors_origins":["*"],"cors_headers":["*"]}`, asks, "Allow-Origin: *; " + methods + "; Allow-Headers: *; " + age + "; " + policy},
	} {
		s.patch("shop", tc.patch)
		for _, target := range []string{"/shop/a.png", "/shop/none%20/b.png?x=y", "http://h/shop/a.png"} {
			r := s.preflight(target, tc.lines...)
			if got := corsOf(r); r.StatusCode != http.StatusNoContent || got != tc.want || len(r.body) > 0 || r.Close {
				t.Errorf("%s, %s: got %s, %q, want %q", tc.name, target, summary(r), got, tc.want)
			}
			if r.Header.Get("X-Request-Id") == "" || r.Header.Values("Content-Length") != nil || r.Header.Values("Content-Type") != nil || r.Header.Values("Transfer-Encoding") != nil {
				t.Errorf("%s, %s: the header is %v", tc.name, target, r.Header)
			}
		}
		for _, target := range []string{"/plain/a.png", "/closed/a.png", "/nobody/a.png", "/shop", "/shop/", "/", "/shop/../x", "/shop/%", "*", "/-/healthz", "//shop/a.png"} {
			r := s.preflight(target, tc.lines...)
			wantProblem(t, r, http.StatusMethodNotAllowed, "method")
			if got := corsOf(r); got != "" || r.Header.Get("Allow") != "GET, HEAD" || !r.Close {
				t.Errorf("%s, %s: the header is %v", tc.name, target, r.Header)
			}
		}
	}
	for _, tc := range []struct {
		name, lines, rest string
		status            int
		code              string
	}{
		{"body", "Content-Length: 1\r\n", "x", 413, "body"},
		{"chunked body", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", 413, "body"},
		{"body that never comes", "Content-Length: 1\r\n", "", 413, "body"},
		{"expectation", "Expect: 100-continue\r\n", "", 417, "expect"},
		{"folded line", "X: y\r\n z\r\n", "", 400, "bad-request"},
	} {
		r := s.dial().send("OPTIONS /shop/a.png HTTP/1.1\r\nHost: x\r\n" + tc.lines + "\r\n" + tc.rest).answer(http.MethodOptions)
		if wantProblem(t, r, tc.status, tc.code); !r.Close {
			t.Errorf("%s: the connection stays open", tc.name)
		}
	}
	s.patch("shop", `{"cors_origins":null}`)
	wantProblem(t, s.preflight("/shop/a.png", asks...), http.StatusMethodNotAllowed, "method")
	if n := s.s3.Total(); n != 0 {
		t.Errorf("S3 was asked %d times", n)
	}
	// The connection serves on, and the answers are counted.
	s.patch("shop", `{"cors_origins":["*"]}`)
	w := s.dial()
	for range 2 {
		if r := w.send("OPTIONS /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n").answer(http.MethodOptions); r.StatusCode != http.StatusNoContent {
			t.Errorf("got %s", summary(r))
		}
	}
	eventually(t, "they are counted", func() bool {
		return s.metric(`ixmage_http_requests_total{alias="shop",code="204",method="other"}`) >= 20
	})
}

// TestCrossOriginPolicy: a page with Cross-Origin-Embedder-Policy may embed the pictures of an
// alias with origins, from the cache and from S3, and an error does not show the alias.
func TestCrossOriginPolicy(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-object-max=64KiB")
	s.put("large.png", s3.Object{Body: png(200_000, "")})
	s.put("down.png", s3.Object{Body: png(10, "")})
	s.put("text", s3.Object{Body: []byte("text"), ContentType: "text/html"})
	for i, tc := range []struct{ patch, want string }{
		{`{"fallback":{"missing":"down.png"}}`, ""},
		{`{"cors_origins":["` + shopOrigin + `"]}`, "cross-origin"},
		{`{"cors_origins":["*"]}`, "cross-origin"},
		{`{"cors_origins":[]}`, ""},
	} {
		s.patch("shop", tc.patch)
		small := string('a'+rune(i)) + ".png"
		s.put(small, s3.Object{Body: png(100, "")})
		for _, ask := range []struct {
			path, line string
			status     int
		}{
			{small, "X: miss", 200},
			{small, "X: hit", 200},
			{small, "Range: bytes=0-9", 206},
			{small, "If-None-Match: *", 304},
			{small, `If-Match: "x"`, 412},
			{small, "Range: bytes=1000-", 416},
			{"large.png", "X: past the cache", 200},
			{"large.png", "Range: bytes=100000-100009", 206},
			{"none.png", "X: placeholder", 404},
		} {
			r := s.ask("/shop/"+ask.path, ask.line)
			if got := r.Header.Get("Cross-Origin-Resource-Policy"); r.StatusCode != ask.status || got != tc.want {
				t.Errorf("%s, %s, %s: got %s, %q, want %q", tc.patch, ask.path, ask.line, r.Status, got, tc.want)
			}
		}
		for _, path := range []string{"/shop/text", "/nobody/a.png", "/shop/../a", "/shop"} {
			if r := s.ask(path); r.StatusCode < 400 || corsOf(r) != "" {
				t.Errorf("%s: got %s, %v", path, r.Status, r.Header)
			}
		}
	}
}
