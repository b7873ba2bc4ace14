package cache

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// TestRevalidated: a confirmed object gets new metadata and times, and keeps its bytes, for
// every waiter.
func TestRevalidated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		before := w.Stats()
		elapse(time.Minute)
		src := strict.asSame(2)
		src.Age, src.Fresh = 10*time.Second, time.Hour
		load := gated(gate, w.like(keyA, 10, src))
		a := w.start(t.Context(), keyA, load)
		synctest.Wait()
		b := w.start(t.Context(), keyA, w.forbidden)
		synctest.Wait()
		close(gate)
		stored := time.Now().Add(-src.Age)
		for c, status := range map[<-chan result]Status{a: Revalidated, b: Collapsed} {
			got := <-c
			got.want(t, keyA, 10, status)
			got.wantMeta(t, 2, status)
			if r := got.r; !r.Stored.Equal(stored) || !r.Expires.Equal(stored.Add(time.Hour)) || !r.Stale || !r.Stores {
				t.Errorf("got %+v, want it stored %v for an hour", r, stored)
			}
		}
		synctest.Wait()
		if st := w.Stats(); st != before {
			t.Errorf("%+v held, want %+v as before", st, before)
		}
		e, ok := w.Hit(keyA, time.Now())
		if !ok || e.Meta != 2 || !e.Expires.Equal(stored.Add(time.Hour)) {
			t.Fatalf("entry %+v, want it renewed", e)
		}
		e.Release()
		elapse(time.Hour - 10*time.Second - 1)
		w.wantEntry(keyA, true)
		elapse(1)
		w.wantEntry(keyA, false)
	})
}

// TestRevalidatedPast is the same for a key that is passed by.
func TestRevalidatedPast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		elapse(time.Minute)
		w.hitForPass.mark(keyA)
		got := w.all(t.Context(), keyA, w.like(keyA, 10, strict.asSame(2)))
		got.want(t, keyA, 10, Revalidated)
		got.wantMeta(t, 2, Revalidated)
		w.wantEntry(keyA, true)
	})
}

// TestSameAsNothing: Same without a stored entry is an error, and a body that comes with
// Same is closed.
func TestSameAsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		nothing := func(context.Context, *Entry) (*Source, error) {
			src := w.source(nil, 0, time.Hour)
			src.Same = true
			return src, nil
		}
		if got := w.all(t.Context(), keyA, nothing); !errors.Is(got.err, errNoStored) {
			t.Errorf("got %v, want errNoStored", got.err)
		}
		w.hitForPass.mark(keyA)
		if got := w.all(t.Context(), keyA, nothing); !errors.Is(got.err, errNoStored) {
			t.Errorf("got %v past the cache, want errNoStored", got.err)
		}
		if n := w.closed.Load(); n != 2 {
			t.Errorf("%d bodies closed, want 2", n)
		}
	})
}

// TestRevalidatedWhileEvicted: the entry goes while it is asked about. Who waits
// gets its bytes, and they are not counted twice or too long.
func TestRevalidatedWhileEvicted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		elapse(time.Minute)
		a := w.start(t.Context(), keyA, gated(gate, w.like(keyA, 10, strict.asSame(2))))
		synctest.Wait()
		w.dropEntry(keyA)
		close(gate)
		got := <-a
		got.want(t, keyA, 10, Revalidated)
		if got.r.Stores {
			t.Error("Stores is set")
		}
		synctest.Wait()
		if st := w.Stats(); st.Bytes != 0 {
			t.Errorf("%d bytes held, want 0", st.Bytes)
		}
	})
}

// always is stored, and asked about at each use.
var always = Source{Meta: 1, Validate: true}

