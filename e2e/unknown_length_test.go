package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ixmage/internal/awstest/s3"
)

// without lists the ways in which S3 sends an object without its length.
var without = map[string]*s3.Fault{"chunks": s3.Chunked(), "until close": s3.UntilClose()}

// TestUnknownLengthIsShared: fifty clients of a cold object without a length cost one
// GetObject. Then it is a hit, with its length, ranges and conditions.
func TestUnknownLengthIsShared(t *testing.T) {
	t.Parallel()
	for name, fault := range without {
		for _, size := range []int{1, 4096, 100_000, 3 << 20} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, size), func(t *testing.T) {
				t.Parallel()
				s := newEnv(t)
				body, release := png(size, ""), make(chan struct{})
				s.put("a.png", s3.Object{Body: body, ETag: etagOf(body)})
				s.s3.Hook(func(*s3.Request) *s3.Fault {
					f := *fault
					f.Stall = &s3.Stall{After: int64(size / 2), Release: release}
					return &f
				})
				var wg sync.WaitGroup
				for range 50 {
					wg.Go(func() {
						r := s.ask("/shop/a.png", "X: y")
						wantPicture(t, r, body)
						if r.ContentLength != -1 || !slices.Equal(r.TransferEncoding, []string{"chunked"}) {
							t.Errorf("length %d, Transfer-Encoding %q", r.ContentLength, r.TransferEncoding)
						}
						status := r.Header.Get("Cache-Status")
						if status != "ixmage; fwd=uri-miss; fwd-status=200; stored" && status != "ixmage; fwd=uri-miss; collapsed" {
							t.Errorf("Cache-Status is %q", status)
						}
					})
				}
				s.waitBlocked(50)
				close(release)
				wg.Wait()
				for range 3 {
					r := s.get("/shop/a.png")
					wantPicture(t, r, body)
					if r.ContentLength != int64(size) || !strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit; ttl=") {
						t.Errorf("then: length %d, %q", r.ContentLength, r.Header.Get("Cache-Status"))
					}
					wantRange(t, s.ask("/shop/a.png", "Range: bytes=-1"), body, span{206, size - 1, size - 1})
					wantRange(t, s.ask("/shop/a.png", "Range: bytes="+strconv.Itoa(size)+"-"), body, span{416, 0, 0})
					wantRange(t, s.ask("/shop/a.png", "Range: bytes=0-0\r\nIf-Range: "+etagOf(body)), body, span{206, 0, 0})
					if r := s.ask("/shop/a.png", "If-None-Match: *"); r.StatusCode != http.StatusNotModified {
						t.Errorf("If-None-Match: got %s", summary(r))
					}
					if r := s.head("/shop/a.png"); r.ContentLength != int64(size) {
						t.Errorf("HEAD: length %d", r.ContentLength)
					}
				}
				if got := s.askedFor("a.png"); !slices.Equal(got, []string{"GET "}) {
					t.Errorf("S3 was asked %q", got)
				}
				if n := s.metric(`ixmage_cache_entries{tier="memory"}`); n != 1 {
					t.Errorf("%v entries", n)
				}
			})
		}
	}
}

// etagOf is the entity tag that S3 gives an object.
func etagOf(body []byte) string { return s3.NewStored(s3.Object{Body: body}).ETag }

// TestUnknownLengthRevalidated: a stored object that came without a length is revalidated like
// any other, and one that must be revalidated each time is stored.
func TestUnknownLengthRevalidated(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(10_000, "")
	s.put("a.png", s3.Object{Body: body, CacheControl: "no-cache"})
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Chunked() })
	for i, want := range []string{"ixmage; fwd=uri-miss; fwd-status=200; stored", "ixmage; fwd=stale; fwd-status=304", "ixmage; fwd=stale; fwd-status=304"} {
		r := s.get("/shop/a.png")
		wantPicture(t, r, body)
		if got := r.Header.Get("Cache-Status"); got != want {
			t.Errorf("request %d: Cache-Status is %q, want %q", i, got, want)
		}
		if length := map[bool]int64{true: -1, false: int64(len(body))}[i == 0]; r.ContentLength != length {
			t.Errorf("request %d: length %d, want %d", i, r.ContentLength, length)
		}
	}
}

