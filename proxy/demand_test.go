package proxy

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/cache"
)

// TestDemand has the requests for one object: each asks for n bytes and sends them, or stops
// after a part. The last one is the first for which the object is fetched whole.
func TestDemand(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	type ask struct{ n, sent int64 }
	for name, tc := range map[string]struct {
		size    int64
		asks    []ask
		pause   time.Duration // before each but the first
		fetches bool          // for the last one
	}{
		"empty":                       {0, []ask{{0, 0}}, 0, true},
		"worth a request":             {requestWorth, []ask{{0, 0}}, 0, true},
		"not worth a request":         {requestWorth + 1, []ask{{0, 0}}, 0, false},
		"worth two requests":          {2 * requestWorth, []ask{{0, 0}, {0, 0}}, 0, true},
		"not worth two requests":      {2*requestWorth + 1, []ask{{0, 0}, {0, 0}}, 0, false},
		"worth the bytes to be sent":  {16*mib + requestWorth, []ask{{mib, 0}}, 0, true},
		"not worth them":              {16*mib + requestWorth + 1, []ask{{mib, 0}}, 0, false},
		"worth the bytes sent before": {32*mib + 2*requestWorth, []ask{{mib, mib}, {mib, 0}}, 0, true},
		"not sent before":             {32*mib + 2*requestWorth, []ask{{mib, 10}, {mib, 0}}, 0, false},
		"all of it":                   {1 << 40, []ask{{1 << 40, 0}}, 0, true},
		"more than all of it":         {1 << 40, []ask{{math.MaxInt64, 0}}, 0, true},
		"in time":                     {2 * requestWorth, []ask{{0, 0}, {0, 0}}, demandTTL - 1, true},
		"too late":                    {2 * requestWorth, []ask{{0, 0}, {0, 0}}, demandTTL, false},
		"of no length":                {-1, []ask{{1, 1}, {1, 1}}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, key := newDemand(), cache.Key{Space: 1, Object: "a.png"}
				for i, a := range tc.asks {
					if i > 0 {
						time.Sleep(tc.pause) //nolint:forbidigo // in a bubble
					}
					want := tc.fetches && i == len(tc.asks)-1
					if got := d.whole(key, tc.size, a.n); got != want {
						t.Errorf("request %d: whole: %t, want %t", i, got, want)
					}
					d.add(key, a.sent)
					if got := d.remembers(key); got == want {
						t.Errorf("request %d: remembered: %t", i, got)
					}
				}
				if d.remembers(cache.Key{Space: 2, Object: "a.png"}) {
					t.Error("another object is remembered")
				}
			})
		})
	}
}
