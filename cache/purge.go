package cache

import (
	"cmp"
	"errors"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"ixmage/cache/disk"
)

// space is the common state of all entries of one epoch of a Key.Space.
type space struct {
	// The last PurgeSpace and the last Revalidate. Set under Cache.mu.
	purged, outdated atomic.Pointer[mark]
	// since is the generation of the later of the two: an entry whose fetch started before
	// it is stale.
	since   atomic.Uint64
	entries atomic.Int64
	bytes   atomic.Int64

	// Guarded by Cache.mu.
	refreshes int    // running background fetches
	forgotten uint64 // the generation of the last ForgetNegative
	changed   uint64 // the generation of the last ForgetNegative, purge or Revalidate
}

func (s *space) count(entries, bytes int64) {
	s.entries.Add(entries)
	s.bytes.Add(bytes)
}

// mark sets purged or outdated.
func (s *space) mark(which *atomic.Pointer[mark], m *mark) {
	which.Store(m)
	s.since.Store(m.generation)
}

// mark limits entries whose fetch started before generation: they are stale from at on,
// and are never served if hard is set.
type mark struct {
	generation uint64
	at         time.Time
	hard       bool
	staleWhile time.Duration // set by Revalidate: the new default of the space
}

type spaceID struct{ space, epoch int64 }

// spaceLocked finds or makes the space of key.
func (c *Cache) spaceLocked(key Key) *space {
	id := spaceID{key.Space, key.Epoch}
	s := c.spaces[id]
	if s == nil {
		s = &space{changed: c.generation.Load()} // an earlier space of this id may have been deleted
		c.spaces[id] = s
	}
	return s
}

// Purged counts what a purge has dropped.
type Purged struct {
	Entries  int   // entries that were dropped or became stale
	Bytes    int64 // of these entries
	Fetches  int   // running fetches that will not become entries
	Negative int   // negative entries that were dropped
	// Err says that the purge could not be made durable on disk. It has been done, but a
	// crash may undo it, until it is repeated with success.
	Err error
}

// Purge invalidates one entry and its variants. A soft purge makes it stale: it may still be served during
// its StaleWhileRevalidate and StaleIfError. A hard purge drops it. A running fetch
// continues for its readers and does not become an entry.
//
// The object is purged before its variants: a variant that is made from the purged object is found
// among the fetches or the entries of variants.
func (c *Cache) Purge(key Key, hard bool) Purged {
	p := c.purgeObject(key, hard)
	var v Purged
	at := key.Variant("")
	switch {
	case c.variants.Load():
		v = c.purgeUnder(at, hard, func(visit func(Key)) { c.memory.variants.each(key, visit) })
	case c.disk != nil && c.disk.HasVariants(key.Space, key.Epoch): // of an earlier process
		m, _ := c.detach(at, func(k Key) bool { return under(k, at) }, hard)
		c.purgeDisk(at, true, m, &v)()
	}
	return Purged{
		Entries: p.Entries + v.Entries, Bytes: p.Bytes + v.Bytes, Fetches: p.Fetches + v.Fetches,
		Negative: p.Negative + v.Negative, Err: cmp.Or(p.Err, v.Err),
	}
}

func (c *Cache) purgeObject(key Key, hard bool) Purged {
	match := func(k Key) bool { return k == key }
	m, p := c.detach(key, match, hard)
	p.Negative = c.negative.remove(key)
	durable := c.purgeDisk(key, false, m, &p)
	c.purgeEntry(key, m, &p)
	if hard {
		// A fetch that started during the purge may have found the old entry: detach it,
		// so that no request joins it.
		c.detach(key, match, true)
	}
	durable()
	return p
}

// PurgePrefix is Purge for all keys of at's space and epoch that have the prefix
// at.Object. It delays a concurrent request by at most one step through a shard.
func (c *Cache) PurgePrefix(at Key, hard bool) Purged { return c.purgeUnder(at, hard, c.eachEntry) }

