package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// errorReply is an error of S3 with a message.
func errorReply(status int, code, message string) *s3.Fault {
	body := "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"
	return &s3.Fault{Status: status, Body: []byte(body), Header: func(h http.Header) { h.Set("Content-Type", "application/xml") }}
}

// TestLastModified: a Last-Modified that is no date is no validator, and does not fail the
// request. All forms of a date in HTTP are read.
func TestLastModified(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	const date = "Wed, 15 Nov 2023 12:45:26 GMT"
	for name, tc := range map[string]struct {
		lines []string
		want  string
	}{
		"IMF-fixdate":      {[]string{date}, date},
		"RFC 850":          {[]string{"Wednesday, 15-Nov-23 12:45:26 GMT"}, date},
		"asctime":          {[]string{"Wed Nov 15 12:45:26 2023"}, date},
		"fraction":         {[]string{"Wed, 15 Nov 2023 12:45:26.123 GMT"}, date},
		"twice the same":   {[]string{date, date}, date},
		"two":              {[]string{date, "Wed, 15 Nov 2023 12:45:27 GMT"}, ""},
		"ISO 8601":         {[]string{"2023-11-15T12:45:26.000Z"}, ""},
		"another zone":     {[]string{"Wed, 15 Nov 2023 12:45:26 +0100"}, ""},
		"seconds":          {[]string{"1700052326"}, ""},
		"empty":            {[]string{""}, ""},
		"a word":           {[]string{"yesterday"}, ""},
		"the year 9999":    {[]string{"Fri, 31 Dec 9999 23:59:59 GMT"}, ""},
		"in ten years":     {[]string{time.Now().AddDate(10, 0, 0).UTC().Format(http.TimeFormat)}, ""},
		"8,000 characters": {[]string{strings.Repeat("x", 8000)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			key := keyOf(name) + ".png"
			s.put(key, s3.Object{Body: png(5000, ""), ETag: `"v1"`})
			fault := &s3.Fault{Header: func(h http.Header) { h["Last-Modified"] = tc.lines }}
			s.s3.Next("media", "web/"+key, fault, fault, fault)
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				r := s.ask("/shop/" + key)
				if method == http.MethodHead {
					r = s.head("/shop/" + key)
				}
				if got := r.Header.Get("Last-Modified"); r.StatusCode != http.StatusOK || got != tc.want || r.err != nil {
					t.Errorf("%s: %s, Last-Modified %q, want %q", method, summary(r), got, tc.want)
				}
			}
		})
	}
}

// TestSenselessHeaders: a header that ixmage does not use cannot fail a request, whether
// GET, range or HEAD.
func TestSenselessHeaders(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-object-max", "4KiB")
	lines := []string{"Content-Length: 0005000"} // HTTP reads it as decimal
	for _, name := range []string{
		"x-amz-mp-parts-count", "x-amz-tagging-count", "x-amz-object-lock-retain-until-date", "x-amz-missing-meta",
		"x-amz-expiration", "x-amz-delete-marker", "x-amz-server-side-encryption-bucket-key-enabled", "x-amz-meta-note",
		"x-amz-restore", "x-amz-version-id", "Expires", "Accept-Ranges", "Content-Language", "Date", "Age",
		"x-amz-checksum-md5", "x-amz-checksum-xxhash64", "x-amz-request-charged", "x-amz-storage-class",
	} {
		for _, value := range []string{"", "senseless", "99999999999999999999", "-1", "tru"} {
			lines = append(lines, name+": "+value)
		}
	}
	for i, line := range lines {
		key := fmt.Sprintf("%d.png", i)
		s.put(key, s3.Object{Body: png(5000, "")})
		name, value, _ := strings.Cut(line, ": ")
		fault := &s3.Fault{Header: func(h http.Header) {
			if name == "Content-Length" {
				value = "000" + h.Get(name)
			}
			h.Set(name, value)
		}}
		s.s3.Next("media", "web/"+key, fault, fault, fault, fault, fault)
		if r := s.head("/shop/" + key); r.StatusCode != http.StatusOK || r.Header.Get("Content-Length") != "5000" {
			t.Errorf("%s: HEAD: %s", line, summary(r))
		}
		if r := s.ask("/shop/" + key); r.StatusCode != http.StatusOK || len(r.body) != 5000 || r.err != nil {
			t.Errorf("%s: GET: %s", line, summary(r))
		}
		if r := s.ask("/shop/"+key, "Range: bytes=0-9"); r.StatusCode != http.StatusPartialContent || len(r.body) != 10 {
			t.Errorf("%s: range: %s", line, summary(r))
		}
	}
}

