package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/s3"
)

// operation is an operation as the API shows it.
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
	SupersededBy string     `json:"superseded_by"`
	CreatedAt    time.Time  `json:"created_at"`
	FinishedAt   *time.Time `json:"finished_at"`
	Steps        []struct {
		Name       string     `json:"name"`
		State      string     `json:"state"`
		StartedAt  *time.Time `json:"started_at"`
		FinishedAt *time.Time `json:"finished_at"`
		Detail     string     `json:"detail"`
	} `json:"steps"`
}

// quickWaits shorten the waits of provisioning and rotation to a second.
var quickWaits = []string{
	"--provision-verify-interval", "20ms", "--provision-refused-interval", "20ms", "--provision-confirm-interval", "20ms",
	"--rotation-soak", "300ms", "--rotation-quiet", "100ms", "--rotation-soak-inactive", "300ms",
}

// startProvisioning runs `ixmage serve --provision` with the root key of an IAM server
// in the environment.
func startProvisioning(t testing.TB, g *gateway.Server, args ...string) *server {
	t.Helper()
	return startProvisioningIn(t, filepath.Join(t.TempDir(), "data"), provisionArgs(g, g.IAMURL, args...)...)
}

func provisionArgs(g *gateway.Server, iamURL string, args ...string) []string {
	args = append([]string{"--provision", "--iam-endpoint", iamURL, "--provision-buckets", "prov-*"}, args...)
	return append(args, "--", g.Root.AccessKeyID, g.Root.SecretAccessKey.Reveal())
}

// startProvisioningIn starts the program in a data folder. The two arguments after
// "--" are the key in its environment.
func startProvisioningIn(t testing.TB, data string, args ...string) *server {
	t.Helper()
	n := len(args) - 3
	cmd := exec.Command(program(), serveArgs(data, args[:n]...)...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+args[n+1], "AWS_SECRET_ACCESS_KEY="+args[n+2])
	cmd.Env = append(cmd.Env, awsAlone...)
	return startCommand(t, data, cmd)
}

// awsAlone hides the AWS configuration of the machine.
var awsAlone = []string{
	"AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
	"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
}

