package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ixmage/internal/awstest/accounts"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

const everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// TestAccounts: the program makes, rotates and removes users in its own account and in two more,
// serves the pictures of each, and uses the power over an account for one operation.
func TestAccounts(t *testing.T) {
	t.Parallel()
	home := iam.New(t, iam.Config{})
	server := home.AddUser("/", "server", everything)
	prod := &accounts.Account{ID: "111122223333", Server: iam.New(t, iam.Config{Account: "111122223333"})}
	test := &accounts.Account{ID: "444455556666", Server: iam.New(t, iam.Config{Account: "444455556666"})}
	endpoint := accounts.New(t, home, prod, test)
	for _, a := range []*accounts.Account{prod, test} {
		a.AddRole(iam.Role{Name: "ixmage", Trust: a.Trust("external-" + a.ID), Inline: map[string]string{"all": everything}})
	}
	of := map[string]*iam.Server{"": home, "prod": prod.Server, "test": test.Server}
	for name, f := range of {
		f.CreateBucket("prov-x" + name)
		for _, key := range []string{"web/a.png", "private/p.png"} {
			f.PutObject("prov-x"+name, key, s3.Object{Body: bytesOf(20_000, name+key), ContentType: "image/png"})
		}
	}
	file := filepath.Join(t.TempDir(), "accounts.yaml")
	writeFile(t, file, `accounts:
  - {id: "111122223333", name: prod, role: arn:aws:iam::111122223333:role/ixmage, external_id: external-111122223333, buckets: [prov-xprod]}
  - {id: "444455556666", name: test, role: arn:aws:iam::444455556666:role/ixmage, external_id: external-444455556666, buckets: [prov-xtest]}
`, 0o600)
	data := filepath.Join(t.TempDir(), "data")
	args := slices.Concat([]string{"--provision", "--iam-endpoint", endpoint.URL, "--provision-buckets", "prov-x", "--install-id", "field",
		"--reconcile-interval", "1s", "--accounts", file}, quickWaits, []string{"--", server.AccessKeyID, server.SecretAccessKey.Reveal()})
	s := startProvisioningIn(t, data, args...)
	body := func(alias, account string) map[string]any {
		return map[string]any{
			"alias": alias, "account": account, "bucket": "prov-x" + account, "prefix": "web/", "region": "us-east-1",
			"endpoint": of[account].S3URL, "path_style": true, "probe": map[string]any{"inside": "web/a.png", "outside": "private/p.png"},
		}
	}
	for account, f := range of {
		name := "shop" + account
		op := s.operateWell(http.MethodPost, "/api/v1/provision", body(name, account))
		if r := s.get("/" + name + "/a.png"); r.StatusCode != http.StatusOK || string(r.body) != string(bytesOf(20_000, account+"web/a.png")) {
			t.Errorf("%s: %s", name, r.Status)
		}
		s.operateWell(http.MethodPost, "/api/v1/credentials/"+name+"/rotate", nil)
		if users := usersOf(f); len(users) != 1 || !strings.Contains(users[0], ":user/ixmage/field/ixmage-s3read-"+name) {
			t.Errorf("%s: users %v", name, users)
		}
		var c struct{ Account string }
		r := s.api(http.MethodGet, "/api/v1/credentials/"+name, nil)
		if err := json.Unmarshal(r.body, &c); err != nil || account != "" && c.Account != map[string]string{"prod": prod.ID, "test": test.ID}[account] ||
			account == "" && strings.Contains(string(r.body), `"account"`) {
			t.Errorf("%s: %v: %s", name, err, r.body)
		}
		if account == "" {
			continue
		}
		if x := f.Sessions("ixmage"); !slices.ContainsFunc(x, func(x iam.Session) bool { return x.Name == "ixmage-field-"+op.ID }) {
			t.Errorf("%s: no session of %s: %+v", name, op.ID, x)
		}
	}
	other := body("other", "prod")
	other["bucket"] = "prov-xtest"
	r := s.api(http.MethodPost, "/api/v1/provision", other)
	wantProblem(t, r, http.StatusForbidden, "not-allowed")
	wantAll(t, "the problem", string(r.body), "prov-xtest", "prod (111122223333)", file)
	r = s.api(http.MethodPost, "/api/v1/provision", map[string]any{"alias": "x", "account": "staging", "bucket": "prov-xprod", "region": "us-east-1"})
	wantProblem(t, r, http.StatusBadRequest, "invalid")
	wantAll(t, "the problem", string(r.body), `"account"`, "prod (111122223333), test (444455556666)")
	s.removeFromAccounts(of)
	for _, a := range []*accounts.Account{prod, test} {
		for _, misuse := range a.Misused("field", "ixmage") {
			t.Errorf("%s: %s", a.ID, misuse)
		}
	}
	for _, c := range home.Calls() {
		if name := c.Params.Get("UserName"); c.Service == "iam" && (strings.Contains(name, "shopprod") || strings.Contains(name, "shoptest")) {
			t.Errorf("in the account of the server: %s %s", c.Action, name)
		}
	}
}

