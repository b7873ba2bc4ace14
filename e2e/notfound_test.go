package e2e

import (
	"net/http"
	"regexp"
	"testing"

	"ixmage/internal/awstest/s3"
)

// Not found has one face: nobody learns from it which aliases there are, nor
// whether an object is missing or refused.
func TestNotFoundIsOneAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put("a.png", s3.Object{Body: fakePNG(100)})
	s.open("off", "media", "web/", map[string]any{"enabled": false})
	s.open("gone", "media", "web/", nil)
	wantPicture(t, s.get("/gone/a.png"), fakePNG(100))
	if r := s.api(http.MethodDelete, "/api/v1/aliases/gone", nil); r.StatusCode != http.StatusNoContent {
		t.Fatalf("delete: %s", r.Status)
	}
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		switch r.Key {
		case "web/denied.png":
			return s3.Fail("AccessDenied")
		case "web/bare403.png":
			return &s3.Fault{Status: http.StatusForbidden, Body: []byte{}}
		case "web/html404.png":
			return s3.HTML404()
		}
		return nil
	})
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		want := ""
		for _, target := range []string{
			"/nobody/a.png", "/off/a.png", "/gone/a.png", "/shop/none.png", "/shop/denied.png", "/shop/bare403.png", "/shop/html404.png",
			"/shop/none.png?x=y", "/", "/shop", "/a", "/-/nothing", "/Shop/a.png", "/favicon.ico", "/metrics", "/api/v1/aliases",
			"/api/v1/aliases/x.png", "http://evil.example/nobody/a.png", "//shop/a.png",
		} {
			for _, lines := range []string{"", "Range: bytes=0-4\r\nIf-None-Match: *\r\nIf-Modified-Since: Wed, 15 Nov 2034 12:00:00 GMT\r\n"} {
				text := s.dial().send(method + " " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines + "\r\n").all()
				ids := requestIDs.FindAllString(text, -1)
				if n := map[string]int{http.MethodGet: 2, http.MethodHead: 1}[method]; len(ids) != n || ids[0] != ids[n-1] {
					t.Fatalf("%s %s: request ids %q", method, target, ids)
				}
				text = changing.ReplaceAllString(requestIDs.ReplaceAllString(text, "ID"), "Date: D")
				if want == "" {
					want = text
				}
				if text != want {
					t.Errorf("%s %s: got\n%s\nwant, as for the first,\n%s", method, target, text, want)
				}
			}
		}
		if got := regexp.MustCompile(`^HTTP/1.1 404 `).FindString(want); got == "" {
			t.Errorf("%s: the answer is %q", method, want)
		}
	}
}

var (
	requestIDs = regexp.MustCompile(`\b[0-9a-f]{16}\b`)
	changing   = regexp.MustCompile(`Date: [^\r]+`)
)
