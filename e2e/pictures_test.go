package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// sample is a file that lies in a bucket.
type sample struct {
	name string
	kind string // its type by its extension; empty if it is no picture
	body []byte
}

var kinds = map[string]string{
	".apng": "image/apng", ".avif": "image/avif", ".bmp": "image/bmp", ".gif": "image/gif", ".heic": "image/heic",
	".ico": "image/x-icon", ".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".jxl": "image/jxl", ".png": "image/png",
	".svg": "image/svg+xml", ".tif": "image/tiff", ".tiff": "image/tiff", ".webp": "image/webp",
}

// realPictures are the files of a folder beside the repository, or of the one
// that IXMAGE_IMAGES names.
func realPictures(t *testing.T) []sample {
	t.Helper()
	dir := os.Getenv("IXMAGE_IMAGES")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "images")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED: no folder of real pictures (%v); name one in IXMAGE_IMAGES", err)
	}
	var all []sample
	for _, path := range filesIn(t, dir) {
		name := filepath.Base(path)
		all = append(all, sample{name, kinds[strings.ToLower(filepath.Ext(name))], readFile(t, path)})
	}
	return all
}

// generatedPictures are our own, and a text that is none.
func generatedPictures(*testing.T) []sample {
	all := []sample{{"notes.txt", "", []byte("These are notes, and no picture.\n")}}
	for _, p := range picture.Samples() {
		all = append(all, sample{p.Name, p.ContentType, p.Body})
	}
	return all
}

// TestPictures serves pictures of every format from a scripted S3 and from a
// real one: byte for byte and with their type, by every way an answer can take.
func TestPictures(t *testing.T) {
	t.Parallel()
	for set, samples := range map[string]func(*testing.T) []sample{"real": realPictures, "generated": generatedPictures} {
		t.Run(set+" pictures, scripted S3", func(t *testing.T) {
			t.Parallel()
			fakeS3 := s3.New(t)
			put := func(key string, obj s3.Object) { fakeS3.Put("pictures", key, obj) }
			s := start(t)
			s.createOn("p", fakeS3.URL, "pictures")
			servePictures(t, s, samples(t), put)
		})
		t.Run(set+" pictures, real S3", func(t *testing.T) {
			t.Parallel()
			gw, bucket := realS3(t), "pictures-"+strings.ToLower(rand.Text()) // it outlives this run of the test
			if err := gw.CreateBucket(t.Context(), bucket); err != nil {
				t.Fatal(err)
			}
			user, err := gw.ReadOnlyUser(t.Context(), bucket, bucket, "")
			if err != nil {
				t.Fatal(err)
			}
			put := func(key string, obj s3.Object) {
				if err := gw.PutObject(t.Context(), bucket, key, obj); err != nil {
					t.Fatal(err)
				}
			}
			s := start(t)
			s.create(map[string]any{
				"name": "p", "bucket": bucket, "endpoint": gw.S3URL, "path_style": true,
				"credential": pair(user.AccessKeyID, user.SecretAccessKey.Reveal()),
			})
			servePictures(t, s, samples(t), put)
		})
	}
}

func servePictures(t *testing.T, s *server, samples []sample, put func(string, s3.Object)) {
	pictures := 0
	for _, p := range samples {
		declared := p.kind
		if p.kind == "" {
			declared = "text/markdown"
		} else {
			pictures++
		}
		for way, contentType := range map[string]string{
			"declared": declared, "oddly": strings.ToUpper(declared) + " ; charset=binary", "generic": "binary/octet-stream", "octets": "application/octet-stream",
		} {
			t.Run(p.name+" "+way, func(t *testing.T) {
				obj := s3.Object{Body: p.body, ContentType: contentType}
				key := way + "/" + p.name
				for _, folder := range []string{"get/", "range/"} {
					put(folder+key, obj)
				}
				if p.kind == "" {
					refusePicture(t, s, "/p/get/"+key)
					return
				}
				v := viewer{t, s, p}
				v.gets("/p/get/" + key)
				v.beginsWithRange("/p/range/" + key)
			})
		}
	}
	if pictures == 0 || pictures == len(samples) {
		t.Errorf("%d pictures among %d files, want some and something else", pictures, len(samples))
	}
}

// refusePicture wants 415 for what is no picture, each time.
func refusePicture(t *testing.T, s *server, path string) {
	t.Helper()
	for _, r := range []*response{s.get(path), s.get(path, "Range", "bytes=0-9"), s.head(path), s.get(path)} {
		if r.StatusCode != http.StatusUnsupportedMediaType || r.Header.Get("Cache-Status") != "" {
			t.Errorf("%s: got %s and %q, want 415", r.Request.Method, r.Status, r.Header.Get("Cache-Status"))
		}
	}
}

