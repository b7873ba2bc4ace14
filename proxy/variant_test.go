package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/signature"
	"ixmage/cache"
	"ixmage/proxy/transform"
)

// studio is a Transformer whose pictures are a text about their task.
type studio struct {
	mu     sync.Mutex
	jobs   int
	err    error
	off    error         // why no worker can be started
	killed bool          // each picture has killed a worker
	gate   chan struct{} // if set, a job waits for it
	begun  chan struct{} // if set, a job says that it has begun
}

func (s *studio) Do(_ context.Context, j transform.Job) (*transform.Result, error) {
	s.mu.Lock()
	s.jobs++
	n, err, gate, begun := s.jobs, s.err, s.gate, s.begun
	s.mu.Unlock()
	if begun != nil {
		begun <- struct{}{}
	}
	if gate != nil {
		<-gate
	}
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, j.Source.Reader); err != nil {
		return nil, err
	}
	w, h := j.Source.Width, j.Source.Height
	body := fmt.Sprintf("job %d of %d bytes: %s %dx%d", n, j.Source.Size, j.Task.Output, j.Task.Width, j.Task.Height)
	if j.Task.Output == transform.Raw {
		body = strings.Repeat("\x80\x40\x20", 16)
		return &transform.Result{Body: []byte(body), Width: 4, Height: 4, Frames: 1, Source: transform.SourceInfo{Width: w, Height: h, Orientation: 6, Frames: 1}}, nil
	}
	return &transform.Result{Body: []byte(body), Width: j.Task.Width, Height: j.Task.Height, Frames: 1, Source: transform.SourceInfo{Width: w, Height: h, Orientation: 1, Frames: 1}}, nil
}

func (s *studio) Busy() bool      { return false }
func (s *studio) Version() string { return "8.18.7" }

func (s *studio) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.off
}

func (s *studio) KilledBy(_ int64, source, _ string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return source != "" && s.killed
}

func (s *studio) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *studio) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs
}

// variantEnv is a proxy with the alias shop, whose pictures a studio transforms.
type variantEnv struct {
	*studio

	t     testing.TB
	proxy *Proxy
	url   string

	mu      sync.Mutex
	version int
	control string         // Cache-Control of S3
	weak    bool           // S3 gives weak entity tags
	down    bool           // S3 answers 500
	calls   map[string]int // by method
}

// variantKey is the secret of the signing key k1234567 of the alias.
var variantKey = strings.Repeat("k", 32)

func newVariantEnv(t testing.TB, change func(a *alias.Alias)) *variantEnv {
	t.Helper()
	var picture bytes.Buffer
	must(t, jpeg.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 400, 300)), nil))
	e := &variantEnv{studio: &studio{}, t: t, version: 1, calls: map[string]int{}}
	s3 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.calls[r.Method]++
		etag, down := fmt.Sprintf(`"%032d"`, e.version), e.down
		if e.weak {
			etag = "W/" + etag
		}
		if e.control != "" {
			w.Header().Set("Cache-Control", e.control)
		}
		e.mu.Unlock()
		w.Header().Set("ETag", etag)
		switch {
		case down:
			w.WriteHeader(http.StatusInternalServerError)
			return
		case strings.HasSuffix(r.URL.Path, "/gone.jpg"):
			w.WriteHeader(http.StatusNotFound)
			return
		case strings.HasSuffix(r.URL.Path, ".svg"):
			w.Header().Set("Content-Type", "image/svg+xml")
			io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg"/>`)
			return
		case r.Header.Get("If-None-Match") == etag:
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "image/jpeg")
		w.Header().Set("Content-Length", fmt.Sprint(picture.Len()))
		if r.Method == http.MethodGet {
			w.Write(picture.Bytes())
		}
	}))
	t.Cleanup(s3.Close)
	e.proxy = newProxyBefore(t, s3.URL, nil)
	e.proxy.transforms, e.proxy.queries = e.studio, newQueries(e.Version())
	e.change(func(a *alias.Alias) {
		a.Transforms, a.Access, a.Widths = alias.TransformsTemplates, alias.AccessOpen, alias.DefaultWidths()
		a.Templates = map[string]string{"thumb": "h=90&w=120", "wide": "h=50"}
		a.NegativeTTL = time.Hour
		if change != nil {
			change(a)
		}
	})
	e.trust()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- e.proxy.Serve(ln) }()
	t.Cleanup(func() {
		must(t, e.proxy.app.Server().Shutdown())
		must(t, <-done)
	})
	e.url = "http://" + ln.Addr().String()
	e.get("/-/healthz") // Shutdown does not end a server that has not begun
	return e
}

