package origin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/internal/awstest/s3"
)

func testLimiter(total, perAlias, places int) *limiter {
	return newLimiter(Config{Concurrency: total, AliasConcurrency: perAlias, Queue: places, QueueTimeout: 5 * time.Second})
}

// waiter asks for a slot beside the test and notes when it comes.
type waiter struct {
	release func()
	err     error
	settled chan struct{} // closed when release or err is set
}

func (w *waiter) done() bool {
	select {
	case <-w.settled:
		return true
	default:
		return false
	}
}

func wait(ctx context.Context, l *limiter, alias int64) *waiter {
	return waitInOrder(ctx, l, alias, func() {})
}

// waitInOrder calls first, under the limiter's lock, when the slot is there.
func waitInOrder(ctx context.Context, l *limiter, alias int64, first func()) *waiter {
	w := &waiter{settled: make(chan struct{})}
	go func() {
		defer close(w.settled)
		w.release, w.err = l.acquire(ctx, alias)
		if w.err == nil {
			l.mu.Lock()
			first()
			l.mu.Unlock()
		}
	}()
	synctest.Wait()
	return w
}

// pass lets time go by, inside of synctest in no time at all.
func pass(d time.Duration) { <-time.After(d) }

func wantOverloaded(t *testing.T, err error) {
	t.Helper()
	e := wantOutcome(t, err, OutcomeOverloaded)
	if e.RetryAfter < time.Second || e.RetryAfter > 3*time.Second {
		t.Errorf("RetryAfter is %s", e.RetryAfter)
	}
}

func wantEmpty(t *testing.T, l *limiter) {
	t.Helper()
	if l.active != 0 || l.waiting != 0 || len(l.lanes) != 0 || l.ready.Len() != 0 {
		t.Errorf("left: %d slots, %d waiting, %d lanes, %d ready", l.active, l.waiting, len(l.lanes), l.ready.Len())
	}
}

func TestLimiterOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := testLimiter(1, 1, 100)
		var order []string
		held := wait(t.Context(), l, 1)
		var all []*waiter
		for _, w := range []struct {
			alias int64
			name  string
		}{{1, "a1"}, {1, "a2"}, {1, "a3"}, {2, "b1"}, {2, "b2"}, {3, "c1"}} {
			all = append(all, waitInOrder(t.Context(), l, w.alias, func() { order = append(order, w.name) }))
		}
		held.release()
		for range all {
			synctest.Wait()
			for _, w := range all {
				if w.done() && w.release != nil {
					w.release()
					w.release = nil
				}
			}
		}
		synctest.Wait()
		// First come first served within an alias, turn by turn among them.
		// Alias 1 holds the slot at first, so that its lane joins the line last.
		if got, want := fmt.Sprint(order), "[b1 c1 a1 b2 a2 a3]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		wantEmpty(t, l)
	})
}

// An alias at its limit waits, and the others do not wait with it.
func TestLimiterAliasLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := testLimiter(3, 2, 10)
		a1, a2 := wait(t.Context(), l, 1), wait(t.Context(), l, 1)
		a3 := wait(t.Context(), l, 1)
		if !a1.done() || !a2.done() || a3.done() {
			t.Fatalf("slots of one alias: %t %t %t, want two", a1.done(), a2.done(), a3.done())
		}
		b1 := wait(t.Context(), l, 2)
		b2 := wait(t.Context(), l, 2)
		if !b1.done() || b2.done() {
			t.Fatalf("slots of the other: %t %t, want one", b1.done(), b2.done())
		}
		b1.release()
		synctest.Wait()
		if !b2.done() || a3.done() {
			t.Errorf("a freed slot went to %t %t, want the alias below its limit", b2.done(), a3.done())
		}
		a1.release()
		synctest.Wait()
		if !a3.done() {
			t.Error("a freed slot of the alias did not go to its waiter")
		}
		for _, w := range []*waiter{a2, a3, b2} {
			w.release()
		}
		wantEmpty(t, l)
	})
}

func TestLimiterQueueFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const places = 8
		l := testLimiter(1, 1, places)
		ctx, cancel := context.WithCancel(t.Context())
		held := wait(ctx, l, 1)
		admitted := func(alias int64) (n int) {
			for {
				w := wait(ctx, l, alias)
				if w.done() {
					wantOverloaded(t, w.err)
					return n
				}
				n++
			}
		}
		// One greedy alias gets half, the next half of what is left, and there
		// is a place for a newcomer still.
		got := fmt.Sprint(admitted(1), admitted(2), admitted(3), admitted(4), admitted(5))
		if want := "4 2 1 1 0"; got != want {
			t.Errorf("places given: %s, want %s", got, want)
		}
		cancel()
		synctest.Wait()
		held.release()
		wantEmpty(t, l)
	})
}

