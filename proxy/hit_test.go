package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	runtimemetrics "runtime/metrics"
	"strconv"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore/sqltest"
	"ixmage/cache"
	"ixmage/metrics"
	"ixmage/proxy/origin"
)

// BenchmarkHit is a memory hit from the request's bytes to the answer's, with
// everything on but the socket.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		b.Run(strconv.Itoa(size>>10)+"KiB", func(b *testing.B) {
			p := newTestProxy(b, size)
			conn := &replay{request: []byte("GET /shop/a.png HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")}
			conn.left = 1
			serveConn(b, p, conn) // the miss
			conn.left = b.N
			goroutines := runtime.NumGoroutine()
			b.ReportAllocs()
			b.ResetTimer()
			serveConn(b, p, conn)
			b.StopTimer()
			if n := runtime.NumGoroutine(); n > goroutines {
				b.Errorf("%d goroutines before, %d after", goroutines, n)
			}
		})
	}
}

// TestHitAllocations holds a hit, from a client's socket to ours and back, to a
// handful of allocations and no goroutine.
func TestHitAllocations(t *testing.T) { //nolint:paralleltest // it measures, or fills the machine
	const handful, rounds = 5, 500
	for _, tc := range []struct {
		size    int
		origins []string
	}{{4 << 10, nil}, {8 << 10, nil}, {64 << 10, nil}, {4 << 10, []string{alias.AnyOrigin}}} {
		t.Run(fmt.Sprintf("%dKiB%s", tc.size>>10, tc.origins), func(t *testing.T) {
			p := newTestProxy(t, tc.size)
			_, err := p.registry.UpdateAlias(t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
				a.CORSOrigins = tc.origins
				return nil
			})
			must(t, err)
			c := dialTest(t, p)
			c.roundTrip(t) // the miss
			c.roundTrip(t)
			before := created()
			// One that others start meanwhile (the runtime, what is left of
			// the miss) does not come with each hit.
			got := testing.AllocsPerRun(1, func() {
				for range rounds {
					c.roundTrip(t)
				}
			}) / rounds
			t.Logf("%.1f allocations", got)
			if got > handful {
				t.Errorf("a hit makes %.1f allocations, want at most %d", got, handful)
			}
			if n := created() - before; n > rounds/10 {
				t.Errorf("%d goroutines were started in %d hits", n, 2*rounds)
			}
		})
	}
}

// created counts the goroutines that were ever started.
func created() uint64 {
	s := []runtimemetrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	runtimemetrics.Read(s)
	return s[0].Value.Uint64()
}

// caller is a client that allocates nothing.
type caller struct {
	net.Conn
	request []byte
	answer  []byte // room for one
}

// dialTest connects to a proxy that serves on a listener of ours.
func dialTest(t *testing.T, p *Proxy) *caller {
	t.Helper()
	ln, err := Listen(t.Context(), "127.0.0.1:0", NewClients(ClientConfig{}), slog.New(slog.DiscardHandler))
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- p.Serve(ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	t.Cleanup(func() {
		conn.Close()
		must(t, p.Stop(context.Background(), ln))
		must(t, <-served)
	})
	return &caller{
		Conn: conn, answer: make([]byte, 128<<10),
		request: []byte("GET /shop/a.png HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"),
	}
}

// roundTrip asks and reads the answer, which has a length.
func (c *caller) roundTrip(t *testing.T) {
	t.Helper()
	_, err := c.Write(c.request)
	must(t, err)
	for n, want := 0, -1; n != want; {
		k, err := c.Read(c.answer[n:])
		must(t, err)
		n += k
		if end := bytes.Index(c.answer[:n], []byte("\r\n\r\n")); want < 0 && end >= 0 {
			_, rest, _ := bytes.Cut(c.answer[:end+2], []byte("\r\nContent-Length: "))
			for want = 0; len(rest) > 0 && rest[0] != '\r'; rest = rest[1:] {
				want = 10*want + int(rest[0]-'0')
			}
			want += end + 4
		}
	}
}

func serveConn(t testing.TB, p *Proxy, conn net.Conn) {
	t.Helper()
	if err := p.app.Server().ServeConn(conn); err != nil {
		t.Fatal(err)
	}
}

// newTestProxy is a proxy with the alias shop, whose every object is a picture
// of size bytes.
func newTestProxy(t testing.TB, size int) *Proxy {
	t.Helper()
	body := make([]byte, size)
	s3 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Write(body)
	}))
	t.Cleanup(s3.Close)
	return newProxyBefore(t, s3.URL, nil)
}

