package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/s3"
)

// TestStaleWhileRevalidate: a stale object is served at once and refreshed in the
// background.
func TestStaleWhileRevalidate(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"1h"}`)
	old, young := png(100, ""), png(200, "")
	s.put("a.png", s3.Object{Body: old})
	wantPicture(t, s.get("/shop/a.png"), old)
	s.put("a.png", s3.Object{Body: young})
	var stale *response
	eventually(t, "it is stale", func() bool {
		r := s.get("/shop/a.png")
		if strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit; ttl=-") {
			stale = r
		}
		return stale != nil
	})
	wantPicture(t, stale, old)
	if age := stale.Header.Get("Age"); age == "0" {
		t.Errorf("Age is %s", age)
	}
	eventually(t, "it is new", func() bool { return len(s.get("/shop/a.png").body) == len(young) })
	s.waitInFlight(0)
	if s.metric(`ixmage_cache_requests_total{alias="shop",cache="stale"}`) < 1 {
		t.Error("no stale answer is counted")
	}
}

// TestHeadOfStale: HEAD of a stale object ignores Range, fetches a changed object
// once, and stores it for GET.
func TestHeadOfStale(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"stale_while_revalidate":"0s"}`)
	s.put("a.png", s3.Object{Body: png(100, ""), CacheControl: "max-age=1"})
	wantPicture(t, s.get("/shop/a.png"), png(100, ""))
	s.put("a.png", s3.Object{Body: png(2_000_000, "")})
	var head *response
	eventually(t, "it is stale", func() bool {
		head = s.head("/shop/a.png", "Range", "bytes=0-9")
		return head.ContentLength != 100
	})
	if head.StatusCode != http.StatusOK || head.ContentLength != 2_000_000 {
		t.Errorf("got %s, length %d", summary(head), head.ContentLength)
	}
	wantPicture(t, s.get("/shop/a.png"), png(2_000_000, ""))
	if n := s.calls("a.png"); n != 2 {
		t.Errorf("S3 was asked %d times, want twice", n)
	}
}

// staleFault is a fault of S3 during the refresh of a changed picture, and what
// must happen to the stored one.
type staleFault struct {
	name    string
	fault   *s3.Fault
	canary  *s3.Fault    // for the alias's canary; nil: there is no canary
	gone    bool         // the server refuses connections
	failure *expectation // the answer where no stale object may be served
	old     bool         // the stale object is served where it may be
	drops   bool         // the stored object is removed
	notes   bool         // a negative entry is stored
}

