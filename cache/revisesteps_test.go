package cache

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestReviseInFlight: a flight goes on for its readers, is joined no more, and leaves
// no entry.
func TestReviseInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(t, roomy), newFeed()
		a := w.start(t.Context(), keyA, f.load(w, 10, time.Hour))
		synctest.Wait()
		w.revise(lenient.as("revised"))
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(2))).wantMeta(t, 2, Miss)
		f.give(content(keyA, 10), io.EOF)
		(<-a).wantMeta(t, "meta", Miss)
		w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
	})
}

// TestReviseWhileLanding revises when a flight is complete, and its entry about to be
// put.
func TestReviseWhileLanding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, roomy)
		w.all(t.Context(), keyA, w.like(keyA, 10, Source{Meta: 1, Fresh: time.Minute}))
		elapse(time.Minute)
		w.rec.hook = func(reason string) {
			if reason == reasonReplaced {
				w.revise(lenient.as("revised"))
			}
		}
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(2))).wantMeta(t, 2, Miss)
		synctest.Wait()
		if w.Has(keyA) {
			t.Error("what was on its way became an entry")
		}
	})
}

// TestReviseBesidePass forces the sequence of Revise's comment: a stream past the
// cache finds what is stored unchanged, and says what was right before the revision.
func TestReviseBesidePass(t *testing.T) {
	t.Parallel()
	for name, looked := range map[string]bool{"looked at": true, "not looked at": false} {
		bubble(t, name, func(t *testing.T) {
			w, gate := newWorld(t, roomy), make(chan struct{})
			w.all(t.Context(), keyA, w.like(keyA, 10, strict))
			elapse(strict.Fresh)
			w.passes.mark(keyA)
			a := w.start(t.Context(), keyA, gated(gate, w.like(keyA, 10, lenient.asSame(2))))
			synctest.Wait()
			w.revise(lenient.as("revised"))
			if looked {
				w.wantEntry(keyA, false)
			}
			close(gate)
			got := <-a
			got.wantMeta(t, 2, Revalidated)
			if !got.r.Stores {
				t.Error("what the stream found out is lost")
			}
			w.passes.unmark(keyA)
			w.all(t.Context(), keyA, w.forbidden).wantMeta(t, "revised", Hit)
		})
	}
}

// TestReviseThenEnded: what was known of an entry, or done to it, reaches what a
// revision has put in its place since.
func TestReviseThenEnded(t *testing.T) {
	t.Parallel()
	long := Source{Meta: 2, Fresh: time.Hour, StaleError: time.Hour}
	for name, pass := range map[string]bool{"flight": false, "pass": true} {
		for how, err := range map[string]error{"gone": &Gone{Err: errBoom}, "purged": &Outage{errBoom}} {
			bubble(t, name+", "+how, func(t *testing.T) {
				w, gate := newWorld(t, roomy), make(chan struct{})
				w.all(t.Context(), keyA, w.like(keyA, 10, strict))
				elapse(strict.Fresh)
				if pass {
					w.passes.mark(keyA)
				}
				a := w.start(t.Context(), keyA, gated(gate, w.failing(err)))
				synctest.Wait()
				w.revise(long)
				w.wantEntry(keyA, true)
				w.revise(long) // and so a successor has one itself
				w.wantEntry(keyA, true)
				if how == "purged" {
					w.Purge(keyA, true)
				}
				close(gate)
				if got := <-a; !errors.Is(got.err, errBoom) {
					t.Errorf("got %v, %v", got.r, got.err)
				}
				if w.wantEntry(keyA, false); w.Has(keyA) {
					t.Error("it is still there")
				}
			})
		}
	}
}

// TestReviseMeanwhile: with is free to take its time. What happens to the entry
// meanwhile stands.
func TestReviseMeanwhile(t *testing.T) {
	t.Parallel()
	fresh := Source{Meta: 2, Fresh: time.Hour, StaleWhile: time.Hour}
	for name, tc := range map[string]struct {
		do     func(w *world)
		meta   any
		status Status
	}{
		"nothing":     {func(*world) {}, 2, Hit},
		"purged":      {func(w *world) { w.Purge(keyA, false) }, 2, Stale},
		"purged hard": {func(w *world) { w.Purge(keyA, true) }, 3, Miss},
		"purged all":  {func(w *world) { w.PurgeSpace(1, 1) }, 2, Stale},
		"replaced": {func(w *world) {
			w.Purge(keyA, true)
			w.all(context.Background(), keyA, w.like(keyA, 10, lenient.as("new")))
		}, "new", Hit},
		"revised":       {func(w *world) { w.revise(fresh.as("again")) }, "again", Hit},
		"revised to go": {func(w *world) { w.revise(Source{}) }, 3, Miss},
		"revised and asked for": {func(w *world) {
			w.revise(fresh.as("again"))
			w.wantEntry(keyA, true)
		}, "again", Hit},
	} {
		bubble(t, name, func(t *testing.T) {
			w := newWorld(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
			elapse(time.Second)
			w.Revise(keyA.Space, keyA.Epoch, func(any) *Source {
				tc.do(w)
				src := fresh
				return &src
			})
			w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(3))).wantMeta(t, tc.meta, tc.status)
			synctest.Wait()
		})
	}
}

// TestReviseInOrder: who has an entry revised uses it, even if he goes no further.
func TestReviseInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, roomy)
	w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
	w.revise(lenient.as(2))
	e := w.memory.find(keyA)
	defer e.Release()
	before := e.used
	w.memory.revise(e)
	if next := e.next.Load(); next == nil || next.used <= before {
		t.Errorf("last used at %d; what took its place %+v", before, next)
	}
}

// TestRevisePurgedLast: what a purge does to an entry just before another is put in its
// place is done to that.
func TestRevisePurgedLast(t *testing.T) {
	t.Parallel()
	w, asked, revised := newWorld(t, roomy), make(chan struct{}), make(chan struct{})
	w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
	w.Revise(keyA.Space, keyA.Epoch, func(any) *Source {
		close(asked)
		src := lenient.as(2)
		return &src
	})
	e := w.memory.find(keyA)
	defer e.Release()
	s := w.memory.of(keyA)
	s.mu.Lock() // as a purge does
	go func() {
		w.memory.revise(e)
		close(revised)
	}()
	<-asked
	for range 1000 {
		runtime.Gosched() // and so it waits for the lock
	}
	e.purged.Store(&mark{seq: e.seq + 1, at: time.Now()})
	s.mu.Unlock()
	<-revised
	if next := e.next.Load(); next == nil || !next.Purged() {
		t.Error("the purge is forgotten")
	}
}
