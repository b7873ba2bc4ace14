package admin

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// listener survives shortages. fasthttp gives up serving at the first error
// of Accept, so a moment without file descriptors would end the server.
type listener struct {
	net.Listener
	closed    <-chan struct{}
	lingerers *lingerers
}

// Bounds of the wait after a failed Accept; it doubles in between.
const (
	minAcceptWait = 5 * time.Millisecond
	maxAcceptWait = time.Second
)

// Accept waits for a connection, through shortages, until the server is shut
// down. It looks at closed first: a Shutdown that comes between the start of
// Serve and fasthttp's taking over the listener closes nothing.
func (l *listener) Accept() (net.Conn, error) {
	for wait := minAcceptWait; ; wait = min(2*wait, maxAcceptWait) {
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		default:
		}
		conn, err := l.Listener.Accept()
		switch {
		case err == nil:
			return l.lingerers.wrap(conn), nil
		case !passes(err):
			return nil, err
		}
		select {
		case <-l.closed:
		case <-time.After(wait):
		}
	}
}

// passes reports whether an error of Accept is a shortage, or is about one
// connection only.
func passes(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
