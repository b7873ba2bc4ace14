package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/s3"
)

// operation is one as the API shows it.
type operation struct {
	ID         string `json:"id"`
	Kind       string `json:"kind"`
	Alias      string `json:"alias"`
	Credential string `json:"credential"`
	State      string `json:"state"`
	Error      *struct {
		Code   string `json:"code"`
		Step   string `json:"step"`
		Detail string `json:"detail"`
	} `json:"error"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at"`
	Steps      []struct {
		Name       string     `json:"name"`
		State      string     `json:"state"`
		StartedAt  *time.Time `json:"started_at"`
		FinishedAt *time.Time `json:"finished_at"`
		Detail     string     `json:"detail"`
	} `json:"steps"`
}

// quickWaits make provisioning and rotation take a second.
var quickWaits = []string{
	"--provision-verify-interval", "20ms", "--provision-refused-interval", "20ms", "--provision-confirm-interval", "20ms",
	"--rotation-soak", "300ms", "--rotation-quiet", "100ms", "--rotation-soak-inactive", "300ms",
}

// startProvisioning runs `ixmage serve --provision` with the root key of an IAM
// in the environment.
func startProvisioning(t testing.TB, g *gateway.Server, args ...string) *server {
	t.Helper()
	return startProvisioningIn(t, program, filepath.Join(t.TempDir(), "data"), provisionArgs(g, g.IAMURL, args...)...)
}

func provisionArgs(g *gateway.Server, iamURL string, args ...string) []string {
	args = append([]string{"--provision", "--iam-endpoint", iamURL, "--provision-buckets", "prov-*"}, args...)
	return append(args, "--", g.Root.AccessKeyID, g.Root.SecretAccessKey.Reveal())
}

// startProvisioningIn starts a binary in a data folder; the two arguments after
// "--" are the key in its environment.
func startProvisioningIn(t testing.TB, binary, data string, args ...string) *server {
	t.Helper()
	n := len(args) - 3
	cmd := exec.Command(binary, serveArgs(data, args[:n]...)...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+args[n+1], "AWS_SECRET_ACCESS_KEY="+args[n+2])
	cmd.Env = append(cmd.Env, awsAlone...)
	return startCommand(t, data, cmd)
}

// awsAlone keeps the machine's own AWS configuration out.
var awsAlone = []string{
	"AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
	"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
}

// media makes a bucket of its own for a test, with pictures inside the prefix
// and one outside.
func media(t testing.TB, g *gateway.Server) string {
	t.Helper()
	bucket := unique("prov-" + strings.ToLower(t.Name()))
	if err := g.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"web/a.png", "web/b.png", "blog/a.png", "private/p.png"} {
		obj := s3.Object{Body: pic(20_000, key), ContentType: "image/png"}
		if err := g.PutObject(t.Context(), bucket, key, obj); err != nil {
			t.Fatal(err)
		}
	}
	return bucket
}

func provisionBody(g *gateway.Server, name, bucket string) map[string]any {
	return map[string]any{
		"alias": name, "bucket": bucket, "prefix": "web/", "region": g.Region, "endpoint": g.S3URL, "path_style": true,
		"probe": map[string]any{"inside": "web/a.png", "outside": "private/p.png"},
	}
}

// operate makes a call that begins an operation, and waits for its end.
func (s *server) operate(method, path string, body any) operation {
	s.t.Helper()
	r := s.api(method, path, body, "Prefer", "wait=300")
	if r.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %s: %s", method, path, r.Status, r.body)
	}
	return parseOperation(s.t, r.body)
}

func parseOperation(t testing.TB, text []byte) operation {
	t.Helper()
	var op operation
	if err := json.Unmarshal(text, &op); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return op
}

func (s *server) operateWell(method, path string, body any) operation {
	s.t.Helper()
	op := s.operate(method, path, body)
	if op.State != "done" || op.Error != nil {
		s.t.Fatalf("%s %s: %+v", method, path, op)
	}
	for _, step := range op.Steps {
		if step.State != "done" || step.StartedAt == nil || step.FinishedAt == nil {
			s.t.Errorf("%s: step %+v", op.Kind, step)
		}
	}
	return op
}