// staleFaults is the table. An answer that breaks in the middle cannot be replaced
// by the stored one.
func staleFaults() []staleFault {
	fails := func(status int, code string) *expectation { return fails(status, code, 0, "") }
	code := s3.Fail
	silence := func(place int64) *s3.Fault { return s3.StallAfter(place, nil) }
	typed := func(f *s3.Fault, contentType string) *s3.Fault {
		f.Header = func(h http.Header) { h.Set("Content-Type", contentType) }
		return f
	}
	readable := &s3.Fault{}
	return []staleFault{
		{name: "500", fault: code("InternalError"), failure: fails(502, "origin-error"), old: true},
		{name: "503 without a code", fault: &s3.Fault{Status: 503, Body: []byte{}}, failure: fails(502, "origin-error"), old: true},
		{name: "503 without a cause", fault: code("ServiceUnavailable"), failure: fails(502, "origin-error"), old: true},
		{name: "throttled", fault: code("SlowDown"), failure: fails(503, "origin-throttled"), old: true},
		{name: "silent", fault: silence(s3.BeforeHeaders), failure: fails(504, "origin-timeout"), old: true},
		{name: "silent before the body", fault: silence(0), failure: fails(504, "origin-timeout"), old: true},
		{name: "given up by S3", fault: code("RequestTimeout"), failure: fails(504, "origin-timeout"), old: true},
		{name: "refused", gone: true, failure: fails(502, "origin-unreachable"), old: true},
		{name: "reset", fault: s3.ResetAfter(s3.BeforeHeaders), failure: fails(502, "origin-unreachable"), old: true},
		{name: "no HTTP", fault: s3.NoHTTP(), failure: fails(502, "origin-error"), old: true},
		{name: "truncated at its start", fault: s3.CloseAfter(0), failure: fails(502, "origin-unreachable"), old: true},
		{name: "truncated", fault: s3.CloseAfter(50_000), failure: cut(0, "")},
		{name: "corrupt", fault: s3.WrongChecksum(), failure: cut(0, "")},
		// A small object is read completely before the answer begins.
		{name: "corrupt and small", fault: corruptAndUntyped(), failure: fails(502, "origin-error"), old: true},
		{name: "key unknown", fault: code("InvalidAccessKeyId"), failure: fails(502, "origin-credential"), old: true},
		{name: "signature", fault: code("SignatureDoesNotMatch"), failure: fails(502, "origin-credential"), old: true},
		{name: "expired", fault: code("ExpiredToken"), failure: fails(502, "origin-credential"), old: true},
		{name: "denied, canary red", fault: code("AccessDenied"), canary: code("AccessDenied"), failure: fails(502, "origin-denied"), old: true},
		{name: "denied, canary inconclusive", fault: code("AccessDenied"), canary: code("InternalError"), failure: fails(404, "not-found"), old: true},
		{name: "denied, canary green", fault: code("AccessDenied"), canary: readable, failure: fails(404, "not-found"), drops: true, notes: true},
		{name: "denied, no canary", fault: code("AccessDenied"), failure: fails(404, "not-found"), drops: true, notes: true},
		{name: "missing", fault: code("NoSuchKey"), failure: fails(404, "not-found"), drops: true, notes: true},
		{name: "no bucket", fault: code("NoSuchBucket"), failure: fails(502, "origin-error"), old: true},
		{name: "a page", fault: typed(&s3.Fault{}, "text/html"), failure: fails(415, "not-an-image"), drops: true},
		{name: "an error that bears a picture's type", fault: typed(s3.XML200(), "image/png"), failure: fails(415, "not-an-image"), old: true},
	}
}

func corruptAndUntyped() *s3.Fault {
	f := s3.WrongChecksum()
	f.Object = &s3.Object{Body: png(108, "small")} // S3's own type is the generic one
	return f
}

// staleObject is an object of a staleFault, on its own alias.
type staleObject struct {
	*staleFault
	given
	alias, file string
}

func (r *staleObject) path() string { return "/" + r.alias + "/" + r.file }

// cold: it is not stored. mayBeOld: it may be served stale.
func (r *staleObject) cold() bool { return r.file == "cold.png" }

func (r *staleObject) mayBeOld() bool { return r.file == "a.png" && strings.HasPrefix(r.alias, "on-") }

// staleEnv is a server with all faults at once, so that those that end with a
// deadline wait together.
type staleEnv struct {
	*env
	t          *testing.T
	line       *netfault.Proxy
	old, young []byte
	objects    []*staleObject
	broken     atomic.Bool
}

// TestStaleFaults has S3 fail in every way while the stored object is stale. The old
// object is served where the alias allows it and S3 has not said that the object is
// gone. As soon as S3 works again, clients get the new picture.
func TestStaleFaults(t *testing.T) {
	t.Parallel()
	o := &staleEnv{
		env: newEnv(t, append(quickOrigin, "--breaker-failures", "0", "--canary-fresh", "1ms", "--canary-interval", "1h")...),
		t:   t, old: png(faultSize, "old"), young: png(faultSize-1000, "young"),
	}
	o.line = netfault.New(t, strings.TrimPrefix(o.s3.URL, "http://"))
	byAlias := map[string]*staleFault{}
	rows := staleFaults()
	for i := range rows {
		for _, mode := range []string{"on", "off"} {
			name := fmt.Sprintf("%s-%02d", mode, i)
			byAlias[name] = &rows[i]
			o.expose(name, &rows[i])
		}
	}
	o.s3.Hook(func(r *s3.Request) *s3.Fault {
		name, file, _ := strings.Cut(r.Key, "/")
		switch tr := byAlias[name]; {
		case tr == nil || !o.broken.Load():
			return nil
		case file == "canary.png":
			return tr.canary
		default:
			return tr.fault
		}
	})
	o.age()
	o.askBroken()
	o.check()
	o.end()
}

