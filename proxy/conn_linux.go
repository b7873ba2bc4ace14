package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is an accepted connection that sends a header and a body from memory with as few
// system calls and copies as possible: it holds the header that fasthttp writes, and then
// sends both together, the body by writev or, if it lies in a memory file, by sendfile,
// which copies nothing. Only one goroutine may use it at a time, as fasthttp does.
type conn struct {
	*net.TCPConn
	raw       syscall.RawConn
	open      *openConn
	lingerers *lingerers
	lingers   atomic.Bool // the client may still be sending
	pace      pace

	// Deadlines are kept until a call has to wait, because most do not. armed is the one
	// that a read has set in the runtime; if readBy is later, it is set when armed has passed.
	readBy, writeBy, armed time.Time

	holding bool
	held    []byte // written while holding
	reads   uint

	// The functions that raw calls are made once, and the fields below are their arguments
	// and results, so that a hit allocates nothing.
	read, sendHeld, sendVector, sendFile, tryDisk func(fd uintptr) bool
	in                                            []byte // of read
	got                                           int
	data                                          []byte // of sendVector
	file                                          int    // of sendFile
	off                                           int64
	left                                          int
	disk                                          *memoryBody // of tryDisk
	copies                                        bool        // sendfile is of no use for it
	once                                          bool        // do not wait if the socket is full
	full                                          bool        // the socket was full
	err                                           error
}

func newConn(o *openConn, l *lingerers) net.Conn {
	raw, err := o.tcp.SyscallConn()
	if err != nil { // it is not connected
		o.tcp.Close()
	}
	c := &conn{TCPConn: o.tcp, raw: raw, open: o, lingerers: l}
	c.pace.client = c
	c.read, c.sendHeld, c.sendVector, c.sendFile = c.tryRead, c.trySendHeld, c.trySendVector, c.trySendFile
	c.tryDisk = c.trySendDisk
	return c
}

// Read yields to other connections first, two times of three. Directly after an answer
// there is no request to read yet: the read would fail, the goroutine would be parked, and
// the poller would be asked. While other connections have work, the client's next request
// arrives. The third time does not yield: if no goroutine ever parked, the run queue would
// never be empty, and the poller would never be asked for the connections outside it.
func (c *conn) Read(p []byte) (int, error) {
	if c.reads++; c.reads%3 != 0 {
		runtime.Gosched()
	}
	n, err := c.receive(p)
	if n > 0 || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		c.open.unpin()
	}
	return n, err
}

// receive reads what the client has sent, or waits for it until readBy.
func (c *conn) receive(p []byte) (n int, err error) {
	c.in = p
	err = c.raw.Read(c.read)
	for errors.Is(err, os.ErrDeadlineExceeded) && (c.readBy.IsZero() || time.Now().Before(c.readBy)) {
		if err = c.arm(); err == nil {
			err = c.raw.Read(c.read)
		}
	}
	n, c.in, c.got = c.got, nil, 0
	if err == nil {
		err, c.err = c.err, nil
	}
	return n, err
}

func (c *conn) arm() error {
	c.armed = c.readBy
	return c.TCPConn.SetReadDeadline(c.readBy)
}

// armBefore sets the deadline of a read that has to wait, unless an earlier one is set.
func (c *conn) armBefore() error {
	if c.readBy.IsZero() || !c.armed.IsZero() && !c.armed.After(c.readBy) {
		return nil
	}
	return c.arm()
}

// SetReadDeadline is for the calls of Read that follow. It does not end one that waits.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.readBy = t
	return nil
}

// SetWriteDeadline is for the short answers that follow; send has its own deadlines.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeBy = t
	return nil
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	c.readBy, c.writeBy = t, t
	return nil
}

// Close waits for the client's last bytes if a request was refused before all of it was
// read.
func (c *conn) Close() error {
	if c.lingers.Swap(false) {
		c.lingerers.linger(c.TCPConn)
	}
	c.open.unpinLater()
	err := c.TCPConn.Close()
	c.open.remove()
	return err
}

// linger makes Close linger. The answer must announce the end of the connection.
func (c *conn) linger() { c.lingers.Store(true) }

// begin starts an answer that holds bytes or a slot while the client is slow.
func (c *conn) begin(x *exchange) {
	x.conn = c
	c.pace.begin(x)
}

// bufferHeader makes Write keep its bytes until sendMemory or vector sends them.
func (c *conn) bufferHeader() { c.holding = true }

