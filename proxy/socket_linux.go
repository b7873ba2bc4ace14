package proxy

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Bounds of what the kernel holds for one client. Accepted connections inherit them from
// the listener. There is no TCP_USER_TIMEOUT: the kernel ends a client with a small window by
// it even if that client reads all the time. SlowReaders end a client that stalls.
const (
	// unsentAll is how many bytes the kernel takes for some 32 connections together beyond
	// those that the congestion windows and the clients' windows let out; for 1,000 that
	// came one after the other it is up to four times as much. A connection gets its share
	// at accept (TCP_NOTSENT_LOWAT), from unsentMin to unsentMax: a few fast clients get a
	// picture of 1 MiB with one system call, and of thousands none keeps much. Bytes under
	// way are not limited, because their number decides the speed on a long path.
	unsentAll = 32 << 20
	unsentMax = 1 << 20
	unsentMin = 16 << 10
	// receiveBuffer holds a request's header of ReadBufferSize. The kernel doubles it.
	receiveBuffer = 2 * ReadBufferSize
)

// boundSockets sets the bounds on a listener.
func boundSockets(_, _ string, c syscall.RawConn) error {
	var errs error
	set := func(fd uintptr, level, name, value int) {
		errs = errors.Join(errs, unix.SetsockoptInt(int(fd), level, name, value))
	}
	err := c.Control(func(fd uintptr) {
		set(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMax)
		set(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	})
	return errors.Join(err, errs)
}

// shareUnsent gives an accepted connection its share of unsentAll, when open connections
// are open.
func shareUnsent(c *net.TCPConn, open int) {
	share := max(unsentMin, unsentAll/open)
	if share >= unsentMax {
		return // inherited from the listener
	}
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, share)
		})
	}
}
