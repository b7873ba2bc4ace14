package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"ixmage/alias"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	type row struct {
		uri   string
		alias string
		key   string
		err   error
	}
	rows := []row{
		// What is an object.
		{"/shop/a.png", "shop", "a.png", nil},
		{"/shop/a/b/c.png", "shop", "a/b/c.png", nil},
		{"/s/a", "s", "a", nil},
		{"/9/a", "9", "a", nil},
		{"/a-b/x", "a-b", "x", nil},
		{"/" + strings.Repeat("a", 63) + "/x", strings.Repeat("a", 63), "x", nil},
		{"/shop/a%20b", "shop", "a b", nil},
		{"/shop/a+b", "shop", "a+b", nil},
		{"/shop/%41", "shop", "A", nil},
		{"/shop/%e2%82%ac.png", "shop", "€.png", nil},
		{"/shop/%E2%82%AC.png", "shop", "€.png", nil},
		{"/shop/€.png", "shop", "€.png", nil},
		{"/shop/a%2fb", "shop", "a/b", nil},
		{"/shop/a%2Fb", "shop", "a/b", nil},
		{"/shop/%2541", "shop", "%41", nil},
		{"/shop/%252e%252e/x", "shop", "%2e%2e/x", nil},
		{"/shop/%3f", "shop", "?", nil},
		{"/shop/%23", "shop", "#", nil},
		{"/shop/a;x=1", "shop", "a;x=1", nil},
		{"/shop/a:b@c", "shop", "a:b@c", nil},
		{"/shop/...", "shop", "...", nil},
		{"/shop/..a", "shop", "..a", nil},
		{"/shop/.a", "shop", ".a", nil},
		{"/shop/a.", "shop", "a.", nil},
		{"/shop/a..b/c", "shop", "a..b/c", nil},
		{"/shop/a?x=/../..", "shop", "a", nil},
		{"/shop/a?", "shop", "a", nil},
		{"/shop/a?%zz\x01", "shop", "a", nil},
		{"/shop/" + strings.Repeat("k", 1024), "shop", strings.Repeat("k", 1024), nil},
		{"/shop/" + strings.Repeat("%6b", 1024), "shop", strings.Repeat("k", 1024), nil},
		// Absolute-form: only the path counts.
		{"http://evil/shop/a.png", "shop", "a.png", nil},
		{"HTTPS://evil:99/shop/a.png?q", "shop", "a.png", nil},
		{"http://user:pw@evil/shop/a.png", "shop", "a.png", nil},
		{"http://evil%2f/shop/a", "shop", "a", nil},
		{"http://evil", "", "", errNoRoute},
		{"http://evil?/shop/a", "", "", errNoRoute},
		{"http:///shop/a.png", "", "", errNoRoute},
		{"ftp://evil/shop/a.png", "", "", errNoRoute},
		{"http:/shop/a.png", "", "", errNoRoute},
		{"://evil/shop/a.png", "", "", errNoRoute},
		// What is no path of this server.
		{"", "", "", errNoRoute},
		{"*", "", "", errNoRoute},
		{"/", "", "", errNoRoute},
		{"/shop", "", "", errNoRoute},
		{"/shop?/a.png", "", "", errNoRoute},
		{"shop/a.png", "", "", errNoRoute},
		{"?/shop/a.png", "", "", errNoRoute},
		{"/-/healthz", "", "", errNoRoute},
		{"/-/metrics", "", "", errNoRoute},
		{"/-/healthz/", "", "", errNoRoute},
		{"/-/", "", "", errNoRoute},
		{"/-/../shop/a.png", "", "", errNoRoute},
		{"/-/%zz", "", "", errNoRoute},
		{"http://h/-//x", "", "", errNoRoute},
		{"/-/healthz#", "", "", errBadKey},
		{"/--/", "", "", errBadKey},
		{"//shop/a.png", "", "", errNoRoute},
		{"/Shop/a.png", "", "", errNoRoute},
		{"/sh_op/a.png", "", "", errNoRoute},
		{"/sh.op/a.png", "", "", errNoRoute},
		{"/-shop/a.png", "", "", errNoRoute},
		{"/shop-/a.png", "", "", errNoRoute},
		{"/sh%6fp/a.png", "", "", errNoRoute},
		{"/../shop/a.png", "", "", errNoRoute},
		{"/%2e%2e/shop/a.png", "", "", errNoRoute},
		{"/shop\\/a.png", "", "", errNoRoute},
		{"/shöp/a.png", "", "", errNoRoute},
		{"/" + strings.Repeat("a", 64) + "/x", "", "", errNoRoute},
		// What is no key.
		{"/shop/", "shop", "", errBadKey},
		{"/shop/a/", "shop", "", errBadKey},
		{"/shop//a", "shop", "", errBadKey},
		{"/shop/a//b", "shop", "", errBadKey},
		{"/shop/a/%2fb", "shop", "", errBadKey},
		{"/shop/%2f", "shop", "", errBadKey},
		{"/shop/%2fetc", "shop", "", errBadKey},
		{"/shop/.", "shop", "", errBadKey},
		{"/shop/..", "shop", "", errBadKey},
		{"/shop/a/.", "shop", "", errBadKey},
		{"/shop/./a", "shop", "", errBadKey},
		{"/shop/../a", "shop", "", errBadKey},
		{"/shop/a/../b", "shop", "", errBadKey},
		{"/shop/a/..", "shop", "", errBadKey},
		{"/shop/%2e", "shop", "", errBadKey},
		{"/shop/%2e%2e/a", "shop", "", errBadKey},
		{"/shop/%2E%2E%2Fa", "shop", "", errBadKey},
		{"/shop/.%2e/a", "shop", "", errBadKey},
		{"/shop/a%2f..%2fb", "shop", "", errBadKey},
		{"/shop/a\\b", "shop", "", errBadKey},
		{"/shop/a%5cb", "shop", "", errBadKey},
		{"/shop/..%5c..%5cetc", "shop", "", errBadKey},
		{"/shop/%00", "shop", "", errBadKey},
		{"/shop/a%00.png", "shop", "", errBadKey},
		{"/shop/a%0d%0ab", "shop", "", errBadKey},
		{"/shop/a%09b", "shop", "", errBadKey},
		{"/shop/a%1f", "shop", "", errBadKey},
		{"/shop/a%7f", "shop", "", errBadKey},
		{"/shop/a\x7f", "shop", "", errBadKey},
		{"/shop/%", "shop", "", errBadKey},
		{"/shop/%4", "shop", "", errBadKey},
		{"/shop/a%4", "shop", "", errBadKey},
		{"/shop/%zz", "shop", "", errBadKey},
		{"/shop/%4g", "shop", "", errBadKey},
		{"/shop/%%41", "shop", "", errBadKey},
		{"/shop/%u002e", "shop", "", errBadKey},
		{"/shop/%c0%ae%c0%ae/a", "shop", "", errBadKey},
		{"/shop/%c0%af", "shop", "", errBadKey},
		{"/shop/%e0%80%ae", "shop", "", errBadKey},
		{"/shop/%ff", "shop", "", errBadKey},
		{"/shop/\xff", "shop", "", errBadKey},
		{"/shop/%ed%a0%80", "shop", "", errBadKey},
		{"/shop/%f4%90%80%80", "shop", "", errBadKey},
		{"/shop/%e2%82", "shop", "", errBadKey},
		{"/shop/a#b", "", "", errBadKey},
		{"/shop/a?b#c", "", "", errBadKey},
		{"/shop/a b", "", "", errBadKey},
		{"/shop/" + strings.Repeat("k", 1025), "shop", "", errBadKey},
		// A bad key is one whatever the alias.
		{"/Shop/..", "", "", errBadKey},
		{"http://evil/shop/..", "shop", "", errBadKey},
		{"http://evil/../a", "", "", errNoRoute},
	}
	if len(rows) < 60 {
		t.Fatalf("%d spellings, want 60 at least", len(rows))
	}
	for _, r := range rows {
		t.Run(fmt.Sprintf("%.40q", r.uri), func(t *testing.T) {
			t.Parallel()
			got, err := resolve([]byte(r.uri))
			if got.alias != r.alias || got.key != r.key || !errors.Is(err, r.err) {
				t.Errorf("got %q, %q, %v; want %q, %q, %v", got.alias, got.key, err, r.alias, r.key, r.err)
			}
		})
	}
}

