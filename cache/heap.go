package cache

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Heap keeps the process near the cache's budget. Left alone, Go's collector
// lets the heap double before it runs. Bodies lie outside the heap (arena), but
// connections, metadata and bodies smaller than a page do not, so a soft memory
// limit makes the collector run while there is little garbage.
//
// What is alive grows with the number of connections and of small objects. If it
// came near the limit, the collector would run without end and gain nothing; so
// the limit keeps a distance from what was alive after the last collection.
// docs/decisions/memory.md has the measurements.
type Heap struct {
	floor int64
}

const (
	// heapRoom is for everything but bodies, garbage included.
	heapRoom = 80 << 20
	// heapSlack is the least garbage that may gather between collections.
	heapSlack = 24 << 20
	// gcPercent lets garbage gather up to the limit where little is alive: at
	// Go's 100 a small heap is collected every few dozen misses.
	gcPercent = 400
	// heapInterval is how often the limit follows what is alive.
	heapInterval = time.Second
)

// NewHeap sets the memory limit that goes with c. A GOMEMLIMIT in the environment
// is the operator's word: then nothing is set.
func NewHeap(c *Cache) *Heap {
	h := &Heap{floor: heapRoom}
	if c.memory.arena == nil {
		h.floor += c.memory.held.limit
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		h.floor = math.MaxInt64
		return h
	}
	debug.SetMemoryLimit(h.floor)
	debug.SetGCPercent(gcPercent)
	return h
}

// Run keeps the limit above what is alive, until ctx ends.
func (h *Heap) Run(ctx context.Context) error {
	if h.floor == math.MaxInt64 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(heapInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			debug.SetMemoryLimit(max(h.floor, inUse()+heapSlack))
		}
	}
}

// inUse is what the process holds that no collection would free: the heap that
// was alive after the last one, stacks, and the runtime's own.
func inUse() int64 {
	sample := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/metadata/mcache/inuse:bytes"},
		{Name: "/memory/classes/metadata/mspan/inuse:bytes"},
		{Name: "/memory/classes/metadata/other:bytes"},
		{Name: "/memory/classes/other:bytes"},
	}
	metrics.Read(sample)
	var sum uint64
	for _, s := range sample {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return int64(sum)
}
