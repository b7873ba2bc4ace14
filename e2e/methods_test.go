package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestRefusals has the refusals that are decided before the path, in this order:
// method, framing, body, expectation. A POST with a body and an expectation is 405, a
// GET with both 413. The connection ends after each.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a.png", s3.Object{Body: png(100, "")})
	type row struct {
		name, request string
		status        int
		code          string
	}
	var rows []row
	for _, path := range []string{"/shop/a.png", "/shop/none.png", "/nobody/a.png", "/shop/../x", "/shop", "/", "/-/healthz", "/-/readyz", "/api/v1/aliases", "http://h/shop/a.png"} {
		rows = append(rows,
			row{"POST " + path, "POST " + path + " HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method"},
			row{"body " + path, "GET " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 413, "body"},
			row{"expect " + path, "GET " + path + " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", 417, "expect"},
		)
	}
	for _, method := range []string{
		"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PURGE", "QUERY", "BREW", "get", "Get",
		"GETX", "HEADS", "X", "!#$%&'*+-.^_`|~", strings.Repeat("M", 4000),
	} {
		rows = append(rows, row{"method " + method[:min(len(method), 20)], method + " /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method"})
	}
	rows = append(rows,
		row{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method"},
		row{"no method at all", "G@T /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad-request"},
		row{"method, framing, body, expectation", "POST /shop/a.png HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\nContent-Length: 1\r\nExpect: x\r\n\r\nx", 405, "method"},
		row{"framing, body, expectation", "GET /shop/a.png HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\nContent-Length: 1\r\nExpect: x\r\n\r\nx", 400, "bad-request"},
		row{"body, expectation", "GET /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: x\r\n\r\nx", 413, "body"},
		row{"POST, waits to be told", "POST /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", 405, "method"},
		row{"a body that never comes", "GET /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 413, "body"},
		row{"a body that never comes, in chunks", "GET /shop/a.png HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 413, "body"},
		row{"a body that never comes, HTTP/1.0", "GET /shop/a.png HTTP/1.0\r\nContent-Length: 1\r\n\r\n", 413, "body"},
		row{"POST whose body never comes", "POST /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 405, "method"},
		row{"a body too large to read", "GET /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n", 413, "body"},
		row{"HTTP/1.0", "POST /shop/a.png HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 405, "method"},
	)
	for _, tc := range rows {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := s.dial()
			r := w.send(tc.request).answer("GET")
			wantProblem(t, r, tc.status, tc.code)
			if !r.Close {
				t.Error("the connection is not said to end")
			}
			if rest := w.all(); rest != "" {
				t.Errorf("more than one answer: %q", rest)
			}
			allow, want := r.Header.Values("Allow"), tc.status == http.StatusMethodNotAllowed
			if (len(allow) == 1 && allow[0] == "GET, HEAD") != want {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
	t.Cleanup(func() {
		if n := s.s3.Total(); n != 0 {
			t.Errorf("S3 was asked %d times", n)
		}
	})
}

// TestRefusalsAreCounted: a request that is refused before its path is resolved counts
// for the alias in the path.
func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.open("closed", "media", "web/", map[string]any{"enabled": false})
	const get, body, expect = "GET", "Content-Length: 1\r\n", "Expect: x\r\n"
	for _, tc := range []struct {
		name, method, target, lines string
		alias, label                string // of the one request
		code                        int
	}{
		{"method", "PUT", "/shop/a.png", "", "shop", "other", 405},
		{"body", get, "/shop/a.png", body, "shop", "GET", 413},
		{"body of a HEAD", "HEAD", "/shop/a.png", body, "shop", "HEAD", 413},
		{"expectation", get, "/shop/a.png", expect, "shop", "GET", 417},
		{"expectation to be told", get, "/shop/a.png", "Expect: 100-continue\r\n", "shop", "GET", 417},
		{"body after being told", "POST", "/shop/a.png", body + "Expect: 100-continue\r\n", "shop", "other", 405},
		{"absolute-form", "PUT", "http://h/shop/a.png?x#y", "", "_unknown", "other", 405},
		{"absolute-form without a fragment", "PUT", "http://h/shop/a.png?x", "", "shop", "other", 405},
		{"bad key", "PUT", "/shop/../x", "", "shop", "other", 405},
		{"disabled", "PUT", "/closed/a.png", "", "closed", "other", 405},
		{"no such alias", "PUT", "/nobody/a.png", "", "_unknown", "other", 405},
		{"no key", "PUT", "/shop", "", "_unknown", "other", 405},
		{"encoded name", "PUT", "/sho%70/a.png", "", "_unknown", "other", 405},
		{"in the host's place", "PUT", "//shop/a.png", "", "_unknown", "other", 405},
		{"health", "PUT", "/-/healthz", "", "_unknown", "other", 405},
		{"no path", "OPTIONS", "*", "", "_unknown", "other", 405},
		{"folded line", get, "/shop/a.png", "X: y\r\n z\r\n", "_unknown", "GET", 400},
		{"no request", get, "/shop/a.png", "Content-Length: x\r\n", "_unknown", "other", 400},
	} {
		// One after the other: each must add one to one series.
		t.Run(tc.name, func(t *testing.T) {
			count := func(alias string) float64 {
				return s.metric(fmt.Sprintf(`ixmage_http_requests_total{alias=%q,code="%d",method=%q}`, alias, tc.code, tc.label))
			}
			all := func() float64 { return count("shop") + count("closed") + count("_unknown") }
			before, sum := count(tc.alias), all()
			s.dial().send(tc.method + " " + tc.target + " HTTP/1.1\r\nHost: x\r\n" + tc.lines + "\r\n").answer(tc.method)
			eventually(t, "it is counted", func() bool { return all() > sum })
			if count(tc.alias) != before+1 {
				t.Errorf("it is not counted as %s", tc.alias)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	for _, target := range []string{"/-/healthz", "/-/readyz", "/-/healthz?x=y", "http://any.host/-/readyz"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r := s.dial().send(method + " " + target + " HTTP/1.1\r\nHost: x\r\n\r\n").answer(method)
			if r.StatusCode != http.StatusOK || (len(r.body) == 0) != (method == http.MethodHead) || r.ContentLength < 1 {
				t.Errorf("%s %s: got %s and a length of %d", method, target, summary(r), r.ContentLength)
			}
			if got := r.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("%s: Cache-Control is %q", target, got)
			}
		}
	}
	// Health checks are not counted.
	s.get("/nobody/x")
	if n := s.metric(`ixmage_http_requests_total{alias="_unknown",code="200",method="GET"}`); n != 0 {
		t.Errorf("%v health checks are counted", n)
	}
	eventually(t, "the one request is counted", func() bool {
		return s.metric(`ixmage_http_requests_total{alias="_unknown",code="404",method="GET"}`) == 1
	})
}
