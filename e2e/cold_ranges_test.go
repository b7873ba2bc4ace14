package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"ixmage/internal/awstest/s3"
)

// What docs/http.md promises: S3 sends at most so many bytes for each cold range, and for
// each byte of it that a client gets.
const (
	perRequest = 256 << 10
	perByte    = 1 + 16
)

// sentFor waits until S3 is done and returns how many bytes it has sent.
func (s *env) sentFor(t *testing.T) (sent int64) {
	t.Helper()
	eventually(t, "S3 is done", func() bool { return s.s3.InFlight() == 0 && s.metric("ixmage_origin_open_bodies") == 0 })
	for _, r := range s.s3.Requests() {
		sent += r.Sent
	}
	return sent
}

// TestAmplification: small ranges, and requests that need no byte, of many objects that do
// not fit into memory together cost S3 little more than what clients get. Each object
// is asked for twice.
func TestAmplification(t *testing.T) {
	t.Parallel()
	body := png(24<<20, "")
	end := len(body) - 1
	for name, tc := range map[string]struct {
		lines string
		want  span
		spare int64 // that the network holds of an answer of S3 which is cut off, for each object
	}{
		"first byte":        {"Range: bytes=0-0", span{206, 0, 0}, 0},
		"last byte":         {"Range: bytes=-1", span{206, end, end}, 0},
		"in the middle":     {"Range: bytes=12582912-12582975", span{206, 12582912, 12582975}, 0},
		"from the middle":   {fmt.Sprintf("Range: bytes=%d-", end-99), span{206, end - 99, end}, 0},
		"range, If-Match":   {"Range: bytes=5-5\r\nIf-Match: *", span{206, 5, 5}, 0},
		"range, If-Range":   {"Range: bytes=7-7\r\nIf-Range: \"v1\"", span{206, 7, 7}, 0},
		"past the end":      {"Range: bytes=99999999-", span{416, 0, 0}, 0},
		"range and 304":     {"Range: bytes=0-0\r\nIf-None-Match: *", span{304, 0, 0}, 0},
		"range and 412":     {"Range: bytes=0-0\r\nIf-Match: \"v2\"", span{412, 0, 0}, 0},
		"If-None-Match":     {"If-None-Match: *", span{304, 0, 0}, 4 << 20},
		"If-Match":          {"If-Match: \"v2\"", span{412, 0, 0}, 4 << 20},
		"If-Modified-Since": {"If-Modified-Since: Wed, 15 Nov 2034 12:00:00 GMT", span{304, 0, 0}, 4 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t, "--cache-memory", "64MiB")
			var got int64
			for round := range 24 {
				key := fmt.Sprintf("%d.png", round%12)
				if round < 12 {
					s.put(key, s3.Object{Body: body, ETag: `"v1"`})
				}
				r := s.ask("/shop/"+key, tc.lines)
				got += int64(len(r.body))
				switch tc.want.status {
				case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
					wantRange(t, r, body, tc.want)
				default:
					if r.StatusCode != tc.want.status {
						t.Fatalf("got %s, want %d", summary(r), tc.want.status)
					}
					want := map[int]string{304: "ixmage; fwd=uri-miss; fwd-status=200"}[tc.want.status]
					if got, _ := strings.CutSuffix(r.Header.Get("Cache-Status"), "; stored"); got != want {
						t.Errorf("Cache-Status is %q, want %q", got, want)
					}
				}
			}
			if sent, limit := s.sentFor(t), 24*perRequest+perByte*got+12*tc.spare; sent > limit {
				t.Errorf("clients got %d bytes, and S3 sent %d, want at most %d", got, sent, limit)
			}
			if n := s.metric(`ixmage_cache_entries{tier="memory"}`); n != 0 {
				t.Errorf("%v objects are stored", n)
			}
		})
	}
}

