package netfault

import "net"

// CutKind says how a connection ends.
type CutKind int

// FIN closes a connection in order, RST resets it.
const (
	FIN CutKind = iota
	RST
)

// Reset ends a connection with RST instead of FIN. What the other end has not
// received by then is lost.
func Reset(nc net.Conn) {
	if wrapped, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = wrapped.NetConn()
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}
