package proxy

import (
	"bufio"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"
)

// TestDropBuffers: a connection keeps the memory of a header that browsers send, and not
// that of a large one.
func TestDropBuffers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, header string
		kept         bool
	}{
		{"ordinary", "Cookie: " + strings.Repeat("c", 1500) + "\r\n", true},
		{"one long line", "Cookie: " + strings.Repeat("c", 15_000) + "\r\n", false},
		{"many lines", strings.Repeat("a:\r\n", 100), false},
		{"a long target", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			target := "/shop/a.png"
			if tc.name == "a long target" {
				target += "?" + strings.Repeat("q", 4000)
			}
			var r fasthttp.Request
			if err := r.Read(bufio.NewReaderSize(strings.NewReader("GET "+target+" HTTP/1.1\r\nHost: x\r\n"+tc.header+"\r\n"), ReadBufferSize)); err != nil {
				t.Fatal(err)
			}
			r.URI()
			dropBuffers(&r, false)
			if kept := cap(r.Header.RawHeaders()) > 0 && cap(r.Header.RequestURI()) > 0; kept != tc.kept {
				t.Errorf("kept is %v", kept)
			}
			r.Reset()
			if tc.kept {
				dropBuffers(&r, true)
				if cap(r.Header.RawHeaders()) > 0 {
					t.Error("the header of an unreadable request was kept")
				}
			}
		})
	}
}

// TestSocketPages: objects count once, as long as a connection may hold pages of them, up to
// the limit.
func TestSocketPages(t *testing.T) {
	t.Parallel()
	var s socketPages
	a, b, c := &object{size: socketPagesMax / 2}, &object{size: socketPagesMax / 2}, &object{size: 1}
	for i, step := range []struct {
		give bool
		obj  *object
		ok   bool
	}{
		{obj: a, ok: true}, {obj: a, ok: true}, {obj: b, ok: true}, {obj: c, ok: false}, {obj: b, ok: true},
		{give: true, obj: a}, {obj: c, ok: false}, {give: true, obj: a}, {obj: c, ok: true}, {obj: a, ok: false},
		{give: true, obj: b}, {give: true, obj: b}, {give: true, obj: c}, {obj: &object{size: -1}, ok: false},
	} {
		if step.give {
			s.give(step.obj)
		} else if got := s.take(step.obj); got != step.ok {
			t.Errorf("step %d: %v", i, got)
		}
	}
	if n := s.bytes.Load(); n != 0 {
		t.Errorf("%d bytes count at the end", n)
	}
}

// TestSocketPagesOfEndedConnections: the pages of an object count for pinTime after the server
// ended its last connection, and cost one pin and one timer however many connections ended.
func TestSocketPagesOfEndedConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clients, obj := NewClients(ClientConfig{}), &object{size: 1000}
		end := func(n int) {
			for range n {
				o := &openConn{clients: clients}
				if !o.pin(obj) {
					t.Fatal("no pin")
				}
				o.unpinLater()
			}
		}
		wait := func(d time.Duration, pins, bytes int64) {
			t.Helper()
			time.Sleep(d) //nolint:forbidigo // in a bubble
			synctest.Wait()
			if p, b := obj.inSockets.Load(), clients.pages.bytes.Load(); p != pins || b != bytes {
				t.Fatalf("%d pins and %d bytes, want %d and %d", p, b, pins, bytes)
			}
		}
		for range 2 {
			end(1000)
			wait(0, 1, 1000)
			wait(pinTime/2, 1, 1000)
			end(10)
			wait(pinTime*3/4, 1, 1000)
			wait(pinTime/4, 0, 0)
		}
	})
}
