package cli

import (
	"regexp"
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
		"http://[::1]:8080/shop/a%20b.png?w=3#x": "/shop/a%20b.png?w=3",
		"/shop/a.png?wm=a b.png,o50&t={x}":       "/shop/a.png?wm=a%20b.png,o50&t=%7Bx%7D",
		"https://img.example.com":                "/",
		"/shop/a b.png":                          "/shop/a%20b.png",
		"/shop/Größe.png":                        "/shop/Gr%C3%B6%C3%9Fe.png",
		"/shop/100%.png":                         "/shop/100%.png",
		"/shop/http://x":                         "/shop/http://x",
		"/shop/a\x00\\b":                         `/shop/a%00\b`,
		" /shop/a.png\n":                         "/shop/a.png",
		"":                                       "/",
		"?x":                                     "/?x",
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
		if !strings.HasPrefix(got, "/") || strings.ContainsAny(got, " #\n") || pathOf(got) != got {
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

// TestExplanationOfVariant: the table shows how a query is understood, and what the cache has of the
// variant.
func TestExplanationOfVariant(t *testing.T) {
	t.Parallel()
	const nothing = `{"memory":null,"disk":null,"missing":null}`
	const stored = `{"memory":{"state":"fresh","size":2048,"content_type":"image/jpeg","age":1,"ttl":9},"disk":null,"missing":null}`
	for _, row := range []struct {
		name, status, source, transform string
		want                            []string
		not                             string
	}{
		{
			"not made", "0", stored,
			`{"off":"","signature":{"needed":false,"state":"none"},"options":"w=500","template":"","width":{"asked":400,"used":500},
			"ignored":["v","utm_source"],"format":"webp","as_stored":false,"cache":` + nothing + `,"killed_worker":false,"last_failure":null}`,
			[]string{
				"a GET has a worker make the picture first\n", "options  w=500; w=400 is rounded up to 500; as webp\n",
				"ignored  v, utm_source\n", "variant  nothing stored\n",
			}, "signature",
		},
		{
			"nothing stored", "0", nothing,
			`{"signature":{"state":"none"},"options":"h=90&w=120","template":"thumb","width":null,"ignored":[],"format":"jpeg","cache":` + nothing + `}`,
			[]string{"a GET has to ask S3 first\n", "options  h=90&w=120; with the template thumb; as jpeg\n"}, "ignored",
		},
		{
			"killed", "422", stored,
			`{"signature":{"state":"ok","needed":true,"kid":"k1","expires_at":"2026-01-02T03:04:05Z"},"options":"h=9","ignored":[],"format":"jpeg",
			"cache":` + nothing + `,"killed_worker":true,"last_failure":{"at":"2026-01-02T03:04:05Z","error":"the worker died"}}`,
			[]string{
				"signature  ok k1, ends at 2026-01-02 03:04:05Z; the URL needs one\n",
				"variant  nothing stored; the picture killed a worker; failed at 2026-01-02 03:04:05Z: the worker died\n",
			}, "rounded",
		},
		{
			"off", "200", stored, `{"off":"the alias's transforms are off","signature":{"state":"none"},"options":"","ignored":[],"cache":null}`,
			[]string{"options  change nothing: the alias's transforms are off\n"}, "variant",
		},
		{
			"as stored", "200", stored, `{"off":"","signature":{"state":"none"},"options":"w=9","ignored":[],"cache":` + nothing + `,"as_stored":true}`,
			[]string{"variant  the stored picture is sent\n"}, "signature",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s, b := printer(formatTable)
			s.explanation(values(t, `{"path":"/shop/a.png?w=400","status":`+row.status+`,"code":"","alias":"shop","cache":`+row.source+`,"transform":`+row.transform+`}`))
			s.out.Flush()
			shown := regexp.MustCompile(" {2,}").ReplaceAllString(b.String(), "  ")
			for _, want := range row.want {
				if !strings.Contains(shown, want) {
					t.Errorf("no %q in\n%s", want, b)
				}
			}
			if strings.Contains(b.String(), row.not) {
				t.Errorf("%q in\n%s", row.not, b)
			}
		})
	}
}
