package proxy

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestLongestIdle: room is made by the address with the most connections among those with an
// idle one, by its connections that are idle longest, and not by more than one batch at a time.
func TestLongestIdle(t *testing.T) {
	t.Parallel()
	c := NewClients(ClientConfig{Connections: 100})
	start := time.Unix(1_000_000, 0)
	add := func(addr string, busy bool, seconds ...int) (conns []*openConn) {
		key := peerKey{addr: netip.MustParseAddr(addr)}
		p := &peer{key, make(map[*openConn]struct{})}
		c.peers[key] = p
		for _, s := range seconds {
			o := &openConn{clients: c, peer: p}
			if o.idle(start.Add(time.Duration(s) * time.Second)); busy {
				o.busy(start.Add(time.Duration(s) * time.Second))
			}
			p.conns[o] = struct{}{}
			conns = append(conns, o)
		}
		return conns
	}
	add("192.0.2.1", false, 0, 1)
	crowd := add("192.0.2.2", false, 30, 10, 20, 40)
	streams := add("192.0.2.3", true, 5, 3, 4, 9, 9)
	got, closing := c.longestIdle(2)
	if closing != 0 || !slices.Equal(got, []*openConn{crowd[1], crowd[2]}) {
		t.Errorf("got %d connections, %d are closing", len(got), closing)
	}
	crowd[0].closing = true
	if got, closing := c.longestIdle(2); len(got) != 0 || closing != 1 {
		t.Errorf("while one is closing: %d more, %d closing", len(got), closing)
	}
	for newcomer, want := range map[string]*openConn{
		"192.0.2.3": streams[1], "192.0.2.9": streams[1], "192.0.2.1": nil,
	} {
		got := c.longestBusy(peerKey{addr: netip.MustParseAddr(newcomer)})
		if want == nil && got != nil || want != nil && !slices.Equal(got, []*openConn{want}) {
			t.Errorf("for a connection of %s: %v", newcomer, got)
		}
	}
}

// TestClientKey: an IPv4 address is a client, in whatever form, and so is an IPv6 /64.
func TestClientKey(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		a := netip.MustParseAddr(addr)
		if got := clientKey(addrOf(&net.TCPAddr{IP: a.AsSlice(), Zone: a.Zone()})); got.String() != want {
			t.Errorf("%s: %v, want %s", addr, got, want)
		}
	}
}

// TestClientRequests: requests of one client count together, and the table is empty when they
// have ended.
func TestClientRequests(t *testing.T) {
	t.Parallel()
	shed := 0
	c := NewClients(ClientConfig{PerClient: 2, Shed: func(reason string, n int) {
		if reason == ShedClientRequests {
			shed += n
		}
	}})
	var entered []netip.Addr
	for i, want := range []bool{true, true, false, false} {
		key, ok := c.enter(headerOf("X-Forwarded-For: 2001:db8::" + string(rune('1'+i))))
		if ok != want {
			t.Errorf("request %d: %v", i, ok)
		}
		if key.IsValid() {
			entered = append(entered, key)
		}
	}
	for _, line := range []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: unknown", "X-Other: a"} {
		if key, ok := c.enter(headerOf(line)); !ok || key.IsValid() {
			t.Errorf("%s: %v, %v", line, key, ok)
		}
	}
	for _, key := range entered {
		c.leave(key)
	}
	if len(entered) != 2 || shed != 2 || len(c.requests) != 0 {
		t.Errorf("%d entered, %d refused, %d left", len(entered), shed, len(c.requests))
	}
}
