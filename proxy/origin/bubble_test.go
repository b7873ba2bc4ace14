package origin

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"

	"ixmage/internal/awstest/s3"
)

// newBubbleEnv is an env on the clock of a bubble of synctest: no time passes while anything still runs, so
// that a busy machine cannot use up a limit. S3 is behind pipes, since the kernel knows no such clock.
func newBubbleEnv(t testing.TB, change func(*Config)) *env {
	t.Helper()
	ln := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := s3.Serve(ln)
	t.Cleanup(server.Close)
	k := newEnvBefore(t, server, nil, change)
	k.sender.dial = ln.dial
	return k
}

// pipeListener gives a server its ends of pipes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return pipeConn{client}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// pipeConn is a pipe to whoever looks for a descriptor of it. Nothing ever lies in a pipe: a write waits
// for its read.
type pipeConn struct{ net.Conn }

func (pipeConn) SyscallConn() (syscall.RawConn, error) { return emptyPipe{}, nil }

type emptyPipe struct{ syscall.RawConn }

func (emptyPipe) Read(func(uintptr) bool) error { return errNothing }
