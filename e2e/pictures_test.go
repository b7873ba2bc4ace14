package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// TestPicture is the product in one test: a picture from a private bucket, read with the
// key of its alias, from S3 and then from memory.
func TestPicture(t *testing.T) {
	t.Parallel()
	gw := realS3(t)
	ctx := t.Context()
	if err := gw.CreateBucket(ctx, "picture"); err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("\x89PNG\r\n\x1a\n picture "), 4096)
	if err := gw.PutObject(ctx, "picture", "web/a.png", s3.Object{Body: body, ContentType: "image/png"}); err != nil {
		t.Fatal(err)
	}
	pair, err := gw.ReadOnlyUser(ctx, "picture", "picture", "web/")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t)
	s.create(map[string]any{
		"name": "shop", "bucket": "picture", "prefix": "web/", "endpoint": gw.S3URL, "path_style": true,
		"credential": map[string]string{"access_key_id": pair.AccessKeyID, "secret_access_key": pair.SecretAccessKey.Reveal()},
	})
	for _, want := range []string{"ixmage; fwd=uri-miss; fwd-status=200; stored", "ixmage; hit; ttl=35"} {
		r := s.get("/shop/a.png")
		if r.StatusCode != http.StatusOK || r.err != nil || !bytes.Equal(r.body, body) {
			t.Fatalf("got %s, %d bytes, error %v; want 200 and the picture", r.Status, len(r.body), r.err)
		}
		if got := r.Header.Get("Cache-Status"); !strings.HasPrefix(got, want) {
			t.Errorf("Cache-Status is %q, want %q…", got, want)
		}
	}
	s.waitInFlight(0)
	if got := s.metric(`ixmage_cache_requests_total{alias="shop",cache="hit"}`); got != 1 {
		t.Errorf("Prometheus counts %v hits, want 1", got)
	}
	if got := s.stop(); got != 0 {
		t.Errorf("exit status after SIGTERM is %d", got)
	}
	if _, err := os.Stat(filepath.Join(s.data, "registry.db")); err != nil {
		t.Error(err)
	}
}

// TestMetricsBeforeTheFirstRequest: series without an alias exist from the start,
// because rate() misses the first increment of a series that appears with it.
func TestMetricsBeforeTheFirstRequest(t *testing.T) {
	t.Parallel()
	s := start(t)
	text := "\n" + string(s.do(http.MethodGet, "http://"+s.admin+"/metrics", nil).body)
	for _, reason := range []string{"capacity", "expired", "replaced", "purged", "gone"} {
		if want := "\nixmage_cache_evictions_total{reason=\"" + reason + "\",tier=\"memory\"} 0\n"; !strings.Contains(text, want) {
			t.Errorf("no line %q", want)
		}
	}
	if n := strings.Count(text, "\nixmage_cache_evictions_total{"); n != 5 {
		t.Errorf("%d series of evictions, want 5", n)
	}
}

// sample is a file in a bucket.
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

// realPictures are the files of a folder beside the repository, or of the folder in
// IXMAGE_IMAGES.
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

// generatedPictures are our own pictures, and a text.
func generatedPictures(*testing.T) []sample {
	all := []sample{{"notes.txt", "", []byte("These are notes, and no picture.\n")}}
	for _, p := range picture.Samples() {
		all = append(all, sample{p.Name, p.ContentType, p.Body})
	}
	return all
}

// TestPictures serves pictures of every format from a scripted S3 and from a real one:
// byte for byte, with their type, in every way in which an answer is made.
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

// refusePicture wants 415 each time.
func refusePicture(t *testing.T, s *server, path string) {
	t.Helper()
	for _, r := range []*response{s.get(path), s.get(path, "Range", "bytes=0-9"), s.head(path), s.get(path)} {
		if r.StatusCode != http.StatusUnsupportedMediaType || r.Header.Get("Cache-Status") != "" {
			t.Errorf("%s: got %s and %q, want 415", r.Request.Method, r.Status, r.Header.Get("Cache-Status"))
		}
	}
}

// viewer requests a picture and knows the right answers.
type viewer struct {
	t *testing.T
	*server
	sample
}

// gets requests it by HEAD, as a miss, as hits, and by ranges of a hit.
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

// beginsWithRange requests a range of a picture that is not stored yet.
func (v viewer) beginsWithRange(path string) {
	v.t.Helper()
	n := len(v.body)
	v.part("cold range", v.get(path, "Range", "bytes=10-99"), 10, 99)
	after := "ixmage; hit; ttl="
	if n > perRequest { // the range was fetched by itself
		after = "ixmage; fwd=uri-miss; fwd-status=200; stored"
	}
	v.whole("after a cold range", v.get(path), after)
	v.part("hot range", v.get(path, "Range", "bytes=-20"), n-20, n-1)
}

