package cache

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

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

// reserve adds n unless that would pass the limit.
func (b *budget) reserve(n int64) bool {
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

func (b *budget) release(n int64) { b.used.Add(-n) }

// memory is the memory tier: a byte-bounded LRU. golang-lru bounds entries and
// has no callback for overwritten values. So only its core is used, under our own locks
// and with our own accounting.
type memory struct {
	rec       Recorder
	objectMax int64 // what is larger is streamed
	seed      maphash.Seed
	held      budget // by entries, fetches, readers and reservations
	reserved  budget // by the caller: see Reserve
	stored    budget // by entries alone; its limit is the tier's capacity
	entries   atomic.Int64
	arena     *arena.Arena // nil: bodies are on the heap
	shard     [shards]shard
	// clock counts uses: it makes one order of all shards' orders.
	clock atomic.Uint64
}

func newMemory(cfg Config, rec Recorder) *memory {
	m := &memory{rec: rec, seed: maphash.MakeSeed(), objectMax: min(cfg.ObjectMax, max(cfg.Memory, fetchFloor))}
	for _, reason := range []string{reasonCapacity, reasonExpired, reasonReplaced, reasonPurged, reasonGone} {
		rec.Evicted(Tier, reason, 0)
	}
	m.stored.limit = cfg.Memory
	m.held.limit = max(cfg.Memory, fetchFloor)
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
	e.body.retain(1)
	return e
}

// look returns an entry, fresh or not, held for the caller. An expired entry stays until
// another one replaces it, or until it is evicted.
func (m *memory) look(key Key) *Entry {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.lru.Get(key)
	if !ok {
		return nil
	}
	e.used = m.clock.Add(1)
	e.body.retain(1)
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
	e.body.retain(1)
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

// removeKey takes the entry of key out, for the caller to settle its account, nil if there is
// none.
func (m *memory) removeKey(key Key) *Entry {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.lru.Peek(key)
	if !ok {
		return nil
	}
	s.removeLocked(e)
	return e
}

// put makes e an entry, with a hold of its own on the body. Its key must not be there,
// and its cost must have been taken.
func (m *memory) put(e *Entry) {
	s := m.of(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.body.retain(1)
	m.entries.Add(1)
	e.space.count(1, e.body.cost)
	e.used = m.clock.Add(1)
	s.addLocked(e)
}

// renew puts e, which has the same body, in old's place, and reports whether it
// did: not if old is not there any more, or was purged again. purged is old's mark
// when e's fetch began.
func (m *memory) renew(old, e *Entry, purged *mark) bool {
	s := m.of(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hasLocked(old) || old.purged.Load() != purged {
		return false
	}
	old.space.count(-1, -e.body.cost)
	e.space.count(1, e.body.cost)
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
		m.evicted(e, reason)
	}
}

// purge marks the entry of key, and takes it out if by is hard, for the caller to
// settle its account. It returns nil if there is nothing from before the purge.
func (m *memory) purge(key Key, by *mark) *Entry {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.lru.Peek(key)
	if !ok || e.generation >= by.generation {
		return nil
	}
	if p := e.purged.Load(); by.hard || p == nil || p.generation < by.generation {
		e.purged.Store(by) // of two that come at once, the later one
	}
	if by.hard {
		s.removeLocked(e)
	}
	return e
}

// evicted updates the accounts after an entry was taken out of its shard.
func (m *memory) evicted(e *Entry, reason string) {
	m.entries.Add(-1)
	e.space.count(-1, -e.body.cost)
	m.stored.release(e.body.cost)
	e.body.release()
	m.rec.Evicted(Tier, reason, 1)
}

// inUseMax bounds how many entries in use room steps over before it gives up.
const inUseMax = 64

// room takes n bytes from b, one of the two budgets, evicting entries until there is
// room. It fails if the oldest entries are in use: evicting those would free nothing and
// only empty the cache.
func (m *memory) room(b *budget, n int64) bool {
	if n > b.limit {
		return false
	}
	for skipped := 0; !b.reserve(n); {
		e, inUse := m.oldest()
		switch {
		case e != nil:
			m.evicted(e, reasonFor(e))
		case !inUse || skipped == inUseMax:
			return false
		default:
			skipped++
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
	if !m.reserved.reserve(n) {
		return false
	}
	if !m.room(&m.held, n) {
		m.reserved.release(n)
		return false
	}
	return true
}

// Unreserve gives back what Reserve took.
func (c *Cache) Unreserve(n int64) {
	c.memory.held.release(n)
	c.memory.reserved.release(n)
}

func reasonFor(e *Entry) string {
	if e.fresh(time.Now()) {
		return reasonCapacity
	}
	return reasonExpired
}

// oldest takes the least recently used entry out. One that is in use is skipped
// and counts as used just now.
func (m *memory) oldest() (e *Entry, skipped bool) {
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
	case e.body.shared():
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
			m.stored.release(e.body.cost)
			e.body.release()
		}
	}
	if m.arena != nil {
		m.arena.Close()
	}
}

func (m *memory) stats() Stats {
	return Stats{Bytes: m.held.used.Load(), Capacity: m.stored.limit, Entries: m.entries.Load()}
}

// shard is a part of the memory tier, under one lock.
type shard struct {
	mu  sync.Mutex
	lru *simplelru.LRU[Key, *Entry] // in the order of Entry.used
	// all has every entry, at Entry.at: a purge walks it in steps, which a list
	// whose elements move with every hit does not allow.
	all []*Entry
}

func (s *shard) init() {
	// The size is required above zero and bounds entries; bytes bound us.
	s.lru, _ = simplelru.NewLRU[Key, *Entry](math.MaxInt, nil)
	s.all = nil
}

func (s *shard) hasLocked(e *Entry) bool {
	found, ok := s.lru.Peek(e.key)
	return ok && found == e
}

// addLocked puts in e, whose key must not be there: simplelru overwrites without
// telling anybody.
func (s *shard) addLocked(e *Entry) {
	e.at = int32(len(s.all)) // there is not memory for more
	s.all = append(s.all, e)
	s.lru.Add(e.key, e)
}

// replaceLocked puts e in the place of old, which has the same key.
func (s *shard) replaceLocked(old, e *Entry) {
	e.at = old.at
	s.all[e.at] = e
	s.lru.Add(e.key, e)
}

// removeLocked takes e out. The last entry of all takes its place.
func (s *shard) removeLocked(e *Entry) {
	s.lru.Remove(e.key)
	end := len(s.all) - 1
	last := s.all[end]
	last.at = e.at
	s.all[last.at] = last
	s.all[end] = nil
	s.all = s.all[:end]
}

// stepSize is how many entries are looked at while a shard is locked.
const stepSize = 256

// step copies entries from just before the place end, and returns them and the end for
// the next step, which is 0 after the last one. A caller that begins with math.MaxInt gets
// every entry that is there during all steps, and perhaps others: an entry that has not
// been visited is before end, and a removal moves an entry only to a lower place.
func (s *shard) step(buf []*Entry, end int) ([]*Entry, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end = min(end, len(s.all))
	from := max(0, end-stepSize)
	return append(buf[:0], s.all[from:end]...), from
}
