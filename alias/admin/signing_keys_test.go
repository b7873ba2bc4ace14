package admin

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/signature"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

// usedAt knows one use of each key.
type usedAt time.Time

func (u usedAt) LastUse(int64, string) time.Time { return time.Time(u) }

func (a *api) makeKey(name string) newSigningKeyJSON {
	a.t.Helper()
	var k newSigningKeyJSON
	a.do("POST", "/api/v1/aliases/"+name+"/signing-keys", "").want(201, "").decode(&k)
	return k
}

// noKey fails the test if a text has the secret of a key.
func noKey(t *testing.T, where, text string, k newSigningKeyJSON) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(k.Secret)
	if err != nil || len(raw) != 32 {
		t.Fatalf("the secret has %d bytes, %v", len(raw), err)
	}
	for _, form := range []string{
		k.Secret, string(raw), base64.StdEncoding.EncodeToString(raw), fmt.Sprintf("%x", raw), fmt.Sprintf("%v", raw),
	} {
		if contains(text, form) {
			t.Errorf("%s has the secret of a signing key: %s", where, text)
		}
	}
}

func TestSigningKeyCalls(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	a.do("GET", "/api/v1/aliases/shop/signing-keys", "").want(200, "")
	r := a.do("POST", "/api/v1/aliases/shop/signing-keys", `{}`).want(201, "")
	var first newSigningKeyJSON
	r.decode(&first)
	second := a.makeKey("shop")
	if got := r.header.Get("Location"); got != "/api/v1/aliases/shop/signing-keys/"+first.KID || !alias.IsKID(first.KID) {
		t.Errorf("Location %s of %+v", got, first)
	}
	var list signingKeysJSON
	r = a.do("GET", "/api/v1/aliases/shop/signing-keys", "").want(200, "")
	r.decode(&list)
	if len(list.SigningKeys) != 2 || list.SigningKeys[0] != (signingKeyJSON{first.KID, first.CreatedAt, nil}) ||
		list.SigningKeys[1].KID != second.KID {
		t.Errorf("got %s", r.body)
	}
	noKey(t, "the list", r.body, first)

	a.do("DELETE", "/api/v1/aliases/shop/signing-keys/"+first.KID, "").want(204, "")
	for path, detail := range map[string]string{
		"shop/signing-keys/" + first.KID: `the alias shop has no signing key named ` + first.KID,
		"shop/signing-keys/X%22Y":        `a signing key is named by its kid: 4 to 32 lower-case letters and digits`,
		"none/signing-keys/" + first.KID: `there is no alias named "none"`,
	} {
		r := a.do("DELETE", "/api/v1/aliases/"+path, "").want(404, "not-found")
		if r.problem().Detail != detail {
			t.Errorf("%s: got %s", path, r.body)
		}
	}
	for _, call := range []string{"GET /none/signing-keys", "POST /none/signing-keys", "POST /none/sign"} {
		method, path, _ := strings.Cut(call, " ")
		body := ""
		if contains(path, "/sign") && !contains(path, "keys") {
			body = `{"path":"/none/a.jpg"}`
		}
		a.do(method, "/api/v1/aliases"+path, body).want(404, "not-found")
	}

	// What the alias, the audit, errors and the log say.
	for _, path := range []string{"/api/v1/aliases/shop", "/api/v1/aliases", "/api/v1/audit", "/api/v1/explain?path=/shop/a.jpg"} {
		text := a.do("GET", path, "").body
		noKey(t, path, text, first)
		noKey(t, path, text, second)
	}
	noKey(t, "the log", a.logs.String(), first)
	noKey(t, "the log", a.logs.String(), second)
	audit := a.do("GET", "/api/v1/audit", "").body
	for _, part := range []string{
		`"actor":"admin@127.0.0.1","action":"create-signing-key"`, `"action":"delete-signing-key"`, `"alias":"shop"`,
		`"detail":"the signing key ` + first.KID + `"`,
	} {
		if !contains(audit, part) {
			t.Errorf("the audit lacks %s: %s", part, audit)
		}
	}

	// An alias that is made anew has no key of the old one.
	a.do("DELETE", "/api/v1/aliases/shop", "").want(204, "")
	a.register("shop")
	if body := a.do("GET", "/api/v1/aliases/shop/signing-keys", "").body; body != "{\"signing_keys\":[]}\n" {
		t.Errorf("got %s", body)
	}
}

func TestMostSigningKeys(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	for range alias.MaxSigningKeys {
		a.makeKey("shop")
	}
	r := a.do("POST", "/api/v1/aliases/shop/signing-keys", "").want(409, "too-many-signing-keys")
	if !contains(r.problem().Detail, "it has 16, the most; delete one") {
		t.Errorf("got %s", r.body)
	}
}

func TestLastUseOfSigningKeys(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC)
	a := newAPI(t, func(c *Config) { c.KeyUses = usedAt(at) })
	a.register("shop")
	a.makeKey("shop")
	if body := a.do("GET", "/api/v1/aliases/shop/signing-keys", "").body; !contains(body, `"last_used_at":"2026-11-30T01:02:03Z"`) {
		t.Errorf("got %s", body)
	}
}

