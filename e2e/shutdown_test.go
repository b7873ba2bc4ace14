package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// TestTermUnderLoad ends the process while clients hammer it: every request that
// had been sent by then is answered, whole.
func TestTermUnderLoad(t *testing.T) { //nolint:paralleltest // it measures, or fills the machine
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("term", "")
	body := pic(64<<10, "term")
	fakeS3.Put("term", "hot.png", s3.Object{Body: body, ContentType: "image/png"})
	release := make(chan struct{})
	const slow = 32
	for i := range slow {
		key := fmt.Sprintf("slow%d.png", i)
		fakeS3.Put("term", key, s3.Object{Body: body, ContentType: "image/png"})
		fakeS3.Next("term", key, &s3.Fault{Stall: &s3.Stall{After: 1000, Release: release}})
	}
	s := start(t)
	s.createOn("shop", fakeS3.URL, "term")

	var signalled atomic.Bool
	var wg sync.WaitGroup
	var served atomic.Int64
	warm := make(chan struct{}, 32)
	for range cap(warm) {
		wg.Go(func() {
			n, err := (&hammer{addr: s.public, path: "/shop/hot.png", body: body, signalled: &signalled, warm: warm}).run()
			served.Add(int64(n))
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range cap(warm) {
		<-warm
	}
	for i := range slow {
		conn := ask(t, s.public, fmt.Sprintf("/shop/slow%d.png", i))
		wg.Go(func() {
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Errorf("a request under way got %v", err)
				return
			}
			if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
				t.Errorf("a request under way got %d bytes, error %v", len(got), err)
			}
		})
	}
	eventually(t, "the slow requests are at S3", func() bool { return fakeS3.InFlight() == slow })
	signalled.Store(true)
	s.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "readiness is off", func() bool {
		return s.do(http.MethodGet, "http://"+s.admin+"/-/readyz", nil).StatusCode == http.StatusServiceUnavailable
	})
	close(release)
	wg.Wait()
	<-s.exited
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status is %d", code)
	}
	t.Logf("%d requests served, none of those sent before the signal failed", served.Load())
}

// hammer is a client that never rests.
type hammer struct {
	addr, path string
	body       []byte
	signalled  *atomic.Bool
	warm       chan<- struct{}

	conn net.Conn
	br   *bufio.Reader
}

// run sends requests until the server is gone, on one connection for as long
// as it is kept. A request sent before the signal must succeed. It is done by
// hand because net/http sends a GET again when its connection breaks, which would
// hide just what is looked for.
func (h *hammer) run() (int, error) {
	for n := 0; ; n++ {
		if !h.connect() {
			return n, nil // the listener has closed
		}
		before := !h.signalled.Load()
		closes, err := exchangeOn(h.conn, h.br, h.path, h.body)
		if closes || err != nil {
			h.conn.Close()
			h.conn = nil
		}
		if err != nil && before {
			return n, fmt.Errorf("request %d, sent before the signal: %w", n, err)
		}
		if err != nil {
			return n, nil //nolint:nilerr // after the signal a request may fail
		}
		if n == 0 {
			h.warm <- struct{}{}
		}
	}
}

func (h *hammer) connect() bool {
	if h.conn == nil {
		var err error
		if h.conn, err = net.Dial("tcp", h.addr); err != nil {
			return false
		}
		h.br = bufio.NewReader(h.conn)
	}
	return true
}

// exchangeOn sends one request and checks its answer, and reports whether the
// server closes the connection then.
func exchangeOn(conn net.Conn, br *bufio.Reader, path string, want []byte) (closes bool, err error) {
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return false, err
	}
	got, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Equal(got, want)) {
		err = fmt.Errorf("%d wrong bytes, status %s", len(got), resp.Status)
	}
	return resp.Close, err
}

// TestOutOfFiles gives the program few file descriptors and many clients. It
// refuses what it cannot take, and is well again when they have gone.
func TestOutOfFiles(t *testing.T) { //nolint:paralleltest // it measures, or fills the machine
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("files", "")
	body := pic(4<<10, "files")
	fakeS3.Put("files", "a.png", s3.Object{Body: body, ContentType: "image/png"})
	s := startLimited(t, 64)
	s.createOn("shop", fakeS3.URL, "files")
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Fatal(r.Status)
	}
	var conns []net.Conn
	for range 300 {
		c, err := net.DialTimeout("tcp", s.public, 2*time.Second)
		if err != nil {
			continue // refused already
		}
		conns = append(conns, c)
	}
	eventually(t, "the shortage is noticed", func() bool {
		return strings.Contains(s.output(), "out of file descriptors")
	})
	refused := 0
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			refused++
		}
		c.Close()
	}
	if refused == 0 {
		t.Error("no connection was refused")
	}
	eventually(t, "it serves again", func() bool {
		conn, err := net.DialTimeout("tcp", s.public, time.Second)
		if err != nil {
			return false
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		_, err = exchangeOn(conn, bufio.NewReader(conn), "/shop/a.png", body)
		return err == nil
	})
	if code := s.stop(); code != 0 {
		t.Errorf("exit status is %d", code)
	}
}
