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

const mib = 1 << 20

// shared is a large object of which one client is being sent some bytes, slowly, so
// that other parts with bytes in common are fetched in blocks.
type shared struct {
	*site
	name string
	body []byte
	free func() // ends the slow client
}

// share has the bytes from first to last sent slowly.
func share(t *testing.T, obj s3.Object, args ...string) *shared {
	t.Helper()
	s := &shared{site: newSite(t, append([]string{"--cache-object-max", "64KiB", "--origin-idle-timeout", "1h"}, args...)...), name: "large.png", body: obj.Body}
	s.put(s.name, obj)
	first, last := 10, len(obj.Body)-11
	if last-first >= 8*mib {
		last = first + 8*mib - 1
	}
	slow := fmt.Sprintf("bytes=%d-%d", first, last)
	release := make(chan struct{})
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if r.Header.Get("Range") == slow {
			return s3.StallAfter(100, release)
		}
		return nil
	})
	var wg sync.WaitGroup
	wg.Go(func() { wantRange(t, s.ask("/shop/"+s.name, "Range: "+slow), obj.Body, span{206, first, last}) })
	eventually(t, "it is being sent", func() bool { return slices.Contains(s.askedFor(s.name), "GET "+slow) })
	s.free = func() {
		close(release)
		wg.Wait()
	}
	return s
}

