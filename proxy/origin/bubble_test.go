package origin

import (
	"context"
	"net"
	"syscall"
	"testing"

	"ixmage/internal/awstest/pipe"
	"ixmage/internal/awstest/s3"
)

// newBubbleEnv is an env on the clock of a bubble of synctest: no time passes while anything still runs, so
// that a busy machine cannot use up a limit.
func newBubbleEnv(t testing.TB, change func(*Config)) *env {
	t.Helper()
	ln := pipe.Listen()
	server := s3.Serve(ln)
	t.Cleanup(server.Close)
	k := newEnvBefore(t, server, nil, change)
	k.sender.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := ln.Dial(ctx)
		return pipeConn{conn}, err
	}
	return k
}

// pipeConn makes a pipe look like a socket: the pool reads from its descriptor what lies there. A pipe
// has no buffer, so nothing does.
type pipeConn struct{ net.Conn }

func (pipeConn) SyscallConn() (syscall.RawConn, error) { return emptyPipe{}, nil }

type emptyPipe struct{ syscall.RawConn }

func (emptyPipe) Read(func(uintptr) bool) error { return errNothing }
