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
	"testing"
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
