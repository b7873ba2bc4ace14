package admin

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusalArrives: a client that writes a body that is too large before it
// reads gets the answer and an orderly end, in the clear and over TLS. One that
// then stays does not keep Shutdown, which the harness calls, from ending.
func TestRefusalArrives(t *testing.T) {
	t.Parallel()
	certified := httptest.NewTLSServer(nil) // for its certificate
	config := &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12}
	trusts := certified.Client().Transport.(*http.Transport).TLSClientConfig
	certified.Close()
	for _, tc := range []struct {
		name   string
		listen func(net.Listener) net.Listener
		dial   func(addr string) (net.Conn, error)
	}{
		{"in the clear", func(ln net.Listener) net.Listener { return ln }, func(addr string) (net.Conn, error) {
			return net.Dial("tcp", addr)
		}},
		{"over TLS", func(ln net.Listener) net.Listener { return tls.NewListener(ln, config) }, func(addr string) (net.Conn, error) {
			return tls.Dial("tcp", addr, trusts)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			logs := &logBuffer{}
			s := NewOps(OpsConfig{Log: slog.New(slog.NewJSONHandler(logs, nil))})
			s.lingerTime = time.Hour
			plain, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var conn net.Conn
			t.Cleanup(func() { // runs after the harness's Shutdown
				if conn != nil {
					conn.Close()
				}
			})
			a := serveOn(t, s, logs, tc.listen(plain))
			if conn, err = tc.dial(a.addr); err != nil {
				t.Fatal(err)
			}
			const size = 3 << 20
			request := fmt.Sprintf("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", size)
			for _, part := range [][]byte{[]byte(request), make([]byte, size)} {
				if _, err := conn.Write(part); err != nil {
					t.Fatalf("write: %v", err)
				}
			}
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodPost})
			if err != nil {
				t.Fatal(err)
			}
			if r := a.read(resp).want(413, "body"); !r.close {
				t.Error("the end of the connection is not announced")
			}
			if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("behind the answer: %v, want the end", err)
			}
		})
	}
}

func TestMalformedRequest(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const auth = "Authorization: Bearer " + testToken + "\r\n"
	for _, c := range []struct {
		name, request string
		status        int
		code          string
	}{
		{"no version", "GET /-/healthz\r\n\r\n", 400, "bad-request"},
		{"words", testToken + "\r\n\r\n", 400, "bad-request"},
		{"no host", "GET /-/healthz HTTP/1.1\r\n" + auth + "\r\n", 400, "bad-request"},
		{"two hosts", "GET /-/healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n" + auth + "\r\n", 400, "bad-request"},
		{"space in a header name", "GET /-/healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization : " + testToken + "\r\n\r\n", 400, "bad-request"},
		{"two lengths", "POST /api/v1/aliases HTTP/1.1\r\nHost: localhost\r\n" + auth + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400, "bad-request"},
		{"bad length", "POST /api/v1/aliases HTTP/1.1\r\nHost: localhost\r\n" + auth + "Content-Length: x\r\n\r\n{}", 400, "bad-request"},
		{"bad chunk", "POST /api/v1/aliases HTTP/1.1\r\nHost: localhost\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "bad-request"},
		{"long header", "GET /-/healthz HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", headerLimit) + "\r\n\r\n", 431, "headers"},
		{"long path", "GET /" + strings.Repeat("x", headerLimit) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 431, "headers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := a.raw(c.request).want(c.status, c.code)
			if !r.close {
				t.Error("the connection stays open after a request that could not be read")
			}
		})
	}
}

