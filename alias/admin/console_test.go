package admin

import (
	"strings"
	"testing"
)

// TestConsole: the files need no token, and the checks of the listener hold for them.
func TestConsole(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	page := a.do("GET", "/", "", "Authorization", "").want(200, "")
	if !strings.Contains(page.body, `<script type="module" src="/console/main.js">`) {
		t.Errorf("the page does not load its module:\n%s", page.body)
	}
	for _, path := range []string{"/", "/console/main.js", "/console/style.css", "/console/vendor/preact.mjs", "/console/screens/sign_in.js"} {
		r := a.do("GET", path, "", "Authorization", "").want(200, "")
		for name, want := range map[string]string{
			"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
				"img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s: %s: got %q, want %q", path, name, got, want)
			}
		}
		again := a.do("GET", path, "", "If-None-Match", r.header.Get("ETag")).want(304, "")
		if again.body != "" || again.header.Get("ETag") != r.header.Get("ETag") || again.header.Get("Content-Type") != "" {
			t.Errorf("%s: the 304 has headers %v and a body of %d bytes", path, again.header, len(again.body))
		}
		a.raw("GET "+path+" HTTP/1.1\r\nHost: evil.example\r\n\r\n").want(421, "host")
		a.do("GET", path, "", "Origin", "http://evil.example").want(200, "") // without CORS headers a page of evil.example cannot read it
	}
	if got := a.do("GET", "/console/none.js", "").want(404, "not-found").header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("an unknown file: Cache-Control: got %q", got)
	}
}
