package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestReaderAfterClose: bytes that were given back are not to be had again,
// whichever way they came.
func TestReaderAfterClose(t *testing.T) {
	t.Parallel()
	const size = 10_000
	rows := map[string]struct {
		prepare func(w *env)
		fresh   time.Duration
	}{
		"hit":       {func(w *env) { w.all(w.t.Context(), keyA, w.good(keyA, size)) }, time.Hour},
		"shared":    {func(*env) {}, time.Hour},
		"exclusive": {func(*env) {}, 0},
		"passed":    {func(w *env) { w.all(w.t.Context(), keyA, w.goodFor(keyA, size, 0)) }, 0},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, roomy)
			row.prepare(w)
			r, err := w.Get(t.Context(), keyA, w.goodFor(keyA, size, row.fresh))
			if err != nil {
				t.Fatal(err)
			}
			if err := readAs(r, content(keyA, size)); err != nil {
				t.Error(err)
			}
			if whole, ok := r.Complete(); ok != (row.fresh > 0) || ok && !bytes.Equal(whole, content(keyA, size)) {
				t.Errorf("Complete = %d bytes, %t", len(whole), ok)
			}
			if r.Exclusive() != (row.fresh == 0) {
				t.Errorf("Exclusive = %t", r.Exclusive())
			}
			for range 2 {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
			if p, err := r.Next(0); p != nil || !errors.Is(err, ErrReaderClosed) {
				t.Errorf("Next after Close = %d bytes, %v; want ErrReaderClosed", len(p), err)
			}
			if _, ok := r.Complete(); ok {
				t.Error("Complete after Close")
			}
		})
	}
}

// TestReaderCloseDuringNext: the waiting Next gets no bytes that Close has given
// back, and they are given back when it stops waiting.
func TestReaderCloseDuringNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		w, f := newEnv(t, roomy), newFeed()
		r, err := w.Get(t.Context(), keyA, f.load(w, size, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		other := w.start(t.Context(), keyA, w.forbidden) // keeps the fetch going
		ended := make(chan error, 1)
		go func() {
			_, err := r.Next(0)
			ended <- err
		}()
		synctest.Wait()
		refs := w.fetches[keyA].body.refs.Load()
		r.Close()
		r.Close()
		synctest.Wait()
		if got := w.fetches[keyA].body.refs.Load(); got != refs {
			t.Errorf("%d holders while Next is waiting, want %d still", got, refs)
		}
		f.give(content(keyA, size)[:10], nil)
		if err := <-ended; !errors.Is(err, ErrReaderClosed) {
			t.Errorf("Next got %v, want ErrReaderClosed", err)
		}
		if got := w.fetches[keyA].body.refs.Load(); got != refs-1 {
			t.Errorf("%d holders in the end, want %d", got, refs-1)
		}
		f.give(content(keyA, size)[10:], io.EOF)
		(<-other).want(t, keyA, size, Collapsed)
	})
}

// TestReaderExit: a source that ends its reader's goroutine leaves a reader that
// can be closed.
func TestReaderExit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f := newEnv(t, roomy), newFeed()
		r, err := w.Get(t.Context(), keyA, f.load(w, 10, 0))
		if err != nil {
			t.Fatal(err)
		}
		f.exits()
		go r.Next(0)
		synctest.Wait()
		r.Close()
	})
}

// TestStream fetches past a fetch and past an entry, and leaves no trace.
func TestStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f := newEnv(t, roomy), newFeed()
		fetch := w.start(t.Context(), keyA, f.load(w, 10, time.Hour))
		synctest.Wait()
		alone := func() {
			t.Helper()
			before := w.loads.Load()
			r, err := w.Stream(t.Context(), keyA, w.good(keyA, 10))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := readAs(r, content(keyA, 10)); err != nil {
				t.Error(err)
			}
			if !r.Exclusive() || r.Stores || w.loads.Load() != before+1 {
				t.Errorf("%+v after %d loads, want a stream of its own", r, w.loads.Load()-before)
			}
		}
		alone()
		w.wantEntry(keyA, false)
		f.give(content(keyA, 10), io.EOF)
		(<-fetch).want(t, keyA, 10, Miss)
		alone()
		w.wantEntry(keyA, true)
		w.Close()
		if _, err := w.Stream(t.Context(), keyA, w.forbidden); !errors.Is(err, ErrClosed) {
			t.Errorf("Stream after Close: %v, want ErrClosed", err)
		}
	})
}

