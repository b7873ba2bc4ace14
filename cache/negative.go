package cache

import (
	"cmp"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// TierNegative is the name of the negative entries in metrics.
const TierNegative = "missing"

// negativeMax is the budget of negative entries, in bytes. It is separate from that of
// objects: clients can request any number of missing objects, and that must not evict
// pictures.
const negativeMax = 4 << 20

// negativeOverhead is the memory of a negative entry besides its key, in bytes: the list
// element, the map slot and an error.
const negativeOverhead = 512

// NotFound is the error of a Load that is certain that the object does not exist. The
// stored entry is dropped, and requests for the key get Err during For.
type NotFound struct { //nolint:errname // read cache.NotFound
	Err error // keep it small: it stays in memory
	// Full is the error for the waiters of this load, nil if it is Err. It is not kept.
	Full error
	For  time.Duration
}

func (g *NotFound) Error() string { return g.Unwrap().Error() }
func (g *NotFound) Unwrap() error { return cmp.Or(g.Full, g.Err) }

// NegativeHit is the error of a key that has a negative entry.
type NegativeHit struct{ Err error } //nolint:errname // read cache.NegativeHit

func (a *NegativeHit) Error() string { return a.Err.Error() }
func (a *NegativeHit) Unwrap() error { return a.Err }

// negative holds the negative entries.
type negative struct {
	limit int64
	mu    sync.Mutex // guards the rest
	bytes int64
	lru   *simplelru.LRU[Key, negativeEntry]
}

type negativeEntry struct {
	err   error
	until time.Time
}

func newNegative(limit int64) *negative {
	m := &negative{limit: limit}
	m.lru, _ = simplelru.NewLRU(1<<30, func(key Key, _ negativeEntry) { m.bytes -= negativeCost(key) })
	return m
}

func negativeCost(key Key) int64 { return allocated(int64(len(key.Object))) + negativeOverhead }

// get returns nil if key has no negative entry.
func (m *negative) get(key Key, now time.Time) error {
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
	return &NegativeHit{Err: a.err}
}

func (m *negative) put(key Key, err error, until time.Time) {
	n := negativeCost(key)
	if n > m.limit {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.Remove(key) // Add would overwrite it without a callback
	for m.bytes+n > m.limit {
		m.lru.RemoveOldest()
	}
	m.bytes += n
	m.lru.Add(key, negativeEntry{err: err, until: until})
}

// drop removes the entries of all keys that match, and returns their number.
func (m *negative) drop(match func(Key) bool) (n int) {
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

// remove removes the entry of one key, and returns 1 if there was one.
func (m *negative) remove(key Key) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lru.Remove(key) {
		return 1
	}
	return 0
}

func (m *negative) stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{Bytes: m.bytes, Capacity: m.limit, Entries: int64(m.lru.Len())}
}

// Negative returns the error of the negative entry of key, nil if there is none.
func (c *Cache) Negative(key Key, now time.Time) error { return c.negative.get(key, now) }

// AddNegative adds a negative entry for a caller that asked the source itself. generation
// is Cache.Generation from before that request: after a purge, an answer from before it is
// not added.
func (c *Cache) AddNegative(key Key, g *NotFound, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fetches[key] != nil || c.Has(key) {
		return // an entry or a fetch of the object counts more than a request for its metadata
	}
	if generation == c.spaceLocked(key).changed {
		c.addNegativeLocked(key, g)
	}
}

// addNegativeLocked adds a negative entry. It removes the hit-for-pass mark, so that every
// request finds the entry.
func (c *Cache) addNegativeLocked(key Key, g *NotFound) {
	if g.For > 0 {
		c.negative.put(key, g.Err, time.Now().Add(g.For))
		c.hitForPass.unmark(key)
	}
}

// ForgetNegative drops the negative entries of a space. Running fetches neither add a
// negative entry nor drop an entry: their answers may be those to another credential.
func (c *Cache) ForgetNegative(space int64) (n int) {
	c.mu.Lock()
	generation := c.nextGeneration()
	for id, s := range c.spaces {
		if id.space == space {
			s.forgotten, s.changed = generation, generation
		}
	}
	c.mu.Unlock()
	return c.negative.drop(func(key Key) bool { return key.Space == space })
}

// NegativeStats reads the figures of the negative entries.
func (c *Cache) NegativeStats() Stats { return c.negative.stats() }

// under reports whether key has the space and epoch of at, and at.Object as a prefix.
func under(key, at Key) bool {
	return key.Space == at.Space && key.Epoch == at.Epoch && strings.HasPrefix(key.Object, at.Object)
}
