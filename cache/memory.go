package cache

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Tier is the name of the memory tier in metrics.
const Tier = "memory"

// Reasons for which an entry leaves the memory tier.
const (
	reasonCapacity = "capacity"
	reasonExpired  = "expired"
	reasonReplaced = "replaced"
)

// shards split the lock only. The budget is one for all of them, so that a
// shard's share never decides how large an object may be.
const shards = 64

// entryOverhead is what an entry costs beside its body, key and metadata: the
// Entry, the blob, the list element and the map slot. TestAccountingMatchesHeap
// measured 405 to 435, as the maps happen to be filled.
const entryOverhead = 420

// budget counts bytes against a limit.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take adds n unless that would pass the limit.
func (b *budget) take(n int64) bool {
	for {
		used := b.used.Load()
		if used+n > b.limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// Entry is a complete object in memory. Its fields must not be changed.
type Entry struct {
	Meta    any
	Stored  time.Time // when its metadata came, less its age by then
	Expires time.Time

	blob *blob
	used uint64 // when it was last asked for, by memory.clock; guarded by the shard's lock
}

// Bytes is the whole body. It is shared: do not change it, and do not use it
// after Release.
func (e *Entry) Bytes() []byte { return e.blob.data }

// File says where Bytes lies in a file that can be sent from, if it does.
// Sending must have been handed to the kernel before Release.
func (e *Entry) File() (fd int, off int64, ok bool) { return e.blob.file() }

// Release gives the entry back. It must be called once for each Hit.
func (e *Entry) Release() { e.blob.release() }

// memory is the memory tier: a byte-bounded LRU. golang-lru bounds entries and
// is not told of overwritten values, so its core is used under our own locks
// with our own accounting, and evicting is our decision.
type memory struct {
	rec     Recorder
	seed    maphash.Seed
	held    budget // by entries, flights and readers
	stored  budget // by entries alone; its limit is the tier's capacity
	entries atomic.Int64
	arena   *arena // nil: bodies are on the heap
	shard   [shards]shard
	// clock counts uses: it makes one order of all shards' orders.
	clock atomic.Uint64
}

type shard struct {
	mu  sync.Mutex
	lru *simplelru.LRU[Key, *Entry] // in the order of Entry.used
}

func newMemory(capacity int64, rec Recorder) *memory {
	m := &memory{rec: rec, seed: maphash.MakeSeed()}
	for _, reason := range []string{reasonCapacity, reasonExpired, reasonReplaced} {
		rec.Evicted(Tier, reason, 0)
	}
	m.stored.limit = capacity
	m.held.limit = max(capacity, flightFloor)
	m.arena = newArena(m.held.limit)
	for i := range m.shard {
		// The size is required above zero and bounds entries; bytes bound us.
		m.shard[i].lru, _ = simplelru.NewLRU[Key, *Entry](math.MaxInt, nil)
	}
	return m
}

func (m *memory) of(key Key) *shard {
	h := maphash.String(m.seed, key.Object) ^ uint64(key.Space)*0x9e3779b97f4a7c15
	return &m.shard[h%shards]
}

// hit returns a fresh entry, held for the caller, or tells that there is an
// expired one. That stays until the fetch that replaces it lands, or until it
// is evicted.
func (m *memory) hit(key Key, now time.Time) (e *Entry, stale bool) {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.lru.Get(key)
	if !ok {
		return nil, false
	}
	e.used = m.clock.Add(1)
	if !now.Before(e.Expires) {
		return nil, true
	}
	e.blob.hold(1)
	return e, false
}

// expired reports whether there is an expired entry, and does not count as use.
func (m *memory) expired(key Key, now time.Time) bool {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.lru.Peek(key)
	return ok && !now.Before(e.Expires)
}

// put makes e the entry of key, with a hold of its own on the blob, if there is
// room. A key must not be put by two at once: flights see to that.
func (m *memory) put(key Key, e *Entry) {
	s := m.of(key)
	s.mu.Lock()
	// Add overwrites without telling anybody: take the old value out first.
	old, ok := s.lru.Peek(key)
	if ok {
		s.lru.Remove(key)
	}
	s.mu.Unlock()
	if ok {
		m.left(old, reasonReplaced)
	}
	if !m.room(&m.stored, e.blob.cost) {
		return
	}
	e.blob.hold(1)
	m.entries.Add(1)
	s.mu.Lock()
	e.used = m.clock.Add(1)
	s.lru.Add(key, e)
	s.mu.Unlock()
}

// left settles the account of an entry that was taken out of its shard.
func (m *memory) left(e *Entry, reason string) {
	m.entries.Add(-1)
	m.stored.give(e.blob.cost)
	e.blob.release()
	m.rec.Evicted(Tier, reason, 1)
}

// spareMax bounds how many entries in use room steps over before it gives up.
const spareMax = 64

// room takes n bytes from b, one of the two budgets, evicting until they are
// there. It fails when what could be evicted is in use: that would free nothing
// and only empty the cache.
func (m *memory) room(b *budget, n int64) bool {
	if n > b.limit {
		return false
	}
	for spared := 0; !b.take(n); {
		e, inUse := m.oldest()
		switch {
		case e != nil:
			m.left(e, reasonFor(e))
		case !inUse || spared == spareMax:
			return false
		default:
			spared++
		}
	}
	return true
}

func reasonFor(e *Entry) string {
	if time.Now().Before(e.Expires) {
		return reasonCapacity
	}
	return reasonExpired
}

// oldest takes the least recently used entry out. One that is in use is spared
// and counts as used just now.
func (m *memory) oldest() (e *Entry, spared bool) {
	s := m.oldestShard()
	if s == nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key, e, ok := s.lru.GetOldest()
	switch {
	case !ok: // taken since; there may be others
		return nil, true
	case e.blob.shared():
		e.used = m.clock.Add(1)
		s.lru.Get(key) // to the front
		return nil, true
	}
	s.lru.Remove(key)
	return e, false
}

// oldestShard finds the shard whose last entry was used longest ago, nil when
// all are empty. The answer may be outdated at once; the order of eviction is
// then off by one entry, the accounting never.
func (m *memory) oldestShard() *shard {
	var found *shard
	var since uint64
	for i := range m.shard {
		s := &m.shard[i]
		s.mu.Lock()
		if _, e, ok := s.lru.GetOldest(); ok && (found == nil || e.used < since) {
			found, since = s, e.used
		}
		s.mu.Unlock()
	}
	return found
}

// clear drops every entry, and with the last holder of a body the arena.
func (m *memory) clear() {
	for i := range m.shard {
		s := &m.shard[i]
		s.mu.Lock()
		old := s.lru.Values()
		s.lru.Purge()
		s.mu.Unlock()
		for _, e := range old {
			m.entries.Add(-1)
			m.stored.give(e.blob.cost)
			e.blob.release()
		}
	}
	if m.arena != nil {
		m.arena.close()
	}
}

func (m *memory) stats() Stats {
	return Stats{Bytes: m.held.used.Load(), Capacity: m.stored.limit, Entries: m.entries.Load()}
}
