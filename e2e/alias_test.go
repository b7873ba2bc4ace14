package e2e

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// change merges a patch into an alias or fails the test.
func (s *env) change(name, patch string) {
	s.t.Helper()
	if r := s.api(http.MethodPatch, "/api/v1/aliases/"+name, patch); r.StatusCode != http.StatusOK {
		s.t.Fatalf("patch %s: %s: %s", name, r.Status, r.body)
	}
}

// TestAliasChanges: a change of an alias holds from the next request.
func TestAliasChanges(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	other := s3.New(t)
	one := func(text string) s3.Object {
		return s3.Object{Body: append(png(100, ""), text...), ContentType: "image/png"}
	}
	s.s3.Put("media", "web/a.png", one("web"))
	s.s3.Put("media", "new/a.png", one("new"))
	s.s3.Put("media", "a.png", one("root"))
	s.s3.Put("media2", "a.png", one("media2"))
	other.Put("media2", "a.png", one("other"))
	for _, step := range []struct {
		patch  string
		want   string // what /shop/a.png is then; empty: not found
		status string // what Cache-Status begins with
	}{
		{`{}`, "web", "ixmage; fwd=uri-miss"},
		{`{"enabled":false}`, "", ""},
		{`{"enabled":true}`, "web", "ixmage; hit"},
		{`{"ttl":"10m"}`, "web", "ixmage; hit"},
		{`{"prefix":"new"}`, "new", "ixmage; fwd=uri-miss"},
		{`{"prefix":"web/"}`, "web", "ixmage; fwd=uri-miss"}, // the entry of before is of an older epoch
		{`{"prefix":null}`, "root", "ixmage; fwd=uri-miss"},
		{`{"bucket":"media2"}`, "media2", "ixmage; fwd=uri-miss"},
		{`{"endpoint":"` + other.URL + `"}`, "other", "ixmage; fwd=uri-miss"},
		{`{"prefix":"none/"}`, "", ""},
		{`{"prefix":null,"endpoint":"` + s.s3.URL + `"}`, "media2", "ixmage; fwd=uri-miss"},
	} {
		s.change("shop", step.patch)
		for round := range 2 {
			r := s.get("/shop/a.png")
			if step.want == "" {
				wantProblem(t, r, http.StatusNotFound, "not-found")
				continue
			}
			wantPicture(t, r, one(step.want).Body)
			if got := r.Header.Get("Cache-Status"); round == 0 && !strings.HasPrefix(got, step.status) {
				t.Errorf("after %s: Cache-Status is %q, want %s…", step.patch, got, step.status)
			}
		}
	}
	// An object fetched after the change of ttl has the new lifetime.
	s.s3.Put("media2", "b.png", one("b"))
	if got := s.get("/shop/b.png").Header.Get("Cache-Control"); got != "public, max-age=600" {
		t.Errorf("Cache-Control is %q", got)
	}
}

// TestAliasMadeAgain: an alias created again under a name serves nothing of the old one.
func TestAliasMadeAgain(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a.png", s3.Object{Body: png(100, "")})
	s.put("only.png", s3.Object{Body: png(100, "")})
	s.s3.Put("media2", "web/a.png", s3.Object{Body: png(300, ""), ContentType: "image/png"})
	for _, key := range []string{"a.png", "only.png", "a.png"} {
		wantPicture(t, s.get("/shop/"+key), png(100, ""))
	}
	for range 3 {
		if r := s.api(http.MethodDelete, "/api/v1/aliases/shop", nil); r.StatusCode != http.StatusNoContent {
			t.Fatalf("delete: %s: %s", r.Status, r.body)
		}
		wantProblem(t, s.get("/shop/a.png"), http.StatusNotFound, "not-found")
		s.open("shop", "media2", "web/", nil)
		wantPicture(t, s.get("/shop/a.png"), png(300, ""))
		wantProblem(t, s.get("/shop/only.png"), http.StatusNotFound, "not-found")
	}
}

