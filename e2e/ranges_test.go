package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ixmage/internal/awstest/s3"
)

// span is the right answer to a request with a range: 206 and these bytes, 200 and all
// bytes, or 416.
type span struct{ status, first, last int }

// rangeRows are requests for an object of 5,000 bytes.
var rangeRows = []struct {
	header string
	want   span
}{
	{"bytes=0-0", span{206, 0, 0}},
	{"bytes=0-4999", span{206, 0, 4999}},
	{"bytes=0-", span{206, 0, 4999}},
	{"bytes=100-199", span{206, 100, 199}},
	{"bytes=4999-", span{206, 4999, 4999}},
	{"bytes=4000-99999", span{206, 4000, 4999}},
	{"bytes=-1", span{206, 4999, 4999}},
	{"bytes=-500", span{206, 4500, 4999}},
	{"bytes=-99999", span{206, 0, 4999}},
	{"BYTES=1-2", span{206, 1, 2}},
	{"bytes=5000-", span{416, 0, 0}},
	{"bytes=5000-6000", span{416, 0, 0}},
	{"bytes=99999999999999999999-", span{416, 0, 0}},
	{"bytes=-0", span{416, 0, 0}},
	{"bytes=0-0,2-3", span{200, 0, 0}},
	{"bytes=0-0,", span{200, 0, 0}},
	{"bytes=3-2", span{200, 0, 0}},
	{"bytes=a-b", span{200, 0, 0}},
	{"bytes=", span{200, 0, 0}},
	{"bytes=-", span{200, 0, 0}},
	{"pages=1-2", span{200, 0, 0}},
	{"nonsense", span{200, 0, 0}},
	{"bytes=0-0\r\nRange: bytes=1-1", span{200, 0, 0}},
}

func TestRanges(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(5000, "")
	s.put("hit.png", s3.Object{Body: body})
	wantPicture(t, s.get("/shop/hit.png"), body)
	for i, tc := range rangeRows {
		t.Run(tc.header, func(t *testing.T) {
			t.Parallel()
			cold := fmt.Sprintf("cold%d.png", i)
			s.put(cold, s3.Object{Body: body})
			for _, key := range []string{"hit.png", cold, cold} {
				r := s.ask("/shop/"+key, "Range: "+tc.header)
				wantRange(t, r, body, tc.want)
			}
			// A cold range of a small object is fetched with the whole object, and the next comes from memory.
			want := []string{"HEAD ", "GET "}
			if tc.want.status == http.StatusOK {
				want = want[1:]
			}
			if got := s.askedFor(cold); !slices.Equal(got, want) {
				t.Errorf("S3 was asked %q, want %q", got, want)
			}
		})
	}
}

func wantRange(t *testing.T, r *response, body []byte, want span) {
	t.Helper()
	if r.StatusCode != want.status || r.err != nil {
		t.Fatalf("got %s, want %d", summary(r), want.status)
	}
	contentRange := r.Header.Get("Content-Range")
	switch want.status {
	case http.StatusOK:
		wantPicture(t, r, body)
		if contentRange != "" {
			t.Errorf("200 has a Content-Range: %q", contentRange)
		}
	case http.StatusPartialContent:
		if !bytes.Equal(r.body, body[want.first:want.last+1]) || r.ContentLength != int64(want.last-want.first+1) {
			t.Errorf("got %d bytes and a length of %d, want %+v", len(r.body), r.ContentLength, want)
		}
		if want := fmt.Sprintf("bytes %d-%d/%d", want.first, want.last, len(body)); contentRange != want {
			t.Errorf("Content-Range is %q, want %q", contentRange, want)
		}
	default:
		wantProblem(t, r, http.StatusRequestedRangeNotSatisfiable, "range")
		if want := fmt.Sprintf("bytes */%d", len(body)); contentRange != want {
			t.Errorf("Content-Range is %q, want %q", contentRange, want)
		}
	}
}

