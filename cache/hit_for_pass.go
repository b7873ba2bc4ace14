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

// hitForPass marks objects that could not be shared, for hitForPassTTL (see hit-for-pass
// in Varnish). Requests for such an object bypass the cache. Otherwise they would wait for
// the headers of a shared fetch, one after another, and then start private fetches.
//
// It keeps hashes and not keys, which could take megabytes outside any budget. If the hash
// of a key collides with that of a marked one, its requests only lose a shared fetch.
type hitForPass struct {
	seed maphash.Seed
	mu   sync.Mutex                        // guards lru
	lru  *simplelru.LRU[uint64, time.Time] // end of the mark
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

// unmark removes the mark of a key whose object can be shared now.
func (p *hitForPass) unmark(key Key) {
	h := maphash.Comparable(p.seed, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lru.Remove(h)
}

// Bypasses reports whether Get would stream key past the cache, because the last object
// fetched was too large or not allowed to be stored.
func (c *Cache) Bypasses(key Key) bool { return c.hitForPass.marked(key) }

// bypassed reports whether an object is too large for all tiers, or of unknown length and was
// too large the last time.
func (c *Cache) bypassed(key Key, src *Source) bool {
	return c.memory.tooLarge(key, src) && !c.disk.takes(src) || src.Size < 0 && src.keeps() && c.hitForPass.marked(key)
}