// TestKeyPairReplaced: the next fetch uses the new key pair, and stored objects stay.
func TestKeyPairReplaced(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a.png", s3.Object{Body: png(100, "")})
	s.put("b.png", s3.Object{Body: png(100, "")})
	wantPicture(t, s.get("/shop/a.png"), png(100, ""))
	pair := map[string]any{"access_key_id": "AKIAREPLACED0EXAMPLE", "secret_access_key": "another-secret-that-is-not-real"}
	if r := s.api(http.MethodPut, "/api/v1/credentials/shop", pair); r.StatusCode != http.StatusOK {
		t.Fatalf("replace: %s: %s", r.Status, r.body)
	}
	wantPicture(t, s.get("/shop/a.png"), png(100, ""))
	wantPicture(t, s.get("/shop/b.png"), png(100, ""))
	if n := s.calls("a.png"); n != 1 {
		t.Errorf("what was in memory was fetched again")
	}
	requests := s.s3.Requests()
	if got := requests[len(requests)-1].AccessKeyID; got != "AKIAREPLACED0EXAMPLE" {
		t.Errorf("the last request was signed by %s", got)
	}
}

// TestAliasChangesDuringFetch: a fetch that began before a change does not answer
// requests after it.
func TestAliasChangesDuringFetch(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	old, young := png(200_000, ""), png(300, "")
	s.put("a.png", s3.Object{Body: old})
	s.s3.Put("media", "new/a.png", s3.Object{Body: young, ContentType: "image/png"})
	release := make(chan struct{})
	s.s3.Next("media", "web/a.png", s3.StallAfter(100_000, release))
	early := s.dial().send("GET /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := early.in.Peek(1); err != nil {
		t.Fatal(err)
	}
	s.change("shop", `{"prefix":"new/"}`)
	wantPicture(t, s.get("/shop/a.png"), young)
	close(release)
	wantPicture(t, early.answer(http.MethodGet), old)
	wantPicture(t, s.get("/shop/a.png"), young)
}

// hitTTL is the ttl of a hit, by the Cache-Status of its answer.
func hitTTL(t testing.TB, r *response) int {
	t.Helper()
	m := regexp.MustCompile(`^ixmage; hit; ttl=(-?\d+)$`).FindStringSubmatch(r.Header.Get("Cache-Status"))
	if m == nil {
		t.Fatalf("no hit: %s", r.Header.Get("Cache-Status"))
	}
	ttl, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return ttl
}

// wantLife checks that an answer is a fresh hit whose remaining lifetime is at most
// ttl seconds and at least a minute less, with this Cache-Control.
func wantLife(t testing.TB, r *response, body []byte, ttl int, cacheControl string) {
	t.Helper()
	wantPicture(t, r, body)
	if left := hitTTL(t, r); left > ttl || left < ttl-60 {
		t.Errorf("fresh for %d s more, want up to %d", left, ttl)
	}
	if got := r.Header.Get("Cache-Control"); got != cacheControl {
		t.Errorf("Cache-Control is %q, want %q", got, cacheControl)
	}
}

// conditional checks that S3 was asked n times for an object since the last call, each
// time if what is stored is still the same, and counts from here on.
func (s *env) conditional(t testing.TB, key string, from *int, n int) {
	t.Helper()
	var asked []string
	for _, r := range s.s3.Requests() {
		if r.Key == "web/"+key {
			asked = append(asked, r.Header.Get("If-None-Match"))
		}
	}
	since := asked[*from:]
	if *from = len(asked); len(since) != n || slices.Contains(since, "") {
		t.Errorf("%s: S3 was asked with If-None-Match %q, want %d times with one", key, since, n)
	}
}

