package proxy

import (
	"io"
	"net"
	"sync"
	"time"
)

// What a client whose request was refused may still send, and for how long.
const (
	lingerTime  = time.Second
	lingerBytes = 4 << 20
)

// lingerers are the connections that linger. A refused request is answered while
// its client still sends the body. The sequence that closing has to wait for:
//
//  1. the answer is sent, and the connection is closed with bytes of the body
//     unread, or some arrive after that
//  2. the kernel answers these with a reset (RFC 9112, section 9.6)
//  3. the client, still writing, sees the reset and never reads the answer
//
// So the sending half is closed first, and the body is read and thrown away, in
// bounds, for the client to get to its end and to the answer.
type lingerers struct {
	patience time.Duration

	mu     sync.Mutex // guards the two below, and that none enters after end
	conns  map[*net.TCPConn]struct{}
	ended  bool
	inside sync.WaitGroup
}

// linger returns when the client has closed, or its time or bytes are used up.
func (l *lingerers) linger(c *net.TCPConn) {
	if !l.enter(c) {
		return
	}
	defer l.leave(c)
	if c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, lingerBytes) // through a small buffer that io keeps
	}
}

func (l *lingerers) enter(c *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || c.SetReadDeadline(time.Now().Add(l.patience)) != nil {
		return false
	}
	if l.conns == nil {
		l.conns = make(map[*net.TCPConn]struct{})
	}
	l.conns[c] = struct{}{}
	l.inside.Add(1)
	return true
}

func (l *lingerers) leave(c *net.TCPConn) {
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
		_ = c.SetReadDeadline(time.Unix(0, 1)) // in the past: wakes the reader
	}
	l.mu.Unlock()
	l.inside.Wait()
}
