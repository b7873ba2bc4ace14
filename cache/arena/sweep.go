package arena

import (
	"cmp"
	"slices"
)

// sweepLocked starts the sweeper if there is enough for it to do.
func (a *Arena) sweepLocked() {
	if !a.sweeping && !a.closed && (a.droppedBytes >= a.batch || a.surplusLocked() >= a.batch) {
		a.sweeping = true
		a.sweepers.Go(a.sweep)
	}
}

// sweep gives pages back until there is nothing more to give back.
func (a *Arena) sweep() {
	for {
		a.mu.Lock()
		holes := a.takeLocked(min(a.surplusLocked(), a.batch))
		a.sweeping = len(holes) > 0
		a.mu.Unlock()
		if len(holes) == 0 {
			return
		}
		a.punch(holes)
	}
}

// countedLocked is how many bytes exist as pages that nobody gives back at present.
func (a *Arena) countedLocked() int64 { return a.resident - a.punching }

// surplusLocked is how many spare bytes are too many.
func (a *Arena) surplusLocked() int64 {
	if a.closed {
		return a.spare.bytes
	}
	return min(a.spare.bytes, max(0, a.spare.bytes-a.spareMax, a.countedLocked()-a.droppedBytes-a.limit))
}

// excessLocked takes extents whose pages must be given back at once, because the sweeper is
// late.
func (a *Arena) excessLocked() []*Extent {
	excess := a.countedLocked() - a.limit - a.slack
	if excess <= 0 {
		return nil
	}
	return a.takeLocked(excess - a.droppedBytes)
}

// takeLocked takes the dropped extents, and spare ones of n bytes: the largest ones first,
// because one hole costs less than many.
func (a *Arena) takeLocked(n int64) []*Extent {
	holes := a.dropped
	a.punching += a.droppedBytes
	a.dropped, a.droppedBytes = nil, 0
	for n > 0 {
		e := a.spare.largest()
		if e == nil {
			break
		}
		a.spare.remove(e)
		if rest := e.size - WholePages(n); rest > 0 {
			front := &Extent{off: e.off, size: rest, pages: rest}
			a.insertLocked(front, e)
			a.spare.add(front)
			e.off, e.size, e.pages = e.off+rest, e.size-rest, e.size-rest
		}
		holes = append(holes, e)
		a.punching += e.size
		n -= e.size
	}
	return holes
}

// punch gives the pages of extents back, of neighbors in one system call. Until it is done,
// the extents are in the ring, so that nobody gets their addresses.
func (a *Arena) punch(holes []*Extent) {
	slices.SortFunc(holes, func(e, f *Extent) int { return cmp.Compare(e.off, f.off) })
	for i := 0; i < len(holes); {
		from, to := holes[i].off, holes[i].off
		for ; i < len(holes) && holes[i].off == to; i++ {
			to += holes[i].size
		}
		a.file.punch(from, to-from)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range holes {
		a.unlinkLocked(e)
		a.resident -= e.size
		a.punching -= e.size
	}
	if a.closed && a.head.next == &a.head && a.file.mem != nil {
		a.file.close()
	}
}