// TestReviseTTL: a change of ttl, up or down, holds at once for stored objects, and for
// what clients and the operator are told of them. A lifetime that the object states
// itself stays.
func TestReviseTTL(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"ttl":"1h","stale_while_revalidate":"0s","stale_if_error":"0s"}`)
	body := png(100, "")
	s.put("a.png", s3.Object{Body: body})
	s.put("own.png", s3.Object{Body: body, CacheControl: "max-age=600"})
	for _, target := range []string{"/shop/a.png", "/shop/own.png"} {
		s.get(target)
	}
	wantLife(t, s.get("/shop/a.png"), body, 3600, "public, max-age=3600")
	a, own := 1, 1
	for _, step := range []struct {
		patch        string
		ttl          int
		cacheControl string
		asks         int
	}{
		{`{"ttl":"2h"}`, 7200, "public, max-age=7200", 1},
		{`{"ttl":"10m"}`, 600, "public, max-age=600", 1},
		{`{"ttl":"10m"}`, 600, "public, max-age=600", 0},
		{`{"ttl":"1h"}`, 3600, "public, max-age=3600", 1},
	} {
		s.patch("shop", step.patch)
		if e := s.explain("/shop/a.png", ""); e.Cache.Memory == nil || (e.Cache.Memory.State == "stale") != (step.asks > 0) {
			t.Errorf("after %s: explained as %+v", step.patch, e.Cache.Memory)
		}
		if step.asks > 0 {
			for target, cacheControl := range map[string]string{"/shop/a.png": step.cacheControl, "/shop/own.png": "max-age=600"} {
				r := s.get(target)
				wantPicture(t, r, body)
				if got := r.Header.Get("Cache-Status"); got != "ixmage; fwd=stale; fwd-status=304" || r.Header.Get("Cache-Control") != cacheControl {
					t.Errorf("after %s: %s is answered with %q and %q", step.patch, target, got, r.Header.Get("Cache-Control"))
				}
			}
		}
		for range 2 {
			wantLife(t, s.get("/shop/a.png"), body, step.ttl, step.cacheControl)
			wantLife(t, s.get("/shop/own.png"), body, 600, "max-age=600")
		}
		s.conditional(t, "a.png", &a, step.asks)
		s.conditional(t, "own.png", &own, step.asks)
		if e := s.explain("/shop/a.png", ""); e.Cache.Memory == nil || e.Cache.Memory.TTL > int64(step.ttl) || e.Cache.Memory.TTL < int64(step.ttl)-60 {
			t.Errorf("after %s: explained as %+v", step.patch, e.Cache.Memory)
		}
	}

	// An object without requests costs nothing, however often the alias changes.
	for _, ttl := range []string{"1s", "2s", "1h"} {
		s.patch("shop", `{"ttl":"`+ttl+`"}`)
	}
	s.conditional(t, "a.png", &a, 0)
	s.patch("shop", `{"ttl":"1s"}`)
	last := s.get("/shop/a.png")
	wantPicture(t, last, body)
	if got := last.Header.Get("Cache-Status"); got != "ixmage; fwd=stale; fwd-status=304" || last.Header.Get("Cache-Control") != "public, max-age=1" {
		t.Errorf("answered with %q and %q", got, last.Header.Get("Cache-Control"))
	}
	eventually(t, "it is stale", func() bool { return s.explain("/shop/a.png", "").Cache.Memory.State == "stale" })
}

// TestReviseTTLServedStale: the first answer after a change of ttl tells clients the new
// one, although it is served while the object is revalidated.
func TestReviseTTLServedStale(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(100, "")
	s.put("a.png", s3.Object{Body: body})
	s.put("own.png", s3.Object{Body: body, CacheControl: "max-age=600"})
	for _, target := range []string{"/shop/a.png", "/shop/own.png"} {
		s.get(target)
	}
	for ttl, cacheControl := range map[string]string{"10m": "public, max-age=600", "2h": "public, max-age=7200"} {
		s.patch("shop", `{"ttl":"`+ttl+`","stale_while_revalidate":"1m"}`)
		for target, want := range map[string]string{"/shop/a.png": cacheControl, "/shop/own.png": "max-age=600"} {
			r := s.get(target)
			wantPicture(t, r, body)
			if got := r.Header.Get("Cache-Control"); got != want {
				t.Errorf("after a change of ttl to %s: Cache-Control of %s is %q, want %q", ttl, target, got, want)
			}
		}
	}
}

// TestReviseDuringOutage: an object that is fresh by the new ttl is served while S3 is
// down, although it cannot be revalidated.
func TestReviseDuringOutage(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"ttl":"1h","stale_while_revalidate":"0s","stale_if_error":"0s"}`)
	body := png(100, "")
	s.put("a.png", s3.Object{Body: body})
	s.get("/shop/a.png")
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InternalError") })
	s.patch("shop", `{"ttl":"2h"}`)
	for range 3 {
		wantPicture(t, s.get("/shop/a.png"), body)
	}
	s.patch("shop", `{"ttl":"0s"}`)
	if r := s.get("/shop/a.png"); r.StatusCode < 500 {
		t.Errorf("served on: %s", summary(r))
	}
}

