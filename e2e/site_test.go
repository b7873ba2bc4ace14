package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// site is a running ixmage in front of a scripted S3 of its own, with the alias
// shop on the folder web/ of the bucket media.
type site struct {
	*server
	s3 *s3.Server
}

func newSite(t testing.TB, args ...string) *site {
	t.Helper()
	return newSiteOn(t, start(t, args...))
}

func newSiteOn(t testing.TB, server *server) *site {
	t.Helper()
	s := &site{server: server, s3: s3.New(t)}
	s.s3.CreateBucket("media", "")
	s.open("shop", "media", "web/", nil)
	return s
}

// open registers an alias on the scripted S3.
func (s *site) open(name, bucket, prefix string, more map[string]any) {
	s.t.Helper()
	fields := map[string]any{
		"name": name, "bucket": bucket, "prefix": prefix, "endpoint": s.s3.URL, "path_style": true,
		"credential": map[string]string{"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "not-a-real-secret-key-" + name},
	}
	maps.Copy(fields, more)
	s.create(fields)
}

// put stores a picture under web/ of media.
func (s *site) put(key string, obj s3.Object) {
	if obj.ContentType == "" {
		obj.ContentType = "image/png"
	}
	s.s3.Put("media", "web/"+key, obj)
}

// patch changes an alias.
func (s *site) patch(name, body string) {
	s.t.Helper()
	if r := s.api(http.MethodPatch, "/api/v1/aliases/"+name, body); r.StatusCode != http.StatusOK {
		s.t.Fatalf("patch: %s: %s", r.Status, r.body)
	}
}

// calls is how often S3 was asked for web/key of media.
func (s *site) calls(key string) int { return s.s3.Count("media", "web/"+key) }

// fakePNG is n bytes of which no two stretches of eight are alike, and which
// begin as a PNG does.
func fakePNG(n int) []byte {
	b := []byte("\x89PNG\r\n\x1a\n")
	for i := 0; len(b) < n; i++ {
		b = append(b, byte(i>>24), byte(i>>16), byte(i>>8), byte(i), 0xfe, 'i', 'x', '.')
	}
	return b[:n]
}

// wire is a connection on which a test writes and reads what it likes.
type wire struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

func (s *site) dial() *wire {
	s.t.Helper()
	return s.dialTo(s.public)
}

func (s *site) dialTo(addr string) *wire {
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
	resp, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("read the answer: %v", err)
	}
	r := &response{Response: resp}
	r.body, r.err = io.ReadAll(resp.Body)
	return r
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
func (s *site) ask(target string, lines ...string) *response {
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

// wantPicture checks that an answer is a complete picture.
func wantPicture(t testing.TB, r *response, body []byte) {
	t.Helper()
	if r == nil || r.StatusCode != http.StatusOK || r.err != nil || !bytes.Equal(r.body, body) {
		t.Fatalf("got %s; want 200 and %d bytes of picture", summary(r), len(body))
	}
}

// wantProblem checks that an answer is a problem with a status and a code.
func wantProblem(t testing.TB, r *response, status int, code string) {
	t.Helper()
	if r == nil || r.StatusCode != status || r.Header.Get("Content-Type") != "application/problem+json" ||
		!strings.Contains(string(r.body), `"type":"https://ixmage.dev/problems/`+code+`"`) {
		t.Fatalf("got %s; want %d and the problem %s", summary(r), status, code)
	}
}

func summary(r *response) string {
	if r == nil {
		return "a closed connection"
	}
	return r.Status + ", error " + errText(r.err) + ", body " + strings.TrimSpace(string(r.body[:min(len(r.body), 200)]))
}

func errText(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}