func TestLimiterNoQueue(t *testing.T) {
	t.Parallel()
	l := testLimiter(1, 1, 0)
	release, err := l.acquire(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, alias := range []int64{1, 2} {
		_, err := l.acquire(t.Context(), alias)
		wantOverloaded(t, err)
	}
	release()
	wantEmpty(t, l)
}

func TestLimiterQueueTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := testLimiter(1, 1, 10)
		held := wait(t.Context(), l, 1)
		w := wait(t.Context(), l, 1)
		pass(5*time.Second - 1)
		synctest.Wait()
		if w.done() {
			t.Fatal("gave up too early")
		}
		pass(1)
		synctest.Wait()
		if !w.done() {
			t.Fatal("waits on")
		}
		wantOverloaded(t, w.err)
		held.release()
		wantEmpty(t, l)
	})
}

func TestLimiterCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := testLimiter(1, 1, 10)
		held := wait(t.Context(), l, 1)
		ctx, cancel := context.WithCancel(t.Context())
		gone := wait(ctx, l, 1)
		next := wait(t.Context(), l, 2)
		cancel()
		synctest.Wait()
		if !errors.Is(gone.err, context.Canceled) {
			t.Errorf("got %v", gone.err)
		}
		held.release()
		synctest.Wait()
		if !next.done() {
			t.Fatal("the slot was lost with the waiter that left")
		}
		next.release()
		if _, err := l.acquire(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled call got %v", err)
		}
		wantEmpty(t, l)
	})
}

// The grant and the leaving fall together, in either order; the slot is never
// lost. Event sequence: holder H, waiter W; H releases and W's ctx ends in the
// same instant.
func TestLimiterGrantMeetsCancel(t *testing.T) {
	t.Parallel()
	for range 500 {
		l := testLimiter(1, 1, 1)
		release, err := l.acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if release, err := l.acquire(ctx, 1); err == nil {
				release()
			}
		})
		wg.Go(release)
		wg.Go(cancel)
		wg.Wait()
		wantEmpty(t, l)
	}
}

// Random callers: never more slots out than allowed, in all or to one alias;
// everyone is answered; nothing is left.
func TestLimiterInvariants(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			total := 1 + rnd.IntN(6)
			l := testLimiter(total, 1+rnd.IntN(total), rnd.IntN(20))
			var mu sync.Mutex
			holding := map[int64]int{}
			all := 0
			var wg sync.WaitGroup
			for range 300 {
				alias := rnd.Int64N(5)
				start, patience, hold := rnd.IntN(1000), 1+rnd.IntN(2000), rnd.IntN(50)
				wg.Go(func() {
					pass(time.Duration(start) * time.Millisecond)
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(patience)*time.Millisecond)
					defer cancel()
					release, err := l.acquire(ctx, alias)
					if err != nil {
						return
					}
					mu.Lock()
					holding[alias]++
					all++
					if all > l.total || holding[alias] > l.perAlias {
						t.Errorf("%d slots out of %d, %d of alias's %d", all, l.total, holding[alias], l.perAlias)
					}
					mu.Unlock()
					pass(time.Duration(hold) * time.Millisecond)
					mu.Lock()
					holding[alias]--
					all--
					mu.Unlock()
					release()
				})
			}
			wg.Wait()
			wantEmpty(t, l)
		})
	}
}

// A slot is held until the body is closed, not until it is read.
func TestGetHoldsSlotUntilClose(t *testing.T) {
	t.Parallel()
	k := newEnv(t, func(c *Config) { c.Concurrency, c.AliasConcurrency, c.Queue = 1, 1, 0 })
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	obj, err := k.Get(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Get(t.Context(), r)
	wantOverloaded(t, err)
	_, err = k.Head(t.Context(), r)
	wantOverloaded(t, err)
	if _, err := readAll(t, obj); err != nil {
		t.Fatal(err)
	}
	if _, err := k.read(t, r); err != nil {
		t.Errorf("after Close: %v", err)
	}
	if n := k.s3.Total(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	k.rec.wantCounts(t, map[string]int{"ok": 2})
}

func TestGetCancelInQueue(t *testing.T) {
	t.Parallel()
	k := newEnv(t, func(c *Config) { c.Concurrency, c.AliasConcurrency = 1, 1 })
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	obj, err := k.Get(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Body.Close()
	for cause, want := range map[error]Outcome{context.Canceled: OutcomeAborted, context.DeadlineExceeded: OutcomeTimeout} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		_, err = k.Get(ctx, r)
		wantOutcome(t, err, want)
	}
}
