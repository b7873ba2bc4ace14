package cache

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// ways of purging keyA.
var purges = map[string]struct {
	hard bool
	do   func(w *env) Purged
}{
	"key, soft":    {false, func(w *env) Purged { return w.Purge(keyA, false) }},
	"key, hard":    {true, func(w *env) Purged { return w.Purge(keyA, true) }},
	"prefix, soft": {false, func(w *env) Purged { return w.PurgePrefix(Key{1, 1, "a"}, false) }},
	"prefix, hard": {true, func(w *env) Purged { return w.PurgePrefix(Key{1, 1, "a"}, true) }},
	"space":        {false, func(w *env) Purged { return w.PurgeSpace(1, 1) }},
	"retire":       {false, func(w *env) Purged { return w.Retire(1, 1) }},
}

// eachPurge runs a test for every way.
func eachPurge(t *testing.T, test func(t *testing.T, w *env, hard bool, purge func() Purged)) {
	t.Helper()
	for name, p := range purges {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			test(t, w, p.hard, func() Purged { return p.do(w) })
		})
	}
}

// TestPurge: an entry that was fresh, or could be served stale, is fetched again: in the
// background if it may be served stale, else before the request gets an answer.
func TestPurge(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]time.Duration{"fresh": time.Second, "stale": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachPurge(t, func(t *testing.T, w *env, hard bool, purge func() Purged) {
				w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
				elapse(age)
				before := time.Now()
				elapse(1)
				want := Purged{Entries: 1, Bytes: w.Stats().Bytes}
				if got := purge(); got != want {
					t.Errorf("purged %+v, want %+v", got, want)
				}
				if _, ok := w.Hit(keyA, before); ok {
					t.Error("fresh to a request that read the clock before the purge")
				}
				w.wantEntry(keyA, false)
				if w.Has(keyA) == hard || (w.rec.count(reasonPurged) == 1) != hard {
					t.Errorf("stored: %t", w.Has(keyA))
				}
				got := w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(2)))
				if hard {
					got.wantMeta(t, 2, Miss)
				} else {
					got.wantMeta(t, 1, Stale)
				}
				synctest.Wait()
				w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
				if purge(); hard && w.Has(keyA) {
					t.Error("the second purge found nothing")
				}
			})
		})
	}
}

// TestPurgeNoGrace: after a soft purge of an entry that may not be served stale, every
// request waits. The times for serving stale count from the purge on.
func TestPurgeNoGrace(t *testing.T) {
	t.Parallel()
	eachPurge(t, func(t *testing.T, w *env, hard bool, purge func() Purged) {
		src := strict
		src.Fresh = 24 * time.Hour
		w.all(t.Context(), keyA, w.like(keyA, 10, src))
		elapse(time.Minute)
		purge()
		elapse(time.Hour - 1)
		got := w.all(t.Context(), keyA, w.failing(&Unavailable{Err: errBoom}))
		switch {
		case hard && !errors.Is(got.err, errBoom):
			t.Errorf("got %v, want the outage", got.err)
		case !hard:
			got.wantMeta(t, 1, Stale)
		}
		elapse(1)
		if got := w.all(t.Context(), keyA, w.failing(&Unavailable{Err: errBoom})); !errors.Is(got.err, errBoom) {
			t.Errorf("got %v, want the outage", got.err)
		}
		w.all(t.Context(), keyA, w.like(keyA, 10, src.as(2))).wantMeta(t, 2, Miss)
	})
}

// TestPurgeDuringFetch: a fetch continues for its readers, cannot be joined any more, and
// neither makes an entry nor changes the old one.
func TestPurgeDuringFetch(t *testing.T) {
	t.Parallel()
	for name, loaded := range map[string]bool{"loading": false, "filling": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachPurge(t, func(t *testing.T, w *env, _ bool, purge func() Purged) {
				f, gate := newFeed(), make(chan struct{})
				a := w.start(t.Context(), keyA, gated(gate, f.load(w, 10, time.Hour)))
				if loaded {
					close(gate)
				}
				synctest.Wait()
				if got, want := purge(), (Purged{Fetches: 1}); got != want {
					t.Errorf("purged %+v, want %+v", got, want)
				}
				w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(2))).wantMeta(t, 2, Miss)
				if !loaded {
					close(gate)
				}
				f.give(content(keyA, 10), io.EOF)
				(<-a).wantMeta(t, "meta", Miss)
				synctest.Wait()
				w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
				if n := w.rec.count(reasonReplaced); n != 0 {
					t.Error("the purged object was stored")
				}
			})
		})
	}
}

// TestPurgeRevalidation: a 304 to a request from before the purge does not make the entry
// fresh, by a shared, a background or a private fetch.
func TestPurgeRevalidation(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]struct {
		src    Source
		passed bool
	}{
		"fetch":          {strict, false},
		"background":     {lenient, false},
		"past the cache": {strict, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachPurge(t, func(t *testing.T, w *env, hard bool, purge func() Purged) {
				w.all(t.Context(), keyA, w.like(keyA, 10, way.src))
				elapse(time.Minute)
				if way.passed {
					w.hitForPass.mark(keyA)
				}
				gate := make(chan struct{})
				a := w.start(t.Context(), keyA, gated(gate, w.like(keyA, 10, way.src.asSame(2))))
				synctest.Wait()
				purge()
				close(gate)
				if got := <-a; got.err != nil {
					t.Error(got.err)
				}
				synctest.Wait()
				w.wantEntry(keyA, false)
				if w.Has(keyA) == hard {
					t.Errorf("stored: %t", w.Has(keyA))
				}
				w.hitForPass.unmark(keyA)
				src := way.src.as(3)
				src.Same = !hard // asked after the purge, it counts
				got := w.all(t.Context(), keyA, w.like(keyA, 10, src))
				got.want(t, keyA, 10, got.r.Status)
				synctest.Wait()
				w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 3, Hit)
			})
		})
	}
}

