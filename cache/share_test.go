package cache

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"
)

// store stores n objects of 1000 bytes in a space, each requested several times.
func (w *env) store(space int64, n, requests int) {
	for i := range n {
		key := Key{Space: space, Object: fmt.Sprint("object ", i)}
		for range requests {
			if e, ok := w.Hit(key, time.Now()); ok {
				e.Release()
				continue
			}
			w.all(w.t.Context(), key, w.good(key, 1000))
		}
	}
}

// bytesOf is what a space has in memory, counted one by one.
func (w *env) bytesOf(space int64) (n int64) {
	for i := range w.memory.shard {
		for _, e := range w.memory.shard[i].all {
			if e.key.Space == space {
				n += e.body.cost
			}
		}
	}
	return n
}

// TestHeld: Held has what each space takes, and no space without entries.
func TestHeld(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(t *testing.T) {
		w := newEnv(t, Config{Memory: 1 << 20, ObjectMax: 1 << 20})
		w.SetShare(3, 1000, 0)
		w.store(1, 5, 1)
		w.store(2, 7, 1)
		if got, want := w.Held(), map[int64]int64{1: w.bytesOf(1), 2: w.bytesOf(2)}; !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		w.PurgePrefix(Key{Space: 1}, true)
		if got, want := w.Held(), map[int64]int64{2: w.bytesOf(2)}; !maps.Equal(got, want) {
			t.Errorf("without the first: got %v, want %v", got, want)
		}
	})
}

// TestFloor: no other space evicts what a space has up to its floor, however often the other's
// objects are requested; without a floor it does.
func TestFloor(t *testing.T) {
	t.Parallel()
	for floor, want := range map[int64]int64{0: 0, 200_000: 198_000, 800_000: 500_000} {
		bubble(t, fmt.Sprint(floor), func(t *testing.T) {
			w := newEnv(t, Config{Memory: 1 << 20, ObjectMax: 1 << 20})
			w.SetShare(1, floor, 0)
			w.store(1, 400, 1)
			w.store(2, 3000, 5)
			got := w.bytesOf(1)
			if got < want || floor == 0 && got > 100_000 {
				t.Errorf("%d bytes are left to the space, want %d at least", got, want)
			}
			if floor == 200_000 && got > 210_000 {
				t.Errorf("%d bytes are left to the space, which is above its floor", got)
			}
			w.SetShare(1, 0, 0)
			w.store(2, 3000, 5)
			if got := w.bytesOf(1); got > 100_000 {
				t.Errorf("%d bytes are left to the space without a floor", got)
			}
		})
	}
}

// TestFloorsAboveTheBudget: floors whose sum is too large are honoured in proportion, and leave
// room for others.
func TestFloorsAboveTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, Config{Memory: 1 << 20, ObjectMax: 1 << 20})
		w.SetShare(1, 1<<20, 0)
		w.SetShare(2, 2<<20, 0)
		for range 3 {
			w.store(1, 1000, 2)
			w.store(2, 1000, 2)
		}
		w.store(3, 3000, 5)
		one, two, three := w.bytesOf(1), w.bytesOf(2), w.bytesOf(3)
		if one < 1<<18-5000 || two < 1<<19-5000 || three < 1<<17 {
			t.Errorf("the spaces have %d, %d and %d bytes; want a quarter, a half, and an eighth at least", one, two, three)
		}
	})
}

// TestCeiling: a space at its ceiling evicts its own entries, those without a hit first, and an
// object above it is delivered and not stored. A lower ceiling holds at once.
func TestCeiling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, Config{Memory: 1 << 20, ObjectMax: 1 << 20})
		w.store(2, 100, 1)
		other := w.bytesOf(2)
		w.SetShare(1, 0, 100_000)
		w.store(1, 10, 3)
		w.store(1, 400, 1)
		if got := w.bytesOf(1); got > 100_000 || got < 98_000 {
			t.Errorf("%d bytes with a ceiling of 100000", got)
		}
		if got := w.bytesOf(2); got != other {
			t.Errorf("another space has %d bytes, want %d", got, other)
		}
		if w.rec.pushed[[2]int64{1, 1}] == 0 || len(w.rec.pushed) != 1 {
			t.Errorf("pushed %v, want entries of space 1 by space 1 only", w.rec.pushed)
		}
		large := Key{Space: 1, Object: "large"}
		got := w.all(t.Context(), large, w.good(large, 100_000))
		got.want(t, large, 100_000, Miss)
		if got.r.Stores || w.memory.has(large) {
			t.Errorf("an object above the ceiling is stored; Stores is %t", got.r.Stores)
		}
		w.SetShare(1, 0, 10_000)
		if got := w.bytesOf(1); got > 10_000 || got == 0 {
			t.Errorf("%d bytes with a ceiling of 10000", got)
		}
	})
}

// TestOwnersAreForgotten: the policy keeps nothing of a space that has neither entries nor a
// share.
func TestOwnersAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, Config{Memory: 1 << 20, ObjectMax: 1 << 20})
		for space := range int64(100) {
			w.store(space, 1, 1)
			w.SetShare(space, 0, 1000)
			w.SetShare(space, 1, 0)
			w.SetShare(space, 0, 0)
			w.Purge(Key{Space: space, Object: "object 0"}, true)
		}
		if p := &w.memory.policy; len(p.owners) != 0 || p.floors != 0 {
			t.Errorf("%d owners are left, floors of %d", len(p.owners), p.floors)
		}
	})
}
