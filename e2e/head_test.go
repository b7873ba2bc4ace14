package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestHeadOfHit: HEAD of a stored object is GET without the body, without a request to
// S3.
func TestHeadOfHit(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	for key, size := range map[string]int{"small.png": 100, "large.png": 1 << 20, "empty.png": 0} {
		body := png(size, "")
		s.put(key, s3.Object{Body: body})
		wantPicture(t, s.get("/shop/"+key), body)
		wantPicture(t, s.get("/shop/"+key), body)
		get, head := s.get("/shop/"+key), s.head("/shop/"+key)
		if len(head.body) != 0 || head.StatusCode != http.StatusOK || head.ContentLength != int64(size) {
			t.Errorf("%s: got %s, length %d", key, summary(head), head.ContentLength)
		}
		if got, want := stableHeader(head), stableHeader(get); got != want {
			t.Errorf("%s: HEAD has\n%s\nand GET\n%s", key, got, want)
		}
		if got := head.Header.Get("Cache-Status"); !strings.HasPrefix(got, "ixmage; hit; ttl=") {
			t.Errorf("%s: Cache-Status is %q", key, got)
		}
		if n := s.calls(key); n != 1 {
			t.Errorf("%s: S3 was asked %d times", key, n)
		}
	}
}

// TestColdHead: a cold HEAD sends S3 only the requests that it needs, stores nothing,
// and answers like the GET that follows.
func TestColdHead(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	big := png(100_000, "")
	generic := []string{"HEAD ", "GET bytes=0-3071"}
	for _, tc := range []struct {
		name   string
		obj    s3.Object
		status int
		asked  []string // method and range
	}{
		{"declared.png", s3.Object{Body: big, ContentType: "image/png"}, 200, []string{"HEAD "}},
		{"other-case.png", s3.Object{Body: big, ContentType: "Image/PNG; x=y"}, 200, []string{"HEAD "}},
		{"empty.png", s3.Object{ContentType: "image/png"}, 200, []string{"HEAD "}},
		{"no-store.png", s3.Object{Body: big, ContentType: "image/png", CacheControl: "no-store"}, 200, []string{"HEAD "}},
		{"generic", s3.Object{Body: big, ContentType: "binary/octet-stream"}, 200, generic},
		{"generic-small", s3.Object{Body: big[:50], ContentType: "application/octet-stream"}, 200, []string{"HEAD ", "GET bytes=0-49"}},
		{"generic-text", s3.Object{Body: []byte("just text"), ContentType: "binary/octet-stream"}, 415, []string{"HEAD ", "GET bytes=0-8"}},
		{"generic-empty", s3.Object{ContentType: "binary/octet-stream"}, 415, []string{"HEAD "}},
		{"page.html", s3.Object{Body: []byte("<html>"), ContentType: "text/html"}, 415, []string{"HEAD "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s.put(tc.name, tc.obj)
			var heads []string
			for range 2 {
				head := s.head("/shop/" + tc.name)
				if head.StatusCode != tc.status || len(head.body) != 0 {
					t.Fatalf("got %s, want %d", summary(head), tc.status)
				}
				heads = append(heads, headOf(head))
			}
			want := append(slices.Clone(tc.asked), tc.asked...)
			if got := s.askedFor(tc.name); !slices.Equal(got, want) {
				t.Errorf("S3 was asked %q, want %q: nothing is to be stored", got, want)
			}
			get := s.get("/shop/" + tc.name)
			if got := headOf(get); got != heads[0] || got != heads[1] {
				t.Errorf("HEAD has\n%s\nand GET\n%s", heads[0], got)
			}
			if got := get.Header.Get("Cache-Status"); tc.status == http.StatusOK && !strings.HasPrefix(got, "ixmage; fwd=uri-miss") {
				t.Errorf("after two HEADs GET has the Cache-Status %q", got)
			}
			if tc.status == http.StatusOK && get.ContentLength != int64(len(tc.obj.Body)) {
				t.Errorf("the length is %d", get.ContentLength)
			}
		})
	}
}