// TestNoChecksumMode: a server that does not know x-amz-checksum-mode is asked again
// without it, and the next time without it at once.
func TestNoChecksumMode(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]*s3.Fault{
		"501":                    {Status: http.StatusNotImplemented, Body: []byte{}},
		"501 NotImplemented":     errorReply(501, "NotImplemented", "Header 'x-amz-checksum-mode' with value 'ENABLED' not implemented"),
		"400 NotImplemented":     errorReply(400, "NotImplemented", "A header you provided implies functionality that is not implemented"),
		"400 InvalidArgument":    errorReply(400, "InvalidArgument", "Unsupported header x-amz-checksum-mode"),
		"400 that says so alone": errorReply(400, "BadRequest", "this is not implemented"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t, "--breaker-failures", "1", "--breaker-open", "1h")
			s.s3.Hook(func(r *s3.Request) *s3.Fault {
				if r.Header.Get("X-Amz-Checksum-Mode") != "" {
					return refusal
				}
				return nil
			})
			for i, want := range []int{2, 1, 1} {
				key := fmt.Sprintf("%d.png", i)
				s.put(key, s3.Object{Body: png(5000, "")})
				wantPicture(t, s.get("/shop/"+key), png(5000, ""))
				if n := s.calls(key); n != want {
					t.Errorf("%s: %d requests to S3, want %d", key, n, want)
				}
			}
			if e := s.explain("/shop/0.png", "&probe=true"); e.Circuit.State != "closed" || e.Status != 200 {
				t.Errorf("explained: %+v", e)
			}
			s.put("head.png", s3.Object{Body: png(5000, "")})
			if r := s.head("/shop/head.png"); r.StatusCode != http.StatusOK {
				t.Errorf("HEAD: %s", summary(r))
			}
		})
	}
}

// TestNotImplemented: an S3 that cannot do one thing is not unhealthy, and the circuit
// stays closed.
func TestNotImplemented(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--breaker-failures", "1", "--breaker-open", "1h")
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if strings.Contains(r.Key, "odd") {
			return errorReply(501, "NotImplemented", "no such feature")
		}
		return nil
	})
	s.put("a.png", s3.Object{Body: png(100, "")})
	for i := range 5 {
		wantProblem(t, s.get(fmt.Sprintf("/shop/odd-%d.png", i)), http.StatusBadGateway, "origin-error")
	}
	wantPicture(t, s.get("/shop/a.png"), png(100, ""))
	e := s.explain("/shop/odd-1.png", "")
	if e.Circuit.State != "closed" || e.KeyFailure == nil || !strings.Contains(e.Remedy, "no such feature") {
		t.Errorf("explained: %+v", e)
	}
}

// TestNoConditions: a server that does not know conditional requests is asked without a
// condition when an object is stale.
func TestNoConditions(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"0s","stale_if_error":"0s"}`)
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if r.Header.Get("If-None-Match") != "" {
			return s3.FailStatus(501, "NotImplemented")
		}
		return nil
	})
	s.put("a.png", s3.Object{Body: png(100, "")})
	wantPicture(t, s.get("/shop/a.png"), png(100, ""))
	eventually(t, "it is stale and asked for again", func() bool {
		wantPicture(t, s.get("/shop/a.png"), png(100, ""))
		return s.calls("a.png") > 1
	})
}
