package cache

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"ixmage/cache/arena"
)

// Tier is the name of the memory tier in metrics.
const Tier = "memory"

// Reasons for which an entry leaves the memory tier.
const (
	reasonCapacity = "capacity"
	reasonExpired  = "expired"
	reasonReplaced = "replaced"
	reasonPurged   = "purged"
	reasonGone     = "gone"
)

// shards split the lock only. The budget is one for all of them, so that a
// shard's share never decides how large an object may be.
const shards = 64

// entryOverhead is what an entry costs beside its body, key and metadata: the
// Entry, the blob, the list element, the map slot and the place in shard.all.
// TestAccountingMatchesHeap measured 540 to 555, as the maps happen to be filled.
const entryOverhead = 548

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

// memory is the memory tier: a byte-bounded LRU. golang-lru bounds entries and
// is not told of overwritten values, so its core is used under our own locks
// with our own accounting, and evicting is our decision.
type memory struct {
	rec      Recorder
	seed     maphash.Seed
	held     budget // by entries, flights and readers
	reserved budget // by the caller: see Reserve
	stored   budget // by entries alone; its limit is the tier's capacity
	entries  atomic.Int64
	arena    *arena.Arena // nil: bodies are on the heap
	shard    [shards]shard
	// clock counts uses: it makes one order of all shards' orders.
	clock atomic.Uint64
}

func newMemory(capacity int64, rec Recorder) *memory {
	m := &memory{rec: rec, seed: maphash.MakeSeed()}
	for _, reason := range []string{reasonCapacity, reasonExpired, reasonReplaced, reasonPurged, reasonGone} {
		rec.Evicted(Tier, reason, 0)
	}
	m.stored.limit = capacity
	m.held.limit = max(capacity, flightFloor)
	m.reserved.limit = m.held.limit / reservedShare
	m.arena = arena.New(m.held.limit)
	for i := range m.shard {
		m.shard[i].init()
	}
	return m
}

func (m *memory) of(key Key) *shard {
	h := maphash.String(m.seed, key.Object) ^ uint64(key.Space)*0x9e3779b97f4a7c15
	return &m.shard[h%shards]
}

// hit returns a fresh entry, held for the caller.
func (m *memory) hit(key Key, now time.Time) *Entry {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.lru.Get(key)
	if !ok {
		return nil
	}
	e.used = m.clock.Add(1)
	if !e.fresh(now) {
		return nil
	}
	e.blob.hold(1)
	return e
}

// look returns an entry, fresh or not, held for the caller. An expired one stays
// until what replaces it lands, or until it is evicted.
func (m *memory) look(key Key) *Entry {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.lru.Get(key)
	if !ok {
		return nil
	}
	e.used = m.clock.Add(1)
	e.blob.hold(1)
	return e
}

// has reports whether there is an entry, and does not count as use.
func (m *memory) has(key Key) bool {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lru.Contains(key)
}

// peek is look, and does not count as use either.
func (m *memory) peek(key Key) *Entry {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.lru.Peek(key)
	if !ok {
		return nil
	}
	e.blob.hold(1)
	return e
}

// expired reports whether there is one that is not fresh.
func (m *memory) expired(key Key, now time.Time) bool {
	e := m.peek(key)
	if e == nil {
		return false
	}
	defer e.Release()
	return !e.fresh(now)
}

// put makes e an entry, with a hold of its own on the blob, if there is room. A
// key must not be put by two at once: flights see to that. dead is looked at under
// the lock that a purge takes after setting it.
func (m *memory) put(e *Entry, dead *atomic.Bool) {
	s := m.of(e.key)
	s.mu.Lock()
	if dead.Load() { // what is there may be of use yet, or a successor's
		s.mu.Unlock()
		return
	}
	old, ok := s.lru.Peek(e.key)
	if ok {
		s.removeLocked(old)
	}
	s.mu.Unlock()
	if ok {
		m.left(old, reasonReplaced)
	}
	if !m.room(&m.stored, e.blob.cost) {
		return
	}
	s.mu.Lock()
	if dead.Load() {
		s.mu.Unlock()
		m.stored.give(e.blob.cost)
		return
	}
	e.blob.hold(1)
	m.entries.Add(1)
	e.space.count(1, e.blob.cost)
	e.used = m.clock.Add(1)
	s.addLocked(e)
	s.mu.Unlock()
}

// renew puts e, which has the same body, in old's place, and reports whether it
// did: not if old is not there any more, or was purged after e's fetch had begun.
func (m *memory) renew(old, e *Entry) bool {
	s := m.of(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := old.purged.Load(); !s.hasLocked(old) || p != nil && p.seq > e.seq {
		return false
	}
	old.space.count(-1, -e.blob.cost)
	e.space.count(1, e.blob.cost)
	e.used = m.clock.Add(1)
	s.replaceLocked(old, e)
	return true
}

// stores reports whether e is still the entry of its key.
func (m *memory) stores(e *Entry) bool {
	s := m.of(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasLocked(e)
}

// remove takes out e, if it is still the entry of its key.
func (m *memory) remove(e *Entry, reason string) {
	s := m.of(e.key)
	s.mu.Lock()
	ok := s.hasLocked(e)
	if ok {
		s.removeLocked(e)
	}
	s.mu.Unlock()
	if ok {
		m.left(e, reason)
	}
}

// purge marks the entry of key, and takes it out if by is hard, for the caller to
// settle its account. It returns nil if there is nothing from before the purge.
func (m *memory) purge(key Key, by *mark) *Entry {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.lru.Peek(key)
	if !ok || e.seq >= by.seq {
		return nil
	}
	if p := e.purged.Load(); by.hard || p == nil || p.seq < by.seq {
		e.purged.Store(by) // of two that come at once, the later one
	}
	if by.hard {
		s.removeLocked(e)
	}
	return e
}

// left settles the account of an entry that was taken out of its shard.
func (m *memory) left(e *Entry, reason string) {
	m.entries.Add(-1)
	e.space.count(-1, -e.blob.cost)
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

// reservedShare of the budget may be reserved: what is reserved drives out entries.
const reservedShare = 8

// Reserve takes n bytes of the memory budget, evicting entries as needed, for bytes that
// the caller holds outside the cache and shares among requests. It reports false where
// there is no room, or where an eighth of the budget would be exceeded. Each success
// needs one Unreserve of the same n.
func (c *Cache) Reserve(n int64) bool {
	m := c.memory
	if !m.reserved.take(n) {
		return false
	}
	if !m.room(&m.held, n) {
		m.reserved.give(n)
		return false
	}
	return true
}

// Unreserve gives back what Reserve took.
func (c *Cache) Unreserve(n int64) {
	c.memory.held.give(n)
	c.memory.reserved.give(n)
}

func reasonFor(e *Entry) string {
	if e.fresh(time.Now()) {
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
	_, e, ok := s.lru.GetOldest()
	switch {
	case !ok: // taken since; there may be others
		return nil, true
	case e.blob.shared():
		e.used = m.clock.Add(1)
		s.lru.Get(e.key) // to the front
		return nil, true
	}
	s.removeLocked(e)
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
		old := s.all
		s.init()
		s.mu.Unlock()
		for _, e := range old {
			m.entries.Add(-1)
			m.stored.give(e.blob.cost)
			e.blob.release()
		}
	}
	if m.arena != nil {
		m.arena.Close()
	}
}

func (m *memory) stats() Stats {
	return Stats{Bytes: m.held.used.Load(), Capacity: m.stored.limit, Entries: m.entries.Load()}
}
