package proxy

import (
	"errors"
	"io"
	"net"

	"github.com/valyala/fasthttp"

	"ixmage/cache"
)

var errClientGone = errors.New("client went away")

// chunkReader delivers the bytes of an answer that are not in memory yet. Close may be called
// more than once.
type chunkReader interface {
	Next(off int64) ([]byte, error)
	Close() error
}

// body streams an object, or a range of it, to one client. fasthttp calls it after the
// handler has returned: WriteTo, or Read if the length is not known, and then Close. After
// an error it cuts the connection, so that no client takes a short body for a complete
// one.
type body struct {
	x            *exchange
	conn         net.Conn
	whole        []byte      // all of the object, if it is in memory
	reader       chunkReader // the source of the bytes otherwise
	base         int64       // where in the reader's bytes the object begins
	off          int64       // next byte to send
	end          int64       // after the last byte to send, negative until EOF
	completeSize int64       // size of the object if all of it must have arrived before the range ends
	final        [1]byte     // last byte of a range, while the object's last byte is awaited
	left         []byte      // bytes of the reader that Read has not returned yet
	rest         func(off int64) (chunkReader, error)
	header       *conn          // holds the header until the first chunk can go out with it
	writes       *countedWriter // if conn is not ours
}

func newBody(x *exchange, f *representation, part byteRange) *body {
	b := &body{x: x, conn: x.fc.Conn(), whole: f.whole, reader: f.reader, off: part.first, end: part.last + 1}
	b.rest = f.rest
	if f.obj.size < 0 {
		b.end = -1
	}
	if f.onlyRange {
		// The reader's first byte is the first byte of the range.
		b.base = part.first
	} else if r, ok := f.reader.(*cache.Reader); b.end < f.obj.size && (!ok || !r.OnDisk()) {
		b.completeSize = f.obj.size
	}
	if c, ours := b.conn.(*conn); ours {
		c.begin(x)
		if b.off < b.end {
			b.header = c
			c.bufferHeader()
		}
		return b
	}
	b.writes = newCountedWriter(b.conn)
	b.writes.begin(x)
	return b
}

// WriteTo writes to the connection and not to fasthttp's buffer, which would delay the
// first bytes; the header is flushed already (ImmediateHeaderFlush), or held by the
// connection until the first chunk.
func (b *body) WriteTo(io.Writer) (int64, error) {
	from := b.off
	for b.off < b.end {
		chunk, err := b.next()
		if err != nil {
			return b.off - from, err
		}
		n, err := b.write(chunk)
		b.off += int64(n)
		b.x.bytes += int64(n)
		if err != nil {
			b.x.aborted = true
			return b.off - from, errors.Join(errClientGone, err)
		}
	}
	return b.off - from, nil
}