// drop ends holding and drops the held bytes of the answer with this request id. Bytes
// held before them are complete answers to earlier requests of a pipeline, which fasthttp
// had in its buffer when it wrote the header. They are sent.
func (c *conn) drop(id []byte) {
	if c.holding {
		c.holding = false
		// The request id comes before every header with a value from S3, so no
		// object can forge it.
		if at := bytes.LastIndex(c.held, id); at >= 0 {
			c.held = c.held[:max(0, bytes.LastIndex(c.held[:at], statusLine))]
		}
		if len(c.held) > 0 {
			_, _ = c.vector(nil) // after an error the connection ends, as it does anyway
		}
	}
	c.held = c.held[:0]
}

var statusLine = []byte("HTTP/1.1 ")

func (c *conn) Write(p []byte) (int, error) {
	switch {
	case c.holding:
		c.held = append(c.held, p...)
		return len(p), nil
	case c.pace.x == nil: // a short answer that holds nothing
		if err := c.TCPConn.SetWriteDeadline(c.writeBy); err != nil {
			return 0, err
		}
		return c.TCPConn.Write(p)
	}
	n, err := c.vector(p)
	return int(n), err
}

// sendMemory sends the held bytes and then the body, as long as the client keeps reading.
// It returns how many bytes of the body it sent.
func (c *conn) sendMemory(m *memoryBody) (int64, error) {
	if m.file < 0 || !c.open.pin(m.obj) {
		return c.vector(m.data)
	}
	c.holding = false
	c.file, c.off, c.left = m.file, m.offset, len(m.data)
	err := c.send(c.sendHeld)
	if err == nil {
		err = c.send(c.sendFile)
	}
	return int64(len(m.data) - c.left), err
}

// sendDisk sends the held bytes and then a body on disk, as long as the client keeps reading.
// While it waits for the client it holds no memory. A *diskError is not the client's fault.
func (c *conn) sendDisk(m *memoryBody) (int64, error) {
	c.holding = false
	c.disk, c.off, c.left, c.copies = m, m.offset, int(m.size), m.size < fileMin
	err := c.send(c.tryDisk)
	c.disk = nil
	return m.size - int64(c.left), err
}

// vector ends holding and sends the held bytes and data, with one system call if the
// socket has room. It returns how many bytes of data it sent.
func (c *conn) vector(data []byte) (int64, error) {
	c.holding, c.data = false, data
	err := c.send(c.sendVector)
	sent := len(data) - len(c.data)
	c.data = nil
	return int64(sent), err
}

// send calls try until it has sent all of its bytes, or the client is cut. Only if the
// socket is full at first, the answer becomes one of the slow readers.
func (c *conn) send(try func(fd uintptr) bool) error {
	c.full, c.once = false, true
	err := c.attempt(try)
	if errors.Is(err, os.ErrDeadlineExceeded) && c.TCPConn.SetWriteDeadline(time.Now().Add(stallTime)) == nil {
		err = c.attempt(try) // the deadline was that of an earlier send
	}
	if !c.full {
		return err
	}
	c.once = false
	p, slow := &c.pace, c.pace.x.proxy.slow
	slow.enter(p)
	defer slow.leave(p)
	for {
		if err := c.TCPConn.SetWriteDeadline(slow.nextCheck(p)); err != nil {
			return err
		}
		err := c.attempt(try)
		if !errors.Is(err, os.ErrDeadlineExceeded) || slow.stalled(p) {
			return err
		}
	}
}

// attempt calls try until it is done or the deadline has passed.
func (c *conn) attempt(try func(fd uintptr) bool) error {
	err := c.raw.Write(try)
	if err == nil {
		err, c.err = c.err, nil
	}
	return err
}

// acknowledged subtracts what the kernel holds until the client acknowledges it.
func (c *conn) acknowledged(sent int64) int64 { return sent - unacknowledged(c.raw) }

// unacknowledged is how many bytes the kernel holds until the client acknowledges them.
func unacknowledged(raw syscall.RawConn) int64 {
	held := 0
	if err := raw.Control(func(fd uintptr) {
		held, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	}); err != nil {
		return 0
	}
	return int64(held)
}

// openOf returns the entry of a connection in the table of clients.
func openOf(nc net.Conn) *openConn {
	if c, ours := nc.(*conn); ours {
		return c.open
	}
	return nil
}

// reset closes the connection and drops what the kernel holds for the client.
func (c *conn) reset() {
	_ = c.SetLinger(0)
	_ = c.TCPConn.Close()
}

// tryRead reads what the client has sent.
func (c *conn) tryRead(fd uintptr) bool {
	for {
		n, err := readQuickly(fd, c.in)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			c.err = c.armBefore()
			return c.err != nil
		case err != 0:
			c.err = os.NewSyscallError("read", err)
		case n == 0 && len(c.in) > 0:
			c.err = io.EOF
		}
		c.got = n
		return true
	}
}

