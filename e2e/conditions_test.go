package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// TestConditions has each step of RFC 9110, section 13.2.2, for a stored and a cold
// object, by GET and HEAD. The tables of single headers are in proxy.
func TestConditions(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	const (
		earlier = "Wed, 15 Nov 2023 11:59:59 GMT"
		exactly = "Wed, 15 Nov 2023 12:00:00 GMT"
		later   = "Wed, 15 Nov 2023 12:00:01 GMT"
	)
	obj := s3.Object{
		Body: png(5000, ""), ETag: `"v1"`, LastModified: time.Date(2023, time.November, 15, 12, 0, 0, 0, time.UTC),
		CacheControl: "max-age=77777",
	}
	s.put("hit.png", obj)
	wantPicture(t, s.get("/shop/hit.png"), obj.Body)
	for i, tc := range []struct {
		lines  string
		status int
	}{
		{`If-None-Match: "v1"`, 304},
		{`If-None-Match: W/"v1"`, 304},
		{`If-None-Match: "v0", "v1"`, 304},
		{"If-None-Match: \"v0\"\r\nIf-None-Match: \"v1\"", 304},
		{`If-None-Match: *`, 304},
		{`If-None-Match: "v2"`, 200},
		{`If-None-Match: v1`, 200},
		{`If-Match: "v1"`, 200},
		{`If-Match: *`, 200},
		{`If-Match: "v2"`, 412},
		{`If-Match: W/"v1"`, 412},
		{`If-Modified-Since: ` + exactly, 304},
		{`If-Modified-Since: ` + later, 304},
		{`If-Modified-Since: ` + earlier, 200},
		{`If-Modified-Since: Wednesday, 15-Nov-23 12:00:00 GMT`, 304},
		{`If-Modified-Since: Wed Nov 15 12:00:00 2023`, 304},
		{`If-Modified-Since: yesterday`, 200},
		{"If-Modified-Since: " + later + "\r\nIf-Modified-Since: " + later, 200},
		{`If-Unmodified-Since: ` + exactly, 200},
		{`If-Unmodified-Since: ` + earlier, 412},
		{`If-Unmodified-Since: yesterday`, 200},
		{"If-Match: \"v1\"\r\nIf-Unmodified-Since: " + earlier, 200},
		{"If-Match: \"v2\"\r\nIf-None-Match: \"v1\"", 412},
		{"If-Match: \"v1\"\r\nIf-None-Match: \"v1\"", 304},
		{"If-None-Match: \"v2\"\r\nIf-Modified-Since: " + later, 200},
		{"If-None-Match: \"v1\"\r\nIf-Modified-Since: " + earlier, 304},
		{"If-None-Match: \"v1\"\r\nRange: bytes=0-9", 304},
		{"If-Match: \"v2\"\r\nRange: bytes=0-9", 412},
		{"If-Match: \"v2\"\r\nRange: bytes=9999-", 412},
		{"if-none-match: \"v1\"", 304},
	} {
		t.Run(strings.ReplaceAll(tc.lines, "\r\n", ", "), func(t *testing.T) {
			t.Parallel()
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				cold := fmt.Sprintf("%s%d.png", method, i)
				s.put(cold, obj)
				for _, key := range []string{"hit.png", cold} {
					r := s.dial().send(method + " /shop/" + key + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + tc.lines + "\r\n\r\n").answer(method)
					if r.StatusCode != tc.status {
						t.Errorf("%s %s: got %s, want %d", method, key, summary(r), tc.status)
					}
					if tc.status == http.StatusNotModified {
						wantNotModified(t, r)
					}
				}
				// S3 gets no condition.
				for _, q := range s.s3.Requests() {
					for name := range q.Header {
						if strings.HasPrefix(name, "If-") {
							t.Errorf("S3 was sent %s", name)
						}
					}
				}
			}
			// A small object that a condition kept from the client is stored all the same.
			want := []string{"GET "}
			if strings.Contains(tc.lines, "Range") {
				want = []string{"HEAD ", "GET "}
			}
			if got := s.askedFor(fmt.Sprintf("GET%d.png", i)); !slices.Equal(got, want) {
				t.Errorf("S3 was asked %q, want %q", got, want)
			}
		})
	}
}

// wantNotModified checks that a 304 has the headers that a 200 would have.
func wantNotModified(t *testing.T, r *response) {
	t.Helper()
	for name, want := range map[string]string{
		"ETag": `"v1"`, "Last-Modified": "Wed, 15 Nov 2023 12:00:00 GMT", "Cache-Control": "max-age=77777", "Content-Type": "", "Content-Length": "",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"Age", "Cache-Status"} {
		if r.Header.Get(name) == "" {
			t.Errorf("no %s", name)
		}
	}
	if len(r.body) != 0 {
		t.Errorf("a body of %d bytes", len(r.body))
	}
}

// TestConditionsOfLarge: an object that a condition keeps from the client is fetched
// completely if the cache can store it and the requests are worth it (TestConditionsEarn).
func TestConditionsOfLarge(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		line, control string
		status        int
		size          int
		stored        bool
		asked         []string
	}{
		"304":                 {`If-None-Match: "v1"`, "", 304, 256 << 10, true, []string{"GET "}},
		"412":                 {`If-Match: "v2"`, "", 412, 256 << 10, true, []string{"GET "}},
		"416":                 {"Range: bytes=99999999-", "", 416, 256 << 10, true, []string{"HEAD ", "GET "}},
		"304 of no-store":     {`If-None-Match: "v1"`, "no-store", 304, 256 << 10, false, []string{"GET ", "GET "}},
		"304 of a larger one": {`If-None-Match: "v1"`, "", 304, 256<<10 + 1, false, []string{"GET ", "GET "}},
		"412 of a larger one": {`If-Match: "v2"`, "", 412, 256<<10 + 1, false, []string{"GET ", "GET "}},
		"416 of a larger one": {"Range: bytes=99999999-", "", 416, 256<<10 + 1, false, []string{"HEAD ", "GET "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t)
			body, gate := png(tc.size, ""), make(chan struct{})
			s.put("a.png", s3.Object{Body: body, ETag: `"v1"`, CacheControl: tc.control})
			s.s3.Hook(func(r *s3.Request) *s3.Fault {
				if r.Method == http.MethodGet {
					return s3.StallAfter(100<<10, gate)
				}
				return nil
			})
			r := s.dial().send("GET /shop/a.png HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + tc.line + "\r\n\r\n").answer(http.MethodGet)
			if r.StatusCode != tc.status {
				t.Fatalf("got %s, want %d", summary(r), tc.status)
			}
			s.waitInFlight(0)
			close(gate)
			s.wantQuiet(t)
			r = s.get("/shop/a.png")
			wantPicture(t, r, body)
			if hit := strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit"); hit != tc.stored {
				t.Errorf("then the Cache-Status is %q", r.Header.Get("Cache-Status"))
			}
			if got := s.askedFor("a.png"); !slices.Equal(got, tc.asked) {
				t.Errorf("S3 was asked %q, want %q", got, tc.asked)
			}
		})
	}
}
