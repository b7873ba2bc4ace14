package admin

import (
	"context"
	"slices"
	"strings"
	"testing"

	"ixmage/alias"
)

// stored is a Purger whose cache has these paths, and which purges only equal ones.
type stored []string

func (s stored) Purge(_ context.Context, r PurgeRequest) (got PurgeResult, err error) {
	for _, path := range s {
		if path == r.Key || r.Prefix != "" && strings.HasPrefix(path, r.Prefix) {
			got.Entries++
		}
	}
	return got, nil
}

func (s stored) Stored(_ *alias.Alias, path string) bool { return slices.Contains(s, path) }

func (s stored) Search(_ *alias.Alias, limit int, visit func(path string) bool) {
	for _, path := range s[:min(limit, len(s))] {
		if !visit(path) {
			return
		}
	}
}

func TestPurgeHint(t *testing.T) {
	t.Parallel()
	const none = ""
	for _, c := range []struct {
		name, body string
		cached     stored
		want       string // a part of the hint
	}{
		{"escaped", `"key":"a%20b.jpg"`, stored{"a b.jpg"}, `the cache has the key "a b.jpg"`},
		{"escaped twice", `"key":"a%2520b.jpg"`, stored{"a b.jpg"}, `has the key "a b.jpg"`},
		{"escaped once too often", `"key":"a%2520b.jpg"`, stored{"a%20b.jpg"}, `has the key "a%20b.jpg"`},
		{"escaped slash", `"key":"a%2Fb.jpg"`, stored{"a/b.jpg"}, `has the key "a/b.jpg"`},
		{"escaped letters", `"key":"Gr%C3%B6%C3%9Fe.jpg"`, stored{"Größe.jpg"}, `has the key "Größe.jpg"`},
		{"escaped in S3", `"key":"a b.jpg"`, stored{"a%20b.jpg"}, `has the key "a%20b.jpg"`},
		{"plus", `"key":"a+b.jpg"`, stored{"a b.jpg"}, `has the key "a b.jpg"`},
		{"query", `"key":"a.jpg?v=2"`, stored{"a.jpg"}, `has the key "a.jpg"`},
		{"fragment", `"key":"a.jpg#x"`, stored{"a.jpg"}, `has the key "a.jpg"`},
		{"escaped, with a query", `"key":"a%20b.jpg?v=2"`, stored{"a b.jpg"}, `has the key "a b.jpg"`},
		{"alias", `"key":"shop/a.jpg"`, stored{"a.jpg"}, `has the key "a.jpg"`},
		{"alias, escaped", `"key":"shop/a%20b.jpg"`, stored{"a b.jpg"}, `has the key "a b.jpg"`},
		{"key of S3", `"key":"web/img/a.jpg"`, stored{"a.jpg"}, `has the key "a.jpg"`},
		{"case", `"key":"photos/a.jpg"`, stored{"b.jpg", "Photos/A.JPG"}, `has the key "Photos/A.JPG"`},
		{"case, escaped", `"key":"My%20photo.jpg"`, stored{"my Photo.JPG"}, `has the key "my Photo.JPG"`},
		{"composed letter", `"key":"u\u0308.jpg"`, stored{"\u00fc.jpg"}, "has the key \"\u00fc.jpg\""},
		{"decomposed letter", `"key":"\u00fc.jpg"`, stored{"u\u0308.jpg"}, `in another Unicode form, "u\u0308.jpg"`},
		{"folder", `"key":"photos"`, stored{"photos/a.jpg"}, `objects with the prefix "photos/"`},
		{"the nearest one", `"key":"a%20b.jpg"`, stored{"A B.JPG", "a b.jpg"}, `has the key "a b.jpg"`},
		{"space at the end", `"key":"a.jpg "`, stored{"a.jpg"}, `has the key "a.jpg"`},
		{"wildcard", `"key":"photos/*"`, stored{"photos/a.jpg"}, `an asterisk is no wildcard: the prefix is "photos/"`},
		{"wildcard in a URL", `"key":"shop/my%20photos/*"`, nil, `the prefix is "my photos/"`},
		{"wildcard for all", `"key":"*"`, stored{"a.jpg"}, `to purge the whole alias, leave out key and prefix`},
		{"asterisk in another case", `"key":"A*"`, stored{"a*"}, `has the key "a*"`},
		{"URL that is not cached", `"key":"shop/a%20b.jpg"`, nil, `its key is "a b.jpg", which is not in the cache`},

		{"cached", `"key":"a%20b.jpg"`, stored{"a%20b.jpg", "a b.jpg"}, none},
		{"not cached", `"key":"a.jpg"`, stored{"b.jpg"}, none},
		{"not cached, in a folder", `"key":"photos/a.jpg"`, stored{"photos/b.jpg", "photos/a.jpg.bak"}, none},
		{"not an escape", `"key":"100%.jpg"`, stored{"100.jpg"}, none},
		{"would leave the alias", `"key":"%2e%2e%2fa.jpg"`, nil, none},
		{"whole alias", `"hard":false`, stored{"a.jpg"}, none},

		{"prefix, slash", `"prefix":"/photos/"`, stored{"photos/a.jpg"}, `objects with the prefix "photos/"`},
		{"prefix, URL", `"prefix":"https://img.example.com/shop/photos/"`, stored{"photos/a.jpg"}, `objects with the prefix "photos/"`},
		{"prefix, alias", `"prefix":"shop/photos"`, stored{"photos/a.jpg"}, `objects with the prefix "photos"`},
		{"prefix, escaped", `"prefix":"My%20photos/"`, stored{"x", "My photos/a.jpg"}, `objects with the prefix "My photos/"`},
		{"prefix, key of S3", `"prefix":"web/img/photos/"`, stored{"photos/a.jpg"}, `objects with the prefix "photos/"`},
		{"prefix, case", `"prefix":"photos/"`, stored{"Photos/a.jpg"}, `objects such as "Photos/a.jpg"`},
		{"prefix of a file", `"prefix":"photos/a.jpg/"`, stored{"photos/a.jpg"}, `objects with the prefix "photos/a.jpg"`},
		{"prefix that is not cached", `"prefix":"/shop/photos/"`, nil, `the prefix is "photos/", which nothing`},
		{"prefix, cached", `"prefix":"ph"`, stored{"photos/a.jpg"}, none},
		{"prefix, not cached", `"prefix":"photos/"`, stored{"a.jpg"}, none},
		{"prefix, wildcard", `"prefix":"/photos/*"`, stored{"photos/a.jpg"}, `an asterisk is no wildcard: the prefix is "photos/"`},
		{"prefix, slash for all", `"prefix":"/"`, stored{"a.jpg"}, `to purge the whole alias, leave out key and prefix`},
		{"prefix, alias for all", `"prefix":"/shop/"`, stored{"s.jpg"}, `to purge the whole alias`},
		{"prefix, S3's prefix for all", `"prefix":"web/img/"`, stored{"w.jpg"}, `to purge the whole alias`},
		{"prefix, URL of S3 for all", `"prefix":"s3://acme-media/web/img/"`, nil, `to purge the whole alias`},
		{"prefix, wildcard for all", `"prefix":"*"`, nil, `to purge the whole alias`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, func(cfg *Config) { cfg.Purger = c.cached })
			a.do("POST", "/api/v1/aliases", `{"name":"shop","bucket":"acme-media","prefix":"web/img/","region":"eu-west-1","credential":null}`).want(201, "")
			var got purgeJSON
			r := a.do("POST", purgePath, `{"alias":"shop",`+c.body+`}`).want(200, "")
			r.decode(&got)
			if c.want == none {
				if strings.Contains(r.body, "hint") {
					t.Errorf("got %s", r.body)
				}
				return
			}
			if got.Entries != 0 || !strings.Contains(got.Hint, c.want) || !strings.Contains(got.Hint, "the path after /shop/") {
				t.Errorf("got %s, want %s", r.body, c.want)
			}
		})
	}
}

