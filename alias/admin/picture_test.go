package admin

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"ixmage/alias"
	"ixmage/alias/signature"
)

type pictureReaderFunc func(ctx context.Context, r PublicRequest) (*PublicAnswer, error)

func (f pictureReaderFunc) Picture(ctx context.Context, r PublicRequest) (*PublicAnswer, error) {
	return f(ctx, r)
}

// closing is a body that says that it was closed.
type closing struct {
	io.Reader

	closed *int
}

func (c closing) Close() error {
	*c.closed++
	return nil
}

func TestPicture(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("picture ", 20<<10) // several parts
	large := int64(maxPicture)
	for _, c := range []struct {
		name, query string
		answer      PublicAnswer
		path        string
		status      int
		code        string
		detail      string
	}{
		{"canary", "", PublicAnswer{Status: 200, Type: "image/png", Size: int64(len(body))}, "/shop/canary.png", 200, "", ""},
		{"key", "?key=a%20b/%C3%A9%3F%23%25.svg", PublicAnswer{Status: 200, Type: "image/svg+xml", Size: int64(len(body))}, "/shop/a%20b/%C3%A9%3F%23%25.svg", 200, "", ""},
		{"missing", "?key=x.png", PublicAnswer{Status: 404, Code: "not-found", Type: "application/problem+json", Size: 10}, "/shop/x.png", 404, "no-picture",
			"clients get 404 not-found for /shop/x.png: GET /api/v1/explain?path=%2Fshop%2Fx.png says why"},
		{"placeholder", "?key=x.png", PublicAnswer{Status: 404, Type: "image/png", Size: 10}, "/shop/x.png", 404, "no-picture", "clients get 404 for /shop/x.png"},
		{"no picture", "?key=x.png", PublicAnswer{Status: 200, Type: "text/html", Size: 10}, "/shop/x.png", 404, "no-picture", "clients get no picture for /shop/x.png"},
		{"too large", "?key=x.png", PublicAnswer{Status: 200, Type: "image/png", Size: large + 1}, "/shop/x.png", 413, "picture-size", "has 8388609 bytes, and this call sends 8388608"},
		{"unknown size", "?key=x.png", PublicAnswer{Status: 200, Type: "image/png", Size: -1}, "/shop/x.png", 413, "picture-size", "does not say how large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			requests, closed := 0, 0
			t.Cleanup(func() { // runs after the harness's Shutdown
				if closed != requests {
					t.Errorf("of %d bodies %d were closed", requests, closed)
				}
			})
			a := newAPI(t, func(cfg *Config) {
				cfg.PictureReader = pictureReaderFunc(func(_ context.Context, r PublicRequest) (*PublicAnswer, error) {
					if r != (PublicRequest{Path: c.path}) {
						t.Errorf("got %+v, want the path %s", r, c.path)
					}
					requests++
					answer := c.answer
					answer.Body = closing{strings.NewReader(body), &closed}
					return &answer, nil
				})
			})
			a.register("shop")
			a.do("PATCH", "/api/v1/aliases/shop", `{"canary":"canary.png"}`).want(200, "")
			r := a.do("GET", "/api/v1/aliases/shop/picture"+c.query, "").want(c.status, c.code)
			if c.status != 200 {
				if d := r.problem().Detail; !strings.Contains(d, c.detail) {
					t.Errorf("detail: %q", d)
				}
				if logs := a.logs.String(); strings.Contains(logs, "x.png") || strings.Contains(logs, `"level":"WARN"`) {
					t.Errorf("the log has the path, or a warning for what clients do: %s", logs)
				}
				return
			}
			if r.body != body {
				t.Errorf("body of %d bytes, want %d", len(r.body), len(body))
			}
			for name, want := range map[string]string{
				"Content-Type": c.answer.Type, "Content-Security-Policy": pictureCSP, "Cross-Origin-Resource-Policy": "same-origin",
			} {
				if got := r.header.Get(name); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
			if r := a.do("HEAD", "/api/v1/aliases/shop/picture"+c.query, "").want(200, ""); r.body != "" || r.header.Get("Content-Length") == "" {
				t.Errorf("HEAD: %q %v", r.body, r.header)
			}
		})
	}
}

func TestPictureRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) {
		cfg.PictureReader = pictureReaderFunc(func(context.Context, PublicRequest) (*PublicAnswer, error) {
			return nil, errors.New("connection refused")
		})
	})
	a.register("shop")
	a.do("GET", "/api/v1/aliases/other/picture?key=x", "").want(404, "not-found")
	if d := a.do("GET", "/api/v1/aliases/shop/picture", "").want(400, "invalid").problem().Detail; !strings.Contains(d, "no canary") {
		t.Errorf("detail: %q", d)
	}
	a.do("GET", "/api/v1/aliases/shop/picture?key=", "").want(400, "invalid")
	a.do("GET", "/api/v1/aliases/shop/picture?width=1", "").want(400, "invalid")
	a.do("GET", "/api/v1/aliases/shop/picture?key=x", "").want(503, "not-ready")
	if !strings.Contains(a.logs.String(), "connection refused") {
		t.Errorf("log: %s", a.logs)
	}
	b := newAPI(t)
	b.register("shop")
	b.do("GET", "/api/v1/aliases/shop/picture?key=x", "").want(501, "not-implemented")
}

// TestPictureOptions: the options and Accept reach the public listener, its Cache-Status comes
// back, and a wrong option is a problem of the parameter.
func TestPictureOptions(t *testing.T) {
	t.Parallel()
	var got PublicRequest
	answer := PublicAnswer{Status: 200, Type: "image/webp", Size: 4, CacheStatus: "ixmage; hit; ttl=60"}
	a := newAPI(t, func(cfg *Config) {
		cfg.PictureReader = pictureReaderFunc(func(_ context.Context, r PublicRequest) (*PublicAnswer, error) {
			got = r
			sent := answer
			sent.Body = io.NopCloser(strings.NewReader("webp"))
			return &sent, nil
		})
	})
	a.register("shop")
	const at = "/api/v1/aliases/shop/picture?key=x.png&query="
	r := a.do("GET", at+"w%3D240%26bg%3D%2523fff", "", "Accept", "image/webp, */*").want(200, "")
	if want := (PublicRequest{"/shop/x.png", "w=240&bg=%23fff", "image/webp, */*"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if r.body != "webp" || r.header.Get("Cache-Status") != answer.CacheStatus || !strings.HasPrefix(r.header.Get("Server-Timing"), "public;dur=") {
		t.Errorf("got %q %v", r.body, r.header)
	}
	got = PublicRequest{}
	for _, bad := range []string{"w=1%200", "bg=%23fff", "w=1%0D%0AX:1", "t=%C3%A9"} {
		p := a.do("GET", at+bad, "").want(400, "invalid").problem()
		if len(p.Errors) != 1 || p.Errors[0].Field != "query" || got != (PublicRequest{}) {
			t.Errorf("%s: %+v, and the public listener got %+v", bad, p, got)
		}
	}
	answer = PublicAnswer{Status: 400, Code: "bad-option", Detail: "w must be a whole number from 1 to 8192", Type: "application/problem+json"}
	p := a.do("GET", at+"w%3D0", "").want(400, "invalid").problem()
	if len(p.Errors) != 1 || p.Errors[0].Field != "query" || p.Errors[0].Detail != answer.Detail {
		t.Errorf("a wrong option: %+v", p)
	}
	answer = PublicAnswer{Status: 403, Code: "signature", Type: "application/problem+json"}
	// The console looks for these words.
	if d := a.do("GET", at+"blur%3D3", "").want(404, "no-picture").problem().Detail; !strings.Contains(d, "clients get 403 signature for /shop/x.png: GET /api/v1/explain?path=%2Fshop%2Fx.png%3Fblur%3D3 says why") {
		t.Errorf("without a signature: %s", d)
	}
}

// TestPictureSigned: the newest signing key signs options, and an original of an alias that answers
// signed URLs only. The signature is good for the public listener.
func TestPictureSigned(t *testing.T) {
	t.Parallel()
	var got PublicRequest
	var registry *alias.Registry
	a := newAPI(t, func(cfg *Config) {
		registry = cfg.Registry
		cfg.PictureReader = pictureReaderFunc(func(_ context.Context, r PublicRequest) (*PublicAnswer, error) {
			got = r
			return &PublicAnswer{Status: 200, Type: "image/png", Size: 1, Body: io.NopCloser(strings.NewReader("x"))}, nil
		})
	})
	a.register("shop")
	const at = "/api/v1/aliases/shop/picture?key=a%20b.png"
	check := func(what, query, want string, isSigned bool) {
		t.Helper()
		a.do("GET", at+query, "").want(200, "")
		rest, by, found := strings.Cut(got.Query, "kid=")
		if strings.TrimSuffix(rest, "&") != want || found != isSigned {
			t.Errorf("%s: got %s, want %s signed %t", what, got.Query, want, isSigned)
		}
		if !isSigned {
			return
		}
		shop, err := registry.Alias(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		newest, _ := shop.NewestKey()
		key, err := signature.NewKey(newest.KID, []byte(newest.Secret.Reveal()))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := signature.Verify([]*signature.Key{key}, []byte(got.Path), []byte(got.Query), time.Now()); err != nil || !strings.HasPrefix(by, newest.KID+"&") {
			t.Errorf("%s: %s is not signed with %s: %v", what, got.Query, newest.KID, err)
		}
	}
	check("no key", "&query=w%3D1", "w=1", false)
	for range 2 {
		if _, err := registry.AddSigningKey(t.Context(), "shop", "test"); err != nil {
			t.Fatal(err)
		}
	}
	check("options", "&query=w%3D1", "w=1", true)
	check("an original", "", "", false)
	if _, err := registry.UpdateAlias(t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.Access = alias.AccessSigned
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	check("an original that needs it", "", "", true)
	for role, signs := range map[string]bool{"read": false, "purge": false, "alias": true} { // who may sign a URL
		a.do("GET", at+"&query=w%3D1", "", "Authorization", a.makeToken(role, `["`+role+`"]`, "[]")).want(200, "")
		if strings.Contains(got.Query, "&sig=") != signs {
			t.Errorf("a token with the role %s: got %s, want signed %t", role, got.Query, signs)
		}
	}
	a.do("GET", at+"&query=w%3D1%26kid%3Dx%26sig%3Dy", "").want(200, "")
	if got.Query != "w=1&kid=x&sig=y" {
		t.Errorf("a query with a signature became %s", got.Query)
	}
}

// TestPictureBreaks: a body that breaks off cuts the connection.
func TestPictureBreaks(t *testing.T) {
	t.Parallel()
	closed := 0
	t.Cleanup(func() {
		if closed != 1 {
			t.Errorf("the body was closed %d times", closed)
		}
	})
	a := newAPI(t, func(cfg *Config) {
		cfg.PictureReader = pictureReaderFunc(func(context.Context, PublicRequest) (*PublicAnswer, error) {
			broken := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))
			return &PublicAnswer{Status: 200, Type: "image/png", Size: 8, Body: closing{broken, &closed}}, nil
		})
	})
	a.register("shop")
	req := "GET /api/v1/aliases/shop/picture?key=x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + testToken + "\r\n\r\n"
	conn, _ := a.connect()
	io.WriteString(conn, req)
	got, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(got), "\r\n\r\nhalf") {
		t.Errorf("got %q, %v", got, err)
	}
}