func (e *variantEnv) change(change func(a *alias.Alias)) {
	e.t.Helper()
	_, err := e.proxy.registry.UpdateAlias(e.t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
		change(a)
		return nil
	})
	must(e.t, err)
}

// trust gives the alias the signing key, until it is changed.
func (e *variantEnv) trust() {
	e.t.Helper()
	route, _ := e.proxy.registry.Lookup("shop")
	key, err := signature.NewKey("k1234567", []byte(variantKey))
	must(e.t, err)
	e.proxy.keys.byAlias.Add(route.Alias.ID, verifiers{
		route.Alias, []*signature.Key{key}, map[string]*atomic.Int64{"k1234567": {}},
	})
}

// sign returns the query with a signature that ends at exp.
func (e *variantEnv) sign(path, query string, exp time.Time) string {
	e.t.Helper()
	key, err := signature.NewKey("k1234567", []byte(variantKey))
	must(e.t, err)
	signed, err := key.Sign(path, query, exp)
	must(e.t, err)
	return signed
}

type variantAnswer struct {
	status int
	header http.Header
	body   string
}

func (e *variantEnv) get(target string, headers ...string) variantAnswer {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, e.url+target, nil)
	must(e.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	must(e.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(e.t, err)
	return variantAnswer{resp.StatusCode, resp.Header, string(body)}
}

// dropEntry makes the cache forget an object that is not fresh, and none of its variants.
func (e *variantEnv) dropEntry(key cache.Key) {
	e.t.Helper()
	_, err := e.proxy.cache.Get(e.t.Context(), key, func(context.Context, *cache.Entry) (*cache.Source, error) {
		return nil, &cache.NotFound{Err: errVersionGone}
	})
	if !errors.Is(err, errVersionGone) {
		e.t.Fatal(err)
	}
}

func (e *variantEnv) requests(method string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[method]
}

// TestVariantTerms: who may ask for what.
func TestVariantTerms(t *testing.T) {
	t.Parallel()
	const original, signed = "original", true
	for _, row := range []struct {
		transforms alias.Transforms
		access     alias.Access
		query      string
		signed     bool
		status     int
		want       string // a part of the body
	}{
		{alias.TransformsOff, alias.AccessOpen, "w=abc&t=none", !signed, 200, original},
		{alias.TransformsOff, alias.AccessOpen, "sig=none", !signed, 200, original},
		{alias.TransformsTemplates, alias.AccessOpen, "", !signed, 200, original},
		{alias.TransformsTemplates, alias.AccessOpen, "v=2&utm_source=x", !signed, 200, original},
		{alias.TransformsTemplates, alias.AccessOpen, "w=101", !signed, 200, " 120x0"},
		{alias.TransformsTemplates, alias.AccessOpen, "w=3841", !signed, 400, "bad-option"},
		{alias.TransformsTemplates, alias.AccessOpen, "w=101", signed, 200, " 101x0"},
		{alias.TransformsTemplates, alias.AccessOpen, "t=thumb", !signed, 200, " 120x90"},
		{alias.TransformsTemplates, alias.AccessOpen, "t=thumb&w=500", !signed, 200, " 120x90"},
		{alias.TransformsTemplates, alias.AccessOpen, "t=wide&w=55", !signed, 200, " 60x50"},
		{alias.TransformsTemplates, alias.AccessOpen, "t=none", !signed, 400, "must be the name of a template"},
		{alias.TransformsTemplates, alias.AccessOpen, "w=1e2", !signed, 400, "bad-option"},
		{alias.TransformsTemplates, alias.AccessOpen, "w=100&w=100", !signed, 400, "bad-option"},
		{alias.TransformsTemplates, alias.AccessOpen, "h=100", !signed, 403, "signature"},
		{alias.TransformsTemplates, alias.AccessOpen, "info=1", !signed, 403, "signature"},
		{alias.TransformsTemplates, alias.AccessOpen, "h=100", signed, 200, " 0x100"},
		{alias.TransformsTemplates, alias.AccessOpen, "w=120&sig=none", !signed, 403, "signature"},
		{alias.TransformsSigned, alias.AccessOpen, "", !signed, 200, original},
		{alias.TransformsSigned, alias.AccessOpen, "t=thumb", !signed, 403, "signature"},
		{alias.TransformsSigned, alias.AccessOpen, "t=none", !signed, 403, "signature"}, // strangers cannot find out which there are
		{alias.TransformsSigned, alias.AccessOpen, "w=120", !signed, 403, "signature"},
		{alias.TransformsSigned, alias.AccessOpen, "w=121", signed, 200, " 121x0"},
		{alias.TransformsOpen, alias.AccessOpen, "w=121&h=7", !signed, 200, " 121x7"},
		{alias.TransformsOpen, alias.AccessOpen, "w=121&sig=none", !signed, 200, " 121x0"},
		{alias.TransformsOpen, alias.AccessSigned, "w=121", !signed, 403, "signature"},
		{alias.TransformsOpen, alias.AccessSigned, "w=121", signed, 200, " 121x0"},
		{alias.TransformsOpen, alias.AccessOpen, "w=1&wm=" + strings.Repeat("a", 1025), !signed, 400, "bad-option"},
		{alias.TransformsOff, alias.AccessSigned, "", !signed, 403, "signature"},
		{alias.TransformsOff, alias.AccessSigned, "w=121", signed, 200, original},
	} {
		t.Run(fmt.Sprint(row.transforms, row.access, row.query, row.signed), func(t *testing.T) {
			t.Parallel()
			e := newVariantEnv(t, func(a *alias.Alias) { a.Transforms, a.Access = row.transforms, row.access })
			query := row.query
			if row.signed {
				query = e.sign("/shop/a.jpg", query, time.Time{})
			}
			got := e.get("/shop/a.jpg?" + query)
			isOriginal := strings.HasPrefix(got.body, "\xff\xd8")
			if got.status != row.status || isOriginal != (row.want == original) || !isOriginal && !strings.Contains(got.body, row.want) {
				t.Errorf("got %d %.200q, want %d %q", got.status, got.body, row.status, row.want)
			}
		})
	}
}

// TestVariantWithoutWidths: without a ladder, every width needs a signature, and templates do not.
func TestVariantWithoutWidths(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, func(a *alias.Alias) { a.Widths = nil })
	for query, status := range map[string]int{
		"": 200, "w=100": 403, "t=thumb": 200, "t=thumb&w=100": 403, e.sign("/shop/a.jpg", "w=100", time.Time{}): 200,
	} {
		if got := e.get("/shop/a.jpg?" + query); got.status != status {
			t.Errorf("%s: got %d %.200q, want %d", query, got.status, got.body, status)
		}
	}
}

