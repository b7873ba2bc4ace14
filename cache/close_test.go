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

// TestClose ends whatever is under way, and nothing begins after it.
func TestClose(t *testing.T) {
	t.Parallel()
	feeding := func(fresh time.Duration, data []byte) func(*env) Load {
		return func(w *env) Load {
			return func(ctx context.Context, old *Entry) (*Source, error) {
				f := newFeed()
				f.give(data, nil)
				return f.load(w, 10, fresh)(ctx, old)
			}
		}
	}
	rows := map[string]func(w *env) Load{
		"in load": func(*env) Load {
			return func(ctx context.Context, _ *Entry) (*Source, error) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
		},
		"in a load that does not notice": func(w *env) Load {
			return func(ctx context.Context, old *Entry) (*Source, error) {
				<-ctx.Done()
				return w.good(keyA, 10)(ctx, old)
			}
		},
		"filling":          feeding(time.Hour, ten[:5]),
		"before the check": feeding(time.Hour, ten),
		"exclusive":        feeding(0, ten[:5]),
	}
	for name, load := range rows {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			var waiting []<-chan result
			for range 3 {
				waiting = append(waiting, w.start(t.Context(), keyA, load(w)))
			}
			synctest.Wait()
			w.Close()
			for _, c := range waiting {
				if got := <-c; !errors.Is(got.err, ErrClosed) {
					t.Errorf("got %q, %v; want ErrClosed", got.data, got.err)
				}
			}
			w.wantEntry(keyA, false)
			if got := w.all(t.Context(), keyA, w.forbidden); !errors.Is(got.err, ErrClosed) {
				t.Errorf("Get after Close: %v, want ErrClosed", got.err)
			}
			w.Close() // again
		})
	}
}

// TestCloseWaitsForJoin stops a request between its look at whether the cache is
// closed and its start of a fetch: Close must wait for that fetch, too.
func TestCloseWaitsForJoin(t *testing.T) {
	t.Parallel()
	w, running, gate := newEnv(t, roomy), make(chan struct{}), make(chan struct{})
	shard := w.memory.of(keyA)
	shard.mu.Lock() // join looks into the shard meanwhile
	got := w.start(t.Context(), keyA, func(ctx context.Context, _ *Entry) (*Source, error) {
		close(running)
		<-gate
		<-ctx.Done() // Close may not have begun yet
		return nil, context.Cause(ctx)
	})
	for w.mu.TryLock() {
		w.mu.Unlock()
		runtime.Gosched()
	}
	closed := make(chan struct{})
	go func() {
		w.Close()
		close(closed)
	}()
	for range 1000 { // as long as it takes Close to get where it has to wait
		runtime.Gosched()
	}
	shard.mu.Unlock()
	<-running
	for range 1000 {
		runtime.Gosched()
	}
	select {
	case <-closed:
		t.Error("Close returned while a load was running")
	default:
	}
	close(gate)
	<-closed
	if res := <-got; !errors.Is(res.err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", res.err)
	}
}

// TestCloseKeepsReaders: Close does not affect the reader of a complete object, and a
// hit-for-pass key is refused like any other.
func TestCloseKeepsReaders(t *testing.T) {
	t.Parallel()
	w := newEnv(t, roomy)
	w.all(t.Context(), keyA, w.good(keyA, 10))
	w.all(t.Context(), keyB, w.goodFor(keyB, 10, 0))
	r, err := w.Get(t.Context(), keyA, w.forbidden)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	data, err := readAll(r, 0)
	result{r, data, err}.want(t, keyA, 10, Hit)
	r.Close()
	if got := w.all(t.Context(), keyB, w.forbidden); !errors.Is(got.err, ErrClosed) {
		t.Errorf("hit-for-pass after Close: %v, want ErrClosed", got.err)
	}
}

// TestReaderCloseMeanwhile: Close comes while Next waits.
func TestReaderCloseMeanwhile(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for name, fresh := range map[string]time.Duration{"shared": time.Hour, "exclusive": 0} {
		bubble(t, name, func(t *testing.T) {
			w, f := newEnv(t, roomy), newFeed()
			r, err := w.Get(t.Context(), keyA, f.load(w, size, fresh))
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error)
			go func() {
				_, err := r.Next(0)
				ended <- err
			}()
			synctest.Wait()
			r.Close()
			if err := <-ended; !errors.Is(err, ErrReaderClosed) {
				t.Errorf("Next got %v, want ErrReaderClosed", err)
			}
			synctest.Wait()
			if f.ctx.Err() == nil {
				t.Error("the fetch continues without readers")
			}
		})
	}
}

// TestReaderCloseOneOfTwo: the first reader to close does not end the other one's fetch.
func TestReaderCloseOneOfTwo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		w, f := newEnv(t, roomy), newFeed()
		a, err := w.Get(t.Context(), keyA, f.load(w, size, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		b := w.start(t.Context(), keyA, w.forbidden)
		synctest.Wait()
		a.Close()
		f.give(content(keyA, size), io.EOF)
		(<-b).want(t, keyA, size, Collapsed)
	})
}
