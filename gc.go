package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// gcLimit keeps the process near the cache's budget. By default, Go's collector lets
// the heap double before it runs. Cached bodies lie outside the heap (cache/arena),
// but connections, metadata and bodies smaller than a page do not, so a soft memory
// limit makes the collector run while there is little garbage.
//
// The live heap grows with the number of connections and of small objects. If it came
// near the limit, the collector would run all the time and gain nothing. So run moves
// the limit with the heap that survived the last collection.
// docs/decisions/memory.md has the measurements.
type gcLimit struct {
	floor int64
}

const (
	// gcRoom is for everything except cached bodies, garbage included.
	gcRoom = 80 << 20
	// gcSlack is the least garbage that may gather between two collections.
	gcSlack = 24 << 20
	// gcPercent lets garbage gather up to the limit while the live heap is small: at
	// Go's default of 100, a small heap is collected every few dozen cache misses.
	gcPercent = 400
	// gcInterval is how often the limit follows the live heap.
	gcInterval = time.Second
)

// newGCLimit sets the memory limit of the process. bodies is how many bytes of cached
// bodies may lie on Go's heap. A GOMEMLIMIT in the environment wins: then nothing is
// set.
func newGCLimit(bodies int64) *gcLimit {
	if os.Getenv("GOMEMLIMIT") != "" {
		return &gcLimit{floor: math.MaxInt64}
	}
	l := &gcLimit{floor: gcRoom + bodies}
	debug.SetMemoryLimit(l.floor)
	debug.SetGCPercent(gcPercent)
	return l
}

// run keeps the limit above the live heap until ctx ends.
func (l *gcLimit) run(ctx context.Context) error {
	if l.floor == math.MaxInt64 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(gcInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			debug.SetMemoryLimit(max(l.floor, inUse()+gcSlack))
		}
	}
}

// inUse is the memory that no collection would free: the heap that survived the last
// one, stacks, and the runtime's own memory.
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
