package proxy

import (
	"sync"

	"ixmage/cache"
)

// crowd knows which parts of objects are being sent that the cache does not take: to
// tell when clients want the same bytes at the same time.
type crowd struct {
	mu    sync.Mutex // guards parts
	parts map[crowdKey][]byteRange
}

// crowdKey is one version of an object.
type crowdKey struct {
	cache.Key

	etag string
}

// enter notes a part until leave is called, for the first time, and reports whether
// it has bytes in common with another one.
func (c *crowd) enter(k crowdKey, r byteRange) (meets bool, leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.parts[k] {
		meets = meets || r.first <= other.last && other.first <= r.last
	}
	if c.parts == nil {
		c.parts = make(map[crowdKey][]byteRange)
	}
	c.parts[k] = append(c.parts[k], r)
	return meets, sync.OnceFunc(func() { c.leave(k, r) })
}

func (c *crowd) leave(k crowdKey, r byteRange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.parts[k]
	for i, other := range list {
		if other == r {
			end := len(list) - 1
			list[i] = list[end]
			c.parts[k] = list[:end]
			break
		}
	}
	if len(c.parts[k]) == 0 {
		delete(c.parts, k)
	}
}
