package admin

import (
	"fmt"
	"strings"
	"testing"
)

// A token with bucket patterns gives roles to its aliases only with sources that it may name and
// with session policies, and asks STS for no session of other places and credentials.
func TestAccessRoles(t *testing.T) {
	t.Parallel()
	s := &stubSessions{wide: true}
	a := newAPI(t, func(c *Config) { c.Sessions = s })
	post := func(path, body string) { a.do("POST", "/api/v1/"+path, body).want(201, "") }
	role := func(fields string) string { return `{"role_arn":"` + testRole + `"` + fields + `}` }
	inline := func(name, bucket, credential string) string {
		return fmt.Sprintf(`{"name":%q,"bucket":%q,"region":"eu-west-1","credential":%s}`, name, bucket, credential)
	}
	post("credentials", `{"name":"root",`+keyPair[1:])
	post("aliases", inline("mine", "acme-one", keyPair))
	post("aliases", inline("ours", "acme-one", role("")))
	post("aliases", inline("theirs", "other", role("")))
	post("credentials", `{"name":"idle",`+role("")[1:])
	token := a.makeToken("acme", `["alias"]`, `["acme-*"]`)
	s.forget()
	for _, c := range []struct {
		call, body string
		status     int
		asked      string // of STS
	}{
		{"PUT /credentials/theirs", role(""), 404, ""},
		{"PUT /credentials/ours", role(`,"session_policy":"none"`), 403, ""},
		{"PUT /credentials/ours", role(`,"source":"root"`), 403, ""},
		{"PUT /credentials/ours", role(`,"source":"nope"`), 403, ""},
		{"PUT /credentials/ours", role(`,"source":"mine"`), 200, "@nowhere"},
		{"PUT /credentials/ours", role(""), 200, "@nowhere"},
		{"POST /aliases", inline("new", "acme-x", role(`,"session_policy":"none"`)), 403, ""},
		{"POST /aliases", inline("new", "acme-x", role(`,"source":"root"`)), 403, ""},
		{"POST /aliases", inline("new", "acme-x", role(`,"source":"nope"`)), 403, ""},
		{"POST /aliases", inline("new", "other", role("")), 403, ""},
		{"POST /aliases", inline("new", "acme-x", `"theirs"`), 403, ""},
		{"POST /aliases", inline("new", "acme-x", role(`,"source":"mine"`)), 201, "@"},
		{"PATCH /aliases/ours", `{"bucket":"other"}`, 403, ""},
		{"PATCH /aliases/ours", `{"endpoint":"https://evil.example"}`, 403, ""},
		{"PATCH /aliases/ours", `{"credential":"theirs"}`, 403, ""},
		{"PATCH /aliases/ours", `{"credential":"idle"}`, 403, ""},
		{"PATCH /aliases/ours", `{"credential":"new"}`, 200, "acme-one/"},
		{"PATCH /aliases/ours", `{"bucket":"acme-two"}`, 200, "acme-two/"},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		r := a.do(method, "/api/v1"+path, c.body, "Authorization", token)
		if asked := s.forget(); r.status != c.status || asked != c.asked {
			t.Errorf("%s %s: got %d, want %d; STS was asked %q, want %q: %s",
				c.call, c.body, r.status, c.status, asked, c.asked, r.body)
		}
	}
}

// A replacement may say that it is a role, as a registration does, and as docs and answers have it.
func TestReplaceRoleWithKind(t *testing.T) {
	t.Parallel()
	a, _ := newRoleAPI(t)
	a.do("POST", "/api/v1/credentials", `{"name":"media","kind":"role","role_arn":"`+testRole+`"}`).want(201, "")
	a.do("PUT", "/api/v1/credentials/media", `{"kind":"role","role_arn":"`+testRole+`","external_id":"x2"}`).want(200, "")
	for body, field := range map[string]string{
		`{"kind":"static","role_arn":"` + testRole + `"}`: "role_arn",
		`{"kind":"role"}`:      "role_arn",
		`{"kind":"default"}`:   "kind",
		`{"kind":"anonymous"}`: "kind",
	} {
		p := a.do("PUT", "/api/v1/credentials/media", body).want(400, "invalid").problem()
		if len(p.Errors) == 0 || p.Errors[0].Field != field {
			t.Errorf("%s: %+v", body, p)
		}
	}
}

// A change that is refused or a dry run makes no session that would be kept.
func TestRefusedChangePreparesNothing(t *testing.T) {
	t.Parallel()
	a, s := newRoleAPI(t)
	a.do("POST", "/api/v1/aliases", `{"name":"shop","bucket":"acme-media","region":"eu-west-1","credential":{"role_arn":"`+testRole+`"}}`).want(201, "")
	s.forget()
	p := a.do("PATCH", "/api/v1/aliases/shop", `{"prefix":"a*"}`).want(400, "invalid").problem()
	if asked := s.forget(); asked != "" || p.Errors[0].Field != "prefix" {
		t.Errorf("STS was asked %q: %+v", asked, p)
	}
	a.do("PATCH", "/api/v1/aliases/shop?dry_run=true", `{"prefix":"b/"}`).want(200, "")
	if len(s.prepared) > 0 || s.forget() != "@b/" {
		t.Error("a dry run left a session")
	}
}
