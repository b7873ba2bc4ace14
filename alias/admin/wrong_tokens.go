package admin

import (
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// The limit of wrong tokens, per client address.
const (
	wrongTokensMax    = 10
	wrongTokensWindow = time.Minute
	// wrongTokensQuick are answered at once, for mistakes of the operator. The
	// others wait for wrongTokenPause before their 401.
	wrongTokensQuick = 3
	wrongTokenPause  = 500 * time.Millisecond
	// wrongTokensClients bounds the addresses in memory, about 400 bytes each. The address
	// that was quiet for the longest time is forgotten first.
	wrongTokensClients = 4096
)

// wrongTokens counts wrong tokens by client address: the peer of the connection,
// because this listener trusts no forwarding header. An IPv6 client counts as its
// network of 64 bits, in which it chooses its address. The right token never comes here.
type wrongTokens struct {
	mu      sync.Mutex // guards clients and their values
	clients *simplelru.LRU[netip.Prefix, *guesses]
}

// guesses are the times of the last wrong tokens of one address. A refused one is not
// among them, so an address can be right again a minute after its last guess.
type guesses struct {
	times [wrongTokensMax]time.Time // a ring
	next  int                       // the oldest time
}

func newWrongTokens() *wrongTokens {
	clients, _ := simplelru.NewLRU[netip.Prefix, *guesses](wrongTokensClients, nil) // only a size below 1 is an error
	return &wrongTokens{clients: clients}
}

// add counts a wrong token of a peer (host:port) now. It returns how long its answer
// must wait, or how long the address must wait because it has sent too many.
func (w *wrongTokens) add(peer string, now time.Time) (pause, retry time.Duration) {
	client := clientOf(peer)
	w.mu.Lock()
	defer w.mu.Unlock()
	g, known := w.clients.Get(client)
	if !known {
		g = &guesses{}
		w.clients.Add(client, g)
	}
	if age := now.Sub(g.times[g.next]); age < wrongTokensWindow {
		return 0, wrongTokensWindow - age
	}
	g.times[g.next] = now
	g.next = (g.next + 1) % wrongTokensMax
	recent := 0
	for _, t := range g.times {
		if now.Sub(t) < wrongTokensWindow {
			recent++
		}
	}
	if recent > wrongTokensQuick {
		pause = wrongTokenPause
	}
	return pause, 0
}

// clientOf returns the network whose wrong tokens count together. A peer that is no
// address counts together with all others of this kind.
func clientOf(peer string) netip.Prefix {
	at, err := netip.ParseAddrPort(peer)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := at.Addr().Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// refuseToken returns the error for a request that was refused with err. One without any
// token, or with an expired one, is no guess and is not counted.
func (s *Server) refuseToken(r *http.Request, err error) error {
	none := len(r.Header["Authorization"]) == 0 && !isSignIn(r)
	if none || err != errUnauthorized { //nolint:errorlint // a failure wraps it, and has a text
		return err
	}
	pause, retry := s.wrong.add(r.RemoteAddr, time.Now())
	if retry > 0 {
		f := failf(errWrongTokens, "this address has sent %d wrong admin tokens within a minute: "+
			"wait, and send the right one; the right token is served meanwhile", wrongTokensMax)
		f.header = map[string]string{"Retry-After": strconv.Itoa(int((retry + time.Second - 1) / time.Second))}
		return f
	}
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done(): // the client has left
		case <-s.closing.Done():
		}
	}
	return errUnauthorized
}
