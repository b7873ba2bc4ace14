package proxy

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
	"ixmage/cache"
)

// diskEnv is a proxy whose cache has objects on disk, and none in memory.
type diskEnv struct {
	*Proxy

	t       *testing.T
	dir     string
	addr    string
	calls   atomic.Int64 // of S3
	down    atomic.Bool  // S3
	written atomic.Int64 // objects
	dropped atomic.Int64 // likewise
}

type diskRecorder struct{ env *diskEnv }

func (r diskRecorder) Evicted(_, _ string, n int) { r.env.dropped.Add(int64(n)) }
func (diskRecorder) DiskError(string, int)        {}
func (r diskRecorder) DiskWrite(result string, n int, _ int64) {
	if result == "written" {
		r.env.written.Add(int64(n))
	}
}
func (diskRecorder) Promoted(int)             {}
func (diskRecorder) Rejected(string, int)     {}
func (diskRecorder) Pushed(int64, int64, int) {}

// newDiskEnv has each object written to disk by a second request, and then starts a new
// cache: a file that a process has written itself needs no checksums.
func newDiskEnv(t *testing.T, objects map[string][]byte) *diskEnv {
	t.Helper()
	e := &diskEnv{t: t, dir: t.TempDir()}
	s3 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.calls.Add(1)
		key := filepath.Base(r.URL.Path)
		switch {
		case e.down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case objects[key] == nil:
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
			return
		}
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("ETag", `"`+key+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(objects[key]))
	}))
	t.Cleanup(s3.Close)
	e.Proxy = newProxyWith(t, s3.URL, nil, cache.Config{Memory: 64 << 20, ObjectMax: 32 << 20, Disk: e.openTier()})
	e.serve(func() {
		for key := range objects {
			for have := e.written.Load(); e.written.Load() == have; {
				_, _, err := e.ask("GET", key, "HTTP/1.1")
				must(t, err)
			}
		}
	})
	e.cache.Close()
	cfg := cache.Config{Disk: e.openTier()} // 0 bytes of memory: nothing is promoted
	e.Proxy = New(Config{
		Registry: e.registry, Cache: cache.New(cfg, diskRecorder{e}), Origin: e.origin, Recorder: e.rec,
		Ready: func() bool { return true }, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(e.cache.Close)
	e.calls.Store(0)
	e.dropped.Store(0)
	e.serve(nil)
	return e
}

// serve serves during run, or until the test ends.
func (e *diskEnv) serve(run func()) {
	e.t.Helper()
	ln, err := Listen(e.t.Context(), "127.0.0.1:0", NewClients(ClientConfig{}), slog.New(slog.DiscardHandler))
	must(e.t, err)
	e.addr = ln.Addr().String()
	served, p := make(chan error, 1), e.Proxy
	go func() { served <- p.Serve(ln) }()
	end := func() {
		must(e.t, p.Stop(context.Background(), ln))
		must(e.t, <-served)
	}
	if run == nil {
		e.t.Cleanup(end)
		return
	}
	run()
	end()
}

func (e *diskEnv) openTier() *cache.Disk {
	e.t.Helper()
	tier, err := cache.OpenDisk(cache.DiskConfig{
		Dir: e.dir, Limit: 64 << 20, ObjectMax: 64 << 20, OpenFiles: 16, Recorder: diskRecorder{e}, Log: slog.New(slog.DiscardHandler),
		Codec: ObjectCodec{func(int64, int64) (*alias.Alias, bool) {
			route, _ := e.registry.Lookup("shop")
			return route.Alias, true
		}},
		Origin: func(int64, int64) ([16]byte, bool) { return [16]byte{1}, true },
	})
	must(e.t, err)
	return tier
}

// ask sends one request on a connection of its own, which ends after the answer.
func (e *diskEnv) ask(method, key, version string, headers ...string) (*http.Response, []byte, error) {
	e.t.Helper()
	c, err := net.Dial("tcp", e.addr)
	must(e.t, err)
	defer c.Close()
	fmt.Fprintf(c, "%s /shop/%s %s\r\nHost: x\r\nConnection: close\r\n%s\r\n", method, key, version, strings.Join(headers, ""))
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(r.Body)
	return r, body, err
}

// files are the files of objects on disk.
func (e *diskEnv) files() (files []string) {
	e.t.Helper()
	must(e.t, filepath.WalkDir(filepath.Join(e.dir, "objects"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

func bytesOf(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// Objects of all sizes come from disk, whole and in ranges, before and after their checksums
// have been compared.
func TestDiskHits(t *testing.T) {
	t.Parallel()
	sizes := []int{
		1, 4 << 10, bufferedMax, bufferedMax + 1, 20 << 10, fileMin - 1, fileMin, diskChunk - 1, diskChunk, diskChunk + 1, 1<<20 + 3, 3 << 20,
	}
	objects := map[string][]byte{}
	for _, size := range sizes {
		objects[strconv.Itoa(size)+".png"] = bytesOf(size)
	}
	e := newDiskEnv(t, objects)
	for _, size := range sizes {
		key := strconv.Itoa(size) + ".png"
		body := objects[key]
		tag := `"` + key + `"`
		for round := range 2 {
			for _, tc := range []struct {
				name, method, version, header string
				status                        int
				want                          []byte
			}{
				{"range", "GET", "HTTP/1.1", fmt.Sprintf("Range: bytes=%d-%d\r\n", size/3, size/2), 206, body[size/3 : size/2+1]},
				{"last byte", "GET", "HTTP/1.1", "Range: bytes=-1\r\n", 206, body[size-1:]},
				{"beyond", "GET", "HTTP/1.1", fmt.Sprintf("Range: bytes=%d-\r\n", size), 416, nil},
				{"HEAD", "HEAD", "HTTP/1.1", "", 200, nil},
				{"the same", "GET", "HTTP/1.1", "If-None-Match: " + tag + "\r\n", 304, []byte{}},
				{"another", "GET", "HTTP/1.1", "If-Match: \"x\"\r\n", 412, nil},
				{"HTTP/1.0", "GET", "HTTP/1.0", "", 200, body},
				{"whole", "GET", "HTTP/1.1", "", 200, body},
			} {
				r, got, err := e.ask(tc.method, key, tc.version, tc.header)
				switch {
				case err != nil || r.StatusCode != tc.status || tc.want != nil && !bytes.Equal(got, tc.want):
					t.Fatalf("%d bytes, round %d, %s: %v, %d bytes, %v", size, round, tc.name, r, len(got), err)
				case tc.status < 400 && !strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit; detail=disk; ttl=35"):
					t.Errorf("%s: Cache-Status is %q", tc.name, r.Header.Get("Cache-Status"))
				case tc.status < 300 && r.Header.Get("Content-Length") != strconv.Itoa(cmp.Or(len(tc.want), size)):
					t.Errorf("%s: Content-Length is %s", tc.name, r.Header.Get("Content-Length"))
				}
			}
		}
	}
	if n := e.calls.Load(); n != 0 {
		t.Errorf("%d requests to S3", n)
	}
}

// Answers on one connection follow one another, also when they are asked for at once.
func TestDiskHitsOnOneConnection(t *testing.T) {
	t.Parallel()
	small, large := bytesOf(900), bytesOf(200<<10)
	e := newDiskEnv(t, map[string][]byte{"small.png": small, "large.png": large})
	c, err := net.Dial("tcp", e.addr)
	must(t, err)
	defer c.Close()
	const rounds = 20
	go func() {
		for range rounds {
			io.WriteString(c, "GET /shop/small.png HTTP/1.1\r\nHost: x\r\n\r\nGET /shop/large.png HTTP/1.1\r\nHost: x\r\n\r\n")
		}
	}()
	in := bufio.NewReader(c)
	for i := range 2 * rounds {
		r, err := http.ReadResponse(in, nil)
		must(t, err)
		got, err := io.ReadAll(r.Body)
		if want := [][]byte{small, large}[i%2]; err != nil || !bytes.Equal(got, want) {
			t.Fatalf("answer %d: %d bytes, %v", i, len(got), err)
		}
	}
}

// A file that is damaged before its first use: what it cannot give comes from S3, in the same
// answer. The next answer does not use that file.
func TestDiskHitOfDamagedFile(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		size   int
		before int64 // the end of the file
		bytes  string
		first  int
		last   int
	}{
		{size: 4 << 10, before: 2 << 10},
		{size: 20 << 10, before: 10 << 10},
		{size: 200 << 10, before: 100 << 10},
		{size: 200 << 10, before: 200 << 10},
		{size: 200 << 10, before: 1}, // a checksum
		{size: 200 << 10, before: 20 << 10, bytes: "bytes=1000-190000", first: 1000, last: 190000},
	} {
		body := bytesOf(tc.size)
		e := newDiskEnv(t, map[string][]byte{"a.png": body})
		damage(t, e.files()[0], tc.before)
		want, header := body, ""
		if tc.bytes != "" {
			want, header = body[tc.first:tc.last+1], "Range: "+tc.bytes+"\r\n"
		}
		r, got, err := e.ask("GET", "a.png", "HTTP/1.1", header)
		if err != nil || r.StatusCode/100 != 2 || !bytes.Equal(got, want) {
			t.Errorf("%+v: %v, %d bytes, %v", tc, r, len(got), err)
		}
		if r, got, err = e.ask("GET", "a.png", "HTTP/1.1"); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%+v, the next: %v, %d bytes, %v", tc, r, len(got), err)
		}
		if e.calls.Load() == 0 || e.dropped.Load() != 1 {
			t.Errorf("%+v: %d requests to S3, %d objects dropped", tc, e.calls.Load(), e.dropped.Load())
		}
	}
}

// A file that is damaged after its checksums were compared, while it is open: its bytes are
// compared again.
func TestDiskHitOfFileDamagedLater(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3000, 20 << 10, diskChunk, 300 << 10} {
		body := bytesOf(size)
		e := newDiskEnv(t, map[string][]byte{"a.png": body})
		for range 2 {
			if r, got, err := e.ask("GET", "a.png", "HTTP/1.1"); err != nil || !bytes.Equal(got, body) {
				t.Fatal(r, len(got), err)
			}
		}
		damage(t, e.files()[0], int64(size/2))
		must(t, os.Chtimes(e.files()[0], time.Time{}, time.Now().Add(time.Second))) // the clock of files is coarse
		for range 2 {
			if r, got, err := e.ask("GET", "a.png", "HTTP/1.1"); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes: %v, %d bytes, %v, right: %t", size, r, len(got), err, bytes.Equal(got, body))
			}
		}
		if e.calls.Load() == 0 || e.dropped.Load() != 1 {
			t.Errorf("%d bytes: %d requests to S3, %d objects dropped", size, e.calls.Load(), e.dropped.Load())
		}
	}
}

// If S3 does not have the version of a damaged file, the answer that has begun is cut.
func TestDiskHitOfDamagedFileWithoutS3(t *testing.T) {
	t.Parallel()
	body := bytesOf(200 << 10)
	e := newDiskEnv(t, map[string][]byte{"a.png": body})
	damage(t, e.files()[0], 100<<10)
	e.down.Store(true)
	if _, got, err := e.ask("GET", "a.png", "HTTP/1.1"); !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(got, body[:len(got)]) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// damage changes a byte of a file before its end.
func damage(t *testing.T, path string, before int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	var b [1]byte
	info, err := f.Stat()
	must(t, err)
	at := info.Size() - before
	_, err = f.ReadAt(b[:], at)
	must(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b[:], at)
	must(t, err)
}

// A file that becomes shorter while it is served by sendfile is not used for another
// request, and the rest of its answer comes from S3.
func TestDiskHitOfShortFile(t *testing.T) {
	t.Parallel()
	body := bytesOf(300 << 10)
	e := newDiskEnv(t, map[string][]byte{"a.png": body})
	for range 2 {
		if _, got, err := e.ask("GET", "a.png", "HTTP/1.1"); err != nil || !bytes.Equal(got, body) {
			t.Fatal(len(got), err)
		}
	}
	must(t, os.Truncate(e.files()[0], 100<<10))
	_, got, err := e.ask("GET", "a.png", "HTTP/1.1")
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if n := e.dropped.Load(); n != 1 {
		t.Errorf("the tier dropped %d files, want the one that cannot be read", n)
	}
	r, got, err := e.ask("GET", "a.png", "HTTP/1.1")
	if err != nil || !bytes.Equal(got, body) || strings.Contains(r.Header.Get("Cache-Status"), "disk") {
		t.Errorf("the next: %v, %d bytes, %v", r, len(got), err)
	}
}

// Placeholders come from disk, also when S3 fails after a restart.
func TestPlaceholderFromDisk(t *testing.T) {
	t.Parallel()
	objects := map[string][]byte{"missing.png": bytesOf(3000), "broken.png": bytesOf(100_000)}
	e := newDiskEnv(t, objects)
	_, err := e.registry.UpdateAlias(t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.Fallback = alias.Fallback{Missing: "missing.png", Broken: "broken.png"}
		return nil
	})
	must(t, err)
	for _, tc := range []struct {
		down   bool
		status int
		want   string
	}{{true, http.StatusServiceUnavailable, "broken.png"}, {false, http.StatusNotFound, "missing.png"}} {
		e.down.Store(tc.down)
		r, got, err := e.ask("GET", tc.want+"-not", "HTTP/1.1")
		if err != nil || r.StatusCode/100 != tc.status/100 || !bytes.Equal(got, objects[tc.want]) {
			t.Errorf("%s: %v, %d bytes, %v", tc.want, r, len(got), err)
		}
	}
}

// A client that does not read keeps a file open, and no buffer and no place among the reads.
// It may come back, or go.
func TestSlowReaderOfDisk(t *testing.T) {
	t.Parallel()
	for name, compared := range map[string]bool{"by sendfile": true, "by copying": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := bytesOf(16 << 20)
			e := newDiskEnv(t, map[string][]byte{"a.png": body})
			if compared {
				_, _, err := e.ask("GET", "a.png", "HTTP/1.1")
				must(t, err)
			}
			stays, goes := e.dial("a.png"), e.dial("a.png")
			// A client's kernel may take some more after all: then the answer goes on for a moment.
			for e.waitSlow(2); len(e.disk.running) != 0; e.waitSlow(2) {
				runtime.Gosched()
			}
			e.slow.mu.Lock()
			for p := range e.slow.waiting {
				if p.holds != (holding{alias: p.holds.alias}) {
					t.Errorf("a slow reader holds %+v", p.holds)
				}
			}
			e.slow.mu.Unlock()
			goes.Close()
			r, err := http.ReadResponse(bufio.NewReader(stays), nil)
			must(t, err)
			got, err := io.ReadAll(r.Body)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			e.waitSlow(0)
		})
	}
}

// dial requests an object and reads nothing.
func (e *diskEnv) dial(key string) net.Conn {
	e.t.Helper()
	c, err := net.Dial("tcp", e.addr)
	must(e.t, err)
	e.t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET /shop/%s HTTP/1.1\r\nHost: x\r\n\r\n", key)
	return c
}

func (e *diskEnv) waitSlow(n int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for have := -1; have != n; <-tick.C { // the clients need the processors
		e.slow.mu.Lock()
		have = len(e.slow.waiting)
		e.slow.mu.Unlock()
	}
}

// The number of reads at a time is bounded, and a disk that does not answer ends the wait.
func TestDiskReadsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDiskReads()
		for range maxDiskReads {
			must(t, d.begin())
		}
		start := time.Now()
		if err := d.begin(); !errors.Is(err, errDiskBusy) || time.Since(start) != diskWait {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		waited := make(chan error)
		go func() { waited <- d.begin() }()
		synctest.Wait()
		d.end()
		must(t, <-waited)
	})
}
