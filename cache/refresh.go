package cache

import (
	"context"
	"time"
)

// maxRefreshes bounds the background fetches that run at a time. Above the limit, a stale
// entry is served without a refresh, and the next request tries again. One space may have
// a quarter of them, so that a slow source does not block the refreshes of other spaces.
const (
	maxRefreshes      = 64
	maxSpaceRefreshes = maxRefreshes / 4
)

// Refresh starts a background fetch of a fresh entry before it expires. e must be a hit
// that was Due and has not been released.
func (c *Cache) Refresh(key Key, e *Entry, load Load) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A fetch must not restore an entry that was dropped since the hit.
	if c.stores(e) && !c.refreshLocked(key, e, time.Now(), load) {
		e.refreshing.Store(false)
	}
}

// refreshLocked starts a background fetch of e, unless a fetch of key runs, the last one
// has just failed, or too many others run. It reports whether a fetch of key runs now.
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

// Prefetch starts a background fetch of key, unless the key has an entry, a negative entry
// or a running fetch, or would bypass the cache.
func (c *Cache) Prefetch(key Key, load Load) {
	c.Open(context.Background(), key)
	if c.Has(key) || c.hitForPass.marked(key) {
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
	e := c.look(key)
	return e, e != nil
}