// usersOf are the ARNs of the users that ixmage made in an account.
func usersOf(f *iam.Server) []string {
	var arns []string
	for _, u := range f.Users() {
		if strings.HasPrefix(u.Path, "/ixmage/") {
			arns = append(arns, u.ARN)
		}
	}
	return arns
}

// removeFromAccounts removes the alias and the credential of each account, and finds no user left.
func (s *server) removeFromAccounts(of map[string]*iam.Server) {
	s.t.Helper()
	for account, f := range of {
		name := "shop" + account
		if r := s.api(http.MethodDelete, "/api/v1/aliases/"+name, nil); r.StatusCode != http.StatusNoContent {
			s.t.Fatalf("%s: %s", name, r.Status)
		}
		s.operateWell(http.MethodDelete, "/api/v1/credentials/"+name, nil)
		if users := usersOf(f); len(users) > 0 {
			s.t.Errorf("%s: left %v", name, users)
		}
	}
}

// TestAccountsFile: every mistake of the file is a line of the error, and an account that has
// left it is served and not changed.
func TestAccountsFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "accounts.yaml")
	writeFile(t, file, "accounts:\n- id: 12\n  role: arn:aws:iam::111122223333:user/x\n  regoin: x\n", 0o600)
	got := runProgram(t, nil, "serve", "--data", t.TempDir(), "--accounts", file, "--log-level=loud")
	if got.code != 2 {
		t.Errorf("exit status %d", got.code)
	}
	wantAll(t, "stderr", got.stderr, "--accounts (IXMAGE_ACCOUNTS): "+file+":2:7: id: must be the twelve digits of an AWS account",
		file+":3:9: role: must be the ARN of a role", file+":4:3: regoin: unknown field", "--log-level")

	home := iam.New(t, iam.Config{})
	server := home.AddUser("/", "server", everything)
	prod := &accounts.Account{ID: "111122223333", Server: iam.New(t, iam.Config{Account: "111122223333"})}
	endpoint := accounts.New(t, home, prod)
	prod.AddRole(iam.Role{Name: "ixmage", Trust: prod.Trust(""), Inline: map[string]string{"all": everything}})
	prod.CreateBucket("prov-prod")
	prod.PutObject("prov-prod", "web/a.png", s3.Object{Body: bytesOf(20_000, "a"), ContentType: "image/png"})
	writeFile(t, file, "accounts:\n- {id: \"111122223333\", role: arn:aws:iam::111122223333:role/ixmage, buckets: ['*']}\n", 0o600)
	data := filepath.Join(t.TempDir(), "data")
	args := func(more ...string) []string {
		return slices.Concat([]string{"--provision", "--iam-endpoint", endpoint.URL}, quickWaits, more,
			[]string{"--", server.AccessKeyID, server.SecretAccessKey.Reveal()})
	}
	s := startProvisioningIn(t, data, args("--accounts", file)...)
	s.operateWell(http.MethodPost, "/api/v1/provision", map[string]any{
		"alias": "shop", "account": "111122223333", "bucket": "prov-prod", "prefix": "web/", "region": "us-east-1", "endpoint": prod.S3URL,
		"path_style": true, "probe": map[string]any{"inside": "web/a.png"},
	})
	s.stop()
	s = startProvisioningIn(t, data, args()...)
	wantAll(t, "the log", s.output(), "level=WARN", "credential=shop", "account=111122223333", "cannot be changed")
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("picture: %s", r.Status)
	}
	r := s.api(http.MethodPost, "/api/v1/credentials/shop/rotate", nil)
	wantProblem(t, r, http.StatusForbidden, "not-allowed")
	wantAll(t, "the problem", string(r.body), "the AWS account 111122223333 is not in --accounts")
}
