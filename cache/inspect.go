package cache

import (
	"math"
	"runtime"
	"time"

	"ixmage/cache/disk"
)

// View is the state of one key, for an operator.
type View struct {
	// Tier is memory, disk or missing; empty if the key has no entry.
	Tier     string
	Meta     any
	Size     int64
	Stored   time.Time
	Expires  time.Time
	Fresh    bool
	Outdated bool // its lifetimes may have changed: see Revalidate
	// StaleWhileRevalidate is the time until which it may be served while it is
	// refreshed, StaleIfError until which while the refresh fails.
	StaleWhileRevalidate, StaleIfError time.Time
	Failing                            bool  // the last refresh failed
	Err                                error // of a negative entry
	Fetching                           bool  // a fetch is running
	Bypass                             bool  // the last object fetched could not be stored

	entry *Entry // may have been released
}

// StaleIfErrorBy is StaleIfError by other lifetimes than the entry's own.
func (v *View) StaleIfErrorBy(l Lifetimes) time.Time { return v.entry.staleIfErrorEnd(&l) }

// Fetching reports whether a fetch of key is running that Get would join.
func (c *Cache) Fetching(key Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fetches[key] != nil
}

// Inspect returns the state of key. It changes nothing and does not count as a use.
func (c *Cache) Inspect(key Key, now time.Time) View {
	v := View{Bypass: c.hitForPass.marked(key)}
	v.Fetching = c.Fetching(key)
	if e := c.peek(key); e != nil {
		v.show(e, now)
		e.Release()
		return v
	}
	if e := c.peekFile(key); e != nil {
		v.show(e, now)
		e.Release()
		return v
	}
	if c.negative.view(key, now, &v) {
		v.Tier = TierNegative
	}
	return v
}

// Search calls visit with the object of each entry of at's space and epoch, until it returns
// false. It visits limit entries at most, those of other spaces included, and delays a
// concurrent request by at most one step through a shard.
func (c *Cache) Search(at Key, limit int, visit func(object string) bool) {
	buf := make([]*Entry, 0, stepSize)
	if c.disk != nil {
		for _, e := range c.files.entries() {
			if under(e.key, at) && !visit(e.key.Object) {
				return
			}
		}
	}
	for i := range c.memory.shard {
		for end := math.MaxInt; end > 0; runtime.Gosched() {
			buf, end = c.memory.shard[i].step(buf, end)
			for _, e := range buf {
				if limit--; limit < 0 || under(e.key, at) && !visit(e.key.Object) {
					return
				}
			}
		}
	}
}

// peekFile returns the entry of an object on disk that is in no table, nil if there is none.
// It waits for the disk.
func (c *Cache) peekFile(key Key) *Entry {
	if c.disk == nil || !c.disk.Has(disk.Key(key)) {
		return nil
	}
	obj, err := c.disk.Get(disk.Key(key))
	if err != nil {
		return nil
	}
	e := c.restore(key, obj)
	if e == nil {
		obj.Close()
		return nil
	}
	c.mu.Lock()
	e.space = c.spaceLocked(key)
	c.mu.Unlock()
	return e
}

func (v *View) show(e *Entry, now time.Time) {
	v.Tier = Tier
	if e.OnDisk() {
		v.Tier = TierDisk
	}
	v.Meta, v.Size, v.Stored = e.Meta, e.body.length(), e.Stored
	v.Expires, v.Fresh, v.Failing = e.expires(), e.fresh(now), e.lastFailure() != nil
	v.Outdated, v.entry = e.outdated(), e
	v.StaleWhileRevalidate, v.StaleIfError = v.Expires.Add(e.staleWhile()), e.staleIfErrorEnd(nil)
}

func (m *negative) view(key Key, now time.Time, v *View) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.lru.Peek(key)
	if !ok || !now.Before(a.until) {
		return false
	}
	v.Err, v.Expires = a.err, a.until
	return true
}

// Forget drops the state and the negative entries of all epochs of a space below before.
// The entries of these epochs get no more requests, so those in memory will be evicted, and
// those on disk are removed in the background.
func (c *Cache) Forget(space, before int64) {
	old := before == AllEpochs
	c.mu.Lock()
	for id := range c.spaces {
		if id.space == space && id.epoch < before {
			delete(c.spaces, id)
			old = true
		}
	}
	c.mu.Unlock()
	match := func(key Key) bool { return key.Space == space && key.Epoch < before }
	c.negative.drop(match)
	if c.disk != nil && old {
		// Files that stay open would keep their room on disk.
		c.files.purge(match, &mark{generation: math.MaxUint64, hard: true})
		c.disk.Keep(func(s, epoch int64) bool { return s != space || epoch >= before })
	}
}

// AllEpochs is larger than every epoch, for Forget.
const AllEpochs = math.MaxInt64

// Predict returns the status that Get would have for an object whose metadata is known,
// Miss or Bypass, and whether Get would find an expired entry. src needs no Body.
func (c *Cache) Predict(key Key, src *Source) (status Status, stale bool) {
	stale = !c.hitForPass.marked(key) && c.expired(key, time.Now())
	if c.bypassed(key, src) {
		return Bypass, stale
	}
	return Miss, stale
}

// expired reports whether key has a stale entry.
func (c *Cache) expired(key Key, now time.Time) bool {
	e := c.peek(key)
	if e == nil {
		return false
	}
	defer e.Release()
	return !e.fresh(now)
}
