package proxy

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what the kernel holds for one client. Accepted connections inherit them from
// the listener.
const (
	// unsentMax is how many bytes the kernel takes beyond those that the congestion
	// window and the client's window let out (TCP_NOTSENT_LOWAT). Bytes under way are
	// not limited, because their number decides the speed on a long path.
	unsentMax = 128 << 10
	// clientTimeout is how long a client may leave bytes unacknowledged, or its
	// window closed (TCP_USER_TIMEOUT). The kernel then drops the connection and its bytes,
	// also if the server has closed it already.
	clientTimeout = 2 * stall
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
		set(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(clientTimeout/time.Millisecond))
		set(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	})
	return errors.Join(err, errs)
}
