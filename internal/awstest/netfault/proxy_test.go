package netfault_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/s3"
)

// behind is a proxy before a scripted S3 with one object, and a plain client
// with connections of its own.
func behind(t *testing.T) (*netfault.Proxy, *s3.Server, *http.Client) {
	t.Helper()
	s := s3.New(t)
	s.Put("media", "a", s3.Object{Body: make([]byte, objectSize)})
	p := netfault.New(t, strings.TrimPrefix(s.URL, "http://"))
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return p, s, &http.Client{Transport: transport}
}

// read fetches the object through the proxy.
func read(ctx context.Context, client *http.Client, p *netfault.Proxy) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/media/a", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	return int(n), err
}

func TestModes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		mode netfault.Mode
		err  error // nil: the whole body comes
	}{
		{"pass", netfault.Pass(), nil},
		{"refuse", netfault.Refuse(), syscall.ECONNREFUSED},
		{"delay", netfault.DelayFirstByte(time.Millisecond), nil},
		{"limit", netfault.Limit(10 << 20), nil},
		{"close at once", netfault.CutFIN(0), io.EOF},
		{"reset at once", netfault.CutRST(0), syscall.ECONNRESET},
		{"close in the body", netfault.CutFIN(50_000), io.ErrUnexpectedEOF},
		{"reset in the body", netfault.CutRST(50_000), syscall.ECONNRESET},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, s, client := behind(t)
			must(t, p.Set(tt.mode))
			n, err := read(t.Context(), client, p)
			if !errors.Is(err, tt.err) || (tt.err == nil) != (n == objectSize) {
				t.Errorf("got %d bytes, %v, want %v", n, err, tt.err)
			}
			must(t, p.Set(netfault.Pass()))
			if n, err := read(t.Context(), client, p); err != nil || n != objectSize {
				t.Errorf("passing again: got %d bytes, %v", n, err)
			}
			client.CloseIdleConnections()
			must(t, s.Wait(t.Context(), func() bool { return s.Conns() == 0 }))
		})
	}
}

func TestHang(t *testing.T) {
	t.Parallel()
	p, s, client := behind(t)
	if _, err := read(t.Context(), client, p); err != nil {
		t.Fatal(err)
	}
	must(t, p.Set(netfault.Hang()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for range 2 { // one on the open connection, one on a new one
		go func() {
			_, err := read(ctx, client, p)
			done <- err
		}()
	}
	eventually(t, func() bool { return p.Accepted() >= 2 }) // 3 if the client was too busy to keep the open one
	select {
	case err := <-done:
		t.Errorf("an answer came: %v", err)
	default:
	}
	cancel()
	for range 2 {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	}
	eventually(t, func() bool {
		client.CloseIdleConnections() // a connection whose request was canceled first is idle
		return p.Conns() == 0
	})
	if got := s.Total(); got != 1 {
		t.Errorf("%d requests went through, want 1", got)
	}
	must(t, p.Set(netfault.Pass()))
	if n, err := read(t.Context(), client, p); err != nil || n != objectSize {
		t.Errorf("passing again: got %d bytes, %v", n, err)
	}
}

// TestRefuseMidBody takes the server away while a body is under way,
// held back by the proxy.
func TestRefuseMidBody(t *testing.T) {
	t.Parallel()
	p, _, client := behind(t)
	must(t, p.Set(netfault.Limit(1000))) // minutes
	resp, err := client.Get(p.URL + "/media/a")
	must(t, err)
	defer resp.Body.Close()
	must(t, p.Set(netfault.Refuse()))
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the body ended well")
	}
	eventually(t, func() bool { return p.Conns() == 0 })
}

// TestKeepsPort: while connections are refused no other process can take
// the port.
func TestKeepsPort(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a way to hold a port without listening")
	}
	p, _, client := behind(t)
	for range 3 {
		must(t, p.Set(netfault.Refuse()))
		if ln, err := net.Listen("tcp4", p.Addr); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("another listener on the port: %v, want %v", err, syscall.EADDRINUSE)
			if err == nil {
				ln.Close()
			}
		}
		if _, err := read(t.Context(), client, p); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want %v", err, syscall.ECONNREFUSED)
		}
		must(t, p.Set(netfault.Pass()))
		if n, err := read(t.Context(), client, p); err != nil || n != objectSize {
			t.Errorf("passing again: got %d bytes, %v", n, err)
		}
	}
}

func TestNoTarget(t *testing.T) {
	t.Parallel()
	p := netfault.New(t, netfault.Refused(t))
	if resp, err := http.Get(p.URL); err == nil {
		resp.Body.Close()
		t.Error("an answer came from nowhere")
	}
	p.Close()
	p.Close() // again: nothing happens
	if err := p.Set(netfault.Pass()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Set after Close: got %v, want %v", err, net.ErrClosed)
	}
}

// eventually polls a condition without an event. The time limit of the test
// command ends it.
func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("time is up")
		}
	}
}