// TestUnknownLengthBroken: a body without a length that is cut, or whose checksum is wrong,
// is never stored and never delivered as complete.
func TestUnknownLengthBroken(t *testing.T) {
	t.Parallel()
	const size = 200_000
	body := png(size, "")
	header := func(f s3.Fault, name, value string) *s3.Fault {
		f.Header = func(h http.Header) { h.Set(name, value) }
		return &f
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nETag: \"v1\"\r\nTransfer-Encoding: chunked\r\n\r\n"
	trailer := header(s3.Fault{Chunked: true, Trailer: []string{"x-amz-checksum-crc32: AAAAAA=="}}, "Trailer", "x-amz-checksum-crc32")
	for name, fault := range map[string]*s3.Fault{
		"cut at the first byte":        s3.ChunkedCut(1),
		"cut":                          s3.ChunkedCut(size / 2),
		"cut before the last byte":     s3.ChunkedCut(size - 1),
		"cut before the last chunk":    s3.ChunkedCut(size),
		"reset before the last chunk":  {Chunked: true, Cut: s3.ResetAfter(size).Cut},
		"wrong checksum":               {Chunked: true, BadSum: true},
		"wrong checksum at the end":    trailer,
		"until close, cut":             {UntilClose: true, Cut: &s3.Cut{After: size / 2}},
		"until close, wrong checksum":  {UntilClose: true, BadSum: true},
		"until close, no proof":        s3.UntilClose(), // without a checksum
		"a chunk of no size":           {Instead: head + "64\r\n" + strings.Repeat("x", 100) + "\r\nzz\r\n"},
		"a chunk that is too long":     {Instead: head + "64\r\n" + strings.Repeat("x", 102) + "\r\n0\r\n\r\n"},
		"a chunk that is too short":    {Instead: head + "64\r\n" + strings.Repeat("x", 98) + "\r\n0\r\n\r\n"},
		"a last chunk without its end": {Instead: head + "64\r\n" + strings.Repeat("x", 100) + "\r\n0\r\n"},
		"an endless size of a chunk":   {Instead: head + strings.Repeat("1", 5000)},
		"a length too, and both":       header(s3.Fault{Chunked: true}, "Content-Length", "10"),
		"a right length too":           header(s3.Fault{Chunked: true}, "Content-Length", strconv.Itoa(size)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t)
			obj := s3.Object{Body: body, ETag: `"v1"`}
			if name == "until close, no proof" || fault == trailer {
				obj.Checksum = s3.NoChecksum
			}
			s.put("a.png", obj)
			s.s3.Hook(func(r *s3.Request) *s3.Fault {
				if r.Header.Get("Range") != "" { // the attempt to go on
					return s3.CloseAfter(0)
				}
				return fault
			})
			for _, version := range []string{"HTTP/1.1\r\nHost: x", "HTTP/1.1\r\nHost: x", "HTTP/1.0"} {
				text := s.dial().send("GET /shop/a.png " + version + "\r\nConnection: close\r\n\r\n").all()
				if ok := strings.HasPrefix(text, "HTTP/1.1 200 "); ok && (strings.HasSuffix(text, "\r\n0\r\n\r\n") || strings.Contains(text, "Content-Length")) {
					t.Errorf("%s: a broken body came as complete", version[:8])
				}
				if bytes.HasSuffix([]byte(text), body[size-100:]) {
					t.Errorf("%s: the last byte was sent", version[:8])
				}
			}
			if n := s.metric(`ixmage_cache_entries{tier="memory"}`); n != 0 {
				t.Errorf("%v entries", n)
			}
		})
	}
}

// TestUnknownLengthTrailer: a right checksum in the trailer is as good as one in the header.
func TestUnknownLengthTrailer(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(100_000, "")
	s.put("a.png", s3.Object{Body: body, Checksum: s3.NoChecksum})
	sum := crc32.ChecksumIEEE(body)
	line := "x-amz-checksum-crc32: " + base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
	s.s3.Hook(func(*s3.Request) *s3.Fault {
		return &s3.Fault{
			Chunked: true, Trailer: []string{line},
			Header: func(h http.Header) { h.Set("Trailer", "x-amz-checksum-crc32") },
		}
	})
	for range 2 {
		wantPicture(t, s.get("/shop/a.png"), body)
	}
	if n := s.calls("a.png"); n != 1 {
		t.Errorf("S3 was asked %d times", n)
	}
}

