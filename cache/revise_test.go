package cache

import (
	"testing"
	"testing/synctest"
	"time"
)

// revise revises what is stored of keyA's epoch to be like src.
func (w *world) revise(src Source) {
	w.Revise(keyA.Space, keyA.Epoch, func(any) *Source { return &src })
}

// TestRevise: what is stored lives, from when it came, as the revision says.
func TestRevise(t *testing.T) {
	t.Parallel()
	const age = 10 * time.Minute
	hourly := Source{Meta: 1, Fresh: time.Hour}
	outage := &Outage{errBoom}
	for name, tc := range map[string]struct {
		was, is Source
		fails   error // of a load that has to be waited for
		status  Status
		meta    any
		loads   int64
	}{
		"as it was":           {was: hourly, is: hourly.as(2), status: Hit, meta: 2},
		"shorter":             {was: hourly, is: Source{Meta: 2, Fresh: age}, status: Miss, meta: 3, loads: 1},
		"not that short":      {was: hourly, is: Source{Meta: 2, Fresh: age + 1}, status: Hit, meta: 2},
		"longer":              {was: Source{Meta: 1, Fresh: 1}, is: hourly.as(2), status: Hit, meta: 2},
		"it had an age":       {was: Source{Meta: 1, Fresh: time.Hour, Age: age}, is: Source{Meta: 2, Fresh: 2 * age}, status: Miss, meta: 3, loads: 1},
		"the age was counted": {was: Source{Meta: 1, Fresh: time.Hour, Age: age}, is: Source{Meta: 2, Fresh: 2*age + 1, Age: time.Hour}, status: Hit, meta: 2},
		"stale meanwhile":     {was: hourly, is: Source{Meta: 2, Fresh: 1, StaleWhile: time.Hour}, status: Stale, meta: 2, loads: 1},
		"no longer":           {was: Source{Meta: 1, Fresh: 1, StaleWhile: time.Hour}, is: Source{Meta: 2, Fresh: 1}, status: Miss, meta: 3, loads: 1},
		"stale if it fails":   {was: Source{Meta: 1, Fresh: 1}, is: Source{Meta: 2, Fresh: 1, StaleError: time.Hour}, fails: outage, status: Stale, meta: 2, loads: 1},
		"asked for each time": {was: hourly, is: Source{Meta: 2, Validate: true, StaleError: time.Hour}, fails: outage, status: Stale, meta: 2, loads: 1},
	} {
		bubble(t, name, func(t *testing.T) {
			w := newWorld(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, tc.was))
			came := time.Now().Add(-tc.was.Age)
			elapse(age)
			w.wantLoads(1)
			w.revise(tc.is)
			load := w.like(keyA, 10, hourly.as(3))
			if tc.fails != nil {
				load = w.failing(tc.fails)
			}
			got := w.all(t.Context(), keyA, load)
			got.wantMeta(t, tc.meta, tc.status)
			synctest.Wait()
			w.wantLoads(tc.loads)
			if got.r.Meta == 2 && (!got.r.Stored.Equal(came) || !got.r.Expires.Equal(came.Add(tc.is.Fresh))) {
				t.Errorf("came at %v, fresh until %v; want %v and %v", got.r.Stored, got.r.Expires, came, came.Add(tc.is.Fresh))
			}
		})
	}
}

// TestReviseHit: a hit needs nobody's help, and after the first one costs nothing.
func TestReviseHit(t *testing.T) { //nolint:paralleltest // others would be counted
	w := newWorld(t, roomy)
	w.all(t.Context(), keyA, w.like(keyA, 10, strict))
	now := time.Now().Add(10 * time.Minute)
	if _, ok := w.Hit(keyA, now); ok {
		t.Fatal("it is fresh")
	}
	w.revise(Source{Meta: 2, Fresh: time.Hour})
	first, ok := w.Hit(keyA, now)
	if !ok || first.Meta != 2 {
		t.Fatalf("hit: %t, %+v", ok, first)
	}
	first.Release()
	if n := testing.AllocsPerRun(100, func() {
		if e, ok := w.Hit(keyA, now); !ok || e != first {
			t.Fatal("another entry")
		}
		first.Release()
	}); n != 0 {
		t.Errorf("a hit makes %v allocations", n)
	}
	if _, ok := w.Hit(keyA, first.Expires); ok {
		t.Error("a hit of what is fresh no more")
	}
}

