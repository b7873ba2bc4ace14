package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestFreshness: what an object says of its own freshness is told to clients and
// heeded; where it says nothing the alias's ttl counts.
func TestFreshness(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.patch("shop", `{"ttl":"30m"}`)
	const (
		never    = -1
		validate = -2 // it is stored, and asked about each time
	)
	for i, tc := range []struct {
		header string
		ttl    int // of the hit that follows, at most; never: there is none
		out    string
	}{
		{"", 1800, "public, max-age=1800"},
		{"max-age=600", 600, "max-age=600"},
		{"Public,MAX-AGE=600", 600, "public, max-age=600"},
		{"max-age=600, s-maxage=900", 900, "max-age=600, s-maxage=900"},
		{"max-age=0, s-maxage=900", 900, "max-age=0, s-maxage=900"},
		{"max-age=600, max-age=900", 600, "max-age=600, max-age=900"},
		{"public, immutable", 1800, "public, immutable"},
		{"max-age=\"600\"", 600, "max-age=\"600\""},
		{"max-age=99999999999999999999", 1 << 31, "max-age=99999999999999999999"},
		{"!!!, max-age=600, ===", 600, "!!!, max-age=600"},
		{"a b c", 1800, "public, max-age=1800"},

		{"no-store", never, "no-store"},
		{"no-cache", validate, "no-cache"},
		{"private", never, "private"},
		{"NO-STORE", never, "no-store"},
		{"private=\"x\", max-age=600", never, "private=\"x\", max-age=600"},
		{"no-cache=\"Set-Cookie\", max-age=600", validate, "no-cache=\"Set-Cookie\", max-age=600"},
		{"max-age=0", validate, "max-age=0"},
		{"s-maxage=0, max-age=600", validate, "s-maxage=0, max-age=600"},
		{"max-age=-5", validate, "max-age=-5"},
		{"max-age=soon", validate, "max-age=soon"},
		{"max-age=600, no-store", never, "max-age=600, no-store"},
		{"x=\"open, no-store", never, "no-store"},
	} {
		t.Run(tc.header, func(t *testing.T) {
			t.Parallel()
			key := strconv.Itoa(i) + ".png"
			body := fakePNG(1000)
			s.put(key, s3.Object{Body: body, CacheControl: tc.header})
			for round := 1; round <= 3; round++ {
				r := s.get("/shop/" + key)
				wantPicture(t, r, body)
				if got := r.Header.Get("Cache-Control"); got != tc.out {
					t.Errorf("Cache-Control is %q, want %q", got, tc.out)
				}
				wantCacheStatus(t, r, round, tc.ttl)
			}
			want := 1
			if tc.ttl < 0 {
				want = 3
			}
			if n := s.calls(key); n != want {
				t.Errorf("S3 was asked %d times, want %d", n, want)
			}
		})
	}
	t.Cleanup(func() {
		if n := s.metric(`ixmage_cache_entries{tier="memory"}`); n != 17 {
			t.Errorf("%v entries, want those that may be stored", n)
		}
	})
}

// wantCacheStatus checks Cache-Status and Age of the answer to request number
// round for one object.
func wantCacheStatus(t *testing.T, r *response, round, ttl int) {
	t.Helper()
	got := r.Header.Get("Cache-Status")
	age, err := strconv.Atoi(r.Header.Get("Age"))
	if err != nil || age < 0 || age > 60 {
		t.Errorf("Age is %q", r.Header.Get("Age"))
	}
	switch {
	case ttl == -2 && round > 1:
		if got != "ixmage; fwd=stale; fwd-status=304" || age != 0 {
			t.Errorf("Cache-Status is %q, Age %d", got, age)
		}
	case ttl == -1:
		if got != "ixmage; fwd=uri-miss; fwd-status=200" {
			t.Errorf("Cache-Status is %q", got)
		}
	case round == 1:
		if got != "ixmage; fwd=uri-miss; fwd-status=200; stored" {
			t.Errorf("Cache-Status is %q", got)
		}
	default:
		m := regexp.MustCompile(`^ixmage; hit; ttl=(\d+)$`).FindStringSubmatch(got)
		if m == nil {
			t.Fatalf("Cache-Status is %q", got)
		}
		if left, _ := strconv.Atoi(m[1]); left > ttl || left < ttl-61 {
			t.Errorf("fresh for %d s more, want up to %d", left, ttl)
		}
	}
}

