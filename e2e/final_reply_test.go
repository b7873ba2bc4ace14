package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// rawS3 is a server that answers each request with bytes of the test's choice.
type rawS3 struct {
	url string

	mu    sync.Mutex // guards the fields below
	asked map[string]int
	open  map[net.Conn]struct{}
}

// newRawS3 calls answer with the target of each request on its connection, which is closed when answer
// returns.
func newRawS3(t *testing.T, answer func(c net.Conn, bucket string)) *rawS3 {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rawS3{url: "http://" + ln.Addr().String(), asked: map[string]int{}, open: map[net.Conn]struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.open[c] = struct{}{}
			r.mu.Unlock()
			wg.Go(func() { r.serve(c, answer) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		r.mu.Lock()
		for c := range r.open {
			c.Close()
		}
		r.mu.Unlock()
		wg.Wait()
	})
	return r
}

func (r *rawS3) serve(c net.Conn, answer func(net.Conn, string)) {
	defer func() {
		c.Close()
		r.mu.Lock()
		delete(r.open, c)
		r.mu.Unlock()
	}()
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	bucket, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	r.mu.Lock()
	r.asked[req.URL.Path]++
	r.mu.Unlock()
	answer(c, bucket)
}

func (r *rawS3) conns() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

func (r *rawS3) count(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[path]
}

// keepOpen waits until the other side closes a connection.
func keepOpen(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// dripping sends a text again and again until the other side closes the connection.
func dripping(c net.Conn, text string, pause time.Duration) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
		<-tick.C
	}
}

// noFinalReplies are answers to a request that are no final answer of HTTP/1.1, each on a
// connection that stays open. The names are those of buckets.
func noFinalReplies() map[string]func(net.Conn) {
	rows := map[string]func(net.Conn){}
	for name, text := range map[string]string{
		"switching":          "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"switching-h2c":      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0",
		"switching-bare":     "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"switching-length":   "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello",
		"continue":           "HTTP/1.1 100 Continue\r\n\r\n",
		"unknown-interim":    "HTTP/1.1 199 Whatever\r\n\r\n",
		"status-000":         "HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n",
		"status-099":         "HTTP/1.1 099 Nothing\r\nContent-Length: 0\r\n\r\n",
		"status-600":         "HTTP/1.1 600 Much\r\nContent-Length: 0\r\n\r\n",
		"status-999":         "HTTP/1.1 999 Much\r\nContent-Length: 100\r\n\r\n",
		"status-1000":        "HTTP/1.1 1000 Much\r\n\r\n",
		"status-20":          "HTTP/1.1 20 Few\r\n\r\n",
		"status-text":        "HTTP/1.1 abc Text\r\n\r\n",
		"status-negative":    "HTTP/1.1 -20 Negative\r\n\r\n",
		"status-missing":     "HTTP/1.1\r\n\r\n",
		"http-0-9":           "<html>a page</html>\n",
		"http-2":             "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"http-9":             "HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
		"http-0":             "HTTP/0.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"http-2-frames":      "\x00\x00\x12\x04\x00\x00\x00\x00\x00",
		"tls-alert":          "\x15\x03\x01\x00\x02\x02\x46",
		"ssh":                "SSH-2.0-OpenSSH_9.6\r\n",
		"icy":                "ICY 200 OK\r\n\r\n",
		"silence":            "",
		"half-a-status-line": "HTTP/1.1 2",
		"half-a-header":      "HTTP/1.1 200 OK\r\nContent-Le",
	} {
		rows[name] = func(c net.Conn) {
			_, _ = io.WriteString(c, text)
			keepOpen(c)
		}
	}
	rows["switching-drips"] = func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		dripping(c, "x", 50*time.Millisecond)
	}
	rows["interim-for-ever"] = func(c net.Conn) { dripping(c, "HTTP/1.1 103 Early Hints\r\n\r\n", time.Microsecond) }
	rows["interim-drips"] = func(c net.Conn) { dripping(c, "HTTP/1.1 100 Continue\r\n\r\n", 50*time.Millisecond) }
	rows["header-drips"] = func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		dripping(c, "X-A: b\r\n", 50*time.Millisecond)
	}
	return rows
}