// media creates a bucket for one test, with pictures inside the prefix and one
// outside.
func media(t testing.TB, g *gateway.Server) string {
	t.Helper()
	bucket := unique("prov-" + strings.ToLower(t.Name()))
	if err := g.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"web/a.png", "web/b.png", "blog/a.png", "private/p.png"} {
		obj := s3.Object{Body: bytesOf(20_000, key), ContentType: "image/png"}
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

// operate begins an operation and waits until it ends.
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

// keyPair reads the key pair of a credential from the server's data folder, since the
// API never shows it.
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

// TestProvision provisions an alias at the real server, reads with it, and removes it.
func TestProvision(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	body := provisionBody(g, "shop", bucket)
	op := s.operateWell(http.MethodPost, "/api/v1/provision", body)
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK || !bytes.Equal(r.body, bytesOf(20_000, "web/a.png")) {
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
	// A second location with the same key.
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
	if code := g.ReadCode(t.Context(), old, bucket, "web/a.png"); code != "InvalidAccessKeyId" {
		t.Errorf("the old key is answered %q", code)
	}
	s.removeAll(t, g)
}

// wantScope tries forbidden calls with the new key at the server itself.
func (s *server) wantScope(t *testing.T, g *gateway.Server, bucket string) {
	t.Helper()
	kp := s.keyPair("shop")
	for key, want := range map[string]string{"web/b.png": "", "private/p.png": "AccessDenied", "blog/a.png": "AccessDenied"} {
		if code := g.ReadCode(t.Context(), kp, bucket, key); code != want {
			t.Errorf("GetObject %s: %q, want %q", key, code, want)
		}
	}
	for what, code := range g.TryForbidden(t.Context(), kp, bucket) {
		if code != "403 AccessDenied" {
			t.Errorf("%s: %q, want 403 AccessDenied", what, code)
		}
	}
}

// removeAll deletes both aliases and the credential, and checks that nothing is left in
// IAM.
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

// iamUsers returns the users under the path of the server's installation.
func (s *server) iamUsers(g *gateway.Server) []string {
	s.t.Helper()
	users, err := g.Users(s.t.Context(), "/ixmage/"+s.installID()+"/")
	if err != nil {
		s.t.Fatal(err)
	}
	return users
}

// installID is the id of the server's installation.
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

// awsCLI runs the AWS CLI with the root key of an IAM server and without the machine's
// own settings. It skips the test if there is no CLI.
func awsCLI(t *testing.T, g *gateway.Server, args ...string) outcome {
	t.Helper()
	aws, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: aws IS ABSENT (apt-get install awscli)")
	}
	env := append([]string{
		"AWS_ACCESS_KEY_ID=" + g.Root.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + g.Root.SecretAccessKey.Reveal(),
		"AWS_PAGER=", "AWS_MAX_ATTEMPTS=1", "PYTHONUTF8=1", "HOME=",
	}, awsAlone...)
	args = append([]string{"iam", "--endpoint-url", g.IAMURL, "--region", g.Region, "--output", "text"}, args...)
	cmd := exec.Command(aws, args...)
	cmd.Env = append(plainEnv(), env...)
	return runCommand(t, 2*time.Minute, cmd)
}

// TestProvisionLongName provisions an alias with a name of 63 letters, which is the
// maximum, and removes it. The AWS CLI shows the state of IAM before and after.
func TestProvisionLongName(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	name := strings.Repeat("long-name-", 6) + "end"
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, name, bucket))
	if r := s.get("/" + name + "/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("the alias is %s", r.Status)
	}
	users := s.iamUsers(g)
	if len(users) != 1 || len(users[0]) > 64 || !strings.HasPrefix(users[0], "ixmage-s3read-long-name-long-name-") {
		t.Fatalf("users %q, want one of at most 64 letters", users)
	}
	kp := s.keyPair(alias.Name(name))
	wantUser(t, g, s.installID(), users[0], kp.AccessKeyID)
	if r := s.api(http.MethodDelete, "/api/v1/aliases/"+name, nil); r.StatusCode != http.StatusNoContent {
		t.Fatalf("%s: %s", r.Status, r.body)
	}
	s.operateWell(http.MethodDelete, "/api/v1/credentials/"+name, nil)
	if code := g.ReadCode(t.Context(), kp, bucket, "web/a.png"); code != "InvalidAccessKeyId" {
		t.Errorf("the key of the user that was removed is answered %q", code)
	}
	wantNoUser(t, g, s.installID(), users[0])
}

// wantUser checks with the AWS CLI that a user exists as provisioned, with one key.
func wantUser(t *testing.T, g *gateway.Server, install, user, key string) {
	t.Helper()
	t.Run("there, says the AWS CLI", func(t *testing.T) {
		for _, look := range []struct{ args, want []string }{
			{[]string{"list-users", "--path-prefix", "/ixmage/" + install + "/"}, []string{user}},
			{[]string{"list-access-keys", "--user-name", user}, []string{key, "Active"}},
		} {
			got := awsCLI(t, g, look.args...)
			wantAll(t, "aws "+look.args[0], got.stdout, look.want...)
			if got.code != 0 {
				t.Errorf("aws %s: exit status %d: %s", look.args[0], got.code, got.stderr)
			}
		}
	})
}

// wantNoUser checks with the AWS CLI that nothing of a user exists.
func wantNoUser(t *testing.T, g *gateway.Server, install, user string) {
	t.Helper()
	t.Run("gone, says the AWS CLI", func(t *testing.T) {
		for _, call := range []string{"get-user", "list-access-keys"} {
			got := awsCLI(t, g, call, "--user-name", user)
			if got.code == 0 || !strings.Contains(got.stderr, "(NoSuchEntity)") {
				t.Errorf("aws %s: exit status %d: %s%s", call, got.code, got.stdout, got.stderr)
			}
		}
		got := awsCLI(t, g, "list-users", "--path-prefix", "/ixmage/"+install+"/")
		if got.code != 0 || strings.TrimSpace(got.stdout) != "" {
			t.Errorf("aws list-users: exit status %d: %s%s", got.code, got.stdout, got.stderr)
		}
	})
}