// TestVariantWithoutWorker: without workers a query changes nothing, but a locked alias stays locked.
func TestVariantWithoutWorker(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, nil)
	e.proxy.transforms = nil
	if got := e.get("/shop/a.jpg?w=abc&h=1"); got.status != 200 || got.header.Get("Vary") != "" {
		t.Errorf("got %d, Vary %q", got.status, got.header.Get("Vary"))
	}
	e = newVariantEnv(t, func(a *alias.Alias) { a.Access = alias.AccessSigned })
	e.proxy.transforms = nil
	if got := e.get("/shop/a.jpg?w=abc"); got.status != 403 {
		t.Errorf("got %d from a locked alias", got.status)
	}
}

// TestVariantOfOtherClient: a client that has used up its time does not have others refused that wait
// for the same variant.
func TestVariantOfOtherClient(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, nil)
	e.gate, e.begun = make(chan struct{}), make(chan struct{}, 100)
	e.err = &transform.LimitedError{Client: true, RetryAfter: time.Second}
	route, _ := e.proxy.registry.Lookup("shop")
	o, _, err := transform.Parse([]byte("w=120"))
	must(t, err)
	v := &variant{object: "a.jpg", options: &o, name: nameVariant(o, 0, e.Version())}
	limited, got := make(chan error, 1), make(chan variantAnswer, 1)
	go func() {
		_, err := e.proxy.cache.Get(t.Context(), v.key(route.Alias), e.proxy.loadVariant(route, v, "198.51.100.7", nil))
		limited <- err
	}()
	<-e.begun
	go func() { got <- e.get("/shop/a.jpg?w=120") }()
	for range 50 { // meanwhile the request joins
		e.get("/-/healthz")
	}
	e.set(func() { e.err = nil })
	close(e.gate)
	if err := <-limited; !errors.Is(err, transform.ErrLimited) {
		t.Errorf("the other client: %v", err)
	}
	if got := <-got; got.status != 200 || e.count() != 2 {
		t.Errorf("got %d %s after %d jobs, want 200 after 2", got.status, got.body, e.count())
	}
}

