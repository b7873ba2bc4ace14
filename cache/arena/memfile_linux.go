package arena

import (
	"os"

	"golang.org/x/sys/unix"
)

// memfile is a file that exists in memory only, mapped.
type memfile struct {
	fd   int
	size int64
	mem  []byte
}

// openMemfile makes a sparse file of size bytes. It returns nil where memfd_create
// or mmap fails: a sandbox may forbid the former, and address space may be limited.
func openMemfile(size int64) *memfile {
	if os.Getpagesize() != PageSize {
		return nil
	}
	fd, err := unix.MemfdCreate("ixmage-cache", unix.MFD_CLOEXEC)
	if err != nil {
		return nil
	}
	f := &memfile{fd: fd, size: size}
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return nil
	}
	f.mem, err = unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		unix.Close(fd)
		return nil
	}
	// Small pages only, whatever the system's default for shared memory: the kernel
	// zeroes a hole in a huge page in place, even while it still sends from that
	// page, and the budget counts in small pages.
	_ = unix.Madvise(f.mem, unix.MADV_NOHUGEPAGE)
	// Cached pictures are other people's: keep them out of core dumps.
	_ = unix.Madvise(f.mem, unix.MADV_DONTDUMP)
	return f
}

// populate makes pages in one call instead of one fault each. A kernel that does not
// know the call makes them at the first access.
func (f *memfile) populate(off, n int64) {
	_ = unix.Madvise(f.mem[off:off+n], unix.MADV_POPULATE_WRITE)
}

// punch gives pages back to the kernel.
func (f *memfile) punch(off, n int64) {
	if unix.Fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n) != nil {
		_ = unix.Madvise(f.mem[off:off+n], unix.MADV_REMOVE)
	}
}

func (f *memfile) close() {
	_ = unix.Munmap(f.mem)
	unix.Close(f.fd)
	f.mem, f.fd = nil, -1
}
