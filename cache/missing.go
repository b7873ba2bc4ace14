package cache

import (
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// TierMissing is the name in metrics of what is known not to be there.
const TierMissing = "missing"

// missingMax is what may be held of objects that are not there. They have a
// budget of their own: strangers can ask for any number of them, and must not
// drive out a single picture by it.
const missingMax = 4 << 20

// absenceOverhead is what an absence costs beside its key: the list element, the
// map slot and an error.
const absenceOverhead = 512

// Gone is what a Load returns when it is certain that there is no object. What is
// stored of it is dropped, and Err answers for the key for a while.
type Gone struct { //nolint:errname // read cache.Gone
	Err error // small, since it is kept
	For time.Duration
}

func (g *Gone) Error() string { return g.Err.Error() }
func (g *Gone) Unwrap() error { return g.Err }

// Absence is the error of a key that is known not to be there, without asking.
type Absence struct{ Err error } //nolint:errname // read cache.Absence

func (a *Absence) Error() string { return a.Err.Error() }
func (a *Absence) Unwrap() error { return a.Err }

// missing remembers for a while which keys led nowhere.
type missing struct {
	limit int64
	mu    sync.Mutex // guards the rest
	bytes int64
	lru   *simplelru.LRU[Key, absence]
}

type absence struct {
	err   error
	until time.Time
}

func newMissing(limit int64) *missing {
	m := &missing{limit: limit}
	m.lru, _ = simplelru.NewLRU(1<<30, func(key Key, _ absence) { m.bytes -= absenceCost(key) })
	return m
}

func absenceCost(key Key) int64 { return allocated(int64(len(key.Object))) + absenceOverhead }

// get is nil where nothing is known.
func (m *missing) get(key Key, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.lru.Get(key)
	switch {
	case !ok:
		return nil
	case !now.Before(a.until):
		m.lru.Remove(key)
		return nil
	}
	return &Absence{Err: a.err}
}

func (m *missing) put(key Key, err error, until time.Time) {
	n := absenceCost(key)
	if n > m.limit {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.Remove(key) // Add would overwrite it without telling
	for m.bytes+n > m.limit {
		m.lru.RemoveOldest()
	}
	m.bytes += n
	m.lru.Add(key, absence{err: err, until: until})
}

// drop forgets what match says, and how many that were.
func (m *missing) drop(match func(Key) bool) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range m.lru.Keys() {
		if match(key) {
			m.lru.Remove(key)
			n++
		}
	}
	return n
}

// remove forgets one key.
func (m *missing) remove(key Key) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lru.Remove(key) {
		return 1
	}
	return 0
}

func (m *missing) stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{Bytes: m.bytes, Capacity: m.limit, Entries: int64(m.lru.Len())}
}

// Absent tells whether key is known not to be there, and why: nil if not.
func (c *Cache) Absent(key Key, now time.Time) error { return c.missing.get(key, now) }

// Missed notes, for who asked past the cache, that key is not there. generation is
// Cache.Generation from before the source was asked: what it said before a purge is not
// noted after that.
func (c *Cache) Missed(key Key, g *Gone, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fetches[key] != nil || c.memory.has(key) {
		return // what is stored, or comes, knows better than one who asked for less
	}
	if generation == c.generation.Load() {
		c.noteLocked(key, g)
	}
}

// noteLocked notes that key is not there, so that nobody need ask, not even for a
// stream past the cache.
func (c *Cache) noteLocked(key Key, g *Gone) {
	if g.For > 0 {
		c.missing.put(key, g.Err, time.Now().Add(g.For))
		c.passes.unmark(key)
	}
}

// ForgetMissing forgets which keys of a space led nowhere, and keeps fetches that
// are under way from noting it or dropping an entry for it: the answers may have
// been another credential's.
func (c *Cache) ForgetMissing(space int64) (n int) {
	c.mu.Lock()
	generation := c.generation.Add(1)
	for id, s := range c.spaces {
		if id.space == space {
			s.forgotten = generation
		}
	}
	c.mu.Unlock()
	return c.missing.drop(func(key Key) bool { return key.Space == space })
}

// MissingStats are the figures of what is known not to be there.
func (c *Cache) MissingStats() Stats { return c.missing.stats() }

// under reports whether key is of the space and epoch of at, and begins with it.
func under(key, at Key) bool {
	return key.Space == at.Space && key.Epoch == at.Epoch && strings.HasPrefix(key.Object, at.Object)
}