// TestVariantResults: a result that is not shared counts until its client has it, and beyond a bound no
// job begins.
func TestVariantResults(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, nil)
	e.control = "no-store"
	held := &e.proxy.results
	for _, query := range []string{"w=60", "w=120", "t=thumb"} {
		if got := e.get("/shop/a.jpg?" + query); got.status != 200 {
			t.Fatalf("%s: %d %s", query, got.status, got.body)
		}
	}
	for held.Load() > 0 { // the server may have to end the answer
		runtime.Gosched()
	}
	jobs := e.count()
	body := newResult(make([]byte, maxResults), held)
	if got := e.get("/shop/a.jpg?w=60"); got.status != 503 || e.count() != jobs {
		t.Errorf("got %d after %d more jobs, want 503 and none", got.status, e.count()-jobs)
	}
	must(t, body.Close())
	must(t, body.Close())
	if got := e.get("/shop/a.jpg?w=60"); got.status != 200 || held.Load() < 0 {
		t.Errorf("got %d, and %d bytes are held", got.status, held.Load())
	}
}

// TestPlaceholderOfLockedAlias: it is as private as the picture, and no cache keeps it for longer than
// the URL lasts.
func TestPlaceholderOfLockedAlias(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, func(a *alias.Alias) { a.Access, a.Fallback.Missing = alias.AccessSigned, "a.jpg" })
	for query, want := range map[string]string{"": "private, max-age=3600", "w=100": "private, max-age=3600"} {
		got := e.get("/shop/gone.jpg?" + e.sign("/shop/gone.jpg", query, time.Time{}))
		if control := got.header.Get("Cache-Control"); got.status != 404 || control != want || !strings.HasPrefix(got.body, "\xff\xd8") {
			t.Errorf("%q: %d with %q, want the placeholder with %q", query, got.status, control, want)
		}
	}
	got := e.get("/shop/gone.jpg?" + e.sign("/shop/gone.jpg", "", time.Now().Add(time.Minute)))
	var age int
	if control := got.header.Get("Cache-Control"); got.status != 404 {
		t.Errorf("status %d", got.status)
	} else if _, err := fmt.Sscanf(control, "private, max-age=%d", &age); err != nil || age > 60 {
		t.Errorf("a placeholder with %q, and a URL that ends in a minute", control)
	}
}