// The request's buffer is used again for the next request on the connection.
func TestResolveKeepsNothingOfTheBuffer(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"/shop/a/b.png", "/shop/a%20b.png", "http://h/shop/a.png"} {
		buf := []byte(uri)
		got, err := resolve(buf)
		if err != nil {
			t.Fatal(err)
		}
		alias, key := strings.Clone(got.alias), strings.Clone(got.key)
		for i := range buf {
			buf[i] = '!'
		}
		if got.alias != alias || got.key != key {
			t.Errorf("%s became %q, %q when its buffer was used again", uri, got.alias, got.key)
		}
	}
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{
		"/shop/a.png", "/shop/%2e%2e/a", "/shop/a%2f..%2fb", "http://h/shop/a?b", "/shop/%c0%ae", "/shop/a#b",
		"/shop/a//b", "/shop/%5c", "/s/" + strings.Repeat("%e2%82%ac", 342), "//", "/-/x", "/shop/%252e",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, uri []byte) {
		before := bytes.Clone(uri)
		got, err := resolve(uri)
		if !bytes.Equal(uri, before) {
			t.Fatalf("%q was changed to %q", before, uri)
		}
		if err != nil {
			if got.key != "" {
				t.Fatalf("%q is refused and gives the key %q", uri, got.key)
			}
			return
		}
		wantSafe(t, got)
		again, err := resolve(encoded(got))
		if err != nil || again != got {
			t.Fatalf("%q gives %q, and that, encoded again, %q and %v", uri, got, again, err)
		}
		for i := range uri {
			uri[i] = 0
		}
		if again != got {
			t.Fatalf("%q is still the request's buffer", got)
		}
	})
}

// wantSafe checks that a key stays in the prefix that it is appended to.
func wantSafe(t *testing.T, got target) {
	t.Helper()
	segments := strings.Split(got.key, "/")
	bad := slices.ContainsFunc(segments, func(s string) bool { return s == "" || s == "." || s == ".." })
	control := strings.ContainsFunc(got.key, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' })
	if bad || control || !utf8.ValidString(got.key) || len(got.key) > alias.MaxKey {
		t.Fatalf("the key is %q", got.key)
	}
	if !alias.IsName(got.alias) {
		t.Fatalf("the alias is %q", got.alias)
	}
}

// encoded is the target that names an object with every byte escaped.
func encoded(t target) []byte {
	uri := []byte("/" + t.alias + "/")
	for i := range len(t.key) {
		uri = fmt.Appendf(uri, "%%%02X", t.key[i])
	}
	return uri
}