func TestIfRange(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(5000, "")
	s.put("hit.png", s3.Object{Body: body, ETag: `"v1"`})
	first := s.get("/shop/hit.png")
	modified := first.Header.Get("Last-Modified")
	for value, status := range map[string]int{
		`"v1"`: 206, modified: 206,
		`"v2"`: 200, `W/"v1"`: 200, `v1`: 200, `*`: 200, `"v1", "v2"`: 200, "Wed, 15 Nov 2034 12:00:00 GMT": 200,
		"Wed, 15 Nov 2000 12:00:00 GMT": 200, "soon": 200,
	} {
		r := s.get("/shop/hit.png", "Range", "bytes=10-19", "If-Range", value)
		wantRange(t, r, body, span{status, 10, 19})
	}
	// If-Range without Range has no meaning.
	wantPicture(t, s.get("/shop/hit.png", "If-Range", `"v1"`), body)
}

// TestRangeOfLargeObject: a range of an object that the cache does not store passes
// through, and S3 is asked for that range only.
func TestRangeOfLargeObject(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-object-max", "1MiB")
	const size = 32 << 20
	body := png(size, "")
	for i, tc := range []struct {
		name, header, ifRange string
		want                  span
		asked                 string // the Range that S3 sees last
	}{
		{"front", "bytes=0-99", "", span{206, 0, 99}, "bytes=0-99"},
		{"middle", "bytes=16777216-16777315", "", span{206, 16777216, 16777315}, "bytes=16777216-16777315"},
		{"suffix", "bytes=-100", "", span{206, size - 100, size - 1}, "bytes=33554332-33554431"},
		{"open end", "bytes=33554000-", "", span{206, 33554000, size - 1}, "bytes=33554000-33554431"},
		{"If-Range holds", "bytes=0-99", `"v1"`, span{206, 0, 99}, "bytes=0-99"},
		{"unsatisfiable", "bytes=33554432-", "", span{416, 0, 0}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key := strconv.Itoa(i) + ".png"
			s.put(key, s3.Object{Body: body, ETag: `"v1"`})
			lines := []string{"Range: " + tc.header}
			if tc.ifRange != "" {
				lines = append(lines, "If-Range: "+tc.ifRange)
			}
			for round := range 3 {
				r := s.ask("/shop/"+key, lines...)
				wantRange(t, r, body, tc.want)
				if got := r.Header.Get("Cache-Status"); tc.want.status == 206 && got != "ixmage; fwd=bypass" {
					t.Errorf("round %d: Cache-Status is %q", round, got)
				}
			}
			asked := s.askedFor(key)
			if got := asked[len(asked)-1]; tc.asked != "" && got != "GET "+tc.asked {
				t.Errorf("S3 was asked last for %q, want %q", got, tc.asked)
			}
			// Only the first request finds out that the object is large.
			if got := strings.Count(strings.Join(asked, ",")+",", "GET ,"); got > 1 {
				t.Errorf("S3 was asked %d times for the whole object: %q", got, asked)
			}
			s.wantLittleSent(t, key, size/4)
		})
	}
}

// TestCrowdOfRanges: a hundred overlapping ranges of one cold object at the same time.
// A HEAD finds out how large it is. A small object then costs one request to S3. For a large
// one, one request fetches its own bytes, and the others share a block. Nothing of it is
// stored.
func TestCrowdOfRanges(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-object-max", "1MiB")
	for name, tc := range map[string]struct{ size, cold, warm int }{
		"small.png": {500_000, 2, 0},
		"large.png": {8 << 20, 3, 20}, // 3, if none is late
	} {
		t.Run(name, func(t *testing.T) {
			body := png(tc.size, "")
			s.put(name, s3.Object{Body: body})
			s.crowd(t, name, body)
			if n := s.calls(name); n > tc.cold {
				t.Errorf("S3 was asked %d times, want at most %d: %q", n, tc.cold, s.askedFor(name))
			}
			before := s.calls(name)
			s.crowd(t, name, body)
			if n := s.calls(name) - before; n > tc.warm {
				t.Errorf("S3 was asked %d times more, want at most %d: %q", n, tc.warm, s.askedFor(name)[before:])
			}
			s.wantLittleSent(t, name, int64(tc.size+20*100_000+4<<20))
		})
	}
	s.waitInFlight(0) // the last of them have released their blocks
	if n := s.metric(`ixmage_cache_bytes{tier="memory"}`); n > 600_000 {
		t.Errorf("%v bytes are held", n)
	}
}

