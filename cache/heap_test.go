package cache

import (
	"context"
	"math"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// keepLimits puts the process's own limits back when t is over.
func keepLimits(t *testing.T) {
	t.Helper()
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	t.Cleanup(func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	})
}

// TestHeapLimit: the limit has room for bodies only where they are on the heap.
func TestHeapLimit(t *testing.T) {
	keepLimits(t)
	t.Setenv("GOMEMLIMIT", "")
	w := newWorld(t, roomy)
	NewHeap(w.Cache)
	want := int64(heapRoom)
	if w.memory.arena == nil {
		want += roomy.Memory
	}
	if got := debug.SetMemoryLimit(-1); got != want {
		t.Errorf("memory limit %d, want %d", got, want)
	}
	arena := w.memory.arena
	w.memory.arena = nil
	NewHeap(w.Cache)
	w.memory.arena = arena
	if got, want := debug.SetMemoryLimit(-1), heapRoom+roomy.Memory; got != want {
		t.Errorf("memory limit %d without an arena, want %d", got, want)
	}
}

// TestHeapLeavesTheOperatorsLimit as it is, at the start and while it runs.
func TestHeapLeavesTheOperatorsLimit(t *testing.T) {
	keepLimits(t)
	t.Setenv("GOMEMLIMIT", "1GiB")
	const limit = 1 << 30
	debug.SetMemoryLimit(limit)
	synctest.Test(t, func(t *testing.T) {
		h := NewHeap(newWorld(t, roomy).Cache)
		runFor(t, h, 10*heapInterval)
		if got := debug.SetMemoryLimit(-1); got != limit {
			t.Errorf("memory limit %d, want the operator's %d", got, limit)
		}
	})
}

// TestHeapFollowsWhatIsAlive: a limit below it would make the collector run
// without end.
func TestHeapFollowsWhatIsAlive(t *testing.T) {
	keepLimits(t)
	t.Setenv("GOMEMLIMIT", "")
	synctest.Test(t, func(t *testing.T) {
		h := NewHeap(newWorld(t, roomy).Cache)
		h.floor = 1 << 20 // far below what any Go program has
		runFor(t, h, heapInterval)
		alive := inUse()
		if got := debug.SetMemoryLimit(-1); got < alive/2+heapSlack || got > 2*alive+heapSlack {
			t.Errorf("memory limit %d with %d alive", got, alive)
		}
		h.floor = math.MaxInt64 / 2
		runFor(t, h, heapInterval)
		if got := debug.SetMemoryLimit(-1); got != h.floor {
			t.Errorf("memory limit %d, want the floor of %d", got, h.floor)
		}
	})
}

// runFor runs h for a while and ends it.
func runFor(t *testing.T, h *Heap, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	elapse(d)
	synctest.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
