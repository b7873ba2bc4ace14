package cache

// sketch estimates how often keys were requested lately, by their hashes: a count-min sketch
// with counters of 4 bits (TinyLFU). Of a key that was not requested it may say that it was,
// if others share its counters; it never says too little, except for the aging: after sample
// requests all counters are halved. The zero sketch counts nothing.
type sketch struct {
	lines    []sketchLine
	requests int // since the last halving
	sample   int
}

// sketchLine is a cache line of counters. The four counters of a key are in one line, so that
// counting touches one line of memory.
type sketchLine [8]uint64

const (
	sketchLineBytes  = 64
	sketchPerLine    = 128 // counters
	sketchCounterMax = 15
)

func newSketch(bytes int64) sketch {
	n := int(bytes / sketchLineBytes)
	return sketch{lines: make([]sketchLine, n), sample: n * sketchPerLine}
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
	line := s.line(h)
	for row := range 4 {
		word, shift := sketchCounter(h, row)
		if line[word]>>shift&sketchCounterMax < sketchCounterMax {
			line[word] += 1 << shift
		}
	}
	if s.requests++; s.requests >= s.sample {
		s.halve()
	}
}

// count is the estimate for a hash, sketchCounterMax at most.
func (s *sketch) count(h uint64) int {
	if len(s.lines) == 0 {
		return 0
	}
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

func (s *sketch) halve() {
	for i := range s.lines {
		for j := range s.lines[i] {
			s.lines[i][j] = s.lines[i][j] >> 1 & 0x7777777777777777
		}
	}
	s.requests /= 2
}
