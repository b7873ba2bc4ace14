package arena

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestMixedSizes lets objects of very different sizes leave in a random order, and few of
// the bytes that come need new pages. In the order in which they came, almost none do.
func TestMixedSizes(t *testing.T) {
	t.Parallel()
	const limit, count = 32 << 20, 6000
	for name, row := range map[string]struct{ from, share float64 }{"in order": {0, 0.1}, "at random": {0.25, 0.4}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newTestArena(t, limit)
			defer a.Close()
			rng := rand.New(rand.NewPCG(1, 2))
			var live []*Extent
			var held, came, fresh int64
			for i := range count {
				n := int64(min(max(math.Exp(10.4+1.3*rng.NormFloat64()), PageSize), 4<<20))
				for held+WholePages(n) > limit/100*97 {
					k := rng.IntN(1 + int(row.from*float64(len(live))))
					held -= live[k].size
					a.Free(live[k])
					live = append(live[:k], live[k+1:]...)
				}
				e := a.Alloc(n)
				if i > count/3 {
					came, fresh = came+e.size, fresh+e.size-e.pages
				}
				a.Populate(e, n)
				held += e.size
				live = append(live, e)
				if got, most := a.Resident(), int64(limit+limit/5); got > most {
					t.Fatalf("%d bytes are resident, want %d at most", got, most)
				}
			}
			if got := float64(fresh) / float64(came); got > row.share {
				t.Errorf("new pages are %.3f of what came, want %.3f at most", got, row.share)
			} else {
				t.Logf("new pages are %.3f of what came", got)
			}
			for _, e := range live {
				a.Free(e)
			}
		})
	}
}