// TestTwoKeys has a second key on a user, which the registry does not know. A rotation
// would need a third key: it stops, names both, and changes nothing. The second time
// both are unknown.
func TestTwoKeys(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	user, own := s.iamUsers(g)[0], s.keyPair("shop")
	other, err := g.AddKey(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	if code := g.ReadCode(t.Context(), other, bucket, "web/a.png"); code != "" {
		t.Fatalf("the other key is answered %q", code)
	}
	s.stopsFor(g, user, own.AccessKeyID+" (last used ", other.AccessKeyID+" (last used ")
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("the alias is %s after a rotation that stopped", r.Status)
	}
	if err := g.DeleteKey(t.Context(), user, own.AccessKeyID); err != nil {
		t.Fatal(err)
	}
	third, err := g.AddKey(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	s.stopsFor(g, user, other.AccessKeyID+" (last used ", third.AccessKeyID+" (never used)")
}

// stopsFor checks that a rotation stops because of unknown keys, says so, and leaves
// them.
func (s *server) stopsFor(g *gateway.Server, user string, says ...string) {
	s.t.Helper()
	before, err := g.Keys(s.t.Context(), user)
	if err != nil {
		s.t.Fatal(err)
	}
	op := s.operate(http.MethodPost, "/api/v1/credentials/shop/rotate", nil)
	if op.State != "failed" || op.Error == nil || op.Error.Code != "unknown-keys" || op.Error.Step != "check-keys" {
		s.t.Fatalf("the rotation: %+v", op)
	}
	wantAll(s.t, "the error", op.Error.Detail, append(says, user)...)
	for _, id := range before {
		wantAll(s.t, "the error", op.Error.Detail, id)
	}
	after, err := g.Keys(s.t.Context(), user)
	if err != nil || !slices.Equal(before, after) {
		s.t.Errorf("the user has the keys %v, %v; want %v as before", after, err, before)
	}
}

// TestBoundaryDropped has a server that accepts a permissions boundary and drops it, as
// versitygw does: a user without its boundary gets no key and is removed.
func TestBoundaryDropped(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, append([]string{"--iam-boundary", "arn:aws:iam::000000000000:policy/b"}, quickWaits...)...)
	op := s.operate(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	if op.State != "failed" || op.Error == nil || op.Error.Code != "boundary-missing" {
		t.Errorf("%+v", op)
	}
	for _, step := range op.Steps {
		if step.Name == "create-key" && step.State != "pending" {
			t.Errorf("a key was made for a user without a boundary: %+v", step)
		}
	}
	if users := s.iamUsers(g); len(users) != 0 {
		t.Errorf("users left: %v", users)
	}
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusNotFound {
		t.Errorf("the alias is %s", r.Status)
	}
}

// TestCanary revokes the right to read from a user and restores it, at the real server.
// In between, AccessDenied means that the grant is broken, not that the object is
// missing.
func TestCanary(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, append([]string{"--canary-interval", "100ms", "--canary-fresh", "50ms"}, quickWaits...)...)
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	user, kp := s.iamUsers(g)[0], s.keyPair("shop")
	document, err := g.UserPolicy(t.Context(), user, "ixmage-read")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	missing := func() *response { // one that is not known yet to be missing
		asked++
		return s.get(fmt.Sprintf("/shop/nothing-%d.png", asked))
	}
	green := func() bool { return s.metric(`ixmage_canary_success{alias="shop"}`) == 1 }
	eventually(t, "the canary is green", green)
	if r := missing(); r.StatusCode != http.StatusNotFound {
		t.Errorf("a missing object while the canary is green: %s", r.Status)
	}
	if r := s.get("/shop/b.png"); r.StatusCode != http.StatusOK {
		t.Fatalf("b.png: %s", r.Status)
	}

	if err := g.DeleteUserPolicy(t.Context(), user, "ixmage-read"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the canary is red", func() bool { return !green() })
	s.wantDenied(t, missing(), bucket, user, kp)
	s.wantDenied(t, s.get("/shop/a.png"), bucket, user, kp) // there, and not in the cache
	if r := s.get("/shop/b.png"); r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit") {
		t.Errorf("what is fresh in the cache: %s, %s", r.Status, r.Header.Get("Cache-Status"))
	}

	if err := g.PutUserPolicy(t.Context(), user, "ixmage-read", document); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the canary is green again", green)
	if r := missing(); r.StatusCode != http.StatusNotFound {
		t.Errorf("a missing object after the repair: %s: %s", r.Status, r.body)
	}
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("what was refused, after the repair: %s: %s", r.Status, r.body)
	}
}

