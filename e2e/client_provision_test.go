package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// provisionFlags are the flags of ixmage provision for a bucket of media.
func provisionFlags(s3URL, region, bucket string) []string {
	return []string{
		"--bucket", bucket, "--prefix", "web/", "--region", region, "--endpoint", s3URL, "--path-style",
		"--inside", "web/a.png", "--outside", "private/p.png",
	}
}

// TestClientProvision provisions, verifies and rotates as a script does.
func TestClientProvision(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, append(quickWaits, "--public-url", "https://img.example.com")...)

	plan := s.runClient(nil, append([]string{"provision", "shop", "--dry-run", "--tags", "team=web"}, provisionFlags(g.S3URL, g.Region, bucket)...)...)
	if plan.code != 0 || plan.stderr != "" {
		t.Errorf("plan: %+v", plan)
	}
	wantAll(t, "plan", plan.stdout, "ixmage-s3read-shop-", "boundary  none", "policy    inline, ", `"s3:GetObject"`,
		`"arn:aws:s3:::`+bucket+`/web/*"`, "create-user", "aws iam create-user")
	if r := s.api(http.MethodGet, "/api/v1/operations", nil); strings.Contains(string(r.body), "op-") {
		t.Errorf("the plan began an operation: %s", r.body)
	}

	got := s.runClient(nil, append([]string{"provision", "--alias", "shop"}, provisionFlags(g.S3URL, g.Region, bucket)...)...)
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("provision: %+v", got)
	}
	wantAll(t, "provision", got.stdout, "operation ", ": provision shop\n", "create-user done ", "\ndone ", "CHECK ", "proven", "scope: ",
		"\nTry it: https://img.example.com/shop/a.png\n")
	if n := strings.Count(got.stdout, "create-user done"); n != 1 || strings.Contains(got.stdout, "\x1b") {
		t.Errorf("create-user is there %d times:\n%s", n, got.stdout)
	}
	wantPicture(t, s.get("/shop/a.png"), bytesOf(20_000, "web/a.png"))

	again := s.runClient(nil, "provision", "shop", "--bucket", bucket, "--region", g.Region, "--endpoint", g.S3URL)
	if again.code != 5 || again.stdout != "" {
		t.Errorf("another request for the alias: %+v", again)
	}
	wrong := s.runClient(nil, "provision", "Shop", "--bucket", "x", "--rotate-every", "1s")
	if wrong.code != 2 {
		t.Errorf("wrong: %+v", wrong)
	}
	wantAll(t, "wrong", wrong.stderr, "\n  alias: must be", "\n  bucket: must be", "\n  rotate_every: must be")
	forbidden := s.runClient(nil, "provision", "other", "--bucket", "other-bucket", "--region", g.Region, "--endpoint", g.S3URL)
	if forbidden.code != 3 {
		t.Errorf("a bucket that may not be provisioned: %+v", forbidden)
	}

	checks := s.runClient(nil, "verify", "shop", "--inside", "web/b.png", "--outside", "private/p.png")
	if checks.code != 0 || !strings.Contains(checks.stdout, "scope: ") {
		t.Errorf("verify: %+v", checks)
	}
	if rotated := s.runClient(nil, "rotate", "shop", "--wait"); rotated.code != 0 || !strings.Contains(rotated.stdout, ": rotate shop\n") {
		t.Errorf("rotate: %+v", rotated)
	}
	// JSON is the operation alone.
	asJSON := s.runClient(nil, "rotate", "shop", "--emergency", "-o", "json")
	if asJSON.code != 0 || asJSON.stderr != "" || parseOperation(t, []byte(asJSON.stdout)).State != "done" {
		t.Errorf("rotate: %+v", asJSON)
	}
	if none := s.runClient(nil, "verify", "shp"); none.code != 4 || !strings.Contains(none.stderr, "Did you mean shop?") {
		t.Errorf("verify: %+v", none)
	}
}

// TestClientStatic: a key pair that an operator gave can do everything, and is rotated by
// hand.
func TestClientStatic(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	s.create(map[string]any{
		"name": "root", "bucket": bucket, "prefix": "web/", "region": g.Region, "endpoint": g.S3URL, "path_style": true, "canary": "a.png",
		"credential": map[string]string{"access_key_id": g.Root.AccessKeyID, "secret_access_key": g.Root.SecretAccessKey.Reveal()},
	})
	checks := s.runClient(nil, "verify", "root", "--outside", "private/p.png")
	if checks.code != 1 || !strings.Contains(checks.stdout, "scope: violated") || !strings.Contains(checks.stderr, "can do what it must not") {
		t.Errorf("verify: %+v", checks)
	}
	got := s.runClient(nil, "rotate", "root")
	if got.code != 5 || got.stdout != "" || strings.Count(got.stderr, "aws iam create-access-key") != 1 {
		t.Errorf("rotate: %+v", got)
	}
}

