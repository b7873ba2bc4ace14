package cache

import (
	"testing"
)

// TestReserve: a reservation is counted, evicts entries, and takes at most an eighth of
// the budget.
func TestReserve(t *testing.T) {
	t.Parallel()
	w := newEnv(t, Config{Memory: 32 << 20, ObjectMax: 32 << 20})
	eighth := w.memory.held.limit / 8
	if w.Reserve(eighth + 1) {
		t.Error("more than an eighth is reserved")
	}
	if !w.Reserve(eighth-1) || w.Reserve(2) || !w.Reserve(1) {
		t.Error("not exactly an eighth can be reserved")
	}
	if got := w.Stats(); got.Bytes != eighth || got.Entries != 0 {
		t.Errorf("%+v, want an eighth held and no entry", got)
	}
	w.Unreserve(1)
	w.Unreserve(eighth - 1)
	w.all(t.Context(), keyA, w.good(keyA, 30<<20))
	w.wantEntry(keyA, true)
	if !w.Reserve(eighth) {
		t.Error("nothing is reserved though an entry can be evicted")
	}
	w.wantEntry(keyA, false)
	w.Unreserve(eighth)
}

// TestReserveNoRoom: a reservation does not evict entries in use, and a failed one reserves
// nothing.
func TestReserveNoRoom(t *testing.T) {
	t.Parallel()
	w := newEnv(t, Config{Memory: 32 << 20, ObjectMax: 32 << 20})
	r, err := w.Get(t.Context(), keyA, w.good(keyA, 31<<20))
	if err != nil {
		t.Fatal(err)
	}
	held := w.Stats().Bytes
	for range 10 { // each could use up the eighth
		if w.Reserve(2 << 20) {
			t.Fatal("reserved memory that a reader retains")
		}
	}
	if got := w.Stats().Bytes; got != held {
		t.Errorf("%d bytes held, want %d", got, held)
	}
	if err := readAs(r, content(keyA, 31<<20)); err != nil {
		t.Error(err)
	}
	r.Close()
	if !w.Reserve(2 << 20) {
		t.Error("nothing is reserved after the reader has gone")
	}
	w.Unreserve(2 << 20)
}

// TestGeneration: everything that invalidates raises it, and nothing else does.
func TestGeneration(t *testing.T) {
	t.Parallel()
	w := newEnv(t, roomy)
	w.all(t.Context(), keyA, w.good(keyA, 10))
	w.all(t.Context(), keyB, w.failing(gone))
	before := w.Generation(keyA)
	if w.wantEntry(keyA, true); w.Generation(keyA) != before || before != 0 {
		t.Errorf("generation %d, then %d, without a purge", before, w.Generation(keyA))
	}
	for name, do := range map[string]func(){
		"key":    func() { w.Purge(keyA, false) },
		"hard":   func() { w.Purge(keyA, true) },
		"prefix": func() { w.PurgePrefix(Key{Space: 1, Epoch: 1}, false) },
		"space":  func() { w.PurgeSpace(1, 1) },
		"retire": func() { w.Retire(1, 1) },
		"forget": func() { w.ForgetNegative(1) },
	} {
		before := w.Generation(keyA)
		if do(); w.Generation(keyA) <= before {
			t.Errorf("%s: generation %d before and %d after", name, before, w.Generation(keyA))
		}
	}
}

// TestGenerationOfSpace: an invalidation in another space or epoch does not change the
// generation and does not prevent AddNegative.
func TestGenerationOfSpace(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(w *env){
		"key":        func(w *env) { w.Purge(Key{Space: 2, Epoch: 1, Object: keyA.Object}, true) },
		"prefix":     func(w *env) { w.PurgePrefix(Key{Space: 2, Epoch: 1}, false) },
		"space":      func(w *env) { w.PurgeSpace(2, 1) },
		"epoch":      func(w *env) { w.Retire(1, 2) },
		"revalidate": func(w *env) { w.Revalidate(2, 1, 0) },
		"forget":     func(w *env) { w.ForgetNegative(2) },
	} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			for _, key := range []Key{{Space: 2, Epoch: 1, Object: "c.jpg"}, {Space: 1, Epoch: 2, Object: "c.jpg"}} {
				w.all(t.Context(), key, w.good(key, 10))
			}
			before := w.Generation(keyA)
			do(w)
			if after := w.Generation(keyA); after != before {
				t.Errorf("generation %d before and %d after", before, after)
			}
			w.AddNegative(keyA, gone, before)
			w.wantAbsent(keyA, true)
		})
	}
	t.Run("made again", func(t *testing.T) { // nothing from before counts
		t.Parallel()
		w := newEnv(t, roomy)
		before := w.Generation(keyA)
		w.Retire(keyA.Space, keyA.Epoch)
		retired := w.Generation(keyA)
		w.Forget(keyA.Space, AllEpochs)
		w.ForgetNegative(keyA.Space)
		if after := w.Generation(keyA); before >= retired || retired >= after {
			t.Errorf("generations %d, %d and %d, want each above the one before", before, retired, after)
		}
	})
}