// Read serves bodies of unknown length, which are sent in chunks.
func (b *body) Read(p []byte) (int, error) {
	b.x.stamp()
	if len(b.left) == 0 {
		chunk, err := b.reader.Next(b.off - b.base)
		if errors.Is(err, cache.ErrOutgrown) && b.rest != nil {
			chunk, err = b.nextOfRest()
		}
		if err != nil {
			if err != io.EOF { //nolint:errorlint // only io.EOF itself is a good end
				b.x.broken, b.x.err = true, err
			}
			return 0, err
		}
		b.left = chunk
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	b.off += int64(n)
	b.x.bytes += int64(n)
	return n, nil
}

// nextOfRest continues with the rest of an object that has outgrown the cache.
func (b *body) nextOfRest() ([]byte, error) {
	rest, err := b.rest(b.off)
	if err != nil {
		return nil, err
	}
	b.reader.Close()
	b.reader, b.x.reader, b.base, b.rest = rest, rest, b.off, nil
	return rest.Next(0)
}

// next returns bytes to send, at most up to the end of the range.
func (b *body) next() ([]byte, error) {
	if b.whole != nil {
		return b.whole[b.off:b.end], nil
	}
	chunk, err := b.reader.Next(b.off - b.base)
	if errors.Is(err, cache.ErrOutgrown) && b.rest != nil {
		b.completeSize = 0 // the rest is a range that is checked by itself
		chunk, err = b.nextOfRest()
	}
	if err != nil {
		return nil, b.cut(err)
	}
	chunk = chunk[:min(int64(len(chunk)), b.end-b.off)]
	if b.completeSize == 0 || b.off+int64(len(chunk)) < b.end {
		return chunk, nil
	}
	// The range would be complete, but its object is not: wait for the object's last
	// byte, which comes only when the whole object has been checked.
	if len(chunk) > 1 {
		return chunk[:len(chunk)-1], nil
	}
	b.final[0] = chunk[0] // Next may reuse its memory
	if _, err := b.reader.Next(b.completeSize - 1); err != nil {
		return nil, b.cut(err)
	}
	return b.final[:], nil
}

// cut records why a body ends early. It returns no io.EOF, which would make the body look
// complete.
func (b *body) cut(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	b.x.broken, b.x.err = true, err
	return err
}

// write sends all of p, as long as the client keeps reading.
func (b *body) write(p []byte) (int, error) {
	b.x.stamp()
	if c := b.header; c != nil {
		b.header = nil
		n, err := c.vector(p)
		return int(n), err
	}
	if c, ours := b.conn.(*conn); ours {
		n, err := c.vector(p)
		return int(n), err
	}
	return b.writes.write(p)
}

// Close releases the reader. fasthttp calls it for every body, also one that failed or
// was not sent.
func (b *body) Close() error {
	if b.header != nil {
		b.header.drop(b.x.id[:])
		b.header = nil
	}
	if b.reader != nil {
		return b.reader.Close()
	}
	return nil
}

// CloseWithError is Close with the error that fasthttp got when it wrote.
func (b *body) CloseWithError(err error) error {
	var panicked *fasthttp.ErrBodyStreamWritePanic
	switch {
	case errors.As(err, &panicked):
		b.x.broken, b.x.err = true, err
	case err != nil && !b.x.broken:
		b.x.aborted = true
	}
	return b.Close()
}

// memoryBody sends a body in memory, or one on disk, through a conn. It is a stream for
// fasthttp, because only a stream can decide how it is written.
type memoryBody struct {
	x      *exchange
	conn   *conn
	obj    *object
	data   []byte
	file   int // descriptor of the memory file that data lies in, -1 for none
	offset int64

	// Instead of data and file:
	disk *cache.Reader
	size int64     // from offset on
	key  cache.Key // of an object whose file may turn out to be damaged
}

// fileMin is the size from which sendfile is cheaper than copying: below it, a
// second system call costs more than the copy (docs/benchmarks.md).
const fileMin = 32 << 10

var errNotRead = errors.New("a body in memory is sent whole, not read")

// Read is never called: WriteTo comes first.
func (*memoryBody) Read([]byte) (int, error) { return 0, errNotRead }

// WriteTo sends the header, which the connection holds, and the body.
func (m *memoryBody) WriteTo(io.Writer) (int64, error) {
	m.x.stamp()
	send := m.conn.sendMemory
	if m.disk != nil {
		send = m.conn.sendDisk
	}
	n, err := send(m)
	m.x.bytes = n
	var unreadable *diskError
	switch {
	case err == nil:
		return n, nil
	case errors.As(err, &unreadable):
		m.disk.Spoil()
		return m.sendRest(n, err)
	}
	m.x.aborted = true
	return n, errors.Join(errClientGone, err)
}

// sendRest continues a body after its first n bytes with the same version from S3, because its
// file cannot be read. It cuts the answer with the error of the file if S3 does not have that
// version.
func (m *memoryBody) sendRest(n int64, unreadable error) (int64, error) {
	x, p, off, end := m.x, m.x.proxy, m.offset+n, m.offset+m.size
	x.broken, x.err = true, unreadable
	if m.key == (cache.Key{}) || strongTag(m.obj.etag) == "" {
		return n, unreadable
	}
	w := rangeRequest{route: x.route, key: m.key, obj: m.obj, span: x.span, byteRange: byteRange{off, end - 1}}
	rest, err := p.cache.Stream(p.base, m.key, p.loadRange(w))
	if err != nil {
		return n, errors.Join(unreadable, err)
	}
	x.broken, x.err = false, nil
	m.disk.Close()
	x.reader = rest
	b := &body{x: x, conn: m.conn, reader: rest, base: off, off: off, end: end}
	k, err := b.WriteTo(nil)
	return n + k, err
}

// Close does nothing: the exchange releases the bytes.
func (*memoryBody) Close() error { return nil }
