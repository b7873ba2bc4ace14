package admin

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
)

func TestCredentialCreateAndRead(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	r := a.do("POST", "/api/v1/credentials",
		`{"name":"media","kind":"static","access_key_id":"`+testKeyID+`","secret_access_key":"`+testSecret+`"}`).want(201, "")
	var got credentialJSON
	r.decode(&got)
	if _, err := time.Parse(time.RFC3339Nano, got.CreatedAt); err != nil || !strings.HasSuffix(got.CreatedAt, "Z") {
		t.Errorf("created_at: got %q, want RFC 3339 in UTC", got.CreatedAt)
	}
	want := `{"name":"media","kind":"static","access_key_id":"` + testKeyID + `","aliases":[],"version":1,"state":"active","user":null,` +
		`"created_at":"` + got.CreatedAt + `","rotated_at":null,"verified_at":null,"scope":"","revision":1}` + "\n"
	if r.body != want {
		t.Errorf("credential:\n got %s\nwant %s", r.body, want)
	}
	if got := r.header.Get("Location"); got != "/api/v1/credentials/media" {
		t.Errorf("Location: got %q", got)
	}
	one := a.do("GET", r.header.Get("Location"), "").want(200, "")
	if one.body != r.body || one.header.Get("ETag") != `"1"` || r.header.Get("ETag") != `"1"` {
		t.Errorf("read after create: ETag %s and %s, body\n got %s\nwant %s", r.header.Get("ETag"), one.header.Get("ETag"), one.body, r.body)
	}
	a.do("POST", "/api/v1/credentials", `{"name":"media","kind":"anonymous"}`).want(409, "exists")
}

func TestCredentialAnonymous(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	var got credentialJSON
	a.do("POST", "/api/v1/credentials", `{"name":"pub","kind":"anonymous"}`).want(201, "").decode(&got)
	if got.Kind != alias.KindAnonymous || got.AccessKeyID != "" {
		t.Errorf("got %+v", got)
	}
	r := a.do("PUT", "/api/v1/credentials/pub", keyPair).want(409, "not-static")
	if d := r.problem().Detail; !strings.Contains(d, "pub") || !strings.Contains(d, "anonymous") {
		t.Errorf("detail: got %q", d)
	}
}

// TestCredentialShared: null works for an alias whose name is taken by a key pair,
// until a key pair takes the name of the shared credential too.
func TestCredentialShared(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const free = `{"name":"free","access_key_id":"` + testKeyID + `","secret_access_key":"` + testSecret + `"}`
	const public = `{"name":"free","bucket":"acme-media","region":"eu-west-1","credential":null}`
	a.register("own")
	a.do("POST", "/api/v1/credentials", free).want(201, "")
	a.do("PATCH", "/api/v1/aliases/own", `{"credential":null}`).want(200, "")
	a.do("POST", "/api/v1/aliases", public).want(201, "")
	var got credentialJSON
	a.do("GET", "/api/v1/credentials/anonymous", "").want(200, "").decode(&got)
	if got.Kind != alias.KindAnonymous || !slices.Equal(got.Aliases, []alias.Name{"free", "own"}) {
		t.Errorf("the shared credential is %+v", got)
	}

	b := newAPI(t)
	b.register("anonymous")
	b.register("own")
	b.do("POST", "/api/v1/credentials", free).want(201, "")
	for _, r := range []answer{
		b.do("PATCH", "/api/v1/aliases/anonymous", `{"credential":null}`),
		b.do("PATCH", "/api/v1/aliases/own", `{"credential":null}`),
		b.do("POST", "/api/v1/aliases", public),
	} {
		if d := r.want(409, "exists").problem().Detail; !strings.Contains(d, "credential anonymous") {
			t.Errorf("%q does not name what is in the way", d)
		}
	}
}

