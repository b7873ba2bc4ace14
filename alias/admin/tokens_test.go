package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
)

// makeToken makes a token with the admin token, and returns the header that sends it.
func (a *api) makeToken(name, roles, buckets string) string {
	a.t.Helper()
	var made newTokenJSON
	a.do("POST", tokensPath, fmt.Sprintf(`{"name":%q,"roles":%s,"buckets":%s}`, name, roles, buckets)).want(201, "").decode(&made)
	return "Bearer " + made.Token
}

func TestToken(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	before := time.Now()
	r := a.do("POST", tokensPath, `{"name":"ci","roles":["purge","read","purge"],"buckets":["acme-*"],"expires_at":"2100-01-02T03:04:05+01:00"}`).
		want(201, "")
	if got := r.header.Get("Location"); got != tokensPath+"/ci" {
		t.Errorf("Location: %q", got)
	}
	var made newTokenJSON
	r.decode(&made)
	text := made.Token
	if !strings.HasPrefix(text, "ixmage_") || len(text) < 33 {
		t.Errorf("the text is %q", text)
	}
	if got := fmt.Sprint(made.Name, made.Roles, made.Buckets, *made.ExpiresAt, made.CreatedBy, made.LastUsedAt); got !=
		"ci[read purge] [acme-*]2100-01-02T02:04:05Zadmin@127.0.0.1<nil>" {
		t.Errorf("got %s", got)
	}
	for _, path := range []string{tokensPath, tokensPath + "/ci", "/api/v1/audit"} {
		if body := a.do("GET", path, "").want(200, "").body; strings.Contains(body, text[7:]) || strings.Contains(body, `"token"`) {
			t.Errorf("%s shows the text: %s", path, body)
		}
	}
	a.noSecretIn(text)

	a.do("GET", "/api/v1/aliases", "", "Authorization", "Bearer "+text).want(200, "")
	var shown tokenJSON
	a.do("GET", tokensPath+"/ci", "").want(200, "").decode(&shown)
	if used, err := time.Parse(time.RFC3339, *shown.LastUsedAt); err != nil || used.Before(before.Add(-time.Second)) {
		t.Errorf("last used at %s, %v", *shown.LastUsedAt, err)
	}
	a.do("DELETE", tokensPath+"/ci", "").want(204, "")
	a.do("DELETE", tokensPath+"/ci", "").want(404, "not-found")
	a.do("GET", tokensPath+"/ci", "").want(404, "not-found")
	a.do("GET", "/api/v1/aliases", "", "Authorization", "Bearer "+text).want(401, "unauthorized")

	var log auditJSON
	a.do("GET", "/api/v1/audit", "").want(200, "").decode(&log)
	if len(log.Audit) != 2 || log.Audit[0].Action != "delete-token" || log.Audit[1].Action != "create-token" ||
		!strings.Contains(log.Audit[1].Detail, "ci with the roles [read purge] for the buckets [acme-*] until 2100-01-02") {
		t.Errorf("audit: %+v", log.Audit)
	}
}

// noSecretIn looks for a text in the files of the registry and in the log.
func (a *api) noSecretIn(text string) {
	a.t.Helper()
	for name, content := range a.files() {
		if strings.Contains(content, text[7:]) {
			a.t.Errorf("%s has the text of the token", name)
		}
	}
	if strings.Contains(a.logs.String(), text[7:]) {
		a.t.Error("the log has the text of the token")
	}
}