// TestValidate: each request asks the source itself, and no answer serves two requests.
func TestValidate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		got := w.all(t.Context(), keyA, w.like(keyA, 10, always))
		got.want(t, keyA, 10, Miss)
		if !got.r.Stores || w.Bypasses(keyA) {
			t.Error("not stored, or passed by")
		}
		w.wantEntry(keyA, false)
		w.all(t.Context(), keyA, w.like(keyA, 10, always.asSame(2))).wantMeta(t, 2, Revalidated)
		w.wantLoads(2)
		gate := make(chan struct{})
		var waiting []<-chan result
		for range 5 {
			waiting = append(waiting, w.start(t.Context(), keyA, gated(gate, w.like(keyA, 10, always.asSame(3)))))
		}
		synctest.Wait()
		close(gate)
		others := 0
		for _, c := range waiting {
			got := <-c
			if got.err == nil && got.r.Status == Collapsed { // a waiter that did not start the fetch may take it
				others++
				got.r.Status = Revalidated
			}
			got.want(t, keyA, 10, Revalidated)
			got.wantMeta(t, 3, Revalidated)
		}
		if w.wantLoads(5); others > 1 {
			t.Errorf("one answer was given to %d", others)
		}
		w.all(t.Context(), keyA, w.like(keyA, 20, always.as(4))).want(t, keyA, 20, Miss)
		w.all(t.Context(), keyA, w.like(keyA, 10, always.asSame(5))).want(t, keyA, 20, Revalidated)
		if st := w.Stats(); st.Entries != 1 {
			t.Errorf("%d entries, want 1", st.Entries)
		}
	})
}

// TestValidateWhileFilling: a request that comes while the object of another one is being
// filled fetches privately. It does not replace that fetch, which makes the entry.
func TestValidateWhileFilling(t *testing.T) {
	t.Parallel()
	for name, leaves := range map[string]bool{"followed": false, "left": true} {
		bubble(t, name, func(t *testing.T) {
			w, f := newEnv(t, roomy), newFeed()
			load := func(ctx context.Context, old *Entry) (*Source, error) {
				src, err := f.load(w, 10, 0)(ctx, old)
				src.Meta, src.Validate = 1, true
				return src, err
			}
			r, err := w.Get(t.Context(), keyA, load)
			if err != nil || r.Exclusive() {
				t.Fatalf("got %+v, %v; want the object that will be stored", r, err)
			}
			if leaves {
				r.Close()
			}
			w.all(t.Context(), keyA, w.like(keyA, 10, always.as(2))).wantMeta(t, 2, Miss)
			if len(w.fetches) != 1 || w.Has(keyA) {
				t.Errorf("%d fetches, stored: %t; want the first one, filling", len(w.fetches), w.Has(keyA))
			}
			f.give(content(keyA, 10), io.EOF)
			if !leaves {
				data, err := readAll(r, 0)
				result{r, data, err}.want(t, keyA, 10, Miss)
				r.Close()
			}
			synctest.Wait()
			w.all(t.Context(), keyA, w.like(keyA, 10, always.asSame(3))).wantMeta(t, 3, Revalidated)
			w.wantLoads(3)
		})
	}
}

// TestBare: a request for metadata gets it from a fetch whose bytes belong to another
// request, and does not fetch.
func TestBare(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		stored bool
		src    Source
	}{
		"exclusive":  {false, Source{Meta: 2}},
		"to be kept": {false, always.as(2)},
		"confirmed":  {true, always.asSame(2)},
	} {
		bubble(t, name, func(t *testing.T) {
			w, gate := newEnv(t, roomy), make(chan struct{})
			if row.stored {
				w.all(t.Context(), keyA, w.like(keyA, 1000, always))
			}
			a := w.start(t.Context(), keyA, gated(gate, w.like(keyA, 1000, row.src)))
			synctest.Wait()
			s, err := w.join(keyA, w.forbidden)
			if err != nil {
				t.Fatal(err)
			}
			close(gate)
			if got := <-a; got.err != nil {
				t.Error(got.err)
			}
			b, err := s.wait(t.Context(), w.forbidden, true)
			if err != nil || !b.NoBody || b.Meta != 2 || b.Size != 1000 || b.Status != Collapsed || b.Exclusive() {
				t.Fatalf("got %+v, %v; want 2 without bytes", b, err)
			}
			if _, whole := b.Complete(); whole {
				t.Error("a bare reader has the whole body")
			}
			if _, err := b.Next(0); !errors.Is(err, errBare) {
				t.Errorf("Next got %v, want errBare", err)
			}
			b.KeepFetching()
			b.Close()
		})
	}
}