func TestCredentialReplace(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	var before, got credentialJSON
	a.do("GET", "/api/v1/credentials/shop", "").decode(&before)
	r := a.do("PUT", "/api/v1/credentials/shop",
		`{"access_key_id":"AKIAOTHER0000000002","secret_access_key":"`+testSecret+`"}`).want(200, "")
	r.decode(&got)
	if r.header.Get("ETag") != `"2"` || got.Version != 2 || got.Revision != 2 || got.AccessKeyID != "AKIAOTHER0000000002" ||
		got.RotatedAt == nil || got.CreatedAt != before.CreatedAt || !slices.Equal(got.Aliases, []alias.Name{"shop"}) {
		t.Errorf("after replacement: ETag %s, %+v", r.header.Get("ETag"), got)
	}
	a.do("PUT", "/api/v1/credentials/nope", keyPair).want(404, "not-found")
}

func TestCredentialDelete(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.do("POST", "/api/v1/credentials", `{"name":"pub","kind":"anonymous"}`).want(201, "")
	for _, name := range []string{"one", "two"} {
		a.do("POST", "/api/v1/aliases", `{"name":"`+name+`","bucket":"acme-media","region":"eu-west-1","credential":"pub"}`).want(201, "")
	}
	r := a.do("DELETE", "/api/v1/credentials/pub", "").want(409, "in-use")
	if d := r.problem().Detail; !strings.Contains(d, "one, two") {
		t.Errorf("detail does not name the aliases: %q", d)
	}
	a.do("DELETE", "/api/v1/aliases/one", "").want(204, "")
	a.do("DELETE", "/api/v1/aliases/two", "").want(204, "")
	a.do("DELETE", "/api/v1/credentials/pub", "").want(204, "")
	a.do("GET", "/api/v1/credentials/pub", "").want(404, "not-found")
}

func TestCredentialInUseByMany(t *testing.T) {
	t.Parallel()
	names := make([]alias.Name, 5000)
	for i := range names {
		names[i] = "name"
	}
	err := endpoint[none, none]{resource: "credential"}.describe("x", &alias.InUseError{Credential: "x", Aliases: names})
	if _, f := classify(err); len(f.detail) > 2000 || !strings.Contains(f.detail, "4900 more") {
		t.Errorf("detail has %d bytes and ends %q", len(f.detail), f.detail[max(0, len(f.detail)-100):])
	}
}

func TestCredentialList(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	if got := a.do("GET", "/api/v1/credentials", "").want(200, "").body; got != `{"credentials":[]}`+"\n" {
		t.Errorf("empty list: got %s", got)
	}
	a.register("bbb")
	a.do("POST", "/api/v1/credentials", `{"name":"aaa","kind":"anonymous"}`).want(201, "")
	var got credentialsJSON
	a.do("GET", "/api/v1/credentials", "").want(200, "").decode(&got)
	if len(got.Credentials) != 2 || got.Credentials[0].Name != "aaa" || len(got.Credentials[0].Aliases) != 0 ||
		got.Credentials[1].Name != "bbb" || !slices.Equal(got.Credentials[1].Aliases, []alias.Name{"bbb"}) {
		t.Errorf("got %+v", got)
	}
	a.do("GET", "/api/v1/credentials?after=aaa&limit=1", "").want(200, "").decode(&got)
	if len(got.Credentials) != 1 || got.Credentials[0].Name != "bbb" {
		t.Errorf("second page: got %+v", got)
	}
}

