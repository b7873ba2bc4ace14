package main

import (
	"net/http"
	"strings"
	"testing"

	"ixmage/alias/awstest"
)

// TestRefusals is what is decided before the path is looked at. The order is
// method, framing, body, expectation: a POST with a body and an expectation is
// 405, a GET with both 413. The connection ends with each.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put("a.png", awstest.Object{Body: fakePNG(100)})
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

func TestHealth(t *testing.T) {
	t.Parallel()
	s := newSite(t)
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
