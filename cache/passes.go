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
	// knownMax bounds the metadata that is kept of objects which are not: a
	// KiB each.
	knownMax = 1024
)

// passes remembers for a while which keys are not worth a flight, because what
// came last time could not be shared. Requests for such a key would otherwise
// wait for one another's headers, only to fetch for themselves then.
//
// It keeps hashes, not keys, which would be megabytes that no budget knows of.
// A key whose hash collides with a marked one misses a shared fetch, no more: the
// metadata is good for asking S3 on the condition that it is still right.
type passes struct {
	seed maphash.Seed
	mu   sync.Mutex                        // guards the rest
	lru  *simplelru.LRU[uint64, time.Time] // until when
	// known is the metadata of those that only are too large.
	known *simplelru.LRU[uint64, known]
}

type known struct {
	meta  any
	until time.Time // it is fresh
}

func newPasses() *passes {
	lru, _ := simplelru.NewLRU[uint64, time.Time](passMax, nil)
	metas, _ := simplelru.NewLRU[uint64, known](knownMax, nil)
	return &passes{seed: maphash.MakeSeed(), lru: lru, known: metas}
}

func (p *passes) mark(key Key, src *Source) {
	h, now := maphash.Comparable(p.seed, key), time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lru.Add(h, now.Add(passLife))
	if src.lasts() {
		p.known.Add(h, known{meta: src.Meta, until: now.Add(src.Fresh - src.Age)})
	}
}

// meta is what was known of a marked key when it was marked.
func (p *passes) meta(key Key, now time.Time) any {
	h := maphash.Comparable(p.seed, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.known.Get(h)
	if !ok || !now.Before(k.until) {
		return nil
	}
	return k.meta
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
	p.known.Remove(h)
}