func TestCredentialProvisioned(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.addProvisioned("media")
	want := `{"name":"media","kind":"provisioned","access_key_id":"` + testKeyID + `","aliases":["user-of-it"],"version":2,"state":"rotating",` +
		`"user":{"name":"ixmage-s3read-shop-ab12","arn":"arn:aws:iam::1:user/x","policy":"inline"},` +
		`"created_at":"` + momentText + `","rotated_at":"2024-03-01T00:00:00.12Z","verified_at":"` + momentText + `","scope":"weak","revision":3}` + "\n"
	r := a.do("GET", "/api/v1/credentials/media", "").want(200, "")
	if r.body != want || r.header.Get("ETag") != `"3"` {
		t.Errorf("credential, ETag %s:\n got %s\nwant %s", r.header.Get("ETag"), r.body, want)
	}
	d := a.do("PUT", "/api/v1/credentials/media", keyPair).want(409, "not-static").problem().Detail
	if !strings.Contains(d, "media is of kind provisioned") {
		t.Errorf("replacement: detail %q", d)
	}
	var got aliasJSON
	a.do("GET", "/api/v1/aliases/user-of-it", "").want(200, "").decode(&got)
	if got.State != alias.StateFailed || got.Credential != "media" {
		t.Errorf("alias: got %+v", got)
	}
	d = a.do("POST", "/api/v1/credentials", `{"name":"n","kind":"provisioned"}`).want(400, "invalid").problem().Detail
	if !strings.Contains(d, "POST /api/v1/provision") {
		t.Errorf("registration of a provisioned one: detail %q", d)
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	type request struct {
		name      alias.Name
		emergency bool
	}
	var got []request
	f := &fake{
		rotate: func(_ context.Context, actor string, name alias.Name, emergency bool) (*alias.Operation, error) {
			checkActor(t, actor)
			got = append(got, request{name, emergency})
			return running("op-1"), nil
		},
		wait: func(context.Context, string) (*alias.Operation, error) { return ended("op-1", nil), nil },
	}
	a := newAPI(t, with(f))
	a.addProvisioned("media")
	const path = "/api/v1/credentials/media/rotate"
	checkStarted(t, a.do("POST", path, "").want(202, ""), "")
	checkStarted(t, a.do("POST", path, `{"emergency":true}`, "Prefer", "wait=5").want(200, ""), "wait=5")
	a.do("POST", path, `{"emergency":false}`, "If-Match", `"3"`).want(202, "")
	a.do("POST", path, `{}`, "If-Match", `"9", "3"`).want(202, "")
	if want := []request{{"media", false}, {"media", true}, {"media", false}, {"media", false}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, c := range []struct {
		name, path, body, match string
		status                  int
		code                    string
	}{
		{"unknown", "/api/v1/credentials/none/rotate", "", "", 404, "not-found"},
		{"no name", "/api/v1/credentials/NONE/rotate", "", "", 404, "not-found"},
		{"stale", path, "", `"2"`, 412, "precondition-failed"},
		{"stale, of several", path, "", `"1", "2"`, 412, "precondition-failed"},
		{"bad If-Match", path, "", `3`, 400, "bad-request"},
		{"unknown field", path, `{"now":true}`, "", 400, "invalid"},
		{"type", path, `{"emergency":"yes"}`, "", 400, "invalid"},
		{"null", path, `{"emergency":null}`, "", 400, "invalid"},
		{"not JSON", path, `emergency`, "", 400, "bad-request"},
		{"query", path + "?emergency=true", "", "", 400, "invalid"},
	} {
		if r := a.do("POST", c.path, c.body, "If-Match", c.match); r.status != c.status {
			t.Errorf("%s: got %d, want %d", c.name, r.status, c.status)
		} else {
			r.want(c.status, c.code)
		}
	}
	a.do("POST", path, `{}`, "Content-Type", "text/plain").want(415, "media-type")
	if len(got) != 4 {
		t.Errorf("a refused call reached the Provisioner: %v", got)
	}
}

func TestRotateByHand(t *testing.T) {
	t.Parallel()
	a := newAPI(t, with(&fake{}))
	a.register("shop")
	shop := &alias.Credential{Name: "shop", Provider: alias.Static{AccessKeyID: testKeyID}}
	commands := policy.HandRotation(shop, "")
	p := a.do("POST", "/api/v1/credentials/shop/rotate", "", "Prefer", "wait=1").want(409, "not-provisioned").problem()
	if !slices.Equal(p.Commands, commands) {
		t.Errorf("commands: got %q", p.Commands)
	}
	for _, c := range append(commands, "shop") {
		if !strings.Contains(p.Detail, c) {
			t.Errorf("detail without %q: %q", c, p.Detail)
		}
	}
	a.do("POST", "/api/v1/credentials", `{"name":"pub","kind":"anonymous"}`).want(201, "")
	a.do("POST", "/api/v1/credentials/pub/rotate", "").want(409, "no-key-pair")
}

func TestReclaim(t *testing.T) {
	t.Parallel()
	calls := 0
	f := &fake{reclaim: func(_ context.Context, actor string, name alias.Name) (*alias.Credential, error) {
		checkActor(t, actor)
		if calls++; name != "media" {
			t.Errorf("Reclaim of %s", name)
		}
		return provisioned(77, name), nil
	}}
	a := newAPI(t, with(f))
	a.addProvisioned("media")
	a.register("shop")
	const path = "/api/v1/credentials/media/reclaim"
	want := a.do("GET", "/api/v1/credentials/media", "").want(200, "")
	got := a.do("POST", path, "").want(200, "")
	if got.body != want.body || got.header.Get("ETag") != want.header.Get("ETag") {
		t.Errorf("got %s %s, want as GET shows it: %s", got.header.Get("ETag"), got.body, want.body)
	}
	for _, c := range []struct {
		name, path, body string
		status           int
		code             string
	}{
		{"unknown", "/api/v1/credentials/none/reclaim", "", 404, "not-found"},
		{"static", "/api/v1/credentials/shop/reclaim", "", 409, "not-provisioned"},
		{"a body", path, `{}`, 400, "bad-request"},
		{"query", path + "?emergency=true", "", 400, "invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := a.do("POST", c.path, c.body).want(c.status, c.code); len(r.problem().Detail) < 20 {
				t.Errorf("detail: %q", r.problem().Detail)
			}
		})
	}
	if calls != 1 {
		t.Errorf("%d calls reached the Provisioner, want 1", calls)
	}
}

