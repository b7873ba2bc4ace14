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

// conn is an accepted connection that sends a header and a body from memory
// with as little work as the kernel allows: fasthttp writes its header into a
// buffer of ours, and then both go out together, the body by writev or, where
// it lies in a memory file, by sendfile, which copies nothing. It is used by one
// goroutine at a time, as fasthttp does.
type conn struct {
	*net.TCPConn
	raw       syscall.RawConn
	lingerers *lingerers
	lingers   atomic.Bool // its client may still be sending

	holding bool
	held    []byte // what was written while holding
	reads   uint

	// The arguments and results of the two functions that raw calls, which
	// are made once so that a hit allocates nothing.
	sendHeld, sendFile func(fd uintptr) bool
	file               int
	off                int64
	left               int
	err                error
}

func newConn(tc *net.TCPConn, l *lingerers) net.Conn {
	raw, err := tc.SyscallConn()
	if err != nil {
		return tc
	}
	c := &conn{TCPConn: tc, raw: raw, lingerers: l}
	c.sendHeld, c.sendFile = c.trySendHeld, c.trySendFile
	return c
}

// Read lets other connections have their turn first, two times of three. A
// server that has just answered would find nothing yet: the read would fail,
// the goroutine be parked, and the poller asked. While there is other work, the
// client's next request arrives meanwhile. The third time is needed: if nobody
// ever parked, the run queue would never be empty and the poller never be asked
// for connections that are not in it.
func (c *conn) Read(p []byte) (int, error) {
	if c.reads++; c.reads%3 != 0 {
		runtime.Gosched()
	}
	return c.TCPConn.Read(p)
}

// Close waits for the client's last bytes where a request was refused before all
// of it was read.
func (c *conn) Close() error {
	if c.lingers.Swap(false) {
		c.lingerers.linger(c.TCPConn)
	}
	return c.TCPConn.Close()
}

// linger makes Close linger. The answer must announce the end of the connection.
func (c *conn) linger() { c.lingers.Store(true) }

// hold keeps what is written from now on, until sendMemory or vector sends it.
func (c *conn) hold() { c.holding = true }

// drop ends holding and forgets what is held of the answer with this request id.
// What is held before that are whole answers to earlier requests of a pipeline:
// fasthttp had them in its buffer when the header was written behind them. They
// go out.
func (c *conn) drop(id []byte) {
	if c.holding {
		c.holding = false
		// Nothing that S3 said stands in a header before its request id.
		if at := bytes.LastIndex(c.held, id); at >= 0 {
			c.held = c.held[:max(0, bytes.LastIndex(c.held[:at], statusLine))]
		}
		if len(c.held) > 0 {
			_, _ = c.send(c.held) // an error is the end of the connection, which comes anyway
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

// sendMemory sends what is held and then the body, as long as the client keeps
// reading, and returns how much of the body went out.
func (c *conn) sendMemory(m *memoryBody) (int64, error) {
	if m.file < 0 {
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

// vector ends holding and sends what is held and data, with one system call if
// they fit. It returns how much of data went out.
func (c *conn) vector(data []byte) (int64, error) {
	bufs := net.Buffers{c.held, data}
	sent := -int64(len(c.held))
	c.holding, c.held = false, c.held[:0]
	err := c.untilStalled(func() (int64, error) {
		n, err := bufs.WriteTo(c.TCPConn) // takes what it wrote out of bufs
		sent += n
		return n, err
	})
	return max(0, sent), err
}

// attempt calls try until it is done or the deadline has passed, and returns how
// much went out.
func (c *conn) attempt(try func(fd uintptr) bool) (int64, error) {
	before := c.left + len(c.held)
	err := c.raw.Write(try)
	if err == nil {
		err, c.err = c.err, nil
	}
	return int64(before - c.left - len(c.held)), err
}

// untilStalled calls write until all is sent, for as long as the client takes at
// least stallBytes in each stretch of time. What counts is what the client has
// acknowledged, not what could be written: the kernel lets a writer go on only
// when a third of its buffer is free again, and at 20 KiB/s that is a long time.
// The first stretch is for free, because there is nothing to compare it with.
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
			return err
		}
		waiting = still
	}
}

// unacknowledged is how much the kernel holds that the client has not confirmed.
func (c *conn) unacknowledged() int64 {
	held := 0
	if err := c.raw.Control(func(fd uintptr) {
		held, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	}); err != nil {
		return 0
	}
	return int64(held)
}

// send writes p whole, as long as the client keeps reading.
func (c *conn) send(p []byte) (int, error) {
	sent := 0
	err := c.untilStalled(func() (int64, error) {
		n, err := c.TCPConn.Write(p[sent:])
		sent += n
		return int64(n), err
	})
	return sent, err
}

// trySendHeld sends what is held, and tells the kernel that more follows at
// once, so that it does not send a packet for the header alone.
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
