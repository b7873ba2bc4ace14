package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// TestTermUnderLoad ends the process while clients send requests. Every request that
// was sent before the signal gets its whole answer.
func TestTermUnderLoad(t *testing.T) { //nolint:paralleltest // it measures, or fills the machine
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("term", "")
	body := bytesOf(64<<10, "term")
	fakeS3.Put("term", "hot.png", s3.Object{Body: body, ContentType: "image/png"})
	release := make(chan struct{})
	const slow = 32
	for i := range slow {
		key := fmt.Sprintf("slow%d.png", i)
		fakeS3.Put("term", key, s3.Object{Body: body, ContentType: "image/png"})
		fakeS3.Next("term", key, &s3.Fault{Stall: &s3.Stall{After: 1000, Release: release}})
	}
	s := start(t)
	s.createOn("shop", fakeS3.URL, "term")

	var signalled signalGate
	var wg sync.WaitGroup
	var served atomic.Int64
	warm := make(chan struct{}, 32)
	for range cap(warm) {
		wg.Go(func() {
			n, err := (&hammer{addr: s.public, path: "/shop/hot.png", body: body, signalled: &signalled, warm: warm}).run()
			served.Add(int64(n))
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range cap(warm) {
		<-warm
	}
	for i := range slow {
		conn := sendGet(t, s.public, fmt.Sprintf("/shop/slow%d.png", i))
		wg.Go(func() {
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Errorf("a request under way got %v", err)
				return
			}
			if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
				t.Errorf("a request under way got %d bytes, error %v", len(got), err)
			}
		})
	}
	eventually(t, "the slow requests are at S3", func() bool { return fakeS3.InFlight() == slow })
	signalled.close()
	s.process.Signal(syscall.SIGTERM)
	eventually(t, "readiness is off", func() bool {
		return s.do(http.MethodGet, "http://"+s.admin+"/-/readyz", nil).StatusCode == http.StatusServiceUnavailable
	})
	close(release)
	wg.Wait()
	if code := s.process.State().ExitCode(); code != 0 {
		t.Errorf("exit status is %d", code)
	}
	t.Logf("%d requests served, none of those sent before the signal failed", served.Load())
}

// signalGate tells requests that were sent before a signal from those that may have been sent after
// it: a client that is held between the look at the gate and its write would count as the former.
type signalGate struct {
	mu     sync.RWMutex // held for reading from the look until the request is written
	closed bool
}

func (g *signalGate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// hammer is a client that sends one request after the other.
type hammer struct {
	addr, path string
	body       []byte
	signalled  *signalGate
	warm       chan<- struct{}

	conn net.Conn
	br   *bufio.Reader
}

// run sends requests until the server is gone, on one connection for as long as the
// server keeps it. A request sent before the signal must succeed. It does not use
// net/http, which repeats a GET when its connection breaks: that would hide the
// failures that the test looks for.
func (h *hammer) run() (int, error) {
	for n := 0; ; n++ {
		if !h.connect() {
			return n, nil // the listener has closed
		}
		before, err := h.send()
		closes := true
		if err == nil {
			closes, err = answerOn(h.br, h.body)
		}
		if closes || err != nil {
			h.conn.Close()
			h.conn = nil
		}
		if err != nil && before {
			return n, fmt.Errorf("request %d, sent before the signal: %w", n, err)
		}
		if err != nil {
			return n, nil //nolint:nilerr // after the signal a request may fail
		}
		if n == 0 {
			h.warm <- struct{}{}
		}
	}
}

// send sends a request, and reports whether that was before the signal.
func (h *hammer) send() (before bool, err error) {
	h.signalled.mu.RLock()
	defer h.signalled.mu.RUnlock()
	return !h.signalled.closed, sendOn(h.conn, h.path)
}

func (h *hammer) connect() bool {
	if h.conn == nil {
		var err error
		if h.conn, err = net.Dial("tcp", h.addr); err != nil {
			return false
		}
		h.br = bufio.NewReader(h.conn)
	}
	return true
}

func sendOn(conn net.Conn, path string) error {
	_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	return err
}

// answerOn checks an answer, and reports whether the server closes the connection after it.
func answerOn(br *bufio.Reader, want []byte) (closes bool, err error) {
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return false, err
	}
	got, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Equal(got, want)) {
		err = fmt.Errorf("%d wrong bytes, status %s", len(got), resp.Status)
	}
	return resp.Close, err
}

