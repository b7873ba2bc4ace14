package origin

import (
	"bufio"
	"bytes"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is a connection to S3. One goroutine at a time uses it; the end of a request's
// context closes socket from another one.
type conn struct {
	socket  *socket
	rw      net.Conn // socket, or TLS over it
	key     string   // in its pool
	pool    *pool
	timeout time.Duration // until the headers of a reply

	reused   bool
	idleFrom time.Time
	element  *list.Element // in the list of all idle connections
	peeked   [16]byte

	// The fields below belong to one exchange.
	br       *bufio.Reader
	headers  int // bytes of headers that may still come, -1 after them
	received int // bytes of the reply
	length   lengthScan
	stop     func() bool // stops the closing at the end of the context
}

// Buffers are held by connections in use only.
var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, writeBuffer) }}
)

// connect makes a new connection.
func (s *sender) connect(ctx context.Context, u *url.URL) (*conn, error) {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	nc, err := s.dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	sock, err := newSocket(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	cn := &conn{socket: sock, rw: sock, key: poolKey(u), timeout: s.firstByte}
	if u.Scheme == "https" {
		if cn.rw, err = s.handshake(ctx, sock, u.Hostname()); err != nil {
			sock.Close()
			return nil, err
		}
	}
	return cn, nil
}

func (s *sender) handshake(ctx context.Context, sock *socket, host string) (net.Conn, error) {
	cfg := s.tls.Clone()
	cfg.ServerName = host
	tc := tls.Client(sock, cfg)
	ctx, cancel := context.WithTimeout(ctx, tlsHandshakeTimeout)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, &handshakeError{err}
	}
	return tc, nil
}

// handshakeError is a TLS handshake that failed.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

var errLongHeaders = &protocolError{text: fmt.Sprintf("headers of the reply are longer than %d bytes", maxHeader)}

// exchange sends a request and returns the reply when its headers have arrived. The end of
// the request's context closes the connection until the body has ended or is closed.
func (cn *conn) exchange(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	cn.stop = context.AfterFunc(ctx, func() { cn.socket.Close() })
	cn.headers, cn.received, cn.length = maxHeader, 0, lengthScan{}
	resp, err := cn.roundTrip(req)
	if err != nil {
		cn.stop()
		cn.socket.Close()
		return nil, causeOf(ctx, err)
	}
	if resp.Body == http.NoBody {
		cn.finish(!resp.Close)
		return resp, nil
	}
	resp.Body = &replyBody{conn: cn, ctx: ctx, src: resp.Body, reuse: !resp.Close}
	return resp, nil
}

// causeOf adds why the context has ended to the error of a connection that was closed for it.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

func (cn *conn) roundTrip(req *http.Request) (*http.Response, error) {
	_ = cn.rw.SetDeadline(time.Now().Add(cn.timeout)) // fails if the context has ended: so does the write
	if err := cn.write(req); err != nil {
		return nil, err
	}
	cn.br = readers.Get().(*bufio.Reader)
	cn.br.Reset(cn)
	resp, err := cn.readReply(req)
	if err != nil {
		return nil, err
	}
	cn.headers = -1
	_ = cn.rw.SetDeadline(time.Time{}) // reads of a body have timers of their own
	return resp, nil
}

func (cn *conn) write(req *http.Request) error {
	bw := writers.Get().(*bufio.Writer)
	bw.Reset(cn.rw)
	err := req.Write(bw)
	if err == nil {
		err = bw.Flush()
	}
	bw.Reset(nil)
	writers.Put(bw)
	return err
}

// readReply skips interim replies. A 101 would hand the connection over to another protocol,
// so it is no reply to any request of ours.
func (cn *conn) readReply(req *http.Request) (*http.Response, error) {
	for {
		if err := cn.expectHTTP(); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(cn.br, req)
		switch {
		case err != nil && cn.headers == 0:
			return nil, errLongHeaders
		case err != nil:
			return nil, replyError(err)
		case resp.ProtoMajor != 1:
			return nil, &protocolError{text: "reply is of " + resp.Proto + ", not HTTP/1.1"}
		case resp.StatusCode == http.StatusSwitchingProtocols, resp.StatusCode < 100, resp.StatusCode > 599:
			return nil, &protocolError{text: fmt.Sprintf("status %03d is no final status of HTTP", resp.StatusCode)}
		case len(resp.TransferEncoding) > 0 && cn.length.found:
			return nil, errTwoLengths
		case resp.StatusCode >= http.StatusOK:
			return resp, nil
		}
	}
}

