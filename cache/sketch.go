package cache

import "sync/atomic"

// sketch estimates how often keys were requested lately, by their hashes: a count-min sketch
// with counters of 4 bits (TinyLFU). Of a key that was not requested it may say that it was,
// if others share its counters; it never says too little, except for the aging.
type sketch struct {
	lines    []sketchLine
	aging    *aging
	halvings uint32 // as many as aging has asked for
	requests int64  // that aging has not counted yet
}

// aging says when the counters of all sketches of a tier are halved: after a sample of
// requests for any of their keys. If each sketch had its own sample, the keys beside a very
// popular one would seem to be requested less often than those of other sketches.
type aging struct {
	entries         *atomic.Int64 // of the tier
	lowest, highest int64         // limits of the sample
	requests        atomic.Int64  // since the last halving, and half of those before it
	halvings        atomic.Uint32
}

const (
	// samplePerEntry is the sample for each entry: one that has less than a request in it is
	// not popular. Found by make bench-hitratio.
	samplePerEntry = 25
	// agingStep is how many requests a sketch counts on its own.
	agingStep = 32
)

// add counts requests.
func (a *aging) add(n int64) {
	sample := min(max(samplePerEntry*a.entries.Load(), a.lowest), a.highest)
	if sum := a.requests.Add(n); sum >= sample && a.requests.CompareAndSwap(sum, sum/2) {
		a.halvings.Add(1)
	}
}

// sketchLine is a cache line of counters. The four counters of a key are in one line, so that
// counting touches one line of memory.
type sketchLine [8]uint64

const (
	sketchLineBytes  = 64
	sketchPerLine    = 128 // counters
	sketchCounterMax = 15
)

func newSketch(bytes int64, a *aging) sketch {
	return sketch{lines: make([]sketchLine, bytes/sketchLineBytes), aging: a}
}

// newAging is for sketches with this many bytes in all.
func newAging(bytes int64, entries *atomic.Int64) *aging {
	counters := bytes / sketchLineBytes * sketchPerLine
	return &aging{entries: entries, lowest: counters / 8, highest: counters}
}

// line returns the counters of a hash. The lowest bits of h choose the shard.
func (s *sketch) line(h uint64) *sketchLine {
	return &s.lines[(h>>32)*uint64(len(s.lines))>>32]
}

// add counts a request.
func (s *sketch) add(h uint64) {
	if len(s.lines) == 0 {
		return
	}
	s.age()
	line := s.line(h)
	for row := range 4 {
		word, shift := sketchCounter(h, row)
		if line[word]>>shift&sketchCounterMax < sketchCounterMax {
			line[word] += 1 << shift
		}
	}
	if s.requests++; s.requests == agingStep {
		s.requests = 0
		s.aging.add(agingStep)
	}
}

// count is the estimate for a hash, sketchCounterMax at most.
func (s *sketch) count(h uint64) int {
	if len(s.lines) == 0 {
		return 0
	}
	s.age()
	line, least := s.line(h), uint64(sketchCounterMax)
	for row := range 4 {
		word, shift := sketchCounter(h, row)
		least = min(least, line[word]>>shift&sketchCounterMax)
	}
	return int(least)
}

// sketchCounter is the place of a hash's counter in a row of 32 counters, which are two words.
func sketchCounter(h uint64, row int) (word, shift uint64) {
	i := h >> (8 + 5*row) & 31
	return uint64(2*row) + i>>4, i & 15 * 4
}

// age halves the counters as often as all requests together ask for.
func (s *sketch) age() {
	due := s.aging.halvings.Load() - s.halvings
	if due == 0 {
		return
	}
	s.halvings += due
	for range min(due, 4) {
		for i := range s.lines {
			for j := range s.lines[i] {
				s.lines[i][j] = s.lines[i][j] >> 1 & 0x7777777777777777
			}
		}
	}
}