// TestOutOfFiles gives the program few file descriptors and many clients. It refuses
// the clients that are too many, and serves again when they have gone.
func TestOutOfFiles(t *testing.T) { //nolint:paralleltest // it measures, or fills the machine
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("files", "")
	body := bytesOf(4<<10, "files")
	fakeS3.Put("files", "a.png", s3.Object{Body: body, ContentType: "image/png"})
	s := startLimited(t, 64)
	s.createOn("shop", fakeS3.URL, "files")
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Fatal(r.Status)
	}
	var conns []net.Conn
	for range 300 {
		c, err := net.DialTimeout("tcp", s.public, 2*time.Second)
		if err != nil {
			continue // refused already
		}
		conns = append(conns, c)
	}
	eventually(t, "the shortage is noticed", func() bool {
		return strings.Contains(s.output(), "out of file descriptors")
	})
	eventually(t, "a connection is refused", func() bool {
		return slices.ContainsFunc(conns, func(c net.Conn) bool {
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := c.Read(make([]byte, 1))
			return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
		})
	})
	for _, c := range conns {
		c.Close()
	}
	eventually(t, "it serves again", func() bool {
		conn, err := net.DialTimeout("tcp", s.public, time.Second)
		if err != nil {
			return false
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		if sendOn(conn, "/shop/a.png") != nil {
			return false
		}
		_, err = answerOn(bufio.NewReader(conn), body)
		return err == nil
	})
	if code := s.stop(); code != 0 {
		t.Errorf("exit status is %d", code)
	}
}

// TestRelease: a request that ends, in whatever way, releases what it held: bytes of
// the cache, bodies of S3, and its place among the requests in flight.
func TestRelease(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	sizes := map[string]int{"small.png": 100, "middle.png": 100_000, "large.png": 4 << 20}
	for key, size := range sizes {
		s.put(key, s3.Object{Body: png(size, "")})
		wantPicture(t, s.get("/shop/"+key), png(size, ""))
	}
	s.put("private.png", s3.Object{Body: png(1<<20, ""), CacheControl: "no-store"})
	s.put("page.html", s3.Object{Body: []byte("<html>"), ContentType: "text/html"})
	// Objects that are never stored, and broken ones, must leave nothing either.
	s.put("broken.png", s3.Object{Body: png(1<<20, "")})
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if r.Key == "web/broken.png" {
			return s3.WrongChecksum()
		}
		return nil
	})
	s.wantQuiet(t)
	held, entries, open := s.metric(memoryBytes), s.metric(memoryEntries), s.metric(openConnections)
	if entries != 3 || held < 100+100_000+4<<20 {
		t.Fatalf("%v entries of %v bytes", entries, held)
	}
	targets := []string{"small.png", "middle.png", "large.png", "private.png", "broken.png", "page.html", "none.png", ".."}
	lines := []string{"", "If-None-Match: *\r\n", "If-Match: \"x\"\r\n", "Range: bytes=0-9\r\n", "Range: bytes=99-\r\n", "Range: bytes=99999999-\r\n"}
	for name, use := range map[string]func(*wire, string){
		"read":      func(w *wire, q string) { w.send("GET " + q).answer(http.MethodGet) },
		"HEAD":      func(w *wire, q string) { w.send("HEAD " + q).answer(http.MethodHead) },
		"POST":      func(w *wire, q string) { w.send("POST " + q).all() },
		"pipelined": func(w *wire, q string) { w.send("HEAD " + q + "GET " + q + "GET " + q).answer(http.MethodHead) },
		"left":      func(w *wire, q string) { w.send("GET " + q) },
		"left soon": func(w *wire, q string) { w.send("GET " + q).in.Peek(1) },
		"half sent": func(w *wire, q string) { w.send("GET " + q[:len(q)-3]) },
	} {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			for _, key := range targets {
				for _, line := range lines {
					w := s.dial()
					all.Go(func() {
						defer w.Close()
						use(w, "/shop/"+key+" HTTP/1.1\r\nHost: x\r\n"+line+"\r\n")
					})
				}
			}
			all.Wait()
			// A connection whose client has left may still wait to be accepted. They are accepted in order.
			s.ask("/-/healthz")
			eventually(t, "the connections are closed", func() bool { return s.metric(openConnections) <= open })
			s.wantQuiet(t)
			if got := s.metric(memoryEntries); got != entries {
				t.Errorf("%v entries, want %v", got, entries)
			}
			if got := s.metric(memoryBytes); got != held {
				t.Errorf("%v bytes are held, want %v", got, held)
			}
		})
	}
}