// whole checks an answer for the whole picture.
func (v viewer) whole(what string, r *response, cacheStatus string) {
	v.t.Helper()
	v.check(what, r, http.StatusOK, v.body)
	got := r.Header.Get("Cache-Status")
	if got != cacheStatus && (!strings.HasSuffix(cacheStatus, "=") || !strings.HasPrefix(got, cacheStatus)) {
		v.t.Errorf("%s: Cache-Status is %q, want %q", what, got, cacheStatus)
	}
}

// part checks an answer with the bytes from first to last.
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

// hostile is an SVG that tries to run scripts, which leave a mark in the
// document, and to load things from the server at url.
func hostile(url string) []byte {
	return []byte(strings.ReplaceAll(`<?xml version="1.0"?>
<?xml-stylesheet type="text/css" href="URL/sheet.css"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="200" height="200"
  onload="document.documentElement.setAttribute('data-onload','ran')">
<style>@import url("URL/import.css"); rect { fill: url("URL/paint.svg#p") }</style>
<script>
document.documentElement.setAttribute('data-script','ran');
fetch('URL/fetch', {mode: 'no-cors'});
new Image().src = 'URL/image-of-script';
</script>
<script href="URL/script.js"/>
<image href="URL/image.png" width="10" height="10"/>
<image xlink:href="URL/xlink.png" width="10" height="10" onerror="document.documentElement.setAttribute('data-onerror','ran')"/>
<image href="data:image/png;base64,AAAA" width="10" height="10" onerror="document.documentElement.setAttribute('data-onerror','ran')"/>
<use href="URL/use.svg#u"/>
<filter id="f"><feImage href="URL/filter.png"/></filter>
<rect width="100" height="100" filter="url(#f)"/>
<foreignObject width="100" height="100">
<body xmlns="http://www.w3.org/1999/xhtml">
<iframe src="URL/frame"/><img src="URL/img.png"/><object data="URL/object"/><link rel="stylesheet" href="URL/link.css"/>
<form action="URL/form" id="form"><input name="a"/></form>
</body>
</foreignObject>
<text y="150">hostile</text>
</svg>
`, "URL", url))
}

// TestSVGInBrowser opens a hostile SVG in Chromium, as a user who follows a link does.
// From ixmage no part of it may run. Without our headers it must run, or the test would
// prove nothing.
func TestSVGInBrowser(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("SKIPPED: no chromium; install it to see what a browser does with a hostile SVG")
	}
	// A request of the first page may arrive when its browser has ended, so each side has a counter of its own.
	var asked, askedByOurs atomic.Int64
	outside := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/ours/") {
			askedByOurs.Add(1)
		} else {
			asked.Add(1)
		}
	}))
	defer outside.Close()
	svg := hostile(outside.URL + "/ours")
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/svg+xml")
		w.Write(hostile(outside.URL))
	}))
	defer plain.Close()
	fakeS3 := s3.New(t)
	fakeS3.Put("svg", "declared.svg", s3.Object{Body: svg, ContentType: "image/svg+xml"})
	fakeS3.Put("svg", "generic", s3.Object{Body: svg, ContentType: "binary/octet-stream"})
	s := start(t)
	s.createOn("shop", fakeS3.URL, "svg")

	dom := browse(t, chromium, plain.URL+"/hostile.svg")
	wantAll(t, "the document without our headers", dom, `data-script="ran"`, `data-onload="ran"`, `data-onerror="ran"`, ">hostile<")
	if asked.Load() < 3 {
		t.Errorf("without our headers the other server was asked %d times, want several", asked.Load())
	}
	for _, path := range []string{"/shop/declared.svg", "/shop/generic", "/shop/declared.svg?a=b"} {
		dom := browse(t, chromium, "http://"+s.public+path)
		wantAll(t, "the document", dom, ">hostile<") // it was shown at all
		if strings.Contains(dom, `="ran"`) {
			t.Errorf("%s: a script ran:\n%s", path, dom)
		}
	}
	if n := askedByOurs.Load(); n > 0 {
		t.Errorf("the other server was asked %d times", n)
	}
}

// browse opens a page in a fresh Chromium and returns its document after the
// load event.
func browse(t *testing.T, chromium, url string) string {
	t.Helper()
	profile, err := os.MkdirTemp("", "ixmage-chromium-") //nolint:usetesting // the browser may still write there when it has ended
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(profile)
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-sync", "--disable-extensions", "--no-first-run", "--no-proxy-server",
		"--user-data-dir="+profile, "--virtual-time-budget=2000", "--dump-dom", url)
	cmd.WaitDelay = 2 * time.Second // some of its processes end later
	got := runCommand(t, 5*time.Minute, cmd)
	if got.code != 0 {
		t.Fatalf("chromium: exit status %d\n%s", got.code, tail(got.stderr, 2<<10))
	}
	if got.stdout == "" {
		t.Fatalf("chromium shows nothing of %s:\n%s", url, tail(got.stderr, 2<<10))
	}
	return got.stdout
}
