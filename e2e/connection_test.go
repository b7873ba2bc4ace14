package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestPipeline sends all requests at once and wants the answers in order, each
// with its own body, whatever way the body goes out.
func TestPipeline(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	sizes := map[string]int{"small.png": 100, "middle.png": 60_000, "large.png": 1 << 20, "cold1.png": 700_000, "cold2.png": 10}
	for key, size := range sizes {
		s.put(key, s3.Object{Body: fakePNG(size)})
		if !strings.HasPrefix(key, "cold") {
			wantPicture(t, s.get("/shop/"+key), fakePNG(size))
		}
	}
	requests := []struct {
		method, key, lines string
		status             int
	}{
		{"GET", "small.png", "", 200},
		{"GET", "large.png", "", 200},
		{"GET", "small.png", "", 200},
		{"HEAD", "large.png", "", 200},
		{"GET", "middle.png", "", 200},
		{"GET", "cold1.png", "", 200},
		{"GET", "none.png", "", 404},
		{"HEAD", "none.png", "", 404},
		{"GET", "large.png", "If-None-Match: *\r\n", 304},
		{"GET", "small.png", "", 200},
		{"GET", "..", "", 400},
		{"GET", "cold2.png", "", 200},
		{"GET", "large.png", "If-Match: \"x\"\r\n", 412},
		{"GET", "large.png", "", 200},
		{"GET", "small.png", "Connection: close\r\n", 200},
		{"GET", "small.png", "", 0}, // behind the end of the connection
	}
	for range 3 {
		var text strings.Builder
		for _, q := range requests {
			fmt.Fprintf(&text, "%s /shop/%s HTTP/1.1\r\nHost: x\r\n%s\r\n", q.method, q.key, q.lines)
		}
		w := s.dial().send(text.String())
		for i, q := range requests {
			r := w.answer(q.method)
			if q.status == 0 {
				if r != nil {
					t.Fatalf("an answer behind Connection: close: %s", summary(r))
				}
				continue
			}
			if r == nil || r.StatusCode != q.status || r.err != nil {
				t.Fatalf("request %d, %s %s: got %s, want %d", i, q.method, q.key, summary(r), q.status)
			}
			if q.status == http.StatusOK && q.method == http.MethodGet {
				wantPicture(t, r, fakePNG(sizes[q.key]))
			}
		}
	}
}

// TestPipelineBreaks has the last of several requests sent at once end before its
// first byte. The answers before it were whole, and arrive.
func TestPipelineBreaks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	sizes := []int{100, 100, 3000, 60_000, 20}
	for i, size := range sizes {
		s.put(fmt.Sprintf("%d.png", i), s3.Object{Body: fakePNG(size)})
		wantPicture(t, s.get(fmt.Sprintf("/shop/%d.png", i)), fakePNG(size))
	}
	s.put("broken.png", s3.Object{
		// A header that looks like another answer must not be taken for one.
		Body: fakePNG(1), CacheControl: "x=\"HTTP/1.1 200 OK\"",
	})
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.WrongChecksum() })
	for n := range len(sizes) + 1 {
		for _, line := range []string{"", "Range: bytes=0-0\r\n"} {
			var text strings.Builder
			for i := range n {
				fmt.Fprintf(&text, "GET /shop/%d.png HTTP/1.1\r\nHost: x\r\n\r\n", i)
			}
			w := s.dial().send(text.String() + "GET /shop/broken.png HTTP/1.1\r\nHost: x\r\n" + line + "\r\n")
			for i := range n {
				wantPicture(t, w.answer(http.MethodGet), fakePNG(sizes[i]))
			}
			if rest := w.all(); rest != "" {
				t.Errorf("%d answers are followed by %q", n, rest)
			}
		}
	}
}

// A request may come in pieces, and a second one after an answer.
func TestRequestInPieces(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	body := fakePNG(100)
	s.put("a.png", s3.Object{Body: body})
	w := s.dial()
	for range 3 {
		for _, c := range "\r\nGET /shop/a.png HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n" {
			w.send(string(c))
		}
		wantPicture(t, w.answer(http.MethodGet), body)
	}
	// One that is cut off is none.
	half := s.dial().send("GET /shop/a.png HTTP/1.1\r\nHo")
	half.Close()
	if n := s.calls("a.png"); n != 1 {
		t.Errorf("S3 was asked %d times", n)
	}
}

func TestConnectionReuse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	body := fakePNG(300_000)
	s.put("a.png", s3.Object{Body: body})
	for _, tc := range []struct {
		name, line, more string
		open             bool
	}{
		{"HTTP/1.1", "HTTP/1.1\r\nHost: x", "", true},
		{"HTTP/1.1, close", "HTTP/1.1\r\nHost: x", "Connection: close\r\n", false},
		{"HTTP/1.1, close in a list", "HTTP/1.1\r\nHost: x", "Connection: x, Close\r\n", false},
		{"HTTP/1.0", "HTTP/1.0", "", false},
		{"HTTP/1.0, keep-alive", "HTTP/1.0", "Connection: keep-alive\r\n", true},
		{"HTTP/1.0, Keep-Alive", "HTTP/1.0\r\nHost: x", "Connection: Keep-Alive\r\n", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := s.dial()
			for round := range 3 {
				r := w.send("GET /shop/a.png " + tc.line + "\r\n" + tc.more + "\r\n").answer(http.MethodGet)
				wantPicture(t, r, body)
				if tc.open {
					continue
				}
				if !r.Close {
					t.Errorf("round %d: the end of the connection is not announced", round)
				}
				if rest := w.all(); rest != "" {
					t.Errorf("%d bytes behind the answer", len(rest))
				}
				break
			}
			// HTTP/1.0 gets a length, not chunks.
			if text := s.dial().send("HEAD /shop/a.png " + tc.line + "\r\nConnection: close\r\n\r\n").all(); !strings.Contains(text, "\r\nContent-Length: 300000\r\n") {
				t.Errorf("got %q", text)
			}
		})
	}
}
