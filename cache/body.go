package cache

import (
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"ixmage/cache/arena"
	"ixmage/cache/disk"
)

// body is the content of one object. A fetch fills it once, from the front; any number
// of readers read it during and after that. Published bytes never change, so readers get
// them without copying.
//
// A body counts against the budget until its last reference is released: those of the
// memory tier, of the fetch and of every reader. So an evicted entry counts while a slow
// client still reads it.
type body struct {
	budget *budget
	cost   int64
	refs   atomic.Int64
	pins   atomic.Int64 // see pin

	data []byte // length is the declared size, or what there is room for; written only by the fetch
	// data lies in an extent of the arena, or on the heap if there is none.
	arena  *arena.Arena
	extent *arena.Extent
	growth *growth // while its size is not known
	// file has the bytes if they lie on disk; then data is nil.
	file   *disk.Object
	writer *disk.Writer // has the bytes while its fetch writes them to disk, and for the readers of the fetch
	size   int64        // of the bytes that writer will have
	// backing is the entry's body once writer has published its file.
	backing *body
	spoilt  atomic.Bool // file could not be read
	// sealed is set after the last byte was published, so that readers of a complete
	// body need no lock.
	sealed atomic.Bool

	mu   sync.Mutex // guards n and err
	more sync.Cond
	n    int   // bytes that readers may see
	err  error // io.EOF for a good end
}

// newBody returns a body with one reference, the caller's. cost must have been reserved
// from the budget before. If there is no arena, or the arena is full, the body is on the
// heap.
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

// arenaMin is the size from which bodies lie in the arena. A smaller body would waste the
// rest of a page.
const arenaMin = arena.PageSize

// place returns where in a file the bytes are, for sendfile.
func (b *body) place() (fd int, off int64, ok bool) {
	switch {
	case b.file != nil:
		fd, off = b.file.File()
	case b.extent != nil:
		fd, off = b.arena.File(b.extent)
	default:
		return -1, 0, false
	}
	return fd, off, fd >= 0
}

// length is the size of a body whose size is known.
func (b *body) length() int64 {
	switch {
	case b.file != nil:
		return b.file.Size
	case b.writer != nil:
		return b.size
	}
	return int64(len(b.data))
}

func (b *body) retain(n int) { b.refs.Add(int64(n)) }

func (b *body) release() {
	switch n := b.refs.Add(-1); {
	case n == 0:
		b.endGrowth()
		b.data = nil // a late reader must panic here instead of reading another object's bytes
		if b.extent != nil {
			b.arena.Free(b.extent)
		}
		if b.file != nil {
			b.file.Close()
		}
		if b.writer != nil {
			b.writer.Abort()
		}
		if b.backing != nil {
			b.backing.release()
		}
		b.budget.release(b.cost)
	case n < 0:
		//nolint:forbidigo // a reader would get another object's bytes
		panic("cache: body released more often than retained")
	}
}

// publish lets readers see the first n bytes.
func (b *body) publish(n int) {
	b.mu.Lock()
	b.n = n
	b.mu.Unlock()
	b.more.Broadcast()
}

// finish ends the body. nil means that it is complete, and publishes the last byte; any
// other err goes to the readers. It is called once.
func (b *body) finish(err error) {
	b.mu.Lock()
	b.err = err
	if err == nil {
		b.n, b.err = int(b.length()), io.EOF
		b.sealed.Store(true)
	}
	b.mu.Unlock()
	b.more.Broadcast()
}

// next returns the published bytes from off on, and waits for at least one. It returns
// io.EOF at the end of a complete body, or the error of the fetch after the bytes that
// came before it.
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
		return b.data[off:b.n:b.n], nil
	}
	return nil, b.err
}

// progress is the number of bytes that readers may see now, and the size of the body or, if
// that is not known, what there is room for.
func (b *body) progress() (n, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n, int(b.length())
}

// fill reads from into b. It succeeds only if the body has exactly the declared length and
// ends with io.EOF; until then it withholds the last byte.
func (b *body) fill(from io.Reader) error {
	size := len(b.data)
	for n, ready, idle := 0, 0, 0; n < size; {
		if n == ready {
			ready = b.prepare(n)
		}
		k, err := from.Read(b.data[n:ready])
		if isEnd(err) && n+k == size {
			return nil // finish publishes the rest: readers send it in one go
		}
		if k > 0 {
			first := n == 0
			n, idle = n+k, 0
			b.publish(min(n, size-1))
			if first {
				// A waiting reader can send these bytes while the rest
				// arrives. Without the yield, a fetch whose bytes have all
				// arrived would run to its end first on a host with few cores.
				runtime.Gosched()
				ready = b.prepare(n)
			}
		}
		switch {
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

// prepare makes memory for the bytes after the first n, and returns the end of that
// memory. It works in pieces, so that the first bytes, which have arrived with the headers,
// do not wait for memory for the last ones.
func (b *body) prepare(n int) int {
	const first, piece = 16 << 10, 1 << 20
	step := piece
	if n == 0 {
		step = first
	}
	to := min(len(b.data), n+step)
	if b.extent != nil {
		b.arena.Populate(b.extent, int64(to))
	}
	return to
}

// isEnd reports whether err is the end of a complete body. An error that wraps io.EOF is
// not.
func isEnd(err error) bool { return err == io.EOF } //nolint:errorlint // see above

// emptyReads is the number of consecutive empty reads after which a body counts as broken.
const emptyReads = 100

// expectEOF reads the end of a body after its declared bytes.
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

// bodyCost is the memory that a body of n bytes takes, in the arena or on the heap. A body of
// unknown size, below 0, begins with growFirst.
func bodyCost(n int64) int64 {
	if n < 0 {
		n = growFirst
	}
	if n >= arenaMin {
		return arena.WholePages(n) + extentOverhead
	}
	return allocated(n)
}

// extentOverhead is the memory of an extent on the heap, in bytes.
const extentOverhead = 80

// allocated is the memory that the allocator uses for n bytes: the next size class, or
// whole pages above the largest class.
func allocated(n int64) int64 {
	const page = 8 << 10
	if n > largestClass {
		return (n + page - 1) / page * page
	}
	i, _ := slices.BinarySearch(sizeClasses, n)
	return sizeClasses[i]
}

const largestClass = 32 << 10

// sizeClasses are the allocator's size classes for bytes. They are measured and not
// written down, because the runtime may change them.
var sizeClasses = func() []int64 {
	classes := []int64{0}
	for last := 0; last < largestClass; {
		last = cap(append([]byte(nil), make([]byte, last+1)...))
		classes = append(classes, int64(last))
	}
	return classes
}()
