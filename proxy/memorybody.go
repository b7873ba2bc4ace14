package proxy

import (
	"errors"
	"io"
)

// memoryBody sends a body that is in memory through a conn. It poses as a stream
// because that is how fasthttp lets a body have a say in how it is written.
type memoryBody struct {
	x      *exchange
	conn   *conn
	data   []byte
	file   int // descriptor of the memory file that data lies in, -1 for none
	offset int64
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
	n, err := m.conn.sendMemory(m)
	m.x.bytes = n
	if err != nil {
		m.x.aborted = true
		return n, errors.Join(errClientGone, err)
	}
	return n, nil
}

// Close does nothing: the exchange lets go of the bytes.
func (*memoryBody) Close() error { return nil }