// TestReviseStaleIfError: a change of stale_if_error while S3 is down decides at once
// whether stored objects are served.
func TestReviseStaleIfError(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"0s","stale_if_error":"0s"}`)
	body := png(100, "")
	s.put("a.png", s3.Object{Body: body})
	s.put("bound.png", s3.Object{Body: body, CacheControl: "max-age=1, must-revalidate"})
	s.get("/shop/a.png")
	s.get("/shop/bound.png")
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InternalError") })
	for _, target := range []string{"/shop/a.png", "/shop/bound.png"} {
		eventually(t, "S3 is down", func() bool { return s.get(target).StatusCode >= 500 })
	}
	for range 2 {
		s.patch("shop", `{"stale_if_error":"1h"}`)
		for range 2 {
			r := s.get("/shop/a.png")
			wantPicture(t, r, body)
			if ttl := hitTTL(t, r); ttl >= 0 {
				t.Errorf("fresh for %d s", ttl)
			}
		}
		if r := s.get("/shop/bound.png"); r.StatusCode < 500 {
			t.Errorf("what must be revalidated: %s", summary(r))
		}
		s.patch("shop", `{"stale_if_error":"0s"}`)
		if r := s.get("/shop/a.png"); r.StatusCode < 500 {
			t.Errorf("served on: %s", summary(r))
		}
	}
}

// TestReviseStaleWhileRevalidate: a change of stale_while_revalidate decides at once
// whether requests wait for S3.
func TestReviseStaleWhileRevalidate(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"0s","stale_if_error":"0s"}`)
	old, young := png(100, ""), png(200, "")
	s.put("a.png", s3.Object{Body: old})
	wantPicture(t, s.get("/shop/a.png"), old)
	eventually(t, "it is stale", func() bool { return s.explain("/shop/a.png", "").Cache.Memory.State == "stale" })
	gate := make(chan struct{})
	s.put("a.png", s3.Object{Body: young})
	s.s3.Next("media", "web/a.png", s3.StallAfter(s3.BeforeHeaders, gate))
	s.patch("shop", `{"stale_while_revalidate":"1h"}`)
	for range 2 {
		r := s.get("/shop/a.png")
		wantPicture(t, r, old)
		if ttl := hitTTL(t, r); ttl >= 0 {
			t.Errorf("fresh for %d s", ttl)
		}
	}
	// The fetch in progress began with the old entry, and no request waits for it.
	s.patch("shop", `{"stale_while_revalidate":"0s"}`)
	wantPicture(t, s.get("/shop/a.png"), young)
	close(gate)
}

// TestReviseDuringFetch: after a change of lifetimes during a fetch, the answers and the
// stored object follow the new ones.
func TestReviseDuringFetch(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int64{"asking": s3.BeforeHeaders, "receiving": 100_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t)
			s.patch("shop", `{"ttl":"1h"}`)
			body, gate := png(2_000_000, ""), make(chan struct{})
			s.put("a.png", s3.Object{Body: body})
			s.s3.Next("media", "web/a.png", s3.StallAfter(at, gate))
			first := make(chan *response, 1)
			go func() { first <- s.get("/shop/a.png") }()
			eventually(t, "S3 is asked", func() bool { return s.calls("a.png") == 1 })
			if at > 0 {
				eventually(t, "it is coming", func() bool { return s.metric(`ixmage_cache_bytes{tier="memory"}`) > 2_000_000 })
			}

			s.patch("shop", `{"ttl":"1h","cors_origins":["*"]}`) // no lifetime changes
			if !s.explain("/shop/a.png", "").Cache.Fetching {
				t.Error("a change of something else ends a flight")
			}
			s.patch("shop", `{"ttl":"2h"}`)
			r := s.get("/shop/a.png")
			wantPicture(t, r, body)
			if got := r.Header.Get("Cache-Control"); got != "public, max-age=7200" {
				t.Errorf("after the change Cache-Control is %q", got)
			}
			close(gate)
			wantPicture(t, <-first, body)
			wantLife(t, s.get("/shop/a.png"), body, 7200, "public, max-age=7200")
			if n := s.calls("a.png"); n != 2 {
				t.Errorf("S3 was asked %d times, want twice", n)
			}
		})
	}
}

// TestReviseRefused: a refused change does not affect stored objects.
func TestReviseRefused(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(100, "")
	s.put("a.png", s3.Object{Body: body})
	s.get("/shop/a.png")
	if r := s.api(http.MethodPatch, "/api/v1/aliases/shop", `{"ttl":"-1s"}`); r.StatusCode == http.StatusOK {
		t.Fatalf("patch: %s", r.Status)
	}
	wantLife(t, s.get("/shop/a.png"), body, 3600, "public, max-age=3600")
}
