package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// bubble runs a test in a bubble of its own, in which time is faked and synctest.Wait
// returns when every goroutine is blocked.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, test)
	})
}

// TestSecondLook forces the sequence of the comment on fetch: B finds no entry, the
// fetch commits, and only then B takes the lock.
func TestSecondLook(t *testing.T) {
	t.Parallel()
	w := newEnv(t, roomy)
	if _, ok := w.Hit(keyA, time.Now()); ok { // B, suspended from here on
		t.Fatal("hit in an empty cache")
	}
	w.all(t.Context(), keyA, w.good(keyA, 100)).want(t, keyA, 100, Miss) // A
	w.all(t.Context(), keyA, w.forbidden).want(t, keyA, 100, Hit)        // B again
	if n := w.Stats().Entries; n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
}

// TestCommitOrder stops a fetch while it commits: B must find the fetch before
// its entry is visible, and both never be gone.
func TestCommitOrder(t *testing.T) {
	t.Parallel()
	bubble(t, "between", func(t *testing.T) {
		w, f, gate := newEnv(t, roomy), newFeed(), make(chan struct{})
		w.all(t.Context(), keyA, w.goodFor(keyA, 10, time.Second))
		elapse(time.Second)
		// The expired entry is taken out just before the new one goes in.
		w.rec.hook = func(string) { <-gate }
		a := w.start(t.Context(), keyA, f.load(w, 10, time.Hour))
		f.give(content(keyA, 10), io.EOF)
		synctest.Wait()
		b := w.start(t.Context(), keyA, w.forbidden)
		c, cancel := context.WithCancel(t.Context())
		left := w.start(c, keyA, w.forbidden)
		synctest.Wait()
		w.wantEntry(keyA, false)
		cancel() // leaving a committing fetch changes nothing
		synctest.Wait()

		w.mu.Lock() // from here on F can neither put its entry nor go
		close(gate)
		for range 1000 {
			runtime.Gosched()
			if e := w.memory.hit(keyA, time.Now()); e != nil {
				e.Release()
				t.Fatal("the entry is visible while the fetch is there")
			}
			if w.fetches[keyA] == nil {
				t.Fatal("the fetch went before its entry was visible")
			}
		}
		if w.fetches[keyA].body.sealed.Load() {
			t.Error("the last byte came before the fetch had gone")
		}
		w.mu.Unlock()
		(<-a).want(t, keyA, 10, Miss)
		(<-b).want(t, keyA, 10, Collapsed)
		(<-left).want(t, keyA, 10, Collapsed)
		w.all(t.Context(), keyA, w.forbidden).want(t, keyA, 10, Hit)
	})
	bubble(t, "last byte", func(t *testing.T) {
		w := newEnv(t, roomy)
		for range 100 {
			key := Key{Space: w.loads.Load(), Object: "x"}
			r, err := w.Get(t.Context(), key, w.good(key, 10))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := readAll(r, 0); err != nil {
				t.Fatal(err)
			}
			// A reader with the last byte finds an entry and no fetch.
			w.mu.Lock()
			if w.fetches[key] != nil {
				t.Error("the last byte came before the fetch had gone")
			}
			w.mu.Unlock()
			w.wantEntry(key, true)
			r.Close()
		}
	})
}

// TestWaiterRetainsBody forces the sequence of the comment on fetch: the entry is evicted
// before the waiter wakes up, and the body still counts.
func TestWaiterRetainsBody(t *testing.T) {
	t.Parallel()
	const size = 1000
	whenTaken := map[string]func(w *env, f *feed) (waiter, error){
		"before resolve": func(w *env, f *feed) (waiter, error) {
			return w.join(keyA, f.load(w, size, time.Hour))
		},
		"after resolve": func(w *env, f *feed) (waiter, error) {
			first, _ := w.join(keyA, f.load(w, size, time.Hour))
			synctest.Wait()
			s, err := w.join(keyA, w.forbidden)
			first.giveUp()
			return s, err
		},
	}
	for name, take := range whenTaken {
		bubble(t, name, func(t *testing.T) {
			w, f := newEnv(t, roomy), newFeed()
			s, err := take(w, f)
			if err != nil {
				t.Fatal(err)
			}
			f.give(content(keyA, size), io.EOF)
			synctest.Wait() // landed
			held := w.Stats().Bytes
			w.dropEntry(keyA)
			if got := w.Stats().Bytes; got != held || held < size {
				t.Errorf("%d bytes held, want %d still", got, held)
			}
			r, err := s.wait(t.Context(), nil, false)
			if err != nil {
				t.Fatal(err)
			}
			data, err := readAll(r, 0)
			result{r, data, err}.want(t, keyA, size, r.Status)
			r.Close()
			r.Close()
			if got := w.Stats().Bytes; got != 0 {
				t.Errorf("%d bytes held in the end, want 0", got)
			}
		})
	}
}