// keyPair is the key that a credential has, taken out of the server's own data
// folder: the API never shows it.
func (s *server) keyPair(name alias.Name) alias.KeyPair {
	s.t.Helper()
	store, err := sqlstore.OpenSQLite(s.t.Context(), filepath.Join(s.data, "registry.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	keys, err := seal.Open(s.t.Context(), seal.Spec{Dir: s.data})
	if err != nil {
		s.t.Fatal(err)
	}
	registry, err := alias.Open(s.t.Context(), store, keys, alias.Policy{AllowPrivateEndpoints: true})
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := registry.Credential(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	kp, err := registry.Reveal(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return kp
}

// TestProvision makes an alias out of nothing against the real server, reads
// with it, and takes it away again.
func TestProvision(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	body := provisionBody(g, "shop", bucket)
	op := s.operateWell(http.MethodPost, "/api/v1/provision", body)
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK || !bytes.Equal(r.body, pic(20_000, "web/a.png")) {
		t.Errorf("inside: %s, %d bytes", r.Status, len(r.body))
	}
	for _, path := range []string{"/shop/nothing.png", "/shop/p.png"} {
		if r := s.get(path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
	s.wantScope(t, g, bucket)
	if again := s.operate(http.MethodPost, "/api/v1/provision", body); again.ID != op.ID {
		t.Errorf("the same request again is %s, want %s", again.ID, op.ID)
	}
	body["prefix"] = "blog/"
	body["probe"] = map[string]any{"inside": "blog/a.png"}
	if r := s.api(http.MethodPost, "/api/v1/provision", body); r.StatusCode != http.StatusConflict {
		t.Errorf("another body for the same alias: %s: %s", r.Status, r.body)
	}
	// Another location with the same key.
	body["alias"], body["credential"] = "blog", "shop"
	s.operateWell(http.MethodPost, "/api/v1/provision", body)
	for _, path := range []string{"/blog/a.png", "/shop/b.png"} {
		if r := s.get(path); r.StatusCode != http.StatusOK {
			t.Errorf("%s with the shared key: %s", path, r.Status)
		}
	}
	old := s.keyPair("shop")
	s.operateWell(http.MethodPost, "/api/v1/credentials/shop/rotate", nil)
	if fresh := s.keyPair("shop"); fresh.AccessKeyID == old.AccessKeyID {
		t.Error("the rotation left the key as it was")
	}
	if code := g.Probe(t.Context(), old, bucket, "web/a.png"); code != "InvalidAccessKeyId" {
		t.Errorf("the old key is answered %q", code)
	}
	s.removeAll(t, g)
}

// wantScope tries with the new key what it must not do, at the server itself.
func (s *server) wantScope(t *testing.T, g *gateway.Server, bucket string) {
	t.Helper()
	kp := s.keyPair("shop")
	for key, want := range map[string]string{"web/b.png": "", "private/p.png": "AccessDenied", "blog/a.png": "AccessDenied"} {
		if code := g.Probe(t.Context(), kp, bucket, key); code != want {
			t.Errorf("GetObject %s: %q, want %q", key, code, want)
		}
	}
	for what, code := range g.Trespass(t.Context(), kp, bucket) {
		if code != "403 AccessDenied" {
			t.Errorf("%s: %q, want 403 AccessDenied", what, code)
		}
	}
}

// removeAll deletes both aliases and the credential, and looks whether IAM has
// anything left.
func (s *server) removeAll(t *testing.T, g *gateway.Server) {
	t.Helper()
	users := s.iamUsers(g)
	if len(users) != 1 {
		t.Errorf("users of this installation: %v, want one", users)
	}
	if r := s.api(http.MethodDelete, "/api/v1/credentials/shop", nil); r.StatusCode != http.StatusConflict ||
		!bytes.Contains(r.body, []byte("blog")) {
		t.Errorf("a credential in use: %s: %s", r.Status, r.body)
	}
	for _, name := range []string{"shop", "blog"} {
		if r := s.api(http.MethodDelete, "/api/v1/aliases/"+name, nil); r.StatusCode != http.StatusNoContent {
			t.Errorf("%s: %s", r.Status, r.body)
		}
	}
	if got := s.iamUsers(g); len(got) != 1 {
		t.Errorf("deleting an alias left the users %v, want the one", got)
	}
	s.operateWell(http.MethodDelete, "/api/v1/credentials/shop", nil)
	if got := s.iamUsers(g); len(got) != 0 {
		t.Errorf("users after the removal: %v", got)
	}
	if r := s.api(http.MethodGet, "/api/v1/credentials/shop", nil); r.StatusCode != http.StatusNotFound {
		t.Errorf("a removed credential: %s", r.Status)
	}
}

// iamUsers are the users under the path of the server's installation.
func (s *server) iamUsers(g *gateway.Server) []string {
	s.t.Helper()
	users, err := g.Users(s.t.Context(), "/ixmage/"+s.installID()+"/")
	if err != nil {
		s.t.Fatal(err)
	}
	return users
}

// installID is the one that the server keeps.
func (s *server) installID() string {
	s.t.Helper()
	store, err := sqlstore.OpenSQLite(s.t.Context(), filepath.Join(s.data, "registry.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	id, err := store.Meta(s.t.Context(), "install_id")
	if err != nil {
		s.t.Fatal(err)
	}
	return string(id)
}