// TestRangesEndInMemory: a viewer that reads an object in pieces soon has it fetched whole,
// once for all viewers, and S3 sends no more than docs/http.md says.
func TestRangesEndInMemory(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		size, piece int
		fetched     int // ranges from S3 before the object is fetched whole
	}{
		"small":        {100_000, 1, 0},
		"as a whole":   {4 << 20, 4 << 20, 0},
		"in halves":    {4 << 20, 2 << 20, 0},
		"64 KiB":       {4 << 20, 64 << 10, 3},
		"byte by byte": {1 << 20, 1, 3},
		"large pieces": {24 << 20, 1 << 20, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t)
			body := png(tc.size, "")
			s.put("a.png", s3.Object{Body: body})
			var got int64
			for n := range 8 {
				first := n * tc.piece % len(body)
				last := min(first+tc.piece, len(body)) - 1
				r := s.ask("/shop/a.png", fmt.Sprintf("Range: bytes=%d-%d", first, last))
				wantRange(t, r, body, span{206, first, last})
				s.waitInFlight(0) // what was sent is counted then
				got += int64(len(r.body))
				want := "ixmage; hit; ttl="
				switch {
				case n < tc.fetched:
					want = "ixmage; fwd=uri-miss; fwd-status=206"
				case n == tc.fetched:
					want = "ixmage; fwd=uri-miss; fwd-status=200; stored"
				}
				if status := r.Header.Get("Cache-Status"); !strings.HasPrefix(status, want) {
					t.Errorf("request %d: Cache-Status is %q, want %q", n, status, want)
				}
			}
			whole := 0
			for _, asked := range s.askedFor("a.png") {
				if asked == "GET " {
					whole++
				}
			}
			if n := len(s.askedFor("a.png")); whole != 1 || n != 2*tc.fetched+2 {
				t.Errorf("S3 was asked %q, want a HEAD and a range %d times, then a HEAD and all of it", s.askedFor("a.png"), tc.fetched)
			}
			if sent, limit := s.sentFor(t), 8*perRequest+perByte*got; sent > limit {
				t.Errorf("clients got %d bytes, and S3 sent %d, want at most %d", got, sent, limit)
			}
		})
	}
}

// TestRangesInACrowd: equal ranges of one cold object at the same time share the requests
// for metadata and bytes, and the object is fetched whole once.
func TestRangesInACrowd(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(24<<20, "")
	s.put("a.png", s3.Object{Body: body, ETag: `"v1"`})
	for range 3 {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { wantRange(t, s.ask("/shop/a.png", "Range: bytes=1000-1999"), body, span{206, 1000, 1999}) })
		}
		wg.Wait()
	}
	whole := 0
	for _, asked := range s.askedFor("a.png") {
		if asked == "GET " {
			whole++
		}
	}
	if whole != 1 {
		t.Errorf("S3 was asked for the whole object %d times, want once", whole)
	}
	if sent, limit := s.sentFor(t), int64(150*perRequest+perByte*150*1000); sent > limit {
		t.Errorf("S3 sent %d, want at most %d", sent, limit)
	}
}

// TestConditionsEarn: requests that need no body have the object stored in the end, so that
// revalidating clients do not ask S3 forever.
func TestConditionsEarn(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a.png", s3.Object{Body: png(1<<20, "")})
	want := []string{"GET ", "HEAD ", "HEAD ", "HEAD ", "GET "} // the first is cut off
	for n := range 7 {
		if r := s.ask("/shop/a.png", "If-None-Match: *"); r.StatusCode != http.StatusNotModified {
			t.Fatalf("request %d: got %s", n, summary(r))
		}
		s.wantQuiet(t)
	}
	if got := s.askedFor("a.png"); !slices.Equal(got, want) {
		t.Errorf("S3 was asked %q, want %q", got, want)
	}
	wantPicture(t, s.get("/shop/a.png"), png(1<<20, ""))
}

// TestColdRangeOdd: what a cold range does if S3 does not play along.
func TestColdRangeOdd(t *testing.T) {
	t.Parallel()
	body := png(1<<20, "")
	ranged := func(r *s3.Request) bool { return r.Method == http.MethodGet && r.Header.Get("Range") != "" }
	const lines = "Range: bytes=100-199"
	part := span{206, 100, 199}
	for name, tc := range map[string]struct {
		obj   s3.Object
		hook  func(*s3.Request) *s3.Fault
		lines string
		want  span
		asked []string
	}{
		"no ranges": {
			s3.Object{}, func(r *s3.Request) *s3.Fault {
				if ranged(r) {
					return &s3.Fault{Status: http.StatusOK, Body: body, Header: func(h http.Header) { h.Del("Content-Range") }}
				}
				return nil
			}, lines, part, []string{"HEAD ", "GET bytes=100-199", "GET "},
		},
		"no HEAD": {
			s3.Object{}, func(r *s3.Request) *s3.Fault {
				if r.Method == http.MethodHead {
					return &s3.Fault{Status: http.StatusNotFound, Body: []byte{}}
				}
				return nil
			}, lines, part, []string{"HEAD ", "GET "},
		},
		"changes after the HEAD": {
			s3.Object{}, func(r *s3.Request) *s3.Fault {
				if r.Method == http.MethodHead {
					return s3.Replace(s3.Object{Body: bytes.Repeat([]byte("x"), 1<<20), ETag: `"old"`, ContentType: "image/png"})
				}
				return nil
			}, lines, part, []string{"HEAD ", "GET bytes=100-199", "GET "},
		},
		"no length": {
			s3.Object{}, func(r *s3.Request) *s3.Fault {
				return &s3.Fault{Header: func(h http.Header) {
					if r.Method == http.MethodHead {
						h.Del("Content-Length")
					}
				}}
			}, lines, part, []string{"HEAD ", "GET "},
		},
		"not to be stored": {s3.Object{CacheControl: "no-store"}, nil, lines, part, []string{"HEAD ", "GET bytes=100-199"}},
		"of no type": {
			s3.Object{ContentType: "binary/octet-stream"}, nil, lines, part,
			[]string{"HEAD ", "GET bytes=0-3071", "GET bytes=100-199"},
		},
		"If-Range of another version": {
			s3.Object{}, nil, lines + "\r\nIf-Range: \"v0\"", span{200, 0, 0}, []string{"HEAD ", "GET "},
		},
		"several ranges": {s3.Object{}, nil, "Range: bytes=0-1,5-6", span{200, 0, 0}, []string{"GET "}},
		"no range":       {s3.Object{}, nil, "Range: lines=0-1", span{200, 0, 0}, []string{"GET "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t)
			tc.obj.Body, tc.obj.ETag = body, `"v1"`
			s.put("a.png", tc.obj)
			s.s3.Hook(tc.hook)
			wantRange(t, s.ask("/shop/a.png", tc.lines), body, tc.want)
			if got := s.askedFor("a.png"); !slices.Equal(got, tc.asked) {
				t.Errorf("S3 was asked %q, want %q", got, tc.asked)
			}
		})
	}
}

