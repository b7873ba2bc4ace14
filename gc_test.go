package main

import (
	"context"
	"math"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/cache"
)

// keepLimits restores the limits of the process when t is over.
func keepLimits(t *testing.T) {
	t.Helper()
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	t.Cleanup(func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	})
}

// evictions ignores evictions.
type evictions struct{}

func (evictions) Evicted(_, _ string, _ int) {}

// TestGCLimit: the limit has room for bodies only where they lie on the heap.
func TestGCLimit(t *testing.T) {
	keepLimits(t)
	t.Setenv("GOMEMLIMIT", "")
	const budget = 64 << 20
	c := cache.New(cache.Config{Memory: budget, ObjectMax: 8 << 20}, evictions{})
	defer c.Close()
	if bodies := c.HeapBytes(); bodies != 0 && bodies != budget {
		t.Errorf("%d bytes of bodies on the heap, want none or %d", bodies, budget)
	}
	for _, bodies := range []int64{0, budget} {
		newGCLimit(bodies)
		if got, want := debug.SetMemoryLimit(-1), gcRoom+bodies; got != want {
			t.Errorf("memory limit %d with %d bytes of bodies on the heap, want %d", got, bodies, want)
		}
	}
}

// TestGCLimitOfOperator: the operator's limit stays, at the start and later.
func TestGCLimitOfOperator(t *testing.T) {
	keepLimits(t)
	t.Setenv("GOMEMLIMIT", "1GiB")
	const limit = 1 << 30
	debug.SetMemoryLimit(limit)
	synctest.Test(t, func(t *testing.T) {
		runFor(t, newGCLimit(0), 10*gcInterval)
		if got := debug.SetMemoryLimit(-1); got != limit {
			t.Errorf("memory limit %d, want the operator's %d", got, limit)
		}
	})
}

// TestGCLimitFollowsHeap: with a limit below the live heap the collector would run all
// the time.
func TestGCLimitFollowsHeap(t *testing.T) {
	keepLimits(t)
	t.Setenv("GOMEMLIMIT", "")
	synctest.Test(t, func(t *testing.T) {
		l := newGCLimit(0)
		l.floor = 1 << 20 // far below the heap of any Go program
		runFor(t, l, gcInterval)
		live := inUse()
		if got := debug.SetMemoryLimit(-1); got < live/2+gcSlack || got > 2*live+gcSlack {
			t.Errorf("memory limit %d with a live heap of %d", got, live)
		}
		l.floor = math.MaxInt64 / 2
		runFor(t, l, gcInterval)
		if got := debug.SetMemoryLimit(-1); got != l.floor {
			t.Errorf("memory limit %d, want the floor of %d", got, l.floor)
		}
	})
}

// runFor runs l for a while and ends it.
func runFor(t *testing.T, l *gcLimit, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.run(ctx) }()
	<-time.After(d)
	synctest.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
