package cache

import (
	"io"
	"runtime"

	"ixmage/cache/arena"
)

const (
	// growFirst is the memory that a body of unknown size begins with.
	growFirst = 64 << 10
	// growStep is the most that it gets at a time in the arena.
	growStep = 1 << 20
	// growingShare is the part of the arena's window that all growing bodies may take.
	growingShare = 2
)

// growth is the memory of a body whose size is not known until it is complete. In the arena it
// has an extent of the largest size from the beginning, of which only the pages in use exist:
// published bytes never move. On the heap it doubles, and its older arrays count until the
// body is released, because readers may still send from them. The entry gets a copy of the
// right size (compact), so that these extents, which are larger than most gaps between
// others, do not stay.
type growth struct {
	memory *memory
	space  int64  // Key.Space
	limit  int    // the largest size
	have   int    // bytes that may be written
	cost   int64  // reserved for them
	rest   []byte // read beyond limit
}

// newGrowingBody returns a body of unknown size. growCost must have been reserved.
func newGrowingBody(m *memory, space, cost int64) *body {
	limit := int(m.objectMax)
	g := &growth{memory: m, space: space, limit: limit, have: min(growFirst, limit), cost: bodyCost(-1)}
	b := &body{budget: &m.held, cost: cost, growth: g}
	if m.arena != nil && m.growing.reserve(int64(limit)) {
		if b.extent = m.arena.AllocSparse(int64(limit)); b.extent == nil {
			m.growing.release(int64(limit))
		}
	}
	if b.extent != nil {
		b.arena, b.data = m.arena, m.arena.Bytes(b.extent, limit)
		b.arena.Populate(b.extent, int64(b.growth.have))
	} else {
		b.data = make([]byte, b.growth.have)
	}
	b.more.L = &b.mu
	b.refs.Store(1)
	return b
}

// fillUnknown reads from into b, whose size is not known, until io.EOF. Until then it
// withholds the last byte. It returns errOutgrown if there is no room for more.
func (b *body) fillUnknown(from io.Reader) error {
	g := b.growth
	for n, idle := 0, 0; ; {
		to := b.data[n:g.have]
		if len(to) == 0 {
			grown, err := b.grow(from, n)
			if !grown {
				return b.endUnknown(n, err)
			}
			continue
		}
		k, err := from.Read(to)
		if k > 0 {
			first := n == 0
			n, idle = n+k, 0
			b.publish(n - 1)
			if first {
				runtime.Gosched() // as in fill
			}
		}
		if err != nil {
			return b.endUnknown(n, err)
		}
		if idle++; idle > emptyReads {
			return io.ErrNoProgress
		}
	}
}

// grow makes room for bytes after the first n. If it does not, it returns the end of the
// body, or errOutgrown.
func (b *body) grow(from io.Reader, n int) (grown bool, err error) {
	g := b.growth
	if n < g.limit && b.reserveMore() {
		return true, nil
	}
	one := make([]byte, 1)
	for range emptyReads {
		k, err := from.Read(one)
		switch {
		case k > 0:
			g.rest = one
			return false, errOutgrown
		case err != nil:
			return false, err
		}
	}
	return false, io.ErrNoProgress
}

// reserveMore takes memory for the next step.
func (b *body) reserveMore() bool {
	g := b.growth
	next := min(g.limit, 2*g.have)
	n := allocated(int64(next))
	if b.extent != nil {
		next = min(next, g.have+growStep)
		n = bodyCost(int64(next)) - g.cost
	}
	if !g.memory.fetchRoom(g.space, n) {
		return false
	}
	if b.extent != nil {
		b.arena.Populate(b.extent, int64(next))
	} else {
		larger := make([]byte, next)
		b.mu.Lock()
		copy(larger, b.data)
		b.data = larger
		b.mu.Unlock()
	}
	b.addCost(n)
	g.have = next
	return true
}

// addCost adds n to the cost of a growing body, which its fetch has pinned.
func (b *body) addCost(n int64) {
	b.mu.Lock()
	b.cost += n
	b.mu.Unlock()
	b.growth.cost += n
	b.growth.memory.filling.Add(n)
	b.budget.bytes.Add(n)
}

