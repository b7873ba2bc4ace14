package cache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestPurgeDuringCommit stops a fetch that is complete between its look at the
// table and its entry's being put, and purges meanwhile.
func TestPurgeDuringCommit(t *testing.T) {
	t.Parallel()
	eachPurge(t, func(t *testing.T, w *env, _ bool, purge func() Purged) {
		w.all(t.Context(), keyA, w.like(keyA, 10, Source{Meta: 1, Fresh: time.Minute}))
		elapse(time.Minute)
		// When the old entry is taken out, the new one is about to be put.
		committing, purged := make(chan struct{}), make(chan struct{})
		w.rec.hook = func(reason string) {
			if reason == reasonReplaced {
				close(committing)
				<-purged
			}
		}
		a := w.start(t.Context(), keyA, w.like(keyA, 10, lenient.as(2)))
		<-committing
		if got := purge(); got.Fetches != 1 {
			t.Errorf("purged %+v, want the fetch", got)
		}
		close(purged)
		(<-a).wantMeta(t, 2, Miss)
		synctest.Wait()
		if w.Has(keyA) {
			t.Error("the purged object became an entry")
		}
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(3))).wantMeta(t, 3, Miss)
		w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 3, Hit)
	})
}

// TestPurgeBetween forces a fetch to begin between the steps of a hard purge: it
// finds the entry, which is dropped then, and must not give it to others.
func TestPurgeBetween(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]bool{"key": false, "prefix": true} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
			elapse(time.Minute)
			var once bool
			w.rec.hook = func(reason string) { // the entry is out, and the purge goes on
				if reason != reasonPurged || once {
					return
				}
				once = true
				e := w.memory.look(keyB)
				w.mu.Lock()
				w.refreshLocked(keyA, e, time.Now(), gated(nil, nil))
				w.mu.Unlock()
				e.Release()
			}
			w.all(t.Context(), keyB, w.like(keyB, 10, lenient)) // stands for the entry found
			if prefix {
				w.PurgePrefix(Key{1, 1, "a"}, true)
			} else {
				w.Purge(keyA, true)
			}
			if len(w.fetches) != 0 {
				t.Error("a fetch from during the purge can be joined")
			}
		})
	}
}

// TestPurgesOverlap: of two purges of a key, the one that started first reaches the entry
// last. An object fetched between them stays purged.
func TestPurgesOverlap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		match := func(k Key) bool { return k == keyA }
		first, _ := w.detach(keyA, match, false)
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
		w.Purge(keyA, false)
		w.wantEntry(keyA, false)
		var p Purged
		w.purgeEntry(keyA, first, &p)
		if w.wantEntry(keyA, false); p.Entries != 0 {
			t.Errorf("purged %+v, though it came after that purge", p)
		}
		// Nor does a fetch from between them make it fresh, which finds it unchanged.
		first, _ = w.detach(keyA, match, false)
		gate := make(chan struct{})
		w.all(t.Context(), keyA, gated(gate, w.like(keyA, 10, lenient.asSame(2)))).wantMeta(t, 1, Stale)
		w.mu.Lock()
		f := w.fetches[keyA]
		f.waiters++ // somebody waits, so that it goes on
		w.mu.Unlock()
		w.Purge(keyA, false)
		w.purgeEntry(keyA, first, &p)
		close(gate)
		synctest.Wait()
		waiter{fetch: f}.giveUp()
		w.wantEntry(keyA, false)
		// A hard one leaves alone what came after it, too.
		first, _ = w.detach(keyA, match, true)
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(3))).wantMeta(t, 1, Stale)
		synctest.Wait()
		w.purgeEntry(keyA, first, &p)
		w.wantEntry(keyA, true)
	})
}

// TestSoftPurgeBetween: a fetch that begins between the steps of a soft purge has asked
// whether the entry is still the same, which the purge does not trust. The answer does not
// make the entry fresh.
func TestSoftPurgeBetween(t *testing.T) {
	t.Parallel()
	for name, passed := range map[string]bool{"shared": false, "private": true} {
		bubble(t, name, func(t *testing.T) {
			w, gate := newEnv(t, roomy), make(chan struct{})
			w.all(t.Context(), keyA, w.like(keyA, 10, strict))
			elapse(strict.Fresh)
			if passed {
				w.hitForPass.mark(keyA)
			}
			m, p := w.detach(keyA, func(k Key) bool { return k == keyA }, false)
			a := w.start(t.Context(), keyA, gated(gate, func(ctx context.Context, old *Entry) (*Source, error) {
				return w.like(keyA, 10, lenient.asSame(2))(ctx, old)
			}))
			synctest.Wait()
			w.purgeEntry(keyA, m, &p)
			close(gate)
			(<-a).wantMeta(t, 2, Revalidated)
			w.wantEntry(keyA, false)
			w.hitForPass.unmark(keyA)
			w.wantLoads(2)
			got := w.all(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
				if old != nil && !old.Purged() {
					t.Error("the purged entry is not Purged")
				}
				return w.like(keyA, 10, lenient.as(3))(ctx, old)
			})
			got.wantMeta(t, 3, Miss)
			w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 3, Hit)
		})
	}
}
