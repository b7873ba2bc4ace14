//go:build unix

package disk

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A link is not followed, and a pipe that lies where an object should be does not block.
const openFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

// isLink reports whether Open failed because name is a link.
func isLink(err error) bool { return errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) }

func notDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

func lockFile(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, err
	}
	return lock{f}, nil
}

type lock struct{ *os.File }

// Close releases the lock. Closing the file alone would leave it to a process that is being started: until
// that executes its program, it has a copy of every descriptor.
func (l lock) Close() error {
	return errors.Join(unix.Flock(int(l.Fd()), unix.LOCK_UN), l.File.Close())
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// modified is when a file was changed last, in nanoseconds. It allocates nothing.
func modified(f File) int64 {
	if _, ok := f.(*os.File); !ok {
		info, err := f.Stat()
		if err != nil {
			return -1
		}
		return info.ModTime().UnixNano()
	}
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return -1
	}
	return st.Mtim.Nano()
}