// TestVariantOnce: one job and one request to S3 serve all who ask at the same time, and those after
// them. Another spelling is the same variant, another Accept another one.
func TestVariantOnce(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, func(a *alias.Alias) { a.Transforms = alias.TransformsOpen })
	e.gate, e.begun = make(chan struct{}), make(chan struct{}, 100)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := e.get("/shop/a.jpg?w=100"); got.body != "job 1 of 2087 bytes: jpeg 100x0" && !strings.HasPrefix(got.body, "job 1 of") {
				t.Errorf("got %d %q", got.status, got.body)
			}
		})
	}
	<-e.begun
	close(e.gate)
	wg.Wait()
	for _, target := range []string{"/shop/a.jpg?w=50&dpr=2", "/shop/a.jpg?utm_source=x&width=100&v=3"} {
		got := e.get(target)
		if !strings.HasPrefix(got.body, "job 1 ") || !strings.HasPrefix(got.header.Get("Cache-Status"), "ixmage; hit") || got.header.Get("Vary") != "Accept" {
			t.Errorf("%s: %q %v", target, got.body, got.header)
		}
	}
	got := e.get("/shop/a.jpg?w=100", "Accept", "image/webp")
	if got.header.Get("Content-Type") != "image/webp" || e.count() != 2 || e.requests("GET") != 1 {
		t.Errorf("%q after %d jobs and %d requests", got.header.Get("Content-Type"), e.count(), e.requests("GET"))
	}
	if got := e.get("/shop/a.jpg?w=100&f=png", "Accept", "image/webp"); got.header.Get("Vary") != "" || got.header.Get("Content-Type") != "image/png" {
		t.Errorf("f=png: %v", got.header)
	}
}

// TestVariantRevalidated: a variant that is not fresh is confirmed by a question to S3 about its
// object, without a job, as long as the object is the same: by a HEAD if the object is not stored,
// else by the ordinary revalidation of the object.
func TestVariantRevalidated(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprint(stored), func(t *testing.T) {
			t.Parallel()
			e := newVariantEnv(t, func(a *alias.Alias) { a.Transforms = alias.TransformsOpen })
			e.mu.Lock()
			e.control = "no-cache"
			e.mu.Unlock()
			route, _ := e.proxy.registry.Lookup("shop")
			object := keyOf(route.Alias, "a.jpg")
			first := e.get("/shop/a.jpg?w=100")
			for range 3 {
				if !stored {
					e.dropEntry(object)
				}
				got := e.get("/shop/a.jpg?w=100")
				if got.body != first.body || got.header.Get("ETag") != first.header.Get("ETag") || got.header.Get("Cache-Status") != "ixmage; fwd=stale; fwd-status=304" {
					t.Errorf("got %q %v", got.body, got.header)
				}
			}
			if heads := e.requests("HEAD"); e.count() != 1 || (heads == 3) == stored {
				t.Errorf("%d jobs, %d HEAD, %d GET", e.count(), heads, e.requests("GET"))
			}
			e.mu.Lock()
			e.version++
			e.mu.Unlock()
			if got := e.get("/shop/a.jpg?w=100"); !strings.HasPrefix(got.body, "job 2 ") || got.header.Get("ETag") == first.header.Get("ETag") {
				t.Errorf("a new version: %q %v", got.body, got.header)
			}
		})
	}
}

// TestVariantOfWeakTag: a variant of another version has another entity tag, also if S3 gives its object,
// or the watermark, a weak tag or none.
func TestVariantOfWeakTag(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, func(a *alias.Alias) { a.Transforms = alias.TransformsOpen })
	e.mu.Lock()
	e.control, e.weak = "no-cache", true
	e.mu.Unlock()
	first := e.get("/shop/a.jpg?w=100").header.Get("ETag")
	e.mu.Lock()
	e.version++
	e.mu.Unlock()
	if got := e.get("/shop/a.jpg?w=100", "If-None-Match", first); got.status != 200 || got.header.Get("ETag") == first {
		t.Errorf("a new version: %d %v", got.status, got.header)
	}
	strong, none, other := &object{validators: validators{etag: `"a"`}}, &object{size: 1}, &object{size: 2}
	if versionsOf(strong, none) == versionsOf(strong, other) {
		t.Error("another watermark without a tag is the same version")
	}
}

