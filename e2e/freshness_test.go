package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// TestFreshness: clients get the freshness that the object states, and the cache
// obeys it. The alias's ttl is for objects that state none.
func TestFreshness(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
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
			body := png(1000, "")
			s.put(key, s3.Object{Body: body, CacheControl: tc.header})
			for round := 1; round <= 3; round++ {
				began := time.Now()
				r := s.get("/shop/" + key)
				took := time.Since(began)
				wantPicture(t, r, body)
				if got := r.Header.Get("Cache-Control"); got != tc.out {
					t.Errorf("Cache-Control is %q, want %q", got, tc.out)
				}
				wantCacheStatus(t, r, round, tc.ttl, took)
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
// round for one object, which took some time.
func wantCacheStatus(t *testing.T, r *response, round, ttl int, took time.Duration) {
	t.Helper()
	got := r.Header.Get("Cache-Status")
	age, err := strconv.Atoi(r.Header.Get("Age"))
	if err != nil || age < 0 || age > 60 {
		t.Errorf("Age is %q", r.Header.Get("Age"))
	}
	switch {
	case ttl == -2 && round > 1:
		if got != "ixmage; fwd=stale; fwd-status=304" || age > int(took.Seconds()) {
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

// TestStaleIsFetchedAgain: a stale object that may not be served is requested again.
// After a 304 the stored bytes are served, after a 200 the new ones.
func TestStaleIsFetchedAgain(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.open("brief", "media", "web/", map[string]any{"ttl": "1s", "stale_while_revalidate": "0s"})
	s.put("own.png", s3.Object{Body: png(100, ""), CacheControl: "max-age=1"})
	s.put("ttl.png", s3.Object{Body: png(100, "")})
	cacheControl := map[string]string{"own.png": "max-age=1"}
	for _, key := range []string{"own.png", "ttl.png"} {
		for _, tc := range []struct {
			body   []byte
			status string
		}{
			{png(100, ""), "ixmage; fwd=stale; fwd-status=304"},
			{png(200, ""), "ixmage; fwd=stale; fwd-status=200; stored"},
		} {
			s.get("/brief/" + key)
			s.put(key, s3.Object{Body: tc.body, CacheControl: cacheControl[key]})
			var last *response
			var took time.Duration
			eventually(t, key+" is stale", func() bool {
				began := time.Now()
				last = s.get("/brief/" + key)
				took = time.Since(began)
				return !strings.HasPrefix(last.Header.Get("Cache-Status"), "ixmage; hit; ttl=")
			})
			wantPicture(t, last, tc.body)
			age, err := strconv.Atoi(last.Header.Get("Age"))
			if got := last.Header.Get("Cache-Status"); got != tc.status || err != nil || age > int(took.Seconds()) {
				t.Errorf("%s: Cache-Status is %q, Age %s; want %q", key, got, last.Header.Get("Age"), tc.status)
			}
		}
	}
}

// TestClientCacheControlIsIgnored: a client can neither force a fetch nor prevent
// that an object is stored.
func TestClientCacheControlIsIgnored(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(100, "")
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

// TestNotStored: an object is served also if the cache is off or too small for it.
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
			s := newEnv(t, tc.args...)
			body := png(100_000, "")
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

// TestUpstreamAge: the time that an answer has spent on its way from S3 adds to its
// Age and shortens its freshness.
func TestUpstreamAge(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
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
			s.put(key, s3.Object{Body: png(1000, ""), CacheControl: tc.control})
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

// TestAgeOfJoined: a request that joins a slow fetch gets the age of that answer. It
// does not join a fetch whose answer is stale already.
func TestAgeOfJoined(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--origin-idle-timeout", "5m")
	body, gate := png(1<<20, ""), make(chan struct{})
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

// rush has clients request paths at the same time, each on one connection. wrong
// describes what is wrong with an answer; the test fails if anything is.
func (s *server) rush(clients int, paths []string, wrong func(path string, r *response) string) {
	s.t.Helper()
	var next, bad atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			conn, err := net.Dial("tcp", s.public)
			if err != nil {
				s.t.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for i := next.Add(1); int(i) <= len(paths); i = next.Add(1) {
				path := paths[i-1]
				r, err := askOn(conn, in, path)
				if err != nil {
					bad.Add(1)
					s.t.Errorf("%s: %v", path, err)
					return
				}
				if said := wrong(path, r); said != "" && bad.Add(1) <= 5 {
					s.t.Errorf("%s: %s", path, said)
				}
			}
		})
	}
	wg.Wait()
	if n := next.Load(); n < int64(len(paths)) || bad.Load() > 0 {
		s.t.Errorf("%d of %d answers are wrong", bad.Load(), len(paths))
	}
}

// expiryEnv is an alias with many small pictures on an S3 that counts the requests
// in progress, and holds them back while the door is shut.
type expiryEnv struct {
	*env
	paths []string
	door  atomic.Pointer[chan struct{}] // nil: open
	now   atomic.Int64

	mu   sync.Mutex // guards most
	most int64
}

func newExpiryEnv(t *testing.T, pictures int, args ...string) *expiryEnv {
	t.Helper()
	g := &expiryEnv{env: newEnvOn(t, startPlain(t, args...))} // there are too many for the race detector
	g.patch("shop", `{"ttl":"1s","stale_while_revalidate":"0s"}`)
	for i := range pictures {
		path := fmt.Sprintf("/shop/%05d.png", i)
		g.paths = append(g.paths, path)
		g.putPicture(path)
	}
	g.s3.Hook(func(*s3.Request) *s3.Fault {
		g.count()
		if door := g.door.Load(); door != nil {
			return s3.StallAfter(s3.BeforeHeaders, *door)
		}
		return nil
	})
	return g
}

// putPicture stores the picture of a path. No other path has the same.
func (g *expiryEnv) putPicture(path string) {
	g.put(strings.TrimPrefix(path, "/shop/"), s3.Object{Body: png(100, path)})
}

// count notes how many requests are in progress. It never counts too many, since no
// request is answered before count returns. It yields, so that others arrive
// meanwhile.
func (g *expiryEnv) count() {
	g.now.Add(1)
	defer g.now.Add(-1)
	for range 5 {
		runtime.Gosched()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most = max(g.most, g.now.Load())
}

// shut closes the door and returns a function that opens it.
func (g *expiryEnv) shut() func() {
	door := make(chan struct{})
	g.door.Store(&door)
	return sync.OnceFunc(func() {
		g.door.Store(nil)
		close(door)
	})
}

// expire waits until every stored object is stale: the object that is stored last is
// the last to become stale.
func (g *expiryEnv) expire(mark string) {
	g.t.Helper()
	g.putPicture(mark)
	wantPicture(g.t, g.get(mark), png(100, mark))
	eventually(g.t, "everything is stale", func() bool {
		kept := g.explain(mark, "").Cache.Memory
		return kept != nil && kept.State == "stale"
	})
}

// unlessFrom accepts the whole picture with a Cache-Status that begins with status.
func unlessFrom(status string) func(path string, r *response) string {
	return func(path string, r *response) string {
		if r.StatusCode != http.StatusOK || r.err != nil || !bytes.Equal(r.body, png(100, path)) {
			return summary(r)
		}
		if got := r.Header.Get("Cache-Status"); !strings.HasPrefix(got, status) {
			return fmt.Sprintf("Cache-Status is %q, want %s…", got, status)
		}
		return ""
	}
}

// TestManyExpire: all stored objects become stale together and are requested at
// once. The number of concurrent requests to S3 stays within its limit, both for
// clients that wait and for refreshes in the background, and each client gets the
// picture.
func TestManyExpire(t *testing.T) {
	t.Parallel()
	skipShort(t)
	const pictures, clients, limit = 10_000, 200, 8
	g := newExpiryEnv(
		t, pictures, "--origin-concurrency", "8", "--origin-alias-concurrency", "8", "--origin-queue-timeout", "5m",
		"--origin-first-byte-timeout", "5m", "--origin-call-timeout", "5m", "--log-level", "error",
	)
	g.rush(clients, g.paths, unlessFrom("ixmage; fwd=uri-miss; fwd-status=200"))
	g.expire("/shop/mark-1.png")

	open := g.shut()
	var crowd sync.WaitGroup
	t.Cleanup(func() { open(); crowd.Wait() })
	crowd.Go(func() { g.rush(clients, g.paths, unlessFrom("ixmage; fwd=stale; fwd-status=304")) })
	g.waitBlocked(clients)
	eventually(t, "S3 has as many requests as it may", func() bool { return g.s3.InFlight() == limit })
	open()
	crowd.Wait()
	g.expire("/shop/mark-2.png")
	g.patch("shop", `{"stale_while_revalidate":"1h"}`)

	open = g.shut()
	t.Cleanup(open)
	g.rush(clients, g.paths, unlessFrom("ixmage; hit; ttl=-"))
	g.waitBlocked(0)
	eventually(t, "as many are renewed as may be", func() bool { return g.s3.InFlight() == limit })
	open()
	eventually(t, "the renewals have ended", func() bool { return g.s3.InFlight() == 0 })
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.most > limit {
		t.Errorf("%d requests were under way at S3, want %d at most", g.most, limit)
	}
}
