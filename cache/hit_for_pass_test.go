package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestHitForPass: an object that could not be shared is fetched for each request for a
// minute, and no request waits for another.
func TestHitForPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.goodFor(keyA, 10, 0))
		gate := make(chan struct{})
		load := func(ctx context.Context, old *Entry) (*Source, error) {
			w.loads.Add(1)
			<-gate
			return w.goodFor(keyA, 10, 0)(ctx, old)
		}
		two := func() int64 {
			before := w.loads.Load()
			a, b := w.start(t.Context(), keyA, load), w.start(t.Context(), keyA, load)
			synctest.Wait()
			n := w.loads.Load() - before
			close(gate)
			(<-a).want(t, keyA, 10, Miss)
			(<-b).want(t, keyA, 10, Miss)
			gate = make(chan struct{})
			return n
		}
		if n := two(); n != 2 {
			t.Errorf("%d loads at once, want 2", n)
		}
		elapse(hitForPassTTL - 1)
		if n := two(); n != 2 {
			t.Errorf("%d loads at once before the minute is over, want 2", n)
		}
		elapse(1)
		if n := two(); n != 1 {
			t.Errorf("%d loads at once after a minute, want one fetch", n)
		}
		if n := two(); n != 2 {
			t.Errorf("%d loads at once when marked again, want 2", n)
		}
	})
}

// TestHitForPassEnds: an object that has become worth sharing is shared again, from
// the second request on.
func TestHitForPassEnds(t *testing.T) {
	t.Parallel()
	w := newEnv(t, roomy)
	w.all(t.Context(), keyA, w.goodFor(keyA, 10, 0))
	got := w.all(t.Context(), keyA, w.good(keyA, 10))
	got.want(t, keyA, 10, Miss)
	if got.r.Stores {
		t.Error("Stores is set for a private stream")
	}
	w.wantEntry(keyA, false)
	w.all(t.Context(), keyA, w.good(keyA, 10)).want(t, keyA, 10, Miss)
	w.wantEntry(keyA, true)
}

// TestHitForPassFails: a private fetch handles bad loads as a shared one does.
func TestHitForPassFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.goodFor(keyA, 10, 0))
		panics := func(context.Context, *Entry) (*Source, error) { panic("load panics") }
		if got := w.all(t.Context(), keyA, panics); !isError(got.err, &PanicError{}) {
			t.Errorf("got %v, want PanicError", got.err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		var ended func() error
		deaf := func(c context.Context, old *Entry) (*Source, error) {
			ended = c.Err
			cancel(errBoom)
			<-c.Done()
			return w.good(keyA, 10)(c, old)
		}
		if got := w.all(ctx, keyA, deaf); !errors.Is(got.err, errBoom) {
			t.Errorf("got %v, want the cause of the request's end", got.err)
		}
		if ended() == nil {
			t.Error("the load's context did not end with the request")
		}
		if got := w.all(ctx, keyA, w.forbidden); !errors.Is(got.err, errBoom) {
			t.Errorf("got %v from a request that is over", got.err)
		}
		// The request's end is none of the stream's business once it has begun.
		late, stop := context.WithCancel(t.Context())
		r, err := w.Get(late, keyA, w.goodFor(keyA, 10, 0))
		if err != nil {
			t.Fatal(err)
		}
		stop()
		synctest.Wait()
		data, err := readAll(r, 0)
		result{r, data, err}.want(t, keyA, 10, Miss)
		r.Close()
	})
}

// TestHitForPassExits: a load that ends its goroutine, and with it the request's, leaves
// nothing behind.
func TestHitForPassExits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		elapse(time.Minute)
		w.hitForPass.mark(keyA)
		var ended func() error
		w.start(t.Context(), keyA, func(ctx context.Context, _ *Entry) (*Source, error) {
			ended = ctx.Err
			runtime.Goexit()
			return nil, errBoom
		})
		if synctest.Wait(); ended() == nil {
			t.Error("the load's context has not ended")
		}
	})
}

func TestHitForPassIsBounded(t *testing.T) {
	t.Parallel()
	p := newHitForPass()
	for i := range hitForPassMax + 100 {
		p.mark(Key{Object: fmt.Sprint(i)})
	}
	if n := p.lru.Len(); n != hitForPassMax {
		t.Errorf("%d marks, want %d", n, hitForPassMax)
	}
	if p.marked(Key{Object: "0"}) || !p.marked(Key{Object: fmt.Sprint(hitForPassMax)}) {
		t.Error("not the oldest mark was dropped")
	}
}
