//go:build linux && (amd64 || arm64)

package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of an answer from memory. They wait neither for the socket, which is
// non-blocking, nor for a disk, unless memory is swapped out, and take a fraction of a
// millisecond. So Go's scheduler is not told of them. Its watchdog would take the processor
// from a thread that it finds in a system call, give it to another thread, and look again
// every 20 microseconds: at 64 KiB that was a tenth of the processor time.
//
// They return the errors of the kernel.

// quickMax is how many bytes such a call may copy or send. A collection of garbage waits for
// it.
const quickMax = 1 << 20

func readQuickly(fd uintptr, p []byte) (int, syscall.Errno) {
	//nolint:gosec // package unix has no such call
	n, _, e := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return count(n), e
}

// sendQuickly tells the kernel with more that more bytes follow at once.
func sendQuickly(fd uintptr, p []byte, more bool) (int, syscall.Errno) {
	flags := uintptr(unix.MSG_NOSIGNAL)
	if more {
		flags |= unix.MSG_MORE
	}
	p = p[:min(len(p), quickMax)]
	//nolint:gosec // package unix has no such call
	n, _, e := unix.RawSyscall6(
		unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
	return count(n), e
}

// sendBothQuickly sends a and then b.
func sendBothQuickly(fd uintptr, a, b []byte) (int, syscall.Errno) {
	b = b[:min(len(b), quickMax)]
	//nolint:gosec // package unix has no such call
	v := [2]unix.Iovec{{Base: unsafe.SliceData(a)}, {Base: unsafe.SliceData(b)}}
	v[0].SetLen(len(a))
	v[1].SetLen(len(b))
	//nolint:gosec // likewise
	n, _, e := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v)), 2)
	return count(n), e
}

func sendFileQuickly(fd uintptr, file int, off *int64, length int) (int, syscall.Errno) {
	//nolint:gosec // package unix has no such call
	n, _, e := unix.RawSyscall6(
		unix.SYS_SENDFILE, fd, uintptr(file), uintptr(unsafe.Pointer(off)), uintptr(min(length, quickMax)), 0, 0)
	return count(n), e
}

// count is how many bytes were read or sent, 0 after an error.
func count(n uintptr) int { return max(0, int(n)) }