// TestBypasses follows a mark.
func TestBypasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		if w.Bypasses(keyA) {
			t.Error("an unknown key is passed by")
		}
		w.all(t.Context(), keyA, w.goodFor(keyA, 10, 0))
		if !w.Bypasses(keyA) || w.Bypasses(keyB) {
			t.Error("not exactly the key that was not to be stored is passed by")
		}
		elapse(hitForPassTTL)
		if w.Bypasses(keyA) {
			t.Error("still passed by after a minute")
		}
	})
}

// TestEntryFile reads an entry from the file it says it lies in, while it is
// held and the cache is closed already.
func TestEntryFile(t *testing.T) {
	t.Parallel()
	w := newEnv(t, roomy)
	if w.memory.arena == nil {
		t.Skip("SKIPPED: this system has no memory files; bodies lie on the heap")
	}
	for _, row := range []struct {
		key    Key
		size   int64
		inFile bool
	}{{keyA, arenaMin - 1, false}, {keyB, 100_000, true}} {
		w.all(t.Context(), row.key, w.good(row.key, row.size))
		e, ok := w.Hit(row.key, time.Now())
		if !ok {
			t.Fatal("no entry")
		}
		t.Cleanup(e.Release)
		fd, off, ok := e.File()
		if ok != row.inFile {
			t.Fatalf("%d bytes in a file: %t", row.size, ok)
		}
		if !ok {
			continue
		}
		w.Close()
		if got := readFile(t, fd, off, row.size); !bytes.Equal(got, content(row.key, row.size)) {
			t.Error("the file has other bytes than the entry")
		}
	}
}

// readFile reads from a file that belongs to somebody else.
func readFile(t *testing.T, fd int, off, n int64) []byte {
	t.Helper()
	f, err := os.Open(fmt.Sprint("/proc/self/fd/", fd))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, n)
	if _, err := f.ReadAt(p, off); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCompleteBodyComesWhole: if the end comes with the last bytes, no reader gets a part of
// them before, so that they are sent with one system call.
func TestCompleteBodyComesWhole(t *testing.T) {
	t.Parallel()
	const size = 10_000
	for range 50 {
		w := newEnv(t, roomy)
		r, err := w.Get(t.Context(), keyA, func(context.Context, *Entry) (*Source, error) {
			return w.source(wholeReader(content(keyA, size)), size, time.Hour), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := r.Next(0); err != nil || len(p) != size {
			t.Errorf("the first bytes are %d and %v, want all %d", len(p), err, size)
		}
		r.Close()
	}
}

// wholeReader returns all bytes and their end at once.
type wholeReader []byte

func (w wholeReader) Read(p []byte) (int, error) { return copy(p, w), io.EOF }

// TestStreamsShareBuffers: private streams use the buffers of those that are closed.
func TestStreamsShareBuffers(t *testing.T) { //nolint:paralleltest // it counts what is allocated
	const size, streams = 100_000, 200
	w := newEnv(t, roomy)
	want := content(keyA, size)
	load := func(context.Context, *Entry) (*Source, error) { return w.source(bytes.NewReader(want), size, 0), nil }
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range streams {
		r, err := w.Stream(t.Context(), keyA, load)
		if err != nil {
			t.Fatal(err)
		}
		if err := readAs(r, want); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / streams; got > streamBuffer/2 {
		t.Errorf("a stream allocates %d bytes, want no buffer of its own", got)
	}
}
