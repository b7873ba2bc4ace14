package e2e

import (
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// Only HTTP/1.x is served (RFC 9110, sections 2.5 and 15.6.6). What has not the form
// of a version is malformed.
func TestHTTPVersions(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a.png", s3.Object{Body: bytesOf(1000, "version")})
	s.get("/shop/a.png") // HTTP/1.0 clients get a hit
	const host, closing = "Host: localhost\r\n", "Connection: close\r\n"
	for _, tc := range []struct {
		name, method, version, lines string
		status                       int
		code                         string
	}{
		{"1.0", "GET", "HTTP/1.0", "", 200, ""},
		{"1.0 with a Host", "GET", "HTTP/1.0", host, 200, ""},
		{"1.1", "GET", "HTTP/1.1", host + closing, 200, ""},
		{"1.2", "GET", "HTTP/1.2", host + closing, 200, ""},
		{"1.9", "GET", "HTTP/1.9", host + closing, 200, ""},
		{"1.9, HEAD", "HEAD", "HTTP/1.9", host + closing, 200, ""},
		{"1.2 without a Host", "GET", "HTTP/1.2", closing, 400, "bad-request"},
		{"2.0", "GET", "HTTP/2.0", host, 505, "http-version"},
		{"2.0 that is kept alive", "GET", "HTTP/2.0", host + "Connection: keep-alive\r\n", 505, "http-version"},
		{"2.0, HEAD", "HEAD", "HTTP/2.0", host, 505, "http-version"},
		{"2.0, POST", "POST", "HTTP/2.0", host, 505, "http-version"},
		{"2.0, another method", "BREW", "HTTP/2.0", host, 505, "http-version"},
		{"2.0 with a body", "GET", "HTTP/2.0", host + "Content-Length: 3\r\n", 505, "http-version"},
		{"2.0 with Expect", "GET", "HTTP/2.0", host + "Expect: 100-continue\r\nContent-Length: 3\r\n", 505, "http-version"},
		{"3.0", "GET", "HTTP/3.0", host, 505, "http-version"},
		{"9.9", "GET", "HTTP/9.9", host, 505, "http-version"},
		{"0.9", "GET", "HTTP/0.9", host, 505, "http-version"},
		{"0.0", "GET", "HTTP/0.0", host, 505, "http-version"},
		{"2", "GET", "HTTP/2", host, 400, "bad-request"},
		{"1.10", "GET", "HTTP/1.10", host, 400, "bad-request"},
		{"10.1", "GET", "HTTP/10.1", host, 400, "bad-request"},
		{"1.x", "GET", "HTTP/1.x", host, 400, "bad-request"},
		{"1,1", "GET", "HTTP/1,1", host, 400, "bad-request"},
		{"lower case", "GET", "http/2.0", host, 400, "bad-request"},
		{"another protocol", "GET", "ICY/2.0", host, 400, "bad-request"},
	} {
		for listener, to := range map[string][2]string{"public": {s.public, "/shop/a.png"}, "admin": {s.admin, "/-/healthz"}} {
			if listener == "admin" && tc.method == http.MethodHead {
				continue // net/http refuses before it tells the method: the problem has a body, and then the connection ends
			}
			t.Run(tc.name+" "+listener, func(t *testing.T) {
				t.Parallel()
				text := s.dialTo(to[0]).send(tc.method + " " + to[1] + " " + tc.version + "\r\n" + tc.lines + "\r\n").all()
				r := readAnswer(strings.NewReader(text), tc.method)
				if r.err != nil || r.StatusCode != tc.status {
					t.Fatalf("got %.300q, want %d: %v", text, tc.status, r.err)
				}
				if tc.code != "" && (r.Header.Get("Content-Type") != "application/problem+json" || !r.Close ||
					tc.method != http.MethodHead && !strings.Contains(string(r.body), "/problems/"+tc.code+`"`)) {
					t.Errorf("not a problem %s on a connection that ends: %q", tc.code, text)
				}
			})
		}
	}
}