// viewer asks for a picture and knows how it must look.
type viewer struct {
	t *testing.T
	*server
	sample
}

// gets is the way of most pictures: HEAD, a miss, hits, ranges of a hit.
func (v viewer) gets(path string) {
	v.t.Helper()
	v.whole("cold HEAD", v.head(path), "ixmage; fwd=uri-miss; fwd-status=200")
	v.whole("miss", v.get(path), "ixmage; fwd=uri-miss; fwd-status=200; stored")
	v.whole("hit", v.get(path), "ixmage; hit; ttl=")
	v.whole("hot HEAD", v.head(path), "ixmage; hit; ttl=")
	n := len(v.body)
	for _, r := range [][2]int{{0, 0}, {0, 3071}, {3070, 3075}, {1, n - 2}, {n / 2, n/2 + 999}, {n - 1, n - 1}, {0, n - 1}} {
		if r[1] = min(r[1], n-1); r[0] > r[1] {
			continue // in a picture that is smaller than this
		}
		header := fmt.Sprintf("bytes=%d-%d", r[0], r[1])
		v.part(header, v.get(path, "Range", header), r[0], r[1])
	}
	v.part("suffix", v.get(path, "Range", "bytes=-7"), n-7, n-1)
	v.part("from", v.get(path, "Range", fmt.Sprintf("bytes=%d-", n-3)), n-3, n-1)
	v.part("beyond", v.get(path, "Range", fmt.Sprintf("bytes=5-%d", n+1000)), 5, n-1)
	v.whole("several ranges", v.get(path, "Range", "bytes=0-1,4-5"), "ixmage; hit; ttl=")
	v.whole("HEAD with a range", v.head(path, "Range", "bytes=0-1"), "ixmage; hit; ttl=")
	if r := v.get(path, "Range", fmt.Sprintf("bytes=%d-", n)); r.StatusCode != http.StatusRequestedRangeNotSatisfiable ||
		r.Header.Get("Content-Range") != "bytes */"+strconv.Itoa(n) {
		v.t.Errorf("behind the end: got %s with Content-Range %q", r.Status, r.Header.Get("Content-Range"))
	}
}

// beginsWithRange asks for a part of a picture that is not in the cache yet.
func (v viewer) beginsWithRange(path string) {
	v.t.Helper()
	n := len(v.body)
	v.part("cold range", v.get(path, "Range", "bytes=10-99"), 10, 99)
	v.whole("after a cold range", v.get(path), "ixmage; hit; ttl=")
	v.part("hot range", v.get(path, "Range", "bytes=-20"), n-20, n-1)
}

// whole checks an answer that has, or stands for, the whole picture.
func (v viewer) whole(what string, r *response, cacheStatus string) {
	v.t.Helper()
	v.check(what, r, http.StatusOK, v.body)
	got := r.Header.Get("Cache-Status")
	if got != cacheStatus && (!strings.HasSuffix(cacheStatus, "=") || !strings.HasPrefix(got, cacheStatus)) {
		v.t.Errorf("%s: Cache-Status is %q, want %q", what, got, cacheStatus)
	}
}

// part checks an answer that has the bytes from first to last.
func (v viewer) part(what string, r *response, first, last int) {
	v.t.Helper()
	v.check(what, r, http.StatusPartialContent, v.body[first:last+1])
	if got, want := r.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", first, last, len(v.body)); got != want {
		v.t.Errorf("%s: Content-Range is %q, want %q", what, got, want)
	}
}

func (v viewer) check(what string, r *response, status int, body []byte) {
	v.t.Helper()
	if r.StatusCode != status || r.err != nil {
		v.t.Errorf("%s: got %s, error %v: %.200s", what, r.Status, r.err, r.body)
		return
	}
	sent := body
	if r.Request.Method == http.MethodHead {
		sent = nil
	}
	if !bytes.Equal(r.body, sent) {
		v.t.Errorf("%s: got %d bytes, want %d, all of them the same", what, len(r.body), len(sent))
	}
	for name, want := range map[string]string{
		"Content-Type": v.kind, "Content-Length": strconv.Itoa(len(body)), "Accept-Ranges": "bytes",
		"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
	} {
		if got := r.Header.Get(name); got != want {
			v.t.Errorf("%s: %s is %q, want %q", what, name, got, want)
		}
	}
	for _, name := range []string{"ETag", "Last-Modified", "X-Request-Id", "Age"} {
		if r.Header.Get(name) == "" {
			v.t.Errorf("%s: no %s", what, name)
		}
	}
}
