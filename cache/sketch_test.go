package cache

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"
	"time"
)

// TestSketchCounts compares a sketch with exact counts: no estimate is too low, and few are
// too high while there are more counters than keys.
func TestSketchCounts(t *testing.T) {
	t.Parallel()
	s, seed := newSketch(16<<10), maphash.MakeSeed()
	s.sample = 1 << 30
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

// TestSketchAges: after a sample of other requests an estimate is halved, and it ends at 0.
func TestSketchAges(t *testing.T) {
	t.Parallel()
	s, seed := newSketch(4<<10), maphash.MakeSeed()
	h := maphash.Comparable(seed, -1)
	for range sketchCounterMax + 5 {
		s.add(h)
	}
	for _, want := range []int{15, 7, 3, 1, 0} {
		if got := s.count(h); got != want {
			t.Fatalf("an estimate of %d, want %d", got, want)
		}
		s.halve()
	}
	for i := range 100 * s.sample {
		s.add(maphash.Comparable(seed, i))
		if s.requests >= s.sample {
			t.Fatalf("%d requests since the last halving, want fewer than %d", s.requests, s.sample)
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
	s := newSketch(1 << 20)
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
