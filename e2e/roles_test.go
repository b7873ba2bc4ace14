package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/metadata"
	"ixmage/internal/awstest/minio"
	"ixmage/internal/awstest/s3"
)

const (
	anyRole  = "arn:aws:iam::123456789012:role/ixmage/*"
	testRole = "arn:aws:iam::123456789012:role/ixmage/pictures"
)

// account is a fake AWS account with a role that reads all of the bucket role-media, and that a
// user may assume with an external id.
type account struct {
	*iam.Server
	user alias.KeyPair
}

func newAccount(t testing.TB, cfg iam.Config, args ...string) (*account, *server) {
	t.Helper()
	a := accountAlone(t, cfg)
	s := start(t, append(a.args(), args...)...)
	a.register(s)
	return a, s
}

func accountAlone(t testing.TB, cfg iam.Config) *account {
	t.Helper()
	a := &account{Server: iam.New(t, cfg)}
	key := a.AddUser("/", "ixmage-server", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"`+anyRole+`"}]}`)
	a.user = key
	a.AddRole(iam.Role{
		Name: "pictures", Path: "/ixmage/",
		Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},` +
			`"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"tenant-1"}}}]}`,
		Inline: map[string]string{"read": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`},
	})
	a.CreateBucket("role-media")
	return a
}

// args are the flags of a server that assumes roles of the account.
func (a *account) args() []string {
	return []string{"--sts-endpoint", a.URL, "--assume-roles", anyRole}
}

// register registers the key of the user as the credential server.
func (a *account) register(s *server) {
	s.adminCall(http.MethodPost, "/api/v1/credentials", map[string]any{
		"name": "server", "access_key_id": a.user.AccessKeyID, "secret_access_key": a.user.SecretAccessKey.Reveal(),
	}, http.StatusCreated)
}

// put stores a picture in the account.
func (a *account) put(key string) []byte {
	body := bytesOf(5_000, key)
	a.PutObject("role-media", key, s3.Object{Body: body, ContentType: "image/png"})
	return body
}

// alias is the body that registers an alias on a prefix, with a role of its own.
func (a *account) alias(name, prefix string, more map[string]any) map[string]any {
	role := map[string]any{"role_arn": testRole, "external_id": "tenant-1", "source": "server"}
	maps.Copy(role, more)
	return map[string]any{
		"name": name, "bucket": "role-media", "prefix": prefix, "region": "us-east-1", "endpoint": a.S3URL, "path_style": true,
		"credential": role,
	}
}

// sessions are the calls that made one.
func (a *account) sessions() []iam.Call {
	var calls []iam.Call
	for _, c := range a.Calls() {
		if c.Action == "AssumeRole" && c.Code == "" {
			calls = append(calls, c)
		}
	}
	return calls
}

func (s *server) session(path string) (out struct {
	Role    string     `json:"role"`
	Expires *time.Time `json:"expires_at"`
	Error   string     `json:"error"`
}) {
	s.t.Helper()
	var e struct {
		Session json.RawMessage `json:"session"`
	}
	r := s.api(http.MethodGet, "/api/v1/explain?path="+path, nil)
	if err := json.Unmarshal(r.body, &e); err != nil || e.Session == nil {
		s.t.Fatalf("explain: %s: %s", r.Status, r.body)
	}
	if err := json.Unmarshal(e.Session, &out); err != nil {
		s.t.Fatal(err)
	}
	return out
}

// TestRole: an alias with a role serves pictures with sessions that can read its prefix alone, made
// by one call of STS, and says so in explain and metrics, without a key.
func TestRole(t *testing.T) {
	t.Parallel()
	a, s := newAccount(t, iam.Config{}, "--install-id", "i1")
	body := a.put("web/a.png")
	s.create(a.alias("shop", "web/", nil))
	before := len(a.sessions())
	wantPicture(t, s.get("/shop/a.png"), body)
	wantPicture(t, s.get("/shop/a.png"), body)
	made := a.sessions()
	if len(made) != before+1 {
		t.Errorf("the first request made %d calls of STS, want 1", len(made)-before)
	}
	last := made[len(made)-1].Params
	wantAll(t, "the session", last.Encode(), "RoleSessionName=ixmage-i1-shop", "ExternalId=tenant-1", "DurationSeconds=3600")
	if want := `"Action":"s3:GetObject","Resource":"arn:aws:s3:::role-media/web/*"`; !strings.Contains(last.Get("Policy"), want) {
		t.Errorf("session policy %s", last.Get("Policy"))
	}
	if x := s.session("/shop/a.png"); x.Role != testRole || x.Expires == nil || x.Error != "" {
		t.Errorf("explain says %+v", x)
	}
	if n := s.metric("ixmage_sessions"); n != 1 {
		t.Errorf("%v sessions", n)
	}
	if left := s.metric("ixmage_session_next_expiry_seconds"); left < 3000 || left > 3600 {
		t.Errorf("%v seconds to the next expiry", left)
	}
	session := a.Sessions("pictures")
	for _, x := range session {
		log := s.wholeLog()
		if strings.Contains(log, x.Token) || strings.Contains(log, x.AccessKeyID) {
			t.Error("a session's key is in the log")
		}
	}
	for _, path := range []string{"/api/v1/credentials/shop", "/api/v1/aliases/shop", "/api/v1/explain?path=/shop/a.png"} {
		r := s.api(http.MethodGet, path, nil)
		for _, x := range session {
			if strings.Contains(string(r.body), x.Token) || strings.Contains(string(r.body), x.AccessKeyID) {
				t.Errorf("a session's key is in %s", path)
			}
		}
	}
	// It goes with its alias.
	if r := s.api(http.MethodDelete, "/api/v1/aliases/shop", nil); r.StatusCode != http.StatusNoContent {
		t.Errorf("delete: %s: %s", r.Status, r.body)
	}
	if r := s.api(http.MethodGet, "/api/v1/credentials/shop", nil); r.StatusCode != http.StatusNotFound {
		t.Errorf("the credential after its alias: %s", r.Status)
	}
	if n := s.metric("ixmage_sessions"); n != 0 {
		t.Errorf("%v sessions after the alias", n)
	}
}

// TestRoleRefused has a row for each mistake in a role, with the field that is to blame, at
// registration, and nothing registered.
func TestRoleRefused(t *testing.T) {
	t.Parallel()
	packed := iam.Config{PackedSize: func(policies []string) int {
		if len(policies) > 0 && strings.Contains(policies[0], "very-long") {
			return 101
		}
		return 10
	}}
	a, s := newAccount(t, packed)
	for name, row := range map[string]struct {
		role   map[string]any
		prefix string
		status int
		says   []string
	}{
		"outside --assume-roles": {map[string]any{"role_arn": "arn:aws:iam::123456789012:role/admin"}, "web/", 403, []string{"--assume-roles", anyRole}},
		"wide":                   {map[string]any{"session_policy": "none"}, "web/", 403, []string{"--allow-wide-scope"}},
		"external id":            {map[string]any{"external_id": "wrong"}, "web/", 400, []string{"credential.role_arn", "trust policy", "external id"}},
		"no such role":           {map[string]any{"role_arn": "arn:aws:iam::123456789012:role/ixmage/other"}, "web/", 400, []string{"credential.role_arn", "must exist"}},
		"duration":               {map[string]any{"duration": "2h"}, "web/", 400, []string{"credential.duration", "maximum session duration"}},
		"source":                 {map[string]any{"source": "nobody"}, "web/", 400, []string{"nobody"}},
		"source identity":        {map[string]any{"source_identity": true}, "web/", 400, []string{"sts:SetSourceIdentity"}},
		"packed policy":          {nil, "very-long/", 400, []string{"credential.session_policy", "shorter prefix"}},
	} {
		r := s.api(http.MethodPost, "/api/v1/aliases", a.alias("shop", row.prefix, row.role))
		if r.StatusCode != row.status {
			t.Errorf("%s: %s: %s", name, r.Status, r.body)
		}
		wantAll(t, name, string(r.body), row.says...)
	}
	if r := s.api(http.MethodGet, "/api/v1/aliases", nil); strings.Contains(string(r.body), "shop") {
		t.Errorf("registered: %s", r.body)
	}
	r := s.api(http.MethodPost, "/api/v1/credentials", map[string]any{"name": "own", "kind": "default"})
	wantProblem(t, r, http.StatusForbidden, "not-allowed")
	wantAll(t, "default", string(r.body), "--allow-default-credential")
}

// TestRolesNotAllowedAfterRestart: a role that --assume-roles does not allow after a restart signs no more, although it is registered.
func TestRolesNotAllowedAfterRestart(t *testing.T) {
	t.Parallel()
	a, s := newAccount(t, iam.Config{})
	a.put("web/a.png")
	s.create(a.alias("shop", "web/", nil))
	s.stop()
	again := startIn(t, s.data, "--sts-endpoint", a.URL)
	before := len(a.sessions())
	wantProblem(t, again.get("/shop/a.png"), http.StatusBadGateway, "origin-credential")
	if len(a.sessions()) != before {
		t.Error("a role outside --assume-roles was assumed")
	}
	if x := again.session("/shop/a.png"); !strings.Contains(x.Error, "--assume-roles") {
		t.Errorf("explain says %+v", x)
	}
}

// TestRoleMoved: a change of location has a new session before it takes effect, and is refused if
// there is none.
func TestRoleMoved(t *testing.T) {
	t.Parallel()
	a, s := newAccount(t, iam.Config{})
	a.put("web/a.png")
	body := a.put("press/a.png")
	s.create(a.alias("shop", "web/", nil))
	s.get("/shop/a.png")
	before := len(a.sessions())
	s.adminCall(http.MethodPatch, "/api/v1/aliases/shop", map[string]any{"prefix": "press/"}, http.StatusOK)
	made := a.sessions()
	if len(made) != before+1 || !strings.Contains(made[before].Params.Get("Policy"), "role-media/press/*") {
		t.Fatalf("%d sessions were made by the change", len(made)-before)
	}
	wantPicture(t, s.get("/shop/a.png"), body)
	if len(a.sessions()) != before+1 {
		t.Error("a request made another session")
	}
	a.SetFault(&iam.Fault{Code: "ServiceUnavailable", Status: 503}, "AssumeRole")
	s.adminCall(http.MethodPatch, "/api/v1/aliases/shop", map[string]any{"prefix": "other/"}, http.StatusServiceUnavailable)
	wantPicture(t, s.get("/shop/a.png"), body)
}

// TestRoleRenewals: requests never fail while the sessions of many aliases are renewed and STS fails
// half of the time. IXMAGE_RENEWALS has it see more renewals.
//
// Each alias has a client that waits for its answer, so a busy machine sends less and no queue
// grows. A tenth of a session's life is left for a request from its signature to S3, and more than that for a
// renewal, so a life must be long beside the time for which a busy machine holds a thread.
func TestRoleRenewals(t *testing.T) {
	t.Parallel()
	const aliases = 10
	renewals := aliases / 2
	if os.Getenv("IXMAGE_RENEWALS") == "all" {
		renewals = 5 * aliases
	}
	a, s := newAccount(t, iam.Config{SessionLife: func(time.Duration) time.Duration { return time.Minute }}, "--cache-memory", "0")
	var mu sync.Mutex // guards calls
	calls := map[string]int{}
	a.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action != "AssumeRole" {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		name := c.Params.Get("RoleSessionName")
		if calls[name]++; calls[name]%2 == 0 {
			return &iam.Fault{Code: "ServiceUnavailable", Status: 503}
		}
		return nil
	})
	for i := range aliases {
		body := a.put(fmt.Sprintf("web/%d/a.png", i))
		s.create(a.alias(fmt.Sprintf("shop%d", i), fmt.Sprintf("web/%d/", i), nil))
		wantPicture(t, s.get(fmt.Sprintf("/shop%d/a.png", i)), body)
	}
	var wg sync.WaitGroup
	var sent, failed atomic.Int64
	began := len(a.sessions())
	for i := range aliases {
		wg.Go(func() {
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for n := 0; failed.Load() <= 10 && (n%5 != 0 || len(a.sessions())-began <= renewals); n++ {
				r := s.get(fmt.Sprintf("/shop%d/a.png", i))
				if r.err != nil || r.StatusCode != http.StatusOK {
					t.Errorf("request %d: %s %v", sent.Load(), r.Status, r.err)
					failed.Add(1)
				}
				sent.Add(1)
				<-tick.C
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests, %d sessions, %d failed", sent.Load(), len(a.sessions())-began, failed.Load())
	for _, c := range a.Calls() {
		if c.Service == "s3" && c.Code != "" {
			t.Errorf("S3 answered %s to %s", c.Code, c.Action)
		}
	}
}

// TestRoleSTSAway: without STS the session signs until its end; then stored pictures are served
// stale and others are 502, and all is well when STS is back.
func TestRoleSTSAway(t *testing.T) {
	t.Parallel()
	a, s := newAccount(t, iam.Config{SessionLife: func(time.Duration) time.Duration { return 5 * time.Second }})
	stored := a.put("web/stored.png")
	fields := a.alias("shop", "web/", nil)
	fields["ttl"], fields["stale_while_revalidate"], fields["negative_ttl"] = "1s", "0s", "0s"
	s.create(fields)
	for i := range 400 {
		a.put(fmt.Sprintf("web/%d.png", i))
	}
	wantPicture(t, s.get("/shop/stored.png"), stored)
	living := s.session("/shop/stored.png").Expires
	a.SetFault(&iam.Fault{LoseBefore: true}, "AssumeRole")
	next := 0
	fresh := func() *response {
		next++
		return s.get(fmt.Sprintf("/shop/%d.png", next))
	}
	// Its use ends half a second early.
	if r := fresh(); r.StatusCode != http.StatusOK && living != nil && time.Now().Before(living.Add(-time.Second)) {
		t.Errorf("with a living session: %s", r.Status)
	}
	eventually(t, "the session ends", func() bool { return fresh().StatusCode == http.StatusBadGateway })
	wantProblem(t, fresh(), http.StatusBadGateway, "origin-credential")
	r := s.get("/shop/stored.png")
	wantPicture(t, r, stored)
	wantAll(t, "Cache-Status", r.Header.Get("Cache-Status"), "ttl=-")
	if x := s.session("/shop/999.png"); x.Expires != nil || !strings.Contains(x.Error, "STS cannot be reached") {
		t.Errorf("explain says %+v", x)
	}
	a.SetFault(nil, "AssumeRole")
	eventually(t, "STS is back", func() bool { return fresh().StatusCode == http.StatusOK })
}

// TestRoleRevoked: S3 refuses a session that lives; it is renewed once and the request repeated.
func TestRoleRevoked(t *testing.T) {
	t.Parallel()
	a, s := newAccount(t, iam.Config{}, "--cache-memory", "0")
	body := a.put("web/a.png")
	s.create(a.alias("shop", "web/", nil))
	s.get("/shop/a.png")
	before := len(a.sessions())
	for _, code := range []string{"ExpiredToken"} {
		if n := a.RevokeSessions("pictures", code); n == 0 {
			t.Fatal("no session was revoked")
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { wantPicture(t, s.get("/shop/a.png"), body) })
		}
		wg.Wait()
	}
	if n := len(a.sessions()) - before; n != 1 {
		t.Errorf("%d sessions were made, want 1", n)
	}
}

// TestRoleMinIO: a hundred aliases with one role at a real server that enforces session policies.
// Each reads its own folder; a request that were signed with the session of another would be
// refused.
func TestRoleMinIO(t *testing.T) {
	t.Parallel()
	m := minio.New(t)
	const aliases = 100
	if err := m.CreateBucket(t.Context(), "role-media"); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--sts-endpoint", m.URL, "--assume-roles", anyRole, "--cache-memory", "0")
	s.adminCall(http.MethodPost, "/api/v1/credentials", map[string]any{
		"name": "root", "access_key_id": m.Root.AccessKeyID, "secret_access_key": m.Root.SecretAccessKey.Reveal(),
	}, http.StatusCreated)
	s.adminCall(http.MethodPost, "/api/v1/credentials", map[string]any{"name": "pictures", "role_arn": testRole, "source": "root"}, http.StatusCreated)
	for i := range aliases {
		key := fmt.Sprintf("p%d/a.png", i)
		err := m.PutObject(t.Context(), "role-media", key, s3.Object{Body: bytesOf(2_000+i, "a"), ContentType: "image/png"})
		if err != nil {
			t.Fatal(err)
		}
		s.create(map[string]any{
			"name": fmt.Sprintf("a%d", i), "bucket": "role-media", "prefix": fmt.Sprintf("p%d/", i), "endpoint": m.URL,
			"path_style": true, "credential": "pictures",
		})
	}
	var wg sync.WaitGroup
	for i := range 4 * aliases {
		wg.Go(func() {
			n := i % aliases
			wantPicture(t, s.get(fmt.Sprintf("/a%d/a.png", n)), bytesOf(2_000+n, "a"))
		})
	}
	wg.Wait()
	if n := s.metric("ixmage_sessions"); n != aliases {
		t.Errorf("%v sessions of %d aliases", n, aliases)
	}
	// The longest prefix has a policy that the server takes.
	long := strings.Repeat(strings.Repeat("日", 80)+"/", 2) // MinIO allows 255 bytes in a segment
	s.create(map[string]any{
		"name": "long", "bucket": "role-media", "prefix": long, "endpoint": m.URL, "path_style": true, "credential": "pictures",
	})
	key := long + "a.png"
	if err := m.PutObject(t.Context(), "role-media", key, s3.Object{Body: bytesOf(2_000, "long"), ContentType: "image/png"}); err != nil {
		t.Fatal(err)
	}
	wantPicture(t, s.get("/long/a.png"), bytesOf(2_000, "long"))
}

// TestOwnCredentials: an alias of the kind default is read with the credentials that the server has
// by its place, and a role with them as its source.
func TestOwnCredentials(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]metadata.Kind{"EC2": metadata.EC2, "ECS": metadata.ECS, "PodIdentity": metadata.PodIdentity} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := iam.New(t, iam.Config{})
			const all = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","sts:AssumeRole"],"Resource":"*"}]}`
			a.AddRole(iam.Role{Name: "machine", Inline: map[string]string{"read": all}, Trust: trust("arn:aws:iam::123456789012:root")})
			a.AddRole(iam.Role{Name: "pictures", Path: "/ixmage/", Inline: map[string]string{"read": all}, Trust: trust("arn:aws:iam::123456789012:role/machine")})
			a.PutObject("role-media", "web/a.png", s3.Object{Body: bytesOf(5_000, "a"), ContentType: "image/png"})
			place := metadata.New(t, kind, a, metadata.Config{Role: "machine"})
			env := []string{"AWS_REGION=us-east-1"}
			for k, v := range place.Env() {
				env = append(env, k+"="+v)
			}
			s := startWith(t, env, "--sts-endpoint", a.URL, "--assume-roles", anyRole, "--allow-default-credential")
			for alias, credential := range map[string]map[string]any{
				"own": {"kind": "default"}, "shop": {"role_arn": testRole, "duration": "12h"},
			} {
				s.create(map[string]any{
					"name": alias, "bucket": "role-media", "prefix": "web/", "region": "us-east-1", "endpoint": a.S3URL,
					"path_style": true, "credential": credential,
				})
				wantPicture(t, s.get("/"+alias+"/a.png"), bytesOf(5_000, "a"))
			}
			if x := s.session("/own/a.png"); x.Role != "" || x.Expires == nil {
				t.Errorf("explain says %+v", x)
			}
			for _, c := range a.Calls() { // a role whose source is a session has an hour at most
				if c.Action == "AssumeRole" && c.Params.Get("DurationSeconds") != "3600" {
					t.Errorf("asked for %s seconds", c.Params.Get("DurationSeconds"))
				}
			}
		})
	}
}

func trust(principal string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"sts:AssumeRole"}]}`
}