// dropEntry takes the entry of key out, as eviction does, but in use or not.
func (w *env) dropEntry(key Key) {
	s := w.memory.of(key)
	s.mu.Lock()
	e := s.entries[key]
	s.removeLocked(e)
	s.mu.Unlock()
	w.memory.evicted(e, reasonCapacity)
}

// TestLeaderLeaves: the first client may leave without effect on the others,
// neither before nor after the metadata came.
func TestLeaderLeaves(t *testing.T) {
	t.Parallel()
	const size = 3 << 20
	bubble(t, "before resolve", func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		ctx, cancel := context.WithCancelCause(t.Context())
		leader := w.start(ctx, keyA, func(ctx context.Context, old *Entry) (*Source, error) {
			select {
			case <-gate:
				return w.good(keyA, size)(ctx, old)
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		})
		synctest.Wait()
		follower := w.start(t.Context(), keyA, w.forbidden)
		synctest.Wait()
		cancel(errBoom)
		if got := <-leader; !errors.Is(got.err, errBoom) {
			t.Errorf("the leader got %v, want the cause of its end", got.err)
		}
		close(gate)
		(<-follower).want(t, keyA, size, Collapsed)
		w.wantEntry(keyA, true)
	})
	bubble(t, "while it fills", func(t *testing.T) {
		w, f, body := newEnv(t, roomy), newFeed(), content(keyA, size)
		leader, err := w.Get(t.Context(), keyA, f.load(w, size, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		follower := w.start(t.Context(), keyA, w.forbidden)
		synctest.Wait()
		f.give(body[:size/10], nil)
		synctest.Wait()
		leader.Close()
		f.give(body[size/10:], io.EOF)
		(<-follower).want(t, keyA, size, Collapsed)
		w.wantEntry(keyA, true)
	})
}

// TestSlowReader: neither the fetch nor a fast reader waits for a slow one.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		w, f, body := newEnv(t, roomy), newFeed(), content(keyA, size)
		slow, err := w.Get(t.Context(), keyA, f.load(w, size, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		f.give(body[:10], nil)
		if p, err := slow.Next(0); len(p) != 10 || err != nil {
			t.Fatalf("Next = %d bytes, %v; want the published bytes", len(p), err)
		}
		fast := w.start(t.Context(), keyA, w.forbidden)
		synctest.Wait()
		f.give(body[10:], io.EOF)
		(<-fast).want(t, keyA, size, Collapsed)
		w.wantEntry(keyA, true)
		data, err := readAll(slow, 10)
		result{slow, append(body[:10:10], data...), err}.want(t, keyA, size, Miss)
	})
}

// TestThousandsOnOneColdKey: one load, and the same bytes for all.
func TestThousandsOnOneColdKey(t *testing.T) {
	t.Parallel()
	const readers, size = 5000, 200 << 10
	w, gate, want := newEnv(t, roomy), make(chan struct{}), content(keyA, size)
	load := func(context.Context, *Entry) (*Source, error) {
		w.loads.Add(1)
		<-gate
		return w.source(iotest.HalfReader(bytes.NewReader(want)), size, time.Hour), nil
	}
	got := make(chan error, readers)
	for range readers {
		go func() {
			r, err := w.Get(t.Context(), keyA, load)
			if err == nil {
				err = readAs(r, want)
				r.Close()
			}
			got <- err
		}()
	}
	close(gate)
	for range readers {
		if err := <-got; err != nil {
			t.Fatal(err)
		}
	}
	if n := w.loads.Load(); n != 1 {
		t.Errorf("%d loads, want 1", n)
	}
}
