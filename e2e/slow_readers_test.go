package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// slowClient is a connection whose client reads little.
type slowClient struct {
	net.Conn
	in *bufio.Reader
}

// dialSlow asks for a picture through a connection whose buffers hold little: the kernel
// would take whole pictures for a client that does not read.
// A TLS configuration is optional.
func dialSlow(addr, path string, secure *tls.Config) (*slowClient, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		if err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
			if failed == nil {
				failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536)
			}
		}); err != nil {
			return err
		}
		return failed
	}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if secure != nil {
		c = tls.Client(c, secure)
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		c.Close()
		return nil, err
	}
	return &slowClient{c, bufio.NewReaderSize(c, 64)}, nil
}

// slow opens a slow client, which the test closes.
func (s *server) slow(path string) *slowClient {
	s.t.Helper()
	return slowOn(s.t, s.public, path, nil)
}

func slowOn(t testing.TB, addr, path string, secure *tls.Config) *slowClient {
	t.Helper()
	c, err := dialSlow(addr, path, secure)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// status waits for the status line. It is "" if the connection was cut before.
func (c *slowClient) status() string {
	line, _ := c.in.ReadString('\n')
	_, status, _ := strings.Cut(strings.TrimSpace(line), " ")
	return status
}

// hitsOf asks for each of n hot pictures and returns how many answers were hits; any status
// but 200 fails the test.
func (s *env) hitsOf(n int) (hits int) {
	s.t.Helper()
	for i := range n {
		r := s.get(fmt.Sprintf("/shop/hot%d.png", i))
		if r.StatusCode != http.StatusOK {
			s.t.Fatalf("a hot picture is answered %d: %s", r.StatusCode, r.body)
		}
		if strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit") {
			hits++
		}
	}
	return hits
}

// putHot stores n hot pictures and requests them once.
func (s *env) putHot(n int) {
	for i := range n {
		s.put(fmt.Sprintf("hot%d.png", i), s3.Object{Body: png(20_000, strconv.Itoa(i))})
	}
	s.hitsOf(n)
}

// cold requests a picture that is not cached.
func (s *env) cold(alias, key string) {
	s.t.Helper()
	body := png(10_000, key)
	s.put(key, s3.Object{Body: body})
	wantPicture(s.t, s.get("/"+alias+"/"+key), body)
}

const cutsForMemory, cutsForSlots = `ixmage_http_clients_cut_total{reason="memory"}`, `ixmage_http_clients_cut_total{reason="slot"}`

// TestSlowReadersOfMisses: clients that do not read ask for more pictures than fit into
// memory. Other clients lose no hit, and objects that are not cached are served.
func TestSlowReadersOfMisses(t *testing.T) {
	t.Parallel()
	const readers, hot = 24, 20
	s := newEnv(t, "--cache-memory", "32MiB", "--origin-concurrency", "16", "--origin-alias-concurrency", "8")
	s.putHot(hot)
	for i := range readers {
		key := fmt.Sprintf("large%d.png", i)
		s.put(key, s3.Object{Body: png(4<<20, key)})
		c := s.slow("/shop/" + key)
		if status := c.status(); status != "200 OK" && status != "" {
			t.Errorf("slow client %d is answered %q", i, status)
		}
		if hits := s.hitsOf(hot); hits != hot {
			t.Fatalf("with %d slow clients, %d of %d requests are hits", i+1, hits, hot)
		}
		if i%4 == 0 {
			s.cold("shop", fmt.Sprintf("cold%d.png", i))
		}
	}
	if cut := s.metric(cutsForMemory); cut < readers-8 || cut > readers {
		t.Errorf("%v of %d slow clients were cut for memory", cut, readers)
	}
	if !strings.Contains(s.wholeLog(), `msg="slow clients cut" reason=memory`) {
		t.Error("the log does not say that clients were cut")
	}
}

// TestSlowReadersOfHits: the same with cached pictures, which need no fetch.
func TestSlowReadersOfHits(t *testing.T) {
	t.Parallel()
	const readers, hot = 7, 20
	s := newEnv(t, "--cache-memory", "32MiB")
	for i := range readers {
		key := fmt.Sprintf("large%d.png", i)
		s.put(key, s3.Object{Body: png(4<<20, key)})
		s.get("/shop/" + key)
	}
	s.putHot(hot)
	for i := range readers {
		s.slow(fmt.Sprintf("/shop/large%d.png", i)).status()
	}
	eventually(t, "the readers wait", func() bool { return s.metric("ixmage_http_requests_in_flight") == readers })
	s.hitsOf(hot) // which are now used later than the large ones
	for i := range 4 {
		key := fmt.Sprintf("cold%d.png", i)
		s.put(key, s3.Object{Body: png(4<<20, key)})
		wantPicture(t, s.get("/shop/"+key), png(4<<20, key))
		if hits := s.hitsOf(hot); hits != hot {
			t.Fatalf("after %d further pictures, %d of %d requests are hits", i+1, hits, hot)
		}
	}
}