// TestPurgeCancelsRenewal: a background fetch is abandoned, and does not delay the next
// request.
func TestPurgeCancelsRenewal(t *testing.T) {
	t.Parallel()
	eachPurge(t, func(t *testing.T, w *env, hard bool, purge func() Purged) {
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
		elapse(time.Minute)
		var cause func() error
		w.all(t.Context(), keyA, func(c context.Context, _ *Entry) (*Source, error) {
			cause = func() error { return context.Cause(c) }
			<-c.Done()
			return nil, &Unavailable{Err: context.Cause(c)}
		}).wantMeta(t, 1, Stale)
		synctest.Wait()
		if got := purge().Fetches; got != 1 {
			t.Errorf("%d fetches, want 1", got)
		}
		synctest.Wait()
		if !errors.Is(cause(), ErrAbandoned) {
			t.Errorf("the load's context ended with %v, want ErrAbandoned", cause())
		}
		got := w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(2)))
		if hard != (got.r.Meta == 2) {
			t.Errorf("got %v", got.r.Meta)
		}
		synctest.Wait()
		w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
	})
}

// TestPurgeOutage: an entry that was purged hard is not served in an outage either, to any
// waiter.
func TestPurgeOutage(t *testing.T) {
	t.Parallel()
	eachPurge(t, func(t *testing.T, w *env, hard bool, purge func() Purged) {
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		elapse(time.Minute)
		gate := make(chan struct{})
		a := w.start(t.Context(), keyA, gated(gate, w.failing(&Unavailable{Err: errBoom})))
		synctest.Wait()
		purge()
		close(gate)
		got := <-a
		if hard {
			if !errors.Is(got.err, errBoom) {
				t.Errorf("got %v, want the outage", got.err)
			}
			return
		}
		got.wantMeta(t, 1, Stale)
	})
}

// TestRetiredSpace: an entry that is renewed for a retired epoch can be purged by the next
// purge of that epoch.
func TestRetiredSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		w.Retire(1, 1)
		w.all(t.Context(), keyA, w.like(keyA, 10, strict.asSame(2))).wantMeta(t, 2, Revalidated)
		w.wantEntry(keyA, true)
		if got := w.PurgeSpace(1, 1); got.Entries != 1 || got.Bytes != w.Stats().Bytes {
			t.Errorf("purged %+v, want the entry", got)
		}
		w.wantEntry(keyA, false)
		if n := len(w.spaces); n != 1 {
			t.Errorf("%d spaces, want 1", n)
		}
		w.Retire(1, 1)
		w.PurgeSpace(1, 1)
		w.PurgeSpace(7, 1)
		if n := len(w.spaces); n != 0 {
			t.Errorf("%d spaces, want none", n)
		}
	})
}

// TestDropAll: nothing is left, also of an epoch that was retired, and everything can be stored
// again.
func TestDropAll(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(t *testing.T) {
		w := newEnv(t, roomy)
		keys := []Key{{1, 1, "a"}, {1, 2, "a"}, {1, 2, "b"}, {2, 1, "a"}}
		for _, key := range keys {
			w.all(t.Context(), key, w.like(key, 10, lenient))
		}
		w.Retire(1, 1)
		if err := w.DropAll(); err != nil {
			t.Error(err)
		}
		for _, key := range keys {
			if w.Has(key) {
				t.Errorf("%v is stored", key)
			}
			if w.all(t.Context(), key, w.like(key, 10, lenient)); !w.Has(key) {
				t.Errorf("%v is not stored again", key)
			}
		}
	})
}

// TestPurgeReach: a purge affects the keys that it names, and no others.
func TestPurgeReach(t *testing.T) {
	t.Parallel()
	keys := []Key{
		{1, 1, ""}, {1, 1, "a"}, {1, 1, "a/"}, {1, 1, "a/b"}, {1, 1, "a/bc"}, {1, 1, "ab"}, {1, 1, "b"}, {1, 2, "a/b"}, {2, 1, "a/b"},
	}
	for name, row := range map[string]struct {
		do   func(w *env) Purged
		want string // which go
	}{
		"a key":          {func(w *env) Purged { return w.Purge(keys[3], true) }, "000100000"},
		"a prefix":       {func(w *env) Purged { return w.PurgePrefix(Key{1, 1, "a/"}, true) }, "001110000"},
		"all of a space": {func(w *env) Purged { return w.PurgePrefix(Key{1, 1, ""}, false) }, "111111100"},
		"a space":        {func(w *env) Purged { return w.PurgeSpace(1, 1) }, "111111100"},
		"an epoch":       {func(w *env) Purged { return w.Retire(1, 2) }, "000000010"},
		"nothing":        {func(w *env) Purged { return w.PurgePrefix(Key{1, 1, "c"}, true) }, "000000000"},
	} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			for _, key := range keys {
				w.all(t.Context(), key, w.good(key, 10))
			}
			p, n := row.do(w), 0
			for i, key := range keys {
				gone := row.want[i] == '1'
				if w.wantEntry(key, !gone); gone {
					n++
				}
			}
			if p.Entries != n {
				t.Errorf("purged %+v, want %d", p, n)
			}
		})
	}
}
