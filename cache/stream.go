package cache

import (
	"context"
	"io"
	"sync"
)

// Stream fetches an object for one reader only, past the cache: it joins no fetch and
// makes no entry. It keeps bytes only until they are read.
func (c *Cache) Stream(ctx context.Context, key Key, load Load) (*Reader, error) {
	return c.private(ctx, key, load, false)
}

// streamBuffer is the buffer of a private stream, in bytes: large enough to save system
// calls, small enough for every allowed stream to have one.
const streamBuffer = 32 << 10

// streamBuffers are used by one stream after another. A stream has one from its first Next
// to its Close; the bytes that Next returned must not be in use then, as those of a shared
// body, whose memory is used again too.
var streamBuffers = sync.Pool{New: func() any { return new([streamBuffer]byte) }}

// stream streams a source to one reader, with back-pressure. It withholds the last byte
// until the source has reported that the object is complete.
type stream struct {
	guard guard
	body  io.ReadCloser
	size  int64 // negative if it is not known
	buf   *[streamBuffer]byte
	n     int64 // bytes read from body
	kept  bool  // last has been read and not returned yet
	last  byte
	end   error
}

func (s *stream) next() ([]byte, error) {
	if s.buf == nil {
		s.buf = streamBuffers.Get().(*[streamBuffer]byte)
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

// read reads once and returns the bytes that the reader may get: all of them at the end of
// a complete object, else all but the last one.
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
	if s.buf != nil {
		streamBuffers.Put(s.buf)
		s.buf = nil
	}
	s.guard.run(s.body.Close, func(error) {})
}
