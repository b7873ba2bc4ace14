package cache

import (
	"context"
	"time"
)

// Stream fetches an object for one reader alone, past everything else: it joins
// no flight and leaves no entry. Its bytes are held no longer than it takes to
// read them.
func (c *Cache) Stream(ctx context.Context, key Key, load Load) (*Reader, error) {
	return c.pass(ctx, key, load, false)
}

// Bypasses reports whether Get is known to stream key past the cache: lately it
// was too large, of unknown length, or not to be stored.
func (c *Cache) Bypasses(key Key) bool { return c.passes.marked(key) }

// Foresee says what Get would make of an object of which no more than the
// metadata is known: Miss or Bypass, and whether it would find an expired entry.
// src needs no Body.
func (c *Cache) Foresee(key Key, src *Source) (status Status, stale bool) {
	stale = !c.passes.marked(key) && c.memory.expired(key, time.Now())
	if c.tooLarge(key, src) {
		return Bypass, stale
	}
	return Miss, stale
}

// Alone reports whether the bytes come for this reader only: in order, once.
func (r *Reader) Alone() bool { return r.solo != nil }
