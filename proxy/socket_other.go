//go:build !linux

package proxy

import (
	"net"
	"syscall"
)

// boundSockets leaves the sizes of buffers to the system: TCP_NOTSENT_LOWAT is set on
// Linux only.
func boundSockets(_, _ string, _ syscall.RawConn) error { return nil }

func shareUnsent(*net.TCPConn, int) {}
