package admin

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"ixmage/alias"
)

const testRole = "arn:aws:iam::123456789012:role/ixmage/pictures"

// stubSessions allows testRole, and gives what an STS would.
type stubSessions struct {
	mu       sync.Mutex
	wide     bool     // allows the session policy none
	err      error    // of STS
	tried    []string // role, and the prefix of the alias
	prepared []string // bucket and prefix
}

func (s *stubSessions) Allowed(p alias.Provider) error {
	if r, ok := p.(alias.Role); ok && r.ARN == testRole && (s.wide || r.SessionPolicy == alias.SessionPolicyAlias) {
		return nil
	}
	return fmt.Errorf("%w: outside --assume-roles", alias.ErrForbidden)
}

func (s *stubSessions) Try(_ context.Context, p alias.Provider, at *alias.Alias) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	place := "nowhere"
	if at != nil {
		place = at.Prefix
	}
	s.tried = append(s.tried, p.(alias.Role).ExternalID+"@"+place)
	return s.err
}

func (s *stubSessions) Prepare(_ context.Context, r alias.Route) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepared = append(s.prepared, r.Alias.Bucket+"/"+r.Alias.Prefix)
	return s.err
}

func (s *stubSessions) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// forget returns what STS was asked for since the last call.
func (s *stubSessions) forget() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := strings.Join(append(s.tried, s.prepared...), " ")
	s.tried, s.prepared = nil, nil
	return asked
}

func newRoleAPI(t *testing.T) (*api, *stubSessions) {
	t.Helper()
	s := &stubSessions{}
	return newAPI(t, func(c *Config) { c.Sessions = s }), s
}

func refused(field string) error {
	return &alias.ValidationError{Problems: []alias.Problem{{Field: field, Detail: "STS refuses"}}}
}

func TestRoleCredential(t *testing.T) {
	t.Parallel()
	a, s := newRoleAPI(t)
	r := a.do("POST", "/api/v1/credentials", `{"name":"media","kind":"role","role_arn":"`+testRole+`","external_id":"x1","duration":"2h"}`).want(201, "")
	var got credentialJSON
	r.decode(&got)
	if got.Kind != alias.KindRole || got.RoleARN != testRole || got.ExternalID != "x1" || got.Duration != "2h0m0s" ||
		got.SessionPolicy != alias.SessionPolicyAlias || got.Source != "default" || got.AccessKeyID != "" {
		t.Errorf("got %+v", got)
	}
	if fmt.Sprint(s.tried) != "[x1@nowhere]" {
		t.Errorf("STS was asked %v", s.tried)
	}
	a.do("GET", "/api/v1/credentials/media", "").want(200, "")
	// A replacement is a role again, and a new version.
	a.do("PUT", "/api/v1/credentials/media", `{"role_arn":"`+testRole+`","external_id":"x2"}`).want(200, "").decode(&got)
	if got.Version != 2 || got.ExternalID != "x2" || got.Duration != "1h0m0s" {
		t.Errorf("got %+v", got)
	}
	if d := a.do("PUT", "/api/v1/credentials/media", keyPair).want(409, "not-static").problem().Detail; !strings.Contains(d, "keeps its kind") {
		t.Errorf("a key pair for a role: %q", d)
	}
	a.do("POST", "/api/v1/credentials", `{"name":"static","access_key_id":"`+testKeyID+`","secret_access_key":"`+testSecret+`"}`).want(201, "")
	a.do("PUT", "/api/v1/credentials/static", `{"role_arn":"`+testRole+`"}`).want(409, "not-role")
	// A role without kind is one by its members.
	a.do("POST", "/api/v1/credentials", `{"name":"bare","role_arn":"`+testRole+`"}`).want(201, "")
	d := a.do("POST", "/api/v1/credentials/media/rotate", "").problem
	if p := d(); p.Status != 403 && p.Status != 409 {
		t.Errorf("rotate: %+v", p)
	}
}

