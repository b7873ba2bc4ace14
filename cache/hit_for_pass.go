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

// hitForPass remembers for a while which objects could not be shared, as Varnish does.
// Requests for such an object go past the cache. Otherwise they would wait for the headers
// of a shared fetch, one after another, and then fetch for themselves.
//
// It keeps hashes and not keys, which could be megabytes outside any budget. A key whose
// hash collides with a marked one only misses a shared fetch.
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

// unmark forgets a key whose object can be shared after all.
func (p *hitForPass) unmark(key Key) {
	h := maphash.Comparable(p.seed, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lru.Remove(h)
}

// Bypasses reports whether Get would stream key past the cache, because its object was
// too large, of unknown length, or not to be stored when it came last.
func (c *Cache) Bypasses(key Key) bool { return c.hitForPass.marked(key) }
