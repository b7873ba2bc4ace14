package cache

import (
	"context"
	"time"
)

// maxRenewals bounds how many flights may be under way that nobody waits for. What
// is refused is served stale once more, and asked for again by the next request.
// One space may have a quarter of them, so that a source which is slow keeps none
// but its own from being renewed.
const (
	maxRenewals      = 64
	maxSpaceRenewals = maxRenewals / 4
)

// Renew has a fresh entry fetched anew, ahead of its end, by a flight that nobody
// waits for. e must be a hit that was Due and is not released yet.
func (c *Cache) Renew(key Key, e *Entry, load Load) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// What has been dropped since it was hit must not come back as a flight's.
	if c.memory.stores(e) && !c.renewLocked(key, e, time.Now(), load) {
		e.renewal.Store(false)
	}
}

// renewLocked begins to fetch e anew, unless that is under way, or failed a moment
// ago, or too much else is under way.
func (c *Cache) renewLocked(key Key, e *Entry, now time.Time, load Load) bool {
	if c.flights[key] != nil {
		return true
	}
	if e.rest.after(now) || !c.mayRenewLocked(e.space) {
		return false
	}
	e.blob.hold(1)
	c.startUnaskedLocked(key, e, load)
	return true
}

func (c *Cache) mayRenewLocked(s *space) bool {
	return context.Cause(c.base) == nil && c.renewals < maxRenewals && s.renewals < maxSpaceRenewals
}

// startUnaskedLocked begins a flight that nobody waits for. It takes over the hold
// on old.
func (c *Cache) startUnaskedLocked(key Key, old *Entry, load Load) {
	f := c.startLocked(key, old, load)
	c.renewals++
	f.space.renewals++
	f.unasked, f.wanted = true, true
	f.over = time.AfterFunc(overtime, func() { c.giveUp(f) })
}

// Warm has key fetched by a flight that nobody waits for, unless it is stored.
func (c *Cache) Warm(key Key, load Load) {
	if c.memory.has(key) || c.passes.marked(key) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.flights[key] != nil || c.missing.get(key, time.Now()) != nil
	if !known && c.mayRenewLocked(c.spaceLocked(key)) {
		c.startUnaskedLocked(key, nil, load)
	}
}

// Keep returns what is stored of key, however stale, and marks it as used. The
// caller must Release it.
func (c *Cache) Keep(key Key) (*Entry, bool) {
	e := c.memory.look(key)
	return e, e != nil
}

// tireLocked has what nobody waited for, and which failed, rest for a moment. One
// that was purged has no say in what came after.
func (f *flight) tireLocked(now time.Time) {
	if f.unasked && f.old != nil && !f.dead.Load() {
		f.old.tired(now)
	}
}

// letGo gives back what a flight had beside its own. It is over by now, and out of
// the table, where others could find what was stored.
func (c *Cache) letGo(f *flight) {
	if f.old != nil {
		f.old.Release()
	}
	if f.unasked {
		c.mu.Lock()
		c.renewals--
		f.space.renewals--
		c.mu.Unlock()
	}
}