// TestUnknownLengthOld: a client of HTTP/1.0 waits for the complete object. It gets an error
// if the object is larger than the cache takes, or must not be stored.
func TestUnknownLengthOld(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-object-max", "1MiB")
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Chunked() })
	for key, obj := range map[string]s3.Object{
		"small.png": {Body: png(100, "")}, "largest.png": {Body: png(1<<20, "")},
		"larger.png": {Body: png(1<<20+1, "")}, "no-store.png": {Body: png(100, ""), CacheControl: "no-store"},
	} {
		s.put(key, obj)
		for _, line := range []string{"If-None-Match: \"v0\"", "X: y", "Range: lines=1"} {
			r := s.dial().send("GET /shop/" + key + " HTTP/1.0\r\n" + line + "\r\n\r\n").answer(http.MethodGet)
			if key == "larger.png" || key == "no-store.png" {
				wantProblem(t, r, http.StatusBadGateway, "origin-error")
				continue
			}
			wantPicture(t, r, obj.Body)
			if r.ContentLength != int64(len(obj.Body)) || len(r.TransferEncoding) > 0 {
				t.Errorf("%s: length %d, Transfer-Encoding %q", key, r.ContentLength, r.TransferEncoding)
			}
		}
	}
}

// TestUnknownLengthTooLarge: clients that follow an object while it outgrows the limit get all
// of it, one from the first answer of S3 and the others by ranges of the same version, or see
// that it breaks off. It is not stored, and the next requests are streamed.
func TestUnknownLengthTooLarge(t *testing.T) {
	t.Parallel()
	const size = 3 << 20
	body := png(size, "")
	for name, tc := range map[string]struct {
		etag  string
		fault *s3.Fault // of the rest
		whole int       // clients that get it
	}{
		"goes on":        {`"v1"`, nil, 10},
		"goes on, close": {`"v1"`, s3.Chunked(), 10},
		"weak":           {`W/"v1"`, nil, 1},
		"changes":        {`"v1"`, s3.Replace(s3.Object{Body: bytes.Repeat([]byte("x"), size), ETag: `"v2"`, ContentType: "image/png"}), 1},
		"no ranges":      {`"v1"`, &s3.Fault{Status: 200}, 1},
		"is cut":         {`"v1"`, s3.CloseAfter(1000), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t, "--cache-object-max", "1MiB")
			release := make(chan struct{})
			s.put("a.png", s3.Object{Body: body, ETag: tc.etag})
			s.s3.Hook(func(r *s3.Request) *s3.Fault {
				switch {
				case r.Header.Get("Range") == "":
					return &s3.Fault{Chunked: true, Stall: &s3.Stall{After: 1000, Release: release}}
				case tc.fault != nil:
					return tc.fault
				}
				return nil
			})
			var wg sync.WaitGroup
			var mu sync.Mutex
			whole := 0
			for range 10 {
				wg.Go(func() {
					r := s.ask("/shop/a.png", "X: y")
					mu.Lock()
					defer mu.Unlock()
					switch {
					case r.StatusCode != http.StatusOK || !bytes.HasPrefix(body, r.body):
						t.Errorf("got %s and %d bytes, some of them wrong", r.Status, len(r.body))
					case r.err == nil && len(r.body) == size:
						whole++
					case r.err == nil:
						t.Errorf("%d bytes came as complete", len(r.body))
					}
				})
			}
			s.waitBlocked(10) // one that has begun may not follow the fetch yet
			close(release)
			wg.Wait()
			if whole != tc.whole {
				t.Errorf("%d clients got all, want %d", whole, tc.whole)
			}
			r := s.get("/shop/a.png")
			wantPicture(t, r, body)
			if got := r.Header.Get("Cache-Status"); got != "ixmage; fwd=bypass" {
				t.Errorf("then the Cache-Status is %q", got)
			}
			s.wantQuiet(t)
			if n := s.metric(`ixmage_cache_bytes{tier="memory"}`); n != 0 {
				t.Errorf("%v bytes are held", n)
			}
		})
	}
}

// TestUnknownLengthAbandoned: an object without a length whose last client leaves is not
// fetched further, because nothing says how much is missing.
func TestUnknownLengthAbandoned(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	const size = 8 << 20 // more than the sockets hold: ixmage must still have bytes to send when the client leaves
	body := png(size, "")
	s.put("a.png", s3.Object{Body: body})
	s.s3.Next("media", "web/a.png", &s3.Fault{Chunked: true, Stall: &s3.Stall{After: size - 100}})
	w := s.dial()
	wantFront(t, w.open("/shop/a.png"), body, 1000)
	w.Close()
	s.wantQuiet(t)
	wantPicture(t, s.get("/shop/a.png"), body)
	if n := s.calls("a.png"); n != 2 {
		t.Errorf("S3 was asked %d times, want 2", n)
	}
}
