package arena

import "sync"

// arena hands out memory for bodies outside Go's heap: pages of one memory file,
// mapped once. That buys two things. The collector neither counts bodies nor
// lets garbage pile up in their proportion; they go back to the kernel the
// moment their last holder lets go. And a body can be sent with sendfile, which
// spares the copy that is the larger part of a hit's cost.
//
// The file is a window many times larger than the budget, and sparse: only
// pages in use exist. Allocation moves through the window from one end to the
// other and then starts again, stepping over what is still in use, so that
// freed addresses stay unused for as long as possible. Freeing punches a hole.
// Pages that the kernel is still sending are its own then and are not changed:
// it holds them until the client has acknowledged them, and whoever gets the
// same address gets other pages.
type arena struct {
	file *memfile

	mu     sync.Mutex // guards the rest
	at     int64      // where the search for a gap goes on
	after  *extent    // first extent at or behind at; the head stands for the end
	head   extent     // of the ring of extents, in the order of their addresses
	closed bool
}

// extent is a piece of the window that is in use.
type extent struct {
	off, size  int64
	prev, next *extent
}

// pageSize is what the arena allocates in. It is the granularity of holes in
// the file; where the kernel's pages are larger, there is no arena.
const pageSize = 4 << 10

// windowFactor is how much larger the window is than what it may hold: at most
// one part in so many is in use, so that a gap is found after a few steps.
const windowFactor = 16

// newArena makes an arena for up to limit bytes, nil where the system has no
// memory files: bodies are then on the heap.
func newArena(limit int64) *arena {
	file := openMemfile(wholePages(limit * windowFactor))
	if file == nil {
		return nil
	}
	a := &arena{file: file}
	a.head.prev, a.head.next = &a.head, &a.head
	a.head.off = file.size
	a.after = &a.head
	return a
}

// wholePages rounds up to a multiple of pageSize.
func wholePages(n int64) int64 { return (n + pageSize - 1) / pageSize * pageSize }

// alloc returns an extent of at least n bytes, whose memory is zero, or nil when
// there is no gap for it. Pages are made by populate, or when they are touched.
func (a *arena) alloc(n int64) *extent {
	e := &extent{size: wholePages(n)}
	a.mu.Lock()
	ok := !a.closed && a.placeLocked(e)
	a.mu.Unlock()
	if !ok {
		return nil
	}
	return e
}

// populate makes the pages of a piece of e in one step.
func (a *arena) populate(e *extent, from, to int64) {
	from = from / pageSize * pageSize
	a.file.populate(e.off+from, wholePages(to)-from)
}

// placeLocked finds the next gap that e fits into, going round once at most.
func (a *arena) placeLocked(e *extent) bool {
	for wrapped := false; ; {
		if a.after.off-a.at >= e.size {
			e.off = a.at
			e.prev, e.next = a.after.prev, a.after
			e.prev.next, e.next.prev = e, e
			a.at += e.size
			return true
		}
		if a.after != &a.head {
			a.at, a.after = a.after.off+a.after.size, a.after.next
			continue
		}
		if wrapped {
			return false
		}
		wrapped = true
		a.at, a.after = 0, a.head.next
	}
}

// free gives an extent back. Nobody may use its bytes any more.
func (a *arena) free(e *extent) {
	a.file.punch(e.off, e.size)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.after == e {
		a.after = e.next
	}
	e.prev.next, e.next.prev = e.next, e.prev
	if a.closed && a.head.next == &a.head {
		a.file.close()
	}
}

// bytes is the memory of the first n bytes of an extent.
func (a *arena) bytes(e *extent, n int) []byte {
	return a.file.mem[e.off : e.off+int64(n) : e.off+e.size]
}

// close gives the window back once nothing of it is in use.
func (a *arena) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed && a.head.next == &a.head {
		a.file.close()
	}
	a.closed = true
}
