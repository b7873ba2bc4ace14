package admin

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// What a client whose request was not read whole may still send, and for how
// long.
const (
	lingerTime  = time.Second
	lingerBytes = 4 << 20
)

// halfCloser is a connection that can say that nothing more will be sent.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// lingerers are the connections that linger. Closing one while its client still
// sends a body would have the kernel answer with a reset, and the client would
// not see why it was refused (RFC 9112, section 9.6). So it is told the end, and
// what it sends until it closes is read and thrown away.
type lingerers struct {
	patience time.Duration

	mu     sync.Mutex // guards the two below, and that none enters after end
	conns  map[halfCloser]struct{}
	ended  bool
	inside sync.WaitGroup
}

// linger returns when the client has closed, or its time or bytes are used up.
func (l *lingerers) linger(c halfCloser) {
	if !l.enter(c) {
		return
	}
	defer l.leave(c)
	if c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, lingerBytes) // through a small buffer that io keeps
	}
}

func (l *lingerers) enter(c halfCloser) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || c.SetDeadline(time.Now().Add(l.patience)) != nil {
		return false
	}
	if l.conns == nil {
		l.conns = make(map[halfCloser]struct{})
	}
	l.conns[c] = struct{}{}
	l.inside.Add(1)
	return true
}

func (l *lingerers) leave(c halfCloser) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	l.inside.Done()
}

// end lets nobody linger any more, and waits until nobody does.
func (l *lingerers) end() {
	l.mu.Lock()
	l.ended = true
	for c := range l.conns {
		_ = c.SetDeadline(time.Unix(0, 1)) // in the past: wakes who waits
	}
	l.mu.Unlock()
	l.inside.Wait()
}

// ending is what a connection that can linger has.
type ending struct {
	all     *lingerers
	lingers atomic.Bool
}

func (e *ending) linger() { e.lingers.Store(true) }

func (e *ending) before(c halfCloser) {
	if e.lingers.Swap(false) {
		e.all.linger(c)
	}
}

type tcpConn struct {
	*net.TCPConn
	ending
}

func (c *tcpConn) Close() error {
	c.before(c.TCPConn)
	return c.TCPConn.Close()
}

// tlsConn has the methods by which fasthttp knows TLS.
type tlsConn struct {
	*tls.Conn
	ending
}

func (c *tlsConn) Close() error {
	c.before(c.Conn)
	return c.Conn.Close()
}

// wrap makes a connection one that can linger, if it is of a kind that we know.
func (l *lingerers) wrap(c net.Conn) net.Conn {
	switch c := c.(type) {
	case *net.TCPConn:
		return &tcpConn{TCPConn: c, ending: ending{all: l}}
	case *tls.Conn:
		return &tlsConn{Conn: c, ending: ending{all: l}}
	}
	return c
}

// linger has a connection closed gently, whose client may still be sending.
func linger(ctx *fasthttp.RequestCtx) {
	if c, ok := ctx.Conn().(interface{ linger() }); ok {
		c.linger()
	}
}