// TestSign: the signed URL is good for its path, with the newest key, until it expires.
func TestSign(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	a.do("POST", "/api/v1/aliases/shop/sign", `{"path":"/shop/a.jpg"}`).want(409, "no-signing-key")
	if d := a.do("POST", "/api/v1/aliases/shop/sign", `{"path":"/shop/a.jpg"}`).problem().Detail; !contains(d, "ixmage signing-key create shop") {
		t.Errorf("no remedy: %s", d)
	}
	a.makeKey("shop")
	newest := a.makeKey("shop")
	key, err := signature.ParseKey(newest.KID + ":" + newest.Secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		body string
		life time.Duration
	}{
		{`{"path":"/shop/a.jpg?w=400","expires_in":"24h"}`, 24 * time.Hour},
		{`{"path":"/shop/a%20b.jpg?utm_x=1&w=400&fit=cover","expires_in":"1ns"}`, time.Second},
		{`{"path":"/shop/a.jpg?w=2","expires_at":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano) + `"}`, time.Hour},
		{`{"path":"/shop/a.jpg"}`, 0},
		{`{"path":"/shop/a.jpg?w=1","expires_in":null}`, 0},
	} {
		before := time.Now()
		var got signedJSON
		a.do("POST", "/api/v1/aliases/shop/sign", row.body).want(200, "").decode(&got)
		path, query, _ := strings.Cut(got.URL, "?")
		exp, kid, err := signature.Verify([]*signature.Key{key}, []byte(path), []byte(query), before)
		if err != nil || kid != newest.KID {
			t.Errorf("%s: got %s: %v", row.body, got.URL, err)
		}
		values, _ := url.ParseQuery(query)
		switch {
		case row.life == 0:
			if !exp.IsZero() || got.ExpiresAt != nil || values.Has("exp") {
				t.Errorf("%s: expires at %v: %s", row.body, exp, got.URL)
			}
		case exp.Before(before.Add(row.life).Truncate(time.Second)) || exp.After(time.Now().Add(row.life+2*time.Second)) ||
			got.ExpiresAt == nil || *got.ExpiresAt != timestamp(exp):
			t.Errorf("%s: expires at %v, and says %v", row.body, exp, got.ExpiresAt)
		}
	}
	var at signedJSON
	a.do("POST", "/api/v1/aliases/shop/sign", `{"path":"/shop/a.jpg","expires_at":"2099-01-31T01:00:00.5+01:00"}`).want(200, "").decode(&at)
	if !contains(at.URL, "?exp=4073500801&") || *at.ExpiresAt != "2099-01-31T00:00:01Z" {
		t.Errorf("got %s, which ends at %s", at.URL, *at.ExpiresAt)
	}
	for _, path := range []string{"/shop/a.jpg#x", "/shop/a.jpg?w=%zz", "/shop/ä.jpg", "/shop/a.jpg?w=1&sig=x", "/shop/a.jpg?w=1 "} {
		r := a.do("POST", "/api/v1/aliases/shop/sign", fmt.Sprintf(`{"path":%q}`, path)).want(400, "invalid")
		if got := r.fields(); len(got) != 1 || got[0] != "path" {
			t.Errorf("%s: got %s", path, r.body)
		}
	}
	noKey(t, "the log", a.logs.String(), newest)
}

// TestSigningKeysOfOtherBuckets: a token with bucket patterns makes, lists, deletes and uses keys of
// its aliases alone.
func TestSigningKeysOfOtherBuckets(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for name, bucket := range map[string]string{"ours": "acme-one", "theirs": "other"} {
		a.do("POST", aliasesPath, fmt.Sprintf(`{"name":%q,"bucket":%q,"region":"eu-west-1","credential":%s}`, name, bucket, keyPair)).want(201, "")
	}
	kid := a.makeKey("theirs").KID
	token := a.makeToken("acme", `["alias"]`, `["acme-*"]`)
	as := func(method, path, body string) answer {
		return a.do(method, "/api/v1/aliases/"+path, body, "Authorization", token)
	}
	as("POST", "ours/signing-keys", "").want(201, "")
	as("POST", "ours/sign", `{"path":"/ours/a.jpg"}`).want(200, "")
	as("POST", "ours/sign", `{"path":"/theirs/a.jpg"}`).want(400, "invalid")
	as("GET", "theirs/signing-keys", "").want(404, "not-found")
	as("POST", "theirs/signing-keys", "").want(404, "not-found")
	as("POST", "theirs/sign", `{"path":"/theirs/a.jpg"}`).want(404, "not-found")
	as("DELETE", "theirs/signing-keys/"+kid, "").want(404, "not-found")
	as("DELETE", "ours/signing-keys/"+kid, "").want(404, "not-found")
	reader := a.makeToken("reader", `["read"]`, `[]`)
	a.do("POST", "/api/v1/aliases/ours/sign", `{"path":"/ours/a.jpg"}`, "Authorization", reader).want(403, "forbidden")
}
