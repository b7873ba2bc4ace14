package e2e

import (
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestStaleWhileRevalidate: what is past its time is served at once, and fetched
// anew behind the client's back.
func TestStaleWhileRevalidate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"1h"}`)
	old, young := fakePNG(100), fakePNG(200)
	s.put("a.png", s3.Object{Body: old})
	wantPicture(t, s.get("/shop/a.png"), old)
	s.put("a.png", s3.Object{Body: young})
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

// TestHeadOfStale: HEAD of what is stored and stale knows no ranges, fetches what has
// changed once, and leaves it for GET.
func TestHeadOfStale(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.patch("shop", `{"stale_while_revalidate":"0s"}`)
	s.put("a.png", s3.Object{Body: fakePNG(100), CacheControl: "max-age=1"})
	wantPicture(t, s.get("/shop/a.png"), fakePNG(100))
	s.put("a.png", s3.Object{Body: fakePNG(2_000_000)})
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