// purgeUnder is PurgePrefix; each visits all entries in memory that have the prefix, and maybe others.
func (c *Cache) purgeUnder(at Key, hard bool, each func(visit func(Key))) Purged {
	match := func(k Key) bool { return under(k, at) }
	m, p := c.detach(at, match, hard)
	p.Negative = c.negative.drop(match)
	durable := c.purgeDisk(at, true, m, &p)
	each(func(k Key) {
		if match(k) {
			c.purgeEntry(k, m, &p)
		}
	})
	if hard {
		// A fetch that started during the purge may have found the old entry: detach it,
		// so that no request joins it.
		c.detach(at, match, true)
	}
	durable()
	return p
}

// eachEntry calls visit with the key of each entry in memory.
func (c *Cache) eachEntry(visit func(Key)) {
	buf := make([]*Entry, 0, stepSize)
	for i := range c.memory.shard {
		for end := math.MaxInt; end > 0; runtime.Gosched() {
			buf, end = c.memory.shard[i].step(buf, end)
			for _, e := range buf {
				visit(e.key)
			}
		}
	}
}

// purgeDisk marks the key at, or all keys with its prefix, on disk, so that no file from
// before is opened again, and applies the mark to the files that are open. The mark is durable
// when the returned function has returned: it waits for the disk, and the caller must call it
// when nothing else is left to be done. It adds how many entries there are on disk to p.
//
// The moves are detached after that, because one that began during the purge may have opened
// a file before the mark was there. An entry that it has put into a table is found there, in
// memory too, if the caller looks there afterwards.
func (c *Cache) purgeDisk(at Key, prefix bool, m *mark, p *Purged) (durable func()) {
	if c.disk == nil {
		return func() {}
	}
	match := func(k Key) bool { return prefix && under(k, at) || k == at }
	n, bytes, wait := c.disk.Cover(disk.Mark{
		Space: at.Space, Epoch: at.Epoch, Object: at.Object, Prefix: prefix,
		Hard: m.hard, Generation: m.generation, At: m.at,
	})
	c.detach(at, match, m.hard)
	n = max(n, c.files.purge(match, m))
	return func() {
		p.Err = wait()
		p.atLeast(n, bytes)
	}
}

// atLeast counts the entries that were found on disk. Most of them are in memory too.
func (p *Purged) atLeast(n int, bytes int64) {
	p.Entries, p.Bytes = max(p.Entries, n), max(p.Bytes, bytes)
}

// PurgeSpace is a soft purge of a whole epoch. Its time does not depend on the number of
// entries.
func (c *Cache) PurgeSpace(spaceNo, epoch int64) Purged { return c.purgeSpace(spaceNo, epoch, false) }

// Retire is PurgeSpace for an epoch that will get no more requests. Its entries stay until
// they are evicted.
func (c *Cache) Retire(spaceNo, epoch int64) Purged { return c.purgeSpace(spaceNo, epoch, true) }

func (c *Cache) purgeSpace(spaceNo, epoch int64, retire bool) Purged {
	at, id := Key{Space: spaceNo, Epoch: epoch}, spaceID{spaceNo, epoch}
	match := func(k Key) bool { return under(k, at) }
	c.mu.Lock()
	m, p := c.detachLocked(at, match, false)
	if s := c.markedLocked(id); s != nil {
		s.mark(&s.purged, m)
		p.Entries, p.Bytes = int(s.entries.Load()), s.bytes.Load()
	}
	if retire {
		delete(c.spaces, id)
	}
	c.mu.Unlock()
	p.Negative = c.negative.drop(match)
	onDisk := *m
	onDisk.hard = retire
	c.purgeDisk(at, true, &onDisk, &p)()
	return p
}

