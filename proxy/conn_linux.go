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

	holding bool
	held    []byte // written while holding
	reads   uint

	// The two functions that raw calls are made once, and the fields below are their
	// arguments and results, so that a hit allocates nothing.
	sendHeld, sendFile func(fd uintptr) bool
	file               int
	off                int64
	left               int
	err                error
}

func newConn(o *openConn, l *lingerers) net.Conn {
	raw, err := o.tcp.SyscallConn()
	if err != nil { // it is not connected
		o.tcp.Close()
	}
	c := &conn{TCPConn: o.tcp, raw: raw, open: o, lingerers: l}
	c.sendHeld, c.sendFile = c.trySendHeld, c.trySendFile
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
	n, err := c.TCPConn.Read(p)
	if n > 0 || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		c.open.unpin()
	}
	return n, err
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
			_, _ = c.send(c.held) // after an error the connection ends, as it does anyway
		}
	}
	c.held = c.held[:0]
}

var statusLine = []byte("HTTP/1.1 ")

func (c *conn) Write(p []byte) (int, error) {
	if c.holding {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.TCPConn.Write(p)
}

// sendMemory sends the held bytes and then the body, as long as the client keeps reading.
// It returns how many bytes of the body it sent.
func (c *conn) sendMemory(m *memoryBody) (int64, error) {
	if m.file < 0 || !c.open.pin(m.obj) {
		return c.vector(m.data)
	}
	c.holding = false
	c.file, c.off, c.left = m.file, m.offset, len(m.data)
	err := c.untilStalled(func() (int64, error) { return c.attempt(c.sendHeld) })
	if err == nil {
		err = c.untilStalled(func() (int64, error) { return c.attempt(c.sendFile) })
	}
	return int64(len(m.data) - c.left), err
}

// vector ends holding and sends the held bytes and data, with one system call if the
// socket has room. It returns how many bytes of data it sent.
func (c *conn) vector(data []byte) (int64, error) {
	bufs := net.Buffers{c.held, data}
	sent := -int64(len(c.held))
	c.holding, c.held = false, c.held[:0]
	err := c.untilStalled(func() (int64, error) {
		n, err := bufs.WriteTo(c.TCPConn) // removes the written bytes from bufs
		sent += n
		return n, err
	})
	return max(0, sent), err
}

// attempt calls try until it is done or the deadline has passed, and returns how many
// bytes it sent.
func (c *conn) attempt(try func(fd uintptr) bool) (int64, error) {
	before := c.left + len(c.held)
	err := c.raw.Write(try)
	if err == nil {
		err, c.err = c.err, nil
	}
	return int64(before - c.left - len(c.held)), err
}

// untilStalled calls write until all is sent, or the client takes less than stallBytes in
// a time of stall. It counts the bytes that the client has acknowledged and not those
// written: the kernel lets a writer go on only when a third of its buffer is free again,
// and at 20 KiB/s that takes long. The first time passes unchecked, because there is no
// earlier count.
func (c *conn) untilStalled(write func() (int64, error)) error {
	for waiting := int64(-1); ; {
		if err := c.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return err
		}
		n, err := write()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		still := c.unacknowledged()
		if waiting >= 0 && waiting+n-still < stallBytes {
			_ = c.SetLinger(0) // Close makes the kernel drop what it holds
			return err
		}
		waiting = still
	}
}

// unacknowledged is how many bytes the kernel holds until the client acknowledges them.
func (c *conn) unacknowledged() int64 { return unacknowledged(c.raw) }

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

// send writes all of p, as long as the client keeps reading.
func (c *conn) send(p []byte) (int, error) {
	sent := 0
	err := c.untilStalled(func() (int64, error) {
		n, err := c.TCPConn.Write(p[sent:])
		sent += n
		return int64(n), err
	})
	return sent, err
}

// trySendHeld sends the held bytes. It tells the kernel that more follows at once, so that
// the header does not get a packet of its own.
func (c *conn) trySendHeld(fd uintptr) bool {
	for len(c.held) > 0 {
		n, err := unix.SendmsgN(int(fd), c.held, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false
		case err != nil:
			c.err = os.NewSyscallError("sendmsg", err)
			return true
		default:
			c.held = c.held[:copy(c.held, c.held[n:])]
		}
	}
	return true
}

// trySendFile sends from the memory file until all is sent or the socket is
// full.
func (c *conn) trySendFile(fd uintptr) bool {
	for c.left > 0 {
		n, err := unix.Sendfile(int(fd), c.file, &c.off, c.left)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false
		case err != nil:
			c.err = os.NewSyscallError("sendfile", err)
			return true
		case n == 0:
			c.err = io.ErrUnexpectedEOF // the file ends before the body
			return true
		default:
			c.left -= n
		}
	}
	return true
}