// crowd sends a hundred ranges while S3 delays a HEAD, and then the requests after it.
func (s *env) crowd(t *testing.T, name string, body []byte) {
	t.Helper()
	look, rest := make(chan struct{}), make(chan struct{})
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if r.Method == http.MethodHead {
			return s3.StallAfter(s3.BeforeHeaders, look)
		}
		return s3.StallAfter(s3.BeforeHeaders, rest)
	})
	defer s.s3.Hook(nil)
	before := s.calls(name)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			first := i * 1000
			r := s.ask("/shop/"+name, fmt.Sprintf("Range: bytes=%d-%d", first, first+99_999))
			wantRange(t, r, body, span{206, first, first + 99_999})
		})
	}
	if len(body) > 1<<20 || before == 0 {
		s.waitBlocked(100)
	}
	close(look)
	if len(body) > 1<<20 {
		eventually(t, "the parts are asked for", func() bool { return s.calls(name) >= before+3 })
		s.waitBlocked(100) // a late one would find no part that it may share
	}
	close(rest)
	wg.Wait()
}

// wantLittleSent checks that S3 sent at most limit bytes of an object in total.
func (s *env) wantLittleSent(t *testing.T, key string, limit int64) {
	t.Helper()
	done := func() (sent int64, ok bool) {
		ok = true
		for _, r := range s.s3.Requests() {
			if r.Key == "web/"+key {
				sent, ok = sent+r.Sent, ok && r.Done
			}
		}
		return sent, ok
	}
	eventually(t, "S3 is done with "+key, func() bool { _, ok := done(); return ok })
	if sent, _ := done(); sent > limit {
		t.Errorf("S3 sent %d bytes", sent)
	}
}

// TestRangeOfLargeObjectThatChanges: the bytes of a range that passes through are of
// the version in its header, or the answer breaks off.
func TestRangeOfLargeObjectThatChanges(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-object-max", "1MiB")
	body := png(4<<20, "")
	s.put("a.png", s3.Object{Body: body, ETag: `"v1"`})
	wantRange(t, s.get("/shop/a.png", "Range", "bytes=5-9"), body, span{206, 5, 9})
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if r.Method == http.MethodGet {
			return s3.Replace(s3.Object{Body: bytes.Repeat([]byte("x"), 4<<20), ETag: `"v2"`, ContentType: "image/png"})
		}
		return nil
	})
	wantProblem(t, s.get("/shop/a.png", "Range", "bytes=5-9"), http.StatusBadGateway, "origin-error")
	for _, r := range s.s3.Requests() {
		if r.Header.Get("Range") != "" && r.Header.Get("If-Match") != `"v1"` {
			t.Errorf("a range was asked for with If-Match %q", r.Header.Get("If-Match"))
		}
	}
}

const mib = 1 << 20

// blocksEnv is a large object that is being sent to one slow client, so that other
// ranges that overlap it are fetched in blocks.
type blocksEnv struct {
	*env
	name string
	body []byte
	free func() // ends the slow client
}

