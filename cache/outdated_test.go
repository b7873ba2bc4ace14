package cache

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// outdate has the lifetimes of keyA's epoch change, and nothing of it be served stale by
// default.
func (w *env) outdate() { w.Revalidate(keyA.Space, keyA.Epoch, 0) }

// down is an outage of a load that knows the lifetimes which an entry would get now.
func down(fresh, staleError time.Duration) error {
	return &Unavailable{Err: errBoom, Now: &Lifetimes{fresh, staleError}}
}

// TestRevalidate: a stored object is requested once, conditionally, and
// gets the lifetimes of the answer.
func TestRevalidate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ was, is Source }{
		"shorter":         {Source{Meta: 1, Fresh: time.Hour}, Source{Meta: 2, Fresh: time.Minute}},
		"longer":          {Source{Meta: 1, Fresh: time.Hour}, Source{Meta: 2, Fresh: 24 * time.Hour}},
		"stale already":   {Source{Meta: 1, Fresh: 1}, Source{Meta: 2, Fresh: time.Hour}},
		"no longer stale": {Source{Meta: 1, Fresh: 1, StaleWhileRevalidate: time.Hour, DefaultStaleWhileRevalidate: true}, Source{Meta: 2, Fresh: time.Hour}},
		"stale meanwhile": {Source{Meta: 1, Fresh: time.Hour}, Source{Meta: 2, Fresh: time.Hour, StaleWhileRevalidate: time.Hour}},
	} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, tc.was))
			synctest.Wait() // until its fetch has ended
			held := w.Stats()
			elapse(10 * time.Minute)
			w.wantLoads(1)
			w.outdate()
			w.wantEntry(keyA, false)
			if got := w.Stats(); got != held {
				t.Errorf("%+v after the change, before it %+v", got, held)
			}
			is, came := tc.is, time.Now()
			is.Same = true
			got := w.all(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
				if old == nil || old.Purged() || old.Meta != 1 {
					t.Errorf("old = %+v, want the stored entry, not Purged", old)
				}
				return w.like(keyA, 10, is)(ctx, old)
			})
			got.wantMeta(t, 2, Revalidated)
			if !got.r.Stored.Equal(came) || !got.r.Expires.Equal(came.Add(is.Fresh)) {
				t.Errorf("came at %v, fresh until %v; want %v and %v", got.r.Stored, got.r.Expires, came, came.Add(is.Fresh))
			}
			w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
			w.wantLoads(1)
			elapse(is.Fresh - 1)
			w.wantEntry(keyA, true)
			elapse(1)
			w.wantEntry(keyA, false)
		})
	}
}

// TestRevalidateReach: newer entries, another epoch and another space are not affected, and
// each of several changes counts.
func TestRevalidateReach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.outdate() // nothing is there
		if n := len(w.spaces); n != 0 {
			t.Errorf("%d spaces, want none", n)
		}
		other, third := Key{Space: 1, Epoch: 2, Object: keyA.Object}, Key{Space: 2, Epoch: 1, Object: keyA.Object}
		for _, key := range []Key{keyA, keyB, other, third} {
			w.all(t.Context(), key, w.like(key, 10, lenient))
		}
		w.outdate()
		after := Key{Space: 1, Epoch: 1, Object: "c.jpg"}
		w.all(t.Context(), after, w.like(after, 10, lenient))
		for key, fresh := range map[Key]bool{keyA: false, keyB: false, other: true, third: true, after: true} {
			w.wantEntry(key, fresh)
		}
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient.asSame(2))).wantMeta(t, 1, Stale)
		synctest.Wait()
		w.wantEntry(keyA, true)
		w.outdate()
		for _, key := range []Key{keyA, keyB, after} {
			w.wantEntry(key, false)
		}
	})
}