// wantDenied checks that an answer says that the alias is broken, and contains nothing
// about its location.
func (s *server) wantDenied(t *testing.T, r *response, bucket, user string, kp alias.KeyPair) {
	t.Helper()
	if r.StatusCode != http.StatusBadGateway || !bytes.Contains(r.body, []byte("problems/origin-denied")) ||
		r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s, Cache-Control %q: %s; want 502, no-store, origin-denied", r.Status, r.Header.Get("Cache-Control"), r.body)
	}
	for _, hidden := range []string{bucket, user, kp.AccessKeyID, "AccessDenied"} {
		if bytes.Contains(r.body, []byte(hidden)) {
			t.Errorf("the answer names %s: %s", hidden, r.body)
		}
	}
}

// TestProvisionTime provisions with the default waits, and checks that the operation
// shows how long each step took. There is no limit, because it would measure the
// machine; docs/iam.md has the times.
func TestProvisionTime(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	iam, iamURL := newTap(t, g)
	s := startProvisioningIn(t, filepath.Join(t.TempDir(), "data"), provisionArgs(g, iamURL)...)
	op := operation{State: "running"}
	for op.State == "running" { // asked again it is the same operation: a slow machine may take longer
		r := s.api(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket), "Prefer", "wait=60")
		op = parseOperation(t, r.body)
	}
	if op.State != "done" || op.FinishedAt == nil {
		t.Fatalf("%+v", op)
	}
	took := wantTimes(t, op)
	// The key must work five times in a row, with four pauses.
	const pause, pauses = 2500 * time.Millisecond, 4
	if took["verify"] < pauses*pause {
		t.Errorf("verify took %s, with %d pauses of %s in it", took["verify"], pauses, pause)
	}
	long := 0
	asked := iam.signedBy("GetCallerIdentity", s.keyPair("shop").AccessKeyID)
	for i := range asked[1:] {
		if asked[i+1].Sub(asked[i]) >= pause {
			long++
		}
	}
	if long < pauses {
		t.Errorf("the new key was tried %d times, with %d pauses of %s or more, want %d", len(asked), long, pause, pauses)
	}
	// No other step waits for a whole pause, because this IAM server is consistent.
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("the alias is %s", r.Status)
	}
}

// wantTimes checks that the steps of an operation follow one another between its
// beginning and its end, and take most of its time; the rest is writes of the
// registry. It returns the time of each step.
func wantTimes(t *testing.T, op operation) map[string]time.Duration {
	t.Helper()
	took, sum, last := map[string]time.Duration{}, time.Duration(0), op.CreatedAt
	for _, s := range op.Steps {
		if s.State != "done" || s.StartedAt == nil || s.FinishedAt == nil {
			t.Fatalf("step %+v", s)
		}
		if s.StartedAt.Before(last) || s.FinishedAt.Before(*s.StartedAt) {
			t.Errorf("%s lasts from %s to %s, and what was before it until %s", s.Name, s.StartedAt, s.FinishedAt, last)
		}
		took[s.Name], last = s.FinishedAt.Sub(*s.StartedAt), *s.FinishedAt
		sum += took[s.Name]
		t.Logf("%-12s %8.3f s  %s", s.Name, took[s.Name].Seconds(), s.Detail)
	}
	if op.FinishedAt.Before(last) {
		t.Errorf("it ended at %s, and its last step at %s", op.FinishedAt, last)
	}
	whole := op.FinishedAt.Sub(op.CreatedAt)
	t.Logf("%-12s %8.3f s, %.3f s of them between steps", "in all", whole.Seconds(), (whole - sum).Seconds())
	if sum < whole/2 {
		t.Errorf("the steps account for %s of %s", sum, whole)
	}
	return took
}

