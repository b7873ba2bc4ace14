package netfault

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// port is a loopback port that stays reserved while nothing listens on it. A
// bound socket that never listens holds it: the kernel refuses connections and
// does not give the port out as a free one. Without it another test could take
// the port between closing a listener and listening again.
type port struct {
	addr string
	fd   int
}

// newPort takes a free port. The caller must release it.
func newPort() (*port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &port{fd: fd}
	if err := p.bind(); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

func (p *port) bind() error {
	if err := sharePort(p.fd); err != nil {
		return err
	}
	if err := unix.Bind(p.fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(p.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	at := name.(*unix.SockaddrInet4)
	p.addr = netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port)).String()
	return nil
}

// sharePort allows the listener to use the port of the socket that holds it.
func sharePort(fd int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

// listen listens on the port. At most one listener may be open at a time.
func (p *port) listen() (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if failed := c.Control(func(fd uintptr) { err = sharePort(int(fd)) }); failed != nil {
			return failed
		}
		return err
	}}
	return config.Listen(context.Background(), "tcp4", p.addr)
}

// release frees the port.
func (p *port) release() { _ = unix.Close(p.fd) }
