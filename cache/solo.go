package cache

import "io"

// soloBuffer is what a stream past the cache holds at most: large enough to
// spare system calls, small enough to be had by every stream that the origin
// allows. It is not pooled: a reader that is closed while its bytes are being
// sent must not send those of another stream.
const soloBuffer = 32 << 10

// solo streams a source to its one reader, no faster than it reads, and keeps
// the last byte back until the source has said that it is complete.
type solo struct {
	cache *Cache
	body  io.ReadCloser
	size  int64 // negative where it is not known
	buf   []byte
	n     int64 // bytes read from body
	kept  bool  // last was read and not handed out yet
	last  byte
	end   error
}

func (s *solo) next() ([]byte, error) {
	if s.buf == nil {
		s.buf = make([]byte, soloBufferFor(s.size))
	}
	for range emptyReads {
		if s.end != nil {
			return nil, s.end
		}
		if out := s.read(); len(out) > 0 {
			return out, nil
		}
	}
	return nil, io.ErrNoProgress
}

// soloBufferFor leaves room for a byte too many, which is how it is noticed.
func soloBufferFor(size int64) int64 {
	if size < 0 || size >= soloBuffer {
		return soloBuffer
	}
	return size + 1
}

// read reads once and returns what may be handed out: all there is at a
// good end, everything but the last byte before it.
func (s *solo) read() []byte {
	have := 0
	if s.kept {
		s.buf[0], have = s.last, 1
	}
	k, err := s.cache.readGuarded(s.body, s.buf[have:])
	s.n += int64(k)
	have += k
	switch {
	case s.size >= 0 && s.n > s.size:
		s.end = ErrTooLong
		return nil
	case isEnd(err) && s.n < s.size:
		s.end = errShort
	default:
		s.end = err
	}
	if isEnd(s.end) {
		return s.buf[:have]
	}
	if s.kept = have > 0; !s.kept {
		return nil
	}
	s.last = s.buf[have-1]
	return s.buf[:have-1]
}

func (s *solo) close() {
	s.buf = nil
	s.cache.guard(s.body.Close, func(error) {})
}
