package main

import (
	arc "github.com/hashicorp/golang-lru/arc/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/maypok86/otter/v2"

	"ixmage/internal/bench/trace"
)

// policy is a cache of sizes. request reports whether it has the object, and stores it
// otherwise, if the policy wants to.
type policy interface {
	request(r trace.Request) bool
}

// plainLRU is golang-lru's list, bounded by bytes.
type plainLRU struct {
	list        *simplelru.LRU[uint64, int64]
	used, limit int64
}

func newPlainLRU(limit int64) policy {
	p := &plainLRU{limit: limit}
	p.list, _ = simplelru.NewLRU(1<<40, func(_ uint64, size int64) { p.used -= size })
	return p
}

func (p *plainLRU) request(r trace.Request) bool {
	if _, ok := p.list.Get(r.Key); ok {
		return true
	}
	for p.used+r.Size > p.limit {
		p.list.RemoveOldest()
	}
	p.used += r.Size
	p.list.Add(r.Key, r.Size)
	return false
}

// byWeight is otter, bounded by bytes. Its maintenance runs with the request that causes it,
// so that the result is the same every time.
type byWeight struct{ cache *otter.Cache[uint64, int64] }

func newOtter(limit int64) policy {
	return byWeight{otter.Must(&otter.Options[uint64, int64]{
		MaximumWeight: uint64(limit),
		Weigher:       func(_ uint64, size int64) uint32 { return uint32(size) },
		Executor:      func(run func()) { run() },
	})}
}

func (p byWeight) request(r trace.Request) bool {
	_, ok := p.cache.GetIfPresent(r.Key)
	if !ok {
		p.cache.Set(r.Key, r.Size)
	}
	p.cache.CleanUp()
	return ok
}

// bounded is a cache of golang-lru that is bounded by its number of entries.
type bounded interface {
	Get(key uint64) (int64, bool)
	Add(key uint64, size int64)
	Values() []int64
}

func new2Q(entries int) bounded {
	c, err := lru.New2Q[uint64, int64](entries)
	if err != nil {
		panic(err)
	}
	return c
}

func newARC(entries int) bounded {
	c, err := arc.NewARC[uint64, int64](entries)
	if err != nil {
		panic(err)
	}
	return c
}

// byEntries measures what a bounded cache holds on average.
type byEntries struct {
	bounded

	requests, samples int
	sum               int64
}

const sampleEvery = 20_000

func (p *byEntries) request(r trace.Request) bool {
	_, ok := p.Get(r.Key)
	if !ok {
		p.Add(r.Key, r.Size)
	}
	if p.requests++; p.requests%sampleEvery == 0 {
		p.samples++
		for _, size := range p.Values() {
			p.sum += size
		}
	}
	return ok
}

// mean is the mean of the bytes held.
func (p *byEntries) mean() int64 { return p.sum / int64(max(p.samples, 1)) }
