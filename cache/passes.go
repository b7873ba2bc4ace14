package cache

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	passLife = time.Minute
	passMax  = 8192
)

// passes remembers for a while which keys are not worth a flight, because what
// came last time could not be shared. Requests for such a key would otherwise
// wait for one another's headers, only to fetch for themselves then.
//
// It keeps hashes, not keys, which would be megabytes that no budget knows of.
// A key whose hash collides with a marked one misses a shared fetch, no more.
type passes struct {
	seed maphash.Seed
	mu   sync.Mutex                        // guards lru
	lru  *simplelru.LRU[uint64, time.Time] // until when
}

func newPasses() *passes {
	lru, _ := simplelru.NewLRU[uint64, time.Time](passMax, nil)
	return &passes{seed: maphash.MakeSeed(), lru: lru}
}

func (p *passes) mark(key Key) {
	h := maphash.Comparable(p.seed, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lru.Add(h, time.Now().Add(passLife))
}

func (p *passes) marked(key Key) bool {
	h := maphash.Comparable(p.seed, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	until, ok := p.lru.Peek(h)
	if ok && !time.Now().Before(until) {
		p.lru.Remove(h)
		return false
	}
	return ok
}

// unmark forgets a key that turned out to be worth a flight after all.
func (p *passes) unmark(key Key) {
	h := maphash.Comparable(p.seed, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lru.Remove(h)
}

// Bypasses reports whether Get is known to stream key past the cache: lately it
// was too large, of unknown length, or not to be stored.
func (c *Cache) Bypasses(key Key) bool { return c.passes.marked(key) }
