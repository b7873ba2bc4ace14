package arena

import "math/bits"

// spares are the extents that are not in use and whose pages are kept, in bins by size: one
// for each number of pages below 8, four for each power of two from there on.
type spares struct {
	bytes int64
	bins  [bins]*Extent
	used  [bins / 64]uint64 // bit i is set if bin i is not empty
}

const (
	bins = 256
	// binSearch is how many extents of the bin that may have the right size are looked at,
	// before a larger one is taken.
	binSearch = 8
)

// binOf is the bin of extents of size bytes.
func binOf(size int64) int {
	n := uint64(size / PageSize)
	if n < 8 {
		return int(n)
	}
	l := bits.Len64(n) - 1
	return 4*(l-1) + int(n>>(l-2)&3)
}

func (s *spares) add(e *Extent) {
	i := binOf(e.size)
	e.spare, e.binPrev, e.binNext = true, nil, s.bins[i]
	if e.binNext != nil {
		e.binNext.binPrev = e
	}
	s.bins[i] = e
	s.used[i/64] |= 1 << (i % 64)
	s.bytes += e.size
}

func (s *spares) remove(e *Extent) {
	i := binOf(e.size)
	if e.binNext != nil {
		e.binNext.binPrev = e.binPrev
	}
	if e.binPrev != nil {
		e.binPrev.binNext = e.binNext
	} else if s.bins[i] = e.binNext; e.binNext == nil {
		s.used[i/64] &^= 1 << (i % 64)
	}
	e.spare, e.binPrev, e.binNext = false, nil, nil
	s.bytes -= e.size
}

// find returns an extent of at least size bytes, and one not much larger if there is one.
// The last one added comes first: the processor's caches may have its bytes.
func (s *spares) find(size int64) *Extent {
	i := binOf(size)
	e := s.bins[i]
	for n := 0; e != nil && n < binSearch; n++ {
		if e.size >= size {
			return e
		}
		e = e.binNext
	}
	i++
	for w := i / 64; w < len(s.used); w++ {
		word := s.used[w]
		if w == i/64 {
			word &= ^uint64(0) << (i % 64)
		}
		if word != 0 {
			return s.bins[64*w+bits.TrailingZeros64(word)]
		}
	}
	return nil
}

// largest returns an extent of the bin of the largest ones, nil if there is none.
func (s *spares) largest() *Extent {
	for w := len(s.used) - 1; w >= 0; w-- {
		if word := s.used[w]; word != 0 {
			return s.bins[64*w+bits.Len64(word)-1]
		}
	}
	return nil
}
