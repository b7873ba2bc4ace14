package admin

import (
	"strings"
	"testing"
)

func TestDryRun(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	list := func() string {
		return a.do("GET", "/api/v1/aliases", "").want(200, "").body + a.do("GET", "/api/v1/credentials", "").want(200, "").body
	}
	before := list()
	const alias = `{"name":"blog","bucket":"acme-media","prefix":"blog","region":"eu-west-1","ttl":"90m","credential":`
	for _, row := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code, says               string
	}{
		{"register", "POST", "/api/v1/aliases", alias + keyPair + `}`, nil, 200, "", `"prefix":"blog/"`},
		{"register, default", "POST", "/api/v1/aliases", alias + `null}`, nil, 200, "", `"credential":"blog"`},
		{"register, name taken", "POST", "/api/v1/aliases", `{"name":"shop","bucket":"acme-media","region":"eu-west-1","credential":null}`, nil, 409, "exists", ""},
		{"register, unknown credential", "POST", "/api/v1/aliases", alias + `"media"}`, nil, 400, "invalid", `there is no credential named`},
		{"register, wrong field", "POST", "/api/v1/aliases", alias + `null,"x":1}`, nil, 400, "invalid", `"field":"x"`},
		{"change", "PATCH", "/api/v1/aliases/shop", `{"ttl":"2h"}`, []string{"If-Match", `"1"`}, 200, "", `"revision":2,`},
		{"change nothing", "PATCH", "/api/v1/aliases/shop", `{"ttl":"60m"}`, nil, 200, "", `"revision":1,`},
		{"change, stale", "PATCH", "/api/v1/aliases/shop", `{"ttl":"2h"}`, []string{"If-Match", `"9"`}, 412, "precondition-failed", ""},
		{"remove", "DELETE", "/api/v1/aliases/shop", "", nil, 204, "", ""},
		{"remove, unknown", "DELETE", "/api/v1/aliases/blog", "", nil, 404, "not-found", ""},
		{"register a credential", "POST", "/api/v1/credentials", `{"name":"media",` + keyPair[1:], nil, 200, "", `"name":"media"`},
		{"replace a key pair", "PUT", "/api/v1/credentials/shop", keyPair, nil, 200, "", `"version":2,`},
		{"change what is expected", "PATCH", "/api/v1/credentials/shop", `{"expect":"read-only-access"}`, nil, 200, "", `"revision":2`},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := a.do(row.method, row.path+"?dry_run=true", row.body, row.header...).want(row.status, row.code)
			if !strings.Contains(r.body, row.says) {
				t.Errorf("got %s, want %s", r.body, row.says)
			}
			for _, name := range []string{"Location", "ETag"} {
				if got := r.header.Get(name); got != "" {
					t.Errorf("%s: %s", name, got)
				}
			}
			if after := list(); after != before {
				t.Errorf("it was stored:\nbefore %s\nafter  %s", before, after)
			}
		})
	}
	for _, line := range a.logs.lines(t) { // it says that nothing was changed, and only with --log-level debug
		if line["dry_run"] == true && line["level"] != "DEBUG" {
			t.Errorf("log: %v", line)
		}
	}
	if !strings.Contains(a.logs.String(), `"dry_run":true`) {
		t.Error("the log does not tell a dry run")
	}
	a.do("DELETE", "/api/v1/aliases/shop?dry_run=yes", "").want(400, "invalid")
	a.do("GET", "/api/v1/aliases?dry_run=true", "").want(400, "invalid")
	a.do("DELETE", "/api/v1/aliases/shop?dry_run=false", "").want(204, "")
}
