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
