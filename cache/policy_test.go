package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// full is a cache of 1 MiB that is full of objects of 1000 bytes of space 1, each of which had
// two hits.
func full(t *testing.T) *env {
	t.Helper()
	w := newEnv(t, Config{Memory: 1 << 20, ObjectMax: 1 << 20})
	for i := 0; w.memory.policy.admits(Key{Space: 1}, 300<<10, &w.memory.stored); i++ {
		key := popular(i)
		w.all(t.Context(), key, w.good(key, 1000))
		w.wantEntry(key, true)
		w.wantEntry(key, true)
	}
	for i := 0; w.rec.count(reasonCapacity) == 0; i++ {
		key := Key{Space: 1, Object: fmt.Sprint("filler ", i)}
		w.all(t.Context(), key, w.good(key, 1000))
		w.wantEntry(key, true)
		w.wantEntry(key, true)
	}
	return w
}

func popular(i int) Key { return Key{Space: 1, Object: fmt.Sprint("popular ", i)} }

// popularLeft counts the popular objects that are still there. It does not count as use.
func (w *env) popularLeft() (n int) {
	for i := range 2000 {
		if w.memory.has(popular(i)) {
			n++
		}
	}
	return n
}

// TestScan: a scan of many objects, each requested once, evicts almost no popular object.
func TestScan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := full(t)
		before := w.popularLeft()
		for i := range 2000 {
			key := Key{Space: 2, Object: fmt.Sprint("scan ", i)}
			w.all(t.Context(), key, w.good(key, 1000)).want(t, key, 1000, Miss)
		}
		if left := w.popularLeft(); before < 300 || left < before*95/100 {
			t.Errorf("%d of %d popular objects are left", left, before)
		}
		if w.rec.rejected < 1900 {
			t.Errorf("%d objects were rejected, want nearly all of the scan", w.rec.rejected)
		}
		lost := w.rec.pushed[[2]int64{2, 1}]
		if own := w.rec.pushed[[2]int64{2, 2}]; own < 1900 || lost > 100 {
			t.Errorf("the scan pushed out %d of its own entries and %d others", own, lost)
		}
	})
}

// TestTwiceInARow: in a full cache, a new object is a hit at its second request, and one that is
// too large for the window when it is requested more often than the next one to be evicted.
func TestTwiceInARow(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		size   int64
		misses int
	}{"small": {1000, 1}, "an eighth": {1<<17 - 8192, 1}, "larger": {200_000, 5}} {
		bubble(t, name, func(t *testing.T) {
			w := full(t)
			for i := range 6 {
				key := Key{Space: 2, Object: fmt.Sprint("new ", i)}
				misses := 0
				for ; misses < 10 && !w.memory.has(key); misses++ {
					got := w.all(t.Context(), key, w.good(key, row.size))
					got.want(t, key, row.size, Miss)
					if got.r.Stores != w.memory.has(key) {
						t.Errorf("Stores is %t, stored: %t", got.r.Stores, w.memory.has(key))
					}
				}
				if misses > row.misses {
					t.Errorf("object %d was stored after %d requests, want %d", i, misses, row.misses)
				}
			}
		})
	}
}

// TestRejectedEvictsNothing: an object that is not stored is delivered, and shared while it
// arrives, and evicts nothing.
func TestRejectedEvictsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := full(t)
		const size = 200_000
		rejected := w.rec.rejected
		entries, evicted := w.Stats().Entries, w.rec.count(reasonCapacity)
		key, f, loads := Key{Space: 2, Object: "large"}, newFeed(), w.loads.Load()
		first := w.start(t.Context(), key, f.load(w, size, time.Hour))
		synctest.Wait()
		f.give(content(key, size), io.EOF)
		(<-first).want(t, key, size, Miss)
		if got := w.rec.count(reasonCapacity); got != evicted || w.Stats().Entries != entries || w.memory.has(key) {
			t.Errorf("%d entries were evicted, stored: %t", got-evicted, w.memory.has(key))
		}
		if n := w.rec.rejected - rejected; n != 1 || w.loads.Load() != loads+1 {
			t.Errorf("%d objects were rejected after %d loads, want 1 and 1", n, w.loads.Load()-loads)
		}
	})
}

// TestSharedIsStored: requests that join the fetch of an object count, so that it may be stored
// though it was to be rejected when its headers came. All of them are one load.
func TestSharedIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := full(t)
		const size = 200_000
		key, f, loads := Key{Space: 2, Object: "large"}, newFeed(), w.loads.Load()
		var all []<-chan result
		for range 8 {
			all = append(all, w.start(t.Context(), key, f.load(w, size, time.Hour)))
			synctest.Wait()
		}
		f.give(content(key, size), io.EOF)
		for i, got := range all {
			(<-got).want(t, key, size, []Status{Miss, Collapsed}[min(i, 1)])
		}
		if !w.memory.has(key) || w.loads.Load() != loads+1 {
			t.Errorf("stored: %t, %d loads; want true, 1", w.memory.has(key), w.loads.Load()-loads)
		}
	})
}

// TestStaleRequestsCount: a request that gets a stale entry counts, whether it starts the refresh
// of the entry or finds it under way.
func TestStaleRequestsCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
		elapse(time.Minute)
		load := gated(gate, w.like(keyA, 10, lenient.as(2)))
		for n := 2; n < 6; n++ {
			w.all(t.Context(), keyA, load).wantMeta(t, 1, Stale)
			if got := w.memory.requests(keyA); got != n {
				t.Errorf("%d requests are counted, want %d", got, n)
			}
		}
		close(gate)
	})
}

// TestRejectedIsNotFinished: a fetch whose object is not to be stored ends with its last reader,
// although the object is small enough and the reader has called KeepFetching.
func TestRejectedIsNotFinished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := full(t)
		const size = 300 << 10
		key, f := Key{Space: 2, Object: "large"}, newFeed()
		r, err := w.Get(t.Context(), key, f.load(w, size, time.Hour))
		if err != nil || r.Stores {
			t.Fatalf("%v, Stores: %t", err, r.Stores)
		}
		r.KeepFetching()
		r.Close()
		synctest.Wait()
		if !errors.Is(context.Cause(f.ctx), ErrAbandoned) || w.Stats().Pinned != 0 {
			t.Errorf("the fetch ended with %v, and holds %d bytes", context.Cause(f.ctx), w.Stats().Pinned)
		}
	})
}
