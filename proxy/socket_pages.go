package proxy

import (
	"sync/atomic"
	"time"
)

// socketPages counts the pages of the memory file that only sockets may hold. sendfile
// copies nothing: the socket keeps the pages, also when their object has left the cache,
// until the client has taken them. On one machine this includes the receive queue of the
// client. Beyond socketPagesMax bodies are copied into the socket.
//
// An object counts once, however many connections send it, because they share its pages.
type socketPages struct{ bytes atomic.Int64 }

const socketPagesMax = 32 << 20

// take counts a connection that sends obj. It reports whether it may do so by sendfile.
func (s *socketPages) take(obj *object) bool {
	if obj.size < 0 {
		return false
	}
	if obj.inSockets.Add(1) > 1 || s.bytes.Add(obj.size) <= socketPagesMax {
		return true
	}
	s.give(obj)
	return false
}

// give ends take.
func (s *socketPages) give(obj *object) {
	if obj.inSockets.Add(-1) == 0 {
		s.bytes.Add(-obj.size)
	}
}

// pin reports whether the connection may send obj by sendfile.
func (o *openConn) pin(obj *object) bool {
	t := o.clients
	if o.pins.Load() == obj {
		return true
	}
	o.unpin()
	if !t.pages.take(obj) {
		t.sweep()
		if !t.pages.take(obj) {
			return false
		}
	}
	o.pins.Store(obj)
	return true
}

// unpin is called when the client has taken its last answer, since it asks again, or is
// gone.
func (o *openConn) unpin() {
	if obj := o.pins.Swap(nil); obj != nil {
		o.clients.pages.give(obj)
	}
}

// unpinLater is called when the server ends a connection whose client may keep the pages.
// Thousands may end in a second, so one pin and one timer of an object stand for all of them.
func (o *openConn) unpinLater() {
	obj := o.pins.Swap(nil)
	if obj == nil {
		return
	}
	pages := &o.clients.pages
	obj.lastEnd.Store(time.Now().UnixNano())
	if obj.expires.Swap(true) {
		pages.give(obj)
		return
	}
	time.AfterFunc(pinTime, func() { pages.expire(obj) })
}

// expire ends the pin of unpinLater if pinTime has passed since the last connection ended.
func (s *socketPages) expire(obj *object) {
	if left := time.Until(time.Unix(0, obj.lastEnd.Load()).Add(pinTime)); left > 0 {
		time.AfterFunc(left, func() { s.expire(obj) })
		return
	}
	obj.expires.Store(false)
	s.give(obj)
}

// pinTime is how long pages count after the server has ended a connection.
const pinTime = 5 * time.Minute

// sweep ends the pins of connections whose clients have acknowledged everything, at most
// once a second. A client on loopback acknowledges before it reads.
func (t *Clients) sweep() {
	now, last := time.Now().Unix(), t.swept.Load()
	if now == last || !t.swept.CompareAndSwap(last, now) {
		return
	}
	var pinned []*openConn
	t.mu.Lock()
	for key, p := range t.peers {
		if key.addr.IsLoopback() {
			continue
		}
		for o := range p.conns {
			if o.pins.Load() != nil && o.isIdle() {
				pinned = append(pinned, o)
			}
		}
	}
	t.mu.Unlock()
	for _, o := range pinned {
		if raw, err := o.tcp.SyscallConn(); err == nil && unacknowledged(raw) == 0 {
			o.unpin()
		}
	}
}
