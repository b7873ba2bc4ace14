package e2e

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestStreaming: bytes reach the client while S3 delays the rest, and clients that join
// meanwhile get them from the first byte.
func TestStreaming(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(1<<20, "")
	s.put("a.png", s3.Object{Body: body})
	release := make(chan struct{})
	s.s3.Next("media", "web/a.png", s3.StallAfter(500_000, release))
	first := s.dial().open("/shop/a.png")
	wantFront(t, first, body, 400_000)
	second := s.dial().open("/shop/a.png")
	wantFront(t, second, body, 400_000)
	part := s.dial().open("/shop/a.png", "Range: bytes=1000-1999")
	wantFront(t, part, body[1000:], 999)
	if n := s.metric("ixmage_http_requests_in_flight"); n < 3 {
		t.Errorf("%v requests in flight, want 3", n)
	}
	close(release)
	wantRest(t, first, body, 400_000)
	wantRest(t, second, body, 400_000)
	wantRest(t, part, body[:2000], 1999)
	for name, tc := range map[string]struct {
		resp   *http.Response
		status int
		cache  string
	}{
		"first":  {first, 200, "ixmage; fwd=uri-miss; fwd-status=200; stored"},
		"second": {second, 200, "ixmage; fwd=uri-miss; collapsed"},
		"part":   {part, 206, "ixmage; fwd=uri-miss; collapsed"},
	} {
		if got := tc.resp.Header.Get("Cache-Status"); got != tc.cache || tc.resp.StatusCode != tc.status {
			t.Errorf("%s: got %s and the Cache-Status %q", name, tc.resp.Status, got)
		}
	}
	if n := s.calls("a.png"); n != 1 {
		t.Errorf("S3 was asked %d times", n)
	}
	wantPicture(t, s.get("/shop/a.png"), body)
}

// TestLastByteIsWithheld: the last byte, of an object or of a range, is sent only when
// the object is complete and its checksum right.
func TestLastByteIsWithheld(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	for _, size := range []int{100, 4096, perRequest} { // of a larger one, a range is fetched by itself
		for name, fault := range map[string]func(*s3.Request) *s3.Fault{
			"checksum": func(*s3.Request) *s3.Fault { return s3.WrongChecksum() },
			"short": func(r *s3.Request) *s3.Fault {
				if r.Header.Get("Range") != "" { // the attempt to go on
					return s3.CloseAfter(0)
				}
				return s3.CloseAfter(int64(size - 1))
			},
		} {
			key := strconv.Itoa(size) + name
			s.put(key, s3.Object{Body: png(size, "")})
			s.s3.Hook(fault)
			for _, line := range []string{"X: y", "Range: bytes=0-", "Range: bytes=10-49"} {
				r := s.dial().send("GET /shop/" + key + " HTTP/1.1\r\nHost: x\r\n" + line + "\r\n\r\n").answer(http.MethodGet)
				if r != nil && r.StatusCode < 300 && r.err == nil {
					t.Errorf("%s, %s: a broken body came as complete: %s", key, line, r.Status)
				}
			}
			if n := s.metric(`ixmage_cache_entries{tier="memory"}`); n != 0 {
				t.Fatalf("%s: %v entries", key, n)
			}
		}
	}
}

// TestUnknownLength: a chunked answer of S3 is sent in chunks while it arrives, whatever the
// range, and is stored.
func TestUnknownLength(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	for _, size := range []int{1, 100, 4096, 1 << 20} {
		body := png(size, "")
		key := strconv.Itoa(size) + ".png"
		s.put(key, s3.Object{Body: body})
		s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Chunked() })
		for round := 1; round <= 2; round++ {
			w := s.dial()
			r := w.send("GET /shop/" + key + " HTTP/1.1\r\nHost: x\r\nRange: bytes=0-0\r\n\r\n").answer(http.MethodGet)
			want, status := span{200, 0, 0}, "ixmage; fwd=uri-miss; fwd-status=200; stored"
			if round > 1 {
				want, status = span{206, 0, 0}, "ixmage; hit; ttl="
			}
			wantRange(t, r, body, want)
			if round == 1 && (r.ContentLength != -1 || len(r.TransferEncoding) != 1 || r.Header.Get("Content-Length") != "") {
				t.Errorf("%s: length %d, Transfer-Encoding %q", key, r.ContentLength, r.TransferEncoding)
			}
			if got := r.Header.Get("Cache-Status"); !strings.HasPrefix(got, status) {
				t.Errorf("%s: Cache-Status is %q, want %q", key, got, status)
			}
			// The connection serves another request after the last chunk.
			if r := w.send("GET /-/healthz HTTP/1.1\r\nHost: x\r\n\r\n").answer(http.MethodGet); r == nil || r.StatusCode != http.StatusOK {
				t.Errorf("%s: then %s", key, summary(r))
			}
		}
		old := s.dial().send("GET /shop/" + key + " HTTP/1.0\r\n\r\n").answer(http.MethodGet)
		wantPicture(t, old, body)
	}
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.ChunkedCut(300_000) })
	s.adminCall(http.MethodPost, "/api/v1/purge", map[string]any{"alias": "shop", "hard": true}, http.StatusOK)
	text := s.dial().send("GET /shop/1048576.png HTTP/1.1\r\nHost: x\r\n\r\n").all()
	if strings.HasPrefix(text, "HTTP/1.1 200 ") && strings.HasSuffix(text, "0\r\n\r\n") {
		t.Error("a body that was cut has a last chunk")
	}
}
