package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// network gives a namespace addresses of clients: two of IPv4, two in one /64 of IPv6, and
// one in another.
const network = `ip link set lo up &&
	for a in 192.0.2.1/24 192.0.2.2/24 10.9.9.9/24; do ip addr add $a dev lo; done &&
	for a in 2001:db8::1/64 2001:db8::2/64 2001:db8:0:1::1/64; do ip -6 addr add $a dev lo nodad; done`

// dialFrom connects from an address to a port of the machine. It returns nil for a
// connection that was reset at once.
func dialFrom(t *testing.T, from, addr string) net.Conn {
	t.Helper()
	_, port, _ := net.SplitHostPort(addr)
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
	c, err := d.DialContext(context.Background(), "tcp", net.JoinHostPort(from, port))
	if errors.Is(err, syscall.ECONNRESET) {
		return nil // it was refused at once
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends a GET with header lines and returns the status, or "closed".
func ask(c net.Conn, path string, lines ...string) string {
	if c == nil {
		return "closed"
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, strings.Join(append(lines, ""), "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "closed"
	}
	io.Copy(io.Discard, resp.Body)
	return fmt.Sprint(resp.StatusCode)
}

// TestClientConnections opens connections from several addresses. Those beyond the limit of an
// address are closed, those of other addresses and of loopback are served.
func TestClientConnections(t *testing.T) {
	t.Parallel()
	if !inNamespace(t, network) {
		return
	}
	const limit = 5
	began := time.Now()
	s := newEnv(t, "--client-connections", fmt.Sprint(limit), "--listen", "[::]:0")
	s.put("a.png", s3.Object{Body: png(100, "")})
	open := func(from string, n int) []net.Conn {
		var conns []net.Conn
		for range n {
			c := dialFrom(t, from, s.public)
			if got := ask(c, "/shop/a.png"); got != "200" {
				t.Errorf("connection %d from %s: %s", len(conns)+1, from, got)
			}
			conns = append(conns, c)
		}
		return conns
	}
	for _, client := range [][]string{{"192.0.2.1"}, {"192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}, {"2001:db8:0:1::1"}} {
		conns := open(client[0], limit)
		for range 3 {
			if got := ask(dialFrom(t, client[len(client)-1], s.public), "/-/healthz"); got != "closed" {
				t.Errorf("a connection beyond the limit of %v: %s", client, got)
			}
		}
		if got := ask(conns[0], "/shop/a.png"); got != "200" {
			t.Errorf("an open connection of %s at its limit: %s", client[0], got)
		}
		conns[1].Close()
		eventually(t, "a place is free", func() bool {
			return ask(dialFrom(t, client[len(client)-1], s.public), "/shop/a.png") == "200"
		})
	}
	open("127.0.0.1", 4*limit)
	open("::1", 4*limit)
	if got := s.metric(`ixmage_http_shed_total{reason="client_connections"}`); got < 4*3 {
		t.Errorf("%v connections count as refused", got)
	}
	if got := s.metric("ixmage_http_connections"); got < 8*limit {
		t.Errorf("%v connections count as open", got)
	}
	wantAll(t, "the log", s.wholeLog(), `msg="a client is at its limit: refused"`, "reason=client_connections", "limit=5")
	const pause = 10 * time.Second // between two lines
	if n := strings.Count(s.output(), "a client is at its limit"); n > 1+int(time.Since(began)/pause) {
		t.Errorf("%d lines for refused connections", n)
	}
	for _, addr := range []string{"192.0.2.1", "2001:db8::"} {
		if strings.Contains(s.output(), addr) {
			t.Errorf("the log has the address %s", addr)
		}
	}
}

// TestClientConnectionsOff: without the limit one address has any number.
func TestClientConnectionsOff(t *testing.T) {
	t.Parallel()
	if !inNamespace(t, network) {
		return
	}
	needFiles(t, 10_000)
	s := start(t, "--client-connections", "0", "--listen", "0.0.0.0:0", "--trusted-proxies", "10.9.9.9")
	for i := range 5000 {
		c := dialFrom(t, "192.0.2.1", s.public)
		if i%1000 == 0 {
			if got := ask(c, "/-/healthz"); got != "200" {
				t.Errorf("connection %d: %s", i, got)
			}
		}
	}
}

// TestTrustedProxies has a trusted proxy pass on requests that wait for S3. Each client that
// the proxy names has its own limit, whatever the client put into the headers before; who is
// no trusted proxy names nobody.
func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	if !inNamespace(t, network) {
		return
	}
	const limit = 3
	s := newEnv(t, "--client-connections", fmt.Sprint(limit), "--listen", "0.0.0.0:0",
		"--trusted-proxies", "10.9.9.0/24, 198.51.100.0/24", "--origin-first-byte-timeout", "5m", "--origin-call-timeout", "5m")
	s.put("hot.png", s3.Object{Body: png(100, "")})
	if got := ask(dialFrom(t, "10.9.9.9", s.public), "/shop/hot.png"); got != "200" {
		t.Fatal(got)
	}
	release := make(chan struct{})
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(s3.BeforeHeaders, release) })
	n, waiting := 0, 0
	stick := func(lines ...string) {
		t.Helper()
		n, waiting = n+1, waiting+1
		key := fmt.Sprintf("stuck%d.png", n)
		s.put(key, s3.Object{Body: png(100, "")})
		c := dialFrom(t, "10.9.9.9", s.public)
		fmt.Fprintf(c, "GET /shop/%s HTTP/1.1\r\nHost: x\r\n%s\r\n", key, strings.Join(append(lines, ""), "\r\n"))
		s.waitBlocked(waiting) // in flight it is before it counts for its client
	}
	hit := func(want string, lines ...string) {
		t.Helper()
		c := dialFrom(t, "10.9.9.9", s.public)
		for range 2 { // the connection of the proxy stays open
			if got := ask(c, "/shop/hot.png", lines...); got != want {
				t.Errorf("%q: %s, want %s", lines, got, want)
			}
		}
		if got := ask(c, "/-/healthz", lines...); got != "200" {
			t.Errorf("%q: a health check: %s", lines, got)
		}
	}
	for range limit {
		stick("X-Forwarded-For: 203.0.113.1")
	}
	hit("503", "X-Forwarded-For: 203.0.113.1")
	hit("503", "X-Forwarded-For: 203.0.113.99, 203.0.113.1, 198.51.100.7")
	hit("503", "X-Forwarded-For: 203.0.113.99", "X-Forwarded-For: 203.0.113.1:4711")
	hit("503", `Forwarded: for="[::ffff:203.0.113.1]:80";proto=https`, "X-Forwarded-For: 203.0.113.2")
	hit("200", "X-Forwarded-For: 203.0.113.1, 203.0.113.2")
	hit("200", "Forwarded: for=203.0.113.2", "X-Forwarded-For: 203.0.113.1")
	hit("200", "Forwarded: for=203.0.113.1, for=_hidden")
	hit("200", "X-Forwarded-For: 203.0.113.1, garbage")
	hit("200")
	for range limit {
		stick(`Forwarded: for="[2001:db8::17]:4711"`)
	}
	hit("503", "X-Forwarded-For: 2001:db8::99")
	hit("200", "X-Forwarded-For: 2001:db8:0:1::1")
	// From other addresses the headers mean nothing.
	for _, from := range []string{"192.0.2.1", "127.0.0.1"} {
		if got := ask(dialFrom(t, from, s.public), "/shop/hot.png", "X-Forwarded-For: 203.0.113.1"); got != "200" {
			t.Errorf("from %s: %s", from, got)
		}
	}
	r := single(s.public, http.MethodGet, "/shop/hot.png")
	wantPicture(t, r, png(100, ""))
	if got := s.samples()[`ixmage_http_shed_total{reason="client_requests"}`]; got != 5*2 {
		t.Errorf("%v requests count as refused", got)
	}
	close(release)
	s.waitInFlight(0)
	hit("200", "X-Forwarded-For: 203.0.113.1")
	if out := s.output(); strings.Contains(out, "203.0.113") {
		t.Error("the log has an address from a header")
	}
	if s.stop() != 0 {
		t.Error("it did not end well")
	}
}
