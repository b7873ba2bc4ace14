package admin

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

type pictureReaderFunc func(ctx context.Context, path string) (*PublicAnswer, error)

func (f pictureReaderFunc) Picture(ctx context.Context, path string) (*PublicAnswer, error) {
	return f(ctx, path)
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
		{"canary", "", PublicAnswer{200, "", "image/png", int64(len(body)), nil}, "/shop/canary.png", 200, "", ""},
		{"key", "?key=a%20b/%C3%A9%3F%23%25.svg", PublicAnswer{200, "", "image/svg+xml", int64(len(body)), nil}, "/shop/a%20b/%C3%A9%3F%23%25.svg", 200, "", ""},
		{"missing", "?key=x.png", PublicAnswer{404, "not-found", "application/problem+json", 10, nil}, "/shop/x.png", 404, "no-picture",
			"clients get 404 not-found for /shop/x.png: GET /api/v1/explain?path=%2Fshop%2Fx.png says why"},
		{"placeholder", "?key=x.png", PublicAnswer{404, "", "image/png", 10, nil}, "/shop/x.png", 404, "no-picture", "clients get 404 for /shop/x.png"},
		{"no picture", "?key=x.png", PublicAnswer{200, "", "text/html", 10, nil}, "/shop/x.png", 404, "no-picture", "clients get no picture for /shop/x.png"},
		{"too large", "?key=x.png", PublicAnswer{200, "", "image/png", large + 1, nil}, "/shop/x.png", 413, "picture-size", "has 8388609 bytes, and this call sends 8388608"},
		{"unknown size", "?key=x.png", PublicAnswer{200, "", "image/png", -1, nil}, "/shop/x.png", 413, "picture-size", "does not say how large"},
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
				cfg.PictureReader = pictureReaderFunc(func(_ context.Context, path string) (*PublicAnswer, error) {
					if path != c.path {
						t.Errorf("path: got %s, want %s", path, c.path)
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
		cfg.PictureReader = pictureReaderFunc(func(context.Context, string) (*PublicAnswer, error) {
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
		cfg.PictureReader = pictureReaderFunc(func(context.Context, string) (*PublicAnswer, error) {
			broken := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))
			return &PublicAnswer{200, "", "image/png", 8, closing{broken, &closed}}, nil
		})
	})
	a.register("shop")
	req := "GET /api/v1/aliases/shop/picture?key=x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + testToken + "\r\n\r\n"
	conn, _ := dial(t, a.addr)
	io.WriteString(conn, req)
	got, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(got), "\r\n\r\nhalf") {
		t.Errorf("got %q, %v", got, err)
	}
}
