package netfault

import "net"

// CutKind says how a connection ends.
type CutKind int

// FIN closes a connection normally, RST resets it.
const (
	FIN CutKind = iota
	RST
)

// Reset ends a connection with RST instead of FIN. Bytes that the other end has
// not received yet are lost.
func Reset(nc net.Conn) {
	if wrapped, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = wrapped.NetConn()
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}