// TestReviseLast: of several revisions the last one counts, and only for what came
// before it, of its epoch.
func TestReviseLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, other := newWorld(t, roomy), Key{Space: 1, Epoch: 2, Object: keyA.Object}
		w.revise(lenient.as("nothing is there")) // and so it is forgotten
		for _, key := range []Key{keyA, keyB, other} {
			w.all(t.Context(), key, w.like(key, 10, lenient))
		}
		w.revise(lenient.as("first"))
		w.wantEntry(keyA, true)
		w.revise(lenient.as("last"))
		after := Key{Space: 1, Epoch: 1, Object: "c.jpg"}
		w.all(t.Context(), after, w.like(after, 10, lenient))
		for key, meta := range map[Key]any{keyA: "last", keyB: "last", other: 1, after: 1} {
			for range 2 {
				w.all(t.Context(), key, w.forbidden).wantMeta(t, meta, Hit)
			}
		}
		w.revise(lenient.as("later"))
		w.all(t.Context(), after, w.forbidden).wantMeta(t, "later", Hit)
	})
}

// TestReviseDrops: what is not to be stored any more, or has grown, goes when it is
// asked for.
func TestReviseDrops(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		src   Source
		drops bool
	}{
		"neither fresh nor checked": {Source{Meta: 2, StaleWhile: time.Hour, StaleError: time.Hour}, true},
		"checked":                   {Source{Meta: 2, Validate: true}, false},
		"as large":                  {Source{Meta: 2, Fresh: time.Hour, MetaBytes: 100}, false},
		"smaller":                   {Source{Meta: 2, Fresh: time.Hour, MetaBytes: 10}, false},
		"larger":                    {Source{Meta: 2, Fresh: time.Hour, MetaBytes: 101}, true},
	} {
		bubble(t, name, func(t *testing.T) {
			w, src := newWorld(t, roomy), lenient
			src.MetaBytes = 100
			w.all(t.Context(), keyA, w.like(keyA, 10, src))
			held := w.Stats()
			w.revise(tc.src)
			if v := w.Inspect(keyA, time.Now()); (v.Tier == "") != tc.drops {
				t.Errorf("seen as %+v", v)
			}
			if _, stale := w.Foresee(keyA, &tc.src); stale == (tc.drops || tc.src.Fresh > 0) {
				t.Errorf("seen as stale: %t", stale)
			}
			if got := w.Stats(); got != held {
				t.Errorf("%+v after the revision, before it %+v", got, held)
			}
			if e, ok := w.Keep(keyA); ok == tc.drops {
				t.Errorf("kept: %t", ok)
			} else if ok {
				e.Release()
			}
			if w.Has(keyA) == tc.drops || (w.rec.count(reasonReplaced) == 1) != tc.drops {
				t.Errorf("stored: %t", w.Has(keyA))
			}
		})
	}
}

// TestReviseAndPurge: what was purged stays so, whichever comes first.
func TestReviseAndPurge(t *testing.T) {
	t.Parallel()
	hourly := Source{Meta: 2, Fresh: time.Hour, StaleError: 24 * time.Hour}
	for name, revisedFirst := range map[string]bool{"revised before": true, "revised after": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for name, looked := range map[string]bool{"and asked for": true, "not asked for": false} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					eachPurge(t, func(t *testing.T, w *world, hard bool, purge func() Purged) {
						look := func() {
							if looked {
								w.Hit(keyA, time.Now().Add(24*time.Hour)) // in vain, but it is revised
							}
						}
						w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
						elapse(time.Second)
						if revisedFirst {
							w.revise(hourly)
							look()
						}
						purge()
						end := time.Now()
						if w.spaces[spaceID{1, 1}] == nil && !revisedFirst {
							return // nobody asks for what is retired
						}
						if !revisedFirst {
							look()
							w.revise(hourly)
						}
						w.wantEntry(keyA, false)
						got := w.all(t.Context(), keyA, w.failing(&Outage{errBoom}))
						if hard {
							if got.err == nil {
								t.Errorf("given %v, though purged hard", got.r.Meta)
							}
							return
						}
						got.wantMeta(t, 2, Stale)
						if !got.r.Expires.Equal(end) {
							t.Errorf("stale since %v, want since the purge at %v", got.r.Expires, end)
						}
					})
				})
			}
		})
	}
}