// TestColdHeadCacheStatus: a cold HEAD has the Cache-Status of a GET, without
// "stored". HEAD of a stale object behaves like GET. The last column is the GET that
// follows.
func TestColdHeadCacheStatus(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-object-max", "64KiB")
	s.patch("shop", `{"stale_while_revalidate":"0s"}`)
	for _, tc := range []struct {
		name      string
		obj       s3.Object
		after     string // what a GET finds before, which is over when the HEAD comes
		head, get string
	}{
		{"largest", s3.Object{Body: png(64<<10, "")}, "", "fwd=uri-miss; fwd-status=200", "fwd=uri-miss; fwd-status=200; stored"},
		{"too-large", s3.Object{Body: png(64<<10+1, "")}, "", "fwd=bypass", "fwd=bypass"},
		{"not-to-be-stored", s3.Object{Body: png(100, ""), CacheControl: "no-store"}, "", "fwd=uri-miss; fwd-status=200", "fwd=uri-miss; fwd-status=200"},
		{"stale", s3.Object{Body: png(200, "")}, "max-age=1", "fwd=stale; fwd-status=200; stored", "hit; ttl=3"},
		{"stale-and-too-large", s3.Object{Body: png(64<<10+1, "")}, "max-age=1", "fwd=bypass", "fwd=bypass"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			target := "/shop/" + tc.name
			if tc.after != "" {
				s.put(tc.name, s3.Object{Body: png(100, ""), CacheControl: tc.after})
				wantPicture(t, s.get(target), png(100, ""))
			}
			s.put(tc.name, tc.obj)
			var head *response
			eventually(t, "what was stored is stale", func() bool {
				head = s.head(target)
				return !strings.HasPrefix(head.Header.Get("Cache-Status"), "ixmage; hit; ")
			})
			if got := head.Header.Get("Cache-Status"); got != "ixmage; "+tc.head || head.StatusCode != http.StatusOK {
				t.Errorf("HEAD: got %s and %q, want %q", head.Status, got, tc.head)
			}
			var get *response
			eventually(t, "the fetch of the HEAD, which is answered sooner, has ended", func() bool {
				get = s.get(target)
				wantPicture(t, get, tc.obj.Body)
				return get.Header.Get("Cache-Status") != "ixmage; fwd=stale; collapsed"
			})
			if got := get.Header.Get("Cache-Status"); !strings.HasPrefix(got, "ixmage; "+tc.get) {
				t.Errorf("GET: got %q, want %q", got, tc.get)
			}
			if n := s.calls(tc.name); tc.name == "stale" && n != 2 {
				t.Errorf("S3 was asked %d times, want twice: by the first GET and by the HEAD", n)
			}
		})
	}
	t.Cleanup(func() { // after the parallel rows
		s.waitInFlight(0)
		if n := s.metric(`ixmage_cache_requests_total{alias="shop",cache="bypass"}`); n != 4 {
			t.Errorf("%v requests are counted as bypass, want a HEAD and a GET of each that is too large", n)
		}
	})
}

// headOf returns status and header, without the fields that differ in each answer.
func headOf(r *response) string {
	h := r.Header.Clone()
	for _, name := range []string{"Date", "X-Request-Id", "Age", "Cache-Status"} {
		h.Del(name)
	}
	var b strings.Builder
	h.Write(&b)
	return r.Status + "\n" + b.String()
}

// askedFor returns the method and Range of each request to S3 for a key.
func (s *env) askedFor(key string) (list []string) {
	for _, r := range s.s3.Requests() {
		if r.Key == "web/"+key {
			list = append(list, r.Method+" "+r.Header.Get("Range"))
		}
	}
	return list
}

// TestHeadOfUnknownLength: HEAD has no Content-Length if S3 sends none.
func TestHeadOfUnknownLength(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a.png", s3.Object{Body: png(100, "")})
	s.s3.Hook(func(*s3.Request) *s3.Fault {
		return &s3.Fault{Header: func(h http.Header) { h.Del("Content-Length") }}
	})
	text := s.dial().send("HEAD /shop/a.png HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").all()
	if !strings.HasPrefix(text, "HTTP/1.1 200 ") || strings.Contains(text, "Content-Length") || !strings.HasSuffix(text, "\r\n\r\n") {
		t.Errorf("got %q", text)
	}
}

// TestHeadKeepsConnection: HEAD leaves no byte on the connection.
func TestHeadKeepsConnection(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(1<<20, "")
	s.put("a.png", s3.Object{Body: body})
	w := s.dial()
	for _, target := range []string{"/shop/a.png", "/shop/none.png", "/shop/..", "/", "/-/healthz"} {
		w.send("HEAD " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if r := w.answer(http.MethodHead); r == nil || r.Close {
			t.Fatalf("%s: %s", target, summary(r))
		}
		wantPicture(t, w.send("GET /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n").answer(http.MethodGet), body)
	}
}

// TestHeadOfOneVersion: the first bytes, which decide the type, are of the same
// version as the headers, whether S3 obeys If-Match or not.
func TestHeadOfOneVersion(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	other := func(name, value string) *s3.Fault {
		return &s3.Fault{Header: func(h http.Header) { h.Set(name, value) }}
	}
	for _, tc := range []struct {
		name, etag string
		fault      *s3.Fault // to the ranged GET
		match      bool      // If-Match is sent
		status     int
	}{
		{"strong", `"1"`, nil, true, 200},
		{"weak", `W/"1"`, nil, false, 200},
		{"no-tag", `1`, nil, false, 200},
		{"replaced", `"1"`, s3.Replace(s3.Object{Body: png(5000, ""), ETag: `"2"`}), true, 502},
		{"ignored", `"1"`, other("ETag", `"2"`), true, 502},
		{"weak-and-other", `W/"1"`, other("ETag", `W/"2"`), false, 502},
		{"other-date", `W/"1"`, other("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT"), false, 502},
		{"other-size", `W/"1"`, other("Content-Range", "bytes 0-3071/5001"), false, 502},
		{"no-size", `"1"`, other("Content-Range", "bytes 0-3071/*"), true, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.put(tc.name, s3.Object{Body: png(5000, ""), ContentType: "binary/octet-stream", ETag: tc.etag})
			s.s3.Next("media", "web/"+tc.name, nil, tc.fault)
			if r := s.head("/shop/" + tc.name); r.StatusCode != tc.status {
				t.Errorf("got %s, want %d", r.Status, tc.status)
			}
			all := s.s3.Requests()
			if got := all[len(all)-1].Header.Get("If-Match"); (got != "") != tc.match {
				t.Errorf("S3 was sent the If-Match %q", got)
			}
		})
	}
}