// TestRevalidateOutage: while the source does not answer, the current lifetimes decide
// whether an entry is served, and not those of the entry.
func TestRevalidateOutage(t *testing.T) {
	t.Parallel()
	const age = 10 * time.Minute
	hourly := Source{Meta: 1, Fresh: time.Hour}
	for name, tc := range map[string]struct {
		was    Source
		err    error
		purge  bool
		served bool
	}{
		"within stale-if-error":       {Source{Meta: 1, Fresh: time.Minute}, down(time.Minute, age-time.Minute+1), false, true},
		"behind it":                   {Source{Meta: 1, Fresh: time.Minute}, down(time.Minute, age-time.Minute), false, false},
		"no longer":                   {strict, down(time.Minute, 0), false, false},
		"fresh by the new ones":       {hourly, down(age+1, 0), false, true},
		"not fresh by the new ones":   {hourly, down(age, 0), false, false},
		"as it came":                  {strict, &Unavailable{Err: errBoom}, false, true},
		"as it came, without a grace": {hourly, &Unavailable{Err: errBoom}, false, false},
		"purged beside that":          {hourly, down(time.Hour, 0), true, false},
		"purged, with a grace":        {hourly, down(time.Hour, time.Minute), true, true},
	} {
		for way, passed := range map[string]bool{"fetch": false, "past the cache": true} {
			bubble(t, name+"/"+way, func(t *testing.T) {
				w := newEnv(t, roomy)
				w.all(t.Context(), keyA, w.like(keyA, 10, tc.was))
				elapse(age)
				if tc.purge {
					w.Purge(keyA, false)
				}
				w.outdate()
				if passed {
					w.hitForPass.mark(keyA)
				}
				w.wantLoads(1)
				got := w.all(t.Context(), keyA, w.failing(tc.err))
				if !tc.served {
					if !errors.Is(got.err, errBoom) {
						t.Errorf("got %v, %v; want the outage", got.r, got.err)
					}
					return
				}
				got.wantMeta(t, 1, Stale)
				w.wantLoads(1)
				w.hitForPass.unmark(keyA)
				elapse(1)
				if still := w.all(t.Context(), keyA, w.failing(tc.err)); name == "fresh by the new ones" {
					_ = still // its time is over by now
				} else if name != "within stale-if-error" {
					still.wantMeta(t, 1, Stale)
					w.wantLoads(0) // it has failed just now
				}
			})
		}
	}
}

// TestRevalidateAfterOutage: an outage does not count any more after a change of lifetimes:
// the next request waits for its fetch.
func TestRevalidateAfterOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		elapse(strict.Fresh)
		for range 3 {
			w.all(t.Context(), keyA, w.failing(down(time.Minute, time.Hour))).wantMeta(t, 1, Stale)
			if v := w.Inspect(keyA, time.Now()); !v.Failing {
				t.Errorf("seen as %+v", v)
			}
			w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 1, Stale)
			w.outdate()
			if v := w.Inspect(keyA, time.Now()); v.Failing || !v.Outdated {
				t.Errorf("seen as %+v", v)
			}
			if got := w.all(t.Context(), keyA, w.failing(down(time.Minute, 0))); !errors.Is(got.err, errBoom) {
				t.Errorf("got %v, %v; want the outage", got.r, got.err)
			}
		}
	})
}

// TestRevalidateStaleWhile: the change decides whether a request waits for the answer,
// unless the source stated a time itself.
func TestRevalidateStaleWhile(t *testing.T) {
	t.Parallel()
	byDefault := func(while time.Duration) Source {
		return Source{Meta: 1, Fresh: time.Minute, StaleWhileRevalidate: while, DefaultStaleWhileRevalidate: true}
	}
	for name, tc := range map[string]struct {
		was   Source
		while time.Duration
		after time.Duration
		waits bool
	}{
		"not any more":            {byDefault(time.Hour), 0, 0, true},
		"from now on":             {byDefault(0), time.Hour, 0, false},
		"to its last moment":      {byDefault(0), time.Hour, time.Hour - 1, false},
		"longer than that":        {byDefault(time.Minute), time.Hour, time.Hour, true},
		"as the source has said":  {lenient, 0, 0, false},
		"the source has said not": {strict, time.Hour, 0, true},
	} {
		bubble(t, name, func(t *testing.T) {
			w, gate := newEnv(t, roomy), make(chan struct{})
			w.all(t.Context(), keyA, w.like(keyA, 10, tc.was))
			w.wantLoads(1)
			elapse(time.Second)
			w.Revalidate(keyA.Space, keyA.Epoch, tc.while)
			elapse(tc.after)
			if v := w.Inspect(keyA, time.Now()); time.Now().Before(v.StaleWhileRevalidate) == tc.waits {
				t.Errorf("seen as %+v", v)
			}
			load := gated(gate, w.like(keyA, 10, lenient.asSame(2)))
			a := w.start(t.Context(), keyA, load)
			synctest.Wait()
			b := w.start(t.Context(), keyA, load)
			synctest.Wait()
			if !tc.waits {
				(<-a).wantMeta(t, 1, Stale)
				(<-b).wantMeta(t, 1, Stale)
			}
			select {
			case got := <-a:
				t.Errorf("got %+v without waiting", got)
			case got := <-b:
				t.Errorf("got %+v without waiting", got)
			default:
			}
			close(gate)
			if tc.waits {
				(<-a).wantMeta(t, 2, Revalidated)
				(<-b).wantMeta(t, 2, Collapsed)
			}
			synctest.Wait()
			w.wantLoads(1)
			w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
		})
	}
}

