package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// TestObjectUnder: what an object says itself stands, and all else is as the alias
// says now.
func TestObjectUnder(t *testing.T) {
	t.Parallel()
	was := &alias.Alias{TTL: time.Hour, StaleWhileRevalidate: time.Minute, StaleIfError: time.Minute}
	is := &alias.Alias{TTL: time.Second, StaleWhileRevalidate: time.Hour, StaleIfError: 24 * time.Hour}
	for name, tc := range map[string]struct {
		said, expires string
		want          lifetimes
		line          string
	}{
		"silent":          {"", "", lifetimes{true, time.Second, time.Hour, 24 * time.Hour}, "public, max-age=1"},
		"max-age":         {"max-age=60", "", lifetimes{true, time.Minute, time.Hour, 24 * time.Hour}, "max-age=60"},
		"all of it":       {"max-age=60, stale-while-revalidate=1, stale-if-error=2", "", lifetimes{true, time.Minute, time.Second, 2 * time.Second}, "max-age=60, stale-while-revalidate=1, stale-if-error=2"},
		"no-cache":        {"no-cache", "", lifetimes{store: true}, "no-cache"},
		"must-revalidate": {"must-revalidate", "", lifetimes{true, time.Second, 0, 0}, "must-revalidate"},
		"Expires":         {"", atNoon.Add(90 * time.Second).Format(http.TimeFormat), lifetimes{true, 90 * time.Second, time.Hour, 24 * time.Hour}, "public, max-age=90"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newObject(&origin.Object{
				ETag: `"a"`, LastModified: atNoon, Size: 7, CacheControl: tc.said, Expires: tc.expires,
				Date: atNoon, Received: atNoon, Born: atNoon,
			}, was, "image/png")
			o.lines(atNoon, atNoon.Add(time.Hour), atNoon)
			o.doubted.Store(true)
			got := o.under(is)
			if got.lifetimes != tc.want || string(got.cacheControl) != tc.line {
				t.Errorf("got %+v and %q, want %+v and %q", got.lifetimes, got.cacheControl, tc.want, tc.line)
			}
			if got.validators != o.validators || got.said != o.said || !got.born.Equal(atNoon) || got.size != 7 ||
				string(got.contentType) != "image/png" || string(got.etagLine) != `"a"` || string(got.modifiedLine) != noon {
				t.Errorf("it is another object: %+v", got)
			}
			if !got.doubted.Load() || got.hit.Load() != nil || got.bytes() != o.bytes() {
				t.Errorf("doubted: %t, lines: %v, %d bytes", got.doubted.Load(), got.hit.Load(), got.bytes())
			}
			if back := got.under(was); back.lifetimes != o.lifetimes || string(back.cacheControl) != string(o.cacheControl) {
				t.Errorf("and back: %+v and %q", back.lifetimes, back.cacheControl)
			}
		})
	}
}

// shortened has a proxy whose alias shop, as it is returned, lives shorter by now, and
// which knows no change but by the registry.
func shortened(t *testing.T) (p *Proxy, before alias.Route, after *alias.Alias) {
	t.Helper()
	s3 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	r, err := p.cache.Get(t.Context(), keyOf(before.Alias, "a.png"), p.load(before, "a.png"))
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
	e, ok := p.cache.Keep(keyOf(before.Alias, "a.png"))
	if !ok {
		t.Fatal("nothing is stored")
	}
	defer e.Release()
	for name, old := range map[string]*cache.Entry{"new": nil, "unchanged": e} {
		src, err := p.load(before, "a.png")(t.Context(), old)
		must(t, err)
		if src.Body != nil {
			src.Body.Close()
		}
		obj := src.Meta.(*object)
		if src.Same != (old != nil) || src.Fresh != time.Minute || src.StaleError != time.Hour || string(obj.cacheControl) != "public, max-age=60" {
			t.Errorf("%s: %+v, %q", name, src, obj.cacheControl)
		}
	}
}

// TestStanding: an alias that is gone, made anew or moved has no say in what another
// has stored.
func TestStanding(t *testing.T) {
	t.Parallel()
	p, before, after := shortened(t)
	if got := p.standing(before); got.Alias != after {
		t.Errorf("got %+v, want what it is now", got)
	}
	other, moved, gone := *before.Alias, *before.Alias, *before.Alias
	other.ID++
	moved.Epoch--
	gone.Name = "none"
	for _, a := range []*alias.Alias{&other, &moved, &gone} {
		r := before
		r.Alias = a
		if got := p.standing(r); got != r {
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
			if _, err := opened(&origin.Object{Body: body}, read); err != nil && !errors.Is(err, want) {
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

// TestRevise: what is stored lives as the alias says, and tells clients so.
func TestRevise(t *testing.T) {
	t.Parallel()
	p, before, after := shortened(t)
	key := keyOf(before.Alias, "a.png")
	look := func(want time.Duration, line string) {
		t.Helper()
		v := p.cache.Inspect(key, time.Now())
		obj, ok := v.Meta.(*object)
		if !ok || v.Expires.Sub(v.Stored) != want || string(obj.cacheControl) != line || v.StaleError.Sub(v.Expires) != obj.lifetimes.staleError {
			t.Errorf("got %+v", v)
		}
	}
	look(time.Hour, "public, max-age=3600")
	other := *after
	other.ID++
	p.Revise(&other)
	look(time.Hour, "public, max-age=3600")
	p.Revise(after)
	look(time.Minute, "public, max-age=60")
	e, ok := p.cache.Hit(key, time.Now())
	if !ok || string(e.Bytes()) != "picture" {
		t.Fatal("no hit")
	}
	e.Release()
	p.Revise(before.Alias)
	look(time.Hour, "public, max-age=3600")
}
