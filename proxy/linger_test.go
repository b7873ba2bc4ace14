package proxy

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// pair is a connection with both its ends.
func pair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	s, err := ln.Accept()
	must(t, err)
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// TestLingerers has each of the events that end lingering, with patience that
// does not.
func TestLingerers(t *testing.T) {
	t.Parallel()
	for name, event := range map[string]func(t *testing.T, l *lingerers, client *net.TCPConn){
		"client closes":       func(_ *testing.T, _ *lingerers, c *net.TCPConn) { c.Close() },
		"client has sent":     func(_ *testing.T, _ *lingerers, c *net.TCPConn) { c.CloseWrite() },
		"listener closes":     func(_ *testing.T, l *lingerers, _ *net.TCPConn) { l.end() },
		"all that is allowed": func(t *testing.T, _ *lingerers, c *net.TCPConn) { upload(t, c, lingerBytes-1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &lingerers{patience: time.Hour}
			client, server := pair(t)
			done := make(chan struct{})
			go func() {
				l.linger(server)
				close(done)
			}()
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatalf("the client reads %v, want the end", err)
			}
			upload(t, client, 1<<20)
			select {
			case <-done:
				t.Fatal("it lingered for less than a body of 1 MiB")
			default:
			}
			event(t, l, client)
			<-done
			l.end() // waits for nobody
		})
	}
}

func upload(t *testing.T, c *net.TCPConn, n int) {
	t.Helper()
	if _, err := c.Write(make([]byte, n)); err != nil {
		t.Errorf("write: %v", err)
	}
}

// TestLingerersEnded: nobody begins to linger when the listener is closed, or on
// a connection that is.
func TestLingerersEnded(t *testing.T) {
	t.Parallel()
	l := &lingerers{patience: time.Hour}
	_, closed := pair(t)
	closed.Close()
	l.linger(closed)
	l.end()
	client, server := pair(t)
	l.linger(server)
	if _, err := server.Write([]byte("x")); err != nil {
		t.Errorf("the sending half is closed: %v", err)
	}
	if n, err := client.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
}
