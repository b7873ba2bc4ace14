package cache

import "context"

// PartMark stands in Key.Object between the name of an object and that of a part of
// it, or of something that is known of it. No object's own name has it.
const PartMark = "\x00"

// shareFraction of the budget is what flights may hold together that make no entry:
// it is lent by entries, which others ask for again.
const shareFraction = 8

// Share returns what load brings to everybody who asks for key while it is fetched,
// and while one of them still reads. It is never stored; no Load is told of anything
// old. key must be one that Get is not asked for; a purge of the object whose name
// stands before PartMark in it keeps later readers from what is under way. Where there
// is no room for all, each of them fetches alone.
func (c *Cache) Share(ctx context.Context, key Key, load Load) (*Reader, error) {
	seat, err := c.joinShared(key, load) //nolint:contextcheck // a flight outlives who began it
	if err != nil {
		return nil, err
	}
	return c.board(ctx, seat, load, false)
}

// Shares tells whether Share is worth asking for n bytes: they are fetched already, or
// there is room for them. It may be otherwise by then.
func (c *Cache) Shares(key Key, n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flights[key] != nil || c.sharing+n <= c.memory.held.limit/shareFraction
}

func (c *Cache) joinShared(key Key, load Load) (seat, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := context.Cause(c.base); err != nil {
		return seat{}, err
	}
	if f := c.flights[key]; f != nil {
		f.seats++
		if f.blob != nil {
			f.blob.hold(1)
		}
		return seat{flight: f}, nil
	}
	f := &flight{fetching: fetching{key: key}, shares: true, seats: 1}
	c.beginLocked(f, load)
	return seat{flight: f, first: true}, nil
}

// blobOf makes room for what a flight brings, nil where there is none.
func (c *Cache) blobOf(f *flight, src *Source) *blob {
	if !f.shares {
		return c.blobFor(f.key, src)
	}
	n := cost(f.key, src)
	if src.Size < 0 || !c.mayShare(n) {
		return nil
	}
	if !c.memory.room(&c.memory.held, n) {
		c.mu.Lock()
		c.sharing -= n
		c.mu.Unlock()
		return nil
	}
	return newBlob(&c.memory.held, c.memory.arena, int(src.Size), n)
}

// mayShare takes n bytes of what flights without an entry may hold.
func (c *Cache) mayShare(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok := c.sharing+n <= c.memory.held.limit/shareFraction
	if ok {
		c.sharing += n
	}
	return ok
}

// unshareLocked gives back what mayShare took.
func (c *Cache) unshareLocked(f *flight) {
	if f.shares {
		c.sharing -= f.blob.cost
	}
}

// forsakeLocked reports whether f was there for its readers alone, and they are gone:
// what it holds of the blob is to be released.
func (c *Cache) forsakeLocked(f *flight) bool {
	if !f.lingers || f.seats > 0 {
		return false
	}
	f.lingers = false
	c.removeLocked(f)
	c.unshareLocked(f)
	return true
}
