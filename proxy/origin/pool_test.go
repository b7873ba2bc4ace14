package origin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/internal/awstest/s3"
)

// connsOf returns the connections that S3 saw requests for an alias on.
func (k *env) connsOf(bucket string) map[int]bool {
	conns := map[int]bool{}
	for _, q := range k.s3.Requests() {
		if q.Bucket == bucket {
			conns[q.Conn] = true
		}
	}
	return conns
}

// idleConns counts the idle connections.
func (k *env) idleConns() int {
	k.sender.idle.mu.Lock()
	defer k.sender.idle.mu.Unlock()
	return k.sender.idle.lru.Len()
}

// TestPoolPerCredential: two credentials never use one connection, and requests of one use
// the same again.
func TestPoolPerCredential(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	one, two := k.put("one", "a.png", s3.Object{Body: noise(10)}), k.put("another", "a.png", s3.Object{Body: noise(10)})
	probe := k.Client(one.Route.Alias.Location, k.secrets.pair(one.Route.Credential))
	for range 5 {
		for _, r := range []Request{one, two} {
			if _, err := k.read(t, r); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = probe.HeadBucket(t.Context(), &awss3.HeadBucketInput{Bucket: aws.String("bucket-of-probe")})
	}
	all := map[int]bool{}
	for _, bucket := range []string{"bucket-one", "bucket-another", "bucket-of-probe"} {
		conns := k.connsOf(bucket)
		if len(conns) != 1 {
			t.Errorf("%s: %d connections for requests one after the other, want 1", bucket, len(conns))
		}
		maps.Copy(all, conns)
	}
	if len(all) != 3 {
		t.Errorf("%d connections for two credentials and a probe, want one of its own for each", len(all))
	}
}

// TestPoolOfReplacedCredential: the idle connections of a replaced or forgotten key pair are
// closed, and a body that is being read goes on; then its connection is closed.
func TestPoolOfReplacedCredential(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(bodySize)})
	k.idle(t, r, 3)
	obj, err := k.Get(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	r.Route.Credential = k.credential(r.Route.Credential.ID, 2)
	if _, err := k.read(t, r); err != nil {
		t.Fatal(err)
	}
	if n := k.idleConns(); n != 1 {
		t.Errorf("%d idle connections after the replacement, want the one of the new key pair", n)
	}
	if _, err := readAll(t, obj); err != nil {
		t.Errorf("body of the old key pair: %v", err)
	}
	k.Forget(r.Route.Credential.ID)
	if n := k.idleConns(); n != 0 {
		t.Errorf("%d idle connections after Forget, want none", n)
	}
}

// TestPoolIsBounded: many credentials together leave no more idle connections than allowed, the
// newest ones.
func TestPoolIsBounded(t *testing.T) {
	t.Parallel()
	k := newEnv(t, func(c *Config) { c.Concurrency, c.AliasConcurrency = 4, 4 })
	for i := range 30 {
		r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
		r.Route.Credential = k.credential(int64(i+1), 1)
		if _, err := k.read(t, r); err != nil {
			t.Fatal(err)
		}
	}
	if n := k.idleConns(); n != 8 {
		t.Errorf("%d idle connections, want twice the concurrency of 4", n)
	}
}