func TestTokenInvalid(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.makeToken("taken", `["read"]`, `[]`)
	for _, c := range []struct {
		body, field string
		status      int
	}{
		{`{"name":"ok","roles":["read"]}`, "", 201},
		{`{"name":"no-buckets","roles":["read"],"buckets":[],"expires_at":null}`, "", 201},
		{`{"name":"taken","roles":["read"]}`, "", 409},
		{`{"roles":["read"]}`, "name", 400},
		{`{"name":"admin","roles":["read"]}`, "name", 400},
		{`{"name":"UPPER","roles":["read"]}`, "name", 400},
		{`{"name":"x"}`, "roles", 400},
		{`{"name":"x","roles":[]}`, "roles", 400},
		{`{"name":"x","roles":["read","root"]}`, "roles[1]", 400},
		{`{"name":"x","roles":"read"}`, "roles", 400},
		{`{"name":"x","roles":["read"],"buckets":["ok","UPPER_"]}`, "buckets[1]", 400},
		{`{"name":"x","roles":["read"],"buckets":[""]}`, "buckets[0]", 400},
		{`{"name":"x","roles":["read"],"expires_at":"2020-01-01T00:00:00Z"}`, "expires_at", 400},
		{`{"name":"x","roles":["read"],"expires_at":"tomorrow"}`, "expires_at", 400},
		{`{"name":"x","roles":["read"],"token":"ixmage_mine"}`, "token", 400},
		{`{"name":"x","roles":["read"],"role":"read"}`, "role", 400},
	} {
		r := a.do("POST", tokensPath, c.body)
		var p problemJSON
		if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.status != c.status {
			t.Errorf("%s: got %d, want %d: %s", c.body, r.status, c.status, r.body)
			continue
		}
		if c.field != "" && (len(p.Errors) != 1 || p.Errors[0].Field != c.field) {
			t.Errorf("%s: got the fields %v, want %s", c.body, p.Errors, c.field)
		}
	}
}

// TestTokenRoles makes every call with a token of every role. A call without a row, and a row
// without a call, fail.
func TestTokenRoles(t *testing.T) {
	t.Parallel()
	const read, purge, writes, iam, admin = "read purge alias provision admin", "purge admin", "alias admin", "provision admin", "admin"
	matrix := map[string]string{
		"POST /api/v1/session":                             "read purge alias provision admin nobody",
		"GET /api/v1/session":                              read,
		"DELETE /api/v1/session":                           read,
		"GET /api/v1/tokens":                               admin,
		"POST /api/v1/tokens":                              admin,
		"GET /api/v1/tokens/{name}":                        admin,
		"DELETE /api/v1/tokens/{name}":                     admin,
		"GET /api/v1/aliases":                              read,
		"POST /api/v1/aliases":                             writes,
		"GET /api/v1/aliases/{name}":                       read,
		"PATCH /api/v1/aliases/{name}":                     writes,
		"DELETE /api/v1/aliases/{name}":                    writes,
		"GET /api/v1/aliases/{name}/signing-keys":          read,
		"POST /api/v1/aliases/{name}/signing-keys":         writes,
		"DELETE /api/v1/aliases/{name}/signing-keys/{kid}": writes,
		"POST /api/v1/aliases/{name}/sign":                 writes,
		"GET /api/v1/aliases/{name}/usage":                 read,
		"GET /api/v1/aliases/{name}/picture":               read,
		"GET /api/v1/aliases/{name}/verification":          read,
		"POST /api/v1/aliases/{name}/verify":               "alias provision admin",
		"GET /api/v1/usage":                                read,
		"GET /api/v1/credentials":                          read,
		"POST /api/v1/credentials":                         writes,
		"GET /api/v1/credentials/{name}":                   read,
		"PUT /api/v1/credentials/{name}":                   writes,
		"PATCH /api/v1/credentials/{name}":                 writes,
		"DELETE /api/v1/credentials/{name}":                "alias provision admin",
		"POST /api/v1/credentials/{name}/rotate":           iam,
		"POST /api/v1/credentials/{name}/reclaim":          iam,
		"POST /api/v1/provision":                           iam,
		"POST /api/v1/provision/plan":                      iam,
		"GET /api/v1/operations":                           read,
		"GET /api/v1/operations/{id}":                      read,
		"GET /api/v1/operations/{id}/events":               read,
		"GET /api/v1/audit":                                read,
		"GET /api/v1/orphans":                              read,
		"DELETE /api/v1/orphans/{user}":                    iam,
		"GET /api/v1/nodes":                                read,
		"DELETE /api/v1/nodes/{name}":                      admin,
		"POST /api/v1/purge":                               purge,
		"GET /api/v1/explain":                              read,
		"GET /api/v1/server":                               read,
		"GET /api/v1/doctor":                               iam,
		"GET /api/v1/cache":                                read,
		"GET /api/v1/backup":                               admin,
		"GET /api/v1/openapi.json":                         read,
	}
	a := newAPI(t)
	roles := slices.Clone(alias.TokenRoles)
	headers := map[alias.TokenRole]string{"nobody": ""}
	for _, r := range roles {
		headers[r] = a.makeToken("with-"+string(r), fmt.Sprintf(`[%q]`, r), `[]`)
	}
	seen := map[string]bool{}
	for _, d := range a.server.routes.calls {
		call := d.method + " " + d.path
		seen[call] = true
		want, ok := matrix[call]
		if !ok {
			t.Errorf("%s has no row", call)
			continue
		}
		path := strings.NewReplacer("{name}", "nope", "{id}", "nope", "{user}", "nope", "{kid}", "nope").Replace(d.path)
		for _, r := range append(roles, "nobody") {
			a.forgetWrongTokens()
			got := a.do(d.method, path, "", "Authorization", headers[r])
			refused := got.status == http.StatusForbidden && !strings.Contains(got.body, "switched off") || got.status == http.StatusUnauthorized
			if refused == slices.Contains(strings.Fields(want), string(r)) {
				t.Errorf("%s with the role %s: got %d %s", call, r, got.status, got.body)
			}
		}
	}
	for _, call := range slices.Sorted(maps.Keys(matrix)) {
		if !seen[call] {
			t.Errorf("the row %s is of no call", call)
		}
	}
}

func TestTokenExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(time.Hour)
		k := alias.Token{Name: "ci", Roles: []alias.TokenRole{alias.RoleRead}, ExpiresAt: end}
		if k.Expired(time.Now()) {
			t.Error("it expired before its end")
		}
		time.Sleep(time.Hour) //nolint:forbidigo // the clock of the bubble
		if !k.Expired(time.Now()) {
			t.Error("it is valid at its end")
		}
	})
	a := newAPI(t)
	text := "ixmage_expired-long-ago"
	if _, err := a.server.bearers.tokens.Create(t.Context(), alias.Token{
		Name: "old", Roles: []alias.TokenRole{alias.RoleAdmin}, Digest: alias.DigestOf(text), ExpiresAt: time.Now().Add(-time.Minute),
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 * wrongTokensMax { // it is no guess
		r := a.do("GET", "/api/v1/aliases", "", "Authorization", "Bearer "+text).want(401, "unauthorized")
		if !strings.Contains(r.body, "the token old expired at") {
			t.Fatalf("got %s", r.body)
		}
	}
	a.do("POST", sessionPath, `{"token":"`+text+`"}`, "Authorization", "").want(401, "unauthorized")
}

// TestTokenNoMore: no token makes one that lives longer than itself.
func TestTokenNoMore(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	var made newTokenJSON
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	a.do("POST", tokensPath, fmt.Sprintf(`{"name":"short","roles":["admin"],"expires_at":%q}`, timestamp(end))).want(201, "").decode(&made)
	for expires, want := range map[string]int{
		"null": 400,
		`"` + timestamp(end.Add(time.Second)) + `"`: 400,
		`"` + timestamp(end) + `"`:                  201,
	} {
		r := a.do("POST", tokensPath, `{"name":"child","roles":["read"],"expires_at":`+expires+`}`, "Authorization", "Bearer "+made.Token)
		if r.status != want {
			t.Errorf("expires_at %s: got %d, want %d: %s", expires, r.status, want, r.body)
		}
	}
	limited := a.makeToken("limited", `["admin"]`, `["acme-*"]`)
	a.do("POST", tokensPath, `{"name":"other","roles":["read"]}`, "Authorization", limited).want(403, "forbidden")
	a.do("GET", tokensPath, "", "Authorization", limited).want(403, "forbidden")
}

// TestTokensSurvive: tokens and the times of their last use are there after a restart.
func TestTokensSurvive(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	header := a.makeToken("ci", `["read"]`, `[]`)
	a.do("GET", "/api/v1/aliases", "", "Authorization", header).want(200, "")
	if err := a.server.bearers.tokens.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := alias.OpenTokens(t.Context(), a.store)
	if err != nil {
		t.Fatal(err)
	}
	k, ok := again.Find(alias.DigestOf(strings.TrimPrefix(header, "Bearer ")))
	if !ok || k.Name != "ci" || k.LastUsedAt.IsZero() {
		t.Errorf("got %+v, %v", k, ok)
	}
}

// files reads the files of the registry.
func (a *api) files() map[string]string {
	a.t.Helper()
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		a.t.Fatal(err)
	}
	files := make(map[string]string, len(entries))
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(a.dir, e.Name()))
		if err != nil {
			a.t.Fatal(err)
		}
		files[e.Name()] = string(content)
	}
	return files
}
