// Package arena hands out memory for bodies outside Go's heap.
package arena

import (
	"sync"
	"sync/atomic"
)

// Arena hands out pages of one memory file, which is mapped once. That has two
// advantages. The garbage collector does not count bodies and does not let garbage
// grow in proportion to them. And a body can be sent with sendfile, which saves the
// copy that is most of the cost of a cache hit.
//
// The file is a sparse window, many times larger than the budget: only pages in use
// exist. To make a page costs several times as much as to fill it, so Free keeps the
// pages of an extent, and the next extents get them, with their old bytes. The pages of
// an extent that was sent with sendfile are another matter: the kernel may still be
// sending them, and their next user would change the bytes that a client gets. They
// are given back by punching a hole into the file: the kernel keeps the pages until the
// client has acknowledged them, and the next user of the same address gets new ones. A
// goroutine punches holes for many extents together.
//
// Pages that exist are counted. Beyond the limit, and beyond a share of it that no extent
// uses, they are given back.
//
// All methods are safe for concurrent use.
type Arena struct {
	file *memfile
	// Bounds of resident, and of spare.bytes, beyond which the sweeper gives pages back.
	limit, spareMax int64
	slack           int64 // beyond limit, pages are given back at once
	batch           int64 // bytes that the sweeper waits for, and takes at a time

	sweepers sync.WaitGroup // the sweeper, if it runs

	mu       sync.Mutex // guards the rest
	at       int64      // where the search for a gap goes on
	after    *Extent    // first extent at or behind at; the head stands for the end
	head     Extent     // of the ring of extents, in the order of their addresses
	resident int64      // bytes of the pages that exist
	live     int        // extents in use
	// Extents not in use: those whose pages are kept, and those whose pages are to be given
	// back, or are being given back.
	spare        spares
	dropped      []*Extent
	droppedBytes int64
	punching     int64 // bytes
	sweeping     bool
	closed       bool
}

// Extent is a part of the window that is in use, or whose pages exist still.
type Extent struct {
	off, size  int64
	pages      int64 // bytes from off on whose pages exist
	prev, next *Extent
	once       atomic.Bool // its pages are not used again

	spare            bool // in the list of its bin in Arena.spare
	binPrev, binNext *Extent
}

// PageSize is the unit of allocation, in bytes. It is the granularity of holes in
// the file; where the kernel's pages are larger, there is no arena.
const PageSize = 4 << 10

// WindowFactor is how many times larger the window is than what it may hold: at most
// one part in so many is in use, so that a gap is found after a few steps.
const WindowFactor = 16

// Shares of the limit.
const (
	slackShare = 16
	spareShare = 4
	batchShare = 64
)

const (
	slackMin = 2 << 20
	spareMin = 16 << 20
	batchMax = 4 << 20
)

// New makes an arena for up to limit bytes. It returns nil where the system has no
// memory files: bodies then lie on the heap. The caller must Close it.
func New(limit int64) *Arena {
	file := openMemfile(WholePages(limit * WindowFactor))
	if file == nil {
		return nil
	}
	a := &Arena{
		file: file, limit: limit, slack: max(limit/slackShare, slackMin),
		spareMax: max(limit/spareShare, spareMin), batch: min(limit/batchShare, batchMax),
	}
	a.head.prev, a.head.next = &a.head, &a.head
	a.head.off = file.size
	a.after = &a.head
	return a
}

// WholePages rounds up to a multiple of PageSize.
func WholePages(n int64) int64 { return (n + PageSize - 1) / PageSize * PageSize }

// Alloc returns an extent of at least n bytes, or nil when there is no gap for it. Its
// memory holds zeros, or bytes of extents that were freed: nobody may see them before they
// are overwritten. Populate must be called before bytes are written.
func (a *Arena) Alloc(n int64) *Extent {
	size := WholePages(n)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	e := a.reuseLocked(size)
	if e == nil {
		e = a.newLocked(size)
	}
	return e
}

// AllocSparse is Alloc for an extent of which a part will be used, so that it needs a large
// gap. None of its pages exist, and they will not be used again: kept, they would divide the
// gap for the next one.
func (a *Arena) AllocSparse(n int64) *Extent {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	e := a.newLocked(WholePages(n))
	if e != nil {
		e.once.Store(true)
	}
	return e
}

// reuseLocked makes an extent of spare pages.
func (a *Arena) reuseLocked(size int64) *Extent {
	s := a.spare.find(size)
	if s == nil {
		return nil
	}
	a.spare.remove(s)
	e := &Extent{off: s.off, size: size, pages: size}
	a.insertLocked(e, s)
	a.live++
	if s.off, s.size, s.pages = s.off+size, s.size-size, s.size-size; s.size == 0 {
		a.unlinkLocked(s)
	} else {
		a.spare.add(s)
	}
	return e
}

