package cache

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// TestSearch: a search visits the entries of one space and epoch, changes nothing, and ends
// at its limit or when it is told to.
func TestSearch(t *testing.T) {
	t.Parallel()
	bubble(t, "search", func(t *testing.T) {
		w := newEnv(t, roomy)
		var want []string
		for i := range 600 { // more than a step
			key := Key{Space: 1, Epoch: int64(i % 2), Object: fmt.Sprintf("%03d", i)}
			w.all(t.Context(), key, w.good(key, 10))
			if i%2 == 0 {
				want = append(want, key.Object)
			}
		}
		search := func(limit, stop int) (got []string) {
			w.Search(Key{Space: 1, Object: ""}, limit, func(object string) bool {
				got = append(got, object)
				return len(got) < stop
			})
			slices.Sort(got)
			return got
		}
		if got := search(math.MaxInt, math.MaxInt); !slices.Equal(got, want) {
			t.Errorf("got %d objects, want %d", len(got), len(want))
		}
		if got := search(math.MaxInt, 3); len(got) != 3 {
			t.Errorf("told to stop at 3, it got %q", got)
		}
		if got := search(10, math.MaxInt); len(got) > 10 {
			t.Errorf("limited to 10, it got %q", got)
		}
		if got := search(0, math.MaxInt); got != nil {
			t.Errorf("limited to 0, it got %q", got)
		}
		w.Search(Key{Space: 2}, math.MaxInt, func(object string) bool { t.Errorf("got %q of another space", object); return true })
		if n := w.memory.stats().Entries; n != 600 {
			t.Errorf("%d entries are left", n)
		}
	})
}
