package cache

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// gone is an answer that holds for a minute.
var gone = &NotFound{Err: errBoom, For: time.Minute}

// wantAbsent checks whether key is answered without asking.
func (w *env) wantAbsent(key Key, want bool) {
	w.t.Helper()
	err := w.Negative(key, time.Now())
	if (err != nil) != want || err != nil && !errors.Is(err, errBoom) {
		w.t.Errorf("Negative(%s) = %v, want %t", key.Object, err, want)
	}
	if !want {
		return
	}
	got := w.all(w.t.Context(), key, w.forbidden)
	if _, ok := errors.AsType[*NegativeHit](got.err); !ok || !errors.Is(got.err, errBoom) {
		w.t.Errorf("Get(%s): %v, want its NegativeHit", key.Object, got.err)
	}
}

// TestNotFound: every waiter gets the error, the stored entry is dropped, and for a while
// there is no further load.
func TestNotFound(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ stored, passed bool }{
		"nothing stored": {},
		"stored":         {stored: true},
		"passed by":      {passed: true},
		"both":           {true, true},
	} {
		bubble(t, name, func(t *testing.T) {
			w, gate := newEnv(t, roomy), make(chan struct{})
			if row.stored {
				w.all(t.Context(), keyA, w.like(keyA, 10, strict))
				elapse(time.Minute)
			}
			if row.passed {
				w.hitForPass.mark(keyA)
			}
			a := w.start(t.Context(), keyA, gated(gate, w.failing(gone)))
			synctest.Wait()
			b := w.start(t.Context(), keyA, gated(gate, w.failing(gone)))
			synctest.Wait()
			close(gate)
			for _, c := range []<-chan result{a, b} {
				got := <-c
				_, wrapped := errors.AsType[*NotFound](got.err)
				_, known := errors.AsType[*NegativeHit](got.err)
				if !errors.Is(got.err, errBoom) || wrapped || known {
					t.Errorf("got %v, want the error itself", got.err)
				}
			}
			if w.Has(keyA) || (w.rec.count(reasonGone) == 1) != row.stored {
				t.Error("the entry is there")
			}
			w.wantAbsent(keyA, true)
			elapse(time.Minute - 1)
			w.wantAbsent(keyA, true)
			elapse(1)
			w.wantAbsent(keyA, false)
			w.all(t.Context(), keyA, w.like(keyA, 10, strict)).want(t, keyA, 10, Miss)
		})
	}
}

// TestNotFoundInBackground: a stale entry is dropped when a refresh finds no object.
func TestNotFoundInBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
		elapse(time.Minute)
		w.all(t.Context(), keyA, w.failing(gone)).wantMeta(t, 1, Stale)
		synctest.Wait()
		w.wantAbsent(keyA, true)
	})
}

// TestNotFoundForNothing: an answer that does not hold is asked for each time.
func TestNotFoundForNothing(t *testing.T) {
	t.Parallel()
	w := newEnv(t, roomy)
	for range 3 {
		w.all(t.Context(), keyA, w.failing(&NotFound{Err: errBoom}))
	}
	w.AddNegative(keyA, &NotFound{Err: errBoom}, w.Generation(keyA))
	w.wantAbsent(keyA, false)
	w.wantLoads(3)
}

// TestNotFoundWhilePurged: an answer from before a purge, or from before a
// ForgetNegative, goes to its readers and adds no negative entry. The latter drops nothing either.
func TestNotFoundWhilePurged(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		do    func(w *env)
		noted bool
		drops bool
	}{
		"purged":               {func(w *env) { w.Purge(keyA, false) }, false, true},
		"prefix purged":        {func(w *env) { w.PurgePrefix(Key{Space: 1, Epoch: 1}, false) }, false, true},
		"space purged":         {func(w *env) { w.PurgeSpace(1, 1) }, false, true},
		"retired":              {func(w *env) { w.Retire(1, 1) }, false, true},
		"another is purged":    {func(w *env) { w.Purge(keyB, true) }, true, true},
		"another epoch":        {func(w *env) { w.PurgeSpace(1, 2) }, true, true},
		"forgotten":            {func(w *env) { w.ForgetNegative(1) }, false, false},
		"another is forgotten": {func(w *env) { w.ForgetNegative(2) }, true, true},
		"purged and forgotten": {func(w *env) { w.Purge(keyA, false); w.ForgetNegative(1) }, false, false},
	} {
		for way, passed := range map[string]bool{"fetch": false, "past the cache": true} {
			bubble(t, name+"/"+way, func(t *testing.T) {
				w, gate := newEnv(t, roomy), make(chan struct{})
				w.all(t.Context(), keyA, w.like(keyA, 10, strict))
				elapse(time.Minute)
				if passed {
					w.hitForPass.mark(keyA)
				}
				a := w.start(t.Context(), keyA, gated(gate, w.failing(gone)))
				synctest.Wait()
				row.do(w)
				close(gate)
				if got := <-a; !errors.Is(got.err, errBoom) {
					t.Errorf("got %v, want the error", got.err)
				}
				synctest.Wait()
				// A private fetch is in no table: any purge or ForgetNegative counts.
				noted, drops := row.noted && !passed, row.drops
				w.wantAbsent(keyA, noted)
				if w.Has(keyA) == drops {
					t.Errorf("stored: %t", w.Has(keyA))
				}
			})
		}
	}
}

