package arena

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resident is how many bytes of the file exist.
func (f *memfile) resident(t *testing.T) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// TestFreedWhileSent frees a body that the kernel has taken and the client has
// not read yet, after an attempt to put it into huge pages. The client must get
// the body and not the zeros of the hole.
func TestFreedWhileSent(t *testing.T) {
	t.Parallel()
	const huge = 2 << 20
	f := openMemfile(8 << 20)
	if f == nil {
		t.Skip("no memory files here")
	}
	defer f.close()
	smallPages(t, f)

	body := bytes.Repeat([]byte("A"), 64<<10)
	for at := 0; at < len(f.mem); at += len(body) {
		copy(f.mem[at:], body)
	}
	front := (huge - int(uintptr(unsafe.Pointer(&f.mem[0]))%huge)) % huge
	for at := front; at+huge <= len(f.mem); at += huge {
		_ = unix.Madvise(f.mem[at:at+huge], unix.MADV_COLLAPSE) // most kernels need no leave for this one
	}

	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	off := int64(4 << 20)
	n, err := unix.Sendfile(ends[0], f.fd, &off, len(body))
	if err != nil {
		t.Fatal(err)
	}
	f.punch(4<<20, int64(len(body)))
	got := make([]byte, n)
	if _, _, err := unix.Recvfrom(ends[1], got, unix.MSG_WAITALL); err != nil {
		t.Fatal(err)
	}
	if zeros := bytes.Count(got, []byte{0}); zeros > 0 {
		t.Errorf("a client got %d zeros in %d bytes of a body that was freed behind its sending", zeros, n)
	}
}

// socket is the end of a pair that a client has not read from yet.
type socket struct {
	fds  [2]int
	n    int
	mark byte
}

// send sends a part of e, which holds mark, as proxy does.
func (a *Arena) send(t *testing.T, e *Extent, mark byte) *socket {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd, off := a.File(e)
	n, err := unix.Sendfile(fds[0], fd, &off, int(min(e.size, 64<<10)))
	if err != nil {
		t.Fatal(err)
	}
	return &socket{fds, n, mark}
}

// receive checks that the client gets what was sent.
func (s *socket) receive(t *testing.T) {
	t.Helper()
	got := make([]byte, s.n)
	if _, _, err := unix.Recvfrom(s.fds[1], got, unix.MSG_WAITALL); err != nil {
		t.Fatal(err)
	}
	unix.Close(s.fds[0])
	unix.Close(s.fds[1])
	if n := bytes.Count(got, []byte{s.mark}); n != len(got) {
		t.Fatalf("a client got %d wrong bytes of %d: the pages of a body that sockets held were used again", len(got)-n, len(got))
	}
}

// TestSentPagesAreNotReused: a body that the kernel has taken by sendfile is freed, and as
// many others come as the arena may hold.
func TestSentPagesAreNotReused(t *testing.T) {
	t.Parallel()
	const size, limit = 64 << 10, 1 << 20
	for _, batch := range []int64{1, size, 4 * size, 1 << 40} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			t.Parallel()
			a := newTestArena(t, limit)
			defer a.Close()
			a.batch, a.slack = batch, 0
			for i := range byte(10) {
				e := a.Alloc(size)
				a.write(e, 1+2*i)
				s := a.send(t, e, 1+2*i)
				a.Free(e)
				var others []*Extent
				for range limit / size {
					o := a.Alloc(size)
					a.write(o, 2+2*i)
					others = append(others, o)
				}
				if got, most := a.Resident(), limit+4*size+2*min(batch, 4*size); got > most {
					t.Errorf("%d bytes are resident, want %d at most", got, most)
				}
				s.receive(t)
				for _, o := range others {
					a.Free(o)
				}
			}
			a.settle()
			a.check(t)
		})
	}
}

// smallPages looks for the flag "no huge pages" of the mapping.
func smallPages(t *testing.T, f *memfile) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil || !bytes.Contains(text, []byte("VmFlags:")) {
		t.Skip("the kernel does not tell the flags of mappings")
	}
	_, entry, ok := bytes.Cut(text, fmt.Appendf(nil, "%x-", uintptr(unsafe.Pointer(&f.mem[0]))))
	_, entry, found := bytes.Cut(entry, []byte("VmFlags:"))
	flags, _, _ := bytes.Cut(entry, []byte("\n"))
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		return // it has none
	}
	if !ok || !found || !bytes.Contains(flags, []byte(" nh")) {
		t.Errorf("flags of the mapping: got %s, want nh among them", flags)
	}
}