// TestVariantStale: while S3 fails, a variant is served stale, and says so as its object does.
func TestVariantStale(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, func(a *alias.Alias) {
		a.Transforms, a.StaleIfError = alias.TransformsOpen, time.Hour
	})
	e.mu.Lock()
	e.control = "max-age=0"
	e.mu.Unlock()
	for _, target := range []string{"/shop/a.jpg", "/shop/a.jpg?w=100"} {
		e.get(target)
	}
	jobs := e.count()
	e.mu.Lock()
	e.down = true
	e.mu.Unlock()
	for _, target := range []string{"/shop/a.jpg", "/shop/a.jpg?w=100", "/shop/a.jpg?w=100"} {
		got := e.get(target)
		if status := got.header.Get("Cache-Status"); got.status != 200 || !strings.HasPrefix(status, "ixmage; hit; ttl=-") {
			t.Errorf("%s: %d, %q", target, got.status, status)
		}
	}
	if e.count() != jobs {
		t.Errorf("%d jobs while S3 fails", e.count()-jobs)
	}
}

// TestVariantFails: each failure has its answer, and those of the picture are remembered.
func TestVariantFails(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		err    error
		status int
		code   string
		detail string
		jobs   int // of two requests
	}{
		{&transform.RefusedError{Why: transform.Broken}, 422, "transform-failed", "the picture is broken or truncated", 1},
		{&transform.RefusedError{Why: transform.TooLarge}, 422, "transform-failed", "the picture is too large to be transformed", 1},
		{&transform.RefusedError{Why: transform.CropOutside}, 400, "bad-option", "crop leaves nothing of the picture", 1},
		{transform.ErrTimeout, 422, "transform-failed", "the picture takes too much time or memory", 1},
		{transform.ErrCrashed, 422, "transform-failed", "the picture takes too much time or memory", 1},
		{transform.ErrRemembered, 422, "transform-failed", "the picture takes too much time or memory", 1},
		{transform.ErrInternal, 422, "transform-failed", "", 1},
		{transform.ErrSlowSource, 504, "origin-timeout", "", 2},
		{transform.ErrOverloaded, 503, "overloaded", "", 2},
		{transform.ErrOff, 503, "overloaded", "", 2},
		{&transform.LimitedError{RetryAfter: 7 * time.Second}, 429, "transform-limit", "", 2},
	} {
		t.Run(row.err.Error(), func(t *testing.T) {
			t.Parallel()
			e := newVariantEnv(t, nil)
			e.err = row.err
			e.get("/shop/a.jpg?w=120")
			got := e.get("/shop/a.jpg?w=120")
			if got.status != row.status || !strings.Contains(got.body, "/"+row.code+`"`) || e.count() != row.jobs {
				t.Errorf("got %d %s after %d jobs, want %d %s after %d", got.status, got.body, e.count(), row.status, row.code, row.jobs)
			}
			if has := strings.Contains(got.body, `"detail":"`+row.detail); row.detail == "" && has || row.detail != "" && !has {
				t.Errorf("got %s, want the detail %q", got.body, row.detail)
			}
			if retry := got.header.Get("Retry-After"); row.status == 429 && retry != "7" || row.status == 503 && retry == "" {
				t.Errorf("Retry-After is %q", retry)
			}
			if original := e.get("/shop/a.jpg"); original.status != 200 {
				t.Errorf("the original: %d", original.status)
			}
		})
	}
	e := newVariantEnv(t, nil)
	for range 2 {
		if got := e.get("/shop/gone.jpg?w=120"); got.status != 404 || e.requests("GET") != 1 {
			t.Errorf("a variant of a missing object: %d after %d requests to S3", got.status, e.requests("GET"))
		}
	}
	e.get("/shop/gone.jpg?w=250") // which learns of it from the object's negative entry
	if n := e.requests("GET"); n != 1 {
		t.Errorf("%d requests to S3", n)
	}
}

