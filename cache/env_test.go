package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errBoom = errors.New("boom")
	keyA    = Key{Space: 1, Epoch: 1, Object: "a.jpg"}
	keyB    = Key{Space: 1, Epoch: 1, Object: "b.jpg"}
)

// roomy is a configuration in which nothing is ever evicted.
var roomy = Config{Memory: 64 << 20, ObjectMax: 8 << 20}

// recorder counts evicted entries by reason, rejected ones, and evicted ones by who pushed and
// who lost.
type recorder struct {
	mu       sync.Mutex
	n        map[string]int
	rejected int
	pushed   map[[2]int64]int
	hook     func(reason string) // nil: none; called without the lock
}

func (r *recorder) Evicted(_, reason string, n int) {
	r.mu.Lock()
	r.n[reason] += n
	hook := r.hook
	r.mu.Unlock()
	if hook != nil {
		hook(reason)
	}
}

func (r *recorder) Rejected(_ string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejected += n
}

func (r *recorder) Pushed(by, lost int64, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pushed == nil {
		r.pushed = make(map[[2]int64]int)
	}
	r.pushed[[2]int64{by, lost}] += n
}

func (r *recorder) count(reason string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n[reason]
}

// env is a cache under test, with everything that must balance in the end.
type env struct {
	*Cache
	t                       testing.TB
	rec                     *recorder
	loads                   atomic.Int64
	opened, closed, misused atomic.Int64
}

func newEnv(t testing.TB, cfg Config) *env {
	t.Helper()
	w := &env{t: t, rec: &recorder{n: make(map[string]int)}}
	w.Cache = New(cfg, w.rec)
	t.Cleanup(w.end)
	return w
}

// end closes w in two steps: when nothing is under way any more, exactly the
// entries are held; when they are dropped, nothing is.
func (w *env) end() {
	w.mu.Lock()
	w.stop(ErrClosed)
	w.mu.Unlock()
	w.wg.Wait()
	w.checkBalance()
	w.Close()
	w.checkBalance()
	if st := w.Stats(); st.Bytes != 0 || st.Entries != 0 {
		w.t.Errorf("%+v after Close, want nothing held", st)
	}
	if a := w.memory.arena; a != nil && !a.Empty() {
		w.t.Error("extents of the arena are in use after Close")
	}
}

