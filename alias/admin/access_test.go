package admin

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

// TestAccess: a token with bucket patterns sees and changes what is in its buckets, and cannot
// tell the rest from what does not exist.
func TestAccess(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) { c.Provisioner, c.Explainer = &fake{}, explainNothing{} })
	post := func(path, body string) { a.do("POST", path, body).want(201, "") }
	for name, bucket := range map[string]string{"ours": "acme-one", "ours-too": "acme-two", "theirs": "other"} {
		post(aliasesPath, fmt.Sprintf(`{"name":%q,"bucket":%q,"region":"eu-west-1","credential":%s}`, name, bucket, keyPair))
	}
	post(credentialsPath, `{"name":"shared",`+keyPair[1:])
	post(credentialsPath, `{"name":"unused",`+keyPair[1:])
	post(credentialsPath, `{"name":"wide","expect":"read-only-access",`+keyPair[1:])
	for name, use := range map[string]string{"mixed-one": "acme-one", "mixed-other": "other"} {
		post(aliasesPath, fmt.Sprintf(`{"name":%q,"bucket":%q,"region":"eu-west-1","credential":"shared"}`, name, use))
	}
	post(aliasesPath, `{"name":"ours-far","bucket":"acme-one","region":"eu-west-1","endpoint":"https://s3.example.com","credential":null}`)
	post(aliasesPath, `{"name":"wide-one","bucket":"acme-one","region":"eu-west-1","credential":"wide"}`)
	post(aliasesPath, `{"name":"reserved","bucket":"acme-one","region":"eu-west-1","cache_min":"64MiB","credential":`+keyPair+`}`)
	token := a.makeToken("acme", `["admin"]`, `["acme-*"]`)

	alias201 := func(fields string) string { return `{"name":"new","region":"eu-west-1",` + fields + `}` }
	for _, c := range []struct {
		call, body string
		status     int
	}{
		{"GET /aliases/ours", "", 200},
		{"GET /aliases/theirs", "", 404},
		{"GET /aliases/nope", "", 404},
		{"PATCH /aliases/theirs", `{"ttl":"1m"}`, 404},
		{"DELETE /aliases/theirs", "", 404},
		{"POST /aliases/theirs/verify", "", 404},
		{"GET /aliases/theirs/usage", "", 404},
		{"GET /aliases/theirs/verification", "", 404},
		{"GET /aliases/theirs/picture", "", 404},
		{"PATCH /aliases/ours", `{"ttl":"1m"}`, 200},
		{"PATCH /aliases/ours", `{"bucket":"acme-three"}`, 200},
		{"PATCH /aliases/ours", `{"bucket":"other"}`, 403},
		{"PATCH /aliases/ours", `{"endpoint":"https://evil.example"}`, 403},
		{"PATCH /aliases/ours", `{"endpoint":""}`, 200}, // as it is
		{"PATCH /aliases/ours-far", `{"endpoint":"https://s3.example.com","ttl":"2m"}`, 200},
		{"PATCH /aliases/ours-far", `{"endpoint":""}`, 403},
		{"PATCH /aliases/ours-far", `{"endpoint":null}`, 403},
		{"PATCH /aliases/ours", `{"cache_min":"16384GiB"}`, 403},
		{"PATCH /aliases/ours", `{"cache_min":"","cache_max":"1GiB"}`, 200},
		{"PATCH /aliases/reserved", `{"cache_min":"64MiB","ttl":"1m"}`, 200},
		{"PATCH /aliases/reserved", `{"cache_min":"65MiB"}`, 403},
		{"PATCH /aliases/reserved", `{"cache_min":"1MiB"}`, 200},
		{"PATCH /aliases/ours", `{"credential":"ours-too"}`, 200},
		{"PATCH /aliases/ours", `{"credential":"theirs"}`, 403},
		{"PATCH /aliases/ours", `{"credential":"shared"}`, 403},
		{"PATCH /aliases/ours", `{"credential":"unused"}`, 403},
		{"PATCH /aliases/ours", `{"credential":"wide"}`, 403},
		{"PATCH /aliases/ours", `{"credential":"nope"}`, 403},
		{"PATCH /aliases/ours", `{"credential":null}`, 200},
		{"GET /credentials/ours-too", "", 200},
		{"GET /credentials/theirs", "", 404},
		{"GET /credentials/shared", "", 404},
		{"GET /credentials/unused", "", 404},
		{"GET /credentials/wide", "", 404},
		{"PUT /credentials/theirs", keyPair, 404},
		{"PUT /credentials/shared", keyPair, 404},
		{"PUT /credentials/ours-too", keyPair, 200},
		{"PATCH /credentials/theirs", `{"expect":null}`, 404},
		{"DELETE /credentials/unused", "", 404},
		{"POST /credentials/theirs/rotate", "", 404},
		{"POST /credentials/theirs/reclaim", "", 404},
		{"POST /credentials", `{"name":"x",` + keyPair[1:], 403},
		{"POST /aliases", alias201(`"bucket":"other","credential":` + keyPair), 403},
		{"POST /aliases", alias201(`"bucket":"acme-x","endpoint":"https://evil.example","credential":` + keyPair), 403},
		{"POST /aliases", alias201(`"bucket":"acme-x","cache_min":"1KiB","credential":` + keyPair), 403},
		{"POST /aliases", alias201(`"bucket":"acme-x","credential":"theirs"`), 403},
		{"POST /aliases", alias201(`"bucket":"acme-x","credential":"shared"`), 403},
		{"POST /aliases", alias201(`"bucket":"acme-x","credential":{"expect":"read-only-access",` + keyPair[1:]), 403},
		{"POST /aliases", alias201(`"bucket":"acme-x","credential":` + keyPair), 201},
		{"POST /purge", `{"alias":"theirs"}`, 404},
		{"POST /purge", `{"alias":"ours"}`, 501}, // there is no cache here
		{"GET /explain?path=/ours/a.png", "", 200},
		{"GET /explain?path=/theirs/a.png", "", 404},
		{"GET /explain?path=/%74heirs/a.png", "", 404},
		{"GET /explain?path=/nope/a.png", "", 404},
		{"GET /orphans", "", 403},
		{"DELETE /orphans/user", "", 403},
		{"GET /tokens", "", 403},
		{"POST /provision", `{"alias":"p","bucket":"other","region":"eu-west-1"}`, 403},
		{"POST /provision", `{"alias":"p","bucket":"acme-p","region":"eu-west-1","endpoint":"https://evil.example"}`, 403},
		{"POST /provision", `{"alias":"p","bucket":"acme-p","region":"eu-west-1","policy":"read-only-access"}`, 403},
		{"POST /provision", `{"alias":"p","bucket":"acme-p","region":"eu-west-1","credential":"shared"}`, 403},
		{"POST /provision", `{"alias":"theirs","bucket":"acme-p","region":"eu-west-1"}`, 409},
		{"POST /provision/plan", `{"alias":"p","bucket":"other","region":"eu-west-1"}`, 403},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		if r := a.do(method, "/api/v1"+path, c.body, "Authorization", token); r.status != c.status {
			t.Errorf("%s %s: got %d, want %d: %s", c.call, c.body, r.status, c.status, r.body)
		}
	}
	unknown := a.do("GET", "/api/v1/aliases/nope", "", "Authorization", token).problem()
	hidden := a.do("GET", "/api/v1/aliases/theirs", "", "Authorization", token).problem()
	if strings.ReplaceAll(hidden.Detail, "theirs", "nope") != unknown.Detail || hidden.Type != unknown.Type {
		t.Errorf("a hidden alias: %+v, an unknown one: %+v", hidden, unknown)
	}
}