// DropAll drops everything. Its time depends on how much there is, and not on how many spaces
// there could be. The error says that a crash may undo it.
func (c *Cache) DropAll() error {
	all, err := c.allSpaces()
	marks, purged := make(map[spaceID]*mark, len(all)), make([]Purged, len(all))
	durable := make([]func(), 0, len(all))
	for id := range all {
		at := Key{Space: id.space, Epoch: id.epoch}
		m, _ := c.detach(at, func(k Key) bool { return under(k, at) }, true)
		marks[id] = m
		durable = append(durable, c.purgeDisk(at, true, m, &purged[len(durable)]))
	}
	c.negative.drop(func(Key) bool { return true })
	c.eachEntry(func(k Key) {
		if m := marks[spaceID{k.Space, k.Epoch}]; m != nil {
			c.purgeEntry(k, m, &Purged{})
		}
	})
	for id := range all { // as in PurgePrefix
		at := Key{Space: id.space, Epoch: id.epoch}
		c.detach(at, func(k Key) bool { return under(k, at) }, true)
	}
	errs := append(make([]error, 0, 1+len(durable)), err)
	for i := range durable {
		durable[i]()
		errs = append(errs, purged[i].Err)
	}
	return errors.Join(errs...)
}

// allSpaces returns the epochs that have something in memory or on disk.
func (c *Cache) allSpaces() (map[spaceID]bool, error) {
	all := map[spaceID]bool{}
	c.mu.Lock()
	for id := range c.spaces {
		all[id] = true
	}
	c.mu.Unlock()
	c.eachEntry(func(k Key) { all[spaceID{k.Space, k.Epoch}] = true }) // its space may be gone: see Retire
	if c.disk == nil {
		return all, nil
	}
	err := c.disk.EachSpace(func(space, epoch int64) { all[spaceID{space, epoch}] = true })
	return all, err
}

// markedLocked returns the space that a mark belongs to. An epoch without a space has
// neither fetches nor entries, but it may have files.
func (c *Cache) markedLocked(id spaceID) *space {
	if c.disk != nil {
		return c.spaceLocked(Key{Space: id.space, Epoch: id.epoch})
	}
	return c.spaces[id]
}

// Revalidate is for an epoch whose default lifetimes have changed. It makes the entries
// stale but leaves Entry.Purged false, so that a Load can revalidate them with one
// conditional request. Until then an entry may be served stale for staleWhile, unless its
// source stated a time of its own. A running fetch continues for its readers and does not
// become an entry.
//
// Its time does not depend on the number of entries. A Load that starts after the call
// must use the new lifetimes. The start of a fetch counts, because the
// cache cannot know when its Load looked up the lifetimes:
//
//  1. A private fetch, which is in no table, asks the source whether K is still the same.
//  2. The source confirms it, and the Load looks up the lifetimes of K.
//  3. The lifetimes change, and Revalidate is called.
//  4. The fetch renews the entry of K with the lifetimes from before 3. The entry has the
//     generation of 1 and is therefore stale.
func (c *Cache) Revalidate(spaceNo, epoch int64, staleWhile time.Duration) {
	at := Key{Space: spaceNo, Epoch: epoch}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.markedLocked(spaceID{spaceNo, epoch}); s != nil {
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

// detachLocked removes fetches from the table, so that no request joins them and they do
// not become entries. If a fetch has already stored its entry, the purge finds that
// afterwards. All keys that match must be of at's space and epoch.
func (c *Cache) detachLocked(at Key, match func(Key) bool, hard bool) (*mark, Purged) {
	var p Purged
	generation := c.nextGeneration()
	if s := c.spaces[spaceID{at.Space, at.Epoch}]; s != nil {
		s.changed = generation
	}
	for key := range c.moves {
		if match(key) {
			delete(c.moves, key)
		}
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

// nextGeneration increments the generation. It is greater than those of all files on disk,
// also if the disk has begun to work after the start.
func (c *Cache) nextGeneration() uint64 {
	if c.disk != nil {
		c.generation.Store(max(c.generation.Load(), c.disk.Generation()))
	}
	return c.generation.Add(1)
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
