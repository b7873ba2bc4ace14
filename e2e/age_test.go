package e2e

import (
	"net/http"
	"regexp"
	"strconv"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestUpstreamAge: what has aged on its way from S3 is older for the client and
// fresh for less.
func TestUpstreamAge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i, tc := range []struct {
		age, control string
		want, ttl    int // at least, at most; ttl 0: it is not kept
	}{
		{"590", "max-age=600", 590, 10},
		{" 100 ", "max-age=600", 100, 500},
		{"100, 200", "max-age=600", 100, 500},
		{"100", "", 100, 3500}, // the alias's ttl
		{"100", "max-age=5, s-maxage=600", 100, 500},
		{"600", "max-age=600", 600, 0},
		{"99999999999999999999", "max-age=600", 1<<31 - 1, 0},
		{"4000", "", 4000, 0},
		{"-1", "max-age=600", 0, 600},
		{"old", "max-age=600", 0, 600},
		{"1.5", "max-age=600", 0, 600},
	} {
		t.Run(tc.age+" of "+tc.control, func(t *testing.T) {
			t.Parallel()
			key := strconv.Itoa(i) + ".png"
			s.put(key, s3.Object{Body: fakePNG(1000), CacheControl: tc.control})
			aged := &s3.Fault{Header: func(h http.Header) { h.Set("Age", tc.age) }}
			s.s3.Next("media", "web/"+key, aged, aged, aged)
			wantAge(t, s.head("/shop/"+key), tc.want)
			wantAge(t, s.get("/shop/"+key), tc.want)
			r := s.get("/shop/" + key)
			wantAge(t, r, tc.want)
			status, ttl := r.Header.Get("Cache-Status"), 0
			if m := regexp.MustCompile(`^ixmage; hit; ttl=(\d+)$`).FindStringSubmatch(status); m != nil {
				ttl, _ = strconv.Atoi(m[1])
			}
			if ttl > tc.ttl || ttl < tc.ttl-60 {
				t.Errorf("Cache-Status is %q, want up to %d s", status, tc.ttl)
			}
		})
	}
}

func wantAge(t *testing.T, r *response, least int) {
	t.Helper()
	if age, err := strconv.Atoi(r.Header.Get("Age")); err != nil || age < least || age > least+60 {
		t.Errorf("Age is %q, want %d", r.Header.Get("Age"), least)
	}
}

// TestAgeOfJoined: who joins a fetch that is slow gets the age of what has come,
// and nobody joins it when that is fresh no more.
func TestAgeOfJoined(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--origin-idle-timeout", "5m")
	body, gate := fakePNG(1<<20), make(chan struct{})
	follow := func(key, until string, done func(*http.Response) bool) []*http.Response {
		s.s3.Next("media", "web/"+key, s3.StallAfter(500_000, gate))
		all := []*http.Response{s.dial().open("/shop/" + key)}
		eventually(t, until, func() bool {
			r := s.dial().open("/shop/" + key)
			all = append(all, r)
			return done(r)
		})
		return all
	}
	s.put("long.png", s3.Object{Body: body})
	all := follow("long.png", "what is joined ages", func(r *http.Response) bool {
		return r.Header.Get("Cache-Status") == "ixmage; fwd=uri-miss; collapsed" && r.Header.Get("Age") != "0"
	})
	s.put("short.png", s3.Object{Body: body, CacheControl: "max-age=1"})
	all = append(all, follow("short.png", "nobody joins any more", func(r *http.Response) bool {
		return r.Header.Get("Cache-Status") != "ixmage; fwd=uri-miss; collapsed"
	})...)
	wantRest(t, all[len(all)-1], body, 0) // while the first is still held back
	if long, short := s.calls("long.png"), s.calls("short.png"); long != 1 || short != 2 {
		t.Errorf("S3 was asked %d and %d times", long, short)
	}
	close(gate)
	for _, r := range all[:len(all)-1] {
		wantRest(t, r, body, 0)
	}
}
