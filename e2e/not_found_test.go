package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestNotFoundIsOneAnswer: all answers of 404 are alike, so that they tell neither
// which aliases exist nor whether an object is missing or refused.
func TestNotFoundIsOneAnswer(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a.png", s3.Object{Body: png(100, "")})
	s.open("off", "media", "web/", map[string]any{"enabled": false})
	s.open("gone", "media", "web/", nil)
	wantPicture(t, s.get("/gone/a.png"), png(100, ""))
	if r := s.api(http.MethodDelete, "/api/v1/aliases/gone", nil); r.StatusCode != http.StatusNoContent {
		t.Fatalf("delete: %s", r.Status)
	}
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		switch r.Key {
		case "web/denied.png":
			return s3.Fail("AccessDenied")
		case "web/bare403.png":
			return &s3.Fault{Status: http.StatusForbidden, Body: []byte{}}
		case "web/html404.png":
			return s3.HTML404()
		}
		return nil
	})
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		want := ""
		for _, target := range []string{
			"/nobody/a.png", "/off/a.png", "/gone/a.png", "/shop/none.png", "/shop/denied.png", "/shop/bare403.png", "/shop/html404.png",
			"/shop/none.png?x=y", "/", "/shop", "/a", "/-/nothing", "/Shop/a.png", "/favicon.ico", "/metrics", "/api/v1/aliases",
			"/api/v1/aliases/x.png", "http://evil.example/nobody/a.png", "//shop/a.png",
		} {
			for _, lines := range []string{"", "Range: bytes=0-4\r\nIf-None-Match: *\r\nIf-Modified-Since: Wed, 15 Nov 2034 12:00:00 GMT\r\n"} {
				text := s.dial().send(method + " " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines + "\r\n").all()
				ids := requestIDs.FindAllString(text, -1)
				if n := map[string]int{http.MethodGet: 2, http.MethodHead: 1}[method]; len(ids) != n || ids[0] != ids[n-1] {
					t.Fatalf("%s %s: request ids %q", method, target, ids)
				}
				text = changing.ReplaceAllString(requestIDs.ReplaceAllString(text, "ID"), "Date: D")
				if want == "" {
					want = text
				}
				if text != want {
					t.Errorf("%s %s: got\n%s\nwant, as for the first,\n%s", method, target, text, want)
				}
			}
		}
		if got := regexp.MustCompile(`^HTTP/1.1 404 `).FindString(want); got == "" {
			t.Errorf("%s: the answer is %q", method, want)
		}
	}
}

var (
	requestIDs = regexp.MustCompile(`\b[0-9a-f]{16}\b`)
	changing   = regexp.MustCompile(`Date: [^\r]+`)
)

// TestNegative: S3 gets no second request for a missing object for a while, neither
// GET nor HEAD, and all answers are alike.
func TestNegative(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"negative_ttl":"1h"}`)
	s.open("never", "media", "web/", map[string]any{"negative_ttl": "0s"})
	for range 3 {
		for _, r := range []*response{s.get("/shop/none.png"), s.head("/shop/none.png")} {
			if r.StatusCode != http.StatusNotFound || r.Header.Get("Cache-Status") != "" || r.Header.Get("Age") != "" ||
				r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("got %s", summary(r))
			}
		}
	}
	if n := s.calls("none.png"); n != 1 {
		t.Errorf("S3 was asked %d times, want once", n)
	}
	s.head("/shop/head.png") // has no code: it may be the bucket that is missing
	s.get("/shop/head.png")
	if n := s.calls("head.png"); n != 2 {
		t.Errorf("S3 was asked %d times after a HEAD, want twice", n)
	}
	s.waitInFlight(0)
	if got := s.metric(`ixmage_cache_requests_total{alias="shop",cache="negative"}`); got != 5 {
		t.Errorf("%v negative answers are counted, want 5", got)
	}
	for range 3 {
		s.get("/never/none-either.png")
	}
	if n := s.calls("none-either.png"); n != 3 {
		t.Errorf("with negative_ttl 0s S3 was asked %d times, want 3", n)
	}
}

// TestNegativeEnds: a new object is seen when the negative ttl has passed, and at
// once after a purge, a change of location or another key pair.
func TestNegativeEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *env){
		"purge of the key":    func(s *env) { s.purge(`{"alias":"shop","key":"a.png"}`) },
		"purge of a prefix":   func(s *env) { s.purge(`{"alias":"shop","prefix":"a"}`) },
		"purge of the alias":  func(s *env) { s.purge(`{"alias":"shop"}`) },
		"hard purge of all":   func(s *env) { s.purge(`{"alias":"shop","hard":true}`) },
		"another region":      func(s *env) { s.patch("shop", `{"region":"eu-west-1"}`) },
		"another key pair":    func(s *env) { s.replaceKey("shop") },
		"another credential":  func(s *env) { s.otherCredential("shop") },
		"its own end, in 1 s": func(*env) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t)
			life := "1h"
			if name == "its own end, in 1 s" {
				life = "1s"
			}
			s.patch("shop", `{"negative_ttl":"`+life+`"}`)
			if r := s.get("/shop/a.png"); r.StatusCode != http.StatusNotFound {
				t.Fatal(summary(r))
			}
			s.put("a.png", s3.Object{Body: png(100, "")})
			if r := s.get("/shop/a.png"); life == "1h" && r.StatusCode != http.StatusNotFound {
				t.Fatalf("before: %s", summary(r))
			}
			end(s)
			eventually(t, "it is there", func() bool { return s.get("/shop/a.png").StatusCode == http.StatusOK })
		})
	}
}

// TestStrangersEvictNothing: requests for any number of missing keys evict no
// picture, whichever error S3 sends for them.
func TestStrangersEvictNothing(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-memory", "512KiB", "--log-level", "error")
	s.patch("shop", `{"negative_ttl":"1h"}`)
	s.put("a.png", s3.Object{Body: png(100_000, "")})
	wantPicture(t, s.get("/shop/a.png"), png(100_000, ""))
	entries, bytes := s.metric(cacheEntries), s.metric(cacheBytes)
	for _, says := range []string{"NoSuchKey", "AccessDenied"} {
		var strangers []string
		for i := range 2000 {
			strangers = append(strangers, fmt.Sprintf("/shop/%s-%d.png", says, i))
		}
		s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail(says) })
		s.rush(20, strangers, func(_ string, r *response) string {
			if r.StatusCode != http.StatusNotFound {
				return summary(r)
			}
			return ""
		})
		r := s.get("/shop/a.png")
		wantPicture(t, r, png(100_000, ""))
		if status := r.Header.Get("Cache-Status"); !strings.HasPrefix(status, "ixmage; hit; ttl=3") {
			t.Errorf("after %s: Cache-Status is %q, want a hit", says, status)
		}
		held, limit := s.metric(`ixmage_cache_bytes{tier="missing"}`), s.metric(`ixmage_cache_capacity_bytes{tier="missing"}`)
		if held < limit/2 || held > limit {
			t.Errorf("after %s: %v bytes of %v are held of what is missing", says, held, limit)
		}
		if e, b := s.metric(cacheEntries), s.metric(cacheBytes); e != entries || b != bytes {
			t.Errorf("after %s: %v entries with %v bytes, want %v with %v as before", says, e, b, entries, bytes)
		}
	}
	if n := s.calls("a.png"); n != 1 {
		t.Errorf("S3 was asked %d times for the picture", n)
	}
}
