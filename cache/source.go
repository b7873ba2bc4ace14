package cache

import "context"

// blobFor makes room for a source that may be shared; nil where it may not, or
// where there is no room. What may not be shared is remembered for a while, so
// that requests for it need not queue up behind one another's headers.
func (c *Cache) blobFor(key Key, src *Source) *blob {
	if !c.storable(key, src) {
		c.passes.mark(key)
		return nil
	}
	n := cost(key, src)
	if !c.memory.room(&c.memory.held, n) {
		return nil
	}
	return newBlob(&c.memory.held, c.memory.arena, int(src.Size), n)
}

// cost is what an object holds once it is in memory.
func cost(key Key, src *Source) int64 {
	return bodyCost(src.Size) + allocated(int64(len(key.Object))) + src.MetaBytes + entryOverhead
}

// storable reports whether src may become an entry.
func (c *Cache) storable(key Key, src *Source) bool {
	return src.keeps() && !c.tooLarge(key, src)
}

// keeps reports whether src wants to be stored.
func (src *Source) keeps() bool { return src.lasts() || src.Validate }

// lasts reports whether src may answer other requests than the one that it was
// fetched for.
func (src *Source) lasts() bool { return src.Fresh > max(0, src.Age) }

func (c *Cache) tooLarge(key Key, src *Source) bool {
	return src.Size < 0 || src.Size > c.objectMax || cost(key, src) > c.memory.held.limit
}

// drop ends a source that has no reader any more.
func (c *Cache) drop(src *Source, cancel context.CancelCauseFunc) {
	if src.Same {
		cancel(nil)
		return
	}
	c.guard(src.Body.Close, func(error) { cancel(ErrAbandoned) })
}