// expose creates an alias for a fault and stores its objects.
func (o *staleEnv) expose(name string, tr *staleFault) {
	o.t.Helper()
	files := []string{"a.png", "cold.png"}
	more := map[string]any{"ttl": "1s", "negative_ttl": "1h", "stale_while_revalidate": "0s", "stale_if_error": "0s"}
	if strings.HasPrefix(name, "on-") {
		files = append(files, "bound.png") // must be revalidated, whatever the alias allows
		more["stale_if_error"] = "1h"
	}
	if tr.canary != nil {
		more["canary"] = "canary.png"
	}
	if tr.gone {
		more["endpoint"] = o.line.URL
	}
	o.open(name, "media", name+"/", more)
	o.place(name+"/canary.png", o.old)
	for _, file := range files {
		o.objects = append(o.objects, &staleObject{staleFault: tr, given: given{method: "get"}, alias: name, file: file})
		o.place(name+"/"+file, o.old)
	}
}

func (o *staleEnv) place(key string, body []byte) {
	obj := s3.Object{Body: body, ContentType: "image/png"}
	if strings.HasSuffix(key, "bound.png") {
		obj.CacheControl = "max-age=1, must-revalidate"
	}
	o.s3.Put("media", key, obj)
}

// all calls do for every object, many at a time.
func (o *staleEnv) all(do func(*staleObject)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 48)
	for _, r := range o.objects {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(r)
		})
	}
	wg.Wait()
}

// age stores the old objects, waits until they are stale, and changes them at S3.
func (o *staleEnv) age() {
	o.t.Helper()
	o.all(func(r *staleObject) {
		if !r.cold() {
			r.got = r.ask(o.public, r.path())
		}
	})
	for _, r := range o.objects {
		if !r.cold() {
			wantPicture(o.t, r.got, o.old)
			eventually(o.t, r.path()+" is stale", func() bool {
				kept := o.explain(r.path(), "").Cache.Memory
				return kept != nil && kept.State == "stale"
			})
		}
		o.place(r.alias+"/"+r.file, o.young)
	}
}

// askBroken asks for everything once while S3 fails.
func (o *staleEnv) askBroken() {
	o.t.Helper()
	o.broken.Store(true)
	if err := o.line.Set(netfault.Refuse()); err != nil {
		o.t.Fatal(err)
	}
	o.all(func(r *staleObject) { r.got = r.ask(o.public, r.path()) })
	o.waitInFlight(0)
}

// check compares answers, metrics and stored objects with the table.
func (o *staleEnv) check() {
	o.t.Helper()
	counts := o.samples()
	for _, r := range o.objects {
		o.t.Run(r.name+r.path(), func(t *testing.T) {
			served := r.old && r.mayBeOld()
			if served {
				r.want, r.body = whole(0), o.old
			} else {
				r.want, r.body = r.failure, o.young
			}
			r.check(t)
			if r.got.Response != nil {
				status := r.got.Header.Get("Cache-Status")
				if stale := strings.HasPrefix(status, "ixmage; hit; ttl=-"); stale != served {
					t.Errorf("Cache-Status is %q, want it stale: %t", status, served)
				}
			}
			stale := counts[fmt.Sprintf(`ixmage_cache_requests_total{alias=%q,cache="stale"}`, r.alias)]
			if most := map[bool]float64{true: 1}[r.old && strings.HasPrefix(r.alias, "on-")]; stale != most {
				t.Errorf("%v stale answers are counted, want %v", stale, most)
			}
			o.checkKept(t, r)
		})
	}
	// The picture of the first row: no request waits for a second failure of S3, and
	// HEAD gets the same headers as GET.
	if head := o.head("/on-00/a.png"); head.StatusCode != http.StatusOK || head.ContentLength != faultSize {
		o.t.Errorf("HEAD: %s, length %d", head.Status, head.ContentLength)
	}
	wantPicture(o.t, o.get("/on-00/a.png"), o.old)
}

