package proxy

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// ClientConfig has the limits of Clients.
type ClientConfig struct {
	// PerClient is how many connections, and how many requests under way, one client
	// address may have. 0 is no limit. Loopback addresses and trusted proxies are exempt.
	PerClient int
	// Trusted are the proxies whose word about the address of their clients counts.
	Trusted []netip.Prefix
	// Connections is how many connections may be open, 0 for no limit.
	Connections int
	// Shed counts what was refused or closed, by reason. It may be nil.
	Shed func(reason string, n int)
	Log  *slog.Logger
}

// Reasons of ClientConfig.Shed.
const (
	ShedClientConnections = "client_connections" // a connection beyond PerClient, reset
	ShedClientRequests    = "client_requests"    // a request beyond PerClient, answered 503
	ShedIdle              = "idle"               // an idle connection, closed for another one
	ShedBusy              = "busy"               // a connection under way, likewise
	ShedDescriptors       = "descriptors"        // a connection that found no room, reset
)

// ShedReasons are all reasons.
func ShedReasons() []string {
	return []string{ShedClientConnections, ShedClientRequests, ShedIdle, ShedBusy, ShedDescriptors}
}

// Clients is the table of open connections and of the requests that trusted proxies pass
// on, by client address. Its size is bounded by them. It makes room for a new connection
// when all places are taken, so that a health check is answered whatever one client does.
type Clients struct {
	cfg  ClientConfig
	room chan struct{} // gets a token when a connection has closed

	pages socketPages
	swept atomic.Int64 // Unix seconds

	mu       sync.Mutex // guards what follows, and the fields of peers
	peers    map[peerKey]*peer
	open     int
	requests map[netip.Addr]int // under way, by client of a trusted proxy
	tallies  map[string]*tally
}

// peerKey is an address that connects. An IPv6 client has a whole /64, unless it is exempt.
type peerKey struct {
	addr   netip.Addr
	exempt bool
}

type peer struct {
	key   peerKey
	conns map[*openConn]struct{}
}

// openConn is an open connection in the table.
type openConn struct {
	clients *Clients
	tcp     *net.TCPConn
	peer    *peer
	trusted bool // it comes from a trusted proxy
	// since is when the connection began to wait for a request, in nanoseconds of Unix
	// time, or, negative, when it got the request that is under way.
	since   atomic.Int64
	closing bool // closed to make room; guarded by clients.mu
	removed bool // likewise
	pins    atomic.Pointer[object]
}

// NewClients returns an empty table.
func NewClients(cfg ClientConfig) *Clients {
	if cfg.Shed == nil {
		cfg.Shed = func(string, int) {}
	}
	return &Clients{
		cfg: cfg, room: make(chan struct{}, 1), peers: make(map[peerKey]*peer),
		requests: make(map[netip.Addr]int), tallies: make(map[string]*tally),
	}
}

// Open is how many connections are open.
func (t *Clients) Open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

