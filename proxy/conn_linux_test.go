package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// servedPair is a connection as Listener accepts it, and its client.
func servedPair(t *testing.T) (*net.TCPConn, *conn) {
	t.Helper()
	client, server := pair(t)
	o := NewClients(ClientConfig{}).admit(server)
	return client, newConn(o, &lingerers{}).(*conn)
}

const distant = time.Hour

// waitUntilDeadline makes a read wait until its deadline, so that the deadline is set in the
// runtime and has passed.
func waitUntilDeadline(t *testing.T, _ net.Conn, c *conn) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %d bytes, %v", n, err)
	}
}

// The deadline that was set last counts, whichever one is set in the runtime.
func TestReadDeadline(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before   func(t *testing.T, client net.Conn, c *conn)
		deadline time.Time
		want     error
	}{
		"none":                          {func(*testing.T, net.Conn, *conn) {}, time.Time{}, nil},
		"far":                           {func(*testing.T, net.Conn, *conn) {}, time.Now().Add(distant), nil},
		"past":                          {func(*testing.T, net.Conn, *conn) {}, time.Unix(1, 0), os.ErrDeadlineExceeded},
		"far, after one that passed":    {waitUntilDeadline, time.Now().Add(distant), nil},
		"none, after one that passed":   {waitUntilDeadline, time.Time{}, nil},
		"past, after one that passed":   {waitUntilDeadline, time.Unix(1, 0), os.ErrDeadlineExceeded},
		"past, while a later one waits": {waitForByte, time.Unix(1, 0), os.ErrDeadlineExceeded},
		"far, while a later one waits":  {waitForByte, time.Now().Add(distant / 2), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, c := servedPair(t)
			tc.before(t, client, c)
			must(t, c.SetReadDeadline(tc.deadline))
			if tc.want == nil {
				go client.Write([]byte("x"))
			}
			n, err := c.Read(make([]byte, 5))
			if !errors.Is(err, tc.want) || (n == 1) != (tc.want == nil) {
				t.Errorf("got %d bytes, %v; want %v", n, err, tc.want)
			}
			var timeout net.Error
			if tc.want != nil && (!errors.As(err, &timeout) || !timeout.Timeout()) {
				t.Errorf("%v is no timeout for package net", err)
			}
		})
	}
}

// waitForByte leaves a deadline in the runtime that passes in an hour.
func waitForByte(t *testing.T, client net.Conn, c *conn) {
	t.Helper()
	waitUntilDeadline(t, client, c)
	must(t, c.SetReadDeadline(time.Now().Add(distant)))
	go client.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// fasthttp sets three deadlines for each request. Those of a busy connection cost no call of
// the runtime.
func TestReadDeadlineIsSetRarely(t *testing.T) {
	t.Parallel()
	client, c := servedPair(t)
	waitUntilDeadline(t, client, c)
	var first time.Time
	buf := make([]byte, 1)
	for i := range 100 {
		must(t, c.SetReadDeadline(time.Now().Add(distant)))
		go client.Write([]byte("x"))
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = c.armed
		}
	}
	if c.armed != first || time.Until(first) < distant/2 {
		t.Errorf("the deadline in the runtime is %s, and was %s", c.armed, first)
	}
}

// A short answer to a client that does not read ends with the write deadline.
func TestWriteDeadlineOfShortAnswers(t *testing.T) {
	t.Parallel()
	_, c := servedPair(t)
	for range 2 { // also after one that has passed
		must(t, c.SetDeadline(time.Now().Add(10*time.Millisecond)))
		var err error
		for err == nil {
			_, err = c.Write(make([]byte, 1<<20))
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	client, c := servedPair(t)
	must(t, client.CloseWrite())
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF { //nolint:errorlint // fasthttp compares
		t.Errorf("after the client's end: %d bytes, %v", n, err)
	}
	client, c = servedPair(t)
	must(t, client.SetLinger(0))
	client.Close()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after a reset: %d bytes, %v", n, err)
	}
	c.TCPConn.Close()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %d bytes, %v", n, err)
	}
}

// inMemory says whether a file must be read from disk, for ranges that begin and end anywhere.
func TestInMemory(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	must(t, err)
	defer f.Close()
	size := 40*int(pageSize) + 100
	_, err = f.Write(make([]byte, size))
	must(t, err)
	must(t, f.Sync())
	fd := int(f.Fd())
	if !inMemory(fd, 0, size) {
		t.Skip("SKIPPED: the kernel does not tell what is in memory, or writes past its memory")
	}
	for _, r := range [][2]int{{0, 1}, {1, int(pageSize)}, {4095, 2}, {4096, 4096}, {100, size - 100}, {size - 1, 1}} {
		if !inMemory(fd, int64(r[0]), r[1]) {
			t.Errorf("%v is not in memory", r)
		}
	}
	if inMemory(fd, 0, size+2*int(pageSize)) {
		t.Error("what is beyond the end is in memory")
	}
	must(t, unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED))
	if inMemory(fd, 10*pageSize, 20*int(pageSize)) {
		t.Skip("SKIPPED: the file system is in memory")
	}
}

// A range that the disk is still to fill is not in memory: a call that the scheduler does not
// watch would wait for it, and a collection of garbage for the call.
func TestInMemoryWhileRead(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	must(t, err)
	defer f.Close()
	_, err = f.Write(make([]byte, 8*size))
	must(t, err)
	must(t, f.Sync())
	fd := int(f.Fd())
	for range 5 {
		must(t, unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED))
		if inMemory(fd, 0, size) {
			t.Skip("SKIPPED: the file system is in memory")
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = unix.Pread(fd, make([]byte, size), 0)
		}()
		for ended := false; !ended && !inMemory(fd, 0, size); {
			select {
			case <-done:
				ended = true
			default:
			}
		}
		if _, err := unix.Preadv2(fd, [][]byte{make([]byte, 1)}, size-1, unix.RWF_NOWAIT); errors.Is(err, unix.EAGAIN) {
			t.Error("a range that is still being read is said to be in memory")
		}
		<-done
	}
}

// Files of the disk tier that the kernel has not in memory are read from disk.
func TestDiskHitsFromDisk(t *testing.T) {
	t.Parallel()
	body := bytesOf(1 << 20)
	e := newDiskEnv(t, map[string][]byte{"a.png": body})
	for range 3 {
		f, err := os.Open(e.files()[0])
		must(t, err)
		must(t, f.Sync())
		must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
		must(t, f.Close())
		if _, got, err := e.ask("GET", "a.png", "HTTP/1.1"); err != nil || !bytes.Equal(got, body) {
			t.Fatal(len(got), err)
		}
	}
}
