//go:build linux && (amd64 || arm64)

package proxy

import (
	"os"
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

// sendFile is sendFileQuickly for a file on disk: it may wait for the disk.
func sendFile(fd uintptr, file int, off *int64, length int) (int, syscall.Errno) {
	n, err := unix.Sendfile(int(fd), file, off, length)
	e, _ := err.(syscall.Errno) //nolint:errorlint // the package returns no other type
	return max(0, n), e
}

// inMemory reports whether the kernel has a range of a file in memory, so that a read of it
// does not wait for the disk. It is false if the kernel cannot tell: cachestat came with Linux
// 6.5, and not all file systems have RWF_NOWAIT.
//
// cachestat also counts pages that the disk is still to fill, because another request reads
// them or the kernel reads ahead. It fills those of one read together, so that one byte of each
// readPart is asked for, too.
func inMemory(file int, off int64, length int) bool {
	var s unix.Cachestat_t
	r := unix.CachestatRange{Off: uint64(off), Len: uint64(length)}
	//nolint:gosec // package unix tells the scheduler of it
	_, _, e := unix.RawSyscall6(
		unix.SYS_CACHESTAT, uintptr(file), uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&s)), 0, 0, 0)
	last := off + int64(length) - 1
	if e != 0 || int64(s.Cache) != last/pageSize-off/pageSize+1 {
		return false
	}
	for at := off; at < last; at += readPart {
		if !readsAtOnce(file, at) {
			return false
		}
	}
	return readsAtOnce(file, last)
}

// readPart is less than the kernel reads from a disk at a time when it reads ahead.
const readPart = 32 << 10

// readsAtOnce reports whether a byte of a file can be read without waiting for the disk.
func readsAtOnce(file int, off int64) bool {
	var b byte
	v := unix.Iovec{Base: &b}
	v.SetLen(1)
	//nolint:gosec // package unix tells the scheduler of it
	n, _, e := unix.RawSyscall6(
		unix.SYS_PREADV2, uintptr(file), uintptr(unsafe.Pointer(&v)), 1, uintptr(off), 0, unix.RWF_NOWAIT)
	return e == 0 && n == 1
}

var pageSize = int64(os.Getpagesize())

// count is how many bytes were read or sent, 0 after an error.
func count(n uintptr) int { return max(0, int(n)) }