// TestClientFollow interrupts a command that follows a rotation: the rotation goes on, and
// can be followed again.
func TestClientFollow(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	iamURL, open := heldIAM(t, g, "UpdateAccessKey") // the previous key is made inactive after its soak
	s := startProvisioningIn(t, filepath.Join(t.TempDir(), "data"), provisionArgs(g, iamURL, quickWaits...)...)
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	p := atTerminal(t, s.client("rotate", "shop"), nil)
	p.expect("rotate shop: running")
	p.expect("soak")
	p.enter("\x03")
	p.expect("The operation goes on. To follow it: ixmage operation wait ")
	if code := p.end(); code != 1 {
		t.Errorf("exit status %d:\n%s", code, p.text())
	}
	open()
	id := regexp.MustCompile(`operation wait (\S+)`).FindStringSubmatch(p.text())[1]
	waited := s.runClient(nil, "operation", "wait", id)
	if waited.code != 0 || !strings.HasPrefix(waited.stdout, "operation "+id+": rotate shop\n") || !strings.Contains(waited.stdout, "\ndone ") {
		t.Errorf("wait: %+v", waited)
	}
	if none := s.runClient(nil, "operation", "wait", "nothing"); none.code != 4 {
		t.Errorf("wait: %+v", none)
	}

	begun := s.runClient(nil, "rotate", "shop", "--no-wait", "-o", "json")
	if op := parseOperation(t, []byte(begun.stdout)); begun.code != 0 || op.ID == "" || !strings.Contains(begun.stderr, "ixmage operation wait "+op.ID) {
		t.Errorf("rotate: %+v", begun)
	}
}

// TestClientForm fills in the form of provision at a terminal: a wrong answer is asked
// again, the plan is shown, and the steps are redrawn in place.
func TestClientForm(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	cmd := s.client("provision")
	cmd.Env = append(cmd.Env, "AWS_REGION="+g.Region)
	p := atTerminal(t, cmd, nil)
	answer := func(question, text string) {
		t.Helper()
		p.expect(question)
		p.enter(text)
	}
	answer("Alias, the first segment of its URLs: ", "")
	answer("Alias, the first segment of its URLs: ", "Shop")
	answer("Bucket: ", bucket)
	answer("the whole bucket: ", "web/")
	answer("Region of the bucket ["+g.Region+"]: ", "")
	answer("empty: AWS: ", g.S3URL)
	answer("read-only-access [inline]: ", "")
	answer("must be able to read; empty: none: ", "web/a.png")
	answer("must not be able to read; empty: none: ", "")
	answer("(path style)? [Y/n] ", "")
	answer("alias: must be 1 to 63", "")
	p.expect("Alias, the first segment of its URLs [Shop]: ")
	p.expect("Alias, the first segment of its URLs [Shop]: ") // Enter keeps the wrong one
	p.enter("shop")
	p.expect(`"s3:GetObject"`)
	answer("Provision it? [y/N] ", "y")
	p.expect("provision shop: done")
	p.expect("Try it: http://127.0.0.1:")
	if code := p.end(); code != 0 {
		t.Fatalf("exit status %d:\n%s", code, p.text())
	}
	wantAll(t, "terminal", p.text(), "\x1b[32mdone\x1b[0m", "\x1b[K", "scope: ")
	wantPicture(t, s.get("/shop/a.png"), bytesOf(20_000, "web/a.png"))

	// No changes nothing.
	refused := atTerminal(t, s.client(append([]string{"provision", "blog"}, provisionFlags(g.S3URL, g.Region, bucket)...)...), nil)
	refused.expect("read-only-access [inline]: ")
	refused.enter("")
	refused.expect("Provision it? [y/N] ")
	refused.enter("n")
	if code := refused.end(); code != 1 || s.api(http.MethodGet, "/api/v1/aliases/blog", nil).StatusCode != http.StatusNotFound {
		t.Errorf("exit status %d:\n%s", code, refused.text())
	}
}

// TestClientApply applies a file at a terminal, which shows the difference and asks, and
// without a server, whose absence does not hide the mistakes of the file.
func TestClientApply(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "aliases.yaml"), "aliases:\n- {name: shop, bucket: media, prefix: web/, endpoint: '"+e.s3.URL+"', path_style: true, credential: shop, ttl: 2h}\n", 0o600)
	writeFile(t, filepath.Join(dir, "bad.yaml"), "aliases:\n- {name: shop, buckt: media}\n", 0o600)
	cmd := e.client("apply", "-f", "aliases.yaml")
	cmd.Dir = dir
	p := atTerminal(t, cmd, nil)
	p.expect("Make 1 change? [y/N] ")
	wantAll(t, "terminal", p.text(), "\x1b[33m~ alias shop\x1b[0m\n    ttl  1h0m0s -> 2h0m0s\n1 to change\n")
	p.enter("y")
	if code := p.end(); code != 0 || !strings.Contains(p.text(), "~ alias shop: changed") {
		t.Errorf("exit status %d:\n%s", code, p.text())
	}
	got := e.runClient(nil, "apply", "-f", filepath.Join(dir, "aliases.yaml"))
	if got.code != 0 || got.stdout != "No changes.\n" || got.stderr != "" {
		t.Errorf("a second time: %+v", got)
	}
	if got := e.runClient(nil, "apply", "-f", filepath.Join(dir, "none.yaml")); got.code != 2 || !strings.Contains(got.stderr, "none.yaml: no such file") {
		t.Errorf("no file: %+v", got)
	}
	e.stop()
	for file, code := range map[string]int{"bad.yaml": 2, "aliases.yaml": 6} {
		got := e.runClient([]string{"IXMAGE_ADMIN_TOKEN=" + e.token}, "apply", "--yes", "-f", filepath.Join(dir, file))
		if got.code != code || got.stdout != "" || !strings.Contains(got.stderr, "no answer from the admin listener") {
			t.Errorf("%s without a server: %+v", file, got)
		}
		if file == "bad.yaml" {
			wantAll(t, file, got.stderr, "bad.yaml:2:16: alias shop: buckt: unknown field; did you mean bucket?", "bad.yaml:2:3: alias shop: credential: is required")
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ixmage-data")); err == nil {
		t.Error("a client command has made a data folder")
	}
}
