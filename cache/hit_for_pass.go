package cache

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	hitForPassTTL = time.Minute
	hitForPassMax = 8192
)

// passes remembers for a while which keys are not worth a flight, because what
// came last time could not be shared. Requests for such a key would otherwise
// wait for one another's headers, only to fetch for themselves then.
//
// It keeps hashes, not keys, which would be megabytes that no budget knows of.
// A key whose hash collides with a marked one misses a shared fetch, no more.
type hitForPass struct {
	seed maphash.Seed
	mu   sync.Mutex                        // guards lru
	lru  *simplelru.LRU[uint64, time.Time] // until when
}

func newHitForPass() *hitForPass {
	lru, _ := simplelru.NewLRU[uint64, time.Time](hitForPassMax, nil)
	return &hitForPass{seed: maphash.MakeSeed(), lru: lru}
}

func (p *hitForPass) mark(key Key) {
	h := maphash.Comparable(p.seed, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lru.Add(h, time.Now().Add(hitForPassTTL))
}

func (p *hitForPass) marked(key Key) bool {
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
func (p *hitForPass) unmark(key Key) {
	h := maphash.Comparable(p.seed, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lru.Remove(h)
}

// Bypasses reports whether Get is known to stream key past the cache: lately it
// was too large, of unknown length, or not to be stored.
func (c *Cache) Bypasses(key Key) bool { return c.hitForPass.marked(key) }