const (
	memoryBytes     = `ixmage_cache_bytes{tier="memory"}`
	memoryEntries   = `ixmage_cache_entries{tier="memory"}`
	openConnections = "ixmage_http_connections"
)

// wantQuiet waits until no request is in progress, here and at S3.
func (s *env) wantQuiet(t *testing.T) {
	t.Helper()
	for _, series := range []string{"ixmage_http_requests_in_flight", "ixmage_origin_open_bodies"} {
		eventually(t, series+" is 0", func() bool { return s.metric(series) == 0 })
	}
	eventually(t, "S3 has nothing in flight", func() bool { return s.s3.InFlight() == 0 })
	// An abandoned fetch may give its bytes back a moment after its body is closed.
	last := -1.0
	eventually(t, "the bytes held settle", func() bool {
		now := s.metric(memoryBytes)
		same := now == last
		last = now
		return same
	})
}

// TestReleaseOfWaiting: clients that leave while S3 is silent hold nothing when the
// wait ends.
func TestReleaseOfWaiting(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--origin-idle-timeout", "500ms", "--origin-call-timeout", "1s", "--breaker-failures", "0")
	const clients = 20
	for i := range clients {
		key := fmt.Sprintf("%d.png", i)
		s.put(key, s3.Object{Body: png(2<<20, "")})
		// After a break only the rest is requested: the stall must be within it.
		after, again := int64(1<<20), int64(64<<10)
		if i%2 == 0 {
			after, again = s3.BeforeHeaders, s3.BeforeHeaders
		}
		s.s3.Next("media", "web/"+key, s3.StallAfter(after, nil), s3.StallAfter(again, nil), s3.StallAfter(again, nil))
		w := s.dial()
		w.send("GET /shop/" + key + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if i%2 == 1 {
			w.in.Peek(1)
		}
		w.Close()
	}
	// The count is not exact, because a broken body is requested again.
	for i := range clients {
		eventually(t, "each was seen", func() bool { return s.calls(fmt.Sprintf("%d.png", i)) > 0 })
	}
	s.wantQuiet(t)
	if got := s.metric(memoryBytes); got != 0 {
		t.Errorf("%v bytes are held", got)
	}
	if got := s.metric(memoryEntries); got != 0 {
		t.Errorf("%v entries", got)
	}
}

// TestReleaseOfStalledClient: a client that stops reading holds its object until the
// server closes the connection, and no longer.
func TestReleaseOfStalledClient(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	const size = 16 << 20 // more than the sockets take
	s.put("a.png", s3.Object{Body: png(size, "")})
	w := s.dial().send("GET /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n")
	w.SetDeadline(time.Time{})
	if _, err := w.in.Peek(1); err != nil {
		t.Fatal(err)
	}
	// The client has two periods of 15 s, because the second is compared with the first.
	tick, patience := time.NewTicker(time.Second), time.After(3*time.Minute)
	defer tick.Stop()
	for s.metric(`ixmage_http_client_aborts_total{alias="shop"}`) == 0 {
		select {
		case <-tick.C:
		case <-patience:
			t.Fatal("the client is not cut")
		}
	}
	s.wantQuiet(t)
	if !strings.Contains(s.wholeLog(), "client_aborted=true") {
		t.Error("the log does not say so")
	}
	wantPicture(t, s.get("/shop/a.png"), png(size, ""))
}

// TestRefusalArrives: a client that writes its whole body before it reads gets the
// answer and an orderly end, not a reset.
func TestRefusalArrives(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	auth := "Authorization: Bearer " + s.token + "\r\nContent-Type: application/json\r\n"
	for _, tc := range []struct {
		name, addr, method, target, lines string
		chunked                           bool
		status                            int
	}{
		{"body", s.public, "GET", "/shop/a.png", "", false, 413},
		{"body in chunks", s.public, "GET", "/shop/a.png", "", true, 413},
		{"another coding", s.public, "GET", "/shop/a.png", "Transfer-Encoding: gzip\r\n", true, 413},
		{"method", s.public, "POST", "/shop/a.png", "", false, 405},
		{"does not wait to be told", s.public, "PUT", "/shop/a.png", "Expect: 100-continue\r\n", false, 405},
		{"framing", s.public, "GET", "/shop/a.png", "X: y\r\n z\r\n", false, 400},
		{"no HTTP", s.public, "G@T", "/shop/a.png", "", false, 400},
		{"admin", s.admin, "POST", "/api/v1/aliases", auth, false, 413},
		{"admin in chunks", s.admin, "POST", "/api/v1/aliases", auth, true, 413},
		{"admin without a token", s.admin, "POST", "/api/v1/aliases", "", false, 413},
	} {
		for _, size := range []int{64<<10 + 1, 1 << 20, 3 << 20} {
			t.Run(fmt.Sprint(tc.name, " ", size), func(t *testing.T) {
				t.Parallel()
				head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\n%s", tc.method, tc.target, tc.lines)
				body := bytes.Repeat([]byte{'x'}, size)
				if tc.chunked {
					if !strings.Contains(head, "Transfer-Encoding") {
						head += "Transfer-Encoding: chunked\r\n"
					}
					body = fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", size, body)
				} else {
					head += fmt.Sprintf("Content-Length: %d\r\n", size)
				}
				eventually(t, "a client sends its body before the connection has lingered enough", func() bool {
					began := time.Now()
					err := s.refusal(tc.addr, tc.method, head+"\r\n"+string(body), tc.status)
					if err != nil && time.Since(began) > lingerTime { // a busy machine
						return false
					}
					if err != nil {
						t.Error(err)
					}
					return true
				})
			})
		}
	}
}

// lingerTime is how long the server reads what follows a refused request.
const lingerTime = time.Second

// refusal sends a whole request before it reads, and wants an answer and an orderly end.
func (s *env) refusal(addr, method, request string, status int) error {
	w := s.dialTo(addr)
	defer w.Close()
	if _, err := io.WriteString(w, request); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	r, err := readResponse(w.in, method)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if r.StatusCode != status || r.err != nil || !r.Close {
		return fmt.Errorf("got %s, want %d and the end of the connection", summary(r), status)
	}
	if rest, err := io.ReadAll(w.in); err != nil || len(rest) > 0 {
		return fmt.Errorf("%d bytes and %s behind the answer, want an orderly end", len(rest), errText(err))
	}
	return nil
}

// TestLingerIsBounded: a client that goes on sending is cut off, whether it sends
// much or little at a time.
func TestLingerIsBounded(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	for name, addr := range map[string]string{"public": s.public, "admin": s.admin} {
		for _, size := range []int{64 << 10, 1} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				t.Parallel()
				w := s.dialTo(addr).send("POST /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
				piece := bytes.Repeat([]byte{'x'}, size)
				eventually(t, "the connection is reset", func() bool {
					_, err := w.Write(piece)
					return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
				})
			})
		}
	}
	if r := s.get("/-/readyz"); r.StatusCode != http.StatusOK {
		t.Errorf("the server is %s", r.Status)
	}
}

