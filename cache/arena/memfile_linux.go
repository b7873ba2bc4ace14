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

// openMemfile makes a sparse file of size bytes, nil where that cannot be had:
// memfd_create is not everywhere allowed, and address space may be limited.
func openMemfile(size int64) *memfile {
	if os.Getpagesize() != pageSize {
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
	// Small pages only, whatever the system's default for shared memory: a hole
	// in a huge page is zeroed in place, also where the kernel is still sending
	// from it, and a page larger than ours would not be what we count.
	_ = unix.Madvise(f.mem, unix.MADV_NOHUGEPAGE)
	// A core dump need not hold other people's pictures.
	_ = unix.Madvise(f.mem, unix.MADV_DONTDUMP)
	return f
}

// populate makes the pages of a piece in one call instead of one fault each. A
// kernel that cannot makes them when they are touched.
func (f *memfile) populate(off, n int64) {
	_ = unix.Madvise(f.mem[off:off+n], unix.MADV_POPULATE_WRITE)
}

// punch gives the pages of a piece back to the kernel.
func (f *memfile) punch(off, n int64) {
	if unix.Fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n) != nil {
		_ = unix.Madvise(f.mem[off:off+n], unix.MADV_REMOVE)
	}
}

func (f *memfile) close() {
	_ = unix.Munmap(f.mem)
	unix.Close(f.fd)
}
