package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// shortened has a proxy whose alias shop, as it is returned, lives shorter by now, and
// which knows no change but by the registry.
func shortened(t *testing.T) (p *Proxy, before alias.Route, after *alias.Alias) {
	t.Helper()
	s3 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/down.png") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "image/png")
		w.Write([]byte("picture"))
	}))
	t.Cleanup(s3.Close)
	p = newProxyBefore(t, s3.URL, nil)
	before, _ = p.registry.Lookup("shop")
	r, err := p.cache.Get(t.Context(), keyOf(before.Alias, "a.png"), p.load(before, "a.png", nil))
	must(t, err)
	for off := int64(0); ; off++ {
		if _, err = r.Next(off); errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
	}
	must(t, r.Close())
	after, err = p.registry.UpdateAlias(t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.TTL, a.StaleIfError = time.Minute, time.Hour
		return nil
	})
	must(t, err)
	return p, before, after
}

// TestLoadAfterChange: a load goes by what the alias says when S3 has answered,
// whenever the alias was looked up.
func TestLoadAfterChange(t *testing.T) {
	t.Parallel()
	p, before, _ := shortened(t)
	e, ok := p.cache.GetStale(keyOf(before.Alias, "a.png"))
	if !ok {
		t.Fatal("nothing is stored")
	}
	defer e.Release()
	for name, old := range map[string]*cache.Entry{"new": nil, "unchanged": e} {
		src, err := p.load(before, "a.png", nil)(t.Context(), old)
		must(t, err)
		if src.Body != nil {
			src.Body.Close()
		}
		obj := src.Meta.(*object)
		if src.Same != (old != nil) || src.Fresh != time.Minute || src.StaleIfError != time.Hour || string(obj.cacheControl) != "public, max-age=60" {
			t.Errorf("%s: %+v, %q", name, src, obj.cacheControl)
		}
	}
}

// TestStanding: an alias that is gone, made anew or moved has no say in what another
// has stored.
func TestStanding(t *testing.T) {
	t.Parallel()
	p, before, after := shortened(t)
	if got := p.currentRoute(before); got.Alias != after {
		t.Errorf("got %+v, want what it is now", got)
	}
	other, moved, gone := *before.Alias, *before.Alias, *before.Alias
	other.ID++
	moved.Epoch--
	gone.Name = "none"
	for _, a := range []*alias.Alias{&other, &moved, &gone} {
		r := before
		r.Alias = a
		if got := p.currentRoute(r); got != r {
			t.Errorf("of %+v stands %+v", a, got)
		}
	}
}

// TestOpened: what does not become a source gives its slot back, even by a panic.
func TestOpened(t *testing.T) {
	t.Parallel()
	want := errors.New("it breaks")
	for name, read := range map[string]func() (*cache.Source, error){
		"error": func() (*cache.Source, error) { return nil, want },
		"panic": func() (*cache.Source, error) { panic(want) },
		"none":  func() (*cache.Source, error) { return &cache.Source{}, nil },
	} {
		body := &closes{}
		func() {
			defer func() { _ = recover() }()
			if _, err := closeUnlessUsed(&origin.Object{Body: body}, read); err != nil && !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
		}()
		if body.closed != (name != "none") {
			t.Errorf("%s: the body is closed: %v", name, body.closed)
		}
	}
}

type closes struct {
	io.Reader

	closed bool
}

func (c *closes) Close() error {
	c.closed = true
	return nil
}

// TestOutageTellsLifetimes: what is stored is judged by what the alias says now, where it
// does not say so itself.
func TestOutageTellsLifetimes(t *testing.T) {
	t.Parallel()
	p, before, _ := shortened(t)
	e, ok := p.cache.GetStale(keyOf(before.Alias, "a.png"))
	if !ok {
		t.Fatal("nothing is stored")
	}
	defer e.Release()
	obj := e.Meta.(*object)
	for said, want := range map[string]cache.Lifetimes{
		"":                            {Fresh: time.Minute, StaleIfError: time.Hour},
		"max-age=60":                  {Fresh: time.Minute, StaleIfError: time.Hour},
		"max-age=5, stale-if-error=2": {Fresh: 5 * time.Second, StaleIfError: 2 * time.Second},
		"no-cache":                    {},
		"must-revalidate":             {Fresh: time.Minute},
	} {
		obj.said.cacheControl = said
		if got := p.lifetimesNow(before, e); *got != want {
			t.Errorf("%q: got %+v, want %+v", said, *got, want)
		}
	}
	obj.said.cacheControl = ""
	_, err := p.load(before, "down.png", nil)(t.Context(), e)
	outage, ok := errors.AsType[*cache.Unavailable](err)
	if !ok || outage.Now == nil || *outage.Now != (cache.Lifetimes{Fresh: time.Minute, StaleIfError: time.Hour}) {
		t.Errorf("got %v, want an outage with the lifetimes of now", err)
	}
}

// TestExplainOutdated: what is stored and may have other lifetimes by now may be served
// while S3 fails for as long as they say, from its purge on if there was one.
func TestExplainOutdated(t *testing.T) {
	t.Parallel()
	p, _, after := shortened(t)
	p.cache.Revalidate(after.ID, after.Epoch, 0)
	left := func() int64 {
		return p.Explain(t.Context(), "/shop/a.png", "", false).(*Explanation).Cache.Memory.StaleError
	}
	if got := left(); got <= 3600 || got > 3660 {
		t.Errorf("%d s left, want an hour after the minute", got)
	}
	p.cache.Purge(keyOf(after, "a.png"), false)
	if got := left(); got > 3600 {
		t.Errorf("%d s left, want no more than an hour from the purge on", got)
	}
}
