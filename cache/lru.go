package cache

import (
	"hash/maphash"
	"sync"
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
	reasonCorrupt  = "corrupt" // on disk only
)

// shards divide the lock only. They have one common budget, so that the size of an object
// is not limited to a shard's share.
const shards = 64

// entryOverhead is the memory of an entry besides its body bytes, key and metadata: the
// Entry, the body struct, the list element, two map slots and the place in shard.all.
// TestAccountingMatchesHeap measured 626 to 642 bytes, depending on the load of the maps.
const entryOverhead = 636

// sketchShare is the part of the budget that the sketches take: two counters for each KiB.
const sketchShare = 1024

// fetchShare is the part of the budget that entries leave to fetches. So the objects that are
// not stored evict nothing, unless many arrive at a time.
const fetchShare = 64

// budget counts bytes against a limit.
type budget struct {
	limit int64
	used  atomic.Int64
	pins
}

// reserve adds n, unless the sum would exceed the limit.
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

func (b *budget) release(n int64) {
	b.used.Add(-n)
	b.signal()
}

// memory is the memory tier, bounded in bytes.
type memory struct {
	rec       Recorder
	objectMax int64 // a larger object is streamed
	seed      maphash.Seed
	held      budget // by entries, fetches, readers and reservations
	reserved  budget // by the caller: see Reserve
	stored    budget // by entries alone
	capacity  int64  // of the tier: the limit of stored, and the sketches
	entries   atomic.Int64
	filling   atomic.Int64 // of held: by fetches under way
	relief    func(pinned, limit int64) Relief
	policy    policy
	arena     *arena.Arena // nil: bodies are on the heap
	growing   budget       // of the arena's window, by growing bodies
	shard     [shards]shard
	variants  variants
}

func newMemory(cfg Config, rec Recorder) *memory {
	m := &memory{
		rec: rec, seed: maphash.MakeSeed(), capacity: cfg.Memory, relief: cfg.Relieve,
		objectMax: min(cfg.ObjectMax, max(cfg.Memory, fetchFloor)),
	}
	for _, reason := range []string{reasonCapacity, reasonExpired, reasonReplaced, reasonPurged, reasonGone} {
		rec.Evicted(Tier, reason, 0)
	}
	rec.Rejected(Tier, 0)
	m.held.limit = max(cfg.Memory, fetchFloor)
	sketches := m.held.limit / sketchShare
	m.held.limit -= sketches
	m.stored.limit = min(cfg.Memory, m.held.limit-m.held.limit/fetchShare)
	m.policy.init(m.stored.limit, m.requests)
	m.reserved.limit = m.held.limit / reservedShare
	m.arena = arena.New(m.held.limit)
	m.growing.limit = m.held.limit * arena.WindowFactor / growingShare
	aging := newAging(sketches, &m.entries)
	for i := range m.shard {
		m.shard[i].init()
		m.shard[i].variants = &m.variants
		m.shard[i].sketch = newSketch(sketches/shards, aging)
	}
	return m
}

func (m *memory) of(key Key) *shard { return &m.shard[m.hash(key)%shards] }

// hash does not depend on the epoch: a purge does not make an object less popular.
func (m *memory) hash(key Key) uint64 {
	return maphash.String(m.seed, key.Object) ^ uint64(key.Space)*0x9e3779b97f4a7c15
}

