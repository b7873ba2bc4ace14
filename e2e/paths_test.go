package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestPaths sends spellings of paths byte for byte. S3 has a picture under every key,
// so that a wrong key shows in the status and in the requests to S3.
func TestPaths(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	long := strings.Repeat("a", 63)
	s.open(long, "media", "", nil)
	s.open("off", "media", "web/", map[string]any{"enabled": false})
	s.s3.Hook(func(*s3.Request) *s3.Fault {
		return s3.Replace(s3.Object{Body: png(100, ""), ContentType: "image/png"})
	})
	euros := strings.Repeat("%e2%82%ac", 340) // 1,020 bytes: with web/ the longest key there is
	for _, tc := range []struct {
		target string
		status int
		key    string // what S3 is asked for with a 200; empty: nothing
		lines  []string
	}{
		{"/shop/a.png", 200, "web/a.png", nil},
		{"/shop/b/c/d.png", 200, "web/b/c/d.png", nil},
		{"/shop/sp%20ace", 200, "web/sp ace", nil},
		{"/shop/plus+plus", 200, "web/plus+plus", nil},
		{"/shop/%61%62", 200, "web/ab", nil},
		{"/shop/%e2%82%ac.png", 200, "web/€.png", nil},
		{"/shop/£.png", 200, "web/£.png", nil},
		{"/shop/x%2fy", 200, "web/x/y", nil},
		{"/shop/q%3fq", 200, "web/q?q", nil},
		{"/shop/h%23h", 200, "web/h#h", nil},
		{"/shop/%252e%252e/%252e", 200, "web/%2e%2e/%2e", nil},
		{"/shop/%25", 200, "web/%", nil},
		{"/shop/s;x=1", 200, "web/s;x=1", nil},
		{"/shop/s;x.png", 200, "web/s;x.png", nil},
		{"/shop/...", 200, "web/...", nil},
		{"/shop/..x", 200, "web/..x", nil},
		{"/shop/.hidden", 200, "web/.hidden", nil},
		{"/shop/-/healthz", 200, "web/-/healthz", nil},
		{"/shop/http://evil/x", 400, "", nil},
		{"/shop/a:b@c,d&e=f!$'()*~", 200, "web/a:b@c,d&e=f!$'()*~", nil},
		{"/shop/q1?x=1", 200, "web/q1", nil},
		{"/shop/q2?", 200, "web/q2", nil},
		{"/shop/q3?/../../etc", 200, "web/q3", nil},
		{"/shop/q4?%zz%00", 200, "web/q4", nil},
		{"/shop/q5??x=y?z", 200, "web/q5", nil},
		{"/shop/q6?response-content-type=text/html", 200, "web/q6", nil},
		{"/shop/" + euros, 200, "web/" + strings.Repeat("€", 340), []string{"Cookie: c=" + strings.Repeat("x", 4096)}},
		{"/" + long + "/z.png", 200, "z.png", nil},
		{"http://evil.example/shop/abs1", 200, "web/abs1", nil},
		{"https://evil.example:99/shop/abs2?x", 200, "web/abs2", nil},
		{"HTTP://u:p@evil.example/shop/abs3", 200, "web/abs3", nil},
		{"http://169.254.169.254/shop/abs4", 200, "web/abs4", nil},

		{"/shop/..", 400, "", nil},
		{"/shop/.", 400, "", nil},
		{"/shop/../secret", 400, "", nil},
		{"/shop/./a", 400, "", nil},
		{"/shop/a/../../secret", 400, "", nil},
		{"/shop/a/..", 400, "", nil},
		{"/shop/%2e%2e/secret", 400, "", nil},
		{"/shop/%2e%2e%2fsecret", 400, "", nil},
		{"/shop/%2E%2E/secret", 400, "", nil},
		{"/shop/.%2e/secret", 400, "", nil},
		{"/shop/%2e./secret", 400, "", nil},
		{"/shop/..%2fsecret", 400, "", nil},
		{"/shop/..\\secret", 400, "", nil},
		{"/shop/a\\b", 400, "", nil},
		{"/shop/..%5csecret", 400, "", nil},
		{"/shop/a%5Cb", 400, "", nil},
		{"/shop//a", 400, "", nil},
		{"/shop/a//b", 400, "", nil},
		{"/shop/a/", 400, "", nil},
		{"/shop/", 400, "", nil},
		{"/shop/?a.png", 400, "", nil},
		{"/shop/%2fetc/passwd", 400, "", nil},
		{"/shop/a%2f%2fb", 400, "", nil},
		{"/shop/%00", 400, "", nil},
		{"/shop/a%00.png", 400, "", nil},
		{"/shop/a%0d%0aX:%20y", 400, "", nil},
		{"/shop/a%0ab", 400, "", nil},
		{"/shop/a%1fb", 400, "", nil},
		{"/shop/a%7fb", 400, "", nil},
		{"/shop/a\x00b", 400, "", nil},
		{"/shop/a\x7fb", 400, "", nil},
		{"/shop/a\tb", 400, "", nil},
		{"/shop/a\rb", 400, "", nil},
		{"/shop/a b", 400, "", nil},
		{"/shop/a#b", 400, "", nil},
		{"/shop/a?b#c", 400, "", nil},
		{"/-/healthz#", 400, "", nil},
		{"http://evil#@x/shop/a", 400, "", nil},
		{"/shop/%", 400, "", nil},
		{"/shop/%4", 400, "", nil},
		{"/shop/%gg", 400, "", nil},
		{"/shop/%u002e%u002e/secret", 400, "", nil},
		{"/shop/%c0%ae%c0%ae/secret", 400, "", nil},
		{"/shop/%c0%af..%c0%afsecret", 400, "", nil},
		{"/shop/%e0%80%ae%e0%80%ae/secret", 400, "", nil},
		{"/shop/%ff%fe", 400, "", nil},
		{"/shop/\xff\xfe", 400, "", nil},
		{"/shop/%ed%a0%80", 400, "", nil},
		{"/shop/" + euros + "a", 400, "", nil},
		{"/shop/" + strings.Repeat("a", 1021), 400, "", nil},
		{"http://evil.example/shop/../secret", 400, "", nil},
		{"*", 400, "", nil},
		{"shop/a.png", 400, "", nil},
		{"evil.example:80", 400, "", nil},

		{"/", 404, "", nil},
		{"/?x", 404, "", nil},
		{"/shop", 404, "", nil},
		{"/shop?/a.png", 404, "", nil},
		{"/-", 404, "", nil},
		{"/-/", 404, "", nil},
		{"/-/healthz/", 404, "", nil},
		{"/-/readyz/?x=y", 404, "", nil},
		{"/-//readyz", 404, "", nil},
		{"/-/..", 404, "", nil},
		{"/-/%zz", 404, "", nil},
		{"http://h/-/healthz/", 404, "", nil},
		{"/-/metrics", 404, "", nil},
		{"/-/healthz/x", 404, "", nil},
		{"/-/Healthz", 404, "", nil},
		{"/-/%68ealthz", 404, "", nil},
		{"/metrics", 404, "", nil},
		{"/api/v1/aliases", 404, "", nil},
		{"/favicon.ico", 404, "", nil},
		{"//shop/a.png", 404, "", nil},
		{"//evil.example/shop/a.png", 404, "", nil},
		{"/Shop/a.png", 404, "", nil},
		{"/SHOP/a.png", 404, "", nil},
		{"/sh%6fp/a.png", 404, "", nil},
		{"/shop%2fa.png", 404, "", nil},
		{"/../shop/a.png", 404, "", nil},
		{"/nobody/a.png", 404, "", nil},
		{"/off/a.png", 404, "", nil},
		{"/-shop/a.png", 404, "", nil},
		{"/sh_op/a.png", 404, "", nil},
		{"/" + long + "a/z.png", 404, "", nil},
		{"/" + long + "-/z.png", 404, "", nil},
		{"http://evil.example", 404, "", nil},
		{"http://evil.example?/shop/a.png", 404, "", nil},
		{"ftp://evil.example/shop/a.png", 404, "", nil},
	} {
		t.Run(fmt.Sprintf("%.50q", tc.target), func(t *testing.T) {
			asked := s.s3.Total()
			r := s.ask(tc.target, tc.lines...)
			if r.StatusCode != tc.status {
				t.Fatalf("got %s, want %d", summary(r), tc.status)
			}
			seen := s.s3.Requests()[asked:]
			if tc.key == "" {
				if len(seen) > 0 {
					t.Errorf("S3 was asked for %q", seen[0].Target)
				}
				return
			}
			if len(seen) != 1 || seen[0].Bucket != "media" || seen[0].Key != tc.key || seen[0].Method != http.MethodGet {
				t.Errorf("S3 saw %+v, want one GET of %q", seen, tc.key)
			}
		})
	}
	for _, r := range s.s3.Requests() {
		if !strings.HasPrefix(r.Key, "web/") && r.Key != "z.png" {
			t.Errorf("S3 was asked for %q, outside the prefix", r.Key)
		}
		if path, query, _ := strings.Cut(r.Target, "?"); query != "x-id=GetObject" {
			t.Errorf("%s went out with the query %q", path, query)
		}
	}
}

