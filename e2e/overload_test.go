package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ixmage/internal/awstest/s3"
)

// limitedOrigin allows few concurrent requests to S3, and has deadlines that no test
// reaches.
var limitedOrigin = []string{
	"--origin-concurrency", "4", "--origin-alias-concurrency", "2", "--origin-queue", "4",
	"--origin-first-byte-timeout", "5m", "--origin-call-timeout", "5m", "--origin-idle-timeout", "5m", "--origin-queue-timeout", "5m",
}

// queueEnv is a server with limitedOrigin, and S3 objects that wait for a gate.
type queueEnv struct {
	*faultEnv
	gates map[string]chan struct{} // by alias
	wg    sync.WaitGroup
	n     int

	mu      sync.Mutex // guards answers
	answers map[string][]*response
}

// newQueueEnv registers aliases. An object whose name begins with "stuck" waits for
// the gate of its alias: in the body if the name ends with "-body.png", else before
// the headers.
func newQueueEnv(t *testing.T, args []string, aliases ...string) *queueEnv {
	t.Helper()
	q := &queueEnv{gates: map[string]chan struct{}{}, answers: map[string][]*response{}}
	q.faultEnv = &faultEnv{server: start(t, args...), t: t, s3: s3.New(t)}
	for _, name := range aliases {
		q.gates[name] = make(chan struct{})
		q.addAlias(name)
	}
	q.s3.Hook(func(r *s3.Request) *s3.Fault {
		name, stuck, _ := strings.Cut(strings.TrimPrefix(r.Key, faultPrefix), "/")
		if !strings.HasPrefix(stuck, "stuck") {
			return nil
		}
		place := s3.BeforeHeaders
		if strings.HasSuffix(stuck, "-body.png") {
			place = 1000
		}
		return s3.StallAfter(place, q.gates[name])
	})
	return q
}

// put stores an object for one alias and returns its path.
func (q *queueEnv) put(name, key string) string {
	key = name + "/" + key
	q.s3.Put(faultBucket, faultPrefix+key, s3.Object{Body: png(10_000, key), ContentType: "image/png"})
	return "/" + name + "/" + key
}

// stick sends n requests for new objects that wait at S3.
func (q *queueEnv) stick(name string, n int, suffix string) {
	for range n {
		q.n++
		path := q.put(name, fmt.Sprintf("stuck%d%s.png", q.n, suffix))
		q.wg.Go(func() {
			r := single(q.public, http.MethodGet, path)
			q.mu.Lock()
			defer q.mu.Unlock()
			q.answers[name] = append(q.answers[name], r)
		})
	}
}

// refused checks that a further request gets 503.
func (q *queueEnv) refused(name, why string) {
	q.t.Helper()
	q.n++
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		r := single(q.public, method, q.put(name, fmt.Sprintf("stuck%d.png", q.n)))
		if r.Response == nil {
			q.t.Fatalf("%s: no answer: %v", why, r.err)
		}
		(&given{method: strings.ToLower(method), want: fails(503, "overloaded", 0, ""), got: r}).check(q.t)
		if after := r.Header.Get("Retry-After"); !slices.Contains([]string{"1", "2", "3"}, after) {
			q.t.Errorf("%s: Retry-After is %s", why, after)
		}
	}
}

// served checks that a request gets its object.
func (q *queueEnv) served(path, status, why string) {
	q.t.Helper()
	r := single(q.public, http.MethodGet, path)
	_, key, _ := strings.Cut(path[1:], "/")
	(&given{method: "get", want: whole(1), body: png(10_000, key), got: r}).check(q.t)
	if r.Response != nil && !strings.HasPrefix(r.Header.Get("Cache-Status"), status) {
		q.t.Errorf("%s: Cache-Status is %q, want %s…", why, r.Header.Get("Cache-Status"), status)
	}
}

// release opens the gate of an alias.
func (q *queueEnv) release(name string) { close(q.gates[name]) }