// newBlocksEnv begins to send most of the object slowly.
func newBlocksEnv(t *testing.T, obj s3.Object, args ...string) *blocksEnv {
	t.Helper()
	s := &blocksEnv{env: newEnv(t, append([]string{"--cache-object-max", "64KiB", "--origin-idle-timeout", "1h"}, args...)...), name: "large.png", body: obj.Body}
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

// askedSince returns the ranges of the GETs to S3 after the first n requests.
func (s *blocksEnv) askedSince(n int) (ranges []string) {
	for _, asked := range s.askedFor(s.name)[n:] {
		if r, ok := strings.CutPrefix(asked, "GET "); ok {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// TestBlocks: a range that overlaps another one in progress is put together from
// blocks, and has the right bytes.
func TestBlocks(t *testing.T) {
	t.Parallel()
	body := png(3*mib+500_000, "")
	end := len(body) - 1
	s := newBlocksEnv(t, s3.Object{Body: body, ETag: `"v1"`})
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
			s.waitInFlight(1) // the next one shares no block of this one
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

// TestBlocksThatFail: blocks must be whole, of one version, and for all clients. Else
// they are not used, or the client sees the answer break off.
func TestBlocksThatFail(t *testing.T) {
	t.Parallel()
	body := png(2*mib, "")
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
			s := newBlocksEnv(t, tc.obj, tc.args...)
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

// TestBlocksLong: a long range comes in one answer of S3.
func TestBlocksLong(t *testing.T) {
	t.Parallel()
	body := png(10*mib, "")
	s := newBlocksEnv(t, s3.Object{Body: body, ETag: `"v1"`})
	defer s.free()
	before := s.calls(s.name)
	wantRange(t, s.ask("/shop/"+s.name, "Range: bytes=5-"), body, span{206, 5, len(body) - 1})
	if got := s.askedSince(before); !slices.Equal(got, []string{fmt.Sprintf("bytes=5-%d", len(body)-1)}) {
		t.Errorf("S3 was asked for %q", got)
	}
}

// TestCrowdOfHeads: a hundred HEADs of one cold object cost one request to S3, unless
// the object must be requested each time. A missing object costs one, too.
func TestCrowdOfHeads(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		obj    *s3.Object
		status int
		calls  int
	}{
		"a picture":        {&s3.Object{Body: png(100, "")}, 200, 1},
		"no picture":       {&s3.Object{Body: png(100, ""), ContentType: "text/html"}, 415, 1},
		"missing":          {nil, 404, 1},
		"not to be stored": {&s3.Object{Body: png(100, ""), CacheControl: "no-store"}, 200, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t)
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
			s.waitBlocked(100)
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

// TestRangeOfNextVersion: ranges wait for the fetch of a version that may not be shared, and
// whose bytes one request takes. Their precondition excludes that version and allows the next
// one, which the others then fetch: they get the range and not the beginning of the object.
func TestRangeOfNextVersion(t *testing.T) {
	t.Parallel()
	first, second := png(100_000, "1"), png(100_000, "2")
	for line, excluded := range map[string]int{`If-Range: "v2"`: http.StatusOK, `If-None-Match: "v1"`: http.StatusNotModified} {
		for _, span := range []span{{206, 0, 0}, {206, 50_000, 50_099}, {206, 99_999, 99_999}} {
			t.Run(fmt.Sprintf("%s, %d", line, span.first), func(t *testing.T) {
				t.Parallel()
				s := newEnv(t)
				release := make(chan struct{})
				old := s3.Object{Body: first, ETag: `"v1"`, CacheControl: "no-store"}
				s.put("a.png", s3.Object{Body: second, ETag: `"v2"`, CacheControl: "no-store"})
				var gets, ofFirst atomic.Int64
				s.s3.Hook(func(r *s3.Request) *s3.Fault {
					if r.Method != http.MethodGet || r.Header.Get("Range") != "" || gets.Add(1) > 1 {
						return nil
					}
					return &s3.Fault{Object: &old, Stall: &s3.Stall{After: s3.BeforeHeaders, Release: release}}
				})
				var wg sync.WaitGroup
				wg.Go(func() { s.get("/shop/a.png") })
				eventually(t, "S3 is asked", func() bool { return s.calls("a.png") == 1 })
				for range 4 {
					wg.Go(func() {
						r := s.ask("/shop/a.png", fmt.Sprintf("Range: bytes=%d-%d\r\n%s", span.first, span.last, line))
						if r.Header.Get("ETag") == `"v1"` {
							if r.StatusCode != excluded || ofFirst.Add(1) > 1 {
								t.Errorf("got %s of the first version", r.Status)
							}
							return
						}
						wantRange(t, r, second, span)
					})
				}
				s.waitBlocked(5)
				close(release)
				wg.Wait()
			})
		}
	}
}