// TestColdRangesOfNoType: the first bytes, which decide the type, are requested once for
// each version.
func TestColdRangesOfNoType(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(24<<20, "")
	fronts := func() (n int) {
		for _, asked := range s.askedFor("a.png") {
			if asked == "GET bytes=0-3071" {
				n++
			}
		}
		return n
	}
	for version := 1; version <= 2; version++ {
		s.put("a.png", s3.Object{Body: body, ContentType: "application/octet-stream", ETag: fmt.Sprintf(`"v%d"`, version)})
		for n := range 3 {
			first := n * 1_000_000
			r := s.ask("/shop/a.png", fmt.Sprintf("Range: bytes=%d-%d", first, first+9))
			wantRange(t, r, body, span{206, first, first + 9})
			if got := r.Header.Get("Content-Type"); got != "image/png" {
				t.Errorf("the type is %q", got)
			}
		}
		if n := fronts(); n != version {
			t.Errorf("version %d: the first bytes were requested %d times", version, n)
		}
	}
}

// TestMissingRange: a cold range of a missing object is remembered as missing.
func TestMissingRange(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"negative_ttl":"1h0m0s"}`)
	for range 3 {
		wantProblem(t, s.ask("/shop/none.png", "Range: bytes=0-0"), http.StatusNotFound, "not-found")
	}
	if got := s.askedFor("none.png"); !slices.Equal(got, []string{"HEAD ", "GET "}) {
		t.Errorf("S3 was asked %q", got)
	}
}

// TestColdRangeOfFailingS3: a cold range asks an S3 that fails no more often than a cold HEAD
// does, and gets the error of S3, not that of the circuit which its own failure opens.
func TestColdRangeOfFailingS3(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault  s3.Fault
		status int
		code   string
		asked  []string
	}{
		"fails": {
			s3.Fault{Status: 500, Code: "InternalError"}, 502, "origin-error",
			[]string{"HEAD ", "HEAD ", "GET bytes=0-0", "GET bytes=0-0"},
		},
		"throttles": {
			s3.Fault{Status: 429, Code: "TooManyRequests"}, 503, "origin-throttled",
			[]string{"HEAD "},
		},
		"refuses the key": {
			s3.Fault{Status: 403, Code: "InvalidAccessKeyId"}, 502, "origin-credential",
			[]string{"HEAD ", "GET bytes=0-0"},
		},
		"has no such object": {
			s3.Fault{Status: 404, Code: "NoSuchKey"}, 404, "not-found",
			[]string{"HEAD ", "GET "},
		},
		"has no such bucket": {
			s3.Fault{Status: 404, Code: "NoSuchBucket"}, 502, "origin-error",
			[]string{"HEAD ", "GET "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t, "--breaker-failures", "3")
			s.s3.Hook(func(*s3.Request) *s3.Fault { return &tc.fault })
			for n := range 3 {
				wantProblem(t, s.ask(fmt.Sprintf("/shop/%d.png", n), "Range: bytes=0-0"), tc.status, tc.code)
			}
			if got := s.askedFor("0.png"); !slices.Equal(got, tc.asked) {
				t.Errorf("S3 was asked %q, want %q", got, tc.asked)
			}
		})
	}
}
