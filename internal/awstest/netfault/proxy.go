// Package netfault breaks network connections: a Proxy in front of any address
// refuses, hangs, delays, throttles and cuts them.
package netfault

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const bufferSize = 32 << 10

// Mode is the treatment of connections by a Proxy. The zero Mode passes
// everything.
type Mode struct {
	refuse bool
	hang   bool
	delay  time.Duration
	rate   int // bytes per second; zero: no limit
	cut    bool
	after  int64
	how    CutKind
}

// Pass passes everything.
func Pass() Mode { return Mode{} }

// Refuse resets the open connections and makes the kernel refuse new ones, as if
// the server were not running.
func Refuse() Mode { return Mode{refuse: true} }

// Hang accepts connections and discards everything, as a network that loses all
// packets. A connection that has lost bytes stays silent.
func Hang() Mode { return Mode{hang: true} }

// DelayFirstByte delays the next answer on each connection by d.
func DelayFirstByte(d time.Duration) Mode { return Mode{delay: d} }

// Limit passes at most so many bytes per second to each client.
func Limit(bytesPerSecond int) Mode { return Mode{rate: bytesPerSecond} }

// CutFIN closes each connection normally when n more bytes have gone to its
// client.
func CutFIN(n int64) Mode { return Mode{cut: true, after: n, how: FIN} }

// CutRST resets each connection when n more bytes have gone to its client.
func CutRST(n int64) Mode { return Mode{cut: true, after: n, how: RST} }

// Proxy passes TCP connections on to a target and breaks them as its Mode says. It
// is safe for concurrent use.
type Proxy struct {
	Addr string // host:port to connect to
	URL  string // Addr behind http://

	target   string
	port     *port
	accepted atomic.Int64
	running  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	ln    net.Listener
	mode  *activeMode
	links map[*link]struct{}
	done  bool
}

// activeMode gives each Set an address of its own: a link that sees another
// address restarts its count of bytes.
type activeMode struct{ Mode }

// New starts a Proxy that ends with the test.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := Start(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Start starts a Proxy in front of a host:port, which need not listen yet. The
// caller must Close it.
func Start(target string) (*Proxy, error) {
	port, err := newPort()
	if err != nil {
		return nil, err
	}
	ln, err := port.listen()
	if err != nil {
		port.release()
		return nil, err
	}
	p := &Proxy{
		Addr: port.addr, URL: "http://" + port.addr, target: target, port: port,
		ln: ln, mode: &activeMode{}, links: map[*link]struct{}{},
	}
	p.running.Go(func() { p.accept(ln) })
	return p, nil
}

// Refused is an address that refuses connections until the test ends.
func Refused(t testing.TB) string {
	t.Helper()
	p := New(t, "")
	if err := p.Set(Refuse()); err != nil {
		t.Fatal(err)
	}
	return p.Addr
}

// Set changes the mode, also of open connections. It fails only after Close and,
// on systems that do not hold the port during Refuse, if the port was taken.
func (p *Proxy) Set(m Mode) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return net.ErrClosed
	}
	switch {
	case m.refuse && p.ln != nil:
		p.ln.Close()
		p.ln = nil
	case !m.refuse && p.ln == nil:
		ln, err := p.port.listen()
		if err != nil {
			return fmt.Errorf("listen again: %w", err)
		}
		p.ln = ln
		p.running.Go(func() { p.accept(ln) })
	}
	p.mode = &activeMode{m}
	if m.refuse {
		p.resetAllLocked()
	}
	return nil
}

// Conns counts the open connections of clients.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Accepted counts all connections of clients so far.
func (p *Proxy) Accepted() int { return int(p.accepted.Load()) }

// Close cuts all connections and waits for its goroutines. It may be called more
// than once.
func (p *Proxy) Close() {
	p.mu.Lock()
	if !p.done {
		p.done = true
		defer p.port.release()
	}
	if p.ln != nil {
		p.ln.Close()
		p.ln = nil
	}
	p.resetAllLocked()
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) resetAllLocked() {
	for l := range p.links {
		l.end(RST)
	}
}

