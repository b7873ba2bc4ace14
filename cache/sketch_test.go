package cache

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// TestSketchCounts compares a sketch with exact counts: no estimate is too low, and few are
// too high while there are more counters than keys.
func TestSketchCounts(t *testing.T) {
	t.Parallel()
	s, seed := newSketch(16<<10, newAging(1<<30, new(atomic.Int64))), maphash.MakeSeed()
	exact, rnd := make(map[int]int), rand.New(rand.NewPCG(1, 0))
	for range 10_000 {
		n := int(rnd.ExpFloat64() * 1000)
		exact[n]++
		s.add(maphash.Comparable(seed, n))
	}
	high := 0
	for n := range 10_000 {
		got, want := s.count(maphash.Comparable(seed, n)), min(exact[n], sketchCounterMax)
		if got < want {
			t.Errorf("%d requests were counted as %d", want, got)
		}
		if got > want {
			high++
		}
	}
	if high > 500 {
		t.Errorf("%d of 10000 estimates are too high", high)
	}
}

// TestSketchAges: after a sample of requests, which grows with the number of entries, the
// estimates of all sketches are halved, also of one that gets no requests.
func TestSketchAges(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ entries, first int64 }{{0, 1024}, {100, 2528}, {200, 5024}, {1 << 20, 8192}} {
		entries := new(atomic.Int64)
		entries.Store(row.entries)
		aging := newAging(4<<10, entries)
		idle, busy, h := newSketch(2<<10, aging), newSketch(2<<10, aging), maphash.String(maphash.MakeSeed(), "a")
		for range sketchCounterMax + 5 {
			idle.add(h)
		}
		n := int64(0)
		for _, want := range []int{15, 7, 3, 1, 0} {
			if got := idle.count(h); got != want {
				t.Fatalf("an estimate of %d after %d requests for others, want %d", got, n, want)
			}
			for start := aging.halvings.Load(); aging.halvings.Load() == start; n++ {
				busy.add(h)
			}
			if want == 15 && n != row.first {
				t.Errorf("the first halving with %d entries is after %d requests, want %d", row.entries, n, row.first)
			}
		}
		if got, want := n, row.first+4*(row.first/2); got < want-5*agingStep || got > want+5*agingStep {
			t.Errorf("five halvings after %d requests, want about %d", got, want)
		}
	}
}

// TestRequests: each request counts once, whether it hits, misses, joins a fetch or is private.
func TestRequests(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(w *env){
		"miss":    func(w *env) { w.all(w.t.Context(), keyA, w.good(keyA, 100)) },
		"private": func(w *env) { w.all(w.t.Context(), keyA, w.goodFor(keyA, 100, 0)) },
		"hit":     func(w *env) { w.wantEntry(keyA, true) },
		"miss after a stale hit": func(w *env) {
			elapse(2 * time.Hour)
			w.wantEntry(keyA, false)
			w.all(w.t.Context(), keyA, w.good(keyA, 100))
		},
	} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			w.all(t.Context(), keyA, w.good(keyA, 100))
			if name == "private" {
				w.Purge(keyA, true)
			}
			before := w.memory.requests(keyA)
			use(w)
			if got := w.memory.requests(keyA); before != 1 || got != 2 {
				t.Errorf("%d requests before and %d after, want 1 and 2", before, got)
			}
			if got := w.memory.requests(keyB); got != 0 {
				t.Errorf("%d requests of another key", got)
			}
		})
	}
}

func BenchmarkSketchAdd(b *testing.B) {
	s := newSketch(1<<20, newAging(1<<20, new(atomic.Int64)))
	keys := make([]uint64, 1<<16)
	seed := maphash.MakeSeed()
	for i := range keys {
		keys[i] = maphash.String(seed, fmt.Sprint(i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.add(keys[i&(1<<16-1)])
	}
}