// TestLingerEndsWithTheServer: a client that keeps its connection open after a
// refusal does not delay the end of the server, which exits with status 0.
func TestLingerEndsWithTheServer(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	for _, addr := range []string{s.public, s.admin} {
		w := s.dialTo(addr).send("POST /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
		if r := w.answer(http.MethodPost); r == nil {
			t.Fatal("no answer")
		}
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit status is %d", code)
	}
	if strings.Contains(s.output(), "still under way") {
		t.Errorf("it waited:\n%s", s.output())
	}
}

// TestPipeline sends all requests at once. The answers come in order, each with its
// own body, for every way in which a body is sent.
func TestPipeline(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	sizes := map[string]int{"small.png": 100, "middle.png": 60_000, "large.png": 1 << 20, "cold1.png": 700_000, "cold2.png": 10}
	for key, size := range sizes {
		s.put(key, s3.Object{Body: png(size, "")})
		if !strings.HasPrefix(key, "cold") {
			wantPicture(t, s.get("/shop/"+key), png(size, ""))
		}
	}
	requests := []struct {
		method, key, lines string
		status             int
	}{
		{"GET", "small.png", "", 200},
		{"GET", "large.png", "", 200},
		{"GET", "small.png", "", 200},
		{"HEAD", "large.png", "", 200},
		{"GET", "middle.png", "", 200},
		{"GET", "cold1.png", "", 200},
		{"GET", "none.png", "", 404},
		{"HEAD", "none.png", "", 404},
		{"GET", "large.png", "If-None-Match: *\r\n", 304},
		{"GET", "small.png", "", 200},
		{"GET", "..", "", 400},
		{"GET", "cold2.png", "", 200},
		{"GET", "large.png", "If-Match: \"x\"\r\n", 412},
		{"GET", "large.png", "", 200},
		{"GET", "small.png", "Connection: close\r\n", 200},
		{"GET", "small.png", "", 0}, // behind the end of the connection
	}
	for range 3 {
		var text strings.Builder
		for _, q := range requests {
			fmt.Fprintf(&text, "%s /shop/%s HTTP/1.1\r\nHost: x\r\n%s\r\n", q.method, q.key, q.lines)
		}
		w := s.dial().send(text.String())
		for i, q := range requests {
			r := w.answer(q.method)
			if q.status == 0 {
				if r != nil {
					t.Fatalf("an answer behind Connection: close: %s", summary(r))
				}
				continue
			}
			if r == nil || r.StatusCode != q.status || r.err != nil {
				t.Fatalf("request %d, %s %s: got %s, want %d", i, q.method, q.key, summary(r), q.status)
			}
			if q.status == http.StatusOK && q.method == http.MethodGet {
				wantPicture(t, r, png(sizes[q.key], ""))
			}
		}
	}
}

// TestPipelineBreaks has the last of several pipelined requests fail before its first
// byte. The answers before it are whole.
func TestPipelineBreaks(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	sizes := []int{100, 100, 3000, 60_000, 20}
	for i, size := range sizes {
		s.put(fmt.Sprintf("%d.png", i), s3.Object{Body: png(size, "")})
		wantPicture(t, s.get(fmt.Sprintf("/shop/%d.png", i)), png(size, ""))
	}
	s.put("broken.png", s3.Object{
		// The client must not take a header for another answer.
		Body: png(1, ""), CacheControl: "x=\"HTTP/1.1 200 OK\"",
	})
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.WrongChecksum() })
	for n := range len(sizes) + 1 {
		for _, line := range []string{"", "Range: bytes=0-0\r\n"} {
			var text strings.Builder
			for i := range n {
				fmt.Fprintf(&text, "GET /shop/%d.png HTTP/1.1\r\nHost: x\r\n\r\n", i)
			}
			w := s.dial().send(text.String() + "GET /shop/broken.png HTTP/1.1\r\nHost: x\r\n" + line + "\r\n")
			for i := range n {
				wantPicture(t, w.answer(http.MethodGet), png(sizes[i], ""))
			}
			if rest := w.all(); rest != "" {
				t.Errorf("%d answers are followed by %q", n, rest)
			}
		}
	}
}