func (p *Proxy) accept(ln net.Listener) {
	for {
		client, err := ln.Accept()
		if err != nil {
			return
		}
		p.accepted.Add(1)
		l := &link{p: p, client: client, ended: make(chan struct{})}
		p.mu.Lock()
		p.links[l] = struct{}{}
		if p.done || p.mode.refuse { // accepted before the listener closed
			l.end(RST)
		}
		p.mu.Unlock()
		p.running.Go(l.run)
	}
}

func (p *Proxy) current() *activeMode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// link is a connection of a client with its connection to the target.
type link struct {
	p      *Proxy
	client net.Conn
	silent atomic.Bool // bytes were discarded
	once   sync.Once
	ended  chan struct{}
}

// end closes the connection of the client; that to the target follows.
func (l *link) end(how CutKind) {
	l.once.Do(func() {
		close(l.ended)
		if how == RST {
			Reset(l.client)
			return
		}
		l.client.Close()
	})
}

func (l *link) run() {
	defer func() {
		l.end(FIN)
		l.p.mu.Lock()
		delete(l.p.links, l)
		l.p.mu.Unlock()
	}()
	if l.p.current().hang {
		l.silent.Store(true)
		_, _ = io.Copy(io.Discard, l.client) // until the client leaves
		return
	}
	var helpers sync.WaitGroup
	defer helpers.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	helpers.Go(func() {
		<-l.ended
		cancel()
	})
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.p.target)
	if err != nil {
		l.end(RST)
		return
	}
	helpers.Go(func() { // the end of the link unblocks both directions
		<-l.ended
		server.Close()
	})
	helpers.Go(func() {
		l.upstream(server)
		l.end(FIN)
	})
	l.downstream(server)
	l.end(FIN)
}

// upstream passes on the bytes of the client. It is never slowed down, so that it
// notices at once when the client leaves.
func (l *link) upstream(server net.Conn) {
	buf := make([]byte, bufferSize)
	for {
		n, err := l.client.Read(buf)
		if n > 0 && !l.discard() {
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// discard reports whether bytes must be discarded.
func (l *link) discard() bool {
	if l.p.current().hang {
		l.silent.Store(true)
	}
	return l.silent.Load()
}

// downstream passes on the bytes of the server as the mode says.
func (l *link) downstream(server net.Conn) {
	var mode *activeMode
	passed := int64(0) // in this mode
	buf := make([]byte, bufferSize)
	for {
		limit := len(buf)
		if rate := l.p.current().rate; rate > 0 {
			limit = max(1, min(limit, rate/20))
		}
		n, err := server.Read(buf[:limit])
		if now := l.p.current(); now != mode {
			mode, passed = now, 0
		}
		piece := buf[:n]
		if mode.cut && passed+int64(n) >= mode.after {
			piece = buf[:max(0, mode.after-passed)]
		}
		if n > 0 && !l.discard() && !l.pass(mode, piece, passed) {
			return
		}
		passed += int64(len(piece))
		if mode.cut && passed >= mode.after {
			l.end(mode.how)
			return
		}
		if err != nil {
			l.finish()
			return
		}
	}
}

// pass writes bytes to the client after the delay of the mode.
func (l *link) pass(m *activeMode, piece []byte, passed int64) bool {
	wait := time.Duration(0)
	if passed == 0 {
		wait = m.delay
	}
	if m.rate > 0 {
		wait += time.Duration(len(piece)) * time.Second / time.Duration(m.rate)
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.ended:
			return false
		}
	}
	_, err := l.client.Write(piece)
	return err == nil
}

// finish handles the end of the server's bytes: the client of a silent link must
// not notice it.
func (l *link) finish() {
	if l.discard() {
		<-l.ended
	}
}
