//go:build !linux

package netfault

import "net"

// port is a loopback port. Between two listeners another process may take it: not
// on every system can a socket that does not listen hold a port.
type port struct {
	addr  string
	first net.Listener // until listen returns it
}

// newPort takes a free port. The caller must release it.
func newPort() (*port, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &port{addr: ln.Addr().String(), first: ln}, nil
}

// listen listens on the port. At most one listener may be open at a time.
func (p *port) listen() (net.Listener, error) {
	if ln := p.first; ln != nil {
		p.first = nil
		return ln, nil
	}
	return net.Listen("tcp4", p.addr)
}

// release frees the port.
func (p *port) release() {
	if p.first != nil {
		_ = p.first.Close()
		p.first = nil
	}
}