// unpinFilled ends the pin of the fetch that has filled b.
func (b *body) unpinFilled(m *memory) {
	m.filling.Add(-b.cost)
	b.unpin()
}

// endUnknown fixes the size of b if err is the end of a complete body, and gives back what it
// does not need.
func (b *body) endUnknown(n int, err error) error {
	if !isEnd(err) {
		return err
	}
	b.mu.Lock()
	b.data = b.data[:n:n]
	b.mu.Unlock()
	if b.extent != nil {
		b.arena.Shrink(b.extent, int64(max(n, 1)))
		spare := b.growth.cost - bodyCost(int64(max(n, arena.PageSize)))
		b.addCost(-spare)
		b.budget.release(spare)
	}
	b.endGrowth()
	return nil
}

// compact returns a copy of a complete body in memory of its size, nil if there is no room for
// both.
func (f *fetch) compact(b *body) *body {
	m, size := f.cache.memory, len(b.data)
	cost := cost(f.key, &Source{Size: int64(size), MetaBytes: f.source.MetaBytes})
	if !m.room(f.key.Space, cost) {
		return nil
	}
	c := newBody(&m.held, m.arena, size, cost)
	for n := 0; n < size; {
		to := c.prepare(n)
		n += copy(c.data[n:to], b.data[n:to])
	}
	c.finish(nil)
	return c
}

// endGrowth gives back the extent's part of the window.
func (b *body) endGrowth() {
	if b.growth != nil && b.extent != nil {
		b.growth.memory.growing.release(int64(b.growth.limit))
	}
	b.growth = nil
}

// outgrown is what a body has no room for: the byte that it withholds, the byte read beyond
// its limit, and the rest of its source.
type outgrown struct {
	io.ReadCloser

	front []byte
}

func (o *outgrown) Read(p []byte) (int, error) {
	if len(o.front) > 0 {
		n := copy(p, o.front)
		o.front = o.front[n:]
		return n, nil
	}
	return o.ReadCloser.Read(p)
}

// outgrow ends a fetch whose object is larger than the cache takes, or for which there is no
// more memory. The fetch leaves the table. The first of its readers that has read all that is
// in memory takes the rest from the source; the others get ErrOutgrown.
func (f *fetch) outgrow(rest io.ReadCloser) {
	c := f.cache
	if g := f.body.growth; g != nil && g.have == g.limit {
		c.hitForPass.mark(f.key)
	}
	if f.old != nil {
		c.remove(f.old, reasonReplaced) // the object has changed, and will not be stored
	}
	c.mu.Lock()
	if f.state != abandoned {
		f.state = committed
	}
	f.removeLocked()
	f.stopIdleLocked()
	f.rest = rest
	orphan := f.takeOrphanLocked()
	c.mu.Unlock()
	f.body.finish(errOutgrown)
	f.body.release()
	f.body.unpinFilled(c.memory)
	f.closeRest(orphan)
}

// takeOrphanLocked returns the rest of an outgrown object if no waiter can take it any more.
func (f *fetch) takeOrphanLocked() io.ReadCloser {
	if f.waiters > 0 {
		return nil
	}
	rest := f.rest
	f.rest = nil
	return rest
}

func (f *fetch) closeRest(rest io.ReadCloser) {
	if rest != nil {
		f.cache.guard.run(rest.Close, func(error) { f.cancel(ErrAbandoned) })
	}
}

// takeRest gives the rest of an outgrown object to the first reader that calls it.
func (f *fetch) takeRest(r *Reader) io.ReadCloser {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	rest := f.rest
	f.rest = nil
	if rest != nil {
		f.taker = r
	}
	return rest
}

// tookRest reports whether r has taken the rest.
func (f *fetch) tookRest(r *Reader) bool {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	return f.taker == r
}

// nextRest continues after the bytes in memory.
func (r *Reader) nextRest() ([]byte, error) {
	rest := r.fetch.takeRest(r)
	if rest == nil {
		return nil, ErrOutgrown
	}
	r.stream = &stream{guard: r.fetch.cache.guard, body: rest, size: -1}
	r.body.release() // but it stays, for Unpin
	return r.stream.next()
}