// arrived waits until the idle connection has something to read: what one end has written
// may be a moment on its way.
func (k *env) arrived(t *testing.T) {
	t.Helper()
	k.sender.idle.mu.Lock()
	cn := k.sender.idle.lru.Front().Value.(*conn)
	k.sender.idle.mu.Unlock()
	if err := cn.socket.raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		return !errors.Is(err, syscall.EAGAIN)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestLateSurplus has S3 send bytes on an idle connection. The next request finds them, or
// the end of the connection, and gets a connection of its own.
func TestLateSurplus(t *testing.T) {
	t.Parallel()
	answer := planted([]byte("wrong"))
	for _, tc := range []struct {
		name, late string
		distrusted bool
	}{
		{"reply", answer, true},
		{"one byte", "x", true},
		{"408 before the end", "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", false},
		{"end", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			release, sent := make(chan struct{}), make(chan struct{})
			var conns atomic.Int64
			addr := listen(t, func(c net.Conn) {
				n := conns.Add(1)
				br := bufio.NewReader(c)
				for {
					if _, err := http.ReadRequest(br); err != nil {
						return
					}
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\nright")
					if n == 1 {
						<-release
						_, _ = io.WriteString(c, tc.late)
						if tc.late == "" {
							c.Close()
						}
						close(sent)
					}
				}
			})
			var logged bytes.Buffer
			k := newEnv(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
			r := Request{Route: k.route("shop"), Key: "a.png"}
			r.Route.Alias.Endpoint = "http://" + addr
			read := func() {
				t.Helper()
				if got, err := k.read(t, r); err != nil || string(got) != "right" {
					t.Errorf("got %q, %v", got, err)
				}
			}
			read()
			close(release)
			<-sent
			k.arrived(t)
			read()
			read()
			want := int64(2)
			if tc.distrusted {
				want = 3 // no connection is used again
			}
			if got := conns.Load(); got != want {
				t.Errorf("%d connections, want %d", got, want)
			}
			if got := strings.Contains(logged.String(), "more than the reply"); got != tc.distrusted {
				t.Errorf("logged %q", &logged)
			}
			k.Close()
		})
	}
}

// TestSurplusOverTLS: bytes after a reply are found in the buffers of TLS, a ticket of a
// session is none of them, and connections are used again.
func TestSurplusOverTLS(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, surplus := range []bool{false, true} {
			roots, cert := issued(t, "s3.example.com", time.Now().Add(time.Hour))
			ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			server := s3.Serve(ln)
			names := newDNS(t)
			names.set("s3.example.com", "127.0.0.1")
			k := newEnvResolving(t, names.resolver(), func(c *Config) { c.Roots = roots })
			_, port, _ := net.SplitHostPort(ln.Addr().String())
			r := Request{Route: k.route("shop"), Key: "a.png"}
			r.Route.Alias.Endpoint = "https://s3.example.com:" + port
			server.Put(r.Route.Alias.Bucket, r.Key, s3.Object{Body: noise(30_000)})
			server.Hook(func(*s3.Request) *s3.Fault {
				if surplus {
					return &s3.Fault{After: planted([]byte("wrong"))}
				}
				return nil
			})
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range 20 {
						if got, err := k.read(t, r); err != nil || !bytes.Equal(got, noise(30_000)) {
							t.Errorf("surplus %t: %d bytes, %v", surplus, len(got), err)
						}
					}
				})
			}
			wg.Wait()
			if n := server.Accepted(); surplus != (n == 80) || !surplus && n > 8 {
				t.Errorf("TLS %x, surplus %t: %d connections for 80 requests", version, surplus, n)
			}
			k.Close()
			server.Close()
		}
	}
}

// TestIdleTimeout closes connections that are idle for too long, without a request.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	k.idle(t, r, 2)
	all := k.sender.idle
	all.mu.Lock()
	all.lru.Back().Value.(*conn).idleFrom = time.Now().Add(-idleConnTimeout)
	all.mu.Unlock()
	all.sweep()
	if n := k.idleConns(); n != 1 {
		t.Errorf("%d idle connections, want 1", n)
	}
}

// TestReadAfterClose: a body that is closed early never looks complete.
func TestReadAfterClose(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(bodySize)})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, k.s3.URL+"/"+r.Route.Alias.Bucket+"/a.png", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := k.sender.newClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Body.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 10)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Read after Close returns %v", err)
	}
}

// FuzzReply sends any bytes as a reply. Where they are a final reply, it is the one that
// net/http reads.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi!",
		"HTTP/1.1 204 No Content\r\n\r\nx", "HTTP/1.1 304 Not Modified\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nx", "HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nuntil close", "HTTP/2.0 200 OK\r\n\r\n", "SSH-2.0-x\r\n", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Skip(err)
		}
		defer ln.Close()
		written := make(chan struct{})
		go func() {
			defer close(written)
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = c.Write(data)
			_ = c.(*net.TCPConn).CloseWrite() // a reply that lacks something ends here
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}()
		cfg := testConfig()
		c := newSender(cfg, nil, slog.New(slog.DiscardHandler)).newClient()
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ln.Addr().String()+"/", nil)
		resp, err := c.Do(req)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		cancel()
		c.idle.close()
		<-written
		if err != nil {
			return
		}
		br := bufio.NewReader(bytes.NewReader(data))
		for {
			want, wantErr := http.ReadResponse(br, req)
			if wantErr != nil {
				t.Fatalf("a reply was read where net/http finds %v", wantErr)
			}
			if want.StatusCode < 200 {
				continue
			}
			body, _ := io.ReadAll(io.LimitReader(want.Body, maxErrorBody))
			if resp.StatusCode/100 == 2 {
				rest, _ := io.ReadAll(want.Body)
				body = append(body, rest...)
			}
			if want.StatusCode != resp.StatusCode || !bytes.Equal(body, got) {
				t.Fatalf("status %d and %q, net/http reads %d and %q", resp.StatusCode, got, want.StatusCode, body)
			}
			return
		}
	})
}