// checkKept checks what the cache holds of an object after the fault.
func (o *staleEnv) checkKept(t *testing.T, r *staleObject) {
	t.Helper()
	kept := o.explain(r.path(), "").Cache
	if stays := !r.cold() && !r.drops; (kept.Memory != nil) != stays || stays && kept.Memory.Size != faultSize {
		t.Errorf("the cache has %+v, want the old picture: %t", kept.Memory, stays)
	}
	if (kept.Missing != nil) != r.notes {
		t.Errorf("it is known to be missing: %t, want %t", kept.Missing != nil, r.notes)
	}
}

// end lets S3 work again, and wants the new pictures: at once, or soon where an old
// one may be served meanwhile.
func (o *staleEnv) end() {
	o.t.Helper()
	o.broken.Store(false)
	if err := o.line.Set(netfault.Pass()); err != nil {
		o.t.Fatal(err)
	}
	for _, r := range o.objects {
		o.t.Run(r.name+r.path()+"/and then", func(t *testing.T) {
			if r.notes {
				o.purge(fmt.Sprintf(`{"alias":%q,"key":%q}`, r.alias, r.file))
			}
			if !r.old || !r.mayBeOld() {
				wantPicture(t, o.get(r.path()), o.young)
				return
			}
			eventually(t, "the new picture comes", func() bool {
				got := o.get(r.path())
				if bytes.Equal(got.body, o.young) {
					return true
				}
				wantPicture(t, got, o.old)
				return false
			})
		})
	}
}

// TestUnchangedOtherVersion: a 304 for another version than the stored one says
// nothing about the object. The stored object is served where that is allowed, and
// the object is requested without a condition, however often S3 answers so.
func TestUnchangedOtherVersion(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]func(http.Header){
		"by its ETag": func(h http.Header) { h.Set("Etag", `"another"`) },
		"by its date": func(h http.Header) {
			h.Del("Etag")
			h.Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		},
	} {
		for policy, staleFirst := range map[string]bool{"no-cache": false, "max-age=0": true} {
			t.Run(name+", "+policy, func(t *testing.T) {
				t.Parallel()
				s := newEnv(t)
				s.patch("shop", `{"stale_if_error":"1h"}`)
				old, young := png(100, ""), png(200, "")
				s.put("a.png", s3.Object{Body: old, ETag: `"v1"`, CacheControl: policy})
				wantPicture(t, s.get("/shop/a.png"), old)
				s.put("a.png", s3.Object{Body: young, ETag: `"v2"`, CacheControl: policy})
				s.s3.Hook(func(r *s3.Request) *s3.Fault {
					if r.Header.Get("If-None-Match") == `"v1"` {
						return &s3.Fault{Status: http.StatusNotModified, Header: header}
					}
					return nil
				})
				first := s.get("/shop/a.png")
				if !staleFirst {
					wantPicture(t, first, young)
					return
				}
				wantPicture(t, first, old)
				if got := first.Header.Get("Cache-Status"); !strings.HasPrefix(got, "ixmage; hit; ttl=-") {
					t.Errorf("Cache-Status is %q", got)
				}
				eventually(t, "it is new", func() bool { return len(s.get("/shop/a.png").body) == len(young) })
			})
		}
	}
}
