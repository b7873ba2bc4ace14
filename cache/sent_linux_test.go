package cache

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSentBodyStays sends entries with sendfile to clients that do not read yet, and fetches
// as many others as fit into the cache, several times over. Each client must get the object
// that it asked for.
func TestSentBodyStays(t *testing.T) {
	t.Parallel()
	const size, objects = 64 << 10, 40
	w := newEnv(t, Config{Memory: 1 << 20, ObjectMax: 1 << 20})
	if w.memory.arena == nil {
		t.Skip("SKIPPED: this system has no memory files; bodies lie on the heap")
	}
	type client struct {
		fds  [2]int
		want []byte
	}
	var clients []client
	for i := range 3 * objects {
		key := Key{Space: 1, Object: fmt.Sprint(i)}
		want := content(key, size)
		if got := w.all(t.Context(), key, w.good(key, size)); got.err != nil || !bytes.Equal(got.data, want) {
			t.Fatalf("object %d: got %d bytes and %v", i, len(got.data), got.err)
		}
		if i%3 == 0 { // is a one-hit wonder, whose pages are used again
			continue
		}
		e, ok := w.Hit(key, time.Now())
		if !ok {
			t.Fatalf("object %d is no hit", i)
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		fd, off, ok := e.File()
		if !ok {
			t.Fatal("an entry of 64 KiB is in no file")
		}
		n, err := unix.Sendfile(fds[0], fd, &off, size)
		if err != nil {
			t.Fatal(err)
		}
		e.Release()
		clients = append(clients, client{fds, want[:n]})
	}
	for i, c := range clients {
		got := make([]byte, len(c.want))
		if _, _, err := unix.Recvfrom(c.fds[1], got, unix.MSG_WAITALL); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, c.want) {
			t.Errorf("client %d got wrong bytes", i)
		}
		unix.Close(c.fds[0])
		unix.Close(c.fds[1])
	}
}