// TestNoFinalReply has S3 send what is no final answer of HTTP/1.1, and keep the
// connection. Each request fails within the deadlines, its connection is closed, other
// aliases are served, canaries and scope checks go on, and the process ends while such
// requests are under way.
func TestNoFinalReply(t *testing.T) {
	t.Parallel()
	rows := noFinalReplies()
	picture := png(100, "")
	store := newRawS3(t, func(c net.Conn, bucket string) {
		if row := rows[bucket]; row != nil {
			row(c)
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nETag: \"e\"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(picture), picture)
	})
	s := start(t, "--origin-first-byte-timeout", "3s", "--origin-call-timeout", "9s", "--shutdown-timeout", "1s",
		"--origin-alias-concurrency", "2", "--origin-queue-timeout", "1m", "--breaker-failures", "0", "--canary-interval", "200ms")
	for name := range rows {
		s.createOn(name, store.url, name)
	}
	s.createOn("good", store.url, "good")
	s.patchOn("switching", `{"canary":"canary.png"}`)
	before := s.samples()["ixmage_origin_open_bodies"]

	var wg sync.WaitGroup
	for name := range rows {
		for i, method := range []string{http.MethodGet, http.MethodHead, http.MethodGet, http.MethodGet} {
			wg.Go(func() {
				r := single(s.public, method, fmt.Sprintf("/%s/%d.png", name, i))
				if r.err != nil || r.Response == nil || r.StatusCode != http.StatusBadGateway && r.StatusCode != http.StatusGatewayTimeout {
					t.Errorf("%s of %s: %v, %v", method, name, r.Response, r.err)
				}
			})
		}
	}
	wg.Go(func() { // the probes of a scope check use the same transport
		if r := s.api(http.MethodPost, "/api/v1/aliases/switching/verify", nil); r.StatusCode != http.StatusOK {
			t.Errorf("verify: %s: %s", r.Status, r.body)
		}
	})
	wg.Wait()
	wantPicture(t, s.get("/good/a.png"), picture)
	again := store.count("/switching/canary.png")
	eventually(t, "canaries are read again", func() bool { return store.count("/switching/canary.png") > again })
	s.patchOn("switching", `{"canary":null}`)
	eventually(t, "connections are closed", func() bool { return store.conns() == 0 })
	eventually(t, "no body and no request is left", func() bool {
		n := s.samples()
		return n["ixmage_origin_open_bodies"] == before && n["ixmage_http_requests_in_flight"] == 0
	})
}

// TestTermAmidNoFinalReply ends the process while S3 answers clients, canaries and scope
// checks with what is no final answer, or not at all, and the deadlines of these requests are far away.
func TestTermAmidNoFinalReply(t *testing.T) {
	t.Parallel()
	rows := noFinalReplies()
	store := newRawS3(t, func(c net.Conn, bucket string) { rows[bucket](c) })
	s := start(t, "--origin-first-byte-timeout", "3m", "--origin-call-timeout", "8m", "--origin-connect-timeout", "3m",
		"--shutdown-timeout", "1s", "--breaker-failures", "0", "--canary-interval", "100ms")
	for name := range rows {
		s.createOn(name, store.url, name)
	}
	s.patchOn("silence", `{"canary":"canary.png"}`)
	var wg sync.WaitGroup
	for name := range rows {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			wg.Go(func() { single(s.public, method, "/"+name+"/end.png") })
		}
	}
	verify := s.request(http.MethodPost, "/api/v1/aliases/header-drips/verify", nil)
	c := client(t)
	wg.Go(func() {
		if resp, err := c.Do(verify); err == nil {
			resp.Body.Close()
		}
	})
	eventually(t, "S3 is asked", func() bool {
		return store.count("/silence/end.png") > 1 && store.count("/silence/canary.png") > 0 &&
			store.count("/interim-drips/end.png") > 1 && store.conns() > 10
	})
	begun := time.Now()
	ended := make(chan int, 1)
	go func() { ended <- s.stop() }()
	select {
	case code := <-ended:
		took := time.Since(begun)
		t.Logf("ended after %s", took)
		if code != 0 || took > 30*time.Second { // 1 s + 2 s, and patience with a busy machine
			t.Errorf("it ended with status %d after %s", code, took)
		}
	case <-time.After(time.Minute):
		t.Error("SIGTERM does not end it")
	}
	wg.Wait()
}

// patchOn changes an alias.
func (s *server) patchOn(name, body string) {
	s.t.Helper()
	if r := s.api(http.MethodPatch, "/api/v1/aliases/"+name, body); r.StatusCode != http.StatusOK {
		s.t.Fatalf("patch: %s: %s", r.Status, r.body)
	}
}