// reach polls an operation until a step of it runs.
func (s *server) reach(id, step string) {
	s.t.Helper()
	awaited := func() bool {
		op := parseOperation(s.t, s.api(http.MethodGet, "/api/v1/operations/"+id, nil).body)
		if op.State != "running" {
			s.t.Fatalf("the operation ended before %s: %+v", step, op)
		}
		for _, got := range op.Steps {
			if got.Name == step {
				return got.State == "running"
			}
		}
		return false
	}
	for !awaited() {
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // the state of another process is polled
	}
}

// begun begins an operation and does not wait for its end.
func (s *server) begun(method, path string, body any) operation {
	s.t.Helper()
	r := s.api(method, path, body)
	if r.StatusCode != http.StatusAccepted {
		s.t.Fatalf("%s %s: %s: %s", method, path, r.Status, r.body)
	}
	return parseOperation(s.t, r.body)
}

// supersede rotates a credential, asks for something else while it soaks, and wants that
// to take the place of the rotation.
func (s *server) supersede(credential, method, path string, body any) {
	s.t.Helper()
	rotation := s.begun(http.MethodPost, "/api/v1/credentials/"+credential+"/rotate", nil)
	s.reach(rotation.ID, "soak")
	op := s.operateWell(method, path, body)
	got := parseOperation(s.t, s.api(http.MethodGet, "/api/v1/operations/"+rotation.ID, nil).body)
	if got.State != "superseded" || got.SupersededBy != op.ID || got.FinishedAt == nil {
		s.t.Errorf("%s: %+v, want superseded by %s", path, got, op.ID)
	}
}

// TestRotationUnderLoad rotates a key three times during 200 requests a second that all
// need S3, asks for an emergency in the middle of a fourth rotation, and for a removal in
// the middle of a rotation of another credential. No request may fail.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	const keys, workers = 50, 16
	for i := range keys {
		body := append([]byte("\x89PNG\r\n\x1a\n"), bytesOf(4992, fmt.Sprint("load ", i))...)
		obj := s3.Object{Body: body, ContentType: "image/png"}
		if err := g.PutObject(t.Context(), bucket, fmt.Sprintf("web/%d.png", i), obj); err != nil {
			t.Fatal(err)
		}
	}
	args := append([]string{"--cache-memory", "0"}, quickWaits...)
	s := startProvisioning(t, g, append(slices.Clone(args), "--rotation-soak", "1s")...)
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "gone", bucket))

	s.underLoad(keys, workers, func(asked func() int64) {
		for round := range 3 {
			before := asked()
			s.operateWell(http.MethodPost, "/api/v1/credentials/shop/rotate", nil)
			if asked() == before {
				t.Errorf("nothing was asked for in round %d", round)
			}
		}
	})
	if code := s.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	// A rotation that is superseded must soak until then, however busy the machine is.
	s = startProvisioningIn(t, s.data, provisionArgs(g, g.IAMURL, append(args, "--rotation-soak", "1h")...)...)
	s.underLoad(keys, workers, func(func() int64) {
		s.supersede("shop", http.MethodPost, "/api/v1/credentials/shop/rotate", map[string]any{"emergency": true})
		if r := s.api(http.MethodDelete, "/api/v1/aliases/gone", nil); r.StatusCode != http.StatusNoContent {
			t.Fatalf("%s: %s", r.Status, r.body)
		}
		s.supersede("gone", http.MethodDelete, "/api/v1/credentials/gone", nil)
	})
	for _, user := range s.iamUsers(g) {
		if ids, err := g.Keys(t.Context(), user); err != nil || len(ids) != 1 {
			t.Errorf("user %s has the keys %v, %v; want one", user, ids, err)
		}
	}
}

