//go:build linux && !amd64 && !arm64

package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// The system calls of an answer from memory, where their quick forms are not written.

func readQuickly(fd uintptr, p []byte) (int, syscall.Errno) {
	return result(unix.Read(int(fd), p))
}

func sendQuickly(fd uintptr, p []byte, more bool) (int, syscall.Errno) {
	flags := unix.MSG_NOSIGNAL
	if more {
		flags |= unix.MSG_MORE
	}
	return result(unix.SendmsgN(int(fd), p, nil, nil, flags))
}

func sendBothQuickly(fd uintptr, a, b []byte) (int, syscall.Errno) {
	return result(unix.Writev(int(fd), [][]byte{a, b}))
}

func sendFileQuickly(fd uintptr, file int, off *int64, length int) (int, syscall.Errno) {
	return result(unix.Sendfile(int(fd), file, off, length))
}

func sendFile(fd uintptr, file int, off *int64, length int) (int, syscall.Errno) {
	return sendFileQuickly(fd, file, off, length)
}

func inMemory(int, int64, int) bool { return false }

func result(n int, err error) (int, syscall.Errno) {
	if err == nil {
		return n, 0
	}
	e, ok := err.(syscall.Errno) //nolint:errorlint // the package returns no other type
	if !ok {
		e = unix.EIO
	}
	return 0, e
}
