package cache

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// TestPins: a body counts once, however many readers pin it, until the last one is released.
func TestPins(t *testing.T) {
	t.Parallel()
	w := newEnv(t, roomy)
	keys := w.fill(2, time.Hour)
	cost := costOfFilled(keys[0])
	want := func(n int64) {
		t.Helper()
		if got := w.Stats().Pinned; got != n*cost {
			t.Errorf("%d bytes are pinned, want %d", got, n*cost)
		}
	}
	want(0)
	a, _ := w.Hit(keys[0], time.Now())
	b, err := w.Get(t.Context(), keys[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := w.Hit(keys[1], time.Now())
	want(0)
	if got := a.Pin(); got != cost {
		t.Errorf("a pin keeps %d bytes, want %d", got, cost)
	}
	b.Pin()
	want(1)
	c.Pin()
	want(2)
	w.dropEntry(keys[0])
	a.Release()
	a.Unpin()
	want(2)
	b.Close()
	b.Unpin()
	c.Release()
	c.Unpin()
	want(0)
}

// TestFetchesArePinned: the bytes of a fetch count from its beginning to its end, those of a
// stream never.
func TestFetchesArePinned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f := newEnv(t, roomy), newFeed()
		a := w.start(t.Context(), keyA, f.load(w, 1000, time.Hour))
		synctest.Wait()
		f.give(content(keyA, 1000)[:10], nil)
		synctest.Wait()
		if got, want := w.Stats().Pinned, w.Stats().Bytes; got != want || got < 1000 {
			t.Errorf("%d bytes are pinned, want %d", got, want)
		}
		f.give(content(keyA, 1000)[10:], io.EOF)
		(<-a).want(t, keyA, 1000, Miss)
		synctest.Wait()
		if got := w.Stats().Pinned; got != 0 {
			t.Errorf("%d bytes are pinned after the fetch", got)
		}
	})
}

// TestFetchRoom: a fetch waits for the bytes of readers that Relieve ends, and evicts no
// other entry for them. If Relieve ends none, it evicts.
func TestFetchRoom(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		relief  []Relief // the results of Relieve, the last one for ever
		evicted int
		waits   time.Duration
	}{
		{"nobody may be ended", []Relief{NoRelief}, 1, 0},
		{"a reader is ended", []Relief{ReliefRequested}, 0, 0},
		{"a reader is slow later", []Relief{ReliefLater, ReliefLater, ReliefRequested}, 0, 2 * fetchWait / 12},
		{"no reader is slow in time", []Relief{ReliefLater}, 1, fetchWait},
		{"a reader is never released", []Relief{ReliefRequested, ReliefRequested, NoRelief}, 1, 2 * fetchWait / 12},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				var slow *Entry
				cfg := roomy
				cfg.Relieve = func(pinned, limit int64) Relief {
					r := tc.relief[min(calls, len(tc.relief)-1)]
					calls++
					if pinned != costOfFilled(Key{Object: "object 0"}) || limit <= pinned {
						t.Errorf("called with %d of %d bytes", pinned, limit)
					}
					if r == ReliefRequested && tc.evicted == 0 {
						go func() {
							slow.Release()
							slow.Unpin()
						}()
					}
					return r
				}
				w := newEnv(t, cfg)
				keys := w.fill(10, time.Hour)
				slow, _ = w.Hit(keys[0], time.Now())
				slow.Pin()
				w.memory.remove(slow, reasonPurged)
				need := w.memory.held.limit - 9*costOfFilled(keys[0])
				begun := time.Now()
				if !w.memory.fetchRoom(0, need) {
					t.Fatal("no room")
				}
				if waited := time.Since(begun); waited != tc.waits {
					t.Errorf("waited %v, want %v", waited, tc.waits)
				}
				if n := w.rec.count(reasonCapacity); n != tc.evicted {
					t.Errorf("%d entries evicted, want %d", n, tc.evicted)
				}
				w.memory.held.release(need)
				if tc.evicted > 0 {
					slow.Release()
					slow.Unpin()
				}
			})
		})
	}
}

// TestHotSetSurvives: entries that are requested all the time stay, though ever more large
// ones are read slowly. Relieve ends the first reader each time.
func TestHotSetSurvives(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	var w *env
	var slow []*Reader
	end := func() {
		slow[0].Close()
		slow[0].Unpin()
		slow = slow[1:]
	}
	w = newEnv(t, Config{Memory: 32 << 20, ObjectMax: 32 << 20, Relieve: func(pinned, limit int64) Relief {
		if pinned <= limit/3 {
			return NoRelief
		}
		end()
		return ReliefRequested
	}})
	hot := w.fill(20, time.Hour)
	for i := range 50 {
		key := Key{Object: fmt.Sprint(i)}
		r, err := w.Get(t.Context(), key, w.good(key, size))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(r, 0); err != nil {
			t.Fatal(err)
		}
		r.Pin()
		slow = append(slow, r)
		for _, key := range hot {
			w.wantEntry(key, true)
		}
	}
	if pinned, limit := w.Stats().Pinned, int64(32<<20); pinned < limit/4 || pinned > limit/2 {
		t.Errorf("%d bytes are pinned of %d", pinned, limit)
	}
	for len(slow) > 0 {
		end()
	}
}