// TestOverload takes all places before S3. A further request gets 503 at once,
// cached objects are served, and one alias cannot take the places of all others.
// When S3 answers again, all requests succeed.
func TestOverload(t *testing.T) {
	t.Parallel()
	q := newQueueEnv(t, limitedOrigin, "one", "two", "three")
	hot := q.put("one", "hot.png")
	q.served(hot, "ixmage; fwd=uri-miss", "to have it in the cache")
	before := q.gauge()

	// Two requests run and two of four places are taken: an alias takes no more places
	// than it leaves free.
	q.stick("one", 1, "-body")
	q.waitBlocked(1)
	q.stick("one", 3, "")
	q.waitBlocked(4)
	eventually(t, "S3 has two requests", func() bool { return q.s3.InFlight() == 2 })
	q.refused("one", "a fifth request of one alias")
	q.served(hot, "ixmage; hit", "a hit while its alias is stuck")
	q.served(q.put("two", "a.png"), "ixmage; fwd=uri-miss", "a miss of another alias")

	q.stick("two", 3, "")
	q.waitBlocked(7)
	eventually(t, "S3 has four requests", func() bool { return q.s3.InFlight() == 4 })
	q.refused("two", "a fourth request, with three of four places taken")
	q.refused("one", "another one")
	q.stick("three", 1, "")
	q.waitBlocked(8)
	if n := q.s3.InFlight(); n != 4 {
		t.Errorf("S3 has %d requests, want 4", n)
	}
	q.refused("three", "a request with all places taken")
	q.served(hot, "ixmage; hit", "a hit while all is stuck")
	eventually(t, "one body is open", func() bool { return q.samples()["ixmage_origin_open_bodies"] == 1 })

	// The requests of two proceed, then those of three, while those of one wait.
	q.release("two")
	q.release("three")
	eventually(t, "the others are served", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.answers["two"]) == 3 && len(q.answers["three"]) == 1
	})
	q.served(q.put("three", "b.png"), "ixmage; fwd=uri-miss", "a miss while one alias is stuck")
	if n := len(q.answers["one"]); n != 0 {
		t.Errorf("%d requests of the stuck alias were answered", n)
	}
	q.release("one")
	q.wg.Wait()
	for name, answers := range q.answers {
		for _, r := range answers {
			if r.Response == nil || r.StatusCode != http.StatusOK || r.err != nil || len(r.body) != 10_000 {
				t.Errorf("a request of %s that waited got %v, error %v", name, r.Response, r.err)
			}
		}
	}
	q.waitQuiet()
	q.served(q.put("one", "c.png"), "ixmage; fwd=uri-miss", "a miss afterwards")
	if got := q.samples()["ixmage_origin_open_bodies"]; got != 0 {
		t.Errorf("%v bodies are open", got)
	}
	idle := q.gauge()
	if idle.conns > before.conns+4 {
		t.Errorf("%d connections to S3 for 4 requests at a time", idle.conns)
	}
}

// TestQueueTimeout has a request wait for a place until the timeout.
func TestQueueTimeout(t *testing.T) {
	t.Parallel()
	q := newQueueEnv(t, append(limitedOrigin, "--origin-queue-timeout", "1s"), "one")
	q.stick("one", 2, "")
	q.waitBlocked(2)
	q.refused("one", "a request whose turn does not come")
	q.release("one")
	q.wg.Wait()
	q.served(q.put("one", "a.png"), "ixmage; fwd=uri-miss", "a miss afterwards")
}

// TestBreaker: while the circuit is open, cached objects are served and other
// requests get 503 at once. The first success at S3 closes it.
func TestBreaker(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--breaker-failures", "3", "--breaker-open", "1s")
	s.put("cached.png", s3.Object{Body: png(100, "")})
	s.put("cold.png", s3.Object{Body: png(200, "")})
	wantPicture(t, s.get("/shop/cached.png"), png(100, ""))
	const circuit = `ixmage_origin_circuit{credential="shop"}`
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InternalError") })
	// An object counts once, however often it fails.
	for range 10 {
		wantProblem(t, s.get("/shop/broken.png"), http.StatusBadGateway, "origin-error")
	}
	if got := s.metric(circuit); got != 0 {
		t.Errorf("the gauge shows %v when one object fails", got)
	}
	for _, path := range []string{"/shop/second.png", "/shop/third.png"} {
		wantProblem(t, s.get(path), http.StatusBadGateway, "origin-error")
	}
	// The trial request fails as well.
	asked := s.s3.Total()
	r := s.get("/shop/cold.png")
	for r.StatusCode == http.StatusBadGateway {
		r = s.get("/shop/cold.png")
	}
	wantProblem(t, r, http.StatusServiceUnavailable, "circuit-open")
	if wait, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 9 {
		t.Errorf("Retry-After is %q", r.Header.Get("Retry-After"))
	}
	for range 100 {
		s.get("/shop/cold.png")
	}
	if n := s.s3.Total() - asked; n > 20 {
		t.Errorf("%d requests went to an S3 that fails", n)
	}
	wantPicture(t, s.get("/shop/cached.png"), png(100, ""))
	if got := s.metric(circuit); got != 2 {
		t.Errorf("the gauge shows %v while it is open", got)
	}
	s.s3.Hook(nil)
	eventually(t, "a request goes out again", func() bool {
		r = s.get("/shop/cold.png")
		return r.StatusCode != http.StatusServiceUnavailable
	})
	wantPicture(t, r, png(200, ""))
	if got := s.metric(circuit); got != 0 {
		t.Errorf("the gauge shows %v when S3 is well", got)
	}
}
