package cache

import (
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"ixmage/cache/arena"
)

// body is the content of one object: filled once, from the front, by a fetch, and
// read by any number of readers meanwhile and after. Bytes that have been
// published never change, so they are handed out without copying.
//
// A body is counted against the budget from the moment it is made until its
// last holder lets go: the memory tier, the fetch, every reader. An evicted
// entry that a slow client still drains is therefore still counted.
type body struct {
	budget *budget
	cost   int64
	refs   atomic.Int64

	data []byte // length is the declared size; written only by the fetch
	// Where data lies: in an extent of the arena, or on the heap without one.
	arena  *arena.Arena
	extent *arena.Extent
	// sealed is set after the last byte was published; it spares readers of a
	// complete body the lock.
	sealed atomic.Bool

	mu   sync.Mutex // guards n and err
	more sync.Cond
	n    int   // bytes that readers may see
	err  error // io.EOF for a good end
}

// newBody makes a body with one holder, the caller. cost must have been taken
// from the budget before. Without an arena, or where that is full, the body is
// on the heap.
func newBody(b *budget, a *arena.Arena, size int, cost int64) *body {
	bl := &body{budget: b, cost: cost}
	if a != nil && size >= arenaMin {
		bl.arena, bl.extent = a, a.Alloc(int64(size))
	}
	if bl.extent != nil {
		bl.data = a.Bytes(bl.extent, size)
	} else {
		bl.data = make([]byte, size)
	}
	bl.more.L = &bl.mu
	bl.refs.Store(1)
	return bl
}

// arenaMin is the size from which bodies lie in the arena: what is smaller than
// a page would waste the rest of one.
const arenaMin = arena.PageSize

// file says where data lies in the arena's file.
func (b *body) file() (fd int, off int64, ok bool) {
	if b.extent == nil {
		return -1, 0, false
	}
	fd, off = b.arena.File(b.extent)
	return fd, off, true
}

func (b *body) retain(n int) { b.refs.Add(int64(n)) }

func (b *body) release() {
	switch n := b.refs.Add(-1); {
	case n == 0:
		b.data = nil // a late access must fail, and not read the bytes of another object
		if b.extent != nil {
			b.arena.Free(b.extent)
		}
		b.budget.release(b.cost)
	case n < 0:
		//nolint:forbidigo // from here on somebody would get another object's bytes
		panic("cache: body released more often than held")
	}
}

// shared reports whether there is more than one holder.
func (b *body) shared() bool { return b.refs.Load() > 1 }

// publish lets readers see the first n bytes.
func (b *body) publish(n int) {
	b.mu.Lock()
	b.n = n
	b.mu.Unlock()
	b.more.Broadcast()
}

// finish ends the body: with nil when it is complete, which shows the last
// byte, else with what went wrong. It is called once.
func (b *body) finish(err error) {
	b.mu.Lock()
	b.err = err
	if err == nil {
		b.n, b.err = len(b.data), io.EOF
		b.sealed.Store(true)
	}
	b.mu.Unlock()
	b.more.Broadcast()
}

// next returns the published bytes from off on, waiting for at least one. At
// the end it returns io.EOF; before it, what ended the fetch. Bytes that came
// before a failure are handed out first.
func (b *body) next(off int) ([]byte, error) {
	if b.sealed.Load() {
		if off >= len(b.data) {
			return nil, io.EOF
		}
		return b.data[off:], nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.n <= off && b.err == nil {
		b.more.Wait()
	}
	if b.n > off {
		return b.data[off:b.n], nil
	}
	return nil, b.err
}

// published is how many bytes readers may see now.
func (b *body) published() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// fill reads from into b. It succeeds only when the body is exactly as long as
// declared and ends in io.EOF; until then it keeps the last byte back.
func (b *body) fill(from io.Reader) error {
	size := len(b.data)
	for n, ready, idle := 0, 0, 0; n < size; {
		if n == ready {
			ready = b.prepare(n)
		}
		k, err := from.Read(b.data[n:ready])
		if k > 0 {
			first := n == 0
			n, idle = n+k, 0
			b.publish(min(n, size-1))
			if first {
				// The reader that waits for this sends it while the rest
				// arrives. Without the yield, a fetch whose bytes are there
				// already would run to its end first where cores are few.
				runtime.Gosched()
			}
		}
		switch {
		case isEnd(err) && n == size:
			return nil
		case isEnd(err):
			return errShort
		case err != nil:
			return err
		}
		if idle++; idle > emptyReads {
			return io.ErrNoProgress
		}
	}
	return expectEOF(from)
}

// prepare makes memory for what comes after the first n bytes, and returns up to
// where. It goes piece by piece so that the first bytes need not wait for room
// for the last ones.
func (b *body) prepare(n int) int {
	const first, piece = 64 << 10, 1 << 20
	step := piece
	if n == 0 {
		step = first
	}
	to := min(len(b.data), n+step)
	if b.extent != nil {
		b.arena.Populate(b.extent, int64(n), int64(to))
	}
	return to
}

// isEnd reports whether err is the good end of a body. An error that wraps
// io.EOF is none.
func isEnd(err error) bool { return err == io.EOF } //nolint:errorlint // as said

// emptyReads is how many reads in a row may give nothing before a body counts
// as broken.
const emptyReads = 100

// expectEOF reads the end of a body that has given all it declared.
func expectEOF(from io.Reader) error {
	var extra [1]byte
	for range emptyReads {
		switch n, err := from.Read(extra[:]); {
		case n > 0:
			return ErrTooLong
		case isEnd(err):
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// bodyCost is what a body of n bytes takes where newBody puts it.
func bodyCost(n int64) int64 {
	if n >= arenaMin {
		return arena.WholePages(n) + extentOverhead
	}
	return allocated(n)
}

// extentOverhead is what an extent costs on the heap.
const extentOverhead = 32

// allocated is what the allocator sets aside for n bytes: the next size class,
// or whole pages above the largest class.
func allocated(n int64) int64 {
	const page = 8 << 10
	if n > largestClass {
		return (n + page - 1) / page * page
	}
	i, _ := slices.BinarySearch(sizeClasses, n)
	return sizeClasses[i]
}

const largestClass = 32 << 10

// sizeClasses are the allocator's size classes for bytes. They are asked for
// and not written down, because they are the runtime's private affair.
var sizeClasses = func() []int64 {
	classes := []int64{0}
	for last := 0; last < largestClass; {
		last = cap(append([]byte(nil), make([]byte, last+1)...))
		classes = append(classes, int64(last))
	}
	return classes
}()
