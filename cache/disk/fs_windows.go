package disk

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/windows"
)

const openFlags = 0

func isLink(error) bool { return false }

func notDir(err error) bool { return errors.Is(err, windows.ERROR_DIRECTORY) }

// lockFile opens a file that nobody else may have open.
func lockFile(name string) (io.Closer, error) {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(path, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil,
		windows.OPEN_ALWAYS, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(h), name), nil
}

// syncDir does nothing: Windows has no such call.
func syncDir(string) error { return nil }

// modified is when a file was changed last, in nanoseconds.
func modified(f File) int64 {
	info, err := f.Stat()
	if err != nil {
		return -1
	}
	return info.ModTime().UnixNano()
}