// newLocked makes an extent in the next gap that it fits into, going round once at most.
func (a *Arena) newLocked(size int64) *Extent {
	for wrapped := false; ; {
		if a.after.off-a.at >= size {
			e := &Extent{off: a.at, size: size, prev: a.after.prev, next: a.after}
			e.prev.next, e.next.prev = e, e
			a.at += size
			a.live++
			return e
		}
		if a.after != &a.head {
			a.at, a.after = a.after.off+a.after.size, a.after.next
			continue
		}
		if wrapped {
			return nil
		}
		wrapped = true
		a.at, a.after = 0, a.head.next
	}
}

// insertLocked puts e into the ring before next, where no gap is.
func (a *Arena) insertLocked(e, next *Extent) {
	e.prev, e.next = next.prev, next
	e.prev.next, e.next.prev = e, e
	if a.after == next {
		a.after = e
	}
}

// unlinkLocked takes e out of the ring.
func (a *Arena) unlinkLocked(e *Extent) {
	if a.after == e {
		a.after = e.next
	}
	e.prev.next, e.next.prev = e.next, e.prev
}

// Populate makes those pages of e before the offset to that do not exist yet, in one system
// call, and counts them.
func (a *Arena) Populate(e *Extent, to int64) {
	to = WholePages(to)
	a.mu.Lock()
	from := e.pages
	if to <= from {
		a.mu.Unlock()
		return
	}
	e.pages = to
	a.resident += to - from
	holes := a.excessLocked()
	a.mu.Unlock()
	if len(holes) > 0 {
		a.punch(holes)
	}
	a.file.populate(e.off+from, to-from)
}

// Free gives an extent back. Nobody may use its bytes after that.
func (a *Arena) Free(e *Extent) {
	a.mu.Lock()
	a.live--
	e.size = e.pages
	var holes []*Extent
	switch {
	case e.size == 0:
		a.unlinkLocked(e)
	case e.once.Load():
		a.dropLocked(e)
	default:
		a.keepLocked(e)
	}
	if a.closed {
		holes = a.takeLocked(a.surplusLocked())
	}
	a.sweepLocked()
	closed := a.closed
	a.mu.Unlock()
	if closed {
		a.punch(holes)
	}
}

// dropLocked leaves the pages of e to the sweeper.
func (a *Arena) dropLocked(e *Extent) {
	a.dropped = append(a.dropped, e)
	a.droppedBytes += e.size
}

// keepLocked makes e spare, and one with its neighbors that are.
func (a *Arena) keepLocked(e *Extent) {
	if p := e.prev; p.spare && p.off+p.size == e.off {
		a.spare.remove(p)
		a.unlinkLocked(p)
		e.off, e.size = p.off, p.size+e.size
	}
	if n := e.next; n.spare && e.off+e.size == n.off {
		a.spare.remove(n)
		if a.after == n {
			a.at, a.after = n.off+n.size, n.next
		}
		a.unlinkLocked(n)
		e.size += n.size
	}
	e.pages = e.size
	a.spare.add(e)
}

// Shrink gives back what follows the first n bytes of e, which must not be used after
// that. n must be above 0.
func (a *Arena) Shrink(e *Extent, n int64) {
	size := WholePages(n)
	a.mu.Lock()
	defer a.mu.Unlock()
	if size >= e.size {
		return
	}
	if rest := e.pages - size; rest > 0 {
		tail := &Extent{off: e.off + size, size: rest, pages: rest}
		a.insertLocked(tail, e.next)
		if a.after == tail && a.at >= e.off+e.size { // the gap behind e
			a.after = tail.next
		}
		if e.once.Load() {
			a.dropLocked(tail)
		} else {
			a.keepLocked(tail)
		}
	}
	e.size, e.pages = size, min(size, e.pages)
	a.sweepLocked()
}

// Bytes is the memory of the first n bytes of an extent.
func (a *Arena) Bytes(e *Extent, n int) []byte {
	return a.file.mem[e.off : e.off+int64(n) : e.off+int64(n)]
}

// File tells where in the memory file an extent lies, for sendfile: its pages will not be
// used again after Free, because sockets may hold them. The descriptor is valid until
// the extent is freed.
func (a *Arena) File(e *Extent) (fd int, off int64) {
	if !e.once.Load() { // it is read by many: do not write each time
		e.once.Store(true)
	}
	return a.file.fd, e.off
}

// Resident is how many bytes exist as pages, in use or not.
func (a *Arena) Resident() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.resident
}

// Empty reports whether no extent is in use.
func (a *Arena) Empty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.live == 0
}

// Close unmaps the window as soon as no extent is in use.
func (a *Arena) Close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.sweepers.Wait()
	a.mu.Lock()
	holes := a.takeLocked(a.surplusLocked())
	a.mu.Unlock()
	a.punch(holes)
}
