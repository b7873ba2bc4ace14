//go:build !linux

package netfault

import "net"

// port is a port of loopback. Between two listeners on it another process may
// take it: not every system lets a socket that does not listen hold it.
type port struct {
	addr  string
	first net.Listener // until listen hands it out
}

// newPort takes a free port. The caller must release it.
func newPort() (*port, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &port{addr: ln.Addr().String(), first: ln}, nil
}

// listen listens on the port. Until the listener is closed no other may be made.
func (p *port) listen() (net.Listener, error) {
	if ln := p.first; ln != nil {
		p.first = nil
		return ln, nil
	}
	return net.Listen("tcp4", p.addr)
}

// release gives the port back.
func (p *port) release() {
	if p.first != nil {
		_ = p.first.Close()
		p.first = nil
	}
}