// TestQueriesShareAnEntry: an object has one entry, whatever the query.
func TestQueriesShareAnEntry(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(1000, "")
	s.put("a.png", s3.Object{Body: body})
	w := s.dial()
	for i := range 1000 {
		r := w.send(fmt.Sprintf("GET /shop/a.png?v=%d&%x HTTP/1.1\r\nHost: x\r\n\r\n", i, i*i)).answer(http.MethodGet)
		wantPicture(t, r, body)
	}
	if n := s.calls("a.png"); n != 1 {
		t.Errorf("S3 was asked %d times", n)
	}
	if n := s.metric(`ixmage_cache_entries{tier="memory"}`); n != 1 {
		t.Errorf("%v entries", n)
	}
}

// TestKeysOfAliasesStayApart: alias and key are not joined in the key of the cache as
// they are in a URL.
func TestKeysOfAliasesStayApart(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.open("a", "bucket-a", "", nil)
	s.open("b", "bucket-b", "", nil)
	s.open("ab", "bucket-a", "a/", nil)
	for bucket, keys := range map[string][]string{"bucket-a": {"b/c", "c", "a/b/c", "a/c"}, "bucket-b": {"b/c", "c", "a/b/c"}} {
		for _, key := range keys {
			s.s3.Put(bucket, key, s3.Object{Body: append(png(20, ""), bucket+key...), ContentType: "image/png"})
		}
	}
	for range 2 { // from S3, and from memory
		for target, want := range map[string]string{
			"/a/b/c": "bucket-ab/c", "/a/c": "bucket-ac", "/b/b/c": "bucket-bb/c", "/b/c": "bucket-bc",
			"/ab/b/c": "bucket-aa/b/c", "/ab/c": "bucket-aa/c", "/a/a/c": "bucket-aa/c", "/b/a/b/c": "bucket-ba/b/c",
		} {
			wantPicture(t, s.get(target), append(png(20, ""), want...))
		}
	}
	if n := s.s3.Total(); n != 8 {
		t.Errorf("S3 was asked %d times for 8 objects", n)
	}
}
