package e2e

import (
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestOwnCacheControl: what an alias tells clients holds at once, for what is
// cached too, and changes nothing of what we do ourselves.
func TestOwnCacheControl(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put("a.png", s3.Object{Body: fakePNG(100), CacheControl: "max-age=600"})
	s.put("never.png", s3.Object{Body: fakePNG(100), CacheControl: "no-store"})
	for _, step := range []struct{ patch, a, never string }{
		{`{}`, "max-age=600", "no-store"},
		{`{"cache_control":"Public, max-age=31536000, immutable"}`, "public, max-age=31536000, immutable", "public, max-age=31536000, immutable"},
		{`{"cache_control":null}`, "max-age=600", "no-store"},
	} {
		s.patch("shop", step.patch)
		for range 2 {
			for target, want := range map[string]string{"/shop/a.png": step.a, "/shop/never.png": step.never} {
				r := s.get(target)
				wantPicture(t, r, fakePNG(100))
				if age := r.Header.Get("Age"); age != "0" && strings.Contains(step.patch, "31536000") {
					t.Errorf("Age is %s, though the policy begins here", age)
				}
				if got := r.Header.Get("Cache-Control"); got != want {
					t.Errorf("after %s: %s has %q, want %q", step.patch, target, got, want)
				}
			}
		}
	}
	if a, never := s.calls("a.png"), s.calls("never.png"); a != 1 || never != 6 {
		t.Errorf("S3 was asked %d and %d times, want 1 and 6", a, never)
	}
}

// TestCORS: pages of the origins that an alias names may read its pictures, with
// every status that a picture has, and nobody learns more of what is missing.
func TestCORS(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put("a.png", s3.Object{Body: fakePNG(100)})
	const shop, evil = "https://shop.example.com", "https://evil.example.com"
	for _, tc := range []struct {
		patch, origin string
		allow, vary   string
	}{
		{`{}`, shop, "", ""},
		{`{"cors_origins":["https://shop.example.com","http://localhost:3000"]}`, shop, shop, "Origin"},
		{`{}`, "http://localhost:3000", "http://localhost:3000", "Origin"},
		{`{}`, evil, "", "Origin"},
		{`{}`, "HTTPS://shop.example.com", "", "Origin"},
		{`{}`, "https://shop.example.com.evil.com", "", "Origin"},
		{`{}`, "null", "", "Origin"},
		{`{}`, "", "", "Origin"},
		{`{"cors_origins":["*"]}`, evil, "*", ""},
		{`{"cors_origins":null}`, shop, "", ""},
	} {
		s.patch("shop", tc.patch)
		lines := []string{}
		if tc.origin != "" {
			lines = append(lines, "Origin: "+tc.origin)
		}
		for _, more := range []struct {
			line   string
			status int
		}{{"X-None: 1", 200}, {"Range: bytes=0-9", 206}, {"If-None-Match: *", 304}, {"Range: bytes=1000-", 416}} {
			r := s.ask("/shop/a.png", append(lines, more.line)...)
			if r.StatusCode != more.status {
				t.Errorf("%s: got %s", more.line, summary(r))
			}
			allow, vary := r.Header.Get("Access-Control-Allow-Origin"), r.Header.Get("Vary")
			if allow != tc.allow || vary != tc.vary || (r.Header.Get("Access-Control-Expose-Headers") != "") != (allow != "") {
				t.Errorf("%s from %q: allowed %q, Vary %q; want %q, %q", more.line, tc.origin, allow, vary, tc.allow, tc.vary)
			}
		}
		if r := s.ask("/shop/none.png", lines...); r.Header.Get("Access-Control-Allow-Origin") != "" || r.Header.Get("Vary") != "" {
			t.Errorf("a 404 has CORS headers: %v", r.Header)
		}
	}
}

// TestFallback: in the place of a picture that is missing or cannot be had comes
// another, with the status of the error and for a short time.
func TestFallback(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	missing, broken := fakePNG(100), fakePNG(9000)
	s.put("missing.png", s3.Object{Body: missing, CacheControl: "max-age=86400"})
	s.put("broken.png", s3.Object{Body: broken})
	s.patch("shop", `{"fallback":{"missing":"missing.png","broken":"broken.png"}}`)
	s.get("/shop/missing.png")
	eventually(t, "what stands in when S3 fails is fetched before that", func() bool {
		return s.calls("broken.png") == 1 && s.metric(`ixmage_cache_entries{tier="memory"}`) == 2
	})
	s.put("text.png", s3.Object{Body: []byte("no picture"), ContentType: "text/plain"})
	check := func(target string, lines []string, status int, body []byte, cacheControl string) {
		t.Helper()
		r := s.ask(target, lines...)
		if r.StatusCode != status || string(r.body) != string(body) || r.Header.Get("Content-Type") != "image/png" ||
			r.Header.Get("Cache-Control") != cacheControl || r.Header.Get("ETag") != "" || r.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: got %s with %d bytes and %v", target, summary(r), len(r.body), r.Header)
		}
	}
	for range 2 {
		check("/shop/none.png", nil, 404, missing, "public, max-age=5")
	}
	check("/shop/none.png", []string{"Range: bytes=0-9", "If-None-Match: *"}, 404, missing, "public, max-age=5")
	if head := s.head("/shop/none.png"); head.StatusCode != 404 || head.ContentLength != int64(len(missing)) {
		t.Errorf("HEAD: %s, length %d", summary(head), head.ContentLength)
	}
	wantProblem(t, s.get("/shop/text.png"), http.StatusUnsupportedMediaType, "not-an-image")
	wantProblem(t, s.get("/shop/a//b.png"), http.StatusBadRequest, "bad-key")
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InvalidAccessKeyId") })
	check("/shop/other.png", nil, 502, broken, "public, max-age=5")
	eventually(t, "it is counted as what it is", func() bool {
		return s.metric(`ixmage_http_requests_total{alias="shop",code="502",method="GET"}`) == 1
	})

	// Without the fallback itself it is a problem again.
	s.patch("shop", `{"fallback":"nowhere.png"}`)
	wantProblem(t, s.get("/shop/other-2.png"), http.StatusBadGateway, "origin-credential")
	s.s3.Hook(nil)
	wantProblem(t, s.get("/shop/other-3.png"), http.StatusNotFound, "not-found")
}
