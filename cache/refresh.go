package cache

import (
	"context"
	"time"
)

// maxRefreshes bounds how many flights may be under way that nobody waits for. What
// is refused is served stale once more, and asked for again by the next request.
// One space may have a quarter of them, so that a source which is slow keeps none
// but its own from being renewed.
const (
	maxRefreshes      = 64
	maxSpaceRefreshes = maxRefreshes / 4
)

// Refresh has a fresh entry fetched anew, ahead of its end, by a flight that nobody
// waits for. e must be a hit that was Due and is not released yet.
func (c *Cache) Refresh(key Key, e *Entry, load Load) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// What has been dropped since it was hit must not come back as a flight's.
	if c.memory.stores(e) && !c.refreshLocked(key, e, time.Now(), load) {
		e.refreshing.Store(false)
	}
}

// refreshLocked begins to fetch e anew, unless that is under way, or failed a moment
// ago, or too much else is under way.
func (c *Cache) refreshLocked(key Key, e *Entry, now time.Time, load Load) bool {
	if c.fetches[key] != nil {
		return true
	}
	if e.retryDelayed(now) || !e.space.mayRefresh(c) {
		return false
	}
	e.body.hold(1)
	c.startLocked(key, background, e, load)
	return true
}

// mayRefresh is called with Cache.mu held.
func (s *space) mayRefresh(c *Cache) bool {
	return context.Cause(c.base) == nil && c.refreshes < maxRefreshes && s.refreshes < maxSpaceRefreshes
}

// Prefetch has key fetched by a flight that nobody waits for, unless it is stored.
func (c *Cache) Prefetch(key Key, load Load) {
	if c.memory.has(key) || c.hitForPass.marked(key) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.fetches[key] != nil || c.negative.get(key, time.Now()) != nil
	if !known && c.spaceLocked(key).mayRefresh(c) {
		c.startLocked(key, background, nil, load)
	}
}

// GetStale returns what is stored of key, however stale, and marks it as used. The
// caller must Release it.
func (c *Cache) GetStale(key Key) (*Entry, bool) {
	e := c.memory.look(key)
	return e, e != nil
}