// expectHTTP checks how a reply begins, because a server of another protocol may wait after
// half a line. A server that expects TLS answers with an alert of TLS.
func (cn *conn) expectHTTP() error {
	const begin = "HTTP/"
	got, err := cn.br.Peek(len(begin))
	switch {
	case !strings.HasPrefix(begin, string(got)):
		return &protocolError{text: fmt.Sprintf("reply begins with %q", got), tls: bytes.HasPrefix(got, []byte("\x15\x03"))}
	case err != nil && cn.headers == 0:
		return errLongHeaders
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// Read is below br. It bounds the headers and counts the bytes of the reply.
func (cn *conn) Read(p []byte) (int, error) {
	if cn.headers == 0 {
		return 0, errLongHeaders
	}
	if cn.headers > 0 {
		p = p[:min(len(p), cn.headers)]
	}
	n, err := cn.rw.Read(p)
	cn.received += n
	if cn.headers > 0 {
		cn.headers -= n
		cn.length.write(p[:n])
	}
	return n, err
}

// finish ends an exchange whose reply was read to its end. The connection goes back to the
// pool unless bytes follow the reply.
func (cn *conn) finish(reuse bool) {
	surplus := cn.br.Buffered() > 0
	cn.br.Reset(nil)
	readers.Put(cn.br)
	cn.br = nil
	switch {
	case !cn.stop(): // the context has ended, and the socket is closed or will be
	case !reuse:
		cn.socket.Close()
	case surplus:
		cn.pool.distrust(cn)
	default:
		cn.pool.put(cn)
	}
}

// replyBody is the body of a reply. When it has been read to its end the connection is
// free again; Close before that closes it.
type replyBody struct {
	conn  *conn
	ctx   context.Context //nolint:containedctx // of the request: it lasts as long as the body
	src   io.Reader
	reuse bool

	ended    atomic.Bool // read to its end, or closed
	complete bool        // read to its end
}

func (b *replyBody) Read(p []byte) (int, error) {
	if b.ended.Load() {
		if b.complete {
			return 0, io.EOF
		}
		return 0, errClosed
	}
	n, err := b.src.Read(p)
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF):
		err = causeOf(b.ctx, err)
	case b.ended.CompareAndSwap(false, true):
		b.complete = true
		b.conn.finish(b.reuse)
	default:
		err = errClosed
	}
	return n, err
}

// Close may be called during a Read, which then fails.
func (b *replyBody) Close() error {
	if b.ended.CompareAndSwap(false, true) {
		b.conn.stop()
		b.conn.socket.Close()
	}
	return nil
}

// condition is what a look at an idle connection shows.
type condition int

const (
	quiet   condition = iota // nothing to read: the next bytes answer the next request
	dead                     // closed by the server
	surplus                  // bytes that answer no request
)

// look reads from a connection without waiting, through TLS where there is TLS: a ticket
// of a session is not a byte of a reply.
func (cn *conn) look() condition {
	cn.socket.noWait = true
	n, err := cn.rw.Read(cn.peeked[:])
	cn.socket.noWait = false
	switch {
	case n > 0 && !isRequestTimeout(cn.peeked[:n]):
		return surplus
	case n == 0 && errors.Is(err, errNothing):
		return quiet
	}
	return dead
}

// isRequestTimeout reports whether bytes on an idle connection are a 408, which some load
// balancers send before they close it.
func isRequestTimeout(b []byte) bool {
	const form = "HTTP/1.x 408"
	return len(b) >= len(form) && string(b[:7]) == form[:7] && string(b[8:12]) == form[8:]
}

// socket is a TCP connection whose Read can be told not to wait.
type socket struct {
	net.Conn

	noWait bool
	raw    syscall.RawConn
	readFD func(fd uintptr) bool // made once: it is called for each request
	buf    []byte
	n      int
	err    error
}

func newSocket(nc net.Conn) (*socket, error) {
	s := &socket{Conn: nc}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%T is no connection of the operating system", nc)
	}
	var err error
	s.raw, err = sc.SyscallConn()
	s.readFD = func(fd uintptr) bool {
		s.n, s.err = syscall.Read(int(fd), s.buf)
		return true
	}
	return s, err
}

// errNothing is the error of a read that would wait. TLS forgets it, because it is temporary.
var errNothing net.Error = nothingError{}

type nothingError struct{}

func (nothingError) Error() string   { return "nothing to read" }
func (nothingError) Timeout() bool   { return true }
func (nothingError) Temporary() bool { return true }

func (s *socket) Read(p []byte) (int, error) {
	if !s.noWait {
		return s.Conn.Read(p)
	}
	s.buf = p
	err := s.raw.Read(s.readFD)
	s.buf = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(s.err, syscall.EAGAIN), errors.Is(s.err, syscall.EINTR):
		return 0, errNothing
	case s.err != nil:
		return 0, s.err
	case s.n <= 0:
		return 0, io.EOF
	}
	return s.n, nil
}