// What is past its time, and may not be served so, is asked for again: with a 304
// the bytes stay, with a new version they do not.
func TestStaleIsFetchedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.open("brief", "media", "web/", map[string]any{"ttl": "1s", "stale_while_revalidate": "0s"})
	s.put("own.png", s3.Object{Body: fakePNG(100), CacheControl: "max-age=1"})
	s.put("ttl.png", s3.Object{Body: fakePNG(100)})
	cacheControl := map[string]string{"own.png": "max-age=1"}
	for _, key := range []string{"own.png", "ttl.png"} {
		for _, tc := range []struct {
			body   []byte
			status string
		}{
			{fakePNG(100), "ixmage; fwd=stale; fwd-status=304"},
			{fakePNG(200), "ixmage; fwd=stale; fwd-status=200; stored"},
		} {
			s.get("/brief/" + key)
			s.put(key, s3.Object{Body: tc.body, CacheControl: cacheControl[key]})
			var last *response
			eventually(t, key+" is stale", func() bool {
				last = s.get("/brief/" + key)
				return !strings.HasPrefix(last.Header.Get("Cache-Status"), "ixmage; hit; ttl=")
			})
			wantPicture(t, last, tc.body)
			if got := last.Header.Get("Cache-Status"); got != tc.status || last.Header.Get("Age") != "0" {
				t.Errorf("%s: Cache-Status is %q, Age %s; want %q", key, got, last.Header.Get("Age"), tc.status)
			}
		}
	}
}

// A stranger cannot have an object fetched again, nor have it kept.
func TestClientCacheControlIsIgnored(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	body := fakePNG(100)
	s.put("a.png", s3.Object{Body: body})
	for _, h := range []string{"Cache-Control: no-cache", "Cache-Control: no-store", "Cache-Control: max-age=0", "Pragma: no-cache", "Cache-Control: only-if-cached"} {
		for range 2 {
			wantPicture(t, s.ask("/shop/a.png", h), body)
		}
	}
	if n := s.calls("a.png"); n != 1 {
		t.Errorf("S3 was asked %d times", n)
	}
}

// TestNotStored: an object whose store is off or too small is served all the same.
func TestNotStored(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args   []string
		status string
	}{
		"cache off":       {[]string{"--cache-memory", "0"}, "ixmage; fwd=uri-miss; fwd-status=200"},
		"past the limit":  {[]string{"--cache-object-max", "64KiB"}, "ixmage; fwd=bypass"},
		"past the budget": {[]string{"--cache-memory", "64KiB"}, "ixmage; fwd=uri-miss; fwd-status=200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, tc.args...)
			body := fakePNG(100_000)
			s.put("a.png", s3.Object{Body: body})
			for round := 1; round <= 3; round++ {
				r := s.get("/shop/a.png")
				wantPicture(t, r, body)
				if got := r.Header.Get("Cache-Status"); got != tc.status {
					t.Errorf("round %d: Cache-Status is %q, want %q", round, got, tc.status)
				}
				if n := s.calls("a.png"); n != round {
					t.Errorf("round %d: S3 was asked %d times", round, n)
				}
			}
			for _, series := range []string{"entries", "bytes"} {
				eventually(t, "nothing is kept", func() bool {
					return s.metric(fmt.Sprintf(`ixmage_cache_%s{tier="memory"}`, series)) == 0
				})
			}
		})
	}
}