// admit enters a new connection, or closes it and returns nil.
func (t *Clients) admit(c *net.TCPConn) *openConn {
	addr := addrOf(c.RemoteAddr())
	o := &openConn{clients: t, tcp: c, trusted: t.trusts(addr)}
	key := peerKey{addr, o.trusted || addr.IsLoopback()}
	if !key.exempt {
		key.addr = clientKey(addr)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[key]; p != nil && !key.exempt && t.cfg.PerClient > 0 && len(p.conns) >= t.cfg.PerClient {
		t.shed(ShedClientConnections, 1)
		reset(c)
		return nil
	}
	if t.cfg.Connections > 0 && t.open >= t.cfg.Connections && !t.makeRoom(key) {
		t.shed(ShedDescriptors, 1)
		reset(c)
		return nil
	}
	o.peer = t.peers[key]
	if o.peer == nil {
		o.peer = &peer{key, make(map[*openConn]struct{})}
		t.peers[key] = o.peer
	}
	o.peer.conns[o] = struct{}{}
	t.open++
	shareUnsent(c, t.open)
	o.idle(time.Now())
	return o
}

// reset closes a connection so that the kernel keeps nothing of it.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// remove takes a closed connection out of the table. Further calls do nothing: at shutdown
// a connection is closed twice.
func (o *openConn) remove() {
	t := o.clients
	t.mu.Lock()
	if !o.removed {
		o.removed = true
		delete(o.peer.conns, o)
		if len(o.peer.conns) == 0 {
			delete(t.peers, o.peer.key)
		}
		t.open--
	}
	t.mu.Unlock()
	select {
	case t.room <- struct{}{}:
	default:
	}
}

func (o *openConn) busy(now time.Time) { o.since.Store(-now.UnixNano()) }
func (o *openConn) idle(now time.Time) { o.since.Store(now.UnixNano()) }
func (o *openConn) isIdle() bool       { return o.since.Load() > 0 }

// roomTime is how long a new connection waits for the end of those that were closed for it.
const roomTime = 100 * time.Millisecond

// makeRoom closes connections for a new one of key. It is called with mu held, and lets go
// of it while it waits.
func (t *Clients) makeRoom(key peerKey) bool {
	end := time.NewTimer(roomTime)
	defer end.Stop()
	for t.open >= t.cfg.Connections {
		if t.closeSome(key) == 0 {
			return false
		}
		t.mu.Unlock()
		select {
		case <-t.room:
			t.mu.Lock()
		case <-end.C:
			t.mu.Lock()
			return t.open < t.cfg.Connections
		}
	}
	return true
}

// closeSome closes idle connections of the address that has the most connections, those
// that have waited longest, some at a time: the search is dear. If no connection is idle, it
// closes the one whose request has taken longest, unless its address has hardly more than the
// new one's. It returns how
// many connections are being closed, those of earlier calls included.
func (t *Clients) closeSome(key peerKey) int {
	reason := ShedIdle
	victims, closing := t.longestIdle(1 + t.cfg.Connections/64)
	if len(victims)+closing == 0 {
		reason, victims = ShedBusy, t.longestBusy(key)
	}
	for _, o := range victims {
		o.closing = true
		if reason == ShedBusy {
			_ = o.tcp.SetLinger(0)
		}
		o.tcp.Close() // its goroutine then calls remove
	}
	if len(victims) > 0 {
		t.shed(reason, len(victims))
	}
	return len(victims) + closing
}

// longestIdle returns up to n idle connections of the address with the most connections
// among those that have an idle one, and how many connections are being closed.
func (t *Clients) longestIdle(n int) (found []*openConn, closing int) {
	most := 0
	for _, p := range t.peers {
		var idle []*openConn
		for o := range p.conns {
			switch {
			case o.closing:
				closing++
			case len(p.conns) > most && o.isIdle():
				idle = append(idle, o)
			}
		}
		if len(idle) > 0 {
			most, found = len(p.conns), idle
		}
	}
	if closing > 0 {
		return nil, closing
	}
	slices.SortFunc(found, func(a, b *openConn) int { return int(a.since.Load() - b.since.Load()) })
	return found[:min(n, len(found))], 0
}

// longestBusy returns the connection whose request is under way longest, of the address with
// the most connections. That must be the address of key, or one with more than twice as many.
func (t *Clients) longestBusy(key peerKey) []*openConn {
	var top *peer
	for _, p := range t.peers {
		if top == nil || len(p.conns) > len(top.conns) {
			top = p
		}
	}
	own := 1
	if p := t.peers[key]; p != nil {
		own += len(p.conns)
	}
	if top == nil || top.key != key && len(top.conns) <= 2*own {
		return nil
	}
	var longest *openConn
	for o := range top.conns {
		if longest == nil || o.since.Load() > longest.since.Load() { // negative
			longest = o
		}
	}
	return []*openConn{longest}
}

// outOfDescriptors closes idle connections although the table has room: something else took
// the descriptors. It reports whether there were any.
func (t *Clients) outOfDescriptors() bool {
	t.mu.Lock()
	n := t.closeSome(peerKey{})
	t.mu.Unlock()
	if n == 0 {
		return false
	}
	select {
	case <-t.room:
	case <-time.After(roomTime):
	}
	return true
}

// enter counts a request that a trusted proxy passes on. It returns the client that leave
// must get when the request has ended, or a zero address for a client that is not counted:
// one that the proxy does not name, and a loopback address. It reports whether the client is
// within its limit.
func (t *Clients) enter(h *fasthttp.RequestHeader) (netip.Addr, bool) {
	addr := clientOf(h, t.trusts)
	if !addr.IsValid() || addr.IsLoopback() {
		return netip.Addr{}, true
	}
	addr = clientKey(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.requests[addr] >= t.cfg.PerClient {
		t.shed(ShedClientRequests, 1)
		return netip.Addr{}, false
	}
	t.requests[addr]++
	return addr, true
}

// leave ends enter.
func (t *Clients) leave(client netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.requests[client]--; t.requests[client] == 0 {
		delete(t.requests, client)
	}
}

// trusts reports whether addr is a trusted proxy.
func (t *Clients) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(t.cfg.Trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// addrOf returns the address of a peer; IPv4 inside IPv6 is IPv4.
func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// clientKey is what is counted as one client: an IPv4 address, or the /64 of an IPv6 one.
func clientKey(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	p, _ := a.Prefix(64)
	return p.Masked().Addr()
}

// tally counts events between two lines of the log.
type tally struct {
	n    int
	next time.Time
}

// tallyTime is the shortest time between two lines.
const tallyTime = 10 * time.Second

// add counts n events and returns how many the next line has to name, 0 if it is too early.
func (c *tally) add(n int, now time.Time) (count int) {
	c.n += n
	if now.Before(c.next) {
		return 0
	}
	count, c.n, c.next = c.n, 0, now.Add(tallyTime)
	return count
}

// shed counts n refusals, and logs them by count. It is called with mu held.
func (t *Clients) shed(reason string, n int) {
	t.cfg.Shed(reason, n)
	c := t.tallies[reason]
	if c == nil {
		c = &tally{}
		t.tallies[reason] = c
	}
	count := c.add(n, time.Now())
	if count == 0 || t.cfg.Log == nil {
		return
	}
	switch reason {
	case ShedClientConnections, ShedClientRequests:
		t.cfg.Log.Warn("a client is at its limit: refused", "reason", reason, "count", count, "limit", t.cfg.PerClient,
			"remedy", "if many users share an address, raise --client-connections or name their proxy in --trusted-proxies")
	case ShedDescriptors:
		t.cfg.Log.Warn("out of file descriptors: connections refused", "count", count, "remedy", "raise ulimit -n")
	default:
		t.cfg.Log.Warn("out of file descriptors: connections closed for new ones", "reason", reason, "count", count,
			"remedy", "raise ulimit -n")
	}
}
