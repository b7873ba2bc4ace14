package cache

import (
	"context"
	"time"
)

// maxRefreshes bounds how many background fetches run at a time. An entry beyond that is
// served stale once more, and the next request tries again. One space may have a quarter
// of them, so that a slow source does not block the refreshes of other spaces.
const (
	maxRefreshes      = 64
	maxSpaceRefreshes = maxRefreshes / 4
)

// Refresh starts a background fetch of a fresh entry before it expires. e must be a hit
// that was Due and is not released yet.
func (c *Cache) Refresh(key Key, e *Entry, load Load) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// An entry that was dropped since the hit must not come back through a fetch.
	if c.memory.stores(e) && !c.refreshLocked(key, e, time.Now(), load) {
		e.refreshing.Store(false)
	}
}

// refreshLocked starts a background fetch of e, unless one is under way, or has just
// failed, or too many others are under way.
func (c *Cache) refreshLocked(key Key, e *Entry, now time.Time, load Load) bool {
	if c.fetches[key] != nil {
		return true
	}
	if e.retryDelayed(now) || !e.space.mayRefresh(c) {
		return false
	}
	e.body.retain(1)
	c.startLocked(key, background, e, load)
	return true
}

// mayRefresh is called with Cache.mu held.
func (s *space) mayRefresh(c *Cache) bool {
	return context.Cause(c.base) == nil && c.refreshes < maxRefreshes && s.refreshes < maxSpaceRefreshes
}

// Prefetch starts a background fetch of key, unless it is stored.
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

// GetStale returns the entry of key, however stale, and marks it as used. The caller must
// Release it.
func (c *Cache) GetStale(key Key) (*Entry, bool) {
	e := c.memory.look(key)
	return e, e != nil
}
