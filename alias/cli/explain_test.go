package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPathOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/shop/a.png":                            "/shop/a.png",
		"shop/a.png":                             "/shop/a.png",
		"https://img.example.com/shop/a.png":     "/shop/a.png",
		"http://[::1]:8080/shop/a%20b.png?w=3#x": "/shop/a%20b.png",
		"https://img.example.com":                "/",
		"/shop/a b.png":                          "/shop/a%20b.png",
		"/shop/Größe.png":                        "/shop/Gr%C3%B6%C3%9Fe.png",
		"/shop/100%.png":                         "/shop/100%.png",
		"/shop/http://x":                         "/shop/http://x",
		"/shop/a\x00\\b":                         `/shop/a%00\b`,
		" /shop/a.png\n":                         "/shop/a.png",
		"":                                       "/",
		"?x":                                     "/",
		"https://img.example.com/shop/../x//y.png": "/shop/../x//y.png",
	} {
		if got := pathOf(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzPathOf(f *testing.F) {
	f.Add("https://h/a b?c#d")
	f.Fuzz(func(t *testing.T, text string) {
		got := pathOf(text)
		if !strings.HasPrefix(got, "/") || strings.ContainsAny(got, " ?#\n") || pathOf(got) != got {
			t.Errorf("%q: %q", text, got)
		}
	})
}

func TestExplanation(t *testing.T) {
	t.Parallel()
	const answer = `{"at":"2026-01-02T03:04:05Z","key":"web/a.png","operation":"GetObject","outcome":"denied","status":403,
		"s3_code":"AccessDenied","s3_message":"no","s3_request_id":"R","cause":"","error":"e"}`
	s, b := printer(formatTable)
	s.explanation(values(t, `{"path":"/shop/a.png","status":404,"code":"not-found","alias":"shop","bucket":"media","key":"web/a.png",
		"region":"eu-west-1","endpoint":"","credential":{"name":"shop","kind":"static","access_key_id":"AKID","state":"active"},
		"cache":{"tier":"missing","memory":null,"disk":null,"missing":{"ttl":4,"reason":"AccessDenied"},"fetching":true,"bypass":false},
		"circuit":{"state":"open","failures":10,"retry_in":3},"canary":{"key":"web/c.png","state":"readable","checked_at":"2026-01-02T03:04:05Z"},
		"last_answer":`+answer+`,"last_failure":null,"key_failure":null,"remedy":"Upload it."}`))
	s.out.Flush()
	want := `GET /shop/a.png
a GET gets 404 Not Found (not-found)

alias              shop
object             s3://media/web/a.png in eu-west-1
credential         shop static AKID active
cache              negative entry for 4 s: AccessDenied; a fetch is under way
circuit            open, 10 failures in a row, the next request goes to S3 in 3 s
canary             readable web/c.png, read at 2026-01-02 03:04:05Z
last answer of S3  denied 403 AccessDenied: no (GetObject web/a.png at 2026-01-02 03:04:05Z)

Upload it.
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}
