package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// loadDeaf is a load that does not notice the end of its context; it tells the
// cause of it in the end.
func (w *env) loadDeaf(gate <-chan struct{}, src func() *Source, cause *error) Load {
	return func(ctx context.Context, _ *Entry) (*Source, error) {
		w.loads.Add(1)
		<-gate
		*cause = context.Cause(ctx)
		return src(), nil
	}
}

// TestAbandonWhileLoading: without waiters, the load is cancelled. An object that it
// returns nevertheless is closed and not stored, and does not affect the fetch that
// has started since.
func TestAbandonWhileLoading(t *testing.T) {
	t.Parallel()
	for name, fresh := range map[string]time.Duration{"shared": time.Hour, "exclusive": 0} {
		bubble(t, name, func(t *testing.T) {
			w, gate := newEnv(t, roomy), make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			var cause error
			old := func() *Source { return w.source(bytes.NewReader(content(keyB, 10)), 10, fresh) }
			a := w.start(ctx, keyA, w.loadDeaf(gate, old, &cause))
			synctest.Wait()
			cancel()
			if got := <-a; !errors.Is(got.err, context.Canceled) {
				t.Errorf("got %v, want Canceled", got.err)
			}
			// B does not join the abandoned fetch.
			w.all(t.Context(), keyA, w.good(keyA, 10)).want(t, keyA, 10, Miss)
			close(gate)
			synctest.Wait()
			if !errors.Is(cause, ErrAbandoned) {
				t.Errorf("the load's context ended with %v, want ErrAbandoned", cause)
			}
			w.all(t.Context(), keyA, w.forbidden).want(t, keyA, 10, Hit)
		})
	}
}

// TestAbandonWhileFilling forces the third sequence of the comment on fetch: a
// fetch that was abandoned completes after its successor has.
func TestAbandonWhileFilling(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]bool{"cancelled": false, "too far on to notice": true} {
		bubble(t, name, func(t *testing.T) {
			const size = 1 << 20
			w, f := newEnv(t, roomy), newFeed()
			f.deaf = deaf
			r, err := w.Get(t.Context(), keyA, f.load(w, size, time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			f.give(content(keyB, size)[:100], nil) // an older version, as it were
			r.Next(0)
			r.Close()
			b := w.start(t.Context(), keyA, w.good(keyA, size))
			(<-b).want(t, keyA, size, Miss)
			f.give(content(keyB, size)[100:], io.EOF)
			synctest.Wait()
			if n := w.closed.Load(); n != 2 {
				t.Errorf("%d bodies closed, want both", n)
			}
			w.all(t.Context(), keyA, w.forbidden).want(t, keyA, size, Hit)
			if n := w.rec.count(reasonReplaced); n != 0 {
				t.Error("the older object replaced the newer one")
			}
		})
	}
}

// TestWorthFinishing: a fetch whose body has mostly arrived is completed for the next
// request, and can be joined while it has no reader.
func TestWorthFinishing(t *testing.T) {
	t.Parallel()
	rows := map[string]struct {
		size, have int
		goesOn     bool
	}{
		"little to come":         {size: 200 << 10, have: 0, goesOn: true},
		"half of it":             {size: 2 << 20, have: 1<<20 + 1, goesOn: true},
		"less than half":         {size: 2 << 20, have: 1<<20 - 1},
		"nothing yet":            {size: 2 << 20, have: 0},
		"just worth finishing":   {size: 256<<10 + 1, have: 1, goesOn: true},
		"just too much to come":  {size: 256<<10 + 1, have: 0},
		"an empty body":          {size: 0, have: 0, goesOn: true},
		"all, but not the check": {size: 2 << 20, have: 2 << 20, goesOn: true},
	}
	for name, row := range rows {
		bubble(t, name, func(t *testing.T) {
			w, f, body := newEnv(t, roomy), newFeed(), content(keyA, int64(row.size))
			r, err := w.Get(t.Context(), keyA, f.load(w, int64(row.size), time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			f.give(body[:row.have], nil)
			synctest.Wait()
			r.Close()
			synctest.Wait()
			if cancelled := f.ctx.Err() != nil; cancelled == row.goesOn {
				t.Fatalf("cancelled: %t", cancelled)
			}
			if !row.goesOn {
				return
			}
			b := w.start(t.Context(), keyA, w.forbidden)
			synctest.Wait()
			f.give(body[row.have:], io.EOF)
			(<-b).want(t, keyA, int64(row.size), Collapsed)
			w.wantEntry(keyA, true)
		})
	}
}

// TestFinish: a reader that wants no bytes has the object fetched all the same,
// where it becomes an entry, and for no longer than idleTimeout.
func TestFinish(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	for name, row := range map[string]struct {
		cfg    Config
		fresh  time.Duration
		late   bool // the bytes come when idleTimeout has passed
		goesOn bool
	}{
		"an entry":                   {cfg: roomy, fresh: time.Hour, goesOn: true},
		"an entry, slowly":           {cfg: roomy, fresh: time.Hour, goesOn: true, late: true},
		"larger than what is stored": {cfg: Config{Memory: 1 << 20, ObjectMax: 8 << 20}, fresh: time.Hour},
		"never stored":               {cfg: roomy},
	} {
		bubble(t, name, func(t *testing.T) {
			w, f, body := newEnv(t, row.cfg), newFeed(), content(keyA, size)
			r, err := w.Get(t.Context(), keyA, f.load(w, size, row.fresh))
			if err != nil {
				t.Fatal(err)
			}
			r.KeepFetching()
			r.Close()
			if synctest.Wait(); (f.ctx.Err() == nil) != row.goesOn {
				t.Fatalf("the fetch goes on: %t", !row.goesOn)
			}
			if !row.goesOn {
				return
			}
			if row.late {
				elapse(idleTimeout)
				synctest.Wait() // until it is abandoned
			}
			f.give(body, io.EOF)
			synctest.Wait()
			w.wantEntry(keyA, !row.late)
		})
	}
}

// TestIdleTimeout: a fetch that is worth finishing has idleTimeout for it. A new waiter stops
// the timer, which starts again when the waiter leaves.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f, body := newEnv(t, roomy), newFeed(), content(keyA, 1000)
		get := func() *Reader {
			t.Helper()
			r, err := w.Get(t.Context(), keyA, f.load(w, 1000, time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		get().Close()
		elapse(idleTimeout - 1)
		r := get()
		elapse(2 * idleTimeout)
		r.Close()
		elapse(idleTimeout - 1)
		f.give(body[:100], nil)
		if synctest.Wait(); f.ctx.Err() != nil || w.loads.Load() != 1 {
			t.Fatalf("abandoned early, or started again: %v, %d loads", f.ctx.Err(), w.loads.Load())
		}
		elapse(1)
		if synctest.Wait(); !errors.Is(context.Cause(f.ctx), ErrAbandoned) {
			t.Error("continues without waiters")
		}
		if n := w.closed.Load(); n != 1 {
			t.Errorf("%d bodies are closed, want 1", n)
		}
		w.wantEntry(keyA, false)

		// One that finishes has nothing to be given up.
		f = newFeed()
		get().Close()
		elapse(idleTimeout / 2)
		f.give(body, io.EOF)
		synctest.Wait()
		w.wantEntry(keyA, true)
		elapse(idleTimeout)
		w.wantEntry(keyA, true)
	})
}

// TestJoinBeforeLastLeaves is the other order of abandon and join.
func TestJoinBeforeLastLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		w, f := newEnv(t, roomy), newFeed()
		a, err := w.Get(t.Context(), keyA, f.load(w, size, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.join(keyA, w.forbidden)
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		a.Close() // once only
		if f.ctx.Err() != nil {
			t.Fatal("cancelled, though B waits")
		}
		b.giveUp()
		if !errors.Is(context.Cause(f.ctx), ErrAbandoned) {
			t.Error("not abandoned by the last")
		}
	})
}

// TestExclusiveTaken: many wait for an object that cannot be shared. One of them
// gets the source, the others fetch for themselves, and nothing is left over.
func TestExclusiveTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		var waiting []<-chan result
		for range 5 {
			waiting = append(waiting, w.start(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
				<-gate
				return w.goodFor(keyA, 10, 0)(ctx, old)
			}))
		}
		synctest.Wait()
		if n := len(w.fetches); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		close(gate)
		for _, c := range waiting {
			(<-c).want(t, keyA, 10, Miss)
		}
		if n := w.loads.Load(); n != 5 {
			t.Errorf("%d loads, want one for each", n)
		}
		w.wantEntry(keyA, false)
	})
}