// TestVariantAsStored: a picture that is never decoded is served as it is.
func TestVariantAsStored(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, func(a *alias.Alias) { a.Transforms = alias.TransformsOpen })
	for range 2 {
		got := e.get("/shop/logo.svg?w=120&f=webp")
		if got.status != 200 || got.header.Get("Content-Type") != "image/svg+xml" || !strings.HasPrefix(got.body, "<svg") {
			t.Errorf("got %d %v", got.status, got.header)
		}
		if got = e.get("/shop/logo.svg?w=120"); got.status != 200 || got.header.Get("Vary") != "" { // for every Accept
			t.Errorf("got %d %v", got.status, got.header)
		}
	}
	if n := e.requests("GET"); e.count() != 0 || n != 1 {
		t.Errorf("%d jobs, %d requests to S3", e.count(), n)
	}
	if got := e.get("/shop/logo.svg?info=1"); got.status != 422 {
		t.Errorf("info: %d", got.status)
	}
}

// TestVariantInfo: the description is that of the upright picture.
func TestVariantInfo(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, func(a *alias.Alias) { a.Transforms = alias.TransformsOpen })
	got := e.get("/shop/a.jpg?info=1", "Accept", "image/webp")
	var info struct {
		Width, Height, Orientation int
		Type, Color                string
	}
	must(t, json.Unmarshal([]byte(got.body), &info))
	if got.header.Get("Content-Type") != "application/json" || got.header.Get("Vary") != "" || info.Width != 300 || info.Height != 400 ||
		info.Orientation != 6 || info.Type != "image/jpeg" || info.Color != "#804020" {
		t.Errorf("got %s, %v", got.body, got.header)
	}
	if got := e.get("/shop/a.jpg?lqip=blurhash"); got.header.Get("Content-Type") != transform.TypeText || len(got.body) < 6 {
		t.Errorf("got %q %v", got.body, got.header)
	}
}

// TestTermsLimit: what caches may do with an answer to a signed URL.
func TestTermsLimit(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, row := range []struct {
		control string
		signed  bool
		left    time.Duration // 0: the URL has no end
		age     int64
		want    string
	}{
		{"public, max-age=3600", true, 0, 0, "private, max-age=3600"},
		{"public, max-age=3600", true, time.Minute, 0, "private, max-age=60"},
		{"public, max-age=3600", true, time.Minute, 600, "private, max-age=660"},
		{"public, max-age=30", true, time.Minute, 0, "private, max-age=30"},
		{"public, max-age=3600", false, time.Minute, 0, "public, max-age=60"},
		{"s-maxage=3600, max-age=30", false, time.Minute, 0, "s-maxage=60, max-age=30"},
		{"s-maxage=3600", true, time.Minute, 0, "private, max-age=60"},
		{"no-cache", false, time.Minute, 0, "no-cache, max-age=60"},
		{"max-age=3600, stale-if-error=9, stale-while-revalidate=9", false, time.Minute, 0, "max-age=60"},
		{"max-age=3600, stale-if-error=9", false, 0, 0, "max-age=3600, stale-if-error=9"},
		{"no-store", false, time.Minute, 0, "no-store"},
		{"public, max-age=3600", false, -time.Minute, 0, "public, max-age=0"},
	} {
		terms := terms{signed: row.signed}
		if row.left != 0 {
			terms.until = now.Add(row.left)
		}
		if got := string(terms.limit([]byte(row.control), row.age, now)); got != row.want {
			t.Errorf("%q for %s: %q, want %q", row.control, row.left, got, row.want)
		}
	}
}

// TestStoredVariant: the disk tier keeps what a variant was made of.
func TestStoredVariant(t *testing.T) {
	t.Parallel()
	a := alias.New()
	o := &object{validators: validators{etag: `"v"`}, size: 7, contentType: []byte(transform.TypeJSON), variant: true, madeOf: `"a""b"`}
	b := ObjectCodec{}.Encode(o)
	got, err := decodeObject(b, a)
	must(t, err)
	if !got.variant || got.madeOf != o.madeOf || string(got.contentType) != transform.TypeJSON {
		t.Errorf("got %+v", got)
	}
	o.variant = false
	if _, err := decodeObject(ObjectCodec{}.Encode(o), a); !errors.Is(err, errStored) {
		t.Errorf("an object that is JSON: %v", err)
	}
}