// TestPurgeHintIsBounded: a key is compared with a bounded number of entries only, however it
// is spelled.
func TestPurgeHintIsBounded(t *testing.T) {
	t.Parallel()
	a := &alias.Alias{Name: "shop"}
	for _, path := range []string{strings.Repeat("%25", 341), strings.Repeat("ü+ /", 200), strings.Repeat("/?#", 341), strings.Repeat("A", 1024)} {
		if n := len(spellings(a, path)); n > 2*maxSpellings {
			t.Errorf("%.20q: %d spellings", path, n)
		}
	}
	many := make(stored, hintEntries+1)
	many[hintEntries] = "A.jpg"
	if got := (purges{purger: many}).hint(PurgeRequest{Alias: a, Key: "a.jpg"}); got != "" {
		t.Errorf("got %q", got)
	}
	if got := (purges{purger: many[1:]}).hint(PurgeRequest{Alias: a, Key: "a.jpg"}); !strings.Contains(got, `"A.jpg"`) {
		t.Errorf("got %q", got)
	}
}

// FuzzSpellings: any path has few other spellings, none of which is the path itself.
func FuzzSpellings(f *testing.F) {
	for _, s := range []string{"", "a%20b.jpg?v=2", "https://h/shop/web/a+b.jpg#x", "%25%32%30", "u\u0308/Ü", "\xff", "/shop//", "://"} {
		f.Add(s)
	}
	a := &alias.Alias{Name: "shop", Location: alias.Location{Prefix: "web/"}}
	f.Fuzz(func(t *testing.T, path string) {
		all := spellings(a, path)
		if len(all) > 2*maxSpellings || slices.Contains(all, path) {
			t.Fatalf("%d spellings: %q", len(all), all)
		}
		meant(a, path)
		(purges{purger: stored{"a.jpg"}}).hint(PurgeRequest{Alias: a, Prefix: path})
	})
}
