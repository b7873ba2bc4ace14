package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// TestContainerMemory runs the server in the container that docs/operations.md advises,
// with clients that keep as much of its memory as they can: 3,000 that are idle after a
// request with a large header, and 1,000 that each ask for a cached picture of 1 MiB of
// their own and do not read it, some of them after answers that they read, which opens the
// windows of TCP. The kernel must not kill the server, and others must be served. One
// case runs always, and all where everything runs.
func TestContainerMemory(t *testing.T) {
	t.Parallel() // it measures its own cgroup, and no time
	for _, tc := range []struct {
		mtu, reads int
		long       bool
	}{
		{mtu: 1500, reads: 2},
		{mtu: 1500, reads: 0, long: true},
		{mtu: 65536, reads: 4, long: true},
		{mtu: 65536, reads: 0, long: true},
	} {
		t.Run(fmt.Sprintf("MTU %d, %d read before", tc.mtu, tc.reads), func(t *testing.T) {
			t.Parallel()
			if tc.long {
				skipShort(t)
			}
			if inNamespace(t, fmt.Sprintf("ip link set lo mtu %d up", tc.mtu)) {
				testContainerMemory(t, tc.reads)
			}
		})
	}
}

func testContainerMemory(t *testing.T, reads int) {
	const (
		idle    = 3000
		stalled = 1000
		size    = 1 << 20
		limit   = (64+128)<<20 + (idle+stalled)*30<<10
	)
	needFiles(t, 2*(idle+stalled))
	group := newMemoryGroup(t, limit)
	body := bytesOf(size, "container")
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		if strings.HasSuffix(r.URL.Path, "small.png") {
			w.Write(png(1000, ""))
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(body)
	}))
	defer origin.Close()
	s := group.start(t, "--cache-memory", "64MiB", "--log-level", "error",
		"--origin-first-byte-timeout", "1h", "--origin-call-timeout", "1h", "--origin-idle-timeout", "1h")
	s.createOn("shop", origin.URL, "container")
	alive := func(what string, n int) {
		select {
		case <-s.process.Done():
			t.Fatalf("the server ended after %d %s: %v", n, what, s.process.State())
		default:
		}
	}
	small := []byte("GET /shop/small.png HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("c", 15_000) + "\r\n\r\n")
	for i := range idle {
		c := connect(t, s.public)
		c.Write(small)
		skipAnswer(t, c)
		if i%100 == 0 {
			alive("idle clients", i)
		}
	}
	t.Logf("%d idle clients: %d MiB of %d", idle, group.read(group.usage)>>20, limit>>20)
	for i := range stalled {
		path := fmt.Sprintf("/shop/%04d.png", i)
		if i%100 == 0 {
			alive("stalled clients", i)
		}
		warm := connect(t, s.public)
		fmt.Fprintf(warm, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
		io.Copy(io.Discard, warm)
		warm.Close()
		c := connect(t, s.public)
		for range reads {
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
			skipAnswer(t, c)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	}
	t.Logf("with %d stalled clients: %d MiB, peak %d of %d", stalled, group.read(group.usage)>>20, group.read(group.peak)>>20, limit>>20)
	alive("stalled clients", stalled)
	r := single(s.public, http.MethodGet, "/shop/small.png")
	if r.Response == nil || r.StatusCode != http.StatusOK || !bytes.Equal(r.body, png(1000, "")) {
		t.Errorf("a further client got %s", summary(r))
	}
}

// connect opens a connection that lasts as long as the test.
func connect(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// skipAnswer reads one answer and drops it.
func skipAnswer(t testing.TB, c net.Conn) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		t.Fatal(err)
	}
}
