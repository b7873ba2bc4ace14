package admin

import (
	"context"
	"strings"
	"testing"
)

// explainerFunc is an Explainer made of a function.
type explainerFunc func(ctx context.Context, path, accept string, probe bool) any

func (f explainerFunc) Explain(ctx context.Context, path, accept string, probe bool) any {
	return f(ctx, path, accept, probe)
}

func withExplainer(f explainerFunc) func(*Config) { return func(c *Config) { c.Explainer = f } }

func TestExplain(t *testing.T) {
	t.Parallel()
	type explanation struct {
		Path  string `json:"path"`
		Probe bool   `json:"probe"`
	}
	a := newAPI(t, withExplainer(func(ctx context.Context, path, accept string, probe bool) any {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("it may take forever")
		}
		return explanation{path + accept, probe}
	}))
	for query, want := range map[string]string{
		"path=/shop/a.jpg":                        `{"path":"/shop/a.jpg","probe":false}`,
		"path=%2Fshop%2Fa%2520b.jpg&probe=true":   `{"path":"/shop/a%20b.jpg","probe":true}`,
		"probe=false&path=/shop/a%26b%3Cc%3E.jpg": `{"path":"/shop/a&b<c>.jpg","probe":false}`,
		"path=/":                          `{"path":"/","probe":false}`,
		"path=//x/../%25zz":               `{"path":"//x/../%zz","probe":false}`, // bad ones are explained too
		"path=/none/a?b":                  `{"path":"/none/a?b","probe":false}`,
		"path=/a/b?w=1&accept=image/webp": `{"path":"/a/b?w=1image/webp","probe":false}`,
	} {
		if r := a.do("GET", "/api/v1/explain?"+query, "").want(200, ""); r.body != want+"\n" {
			t.Errorf("%s: got %s, want %s", query, r.body, want)
		}
	}
}

func TestExplainRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withExplainer(func(context.Context, string, string, bool) any {
		panic("it was explained: " + t.Name()) // what is refused gets no 500
	}))
	for _, c := range []struct{ query, fields, says string }{
		{"", "path", "?path=/shop/a.jpg"},
		{"?path=", "path", "?path=/shop/a.jpg"},
		{"?path=shop/a.jpg", "path", "?path=/shop/a.jpg"},
		{"?path=http://localhost/shop/a.jpg", "path", "first slash"},
		{"?path=/shop/a.jpg&probe=1", "probe", "true"},
		{"?path=/shop/a.jpg&probe=", "probe", "true"},
		{"?path=/shop/a.jpg&probe", "probe", "true"},
		{"?path=/shop/a.jpg&probe=TRUE", "probe", "true"},
		{"?probe=x", "path probe", ""},
		{"?path=/a&path=/b", "path", "more than once"},
		{"?path=/shop/a.jpg&head=true", "head", "unknown"},
		{"?url=/shop/a.jpg", "url", "unknown"},
	} {
		r := a.do("GET", "/api/v1/explain"+c.query, "").want(400, "invalid")
		if got := strings.Join(r.fields(), " "); got != c.fields {
			t.Errorf("%s: got problems with %q, want %q", c.query, got, c.fields)
		}
		if d := r.problem().Detail; !strings.Contains(d, c.says) {
			t.Errorf("%s: got %q, want %q in it", c.query, d, c.says)
		}
	}
	a.do("GET", "/api/v1/explain?path=%zz", "").want(400, "bad-request")
	a.do("GET", "/api/v1/explain?path=/shop/a.jpg", "{}").want(400, "bad-request")
	a.do("GET", "/api/v1/explain?path=/shop/a.jpg", "").want(500, "internal")
}
