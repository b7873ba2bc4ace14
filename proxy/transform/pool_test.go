package transform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// events is a Recorder that keeps everything, and lets a test wait for it.
type events struct {
	mu      sync.Mutex
	changed sync.Cond
	jobs    map[string]int
	ends    map[string]int
	started int
	failed  int
	last    Report
	count   int // of events
}

func newEvents() *events {
	e := &events{jobs: map[string]int{}, ends: map[string]int{}}
	e.changed.L = &e.mu
	return e
}

func (e *events) note(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
	e.count++
	e.changed.Broadcast()
}

func (e *events) TransformJob(r Report)         { e.note(func() { e.jobs[r.Outcome]++; e.last = r }) }
func (e *events) TransformWorkerEnded(r string) { e.note(func() { e.ends[r]++ }) }
func (e *events) TransformWorkerStarted(ok bool) {
	e.note(func() {
		if ok {
			e.started++
		} else {
			e.failed++
		}
	})
}

// until waits until something holds, which is asked again after every event.
func (e *events) until(holds func() bool) {
	for {
		e.mu.Lock()
		seen := e.count
		e.mu.Unlock()
		if holds() { // it may ask the pool, whose lock is held at some events
			return
		}
		e.mu.Lock()
		for e.count == seen {
			e.changed.Wait()
		}
		e.mu.Unlock()
	}
}

// ended returns how many workers ended, by reason.
func (e *events) ended() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprint(e.ends)
}

func (e *events) outcomes() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprint(e.jobs)
}

// fakeConfig is for a pool whose workers are this binary.
func fakeConfig(t testing.TB, mode string) (Config, *events) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e := newEvents()
	return Config{
		Path: self, Workers: 1, Timeout: time.Minute, Memory: -1, Recorder: e, Log: slog.New(slog.DiscardHandler),
		tune: tune{
			args: []string{"fake-worker", mode}, changed: func() { e.note(func() {}) }, scheduled: noWait,
			start: time.Minute, dying: time.Minute, // no limit decides a test
		},
	}, e
}

// startFakes starts a pool, which the end of the test closes.
func startFakes(t testing.TB, cfg Config) *Pool {
	t.Helper()
	p, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// noWait is for tests of deadlines, which a busy machine must not excuse.
func noWait(*worker) (t processorTime) { return t }

// command is a job for a fake worker: 10 x 10 raw pixels, unless the test changes it.
func command(owner int64, words string, size int) Job {
	source := append([]byte(words), bytes.Repeat([]byte{' '}, max(commandLen, size)-len(words))...)
	return Job{
		Owner: owner, Task: Task{Output: Raw, Width: 10, Height: 10, Fit: Fill},
		Source: Blob{
			Header: Header{Type: JPEG, Width: fakeSide, Height: fakeSide}, ID: words,
			Size: int64(len(source)), Reader: bytes.NewReader(source),
		},
	}
}

// number reads the digits at the beginning of a body.
func number(t *testing.T, r *Result, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	digits, _, _ := strings.Cut(string(r.Body), "\x00")
	n, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// gate is a source that gives its bytes when the test opens it. Its worker is busy until then.
type gate struct {
	begun chan struct{}
	open  chan struct{}
	once  sync.Once
	r     io.Reader
}

func gated(j Job) (Job, *gate) {
	g := &gate{begun: make(chan struct{}), open: make(chan struct{}), r: j.Source.Reader}
	j.Source.Reader = g
	return j, g
}

func (g *gate) Read(b []byte) (int, error) {
	g.once.Do(func() { close(g.begun) })
	<-g.open
	return g.r.Read(b)
}

// TestDo: a job gives its result, the sizes and times of it, and a report.
func TestDo(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	p := startFakes(t, cfg)
	r, err := p.Do(t.Context(), command(1, "ok -", 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Body) != 300 || r.Width != 10 || r.Height != 10 || r.Frames != 1 || r.Wall <= 0 || r.Queue < 0 {
		t.Errorf("%d bytes, %+v", len(r.Body), *r)
	}
	if want := (SourceInfo{fakeSide, fakeSide, 1, 1, false}); r.Source != want {
		t.Errorf("source %+v, want %+v", r.Source, want)
	}
	if r.Decode != min(r.Wall, time.Millisecond) || r.Encode != min(r.Wall, 2*time.Millisecond) {
		t.Errorf("decode %s, encode %s of %s: no part may be longer than the whole", r.Decode, r.Encode, r.Wall)
	}
	if e.last.Outcome != OutcomeOK || e.last.BytesIn != 1<<20 || e.last.BytesOut != 300 || e.last.Owner != 1 {
		t.Errorf("report %+v", e.last)
	}
	if p.Version() != "8.18.7" || p.Err() != nil || p.Busy() {
		t.Errorf("version %q, error %v, busy %v", p.Version(), p.Err(), p.Busy())
	}
	e.until(func() bool { return p.Stats() == Stats{Workers: 1, Spares: 1} })
}

// TestClosed: after Close, jobs fail at once, also those that waited or were under way.
func TestClosed(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	p := startFakes(t, cfg)
	errs := make(chan error, 3)
	for _, words := range []string{"hang 1", "hang 2", "hang 3"} {
		go func() {
			_, err := p.Do(context.Background(), command(1, words, 0))
			errs <- err
		}()
	}
	e.until(func() bool { s := p.Stats(); return s.Busy == 1 && s.Queued == 2 })
	p.Close()
	for range 3 {
		wantError(t, <-errs, ErrOff)
	}
	_, err := p.Do(t.Context(), command(1, "ok -", 0))
	wantError(t, err, ErrOff)
	p.Close()
}

// closing closes its pool when a worker is ready, before that counts, and waits for the end of all workers.
type closing struct {
	*events

	pool atomic.Pointer[Pool]
}

func (c *closing) TransformWorkerStarted(ok bool) {
	if p := c.pool.Load(); p != nil && ok {
		p.abort()
		c.until(func() bool { return c.ended() == "map[close:2]" })
	}
	c.events.TransformWorkerStarted(ok)
}

// TestClosedAtStart: a worker that ends at the moment in which it is ready counts as ended, since it counts
// as started.
func TestClosedAtStart(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	c := &closing{events: e}
	cfg.Recorder = c
	p := startFakes(t, cfg)
	c.pool.Store(p)
	_, _ = p.Do(t.Context(), command(1, "ok -", 0)) // a second worker starts
	e.until(func() bool { return e.ended() == "map[close:2]" })
	p.Close()
	if e.started != 2 {
		t.Errorf("%d workers started, want 2", e.started)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}
