package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Bounds of linger.
const (
	lingerTime  = time.Second
	lingerBytes = 4 << 20
)

// listener wraps the connections that it accepts in conn.
type listener struct {
	net.Listener
	server *Server
}

// Accept marks a lack of kernel memory, and an aborted connection, as temporary errors:
// net/http then waits and retries. The syscall package marks a lack of file descriptors.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	switch {
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ECONNABORTED):
		return nil, temporary{err}
	case err != nil:
		return nil, err
	}
	return newConn(l.server, c), nil
}

// temporary is a net.Error that is temporary.
type temporary struct{ error }

func (temporary) Timeout() bool   { return false }
func (temporary) Temporary() bool { return true }

// The states of a conn, in the order in which a request passes through them.
const (
	connWaiting int32 = iota // for the first byte of a request
	connReading              // the head of a request
	connLate                 // the head did not arrive in time
	connServing              // a handler has the request
	connEnding               // the last answer was sent; further input is discarded
)

// conn is a connection. net/http answers a request that it cannot parse with plain text,
// written directly to the connection, and closes without an answer if the head of a
// request comes too slowly. conn sends problem+json in both cases.
//
// The goroutine that serves the connection changes the state. net/http also reads in
// the background while a handler runs, to detect that the client leaves; that read
// finds connServing and changes nothing.
type conn struct {
	net.Conn
	server *Server
	state  atomic.Int32
	stop   func() bool // unregisters from the server's closing
}

// newConn wraps c. At shutdown the connection is closed if it has no request:
// net/http would wait 5 s for a client that has sent nothing.
func newConn(s *Server, c net.Conn) *conn {
	wrapped := &conn{Conn: c, server: s}
	wrapped.stop = context.AfterFunc(s.closing, func() {
		switch wrapped.state.Load() {
		case connWaiting, connEnding:
			c.Close()
		}
	})
	return wrapped
}

type connKey struct{}

func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// tlsState is the state of TLS, nil without TLS. net/http finds it only on a *tls.Conn, which
// conn hides.
func (c *conn) tlsState() *tls.ConnectionState {
	secure, ok := c.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	state := secure.ConnectionState()
	return &state
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.state.CompareAndSwap(connWaiting, connReading)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.state.CompareAndSwap(connReading, connLate)
	}
	return n, err
}

// Write forwards the answer of a handler. Output before a handler has the request is a
// refusal by net/http; Write replaces it.
func (c *conn) Write(p []byte) (int, error) {
	state := c.state.Load()
	switch {
	case state == connServing, state == connEnding:
		return c.Conn.Write(p)
	case state == connLate: // net/http reports half a request line as malformed
		c.refuse(errTimeout)
	case bytes.HasPrefix(p, []byte("HTTP/1.1 431 ")):
		c.refuse(errHeaders)
	case bytes.HasPrefix(p, []byte("HTTP/1.1 417 ")):
		c.refuse(errExpect)
	case bytes.HasPrefix(p, []byte("HTTP/1.1 505 ")):
		c.refuse(errVersion)
	default:
		c.refuse(errBadRequest)
	}
	return len(p), nil
}

// Close answers a request whose head did not arrive in time before it closes.
func (c *conn) Close() error {
	c.stop()
	if c.state.Load() == connLate {
		c.refuse(errTimeout)
	}
	return c.Conn.Close()
}

// refuse answers a request that did not reach a handler, and ends the connection.
func (c *conn) refuse(err error) {
	rec := newRecord("")
	h := http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}
	status, text := problem(h, rec, err)
	c.server.finish(h, rec, status)
	resp := http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: h, Close: true,
		ContentLength: int64(len(text)), Body: io.NopCloser(bytes.NewReader(text)),
	}
	var b bytes.Buffer
	_ = resp.Write(&b) // to memory
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, _ = c.Conn.Write(b.Bytes())
	c.linger()
}

// linger ends a connection whose client may still be sending. If it closed at once,
// the kernel would answer further data with a reset, and the client might not see
// the refusal (RFC 9112, section 9.6). So linger closes the sending side, and
// discards further input until the client closes.
//
// It sets the state before it reads closing: a shutdown in between finds connEnding
// and closes the connection.
func (c *conn) linger() {
	c.state.Store(connEnding)
	defer c.Conn.Close()
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || c.server.closing.Err() != nil || half.CloseWrite() != nil {
		return
	}
	if c.SetReadDeadline(time.Now().Add(c.server.lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
}