// newProxyBefore is a proxy with the alias shop, whose objects lie at an S3
// server's URL in the bucket acme-media.
func newProxyBefore(t testing.TB, url string, canary Canary) *Proxy {
	t.Helper()
	return newProxyWith(t, url, canary, cache.Config{Memory: 64 << 20, ObjectMax: 32 << 20})
}

func newProxyWith(t testing.TB, url string, canary Canary, cfg cache.Config) *Proxy {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	store := sqltest.Open(t, filepath.Join(dir, "registry.db"))
	keys, err := seal.Open(ctx, seal.Spec{Dir: dir, Fresh: true})
	must(t, err)
	registry, err := alias.Open(ctx, store, keys, alias.Policy{AllowPrivateEndpoints: true})
	must(t, err)
	a := alias.Alias{
		Name: "shop", Enabled: true, TTL: time.Hour,
		Location: alias.Location{Bucket: "acme-media", Region: "us-east-1", Endpoint: url, PathStyle: true},
	}
	_, err = registry.CreateAlias(ctx, &a, alias.CredentialRef{KeyPair: &alias.KeyPair{
		AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: alias.NewSecret("not-a-real-secret-key"),
	}})
	must(t, err)
	m := metrics.New(metrics.Config{Version: "test", AliasCap: 10})
	o, err := origin.New(origin.Config{
		// No limit decides a test: the machine may be busy.
		ConnectTimeout: time.Minute, FirstByteTimeout: time.Minute, CallTimeout: 2 * time.Minute,
		IdleTimeout: time.Minute, QueueTimeout: time.Minute,
		Concurrency: 256, AliasConcurrency: 64, Queue: 1024, BreakerFailures: 10, BreakerOpen: 5 * time.Second,
		AllowPrivateEndpoints: true,
	}, registry, m)
	must(t, err)
	t.Cleanup(o.Close)
	c := cache.New(cfg, cacheRecorder{m})
	t.Cleanup(c.Close)
	return New(Config{
		Registry: registry, Cache: c, Origin: o, Recorder: testRecorder{m}, Canary: canary,
		Ready: func() bool { return true }, Log: slog.New(slog.DiscardHandler),
	})
}

// cacheRecorder counts evictions, but not who caused them.
type cacheRecorder struct{ *metrics.Metrics }

func (cacheRecorder) Pushed(int64, int64, int) {}

type testRecorder struct{ *metrics.Metrics }

func (r testRecorder) Series(name string) Series { return testSeries{r.Metrics.Series(name)} }

type testSeries struct{ *metrics.Series }

func (s testSeries) Request(o Outcome) { s.Series.Request(metrics.Request(o)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// replay is a connection that sends one request again and again, and throws the
// answers away.
type replay struct {
	request []byte
	left    int
}

func (r *replay) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	r.left--
	return copy(p, r.request), nil
}

func (*replay) Write(p []byte) (int, error)      { return len(p), nil }
func (*replay) Close() error                     { return nil }
func (*replay) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*replay) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*replay) SetDeadline(time.Time) error      { return nil }
func (*replay) SetReadDeadline(time.Time) error  { return nil }
func (*replay) SetWriteDeadline(time.Time) error { return nil }

func (s testSeries) Saved(by Saving, requests, bytes int64) {
	s.Series.Saved([...]string{"hit", "collapsed", "not_modified"}[by], requests, bytes)
}
