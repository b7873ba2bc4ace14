package admin

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
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

// TestCredentialShared: null works for an alias whose own name a key pair bears,
// until one bears the name of the shared credential too.
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
	err := endpoint[none, none]{thing: "credential"}.named("x", &alias.InUseError{Credential: "x", Aliases: names})
	if _, f := explain(err); len(f.detail) > 2000 || !strings.Contains(f.detail, "4900 more") {
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
