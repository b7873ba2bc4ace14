package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

const growLimit = 3 << 20

// growEnv is a cache for objects up to growLimit.
func growEnv(t *testing.T, heap bool) *env {
	t.Helper()
	w := newEnv(t, Config{Memory: 64 << 20, ObjectMax: growLimit})
	if heap {
		w.memory.growing.limit = 0
	}
	return w
}

// unknown loads the content of keyA without its size; the Meta of the entry is the size.
func (w *env) unknown(size int64) Load {
	return func(ctx context.Context, old *Entry) (*Source, error) {
		src, err := w.good(keyA, size)(ctx, old)
		src.Size, src.Measured = -1, func(n int64) any { return n }
		return src, err
	}
}

// TestUnknownSize: an object of unknown size is shared and stored up to the limit, and then
// takes as much memory as any other.
func TestUnknownSize(t *testing.T) {
	t.Parallel()
	for _, heap := range []bool{false, true} {
		for _, size := range []int64{
			0, 1, 100, arenaMin - 1, arenaMin, arenaMin + 1, growFirst - 1, growFirst, growFirst + 1,
			2*growFirst - 1, 2 * growFirst, 2*growFirst + 1, 1 << 20, growLimit - 1, growLimit,
		} {
			w := growEnv(t, heap)
			w.all(t.Context(), keyA, w.good(keyA, size))
			want := w.Stats().Bytes
			w.Purge(keyA, true)
			var all []<-chan result
			for range 10 {
				all = append(all, w.start(t.Context(), keyA, w.unknown(size)))
			}
			for _, c := range all {
				if got := <-c; got.err != nil || !bytes.Equal(got.data, content(keyA, size)) {
					t.Fatalf("size %d: got %d bytes, %v", size, len(got.data), got.err)
				}
			}
			if n := w.loads.Load(); n != 2 {
				t.Errorf("size %d: %d loads, want 2", size, n)
			}
			e, ok := w.Hit(keyA, time.Now())
			if !ok || !bytes.Equal(e.Bytes(), content(keyA, size)) || e.Meta != size {
				t.Fatalf("size %d: stored: %t, %v", size, ok, e)
			}
			e.Release()
			w.wg.Wait()
			if got := w.Stats().Bytes; got != want {
				t.Errorf("size %d: %d bytes held, want %d as for a known size", size, got, want)
			}
			if n := w.memory.growing.used.Load(); n != 0 {
				t.Errorf("size %d: %d bytes of the window are taken", size, n)
			}
		}
	}
}

// TestOutgrown: of the readers of an object that becomes too large, one gets all of it, and the
// others an error after the bytes in memory. The next requests bypass the cache.
func TestOutgrown(t *testing.T) {
	t.Parallel()
	const size = growLimit + 100_000
	for name, heap := range map[string]bool{"arena": false, "heap": true} {
		bubble(t, name, func(t *testing.T) {
			w, f := growEnv(t, heap), newFeed()
			w.all(t.Context(), keyA, w.goodFor(keyA, 10, time.Minute))
			elapse(time.Hour)
			var all []<-chan result
			for range 5 {
				all = append(all, w.start(t.Context(), keyA, f.load(w, -1, time.Hour)))
			}
			synctest.Wait()
			f.give(content(keyA, size), io.EOF)
			whole := 0
			for _, c := range all {
				got := <-c
				switch {
				case got.err == nil && bytes.Equal(got.data, content(keyA, size)):
					whole++
				case !errors.Is(got.err, ErrOutgrown) || !bytes.Equal(got.data, content(keyA, growLimit-1)):
					t.Errorf("got %d bytes, %v", len(got.data), got.err)
				}
			}
			if whole != 1 || !w.Bypasses(keyA) || w.Has(keyA) {
				t.Errorf("%d readers got all; bypasses %t, stored %t", whole, w.Bypasses(keyA), w.Has(keyA))
			}
			w.all(t.Context(), keyA, w.unknown(size)).want(t, keyA, size, Bypass)
			if !w.Bypasses(keyA) {
				t.Error("the next request does not bypass the cache")
			}
			elapse(hitForPassTTL)
			w.all(t.Context(), keyA, w.unknown(10)).want(t, keyA, 10, Miss)
		})
	}
}

// TestOutgrownBroken: the reader that gets the rest sees that it breaks, without its last byte.
func TestOutgrownBroken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f := growEnv(t, false), newFeed()
		got := w.start(t.Context(), keyA, f.load(w, -1, time.Hour))
		f.give(content(keyA, growLimit+10), errBoom)
		if res := <-got; !errors.Is(res.err, errBoom) || !bytes.Equal(res.data, content(keyA, growLimit+9)) {
			t.Errorf("got %d bytes, %v", len(res.data), res.err)
		}
	})
}

// TestOutgrownUnread: no reader is left to take the rest, or the one that reads it leaves.
func TestOutgrownUnread(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ early, reads bool }{
		"before":  {true, false}, // it is outgrown
		"after":   {false, false},
		"reading": {false, true},
	} {
		bubble(t, name, func(t *testing.T) {
			w, f := growEnv(t, false), newFeed()
			r, err := w.Get(t.Context(), keyA, f.load(w, -1, time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if tc.early {
				r.KeepFetching()
				r.Close()
			}
			f.give(content(keyA, growLimit+10), nil)
			synctest.Wait()
			if tc.reads {
				done := make(chan error)
				go func() {
					_, err := readAll(r, 0)
					done <- err
				}()
				synctest.Wait() // it waits for more
				r.Close()
				if err := <-done; !errors.Is(err, ErrReaderClosed) {
					t.Errorf("the reader got %v", err)
				}
			}
			r.Close()
			synctest.Wait()
			if n := w.Stats().Bytes; n != 0 {
				t.Errorf("%d bytes are held", n)
			}
			if o, c := w.opened.Load(), w.closed.Load(); o != c {
				t.Errorf("%d bodies opened, %d closed", o, c)
			}
		})
	}
}

// TestUnknownSizeNoRoom: a body that finds no room while it grows goes on as a stream for its
// reader. Without room for a copy of the right size, the entry has the body that has grown.
func TestUnknownSizeNoRoom(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		pinned, size int64
		stored       bool
	}{
		"no room to grow": {63 << 20, 2 << 20, false},
		"no room to copy": {62<<20 - 100<<10, 3 << 19, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, Config{Memory: 64 << 20, ObjectMax: 63 << 20})
			r, err := w.Get(t.Context(), keyB, w.good(keyB, tc.pinned))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := readAll(r, 0); err != nil {
				t.Fatal(err)
			}
			w.all(t.Context(), keyA, w.unknown(tc.size)).want(t, keyA, tc.size, Miss)
			w.wantEntry(keyA, tc.stored)
			if w.Bypasses(keyA) {
				t.Error("the key is marked, though there was only no room")
			}
		})
	}
}