func TestCredentialRemove(t *testing.T) {
	t.Parallel()
	var revisions []int64
	f := &fake{
		remove: func(_ context.Context, actor string, name alias.Name, revision int64) (*alias.Operation, error) {
			checkActor(t, actor)
			if name != "media" {
				t.Errorf("Remove of %s", name)
			}
			revisions = append(revisions, revision)
			return running("op-1"), nil
		},
		wait: func(context.Context, string) (*alias.Operation, error) { return ended("op-1", nil), nil },
	}
	a := newAPI(t, with(f))
	a.addProvisioned("media")
	const path = "/api/v1/credentials/media"
	r := a.do("DELETE", path, "").want(202, "")
	checkStarted(t, r, "")
	if r.body != runningText {
		t.Errorf("operation:\n got %s\nwant %s", r.body, runningText)
	}
	checkStarted(t, a.do("DELETE", path, "", "Prefer", "wait=5", "If-Match", `"3"`).want(200, ""), "wait=5")
	a.do("DELETE", path, "", "If-Match", "*").want(202, "")
	a.do("DELETE", path, "", "If-Match", `"7"`).want(202, "") // the Provisioner's to refuse
	if want := []int64{0, 3, 0, 7}; !slices.Equal(revisions, want) {
		t.Errorf("revisions: got %v, want %v", revisions, want)
	}
	a.do("DELETE", path, "", "If-Match", `"1", "2"`).want(412, "precondition-failed")
	a.do("DELETE", path, `{}`).want(400, "bad-request")
	a.do("DELETE", "/api/v1/credentials/none", "").want(404, "not-found")
	if len(revisions) != 4 {
		t.Errorf("a refused call reached the Provisioner: %v", revisions)
	}
	// One that an operator gave is forgotten at once, as ever.
	a.do("POST", "/api/v1/credentials", `{"name":"pasted",`+keyPair[1:]).want(201, "")
	r = a.do("DELETE", "/api/v1/credentials/pasted", "", "Prefer", "wait=5").want(204, "")
	if r.body != "" || r.header.Get("Preference-Applied") != "" || r.header.Get("Location") != "" {
		t.Errorf("static: body %q, header %v", r.body, r.header)
	}
}