// askedSince are the ranges that S3 was asked for beside HEADs.
func (s *shared) askedSince(n int) (ranges []string) {
	for _, asked := range s.askedFor(s.name)[n:] {
		if r, ok := strings.CutPrefix(asked, "GET "); ok {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// TestBlocks: a part that others want too is made of blocks, and is none the worse
// for it.
func TestBlocks(t *testing.T) {
	t.Parallel()
	body := fakePNG(3*mib + 500_000)
	end := len(body) - 1
	s := share(t, s3.Object{Body: body, ETag: `"v1"`})
	defer s.free()
	for _, tc := range []struct {
		name        string
		first, last int
		want        []string // of S3
	}{
		{"within a block", 1000, 1999, []string{"bytes=0-1048575"}},
		{"one byte", 2*mib + 5, 2*mib + 5, []string{"bytes=2097152-3145727"}},
		{"a whole block", mib, 2*mib - 1, []string{"bytes=1048576-2097151"}},
		{"from a block's end to the next one's beginning", mib - 1, mib, []string{"bytes=0-1048575", "bytes=1048576-2097151"}},
		{"two blocks and a bit", 500, 2*mib + 500, []string{"bytes=0-1048575", "bytes=1048576-2097151", "bytes=2097152-3145727"}},
		{"the end", end - 20, end, []string{"bytes=3145728-3645727"}},
		{"nothing in common", 0, 9, []string{"bytes=0-9"}},
		{"nothing in common, at the end", end - 9, end, []string{fmt.Sprintf("bytes=%d-%d", end-9, end)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := s.calls(s.name)
			r := s.ask("/shop/"+s.name, fmt.Sprintf("Range: bytes=%d-%d", tc.first, tc.last))
			wantRange(t, r, body, span{206, tc.first, tc.last})
			if got := r.Header.Get("Cache-Status"); got != "ixmage; fwd=bypass" {
				t.Errorf("Cache-Status is %q", got)
			}
			if got := s.askedSince(before); !slices.Equal(got, tc.want) {
				t.Errorf("S3 was asked for %q, want %q", got, tc.want)
			}
		})
	}
	for _, r := range s.s3.Requests() {
		if r.Header.Get("Range") != "" && r.Header.Get("If-Match") != `"v1"` {
			t.Errorf("%s was asked for with If-Match %q", r.Header.Get("Range"), r.Header.Get("If-Match"))
		}
	}
	if n := s.metric(`ixmage_cache_entries{tier="memory"}`); n != 0 {
		t.Errorf("%v entries are stored", n)
	}
}

// Blocks have to be of one version, whole, and for everybody; else they are not used,
// or the client sees that they broke.
func TestBlocksThatFail(t *testing.T) {
	t.Parallel()
	body := fakePNG(2 * mib)
	const asked = "Range: bytes=1000000-1099999" // of both blocks
	for name, tc := range map[string]struct {
		obj   s3.Object
		args  []string
		fault func(r *s3.Request) *s3.Fault // of what is not the slow one's
		whole bool                          // the part comes
		want  []string                      // of S3; nil: anything
	}{
		"no tag": {obj: s3.Object{Body: body, ETag: `W/"v1"`}, whole: true, want: []string{"bytes=1000000-1099999"}},
		"not to be stored": {
			obj: s3.Object{Body: body, ETag: `"v1"`, CacheControl: "no-store"}, whole: true, want: []string{"bytes=1000000-1099999"},
		},
		"to be asked for each time": {
			obj: s3.Object{Body: body, ETag: `"v1"`, CacheControl: "no-cache"}, whole: true, want: []string{"bytes=1000000-1099999"},
		},
		"without a cache": {
			obj: s3.Object{Body: body, ETag: `"v1"`}, args: []string{"--cache-memory", "0"}, whole: true,
			want: []string{"bytes=0-1048575", "bytes=1048576-2097151"},
		},
		"a block that breaks and goes on": {
			obj: s3.Object{Body: body, ETag: `"v1"`}, whole: true, fault: func(r *s3.Request) *s3.Fault {
				if r.Header.Get("Range") == "bytes=1048576-2097151" {
					return s3.CloseAfter(1000)
				}
				return nil
			},
		},
		"a block that breaks for good": {
			obj: s3.Object{Body: body, ETag: `"v1"`}, fault: func(r *s3.Request) *s3.Fault {
				if strings.HasSuffix(r.Header.Get("Range"), "-2097151") {
					return s3.CloseAfter(1000)
				}
				return nil
			},
		},
		"a block that breaks behind the part": {
			obj: s3.Object{Body: body, ETag: `"v1"`}, fault: func(r *s3.Request) *s3.Fault {
				if strings.HasSuffix(r.Header.Get("Range"), "-2097151") {
					return s3.CloseAfter(90_000)
				}
				return nil
			},
		},
		"a block of another version": {
			obj: s3.Object{Body: body, ETag: `"v1"`}, fault: func(r *s3.Request) *s3.Fault {
				if r.Header.Get("Range") == "bytes=1048576-2097151" {
					return s3.Replace(s3.Object{Body: bytes.Repeat([]byte("x"), 2*mib), ETag: `"v2"`, ContentType: "image/png"})
				}
				return nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := share(t, tc.obj, tc.args...)
			defer s.free()
			if tc.fault != nil {
				s.s3.Hook(tc.fault)
			}
			before := s.calls(s.name)
			r := s.ask("/shop/"+s.name, asked)
			if tc.whole {
				wantRange(t, r, body, span{206, 1_000_000, 1_099_999})
			} else if r.StatusCode != http.StatusPartialContent || r.err == nil || !bytes.HasPrefix(body[1_000_000:1_099_999], r.body) {
				t.Errorf("got %s with %d bytes and error %v, want a part that breaks off", summary(r), len(r.body), r.err)
			}
			if got := s.askedSince(before); tc.want != nil && !slices.Equal(got, tc.want) {
				t.Errorf("S3 was asked for %q, want %q", got, tc.want)
			}
		})
	}
}

// TestBlocksLong: who wants many bytes has them come in one answer.
func TestBlocksLong(t *testing.T) {
	t.Parallel()
	body := fakePNG(10 * mib)
	s := share(t, s3.Object{Body: body, ETag: `"v1"`})
	defer s.free()
	before := s.calls(s.name)
	wantRange(t, s.ask("/shop/"+s.name, "Range: bytes=5-"), body, span{206, 5, len(body) - 1})
	if got := s.askedSince(before); !slices.Equal(got, []string{fmt.Sprintf("bytes=5-%d", len(body)-1)}) {
		t.Errorf("S3 was asked for %q", got)
	}
}

// TestCrowdOfHeads: a hundred HEADs of one cold object cost S3 one, unless each has to
// ask for itself. What S3 says of a missing one is for all of them too.
func TestCrowdOfHeads(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		obj    *s3.Object
		status int
		calls  int
	}{
		"a picture":        {&s3.Object{Body: fakePNG(100)}, 200, 1},
		"no picture":       {&s3.Object{Body: fakePNG(100), ContentType: "text/html"}, 415, 1},
		"missing":          {nil, 404, 1},
		"not to be stored": {&s3.Object{Body: fakePNG(100), CacheControl: "no-store"}, 200, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if tc.obj != nil {
				s.put("a.png", *tc.obj)
			}
			release := make(chan struct{})
			s.s3.Next("media", "web/a.png", s3.StallAfter(s3.BeforeHeaders, release))
			var wg sync.WaitGroup
			var mu sync.Mutex
			how := map[string]int{}
			for range 100 {
				wg.Go(func() {
					r := s.head("/shop/a.png")
					if r.StatusCode != tc.status {
						t.Errorf("got %s, want %d", summary(r), tc.status)
					}
					mu.Lock()
					defer mu.Unlock()
					how[r.Header.Get("Cache-Status")]++
				})
			}
			eventually(t, "all wait", func() bool { return s.metric("ixmage_http_requests_in_flight") >= 100 })
			close(release)
			wg.Wait()
			if n := s.calls("a.png"); n != tc.calls {
				t.Errorf("S3 was asked %d times, want %d", n, tc.calls)
			}
			if want := 100 - tc.calls; tc.status == http.StatusOK && how["ixmage; fwd=uri-miss; collapsed"] != want {
				t.Errorf("told %v, want %d collapsed", how, want)
			}
		})
	}
}
