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
	"testing"
	"time"
)

// wire is a connection on which a test writes and reads single bytes.
type wire struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

// dial connects to the public listener.
func (s *env) dial() *wire {
	s.t.Helper()
	return s.dialTo(s.public)
}

func (s *env) dialTo(addr string) *wire {
	s.t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute)) // a hanging test says where it hangs
	return &wire{Conn: conn, t: s.t, in: bufio.NewReader(conn)}
}

func (w *wire) send(text string) *wire {
	w.t.Helper()
	if _, err := io.WriteString(w.Conn, text); err != nil {
		w.t.Fatalf("send: %v", err)
	}
	return w
}

// answer reads the answer to a request of the given method, with its body. It is
// nil when the server has closed the connection instead.
func (w *wire) answer(method string) *response {
	w.t.Helper()
	if _, err := w.in.Peek(1); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.t.Fatal("neither an answer nor an end of the connection")
		}
		return nil
	}
	r, err := readResponse(w.in, method)
	if err != nil {
		w.t.Fatalf("read the answer: %v", err)
	}
	return r
}

// readResponse reads one answer with its body.
func readResponse(in *bufio.Reader, method string) (*response, error) {
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	r := &response{Response: resp}
	r.body, r.err = io.ReadAll(resp.Body)
	return r, nil
}

// all reads until the server closes the connection, and fails if it does not.
func (w *wire) all() string {
	w.t.Helper()
	text, err := io.ReadAll(w.in)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatalf("the connection stays open after %q", text)
	}
	return string(text)
}

// ask sends one GET, byte for byte as given, and reads the answer.
func (s *env) ask(target string, lines ...string) *response {
	s.t.Helper()
	w := s.dial()
	defer w.Close()
	text := "GET " + target + " HTTP/1.1\r\nHost: ixmage.test\r\nConnection: close\r\n"
	for _, line := range lines {
		text += line + "\r\n"
	}
	r := w.send(text + "\r\n").answer(http.MethodGet)
	if r == nil {
		s.t.Fatalf("no answer to %q", target)
	}
	return r
}

// open sends a GET and reads the header of the answer; the body is left to be
// read from resp.Body.
func (w *wire) open(target string, lines ...string) *http.Response {
	w.t.Helper()
	w.send("GET " + target + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(lines, "", ""), "\r\n"))
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.t.Fatalf("read the header: %v", err)
	}
	return resp
}

// wantFront reads the first n bytes of a body.
func wantFront(t *testing.T, resp *http.Response, body []byte, n int) {
	t.Helper()
	got := make([]byte, n)
	if k, err := io.ReadFull(resp.Body, got); err != nil || !bytes.Equal(got, body[:n]) {
		t.Fatalf("got %d bytes of the first %d, error %v", k, n, err)
	}
}

func wantRest(t *testing.T, resp *http.Response, body []byte, from int) {
	t.Helper()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, body[from:]) {
		t.Fatalf("got %d bytes behind the first %d, error %v; want %d", len(got), from, err, len(body)-from)
	}
}

// single sends one request on a new connection and reads until the server closes
// it. err is the error of reading the body. Response is nil if there is no answer.
func single(addr, method, path string, lines ...string) *response {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return &response{err: err}
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute)) // a hanging test says where it hangs
	lines = append(lines, "Host: "+addr, "Connection: close")
	if _, err := io.WriteString(conn, method+" "+path+" HTTP/1.1\r\n"+strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		return &response{err: err}
	}
	return readAnswer(conn, method)
}

// readAnswer reads one answer and the end of the connection after it.
func readAnswer(conn io.Reader, method string) *response {
	in := bufio.NewReader(conn)
	r, err := readResponse(in, method)
	if err != nil {
		return &response{err: err}
	}
	if r.err != nil {
		return r
	}
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
		r.err = fmt.Errorf("%d bytes after the answer, %w", len(rest), err)
	}
	return r
}

// sendGet sends a GET on a new connection and does not wait for the answer.
func sendGet(t testing.TB, addr, path string) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return c
}

// askOn sends a GET on a connection that stays open, and reads the answer. The client
// of net/http would cost more than the server under test.
func askOn(conn io.Writer, in *bufio.Reader, path string) (*response, error) {
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: ixmage.test\r\n\r\n"); err != nil {
		return nil, err
	}
	return readResponse(in, http.MethodGet)
}

// follower is a client that reads one answer in pieces.
type follower struct {
	net.Conn
	in   *bufio.Reader
	resp *http.Response
}

func (f *faultEnv) follow(t *testing.T, path string) *follower {
	t.Helper()
	f.sent.Add(1)
	conn := sendGet(t, f.public, path)
	return &follower{Conn: conn, in: bufio.NewReader(conn)}
}

// begin reads the header and the first n bytes of the body.
func (c *follower) begin(t *testing.T, n int) []byte {
	t.Helper()
	c.SetDeadline(time.Now().Add(2 * time.Minute)) // a hanging test says where it hangs
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.resp = resp
	got := make([]byte, n)
	if _, err := io.ReadFull(resp.Body, got); err != nil {
		t.Fatal(err)
	}
	return got
}

// finish reads the rest of the body.
func (c *follower) finish(t *testing.T) []byte {
	t.Helper()
	rest, err := io.ReadAll(c.resp.Body)
	if err != nil {
		t.Errorf("after %d bytes: %v", len(rest), err)
	}
	return rest
}

// leave resets the connection, so that the server sees it with the next write.
func (c *follower) leave() {
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.Close()
}
