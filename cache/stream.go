package cache

import (
	"context"
	"io"
)

// Stream fetches an object for one reader alone, past everything else: it joins
// no fetch and leaves no entry. Its bytes are held no longer than it takes to
// read them.
func (c *Cache) Stream(ctx context.Context, key Key, load Load) (*Reader, error) {
	return c.private(ctx, key, load, false)
}

// streamBuffer is what a stream past the cache holds at most: large enough to
// spare system calls, small enough to be had by every stream that the origin
// allows. It is not pooled: a reader that is closed while its bytes are being
// sent must not send those of another stream.
const streamBuffer = 32 << 10

// stream streams a source to its one reader, no faster than it reads, and keeps
// the last byte back until the source has said that it is complete.
type stream struct {
	guard guard
	body  io.ReadCloser
	size  int64 // negative where it is not known
	buf   []byte
	n     int64 // bytes read from body
	kept  bool  // last was read and not handed out yet
	last  byte
	end   error
}

func (s *stream) next() ([]byte, error) {
	if s.buf == nil {
		s.buf = make([]byte, streamBufferFor(s.size))
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

// streamBufferFor leaves room for a byte too many, which is how it is noticed.
func streamBufferFor(size int64) int64 {
	if size < 0 || size >= streamBuffer {
		return streamBuffer
	}
	return size + 1
}

// read reads once and returns what may be handed out: all there is at a
// good end, everything but the last byte before it.
func (s *stream) read() []byte {
	have := 0
	if s.kept {
		s.buf[0], have = s.last, 1
	}
	k, err := s.guard.read(s.body, s.buf[have:])
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

func (s *stream) close() {
	s.buf = nil
	s.guard.run(s.body.Close, func(error) {})
}