// TestFraming sends requests whose end another server might see elsewhere: they are
// refused, or nothing behind them on the connection is taken for a request.
func TestFraming(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const auth = "Host: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer " + testToken + "\r\n"
	const chunks = "2\r\n{}\r\n0\r\n\r\n"
	for _, c := range []struct {
		name, version, lines, body string
		status                     int
		code                       string
		closes                     bool
	}{
		{"length", "1.1", "Content-Length: 2\r\n", "{}", 400, "invalid", false},
		{"length twice", "1.1", "Content-Length: 2\r\nContent-Length: 2\r\n", "{}", 400, "invalid", false}, // RFC 9110, 8.6
		{"two lengths", "1.1", "Content-Length: 2\r\nContent-Length: 3\r\n", "{}", 400, "bad-request", true},
		{"list of lengths", "1.1", "Content-Length: 2, 2\r\n", "{}", 400, "bad-request", true},
		{"sign", "1.1", "Content-Length: +2\r\n", "{}", 400, "bad-request", true},
		{"chunks", "1.1", "Transfer-Encoding: chunked\r\n", chunks, 400, "invalid", true},
		{"length and chunks", "1.1", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", chunks, 400, "invalid", true},
		{"chunks and length", "1.1", "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", chunks, 400, "invalid", true},
		{"chunked twice", "1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks, 400, "bad-request", true},
		{"two codings", "1.1", "Transfer-Encoding: gzip, chunked\r\n", chunks, 400, "bad-request", true},
		{"unknown coding", "1.1", "Transfer-Encoding: xchunked\r\n", chunks, 400, "bad-request", true},
		{"chunks in HTTP/1.0", "1.0", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", chunks, 400, "bad-request", true},
		{"length in HTTP/1.0", "1.0", "Connection: keep-alive\r\nContent-Length: 2\r\n", "{}", 400, "invalid", true},
		{"HTTP/2", "2.0", "Content-Length: 2\r\n", "{}", 505, "http-version", true},
		{"line feed in a chunk extension", "1.1", "Transfer-Encoding: chunked\r\n", "2;a\nb\r\n{}\r\n0\r\n\r\n", 400, "bad-request", true},
		{"continue", "1.1", "Expect: x\r\nContent-Length: 2\r\n", "{}", 417, "expect", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := a.raw("POST /api/v1/aliases HTTP/"+c.version+"\r\n"+auth+c.lines+"\r\n"+c.body).want(c.status, c.code)
			if r.close != c.closes {
				t.Errorf("the connection is closed: %v, want %v", r.close, c.closes)
			}
		})
	}
}

func TestSlowRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logs := &logBuffer{}
		a := serveInBubble(t, NewOps(OpsConfig{Log: slog.New(slog.NewJSONHandler(logs, nil))}), logs)
		for _, text := range []string{
			"POST /-/healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab", "GET /-/healthz HTTP/1.1\r\nHost: loc", "GET /-/hea",
		} {
			begin := time.Now()
			a.raw(text).want(408, "timeout")
			if took := time.Since(begin); took != readTimeout {
				t.Errorf("%q: refused after %s, want %s", text, took, readTimeout)
			}
		}
	})
}

// TestShutdownClosesIdle: a connection on which nothing was sent, or nothing since
// the last answer, ends with the server.
func TestShutdownClosesIdle(t *testing.T) {
	t.Parallel()
	s := NewOps(OpsConfig{Log: slog.New(slog.DiscardHandler)})
	s.http.ReadTimeout, s.http.IdleTimeout = time.Hour, time.Hour
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	_, silent := dial(t, ln.Addr().String())
	conn, idle := dial(t, ln.Addr().String())
	fmt.Fprint(conn, "GET /-/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	wantOK(t, idle)
	s.startClose() // net/http would wait for the silent one
	if _, err := silent.ReadByte(); err == nil {
		t.Error("the silent connection stays open")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := idle.ReadByte(); err == nil {
		t.Error("the idle connection stays open")
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// failing is a listener whose first Accepts fail.
type failing struct {
	net.Listener
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	return f.Listener.Accept()
}

func TestServeSurvivesShortage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		errs     []error
		survives bool
	}{
		{"shortage", []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR}, true},
		{"broken listener", []error{syscall.EINVAL}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := NewOps(OpsConfig{Log: slog.New(slog.DiscardHandler)})
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- s.Serve(&failing{ln, c.errs}) }()
			if !c.survives {
				if err := <-served; !errors.Is(err, syscall.EINVAL) {
					t.Errorf("Serve: got %v, want EINVAL", err)
				}
				return
			}
			conn, r := dial(t, ln.Addr().String())
			fmt.Fprint(conn, "GET /-/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			wantOK(t, r)
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}