// TestSlowReadersOfStreams: clients that do not read hold every slot at S3 with objects
// that are too large for the cache. Objects that are not cached are served nevertheless.
func TestSlowReadersOfStreams(t *testing.T) {
	t.Parallel()
	const readers, hot = 4, 5
	aliases := []string{"shop", "two", "three", "four"}
	s := newEnv(t, "--cache-memory", "8MiB", "--cache-object-max", "256KiB",
		"--origin-concurrency", "16", "--origin-alias-concurrency", "4",
		"--origin-queue-timeout", "16s") // a slow client is cut after each eighth of it that another waits
	for _, name := range aliases[1:] {
		s.open(name, "media", "web/", nil)
	}
	s.putHot(hot)
	s.put("large.png", s3.Object{Body: png(4<<20, "large")})
	for _, name := range aliases {
		for range readers {
			if status := s.slow("/" + name + "/large.png").status(); status != "200 OK" {
				t.Fatalf("a slow client is answered %q", status)
			}
		}
	}
	eventually(t, "all slots are held", func() bool { return s.metric("ixmage_origin_open_bodies") == 16 })
	for round := range 2 {
		for _, name := range aliases {
			s.cold(name, fmt.Sprintf("cold-%s-%d.png", name, round))
		}
	}
	if hits := s.hitsOf(hot); hits != hot {
		t.Errorf("%d of %d requests are hits", hits, hot)
	}
	if cut := s.metric(cutsForSlots); cut < 1 || cut > 8 {
		t.Errorf("%v slow clients were cut for slots, want one for each object that waited", cut)
	}
}

// TestSlowReadersAlone: slow clients are not cut while no other client needs what they hold,
// within the bounds of the stall rule.
func TestSlowReadersAlone(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-memory", "16MiB", "--cache-object-max", "8MiB")
	s.put("hit.png", s3.Object{Body: png(8<<20-100, "hit")})
	s.put("stream.png", s3.Object{Body: png(12<<20, "stream")})
	s.get("/shop/hit.png")
	var wg sync.WaitGroup
	for _, path := range []string{"/shop/hit.png", "/shop/stream.png"} {
		c := s.slow(path)
		if status := c.status(); status != "200 OK" {
			t.Fatalf("%s: %q", path, status)
		}
		wg.Go(func() {
			pace := &pacedReader{r: c.in, step: 64, tick: time.NewTicker(100 * time.Millisecond)}
			defer pace.tick.Stop()
			for range 30 {
				if _, err := pace.Read(make([]byte, 64)); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
		})
	}
	for i := range 20 { // they need room, but one body may be larger than the share
		s.cold("shop", fmt.Sprintf("cold%d.png", i))
	}
	wg.Wait()
	for series, n := range s.samples() {
		if strings.HasPrefix(series, "ixmage_http_clients_cut_total") && n != 0 {
			t.Errorf("%s is %v", series, n)
		}
	}
}

// attack opens n slow clients that read 450 B/s until stop is closed, each of another path.
func (s *env) attack(n int, path func(int) string, stop <-chan struct{}) (wait func()) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c, err := dialSlow(s.public, path(i), nil)
			if err != nil {
				s.t.Error(err)
				return
			}
			defer c.Close()
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			buf := make([]byte, 90)
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				if _, err := c.Read(buf); err != nil {
					return // cut
				}
			}
		})
	}
	return wg.Wait
}

// takeSteadily reads n bytes at a rate in bytes per second. What it reads late, because the
// machine is busy, it makes up for. It counts in got.
func (c *slowClient) takeSteadily(n, rate int, got *atomic.Int64) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	for at := 0; at < n; {
		<-tick.C
		due := min(n, int(time.Since(begun).Seconds()*float64(rate))) - at
		k, err := io.CopyN(io.Discard, c.Conn, int64(due))
		at += int(k)
		got.Store(int64(at))
		if err != nil {
			return err
		}
	}
	return nil
}

