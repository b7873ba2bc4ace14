package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Listener accepts TCP connections and survives a lack of file descriptors. fasthttp's
// Serve ends on the first error of Accept, so this Accept returns none until the listener
// is closed or drained. When descriptors run out, it closes one that it keeps in reserve
// to accept and refuse the waiting connection, so that the client learns of it at once.
// On Linux, Accept returns a *conn.
type Listener struct {
	*net.TCPListener
	clients   *Clients
	log       *slog.Logger
	draining  atomic.Bool
	lingerers lingerers

	mu      sync.Mutex // guards reserve
	reserve *os.File
}

// Listen opens addr. The listener serves at once; port 0 picks a free one.
func Listen(ctx context.Context, addr string, clients *Clients, log *slog.Logger) (*Listener, error) {
	lc := net.ListenConfig{Control: boundSockets}
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return newListener(ln.(*net.TCPListener), clients, log), nil
}

// Inherit makes a Listener of a socket that another process has opened, and closes the socket
// if it fails.
func Inherit(ln *net.TCPListener, clients *Clients, log *slog.Logger) (*Listener, error) {
	raw, err := ln.SyscallConn()
	if err == nil {
		err = boundSockets("", "", raw)
	}
	if err != nil {
		ln.Close()
		return nil, err
	}
	return newListener(ln, clients, log), nil
}

func newListener(ln *net.TCPListener, clients *Clients, log *slog.Logger) *Listener {
	l := &Listener{TCPListener: ln, clients: clients, log: log, lingerers: lingerers{patience: lingerTime}}
	l.refill()
	return l
}

// drainTime is how long Accept still returns connections after Drain that the kernel has
// already accepted: closing at once would reset them.
const drainTime = 100 * time.Millisecond

// Drain makes Accept return the waiting connections and then io.EOF.
func (l *Listener) Drain() {
	l.draining.Store(true)
	_ = l.SetDeadline(time.Now().Add(drainTime))
}

// acceptWait is the first pause after a failed Accept.
const acceptWait = 5 * time.Millisecond

// Accept waits for a connection. It fails only after Close or Drain.
func (l *Listener) Accept() (net.Conn, error) {
	for wait := acceptWait; ; wait = min(2*wait, time.Second) {
		c, err := l.AcceptTCP()
		switch {
		case err == nil:
			if o := l.clients.admit(c); o != nil {
				return newConn(o, &l.lingerers), nil
			}
			wait = acceptWait / 2
			continue
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case l.draining.Load() && errors.Is(err, os.ErrDeadlineExceeded):
			return nil, io.EOF
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			if l.clients.outOfDescriptors() {
				continue
			}
			l.refuse()
			l.log.Warn("out of file descriptors: connection refused", "limit", "raise ulimit -n", "error", err)
		default:
			l.log.Warn("accept failed; retrying", "error", err)
		}
		time.Sleep(wait) //nolint:forbidigo // there is no event to wait for when a descriptor becomes free
	}
}

// Close ends accepting and lingering. Accepted connections stay open otherwise.
func (l *Listener) Close() error {
	defer l.lingerers.end()
	l.mu.Lock()
	if l.reserve != nil {
		l.reserve.Close()
		l.reserve = nil
	}
	l.mu.Unlock()
	return l.TCPListener.Close()
}

// refuse accepts one connection with the reserved descriptor and resets it.
func (l *Listener) refuse() {
	l.mu.Lock()
	if l.reserve == nil {
		l.mu.Unlock()
		l.refill()
		return
	}
	l.reserve.Close()
	l.reserve = nil
	l.mu.Unlock()
	_ = l.SetDeadline(time.Now().Add(drainTime))
	if c, err := l.AcceptTCP(); err == nil {
		_ = c.SetLinger(0)
		c.Close()
	}
	if !l.draining.Load() {
		_ = l.SetDeadline(time.Time{})
	}
	l.refill()
}

// refill opens the reserved descriptor, if one is free.
func (l *Listener) refill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reserve == nil {
		l.reserve, _ = os.Open(os.DevNull)
	}
}