// TestCredentialExpect: an operator says what a pasted key is meant to be, in every place
// where a key pair is given, and changes it without the secret.
func TestCredentialExpect(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	pair := func(expect string) string {
		return `"access_key_id":"` + testKeyID + `","secret_access_key":"` + testSecret + `"` + expect
	}
	const wide, path = `,"expect":"read-only-access"`, "/api/v1/credentials/media"
	shown := func(r answer) string {
		t.Helper()
		var got map[string]any
		r.want(200, "").decode(&got)
		if expect, ok := got["expect"]; ok {
			return expect.(string)
		}
		return "absent"
	}
	a.do("POST", "/api/v1/credentials", `{"name":"plain",`+pair("")+`}`).want(201, "")
	a.do("POST", "/api/v1/credentials", `{"name":"media",`+pair(wide)+`}`).want(201, "")
	a.do("POST", "/api/v1/aliases", `{"name":"inline","bucket":"acme-media","region":"eu-west-1","credential":{`+pair(wide)+`}}`).want(201, "")
	for _, step := range []struct{ method, path, body, want string }{
		{"GET", "/api/v1/credentials/plain", "", "absent"},
		{"GET", "/api/v1/credentials/inline", "", "read-only-access"},
		{"GET", path, "", "read-only-access"},
		{"PUT", path, `{` + pair("") + `}`, "read-only-access"}, // another key of the same kind
		{"PUT", path, `{` + pair(`,"expect":null`) + `}`, "absent"},
		{"PUT", path, `{` + pair(wide) + `}`, "read-only-access"},
		{"PATCH", path, `{}`, "read-only-access"},
		{"PATCH", path, `{"expect":""}`, "absent"},
		{"PATCH", path, `{"expect":"read-only-access"}`, "read-only-access"},
		{"PATCH", path, `{"expect":null}`, "absent"},
		{"GET", path, "", "absent"},
	} {
		if got := shown(a.do(step.method, step.path, step.body)); got != step.want {
			t.Errorf("%s %s: expect is %s, want %s", step.method, step.body, got, step.want)
		}
	}
	a.do("POST", "/api/v1/credentials", `{"name":"open","kind":"anonymous"}`).want(201, "")
	a.addProvisioned("ours")
	for _, refused := range []struct {
		method, path, body string
		status             int
		code, field        string
	}{
		{"POST", "/api/v1/credentials", `{"name":"other",` + pair(`,"expect":"inline"`) + `}`, 400, "invalid", "expect"},
		{"POST", "/api/v1/credentials", `{"name":"other","kind":"anonymous"` + wide + `}`, 400, "invalid", "expect"},
		{"POST", "/api/v1/aliases", `{"name":"other","bucket":"acme-media","region":"eu-west-1","credential":{` + pair(`,"expect":"*"`) + `}}`, 400, "invalid", "credential.expect"},
		{"PUT", path, `{` + pair(`,"expect":1`) + `}`, 400, "invalid", "expect"},
		{"PUT", path, `{"expect":"read-only-access"}`, 400, "invalid", "access_key_id"},
		{"PATCH", path, `{"expect":"all"}`, 400, "invalid", "expect"},
		{"PATCH", path, `{"access_key_id":"AKIA"}`, 400, "invalid", "access_key_id"},
		{"PATCH", path, `{"scope":"proven"}`, 400, "invalid", "scope"},
		{"PATCH", "/api/v1/credentials/open", `{"expect":"read-only-access"}`, 409, "not-static", ""},
		{"PATCH", "/api/v1/credentials/ours", `{"expect":"read-only-access"}`, 409, "not-static", ""},
		{"PATCH", "/api/v1/credentials/none", `{"expect":"read-only-access"}`, 404, "not-found", ""},
	} {
		r := a.do(refused.method, refused.path, refused.body).want(refused.status, refused.code)
		if refused.field != "" && !strings.Contains(r.body, `"`+refused.field+`"`) {
			t.Errorf("%s %s: %s does not name %s", refused.method, refused.body, r.body, refused.field)
		}
	}
	a.do("PATCH", path, `{"expect":""}`, "If-Match", `"1"`).want(412, "precondition-failed")
}