// checkBalance checks the state of a cache without running fetches and references.
func (w *env) checkBalance() {
	w.t.Helper()
	var sum, count int64
	for i := range w.memory.shard {
		s := &w.memory.shard[i]
		s.mu.Lock()
		if len(s.all) != len(s.entries) {
			w.t.Errorf("%d entries to be purged, %d to be hit", len(s.all), len(s.entries))
		}
		for _, e := range s.entries {
			sum += e.body.cost
			count++
			if s.all[e.at] != e {
				w.t.Error("an entry is not where a purge looks for it")
			}
			if refs := e.body.refs.Load(); refs != 1 {
				w.t.Errorf("an entry has %d holders at rest, want 1", refs)
			}
		}
		s.mu.Unlock()
	}
	st := w.Stats()
	if st.Bytes != sum || w.memory.stored.used.Load() != sum || st.Entries != count {
		w.t.Errorf("held %d, stored %d, entries %d; the entries are %d with %d bytes",
			st.Bytes, w.memory.stored.used.Load(), st.Entries, count, sum)
	}
	w.checkDisk()
	if st.Pinned != 0 || w.memory.filling.Load() != 0 {
		w.t.Errorf("%d bytes pinned, %d being filled at rest", st.Pinned, w.memory.filling.Load())
	}
	if o, c := w.opened.Load(), w.closed.Load(); o != c {
		w.t.Errorf("%d bodies opened, %d closed", o, c)
	}
	if n := w.misused.Load(); n != 0 {
		w.t.Errorf("bodies misused %d times", n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fetches) != 0 || w.refreshes != 0 || w.memory.reserved.used.Load() != 0 {
		w.t.Errorf("%d fetches left in the table, %d renewals, %d bytes reserved", len(w.fetches), w.refreshes, w.memory.reserved.used.Load())
	}
}

// checkDisk is the part of checkBalance for the disk tier.
func (w *env) checkDisk() {
	w.t.Helper()
	if w.disk == nil {
		return
	}
	var sum int64
	for _, e := range w.files.entries() {
		sum += e.body.cost
		if refs := e.body.refs.Load(); refs != 1 {
			w.t.Errorf("an entry on disk has %d holders at rest, want 1", refs)
		}
	}
	if held, pinned := w.files.held.used.Load(), w.files.held.bytes.Load(); held != sum || pinned != 0 {
		w.t.Errorf("the open files hold %d bytes, of them %d pinned; the entries are %d", held, pinned, sum)
	}
	w.saver.mu.Lock()
	if len(w.saver.pending) != 0 || w.saver.bytes != 0 {
		w.t.Errorf("%d entries with %d bytes wait to be written at rest", len(w.saver.pending), w.saver.bytes)
	}
	w.saver.mu.Unlock()
	w.mu.Lock()
	if len(w.moves) != 0 || w.moving != 0 {
		w.t.Errorf("%d moves, %d of them in the table, at rest", w.moving, len(w.moves))
	}
	w.mu.Unlock()
}

// testBody counts itself in its env and notices a second Close, a Close during a
// Read and a Read after Close.
type testBody struct {
	io.Reader
	w            *env
	busy, closed atomic.Bool
}

func (b *testBody) Read(p []byte) (int, error) {
	if !b.busy.CompareAndSwap(false, true) || b.closed.Load() {
		b.w.misused.Add(1)
	}
	defer b.busy.Store(false)
	return b.Reader.Read(p)
}

func (b *testBody) Close() error {
	if b.busy.Load() || !b.closed.CompareAndSwap(false, true) {
		b.w.misused.Add(1)
	}
	b.w.closed.Add(1)
	return nil
}

// source is an object of w whose bytes come from r.
func (w *env) source(r io.Reader, size int64, fresh time.Duration) *Source {
	w.opened.Add(1)
	return &Source{Meta: "meta", Size: size, Fresh: fresh, Body: &testBody{Reader: r, w: w}}
}

// good loads the content of key.
func (w *env) good(key Key, size int64) Load { return w.goodFor(key, size, time.Hour) }

func (w *env) goodFor(key Key, size int64, fresh time.Duration) Load {
	return func(context.Context, *Entry) (*Source, error) {
		w.loads.Add(1)
		return w.source(bytes.NewReader(content(key, size)), size, fresh), nil
	}
}

// forbidden is a load that must not run.
func (w *env) forbidden(context.Context, *Entry) (*Source, error) {
	w.t.Error("load ran, though the object is there")
	return nil, errBoom
}

// content is the body of the object of key. The bodies of two keys differ, and so do two
// places in one body.
func content(key Key, size int64) []byte {
	h := fnv.New64a()
	fmt.Fprint(h, key.Space, key.Epoch, key.Object)
	var block [1021]byte // of a length that no buffer has
	rand.NewChaCha8([32]byte(h.Sum(make([]byte, 24)))).Read(block[:])
	p := make([]byte, size)
	for at := 0; at < len(p); at += len(block) {
		binary.LittleEndian.PutUint32(block[:], uint32(at))
		copy(p[at:], block[:])
	}
	return p
}

// result is the result of one request.
type result struct {
	r    *Reader // closed already; nil where Get failed
	data []byte
	err  error // of Get, or of reading; nil at a good end
}

// all gets key and reads it to its end.
func (w *env) all(ctx context.Context, key Key, load Load) result {
	r, err := w.Get(ctx, key, load)
	if err != nil {
		return result{err: err}
	}
	defer r.Close()
	data, err := readAll(r, 0)
	return result{r: r, data: data, err: err}
}

// start runs all in a goroutine.
func (w *env) start(ctx context.Context, key Key, load Load) <-chan result {
	c := make(chan result, 1)
	go func() { c <- w.all(ctx, key, load) }()
	return c
}

// readAs reads r and compares every byte with want.
func readAs(r *Reader, want []byte) error {
	off := 0
	for {
		p, err := r.Next(int64(off))
		switch {
		case isEnd(err) && off == len(want):
			return nil
		case err != nil:
			return err
		case len(p) == 0 || !bytes.HasPrefix(want[off:], p):
			return fmt.Errorf("%d wrong bytes at %d", len(p), off)
		}
		off += len(p)
	}
}

func readAll(r *Reader, off int64) ([]byte, error) {
	var data []byte
	for {
		p, err := r.Next(off + int64(len(data)))
		if isEnd(err) {
			return data, nil
		}
		if err != nil {
			return data, err
		}
		if len(p) == 0 {
			return data, errors.New("Next gave nothing")
		}
		data = append(data, p...)
	}
}

// elapse lets time go by in a bubble.
func elapse(d time.Duration) { <-time.After(d) }

// want checks that a request got the whole object of key.
func (got result) want(t testing.TB, key Key, size int64, status Status) {
	t.Helper()
	switch {
	case got.err != nil:
		t.Errorf("got error %v, want all of %s", got.err, key.Object)
	case !bytes.Equal(got.data, content(key, size)):
		t.Errorf("got %d bytes that are not %s", len(got.data), key.Object)
	case got.r.Status != status:
		t.Errorf("got status %d, want %d", got.r.Status, status)
	}
}

// wantEntry checks whether key is in memory.
func (w *env) wantEntry(key Key, want bool) {
	w.t.Helper()
	e, ok := w.Hit(key, time.Now())
	if ok {
		e.Release()
	}
	if ok != want {
		w.t.Errorf("Hit(%s) = %t, want %t", key.Object, ok, want)
	}
}

// feed is a body whose bytes and end the test provides, at times that it chooses.
type feed struct {
	ctx    context.Context //nolint:containedctx // of the load, which ends it
	pieces chan func() ([]byte, error)
	rest   []byte
	end    error // follows rest
	deaf   bool  // does not notice that ctx ends
}

func newFeed() *feed { return &feed{pieces: make(chan func() ([]byte, error), 64)} }

func (f *feed) Read(p []byte) (int, error) {
	if len(f.rest) == 0 && f.end == nil {
		if err := f.wait(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	if len(f.rest) > 0 {
		return n, nil
	}
	return n, f.end
}

func (f *feed) wait() error {
	done := f.ctx.Done()
	if f.deaf {
		done = nil
	}
	select {
	case next := <-f.pieces:
		f.rest, f.end = next()
		return nil
	case <-done:
		return context.Cause(f.ctx)
	}
}

// give sends bytes, and end with the last of them (nil: it goes on).
func (f *feed) give(data []byte, end error) {
	f.pieces <- func() ([]byte, error) { return data, end }
}

func (f *feed) panics() { f.pieces <- func() ([]byte, error) { panic("read panics") } }

func (f *feed) exits() {
	f.pieces <- func() ([]byte, error) { runtime.Goexit(); return nil, nil }
}

// load opens f as an object of w.
func (f *feed) load(w *env, size int64, fresh time.Duration) Load {
	return func(ctx context.Context, _ *Entry) (*Source, error) {
		w.loads.Add(1)
		f.ctx = ctx
		return w.source(f, size, fresh), nil
	}
}