// TestSlowReadersLong attacks the program with default flags, for a minute: by clients of
// cacheable pictures, and by clients of objects that are too large for the cache.
// IXMAGE_SLOW_READERS=all runs it.
func TestSlowReadersLong(t *testing.T) { //nolint:paralleltest // it measures
	if os.Getenv("IXMAGE_SLOW_READERS") != "all" {
		t.Skip("SKIPPED, for it takes minutes: set IXMAGE_SLOW_READERS=all, as make test-long does")
	}
	for _, tc := range []struct {
		name    string
		readers int
		size    int
		aliases int
	}{
		{"140 of 4 MB", 140, 4_000_000, 1},
		{"1000 of 4 MB", 1000, 4_000_000, 1},
		{"256 of 40 MiB", 256, 40 << 20, 4},
		{"1000 of 40 MiB", 1000, 40 << 20, 4},
	} {
		t.Run(tc.name, func(t *testing.T) { slowReadersLong(t, tc.readers, tc.size, tc.aliases) })
	}
}

func slowReadersLong(t *testing.T, readers, size, aliases int) {
	t.Helper()
	const hot, minute = 50, 60
	const honestSize, honestRate = 6 << 20, 100 << 10 // which takes a minute
	needFiles(t, uint64(2*readers+1000))
	s := newEnvOn(t, startPlain(t, "--log-level", "info"))
	names := []string{"shop", "two", "three", "four"}[:aliases]
	for _, name := range names[1:] {
		s.open(name, "media", "web/", nil)
	}
	s.open("other", "media", "web/", nil)
	s.putHot(hot)
	body := png(size, "large")
	objects := readers
	if size > 32<<20 { // every request of it is streamed
		objects = 1
	}
	for i := range objects {
		s.put(fmt.Sprintf("large%d.png", i), s3.Object{Body: body})
	}
	s.put("honest.png", s3.Object{Body: png(honestSize, "honest")})
	s.get("/shop/honest.png") // the first second of 1,000 requests fills the queue of the alias
	// users ask for hot pictures at a steady pace, and count hits and others in a second.
	users := func(seconds int) (hits, others int) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := range 100 * seconds {
			<-tick.C
			r := s.get(fmt.Sprintf("/shop/hot%d.png", i%hot))
			if r.StatusCode == http.StatusOK && strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit") {
				hits++
			} else {
				others++
			}
		}
		return hits, others
	}
	before, _ := users(5)
	// A client that takes more than 64 KiB/s is safe when it has done so for 2 s.
	var honest atomic.Int64
	var wg sync.WaitGroup
	c := s.slow("/shop/honest.png")
	wg.Go(func() {
		if err := c.takeSteadily(honestSize, honestRate, &honest); err != nil {
			t.Errorf("a client that reads 100 KiB/s is cut after %d bytes: %v", honest.Load(), err)
		}
	})
	eventually(t, "the client is known to be no slow one", func() bool { return honest.Load() >= 4*honestRate })
	stop := make(chan struct{})
	wait := s.attack(readers, func(i int) string { return fmt.Sprintf("/%s/large%d.png", names[i%len(names)], i%objects) }, stop)
	begun := time.Now()
	hits, others, cold, coldFailed := 0, 0, 0, 0
	for time.Since(begun) < minute*time.Second {
		h, o := users(5)
		hits, others = hits+h, others+o
		for _, name := range append(names, "other") {
			key := fmt.Sprintf("cold-%s-%d.png", name, cold)
			s.put(key, s3.Object{Body: png(10_000, key)})
			if r := s.get("/" + name + "/" + key); r.StatusCode != http.StatusOK {
				coldFailed++
				t.Logf("%s after %v: %s %s", key, time.Since(begun), r.Status, r.body)
			}
			cold++
		}
	}
	took := time.Since(begun)
	wg.Wait()
	close(stop)
	wait()
	t.Logf("before: %d hits in 5 s; during %v: %d hits, %d others; cold: %d, failed %d; cut: %v for memory, %v for slots, %v stalled",
		before, took, hits, others, cold, coldFailed, s.metric(cutsForMemory), s.metric(cutsForSlots),
		s.metric(`ixmage_http_clients_cut_total{reason="stalled"}`))
	if 10*hits < 9*(hits+others) {
		t.Errorf("%d of %d requests for hot pictures are hits", hits, hits+others)
	}
	if coldFailed > 0 {
		t.Errorf("%d of %d cold objects are not served", coldFailed, cold)
	}
}