// TestRoleRefused has a row for each reason why a role is refused.
func TestRoleRefused(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		body   string // members besides name
		err    error
		status int
		code   string
		field  string
	}{
		"outside --assume-roles": {`"role_arn":"arn:aws:iam::123456789012:role/admin"`, nil, 403, "not-allowed", ""},
		"wide":                   {`"role_arn":"` + testRole + `","session_policy":"none"`, nil, 403, "not-allowed", ""},
		"default":                {`"kind":"default"`, nil, 403, "not-allowed", ""},
		"trust":                  {`"role_arn":"` + testRole + `"`, refused("role_arn"), 400, "invalid", "role_arn"},
		"duration":               {`"role_arn":"` + testRole + `","duration":"12h"`, refused("duration"), 400, "invalid", "duration"},
		"too short":              {`"role_arn":"` + testRole + `","duration":"1m"`, nil, 400, "invalid", "duration"},
		"no ARN":                 {`"kind":"role"`, nil, 400, "invalid", "role_arn"},
		"key pair and role":      {`"role_arn":"` + testRole + `","access_key_id":"` + testKeyID + `"`, nil, 400, "invalid", "access_key_id"},
		"default with a role":    {`"kind":"default","external_id":"x"`, nil, 400, "invalid", "external_id"},
		"static with a role":     {`"kind":"static","role_arn":"` + testRole + `"`, nil, 400, "invalid", "role_arn"},
		"unknown source":         {`"role_arn":"` + testRole + `","source":"nobody"`, nil, 400, "invalid", "source"},
		"unknown kind":           {`"kind":"session"`, nil, 400, "invalid", "kind"},
	} {
		a, s := newRoleAPI(t)
		s.set(row.err)
		p := a.do("POST", "/api/v1/credentials", `{"name":"media",`+row.body+`}`).want(row.status, row.code).problem()
		if row.field != "" && (len(p.Errors) == 0 || p.Errors[0].Field != row.field) {
			t.Errorf("%s: %+v", name, p)
		}
		inline := a.do("POST", "/api/v1/aliases",
			`{"name":"shop","bucket":"acme-media","region":"eu-west-1","credential":{`+row.body+`}}`).want(row.status, row.code).problem()
		if row.field != "" && (len(inline.Errors) == 0 || inline.Errors[0].Field != "credential."+row.field) && row.field != "source" {
			t.Errorf("%s, with the alias: %+v", name, inline)
		}
		a.do("GET", "/api/v1/credentials/media", "").want(404, "")
		a.do("GET", "/api/v1/aliases/shop", "").want(404, "")
	}
}

// What is not known because STS is away does not prevent a registration, but a change of location.
func TestRoleSTSAway(t *testing.T) {
	t.Parallel()
	a, s := newRoleAPI(t)
	s.set(fmt.Errorf("%w: STS cannot be reached", alias.ErrSTS))
	a.do("POST", "/api/v1/aliases", `{"name":"shop","bucket":"acme-media","prefix":"a/","region":"eu-west-1","credential":{"role_arn":"`+testRole+`"}}`).want(201, "")
	p := a.do("PATCH", "/api/v1/aliases/shop", `{"prefix":"b/"}`).want(503, "sts").problem()
	if !strings.Contains(p.Detail, "STS cannot be reached") {
		t.Errorf("detail %q", p.Detail)
	}
	var got aliasJSON
	a.do("GET", "/api/v1/aliases/shop", "").want(200, "").decode(&got)
	if got.Prefix != "a/" || got.Revision != 1 {
		t.Errorf("after a refused change: %+v", got)
	}
	a.do("PATCH", "/api/v1/aliases/shop", `{"ttl":"5m"}`).want(200, "") // needs no session
	s.set(nil)
	a.do("PATCH", "/api/v1/aliases/shop", `{"prefix":"b/"}`).want(200, "")
	if fmt.Sprint(s.prepared) != "[acme-media/b/ acme-media/b/]" {
		t.Errorf("sessions prepared: %v", s.prepared)
	}
}

