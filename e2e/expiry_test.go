package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ixmage/internal/awstest/s3"
)

// rush has so many clients ask for paths, each on a connection that it keeps. wrong
// says what is wrong with an answer; the test fails if anything is.
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

// askOn is a GET on a connection that stays open. net/http's client would cost more
// than the server under test.
func askOn(conn io.Writer, in *bufio.Reader, path string) (*response, error) {
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: ixmage.test\r\n\r\n"); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, err
	}
	r := &response{Response: resp}
	r.body, r.err = io.ReadAll(resp.Body)
	return r, nil
}

// gallery is an alias with many small pictures, and an S3 that counts what is under
// way there, and holds it back while the door is shut.
type gallery struct {
	*site
	paths []string
	door  atomic.Pointer[chan struct{}] // nil: open
	now   atomic.Int64

	mu   sync.Mutex // guards most
	most int64
}

func newGallery(t *testing.T, pictures int, args ...string) *gallery {
	t.Helper()
	g := &gallery{site: newSiteOn(t, startPlain(t, args...))} // there are too many for the race detector
	g.patch("shop", `{"ttl":"1s","stale_while_revalidate":"0s"}`)
	for i := range pictures {
		path := fmt.Sprintf("/shop/%05d.png", i)
		g.paths = append(g.paths, path)
		g.hang(path)
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

// hang puts the picture of a path, which is like no other.
func (g *gallery) hang(path string) {
	g.put(strings.TrimPrefix(path, "/shop/"), s3.Object{Body: png(100, path)})
}

// count notes how many requests have not been answered yet. It is never more than
// there are, since none is answered before its return, and gives others time to be
// there as well.
func (g *gallery) count() {
	g.now.Add(1)
	defer g.now.Add(-1)
	for range 5 {
		runtime.Gosched()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most = max(g.most, g.now.Load())
}

// shut closes the door, and returns what opens it.
func (g *gallery) shut() func() {
	door := make(chan struct{})
	g.door.Store(&door)
	return sync.OnceFunc(func() {
		g.door.Store(nil)
		close(door)
	})
}

// expire waits until everything is stale that has been fetched: what is fetched last
// has been stored last.
func (g *gallery) expire(mark string) {
	g.t.Helper()
	g.hang(mark)
	wantPicture(g.t, g.get(mark), png(100, mark))
	eventually(g.t, "everything is stale", func() bool {
		kept := g.explain(mark, "").Cache.Memory
		return kept != nil && kept.State == "stale"
	})
}

// unlessFrom wants the whole picture, from where the cache says.
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

// TestManyExpire has everything that is stored expire together and be asked for at
// once. S3 never gets more requests at a time than it may, be they for clients who
// wait or for what is renewed behind their backs, and everybody gets the picture.
func TestManyExpire(t *testing.T) {
	t.Parallel()
	const pictures, clients, limit = 10_000, 200, 8
	g := newGallery(
		t, pictures, "--origin-concurrency", "8", "--origin-alias-concurrency", "8", "--origin-queue-timeout", "5m",
		"--origin-first-byte-timeout", "5m", "--origin-call-timeout", "5m", "--log-level", "error",
	)
	g.rush(clients, g.paths, unlessFrom("ixmage; fwd=uri-miss; fwd-status=200"))
	g.expire("/shop/mark-1.png")

	open := g.shut()
	var crowd sync.WaitGroup
	t.Cleanup(func() { open(); crowd.Wait() })
	crowd.Go(func() { g.rush(clients, g.paths, unlessFrom("ixmage; fwd=stale; fwd-status=304")) })
	g.rest(clients)
	eventually(t, "S3 has as many requests as it may", func() bool { return g.s3.InFlight() == limit })
	open()
	crowd.Wait()
	g.expire("/shop/mark-2.png")
	g.patch("shop", `{"stale_while_revalidate":"1h"}`)

	open = g.shut()
	t.Cleanup(open)
	g.rush(clients, g.paths, unlessFrom("ixmage; hit; ttl=-"))
	g.rest(0)
	eventually(t, "as many are renewed as may be", func() bool { return g.s3.InFlight() == limit })
	open()
	eventually(t, "the renewals have ended", func() bool { return g.s3.InFlight() == 0 })
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.most > limit {
		t.Errorf("%d requests were under way at S3, want %d at most", g.most, limit)
	}
}