// underLoad calls do while workers ask for pictures of the alias shop, of which each must come. asked tells
// how many were asked for so far.
func (s *server) underLoad(keys int64, workers int, do func(asked func() int64)) {
	s.t.Helper()
	c := client(s.t)
	var asked, failed atomic.Int64
	ask := func(n int64) {
		resp, err := c.Get(fmt.Sprintf("http://%s/shop/%d.png", s.public, n%keys))
		if err != nil {
			failed.Add(1)
			s.t.Errorf("request %d: %v", n, err)
			return
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		if _, err := body.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK || body.Len() != 5000 {
			failed.Add(1)
			s.t.Errorf("request %d: %s, %d bytes, %v: %s", n, resp.Status, body.Len(), err, body.Bytes()[:min(body.Len(), 300)])
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	// At most 200 requests a second, and at most one for each worker at a time: a slow
	// machine sends fewer.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range workers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					ask(asked.Add(1))
				}
			}
		})
	}
	do(asked.Load)
	close(stop)
	wg.Wait()
	s.t.Logf("%d requests, %d failed, %v fell back", asked.Load(), failed.Load(),
		s.metric(`ixmage_rotation_fallback_total{credential="shop"}`))
}

// TestServingWithoutIAM serves a provisioned alias while the IAM endpoint refuses
// connections.
func TestServingWithoutIAM(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	s.stop()

	nobody := netfault.New(t, strings.TrimPrefix(g.IAMURL, "http://"))
	if err := nobody.Set(netfault.Refuse()); err != nil {
		t.Fatal(err)
	}
	s = startProvisioningIn(t, s.data, provisionArgs(g, nobody.URL, append(quickWaits, "--provision-visible-timeout", "1s")...)...)
	for _, path := range []string{"/-/readyz", "/shop/a.png"} {
		if r := s.get(path); r.StatusCode != http.StatusOK {
			t.Errorf("%s while IAM is away: %s", path, r.Status)
		}
	}
	op := s.operate(http.MethodPost, "/api/v1/credentials/shop/rotate", nil)
	if op.State != "failed" || op.Error == nil || op.Error.Code != "iam-unreachable" {
		t.Errorf("a rotation while IAM is away: %+v", op)
	}
	if r := s.get("/shop/b.png"); r.StatusCode != http.StatusOK {
		t.Errorf("after a rotation that failed: %s", r.Status)
	}
}

// TestProvisionBrokenIAM: an IAM server that answers 200 with nothing in it fails
// operations and nothing else. Pictures are served, also after a new start.
func TestProvisionBrokenIAM(t *testing.T) {
	t.Parallel()
	f := iam.New(t, iam.Config{})
	f.CreateBucket("prov-media")
	for _, key := range []string{"web/a.png", "web/b.png", "web/c.png", "private/p.png"} {
		f.PutObject("prov-media", key, s3.Object{Body: bytesOf(20_000, key), ContentType: "image/png"})
	}
	data := filepath.Join(t.TempDir(), "data")
	args := slices.Concat([]string{"--provision", "--iam-endpoint", f.URL, "--provision-buckets", "prov-*"}, quickWaits,
		[]string{"--", f.Root.AccessKeyID, f.Root.SecretAccessKey.Reveal()})
	body := func(name string) map[string]any {
		return map[string]any{
			"alias": name, "bucket": "prov-media", "prefix": "web/", "region": "us-east-1", "endpoint": f.S3URL, "path_style": true,
			"probe": map[string]any{"inside": "web/a.png", "outside": "private/p.png"},
		}
	}
	s := startProvisioningIn(t, data, args...)
	s.operateWell(http.MethodPost, "/api/v1/provision", body("shop"))
	f.OnCall(func(c iam.Call) *iam.Fault {
		if c.Service == "iam" && c.AccessKeyID == f.Root.AccessKeyID {
			return iam.Empty()
		}
		return nil
	})
	op := s.operate(http.MethodPost, "/api/v1/provision", body("blog"))
	if op.State != "failed" || op.Error == nil || op.Error.Code != "iam-error" || !strings.Contains(op.Error.Detail, "iam:CreateUser") {
		t.Errorf("provision: %+v", op)
	}
	if op := s.operate(http.MethodPost, "/api/v1/credentials/shop/rotate", nil); op.State != "failed" {
		t.Errorf("rotate: %+v", op)
	}
	for i, path := range []string{"/shop/b.png", "/shop/c.png"} {
		if i > 0 {
			s.kill()
			s = startProvisioningIn(t, data, args...)
		}
		if r := s.get(path); r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
}