// TestRevalidateAndPurge: a softly purged entry is not revalidated, whichever call comes
// first, and a hard-purged entry is dropped.
func TestRevalidateAndPurge(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"revalidated before": true, "revalidated after": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachPurge(t, func(t *testing.T, w *env, hard bool, purge func() Purged) {
				w.all(t.Context(), keyA, w.like(keyA, 10, strict))
				elapse(time.Second)
				if first {
					w.outdate()
				}
				purge()
				elapse(time.Second)
				if !first {
					w.outdate()
				}
				w.wantEntry(keyA, false)
				w.wantLoads(1)
				got := w.all(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
					if (old == nil) != hard || old != nil && !old.Purged() {
						t.Errorf("told of %+v", old)
					}
					return w.failing(down(time.Hour, time.Hour))(ctx, old)
				})
				if hard {
					if got.err == nil {
						t.Errorf("given %v, though purged hard", got.r.Meta)
					}
					return
				}
				got.wantMeta(t, 1, Stale)
			})
		})
	}
}

// TestRevalidateDuringFetch: a fetch continues for its readers, cannot be joined any more,
// and makes no entry.
func TestRevalidateDuringFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f := newEnv(t, roomy), newFeed()
		a := w.start(t.Context(), keyA, f.load(w, 10, time.Hour))
		synctest.Wait()
		w.outdate()
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(2))).wantMeta(t, 2, Miss)
		f.give(content(keyA, 10), io.EOF)
		(<-a).wantMeta(t, "meta", Miss)
		w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
	})
}

// TestRevalidateDuringCommit changes the lifetimes when a fetch is complete, and its
// entry about to be put.
func TestRevalidateDuringCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.like(keyA, 10, Source{Meta: 1, Fresh: time.Minute}))
		elapse(time.Minute)
		w.rec.hook = func(reason string) {
			if reason == reasonReplaced {
				w.outdate()
			}
		}
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(2))).wantMeta(t, 2, Miss)
		synctest.Wait()
		if w.Has(keyA) {
			t.Error("the fetch made an entry")
		}
	})
}

// TestRevalidateDuringPrivateFetch forces the sequence of Revalidate's comment: a private
// fetch confirms the stored object, with the lifetimes from before the change.
func TestRevalidateDuringPrivateFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		elapse(strict.Fresh)
		w.hitForPass.mark(keyA)
		a := w.start(t.Context(), keyA, gated(gate, w.like(keyA, 10, strict.asSame(2))))
		synctest.Wait()
		w.outdate()
		close(gate)
		got := <-a
		got.wantMeta(t, 2, Revalidated)
		if !got.r.Stores {
			t.Error("the answer is lost")
		}
		w.hitForPass.unmark(keyA)
		w.wantEntry(keyA, false)
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient.asSame(3))).wantMeta(t, 3, Revalidated)
		w.wantEntry(keyA, true)
	})
}

// TestRevalidateRenewal: a renewal that a hit has begun is given up, and one that it is
// about to begin goes by the new lifetimes.
func TestRevalidateRenewal(t *testing.T) {
	t.Parallel()
	for name, under := range map[string]bool{"to begin": false, "under way": true} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, daily))
			e := w.dueAfter(keyA)
			if !e.Due(time.Now()) {
				t.Fatal("not due")
			}
			if under {
				w.Refresh(keyA, e, gated(nil, nil))
			}
			w.outdate()
			if under && len(w.fetches) != 0 {
				t.Error("a fetch is under way that goes by the old lifetimes")
			}
			if !under {
				w.Refresh(keyA, e, w.like(keyA, 10, daily.asSame(2)))
			}
			e.Release()
			status := Revalidated
			if !under {
				synctest.Wait()
				status = Hit
			}
			w.all(t.Context(), keyA, w.like(keyA, 10, daily.asSame(2))).wantMeta(t, 2, status)
		})
	}
}

// TestFailureOfOlderFetch: a fetch from before the change of lifetimes fails last. The
// failure of a newer fetch still counts: the next request does not wait again.
func TestFailureOfOlderFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		elapse(strict.Fresh)
		older := w.start(t.Context(), keyA, gated(gate, w.failing(down(time.Hour, time.Hour))))
		synctest.Wait()
		w.outdate()
		w.all(t.Context(), keyA, w.failing(down(time.Hour, time.Hour))).wantMeta(t, 1, Stale)
		close(gate)
		(<-older).wantMeta(t, 1, Stale)
		w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 1, Stale)
	})
}
