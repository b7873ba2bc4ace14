package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCompletion: the last word is the one to complete. ~ stands for an empty one, and =
// alone for the word that bash makes of it.
func TestCompletion(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]string{
			"/api/v1/aliases":     `{"aliases":[{"name":"blog"},{"name":"shop"},{"name":"shop-old"}]}`,
			"/api/v1/credentials": `{"credentials":[{"name":"media"}]}`,
			"/api/v1/operations":  `{"operations":[{"id":"op-1"}]}`,
			"/api/v1/orphans":     `{"orphans":[{"user":"ixmage-s3read-x"}]}`,
			"/api/v1/nodes":       `{"nodes":[{"name":"web-1"}]}`,
			"/api/v1/tokens":      `{"tokens":[{"name":"deploy"}]}`,

			"/api/v1/aliases/shop/signing-keys": `{"signing_keys":[{"kid":"k7mx2qpa"},{"kid":"zz22yy33"}]}`,
		}[r.URL.Path]
		if r.URL.RawQuery != "" && (r.URL.Path == "/api/v1/nodes" || r.URL.Path == "/api/v1/tokens") {
			answer = `{}` // these calls have no pages, and refuse a limit
		}
		if r.Header.Get("Authorization") != "Bearer right" {
			answer = `{}`
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	there := " --admin-url " + server.URL + " --admin-token-file=" + token + " "
	m := model(t)
	for typed, want := range map[string]string{
		"al":                                          "alias",
		"alias g":                                     "get",
		"alias" + there + "get ~":                     "blog shop shop-old",
		"alias get" + there + "sho":                   "shop shop-old",
		"alias get shop" + there + "~":                "",
		"purge" + there + "b":                         "blog",
		"purge" + there + "blog ~":                    "",
		"usage" + there + "x":                         "",
		"alias add x" + there + "--credential ~":      "media",
		"alias add x" + there + "--credential=m":      "--credential=media",
		"alias add x" + there + "--credential =":      "media",
		"alias add x" + there + "--credential = m":    "media",
		"operation get" + there + "~":                 "op-1",
		"orphans rm" + there + "ix":                   "ixmage-s3read-x",
		"node rm" + there + "~":                       "web-1",
		"signing-key ls" + there + "b":                "blog",
		"signing-key rm" + there + "b":                "blog",
		"signing-key rm" + there + "shop ~":           "k7mx2qpa zz22yy33",
		"signing-key rm" + there + "shop z":           "zz22yy33",
		"signing-key rm" + there + "shop zz22yy33 ~":  "",
		"signing-key rm" + there + "none ~":           "",
		"alias set x --transforms ~":                  "off templates signed open",
		"alias set x --access=s":                      "--access=signed",
		"token rm" + there + "~":                      "deploy",
		"alias get" + there + "--output ~":            "table json yaml",
		"alias get -o j":                              "json",
		"alias get -o=":                               "-o=table -o=json -o=yaml",
		"alias ls --o":                                "--output=",
		"alias set x --no-":                           "--no-path-style --no-enabled",
		"alias set x --en":                            "--endpoint= --enabled",
		"alias add x --key-file ~":                    "FILES",
		"alias add x --key-file=k":                    "FILES",
		"alias ls --admin-token-file ~":               "FILES",
		"alias add x --bucket ~":                      "",
		"alias add x --unknown ~":                     "",
		"alias add x --unknown=":                      "",
		"completion ~":                                "bash zsh fish",
		"nothing ~":                                   "",
		"alias get --admin-url http://127.0.0.1:1 ~":  "",
		"alias get --admin-token-file /does/not/be ~": "",
	} {
		var words []string
		for w := range strings.FieldsSeq(typed) {
			words = append(words, strings.ReplaceAll(w, "~", ""))
		}
		s, _ := printer(formatTable)
		s.ctx, s.model = context.Background(), m
		l := parseLine(m.Node, words)
		list, files := l.candidates(s)
		var got []string
		for _, e := range list {
			got = append(got, e.word)
		}
		if files {
			got = append(got, "FILES")
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%q: %q, want %q", typed, text, want)
		}
	}
}

// TestCompletionOfSilentServer: a shell waits for a server that does not answer no longer than for
// completionTimeout.
func TestCompletionOfSilentServer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, out := printer(formatTable)
	s.ctx, s.model = ctx, model(t)
	c := completeCmd{Words: []string{"alias", "--admin-url", server.URL, "--admin-token-file=" + token, "get", ""}}
	if err := c.Run(s); err != nil || out.Len() > 0 || ctx.Err() != nil {
		t.Errorf("got %v and %q; the context says %v", err, out, ctx.Err())
	}
}

// FuzzParseLine: no words make it fail.
func FuzzParseLine(f *testing.F) {
	f.Add("alias add x --credential = m")
	f.Add("-- = -o")
	f.Fuzz(func(t *testing.T, typed string) {
		m := model(t)
		s, _ := printer(formatTable)
		s.ctx, s.model = t.Context(), m
		s.flags = &Connection{}
		l := parseLine(m.Node, strings.Split(typed, " "))
		l.given["admin-token-file"] = "/does/not/exist"
		l.candidates(s)
	})
}