// TestAccessWithoutBucket: a request without a bucket is for validation to refuse, with all that
// is wrong.
func TestAccessWithoutBucket(t *testing.T) {
	t.Parallel()
	p := &principal{Token: alias.Token{Name: "acme", Buckets: []string{"acme-*"}}}
	if err := (access{}).place(t.Context(), p, place{}); err != nil {
		t.Error(err)
	}
	if err := (access{}).place(t.Context(), p, place{ofEndpoint: true}); err == nil {
		t.Error("an endpoint was allowed")
	}
}

// explainNothing is an Explainer.
type explainNothing struct{}

func (explainNothing) Explain(context.Context, string, string, bool) any { return map[string]string{} }

// TestAccessLists: the pages of a list have as many entries as there are to see.
func TestAccessLists(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for i := range 12 {
		bucket := []string{"other", "other", "acme"}[i%3]
		a.do("POST", aliasesPath, fmt.Sprintf(`{"name":"a%02d","bucket":%q,"region":"eu-west-1","credential":%s}`, i, bucket, keyPair)).want(201, "")
	}
	before := time.Now().Add(-time.Hour)
	token := a.makeToken("acme", `["read"]`, `["acme"]`)
	a.put(func(tx alias.Tx) error {
		for i, name := range []alias.Name{"a01", "a02", "", "a05", "gone", "gone", "a02", "", "gone"} {
			o := running(fmt.Sprint("op-", i))
			o.CreatedAt = time.Now()
			o.State, o.Alias, o.Credential = alias.OperationDone, name, alias.Name(fmt.Sprintf("a%02d", i))
			if i == 5 || i == 8 {
				o.Actor = "acme@::1"
			}
			if i > 5 { // of an alias, a credential and a token that had the same name
				o.CreatedAt, o.Credential = before, "a02"
			}
			if err := tx.InsertOperation(o); err != nil {
				return err
			}
			if err := tx.AddAudit(&alias.AuditEntry{At: o.CreatedAt, Actor: o.Actor, Alias: o.Alias, Credential: o.Credential, Detail: o.ID}); err != nil {
				return err
			}
		}
		return nil
	})
	get := func(path string, v any) { a.do("GET", path, "", "Authorization", token).want(200, "").decode(v) }
	names := func(path string) string {
		var list aliasesJSON
		get(path, &list)
		var text []string
		for _, v := range list.Aliases {
			text = append(text, string(v.Name))
		}
		return strings.Join(text, " ")
	}
	for path, want := range map[string]string{
		aliasesPath:                        "a02 a05 a08 a11",
		aliasesPath + "?limit=2":           "a02 a05",
		aliasesPath + "?limit=2&after=a05": "a08 a11",
		aliasesPath + "?limit=9&after=a11": "",
		aliasesPath + "?limit=1&after=a02": "a05",
	} {
		if got := names(path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	var creds credentialsJSON
	get(credentialsPath, &creds)
	if len(creds.Credentials) != 4 {
		t.Errorf("got %d credentials, want 4", len(creds.Credentials))
	}
	var ops operationsJSON
	get(operationsPath, &ops)
	var ids []string
	for _, o := range ops.Operations {
		ids = append(ids, o.ID)
		a.do("GET", operationsPath+"/"+o.ID, "", "Authorization", token).want(200, "")
	}
	// op-2 is of a credential alone, which is a02; op-5 was started by the token.
	if got := strings.Join(ids, " "); got != "op-5 op-3 op-2 op-1" {
		t.Errorf("operations: %s", got)
	}
	for _, id := range []string{"op-0", "op-4", "op-6", "op-7", "op-8"} {
		a.do("GET", operationsPath+"/"+id, "", "Authorization", token).want(404, "not-found")
	}
	var entries auditJSON
	get("/api/v1/audit", &entries)
	if len(entries.Audit) != 4 {
		t.Errorf("got %d entries of the audit, want 4: %+v", len(entries.Audit), entries.Audit)
	}
}

// TestAccessProvisioned: a provisioned credential is seen if all that its user may read is in
// the buckets of the token.
func TestAccessProvisioned(t *testing.T) {
	t.Parallel()
	grants := func(buckets ...string) []alias.Grant {
		var list []alias.Grant
		for _, b := range buckets {
			list = append(list, alias.Grant{Bucket: b})
		}
		return list
	}
	g := access{newAPI(t).server.access.registry}
	p := &principal{Token: alias.Token{Name: "acme", Buckets: []string{"acme-*"}}}
	for name, c := range map[string]struct {
		provider alias.Provider
		want     bool
	}{
		"inside":        {&alias.Provisioned{Mode: alias.PolicyInline, Grants: grants("acme-a", "acme-b")}, true},
		"partly":        {&alias.Provisioned{Mode: alias.PolicyInline, Grants: grants("acme-a", "other")}, false},
		"outside":       {&alias.Provisioned{Mode: alias.PolicyManaged, Grants: grants("other")}, false},
		"nothing":       {&alias.Provisioned{Mode: alias.PolicyInline}, false},
		"every bucket":  {&alias.Provisioned{Mode: alias.PolicyReadOnly, Grants: grants("acme-a")}, false},
		"unused static": {alias.Static{}, false},
	} {
		if got, err := g.credential(t.Context(), p, &alias.Credential{Name: "c", Provider: c.provider}); err != nil || got != c.want {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, c.want)
		}
	}
}
