package cache

import (
	"fmt"
	"math"
	"testing"
)

// TestStep: a walk through a shard in steps meets every entry that is there all the
// time, whatever comes and goes between them.
func TestStep(t *testing.T) {
	t.Parallel()
	for seed := range 20 {
		var s shard
		s.init()
		entry := func(i int) *Entry { return &Entry{key: Key{Object: fmt.Sprint(i)}} }
		stays := make(map[*Entry]bool)
		var goes []*Entry
		for i := range 2000 {
			e := entry(i)
			if s.addLocked(e); (i*7+seed)%3 == 0 {
				stays[e] = true
			} else {
				goes = append(goes, e)
			}
		}
		var buf []*Entry
		for end, i := math.MaxInt, 0; end > 0; {
			buf, end = s.step(buf, end)
			for _, e := range buf {
				delete(stays, e)
			}
			for range 100 + 10*seed {
				if len(goes) > 0 {
					at := (i*31 + seed*17) % len(goes)
					s.removeLocked(goes[at])
					goes[at] = goes[len(goes)-1]
					goes = goes[:len(goes)-1]
				}
				i++
				if i%3 == 0 {
					s.addLocked(entry(-i))
				}
			}
		}
		if len(stays) > 0 {
			t.Errorf("%d entries were not met", len(stays))
		}
	}
}