// TestExclusiveNotTaken: the waiters leave before or after the source has come, and the
// last one closes it.
func TestExclusiveNotTaken(t *testing.T) {
	t.Parallel()
	rows := map[string]func(w *env, a, b waiter, gate chan struct{}) (got *Source){
		"one before, one after": func(_ *env, a, b waiter, gate chan struct{}) *Source {
			a.giveUp()
			close(gate)
			<-b.ready
			b.giveUp()
			return b.source
		},
		"both after": func(_ *env, a, b waiter, gate chan struct{}) *Source {
			close(gate)
			<-b.ready
			b.giveUp()
			a.giveUp()
			return b.source
		},
		"one takes it, then one leaves": func(w *env, a, b waiter, gate chan struct{}) *Source {
			close(gate)
			r, err := b.wait(w.t.Context(), nil, false)
			a.giveUp()
			if _, err := readAll(r, 0); err != nil {
				w.t.Error(err)
			}
			r.Close()
			if err != nil {
				w.t.Error(err)
			}
			return b.source
		},
	}
	for name, do := range rows {
		bubble(t, name, func(t *testing.T) {
			w, gate := newEnv(t, roomy), make(chan struct{})
			var ended func() error
			load := func(c context.Context, old *Entry) (*Source, error) {
				<-gate
				ended = c.Err
				return w.goodFor(keyA, 10, 0)(c, old)
			}
			a, _ := w.join(keyA, load)
			b, _ := w.join(keyA, w.forbidden)
			src := do(w, a, b, gate)
			if src == nil || ended() == nil || w.closed.Load() != 1 {
				t.Errorf("context ended with %v, %d bodies closed; want both ended", ended(), w.closed.Load())
			}
		})
	}
}

// TestOrphanAtResolve: the last one leaves after the load has returned and before
// its outcome is fixed, when it is too late to see that the context has ended.
func TestOrphanAtResolve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, Config{Memory: 100 << 10, ObjectMax: 1 << 20}), make(chan struct{})
		w.memory.held.limit = 100 << 10
		w.all(t.Context(), keyA, w.good(keyA, 1000))
		w.all(t.Context(), keyB, w.good(keyB, 50_000))
		held, _ := w.Hit(keyB, time.Now())
		defer held.Release()
		// There will be no room, but one entry is evicted before that is clear.
		w.rec.hook = func(string) { <-gate }
		last := Key{Object: "c.jpg"}
		s, err := w.join(last, w.good(last, 60_000))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.giveUp()
		close(gate)
		synctest.Wait()
		if n := w.closed.Load(); n != 3 {
			t.Errorf("%d bodies closed, want all 3", n)
		}
	})
}