// An alias with a named role is tried for its own location; a refusal is about the credential.
func TestRoleNamed(t *testing.T) {
	t.Parallel()
	a, s := newRoleAPI(t)
	a.do("POST", "/api/v1/credentials", `{"name":"media","role_arn":"`+testRole+`","external_id":"x1"}`).want(201, "")
	a.do("POST", "/api/v1/aliases", `{"name":"shop","bucket":"acme-media","prefix":"a","region":"eu-west-1","credential":"media"}`).want(201, "")
	if fmt.Sprint(s.tried) != "[x1@nowhere x1@a/]" {
		t.Errorf("STS was asked %v", s.tried)
	}
	s.set(refused("session_policy"))
	p := a.do("POST", "/api/v1/aliases", `{"name":"press","bucket":"acme-media","region":"eu-west-1","credential":"media"}`).want(400, "invalid").problem()
	if len(p.Errors) != 1 || p.Errors[0].Field != "credential" {
		t.Errorf("%+v", p)
	}
	p = a.do("PATCH", "/api/v1/aliases/shop", `{"bucket":"other-media"}`).want(400, "invalid").problem()
	if len(p.Errors) != 1 || p.Errors[0].Field != "credential" {
		t.Errorf("%+v", p)
	}
	p = a.do("DELETE", "/api/v1/credentials/media", "").want(409, "in-use").problem()
	if !strings.Contains(p.Detail, "shop") {
		t.Errorf("%+v", p)
	}
}

// A credential that a role needs cannot be deleted, and the answer names the role.
func TestRoleSource(t *testing.T) {
	t.Parallel()
	a, _ := newRoleAPI(t)
	a.do("POST", "/api/v1/credentials", `{"name":"root","access_key_id":"`+testKeyID+`","secret_access_key":"`+testSecret+`"}`).want(201, "")
	a.do("POST", "/api/v1/credentials", `{"name":"media","role_arn":"`+testRole+`","source":"root"}`).want(201, "")
	p := a.do("DELETE", "/api/v1/credentials/root", "").want(409, "in-use").problem()
	if !strings.Contains(p.Detail, "source of these roles: media") {
		t.Errorf("%q", p.Detail)
	}
}

// A token with bucket patterns has no session made for what it may not read, and no role assumed
// with a key that it does not see. The last rows are what it may do.
func TestRoleBucketToken(t *testing.T) {
	t.Parallel()
	a, s := newRoleAPI(t)
	post := func(path, body string) { a.do("POST", path, body).want(201, "") }
	role := `"role_arn":"` + testRole + `"`
	post(credentialsPath, `{"name":"ours","external_id":"x1",`+role+`}`)
	post(credentialsPath, `{"name":"theirs",`+role+`}`)
	for _, name := range []string{"hidden", "unused", "own"} {
		post(credentialsPath, `{"name":"`+name+`",`+keyPair[1:])
	}
	for name, read := range map[string]string{"shop": `acme-one","credential":"ours`, "far": `other","credential":"theirs`, "key": `other","credential":"hidden`, "mine": `acme-one","credential":"own`} {
		post(aliasesPath, `{"name":"`+name+`","region":"eu-west-1","bucket":"`+read+`"}`)
	}
	token := a.makeToken("acme", `["admin"]`, `["acme-*"]`)
	for _, c := range []struct {
		method, path, body string
		status             int
		asked              bool
	}{
		{"PATCH", "/aliases/shop", `{"bucket":"other"}`, 403, false},
		{"PATCH", "/aliases/shop", `{"credential":"theirs"}`, 403, false},
		{"PATCH", "/aliases/shop", `{"credential":"nobody"}`, 403, false},
		{"PATCH", "/aliases/shop", `{"endpoint":"https://evil.example"}`, 403, false},
		{"PUT", "/credentials/ours", `{"source":"hidden",` + role + `}`, 403, false},
		{"PUT", "/credentials/ours", `{"source":"unused",` + role + `}`, 403, false},
		{"PUT", "/credentials/ours", `{"source":"nobody",` + role + `}`, 403, false},
		{"POST", "/aliases", `{"name":"new","bucket":"acme-two","region":"eu-west-1","credential":{"source":"hidden",` + role + `}}`, 403, false},
		{"POST", "/aliases", `{"name":"new","bucket":"acme-two","region":"eu-west-1","credential":{"source":"own",` + role + `}}`, 201, true},
		{"PUT", "/credentials/ours", `{"kind":"role",` + role + `}`, 200, true},
		{"PATCH", "/aliases/shop", `{"bucket":"acme-two"}`, 200, true},
	} {
		before := len(s.tried) + len(s.prepared)
		a.do(c.method, "/api/v1"+c.path, c.body, "Authorization", token).want(c.status, "")
		if asked := len(s.tried)+len(s.prepared) > before; asked != c.asked {
			t.Errorf("%s %s %s: STS was asked: %v", c.method, c.path, c.body, asked)
		}
	}
}