// TestReviseKeepsTrouble: after a revision S3 is not asked at once again, and others
// need not find out that it fails.
func TestReviseKeepsTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, roomy)
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		elapse(strict.Fresh)
		w.all(t.Context(), keyA, w.failing(&Outage{errBoom})).wantMeta(t, 1, Stale)
		w.revise(strict.as(2))
		if v := w.Inspect(keyA, time.Now()); !v.Failing || v.Meta != 2 {
			t.Errorf("seen as %+v", v)
		}
		w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Stale)
		elapse(respite)
		w.loads.Store(0)
		w.all(t.Context(), keyA, w.failing(&Outage{errBoom})).wantMeta(t, 2, Stale)
		synctest.Wait()
		w.wantLoads(1)
	})
}

// TestReviseRenewal: who was to have an entry renewed does not begin with it once it
// is outdated, and its successor is due in its own time.
func TestReviseRenewal(t *testing.T) {
	t.Parallel()
	for name, under := range map[string]bool{"to begin": false, "under way": true} {
		bubble(t, name, func(t *testing.T) {
			w := newWorld(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, daily))
			e := w.dueAfter(keyA)
			if !e.Due(time.Now()) {
				t.Fatal("not due")
			}
			if under {
				w.Renew(keyA, e, gated(nil, nil))
			}
			w.revise(daily.as(2))
			if !under {
				w.Renew(keyA, e, gated(nil, nil))
			}
			e.Release()
			if len(w.flights) != 0 {
				t.Error("a flight is under way that goes by the old entry")
			}
			for _, fresh := range []time.Duration{48 * time.Hour, daily.Fresh} {
				w.revise(Source{Meta: 2, Fresh: fresh})
				next, ok := w.Hit(keyA, time.Now())
				if !ok || next.early > time.Until(next.Expires)/earlyShare || next.early == 0 && fresh > daily.Fresh {
					t.Fatalf("hit: %t, due %v before its end in %v", ok, next.early, time.Until(next.Expires))
				}
				next.early = time.Until(next.Expires)
				if !next.Due(time.Now()) {
					t.Error("it is never due")
				}
				next.Release()
			}
		})
	}
}

// TestReviseOrder: a revision is no use of an entry, and what is evicted is counted as
// what it is after it.
func TestReviseOrder(t *testing.T) {
	t.Parallel()
	for reason, src := range map[string]Source{reasonCapacity: {Meta: 2, Fresh: time.Hour}, reasonExpired: {Meta: 2, Validate: true}} {
		bubble(t, reason, func(t *testing.T) {
			w := newWorld(t, Config{Memory: 3 * cost(keyA, &Source{Size: 10}), ObjectMax: 1 << 20})
			first := Key{Space: 2, Object: keyA.Object} // of another space
			third, fourth := Key{Space: 2, Object: "c.jpg"}, Key{Space: 2, Object: "d.jpg"}
			for _, key := range []Key{first, keyA, third} {
				w.all(t.Context(), key, w.like(key, 10, lenient))
			}
			w.revise(src)
			w.Inspect(keyA, time.Now()) // nor is this
			w.wantEntry(first, true)
			w.all(t.Context(), fourth, w.like(fourth, 10, lenient))
			if w.Has(keyA) || !w.Has(first) || !w.Has(third) || w.rec.count(reason) != 1 {
				t.Errorf("another one was evicted, or for another reason: %v", w.rec.n)
			}
		})
	}
}