// TestRequestInPieces: a request may arrive in pieces, and another one after its
// answer.
func TestRequestInPieces(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(100, "")
	s.put("a.png", s3.Object{Body: body})
	w := s.dial()
	for range 3 {
		for _, c := range "\r\nGET /shop/a.png HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n" {
			w.send(string(c))
		}
		wantPicture(t, w.answer(http.MethodGet), body)
	}
	// An incomplete request gets no answer.
	half := s.dial().send("GET /shop/a.png HTTP/1.1\r\nHo")
	half.Close()
	if n := s.calls("a.png"); n != 1 {
		t.Errorf("S3 was asked %d times", n)
	}
}

func TestConnectionReuse(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(300_000, "")
	s.put("a.png", s3.Object{Body: body})
	for _, tc := range []struct {
		name, line, more string
		open             bool
	}{
		{"HTTP/1.1", "HTTP/1.1\r\nHost: x", "", true},
		{"HTTP/1.1, close", "HTTP/1.1\r\nHost: x", "Connection: close\r\n", false},
		{"HTTP/1.1, close in a list", "HTTP/1.1\r\nHost: x", "Connection: x, Close\r\n", false},
		{"HTTP/1.0", "HTTP/1.0", "", false},
		{"HTTP/1.0, keep-alive", "HTTP/1.0", "Connection: keep-alive\r\n", true},
		{"HTTP/1.0, Keep-Alive", "HTTP/1.0\r\nHost: x", "Connection: Keep-Alive\r\n", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := s.dial()
			for round := range 3 {
				r := w.send("GET /shop/a.png " + tc.line + "\r\n" + tc.more + "\r\n").answer(http.MethodGet)
				wantPicture(t, r, body)
				if tc.open {
					continue
				}
				if !r.Close {
					t.Errorf("round %d: the end of the connection is not announced", round)
				}
				if rest := w.all(); rest != "" {
					t.Errorf("%d bytes behind the answer", len(rest))
				}
				break
			}
			// HTTP/1.0 gets a length, not chunks.
			if text := s.dial().send("HEAD /shop/a.png " + tc.line + "\r\nConnection: close\r\n\r\n").all(); !strings.Contains(text, "\r\nContent-Length: 300000\r\n") {
				t.Errorf("got %q", text)
			}
		})
	}
}
