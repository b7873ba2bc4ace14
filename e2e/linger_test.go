package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// TestRefusalArrives: a client that writes its whole body before it reads gets
// the answer and an orderly end, not a reset.
func TestRefusalArrives(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	auth := "Authorization: Bearer " + s.token + "\r\nContent-Type: application/json\r\n"
	for _, tc := range []struct {
		name, addr, method, target, lines string
		chunked                           bool
		status                            int
	}{
		{"body", s.public, "GET", "/shop/a.png", "", false, 413},
		{"body in chunks", s.public, "GET", "/shop/a.png", "", true, 413},
		{"another coding", s.public, "GET", "/shop/a.png", "Transfer-Encoding: gzip\r\n", true, 413},
		{"method", s.public, "POST", "/shop/a.png", "", false, 405},
		{"does not wait to be told", s.public, "PUT", "/shop/a.png", "Expect: 100-continue\r\n", false, 405},
		{"framing", s.public, "GET", "/shop/a.png", "X: y\r\n z\r\n", false, 400},
		{"no HTTP", s.public, "G@T", "/shop/a.png", "", false, 400},
		{"admin", s.admin, "POST", "/api/v1/aliases", auth, false, 413},
		{"admin in chunks", s.admin, "POST", "/api/v1/aliases", auth, true, 413},
		{"admin without a token", s.admin, "POST", "/api/v1/aliases", "", false, 413},
	} {
		for _, size := range []int{64<<10 + 1, 1 << 20, 3 << 20} {
			t.Run(fmt.Sprint(tc.name, " ", size), func(t *testing.T) {
				t.Parallel()
				head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\n%s", tc.method, tc.target, tc.lines)
				body := bytes.Repeat([]byte{'x'}, size)
				if tc.chunked {
					if !strings.Contains(head, "Transfer-Encoding") {
						head += "Transfer-Encoding: chunked\r\n"
					}
					body = fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", size, body)
				} else {
					head += fmt.Sprintf("Content-Length: %d\r\n", size)
				}
				w := s.dialTo(tc.addr)
				w.t = t
				w.send(head + "\r\n").send(string(body)) // fails at a reset
				r := w.answer(tc.method)
				if r == nil || r.StatusCode != tc.status || r.err != nil || !r.Close {
					t.Fatalf("got %s, want %d and the end of the connection", summary(r), tc.status)
				}
				if rest, err := io.ReadAll(w.in); err != nil || len(rest) > 0 {
					t.Errorf("%d bytes and %v behind the answer, want an orderly end", len(rest), err)
				}
			})
		}
	}
}

// TestLingerIsBounded: who goes on sending is cut, be it much or little by
// little.
func TestLingerIsBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, addr := range map[string]string{"public": s.public, "admin": s.admin} {
		for _, size := range []int{64 << 10, 1} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				t.Parallel()
				w := s.dialTo(addr).send("POST /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
				piece := bytes.Repeat([]byte{'x'}, size)
				eventually(t, "the connection is reset", func() bool {
					_, err := w.Write(piece)
					return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
				})
			})
		}
	}
	if r := s.get("/-/readyz"); r.StatusCode != http.StatusOK {
		t.Errorf("the server is %s", r.Status)
	}
}

// TestLingerEndsWithTheServer: who has not closed after a refusal does not keep
// the server from ending, with status 0.
func TestLingerEndsWithTheServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, addr := range []string{s.public, s.admin} {
		w := s.dialTo(addr).send("POST /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
		if r := w.answer(http.MethodPost); r == nil {
			t.Fatal("no answer")
		}
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit status is %d", code)
	}
	if strings.Contains(s.output(), "still under way") {
		t.Errorf("it waited:\n%s", s.output())
	}
}
