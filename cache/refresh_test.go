package cache

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// daily is fresh for so long that it is renewed ahead of time.
var daily = Source{Meta: 1, Fresh: 24 * time.Hour}

// dueAfter lets time pass until the entry of key is due, and returns it, held.
func (w *env) dueAfter(key Key) *Entry {
	w.t.Helper()
	e, ok := w.Hit(key, time.Now())
	if !ok {
		w.t.Fatal("no entry")
	}
	for e.early < time.Minute { // time for a test, before it expires
		e.early = early(daily.Fresh)
	}
	elapse(time.Until(e.Expires) - e.early - 1)
	if e.Due(time.Now()) {
		w.t.Error("due too early")
	}
	elapse(1)
	return e
}

// TestRenew: one of the hits of an entry near its expiry starts a refresh, and no request
// waits or gets a stale object.
func TestRenew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		w.all(t.Context(), keyA, w.like(keyA, 10, daily))
		w.wantLoads(1)
		e := w.dueAfter(keyA)
		due := 0
		for range 10 {
			if e.Due(time.Now()) {
				due++
				w.Refresh(keyA, e, gated(gate, w.like(keyA, 10, daily.as(2))))
			}
		}
		e.Release()
		if due != 1 {
			t.Errorf("%d times due, want once", due)
		}
		synctest.Wait()
		got := w.all(t.Context(), keyA, w.forbidden) // Get during the refresh
		got.wantMeta(t, 1, Hit)
		close(gate)
		synctest.Wait()
		w.wantLoads(1)
		w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
	})
}

// TestRenewMarked: a refresh stores an object of unknown size, although the last one was too large
// and the key is marked still. Only the requests without a hit bypass the cache.
func TestRenewMarked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.like(keyA, 10, daily))
		e := w.dueAfter(keyA)
		defer e.Release()
		w.hitForPass.mark(keyA)
		w.Refresh(keyA, e, w.unknown(1000))
		synctest.Wait()
		hit, ok := w.Hit(keyA, time.Now())
		if !ok || len(hit.Bytes()) != 1000 || !w.Bypasses(keyA) {
			t.Fatalf("stored: %t, bypasses: %t", ok, w.Bypasses(keyA))
		}
		hit.Release()
	})
}

// TestRenewFails: the entry is good until its end, and a later hit has it tried
// again, but not at once.
func TestRenewFails(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"outage": &Unavailable{Err: errBoom}, "error": errBoom} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, daily))
			w.wantLoads(1)
			e := w.dueAfter(keyA)
			defer e.Release()
			for range 3 {
				if !e.Due(time.Now()) {
					t.Fatal("not due")
				}
				w.Refresh(keyA, e, w.failing(err))
				synctest.Wait()
				w.wantLoads(1)
				w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 1, Hit)
				if elapse(retryDelay - 1); e.Due(time.Now()) {
					t.Error("due again at once")
				}
				elapse(1)
			}
		})
	}
}

// TestRenewRefused: an entry that cannot be refreshed now is due again at the next hit.
func TestRenewRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		w.all(t.Context(), keyA, w.like(keyA, 10, daily))
		e := w.dueAfter(keyA)
		defer e.Release()
		for i := range maxRefreshes {
			key := Key{Space: int64(2 + i%8), Object: fmt.Sprint(i)}
			w.all(t.Context(), key, w.like(key, 0, daily))
			other, _ := w.Hit(key, time.Now())
			w.Refresh(key, other, gated(gate, w.like(key, 0, daily)))
			other.Release()
		}
		if !e.Due(time.Now()) {
			t.Error("not due")
		}
		w.Refresh(keyA, e, w.forbidden)
		close(gate)
		synctest.Wait()
		if !e.Due(time.Now()) {
			t.Error("not due any more, though it was refused")
		}
		w.Refresh(keyA, e, w.like(keyA, 10, daily.as(2)))
		synctest.Wait()
		w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
	})
}

// TestEarly: entries stored together are not refreshed together, and short-lived ones are
// not refreshed before they expire.
func TestEarly(t *testing.T) {
	t.Parallel()
	for life, most := range map[time.Duration]time.Duration{
		shortLifetime - 1: 0, shortLifetime: time.Second, time.Hour: 6 * time.Minute, 1000 * time.Hour: earlyMax,
	} {
		tenths := make([]int, 10)
		for range 10_000 {
			d := early(life)
			if d < 0 || d > 0 && d >= most {
				t.Fatalf("early(%v) = %v, want less than %v", life, d, most)
			}
			if most > 0 {
				tenths[d*10/most]++
			}
		}
		for i, n := range tenths {
			if most > 0 && (n < 800 || n > 1200) {
				t.Errorf("early(%v): %d of 10000 in tenth %d", life, n, i)
			}
		}
	}
}

// TestRenewPurged: the entry was purged after it was hit. A fetch for it would give
// it to others.
func TestRenewPurged(t *testing.T) {
	t.Parallel()
	for name, hard := range map[string]bool{"soft": false, "hard": true} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, daily))
			e := w.dueAfter(keyA)
			w.Purge(keyA, hard)
			w.Refresh(keyA, e, gated(nil, nil))
			synctest.Wait()
			if (len(w.fetches) == 0) != hard {
				t.Errorf("%d fetches under way", len(w.fetches))
			}
			if e.Release(); !hard {
				return
			}
			w.all(t.Context(), keyA, w.like(keyA, 10, daily.as(2))).wantMeta(t, 2, Miss)
		})
	}
}
