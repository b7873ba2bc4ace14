package proxy

import (
	"hash/maphash"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ixmage/cache"
)

const (
	// requestWorth is how many bytes from S3 one request may cost beyond the bytes that its
	// client gets. An object up to this size is fetched whole for the first range of it.
	requestWorth = 256 << 10
	// rangeWorth is how many bytes from S3 each byte of a range that a client gets may
	// cost. A viewer that reads an object in pieces soon pays for all of it.
	rangeWorth = 16
	// demandTTL is how long an object counts as asked for after its last request.
	demandTTL = 10 * time.Minute
	// demandMax bounds the objects that are remembered, about 120 bytes each.
	demandMax = 8192
)

// demand decides when an object is fetched whole although its client needs less: a range, or
// a 304 or 412. Otherwise a request for one byte could cost S3 the whole object, again and
// again if the object does not stay in memory. Each request earns its object requestWorth
// bytes, and rangeWorth for each byte that is sent; the object is fetched when it has earned
// its size, and starts again from zero. So over any requests S3 sends at most requestWorth
// bytes for each request and 1+rangeWorth for each byte sent. Only a range that is fetched in
// blocks may cost more: see blockGroup.
//
// It keeps hashes and not keys, which could take megabytes outside any budget.
type demand struct {
	seed maphash.Seed
	mu   sync.Mutex // guards lru
	lru  *simplelru.LRU[uint64, earned]
}

// earned is how many bytes an object may cost, until it is forgotten.
type earned struct {
	bytes int64
	until time.Time
}

func newDemand() *demand {
	lru, _ := simplelru.NewLRU[uint64, earned](demandMax, nil)
	return &demand{seed: maphash.MakeSeed(), lru: lru}
}

// whole counts a request for sent bytes of an object of size bytes, and reports whether the
// object is to be fetched whole. If it is not, the caller must add the bytes that it has sent.
func (d *demand) whole(key cache.Key, size, sent int64) bool {
	if size < 0 { // unknown: it may be large
		size = math.MaxInt64
	}
	h, now := maphash.Comparable(d.seed, key), time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	have := d.getLocked(h, now) + requestWorth
	if size <= have+rangeWorth*min(sent, size) {
		d.lru.Remove(h)
		return true
	}
	d.lru.Add(h, earned{have, now.Add(demandTTL)})
	return false
}

// add counts bytes that were sent of an object.
func (d *demand) add(key cache.Key, sent int64) {
	h, now := maphash.Comparable(d.seed, key), time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if have := d.getLocked(h, now); have > 0 { // else it has been fetched meanwhile
		d.lru.Add(h, earned{have + rangeWorth*sent, now.Add(demandTTL)})
	}
}

// remembers reports whether a request has shown lately that the object is larger than what
// it had earned.
func (d *demand) remembers(key cache.Key) bool {
	h := maphash.Comparable(d.seed, key)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.getLocked(h, time.Now()) > 0
}

func (d *demand) getLocked(h uint64, now time.Time) int64 {
	if e, ok := d.lru.Peek(h); ok && now.Before(e.until) {
		return e.bytes
	}
	return 0
}
