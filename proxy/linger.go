package proxy

import (
	"io"
	"net"
	"sync"
	"time"
)

// How long, and how much, a client may still send after its request was refused.
const (
	lingerTime  = time.Second
	lingerBytes = 4 << 20
)

// lingerers are the connections that linger before they close. A refused request is
// answered while its client still sends the body. Without lingering:
//
//  1. The answer is sent, and the connection is closed while bytes of the body are
//     unread or still arrive.
//  2. The kernel answers these bytes with a reset (RFC 9112, section 9.6).
//  3. The client, still writing, sees the reset and never reads the answer.
//
// So the sending half is closed first, and the body is read and discarded, within bounds,
// until the client has sent it and reads the answer.
type lingerers struct {
	patience time.Duration

	mu     sync.Mutex // guards conns and ended; no connection enters after end
	conns  map[*net.TCPConn]struct{}
	ended  bool
	inside sync.WaitGroup
}

// linger returns when the client has closed, or has used up its time or bytes.
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

// end stops all lingering and waits until every linger has returned.
func (l *lingerers) end() {
	l.mu.Lock()
	l.ended = true
	for c := range l.conns {
		_ = c.SetReadDeadline(time.Unix(0, 1)) // in the past: wakes the reader
	}
	l.mu.Unlock()
	l.inside.Wait()
}
