package cache

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"
)

// space is the state that all entries of one epoch of a Key.Space share.
type space struct {
	// The last PurgeSpace and the last Revalidate. Set under Cache.mu.
	purged, outdated atomic.Pointer[mark]
	// since is the generation of the later one: an entry whose fetch began before it is
	// stale.
	since   atomic.Uint64
	entries atomic.Int64
	bytes   atomic.Int64

	// Guarded by Cache.mu.
	refreshes int    // fetches in the background that are under way
	forgotten uint64 // the generation of the last ForgetNegative
	changed   uint64 // the generation of that, or of the last purge or Revalidate
}

func (s *space) count(entries, bytes int64) {
	s.entries.Add(entries)
	s.bytes.Add(bytes)
}

// mark sets one of the two marks.
func (s *space) mark(which *atomic.Pointer[mark], m *mark) {
	which.Store(m)
	s.since.Store(m.generation)
}

// mark limits entries whose fetch began before generation: they are fresh until at, and
// are never served if hard.
type mark struct {
	generation uint64
	at         time.Time
	hard       bool
	staleWhile time.Duration // of Revalidate: the default from then on
}

type spaceID struct{ space, epoch int64 }

// spaceLocked finds or makes the space of key.
func (c *Cache) spaceLocked(key Key) *space {
	id := spaceID{key.Space, key.Epoch}
	s := c.spaces[id]
	if s == nil {
		s = &space{changed: c.generation.Load()} // there may have been one before
		c.spaces[id] = s
	}
	return s
}

// Purged is what a purge found.
type Purged struct {
	Entries  int   // that were dropped, or are stale from then on
	Bytes    int64 // of those
	Fetches  int   // under way, which will leave no entry
	Negative int   // negative entries that were dropped
}

// Purge invalidates one entry. A soft purge makes it stale: it may still be served while
// it is refreshed, as far as its source allows that. A hard purge drops it. A fetch under
// way goes on for its readers and leaves no entry.
func (c *Cache) Purge(key Key, hard bool) Purged {
	match := func(k Key) bool { return k == key }
	m, p := c.detach(key, match, hard)
	p.Negative = c.negative.remove(key)
	c.purgeEntry(key, m, &p)
	if hard {
		// A fetch that began meanwhile may have found the entry before it was dropped:
		// no request may join it.
		c.detach(key, match, true)
	}
	return p
}

// PurgePrefix is Purge for all keys of at's space and epoch that begin with at.Object.
// Requests meanwhile wait no longer than for one step through a shard.
func (c *Cache) PurgePrefix(at Key, hard bool) Purged {
	match := func(k Key) bool { return under(k, at) }
	m, p := c.detach(at, match, hard)
	p.Negative = c.negative.drop(match)
	buf := make([]*Entry, 0, stepSize)
	for i := range c.memory.shard {
		for end := math.MaxInt; end > 0; runtime.Gosched() {
			buf, end = c.memory.shard[i].step(buf, end)
			for _, e := range buf {
				if match(e.key) {
					c.purgeEntry(e.key, m, &p)
				}
			}
		}
	}
	if hard {
		// A fetch that began meanwhile may have found the entry before it was dropped:
		// no request may join it.
		c.detach(at, match, true)
	}
	return p
}

// PurgeSpace is a soft purge of all of an epoch, in a time that does not depend on
// how many entries there are.
func (c *Cache) PurgeSpace(spaceNo, epoch int64) Purged { return c.purgeSpace(spaceNo, epoch, false) }

// Retire is for an epoch that will get no more requests. Its entries are stale and stay
// until they are evicted.
func (c *Cache) Retire(spaceNo, epoch int64) Purged { return c.purgeSpace(spaceNo, epoch, true) }

func (c *Cache) purgeSpace(spaceNo, epoch int64, retire bool) Purged {
	at, id := Key{Space: spaceNo, Epoch: epoch}, spaceID{spaceNo, epoch}
	match := func(k Key) bool { return under(k, at) }
	c.mu.Lock()
	m, p := c.detachLocked(at, match, false)
	// An epoch without a space has neither fetches nor entries.
	if s := c.spaces[id]; s != nil {
		s.mark(&s.purged, m)
		p.Entries, p.Bytes = int(s.entries.Load()), s.bytes.Load()
	}
	if retire {
		delete(c.spaces, id)
	}
	c.mu.Unlock()
	p.Negative = c.negative.drop(match)
	return p
}

// Revalidate is for an epoch whose default lifetimes have changed. Its entries are stale
// from then on but trusted: Entry.Purged is false, so that a Load can ask the source
// whether the object is still the same, at the cost of one conditional request. Meanwhile
// an entry may be served stale for staleWhile, unless its source stated a time itself. A
// fetch under way goes on for its readers and leaves no entry.
//
// The time that it takes does not depend on the number of entries. A Load that begins
// after the call must use the new lifetimes. The start of a fetch counts, because the
// cache cannot know when its Load looked up the lifetimes:
//
//  1. A private fetch, which is in no table, asks whether K is still the same.
//  2. The source confirms it, and the Load looks up the lifetimes of K.
//  3. The lifetimes change, and Revalidate is called.
//  4. The fetch renews the entry of K with lifetimes from before 3. The entry has the
//     generation of 1, and so it is stale.
func (c *Cache) Revalidate(spaceNo, epoch int64, staleWhile time.Duration) {
	at := Key{Space: spaceNo, Epoch: epoch}
	c.mu.Lock()
	defer c.mu.Unlock()
	// An epoch without a space has neither fetches nor entries.
	if s := c.spaces[spaceID{spaceNo, epoch}]; s != nil {
		m, _ := c.detachLocked(at, func(k Key) bool { return under(k, at) }, false)
		m.staleWhile = staleWhile
		s.mark(&s.outdated, m)
	}
}

func (c *Cache) detach(at Key, match func(Key) bool, hard bool) (*mark, Purged) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.detachLocked(at, match, hard)
}

// detachLocked takes fetches out of the table, so that nobody joins them any more and
// they leave no entry. The entry of one that has committed is there by the time that a
// purge looks for it. All keys that match are of at's space and epoch.
func (c *Cache) detachLocked(at Key, match func(Key) bool, hard bool) (*mark, Purged) {
	var p Purged
	generation := c.generation.Add(1)
	if s := c.spaces[spaceID{at.Space, at.Epoch}]; s != nil {
		s.changed = generation
	}
	for key, f := range c.fetches {
		if match(key) {
			delete(c.fetches, key)
			if f.waiters == 0 {
				f.abandonLocked()
			}
			p.Fetches++
		}
	}
	return &mark{generation: generation, at: time.Now(), hard: hard}, p
}

func (c *Cache) purgeEntry(key Key, m *mark, p *Purged) {
	e := c.memory.purge(key, m)
	if e == nil {
		return
	}
	p.Entries++
	p.Bytes += e.body.cost
	if m.hard {
		c.memory.evicted(e, reasonPurged)
	}
}
