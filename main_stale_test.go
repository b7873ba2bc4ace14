package main

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"ixmage/alias/awstest"
)

// TestStaleWhileRevalidate: what is past its time is served at once, and fetched
// anew behind the client's back.
func TestStaleWhileRevalidate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"1h"}`)
	old, young := fakePNG(100), fakePNG(200)
	s.put("a.png", awstest.Object{Body: old})
	wantPicture(t, s.get("/shop/a.png"), old)
	s.put("a.png", awstest.Object{Body: young})
	var stale *response
	eventually(t, "it is stale", func() bool {
		r := s.get("/shop/a.png")
		if strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit; ttl=-") {
			stale = r
		}
		return stale != nil
	})
	wantPicture(t, stale, old)
	if age := stale.Header.Get("Age"); age == "0" {
		t.Errorf("Age is %s", age)
	}
	eventually(t, "it is new", func() bool { return len(s.get("/shop/a.png").body) == len(young) })
	if s.metric(`ixmage_cache_requests_total{alias="shop",cache="stale"}`) < 1 {
		t.Error("no stale answer is counted")
	}
}

// TestStaleIfError: whatever happens to S3 or our key, a picture that was served
// is served on, for as long as the alias says, and without it nothing is.
func TestStaleIfError(t *testing.T) {
	t.Parallel()
	faults := map[string]*awstest.Fault{
		"internal error":      awstest.Fail("InternalError"),
		"throttled":           awstest.Fail("SlowDown"),
		"key unknown":         awstest.Fail("InvalidAccessKeyId"),
		"signature":           awstest.Fail("SignatureDoesNotMatch"),
		"connection reset":    awstest.ResetAfter(awstest.BeforeHeaders),
		"503 without a cause": awstest.FailStatus(http.StatusServiceUnavailable, "ServiceUnavailable"),
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.open("strict", "media", "web/", map[string]any{
				"ttl": "1s", "stale_while_revalidate": "0s", "stale_if_error": "0s",
			})
			s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"0s","stale_if_error":"1h"}`)
			body := fakePNG(100)
			s.put("a.png", awstest.Object{Body: body})
			s.put("bound.png", awstest.Object{Body: body, CacheControl: "max-age=1, must-revalidate"})
			for _, target := range []string{"/shop/a.png", "/shop/bound.png", "/strict/a.png"} {
				wantPicture(t, s.get(target), body)
			}
			var broken atomic.Bool
			broken.Store(true)
			s.s3.Hook(func(*awstest.Recorded) *awstest.Fault {
				if broken.Load() {
					return fault
				}
				return nil
			})
			for _, target := range []string{"/strict/a.png", "/shop/bound.png"} {
				eventually(t, "without leave nothing stale is served", func() bool {
					return s.get(target).StatusCode >= 500
				})
			}
			var last *response
			eventually(t, "it is stale", func() bool {
				last = s.get("/shop/a.png")
				return strings.HasPrefix(last.Header.Get("Cache-Status"), "ixmage; hit; ttl=-")
			})
			wantPicture(t, last, body)
			wantPicture(t, s.ask("/shop/a.png"), body)
			if head := s.head("/shop/a.png"); head.StatusCode != http.StatusOK || head.ContentLength != 100 {
				t.Errorf("HEAD: %s", summary(head))
			}
			broken.Store(false)
			eventually(t, "it is fresh again", func() bool {
				return !strings.Contains(s.get("/shop/a.png").Header.Get("Cache-Status"), "ttl=-")
			})
		})
	}
}

// TestGone: a picture that S3 says is not there goes, however long it might have
// been served stale.
func TestGone(t *testing.T) {
	t.Parallel()
	for name, hide := range map[string]bool{"404": false, "403": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if hide {
				s.s3.HideMissing()
			}
			s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"0s","stale_if_error":"1h"}`)
			s.put("a.png", awstest.Object{Body: fakePNG(100)})
			wantPicture(t, s.get("/shop/a.png"), fakePNG(100))
			s.s3.Delete("media", "web/a.png")
			eventually(t, "it is gone", func() bool { return s.get("/shop/a.png").StatusCode == http.StatusNotFound })
			if n := s.metric(`ixmage_cache_entries{tier="memory"}`); n != 0 {
				t.Errorf("%v entries are left", n)
			}
		})
	}
}

// TestReplacedByNoPicture: what has become something else does not come back when
// S3 fails afterwards.
func TestReplacedByNoPicture(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"0s","stale_if_error":"1h"}`)
	s.put("a.png", awstest.Object{Body: fakePNG(100)})
	wantPicture(t, s.get("/shop/a.png"), fakePNG(100))
	s.put("a.png", awstest.Object{Body: []byte("no picture"), ContentType: "text/plain"})
	eventually(t, "it is no picture", func() bool {
		return s.get("/shop/a.png").StatusCode == http.StatusUnsupportedMediaType
	})
	s.s3.Hook(func(*awstest.Recorded) *awstest.Fault { return awstest.Fail("InternalError") })
	wantProblem(t, s.get("/shop/a.png"), http.StatusBadGateway, "origin-error")
}

// TestHeadOfStale: HEAD of what is stored and stale knows no ranges, fetches what has
// changed once, and leaves it for GET.
func TestHeadOfStale(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.patch("shop", `{"stale_while_revalidate":"0s"}`)
	s.put("a.png", awstest.Object{Body: fakePNG(100), CacheControl: "max-age=1"})
	wantPicture(t, s.get("/shop/a.png"), fakePNG(100))
	s.put("a.png", awstest.Object{Body: fakePNG(2_000_000)})
	var head *response
	eventually(t, "it is stale", func() bool {
		head = s.head("/shop/a.png", "Range", "bytes=0-9")
		return head.ContentLength != 100
	})
	if head.StatusCode != http.StatusOK || head.ContentLength != 2_000_000 {
		t.Errorf("got %s, length %d", summary(head), head.ContentLength)
	}
	wantPicture(t, s.get("/shop/a.png"), fakePNG(2_000_000))
	if n := s.calls("a.png"); n != 2 {
		t.Errorf("S3 was asked %d times, want twice", n)
	}
}

// TestDoubtfulCanary: while S3 has no answer about the canary, a refusal of another
// object says nothing: what is stored is served on, and nothing is remembered.
func TestDoubtfulCanary(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--canary-fresh", "1ms", "--breaker-failures", "0")
	s.patch("shop", `{"canary":"canary.png","ttl":"1s","stale_while_revalidate":"0s","stale_if_error":"1h","negative_ttl":"1h"}`)
	body := fakePNG(100)
	for _, key := range []string{"canary.png", "a.png", "b.png"} {
		s.put(key, awstest.Object{Body: body})
	}
	wantPicture(t, s.get("/shop/a.png"), body)
	s.s3.Hook(func(r *awstest.Recorded) *awstest.Fault {
		if strings.HasSuffix(r.Key, "canary.png") {
			return awstest.Fail("InternalError")
		}
		return awstest.Fail("AccessDenied")
	})
	wantProblem(t, s.get("/shop/b.png"), http.StatusNotFound, "not-found")
	eventually(t, "it is stale", func() bool {
		r := s.get("/shop/a.png")
		wantPicture(t, r, body)
		return strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit; ttl=-")
	})
	s.s3.Hook(nil)
	wantPicture(t, s.get("/shop/b.png"), body)
}
