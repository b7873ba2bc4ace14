// Package arena hands out memory for bodies outside Go's heap.
package arena

import "sync"

// Arena hands out pages of one memory file, which is mapped once. That has two
// advantages. The garbage collector does not count bodies and does not let garbage
// grow in proportion to them; the kernel gets their pages back as soon as their
// last holder releases them. And a body can be sent with sendfile, which saves the
// copy that is most of the cost of a cache hit.
//
// The file is a sparse window, many times larger than the budget: only pages in use
// exist. Allocation moves through the window from one end to the other and then
// starts again, skipping extents in use, so that freed addresses stay unused for as
// long as possible. Free punches a hole. Pages that the kernel is still sending do
// not change then: the kernel keeps them until the client has acknowledged them, and
// the next user of the same address gets new pages.
//
// All methods are safe for concurrent use.
type Arena struct {
	file *memfile

	mu     sync.Mutex // guards the rest
	at     int64      // where the search for a gap goes on
	after  *Extent    // first extent at or behind at; the head stands for the end
	head   Extent     // of the ring of extents, in the order of their addresses
	closed bool
}

// Extent is a part of the window that is in use.
type Extent struct {
	off, size  int64
	prev, next *Extent
}

// PageSize is the unit of allocation, in bytes. It is the granularity of holes in
// the file; where the kernel's pages are larger, there is no arena.
const PageSize = 4 << 10

// WindowFactor is how many times larger the window is than what it may hold: at most
// one part in so many is in use, so that a gap is found after a few steps.
const WindowFactor = 16

// New makes an arena for up to limit bytes. It returns nil where the system has no
// memory files: bodies then lie on the heap. The caller must Close it.
func New(limit int64) *Arena {
	file := openMemfile(WholePages(limit * WindowFactor))
	if file == nil {
		return nil
	}
	a := &Arena{file: file}
	a.head.prev, a.head.next = &a.head, &a.head
	a.head.off = file.size
	a.after = &a.head
	return a
}

// WholePages rounds up to a multiple of PageSize.
func WholePages(n int64) int64 { return (n + PageSize - 1) / PageSize * PageSize }

// Alloc returns an extent of at least n bytes, whose memory is zero, or nil when
// there is no gap for it. Populate makes its pages, or the first access does.
func (a *Arena) Alloc(n int64) *Extent {
	e := &Extent{size: WholePages(n)}
	a.mu.Lock()
	ok := !a.closed && a.placeLocked(e)
	a.mu.Unlock()
	if !ok {
		return nil
	}
	return e
}

// Populate makes the pages of e from one offset to another in one system call.
func (a *Arena) Populate(e *Extent, from, to int64) {
	from = from / PageSize * PageSize
	a.file.populate(e.off+from, WholePages(to)-from)
}

// placeLocked finds the next gap that e fits into, going round once at most.
func (a *Arena) placeLocked(e *Extent) bool {
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

// Free gives an extent back. Nobody may use its bytes after that.
func (a *Arena) Free(e *Extent) {
	a.file.punch(e.off, e.size)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.after == e {
		a.after = e.next
	}
	e.prev.next, e.next.prev = e.next, e.prev
	if a.closed && a.emptyLocked() {
		a.file.close()
	}
}

// Shrink gives back the pages of e after its first n bytes, which must not be used
// after that. n must be above 0.
func (a *Arena) Shrink(e *Extent, n int64) {
	size := WholePages(n)
	if size >= e.size {
		return
	}
	a.file.punch(e.off+size, e.size-size)
	a.mu.Lock()
	defer a.mu.Unlock()
	e.size = size
}

// Bytes is the memory of the first n bytes of an extent.
func (a *Arena) Bytes(e *Extent, n int) []byte {
	return a.file.mem[e.off : e.off+int64(n) : e.off+e.size]
}

// File tells where in the memory file an extent lies. The descriptor is valid until
// the extent is freed.
func (a *Arena) File(e *Extent) (fd int, off int64) { return a.file.fd, e.off }

// Empty reports whether no extent is in use.
func (a *Arena) Empty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.emptyLocked()
}

func (a *Arena) emptyLocked() bool { return a.head.next == &a.head }

// Close unmaps the window as soon as no extent is in use.
func (a *Arena) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed && a.emptyLocked() {
		a.file.close()
	}
	a.closed = true
}
