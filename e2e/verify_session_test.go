package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/minio"
	"ixmage/internal/awstest/s3"
)

const picturesRole = "arn:aws:iam::123456789012:role/ixmage-pictures"

// verdicts verifies an alias. found has the verdicts of its checks.
func (s *server) verdicts(name, body string) (scope string, found map[string]string) {
	s.t.Helper()
	r := s.api(http.MethodPost, "/api/v1/aliases/"+name+"/verify", body)
	var answer struct {
		Scope  string
		Checks []struct{ Name, Verdict, Detail string }
	}
	if err := json.Unmarshal(r.body, &answer); err != nil || r.StatusCode != http.StatusOK {
		s.t.Fatalf("verify %s: %s: %s", name, r.Status, r.body)
	}
	found = map[string]string{}
	for _, c := range answer.Checks {
		found[c.Name] = c.Verdict
		if c.Verdict != "proven" {
			s.t.Logf("%s: %s %s: %s", name, c.Name, c.Verdict, c.Detail)
		}
	}
	return answer.Scope, found
}

// withRole registers a source, and an alias with a role.
func (s *server) withRole(source alias.KeyPair, name, url, policy string) {
	s.t.Helper()
	s.api(http.MethodPost, "/api/v1/credentials", map[string]any{ // 409 if it is there
		"name": "source", "access_key_id": source.AccessKeyID, "secret_access_key": source.SecretAccessKey.Reveal(),
	})
	made := s.api(http.MethodPost, "/api/v1/aliases", map[string]any{
		"name": name, "bucket": "media", "prefix": "web/", "region": "us-east-1", "endpoint": url, "path_style": true, "canary": "a.png",
		"credential": map[string]any{"kind": "role", "role_arn": picturesRole, "source": "source", "session_policy": policy},
	})
	if made.StatusCode != http.StatusCreated {
		s.t.Fatalf("%s: %s: %s", name, made.Status, made.body)
	}
}

const outside = `{"probe":{"outside":"private/p.png"}}`

// TestVerifyRole: at MinIO the session of an alias, made from a key that may do anything, is proven
// to read the alias and nothing else. A session without a session policy is violated. What was
// proven is forgotten when the alias moves, and can be proven again.
func TestVerifyRole(t *testing.T) {
	t.Parallel()
	m := minio.New(t)
	if err := m.CreateBucket(t.Context(), "media"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"web/a.png", "blog/a.png", "private/p.png"} {
		if err := m.PutObject(t.Context(), "media", key, s3.Object{Body: png(1000, ""), ContentType: "image/png"}); err != nil {
			t.Fatal(err)
		}
	}
	s := startWith(t, awsAlone, "--sts-endpoint", m.URL, "--assume-roles", "arn:aws:iam::123456789012:role/ixmage-*", "--allow-wide-scope")
	s.withRole(m.Root, "shop", m.URL, "alias")
	s.withRole(m.Root, "wide", m.URL, "none")
	scope, found := s.verdicts("shop", outside)
	if scope != "proven" || found["session-policy"] != "proven" || found["read-outside"] != "proven" || found["list"] != "proven" {
		t.Errorf("shop: %s %v", scope, found)
	}
	if scope, found = s.verdicts("wide", outside); scope != "violated" || found["session-policy"] != "weak" || found["read-outside"] != "violated" {
		t.Errorf("wide: %s %v", scope, found)
	}
	if r := s.api(http.MethodGet, "/api/v1/credentials/shop", nil); !strings.Contains(string(r.body), `"scope":"proven"`) {
		t.Errorf("credential: %s", r.body)
	}
	if r := s.api(http.MethodPatch, "/api/v1/aliases/shop", map[string]any{"prefix": "blog/"}); r.StatusCode != http.StatusOK {
		t.Fatalf("move: %s: %s", r.Status, r.body)
	}
	if r := s.api(http.MethodGet, "/api/v1/aliases/shop/verification", nil); r.StatusCode != http.StatusNotFound {
		t.Errorf("the verification of before: %s: %s", r.Status, r.body)
	}
	if r := s.api(http.MethodGet, "/api/v1/credentials/shop", nil); !strings.Contains(string(r.body), `"scope":""`) {
		t.Errorf("credential after the move: %s", r.body)
	}
	if scope, found = s.verdicts("shop", `{"probe":{"outside":"web/a.png"}}`); scope != "proven" || found["read-inside"] != "proven" {
		t.Errorf("moved: %s %v", scope, found)
	}
}

// TestVerifyIgnoredSessionPolicy: a wide role is proven while session policies are enforced, and
// violated at a server that ignores them.
func TestVerifyIgnoredSessionPolicy(t *testing.T) {
	t.Parallel()
	f := iam.New(t, iam.Config{})
	for _, key := range []string{"web/a.png", "blog/a.png", "private/p.png"} {
		f.PutObject("media", key, s3.Object{Body: png(1000, ""), ContentType: "image/png"})
	}
	everything := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	source := f.AddUser("/", "source", everything)
	f.AddRole(iam.Role{
		Name: "ixmage-pictures", Inline: map[string]string{"everything": everything},
		Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/source"},"Action":"sts:AssumeRole"}]}`,
	})
	s := startProvisioningIn(t, filepath.Join(t.TempDir(), "data"), "--provision", "--iam-endpoint", f.URL,
		"--assume-roles", picturesRole, "--", f.Root.AccessKeyID, f.Root.SecretAccessKey.Reveal())
	s.withRole(source, "shop", f.S3URL, "alias")
	scope, found := s.verdicts("shop", outside)
	if scope != "proven" || found["identity"] != "proven" || found["role-policy"] != "proven" || found["role-trust"] != "proven" {
		t.Errorf("enforced: %s %v", scope, found)
	}
	f.SetFault(iam.DropPolicy(), "AssumeRole")
	s.api(http.MethodPatch, "/api/v1/aliases/shop", map[string]any{"prefix": "blog/"})
	scope, found = s.verdicts("shop", outside)
	if scope != "violated" || found["session-policy"] != "proven" || found["read-outside"] != "violated" || found["iam-create-key"] != "violated" {
		t.Errorf("ignored: %s %v", scope, found)
	}
}