// request counts a request for key that joins a fetch.
func (m *memory) request(key Key) {
	h := m.hash(key)
	s := &m.shard[h%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sketch.add(h)
}

// requests estimates how often key was requested lately, hits and misses: 15 at most, and
// perhaps too many, but not too few.
func (m *memory) requests(key Key) int {
	h := m.hash(key)
	s := &m.shard[h%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sketch.count(h)
}

// hit returns a fresh entry, retained for the caller.
func (m *memory) hit(key Key, now time.Time) *Entry {
	h := m.hash(key)
	s := &m.shard[h%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil {
		return nil
	}
	e.use()
	if !e.fresh(now) {
		return nil
	}
	s.sketch.add(h)
	e.body.retain(1)
	return e
}

// look counts a request and returns an entry, fresh or stale, retained for the caller. An expired entry stays
// until it is replaced or evicted.
func (m *memory) look(key Key) *Entry {
	h := m.hash(key)
	s := &m.shard[h%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sketch.add(h)
	e := s.entries[key]
	if e == nil {
		return nil
	}
	e.use()
	e.body.retain(1)
	return e
}

// has reports whether key has an entry. It does not count as a use.
func (m *memory) has(key Key) bool {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[key] != nil
}

// peek is look without counting as a use.
func (m *memory) peek(key Key) *Entry {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e != nil {
		e.body.retain(1)
	}
	return e
}

// removeKey removes and returns the entry of key, nil if there is none. The caller must
// then call evicted.
func (m *memory) removeKey(key Key) *Entry {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e != nil {
		s.removeLocked(e)
	}
	return e
}

// put stores e and retains its body. The key must have no entry, and the cost must have
// been reserved.
func (m *memory) put(e *Entry) {
	e.body.retain(1)
	m.entries.Add(1)
	e.space.count(1, e.body.cost)
	s := m.of(e.key)
	s.mu.Lock()
	s.addLocked(e)
	s.mu.Unlock()
	m.policy.add(e)
}

// renew replaces old by e, which has the same body, and reports whether it did: not if old
// is no longer stored, or was purged again. purged is old's mark when e's fetch started.
func (m *memory) renew(old, e *Entry, purged *mark) bool {
	s := m.of(e.key)
	s.mu.Lock()
	ok := s.hasLocked(old) && old.purged.Load() == purged
	if ok {
		old.space.count(-1, -e.body.cost)
		e.space.count(1, e.body.cost)
		e.hits.Store(old.hits.Load())
		s.replaceLocked(old, e)
	}
	s.mu.Unlock()
	if ok {
		m.policy.renew(old, e)
	}
	return ok
}

// stores reports whether e is still the entry of its key.
func (m *memory) stores(e *Entry) bool {
	s := m.of(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasLocked(e)
}

// remove removes e, if it is still the entry of its key, and reports whether it was.
func (m *memory) remove(e *Entry, reason string) bool {
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
	return ok
}

// evict removes an entry that the policy has chosen to make room for the space by.
func (m *memory) evict(e *Entry, by int64) {
	reason := reasonFor(e)
	if m.remove(e, reason) && reason == reasonCapacity {
		m.rec.Pushed(by, e.key.Space, 1)
	}
}

// purge marks the entry of key, and removes it if by is hard; the caller must then call
// evicted. It returns nil if there is no entry from before the purge.
func (m *memory) purge(key Key, by *mark) *Entry {
	s := m.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil || !e.markPurged(by) {
		return nil
	}
	if by.hard {
		s.removeLocked(e)
	}
	return e
}

// evicted updates the accounts after an entry was removed from its shard.
func (m *memory) evicted(e *Entry, reason string) {
	m.entries.Add(-1)
	e.space.count(-1, -e.body.cost)
	m.policy.remove(e)
	m.stored.release(e.body.cost)
	e.body.release()
	m.rec.Evicted(Tier, reason, 1)
}

// room reserves n bytes of held for the space by, and evicts entries until there is room, those
// that are requested most seldom first. An entry in use is evicted in its turn, because
// reading is no use: its bytes stay held until its last reader has ended. It fails if there
// is no entry left that may leave.
func (m *memory) room(by, n int64) bool {
	if n > m.held.limit {
		return false
	}
	for !m.held.reserve(n) {
		e := m.policy.anyOf(by)
		if e == nil {
			return false
		}
		m.evict(e, by)
	}
	return true
}

// admit reserves the cost of an object in stored, and evicts entries for it. It fails if the
// policy rejects the object, unless that was promised to be stored.
func (m *memory) admit(key Key, cost int64, promised bool) bool {
	if cost > m.stored.limit {
		return false
	}
	for a := (&admission{key: key, cost: cost, promised: promised}); ; {
		e, ok := m.policy.next(a, &m.stored)
		if a.rejected > 0 {
			m.rec.Rejected(Tier, a.rejected)
			a.rejected = 0
		}
		if !ok || e == nil {
			return ok
		}
		m.evict(e, key.Space)
	}
}

// refund takes back the reservation of an object that is not stored after all.
func (m *memory) refund(key Key, cost int64) {
	m.policy.release(key.Space, cost)
	m.stored.release(cost)
}

// reservedShare limits reservations, which evict entries, to the budget divided by it.
const reservedShare = 8

// Reserve reserves n bytes of the memory budget, and evicts entries if needed, for bytes
// that the caller keeps outside the cache and shares among requests. It reports false if
// there is no room, or if all reservations together would exceed an eighth of the budget.
// Each success needs one Unreserve of the same n.
func (c *Cache) Reserve(n int64) bool {
	m := c.memory
	if !m.reserved.reserve(n) {
		return false
	}
	if m.held.reserve(n) || !m.relieve() && m.room(0, n) {
		return true
	}
	m.reserved.release(n)
	return false
}

// Unreserve releases n bytes that Reserve has reserved.
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

// clear drops every entry and closes the arena, which ends with the last body.
func (m *memory) clear() {
	for i := range m.shard {
		s := &m.shard[i]
		s.mu.Lock()
		old := s.all
		s.init()
		s.mu.Unlock()
		for _, e := range old {
			m.policy.remove(e)
			m.entries.Add(-1)
			m.stored.release(e.body.cost)
			e.body.release()
		}
	}
	m.variants.clear()
	if m.arena != nil {
		m.arena.Close()
	}
}

func (m *memory) stats() Stats {
	st := Stats{
		Bytes: m.held.used.Load(), Pinned: m.pinned(), Capacity: m.capacity, Entries: m.entries.Load(),
	}
	if m.arena != nil {
		st.Resident = m.arena.Resident()
	}
	return st
}

// shard is a part of the memory tier, under one lock.
type shard struct {
	mu      sync.Mutex
	entries map[Key]*Entry
	// all has every entry, at Entry.at. A purge walks it in steps; it cannot walk a map.
	all      []*Entry
	sketch   sketch // of all requests for keys of this shard
	variants *variants
}

func (s *shard) init() {
	s.entries = make(map[Key]*Entry)
	s.all = nil
}

func (s *shard) hasLocked(e *Entry) bool {
	return s.entries[e.key] == e
}

// addLocked adds e. Its key must have no entry.
func (s *shard) addLocked(e *Entry) {
	e.at = int32(len(s.all)) // memory limits the number of entries far below an int32
	s.all = append(s.all, e)
	s.entries[e.key] = e
	s.variants.add(e)
}

// replaceLocked replaces old by e, which has the same key.
func (s *shard) replaceLocked(old, e *Entry) {
	e.at = old.at
	s.all[e.at] = e
	s.entries[e.key] = e
	s.variants.replace(old, e)
}

// removeLocked removes e. The last entry of all takes its place.
func (s *shard) removeLocked(e *Entry) {
	delete(s.entries, e.key)
	end := len(s.all) - 1
	last := s.all[end]
	last.at = e.at
	s.all[last.at] = last
	s.all[end] = nil
	s.all = s.all[:end]
	s.variants.remove(e)
}

// stepSize is the number of entries that a purge visits while it holds a shard's lock.
const stepSize = 256

// step copies the entries before the place end, stepSize at most, and returns them and the
// end for the next step, which is 0 after the last one. A caller that starts with
// math.MaxInt gets every entry that is stored during all steps, and perhaps others: an
// entry that has not been visited is before end, and a removal moves an entry only to a
// lower place.
func (s *shard) step(buf []*Entry, end int) ([]*Entry, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end = min(end, len(s.all))
	from := max(0, end-stepSize)
	return append(buf[:0], s.all[from:end]...), from
}