// TestAddNegativeAfterPurge: AddNegative adds no entry if a purge came after its request to the source.
func TestAddNegativeAfterPurge(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(w *env){
		"nothing": func(*env) {},
		"purge":   func(w *env) { w.Purge(keyA, false) },
		"prefix":  func(w *env) { w.PurgePrefix(Key{Space: 1, Epoch: 1}, true) },
		"space":   func(w *env) { w.PurgeSpace(1, 1) },
		"forget":  func(w *env) { w.ForgetNegative(1) },
	} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			w.hitForPass.mark(keyA)
			before := w.Generation(keyA)
			w.AddNegative(keyA, gone, before)
			w.wantAbsent(keyA, true)
			do(w)
			w.wantAbsent(keyA, name == "nothing")
			w.AddNegative(keyA, gone, before)
			w.wantAbsent(keyA, name == "nothing")
			w.AddNegative(keyA, gone, w.Generation(keyA))
			w.wantAbsent(keyA, true)
		})
	}
}

// TestAddNegativeDuringFetch: a fetched object has no negative entry, whatever others found
// while it was on its way.
func TestAddNegativeDuringFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		for _, src := range []Source{{Meta: 1, Fresh: time.Second}, {Meta: 2, Fresh: time.Second, Same: true}, {Meta: 3}} {
			gate := make(chan struct{})
			a := w.start(t.Context(), keyA, gated(gate, w.like(keyA, 10, src)))
			synctest.Wait()
			w.AddNegative(keyA, gone, w.Generation(keyA))
			close(gate)
			if got := <-a; got.err != nil {
				t.Error(got.err)
			}
			w.wantAbsent(keyA, false)
			elapse(time.Second)
		}
	})
}

var strangers = flag.Int("cache.strangers", 50_000, "random keys that TestNegativeIsBounded asks for")

// TestNegativeIsBounded: requests for a million random keys evict no picture, and their
// negative entries stay within a budget of their own.
func TestNegativeIsBounded(t *testing.T) {
	t.Parallel()
	w := newEnv(t, Config{Memory: 8 << 20, ObjectMax: 1 << 20})
	keys := w.fill(1000, time.Hour)
	before := w.Stats()
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range *strangers {
		key := Key{Space: 1, Object: strconv.FormatUint(rnd.Uint64(), 16)}
		if i%1000 == 0 {
			w.all(t.Context(), key, w.failing(gone))
		} else {
			w.AddNegative(key, gone, w.Generation(key))
		}
		if st := w.NegativeStats(); st.Bytes > st.Capacity || st.Bytes < 0 {
			t.Fatalf("%+v", st)
		}
	}
	if st := w.NegativeStats(); st.Capacity != negativeMax || st.Bytes < negativeMax/2 || st.Entries < 1000 {
		t.Errorf("%+v, want it full", st)
	}
	if st := w.Stats(); st.Bytes != before.Bytes || st.Entries != before.Entries {
		t.Errorf("%+v, want %+v as before", st, before)
	}
	for _, key := range keys {
		w.wantEntry(key, true)
	}
	if n := len(w.spaces); n > len(keys) {
		t.Errorf("%d spaces for %d", n, len(keys))
	}
}

// TestNegativeIsCounted compares the cost of a negative entry with the heap.
func TestNegativeIsCounted(t *testing.T) { //nolint:paralleltest // others would be measured
	const count = 5000
	w := newEnv(t, roomy)
	before := heap()
	for i := range count {
		err := fmt.Errorf("object %d is not there: %w", i, errBoom)
		w.AddNegative(Key{Space: 1, Object: fmt.Sprintf("website-images/2024/some-picture-%06d.jpg", i)}, &NotFound{Err: err, For: time.Hour}, w.Generation(Key{Space: 1}))
	}
	st := w.NegativeStats()
	if grown := heap() - before; st.Entries != count || grown > st.Bytes {
		t.Errorf("%d entries, the heap grew by %d; counted %d", st.Entries, grown, st.Bytes)
	}
}

// TestNoMemoryForMissing: a cache without memory notes nothing.
func TestNoMemoryForMissing(t *testing.T) {
	t.Parallel()
	w := newEnv(t, Config{})
	w.AddNegative(keyA, gone, w.Generation(keyA))
	w.wantAbsent(keyA, false)
}

// TestNotFoundLate: a private fetch that was told that there is no object says nothing of
// one that was stored, or is being fetched, since it began.
func TestNotFoundLate(t *testing.T) {
	t.Parallel()
	for name, complete := range map[string]bool{"stored": true, "under way": false} {
		bubble(t, name, func(t *testing.T) {
			w, f, gate := newEnv(t, roomy), newFeed(), make(chan struct{})
			w.hitForPass.mark(keyA)
			late := w.start(t.Context(), keyA, gated(gate, w.failing(gone)))
			synctest.Wait()
			w.hitForPass.unmark(keyA)
			a := w.start(t.Context(), keyA, f.load(w, 10, time.Hour))
			synctest.Wait()
			if complete {
				f.give(content(keyA, 10), io.EOF)
				(<-a).want(t, keyA, 10, Miss)
			}
			close(gate)
			if got := <-late; !errors.Is(got.err, errBoom) {
				t.Errorf("got %v, want its own answer", got.err)
			}
			w.wantAbsent(keyA, false)
			if !complete {
				f.give(content(keyA, 10), io.EOF)
				(<-a).want(t, keyA, 10, Miss)
			}
			w.all(t.Context(), keyA, w.forbidden).want(t, keyA, 10, Hit)
		})
	}
}