// trySendHeld sends the held bytes. It tells the kernel that more follows at once, so that
// the header does not get a packet of its own.
func (c *conn) trySendHeld(fd uintptr) bool {
	for len(c.held) > 0 {
		n, err := sendQuickly(fd, c.held, true)
		if stop, done := c.sent(n, err, "sendto"); done {
			return stop
		}
		c.held = c.held[:copy(c.held, c.held[n:])]
	}
	return true
}

// trySendVector sends the held bytes and data.
func (c *conn) trySendVector(fd uintptr) bool {
	for len(c.held)+len(c.data) > 0 {
		var n int
		var err syscall.Errno
		if len(c.held) == 0 { // a short answer, with its header: a vector costs the kernel more
			n, err = sendQuickly(fd, c.data, false)
		} else {
			n, err = sendBothQuickly(fd, c.held, c.data)
		}
		if stop, done := c.sent(n, err, "writev"); done {
			return stop
		}
		header := min(n, len(c.held))
		c.held = c.held[:copy(c.held, c.held[header:])]
		c.data = c.data[n-header:]
	}
	return true
}

// trySendFile sends from the memory file until all is sent or the socket is
// full.
func (c *conn) trySendFile(fd uintptr) bool {
	for c.left > 0 {
		n, err := sendFileQuickly(fd, c.file, &c.off, c.left)
		if stop, done := c.sent(n, err, "sendfile"); done {
			return stop
		}
		if n == 0 && err == 0 {
			c.err = io.ErrUnexpectedEOF // the file ends before the body
			return true
		}
		c.left -= n
	}
	return true
}

// trySendDisk sends from a file of the disk tier until all is sent or the socket is full.
func (c *conn) trySendDisk(fd uintptr) bool {
	for c.left > 0 {
		var stop, done bool
		if file, at, compared := c.disk.disk.File(); compared && !c.copies {
			stop, done = c.sendChunk(fd, file, at)
		} else {
			stop, done = c.copyChunk(fd)
		}
		if done {
			return stop
		}
	}
	return true
}

// sendChunk sends the held bytes, and then the next ones of a file whose checksums have been
// compared. The body begins at byte at of it.
func (c *conn) sendChunk(fd uintptr, file int, at int64) (stop, done bool) {
	if stop = c.trySendHeld(fd); len(c.held) > 0 {
		return stop, true
	}
	off, length := at+c.off, min(c.left, diskSend)
	send := sendFileQuickly
	if !inMemory(file, off, length) {
		reads := c.disk.x.proxy.disk
		if err := reads.begin(); err != nil {
			c.err = &diskError{err}
			return true, true
		}
		defer reads.end()
		send = sendFile
	}
	n, err := send(fd, file, &off, length)
	c.off, c.left = c.off+int64(n), c.left-n
	if err == 0 && n == 0 {
		err = unix.EIO // the file has become shorter
	}
	switch err { //nolint:exhaustive // others are the socket's
	case unix.EINVAL, unix.ENOSYS, // the file system has no such call
		unix.EIO, unix.ENXIO, unix.ENODEV, unix.ESTALE, unix.EUCLEAN, unix.EREMOTEIO, unix.EBADMSG, unix.ENODATA:
		// The tier reads the file and, if that fails too, drops it and counts the error.
		c.copies = true
		return false, false
	}
	return c.sent(n, err, "sendfile")
}

// copyChunk reads the next bytes, up to the end of their block, and sends them. A block that
// has not been compared with its checksum is compared first.
func (c *conn) copyChunk(fd uintptr) (stop, done bool) {
	reads := c.disk.x.proxy.disk
	if err := reads.begin(); err != nil {
		c.err = &diskError{err}
		return true, true
	}
	defer reads.end()
	buf := diskBuffers.Get().(*[diskChunk]byte)
	defer diskBuffers.Put(buf)
	p := buf[:min(int64(c.left), diskChunk-c.off%diskChunk)]
	if _, err := c.disk.disk.ReadAt(p, c.off); err != nil {
		c.err = &diskError{err}
		return true, true
	}
	n, err := sendBothQuickly(fd, c.held, p)
	header := min(n, len(c.held))
	c.held = c.held[:copy(c.held, c.held[header:])]
	c.off, c.left = c.off+int64(n-header), c.left-(n-header)
	return c.sent(n, err, "writev")
}

// sent counts what a call has sent. done says that its try ends, with the result stop.
func (c *conn) sent(n int, err syscall.Errno, call string) (stop, done bool) {
	c.pace.sent.Add(int64(n))
	if err == 0 || err == unix.EINTR {
		return false, false
	}
	if err == unix.EAGAIN {
		c.full = true
		return c.once, true
	}
	c.err = os.NewSyscallError(call, err)
	return true, true
}
