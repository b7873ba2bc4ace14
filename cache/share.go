package cache

import "sync"

// share is the part of the memory tier that a space has: at least floor, at most ceiling bytes.
// Zero means that there is no such limit.
type share struct{ floor, ceiling int64 }

// shares are the shares of all spaces that have one.
type shares struct {
	mu sync.Mutex
	of map[int64]share
}

// SetShare sets the floor and the ceiling of a space in the memory tier, in bytes; zero is
// none. Entries of other spaces are not evicted to bring the space to its floor, but while it
// is below, only the space itself evicts its entries. Above its ceiling it evicts its own
// entries. It holds for all epochs of the space.
func (c *Cache) SetShare(space, floor, ceiling int64) {
	s := &c.memory.shares
	s.mu.Lock()
	defer s.mu.Unlock()
	if floor <= 0 && ceiling <= 0 {
		delete(s.of, space)
		return
	}
	if s.of == nil {
		s.of = make(map[int64]share)
	}
	s.of[space] = share{floor, ceiling}
}
