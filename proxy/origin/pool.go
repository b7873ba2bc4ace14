package origin

import (
	"container/list"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"
)

// distrustTime is how long the connections of a pool serve one request each after bytes
// came that answer no request. Such bytes may also come late, after the next request was sent, where
// no look can find them.
const distrustTime = 10 * time.Minute

// idleConns bounds the idle connections of all pools. Beyond total, the one that is idle
// for the longest time is closed.
type idleConns struct {
	perHost, total int

	mu     sync.Mutex // guards the fields below and those of all pools
	lru    list.List  // of *conn, most recently used first
	timer  *time.Timer
	closed bool
}

// pool holds the idle connections of one S3 client: of one key pair at one endpoint.
type pool struct {
	all *idleConns
	log *slog.Logger

	conns     map[string][]*conn // by scheme and host, most recently used last
	closed    bool
	untrusted time.Time // until then no connection is used again
}

func poolKey(u *url.URL) string { return u.Scheme + "://" + u.Host }

// get returns an idle connection on which nothing has arrived since its last reply, or nil.
func (p *pool) get(key string) *conn {
	for {
		cn := p.take(key)
		if cn == nil {
			return nil
		}
		if time.Since(cn.idleFrom) < idleConnTimeout {
			switch cn.look() {
			case quiet:
				cn.reused = true
				return cn
			case surplus:
				p.distrust(cn)
				continue
			case dead:
			}
		}
		cn.socket.Close()
	}
}

func (p *pool) take(key string) *conn {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	list := p.conns[key]
	if len(list) == 0 {
		return nil
	}
	cn := list[len(list)-1]
	p.all.removeLocked(cn)
	return cn
}

// put takes a connection whose reply was read to its end.
func (p *pool) put(cn *conn) {
	switch cn.look() {
	case quiet:
		if evicted := p.add(cn); evicted != nil {
			evicted.socket.Close()
		}
	case surplus:
		p.distrust(cn)
	case dead:
		cn.socket.Close()
	}
}

// add returns a connection to close: cn itself if the pool does not take it.
func (p *pool) add(cn *conn) (evicted *conn) {
	all := p.all
	all.mu.Lock()
	defer all.mu.Unlock()
	cn.idleFrom = time.Now()
	if p.closed || all.closed || cn.idleFrom.Before(p.untrusted) || len(p.conns[cn.key]) >= all.perHost {
		return cn
	}
	p.conns[cn.key] = append(p.conns[cn.key], cn)
	cn.element = all.lru.PushFront(cn)
	if all.lru.Len() > all.total {
		evicted = all.lru.Back().Value.(*conn)
		all.removeLocked(evicted)
	}
	if all.timer == nil {
		all.timer = time.AfterFunc(idleConnTimeout, all.sweep)
	}
	return evicted
}

// distrust closes a connection with bytes that answer no request, and all idle ones of the
// pool.
func (p *pool) distrust(cn *conn) {
	cn.socket.Close()
	p.all.mu.Lock()
	first := time.Now().After(p.untrusted)
	p.untrusted = time.Now().Add(distrustTime)
	p.all.mu.Unlock()
	p.closeIdle()
	if first {
		p.log.Warn("S3 sent more than the reply that it declared: each connection is used for one request only for some time",
			"endpoint", cn.key, "time", distrustTime)
	}
}

// close closes the idle connections; those in use are closed when their reply has ended.
func (p *pool) close() {
	p.all.mu.Lock()
	p.closed = true
	p.all.mu.Unlock()
	p.closeIdle()
}

func (p *pool) closeIdle() {
	p.all.mu.Lock()
	var idle []*conn
	for _, list := range p.conns {
		idle = append(idle, list...)
	}
	for _, cn := range idle {
		p.all.removeLocked(cn)
	}
	p.all.mu.Unlock()
	closeAll(idle)
}

// removeLocked takes a connection out of its pool.
func (a *idleConns) removeLocked(cn *conn) {
	a.lru.Remove(cn.element)
	cn.element = nil
	list := cn.pool.conns[cn.key]
	i := slices.Index(list, cn)
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(cn.pool.conns, cn.key)
		return
	}
	cn.pool.conns[cn.key] = list
}

// sweep closes connections that were idle for too long.
func (a *idleConns) sweep() {
	a.mu.Lock()
	var old []*conn
	var next time.Duration
	for e := a.lru.Back(); e != nil; e = a.lru.Back() {
		cn := e.Value.(*conn)
		if next = idleConnTimeout - time.Since(cn.idleFrom); next > 0 {
			break
		}
		a.removeLocked(cn)
		old = append(old, cn)
	}
	if a.timer = nil; a.lru.Len() > 0 {
		a.timer = time.AfterFunc(next, a.sweep)
	}
	a.mu.Unlock()
	closeAll(old)
}

// closeIdle closes all idle connections.
func (a *idleConns) closeIdle() {
	a.mu.Lock()
	var idle []*conn
	for e := a.lru.Back(); e != nil; e = a.lru.Back() {
		idle = append(idle, e.Value.(*conn))
		a.removeLocked(e.Value.(*conn))
	}
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	a.mu.Unlock()
	closeAll(idle)
}

// close closes all idle connections, and those in use when their reply has ended.
func (a *idleConns) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.closeIdle()
}

func closeAll(conns []*conn) {
	for _, cn := range conns {
		cn.socket.Close()
	}
}
