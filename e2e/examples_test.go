package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/minio"
	"ixmage/internal/awstest/postgres"
	"ixmage/internal/awstest/s3"
)

// withoutExamples are the commands that call no API.
var withoutExamples = []string{"serve", "healthcheck", "version"}

// TestExamples runs each example of each --help, as a user would paste it, against a
// server with pictures. An example may use what newExamples prepares.
func TestExamples(t *testing.T) {
	t.Parallel()
	e := newExamples(t, realS3(t))
	commands := helpCommands(t, "")
	if len(commands) < 20 {
		t.Fatalf("only %d commands were found: %q", len(commands), commands)
	}
	for _, command := range commands {
		if slices.Contains(withoutExamples, command) {
			continue
		}
		lines := helpExamples(t, command)
		if len(lines) == 0 {
			t.Errorf("ixmage %s --help has no example", command)
		}
		for _, line := range lines {
			if !strings.Contains(line, "ixmage "+command) {
				t.Errorf("ixmage %s --help has an example of another command: %s", command, line)
			}
			t.Run(line, func(t *testing.T) { e.run(t, line) })
		}
	}
}

// stoppedFolder makes the data folder of a server that is stopped, with the key set of another
// one.
func stoppedFolder(t *testing.T, data string) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "master.keyset"), string(readFile(t, filepath.Join(data, "master.keyset"))), 0o600)
	return dir
}

// helpCommands lists the commands below a command, by the help.
func helpCommands(t *testing.T, parent string) []string {
	t.Helper()
	help := helpOf(t, parent)
	_, list, found := strings.Cut(help, "\nCommands:\n")
	if !found {
		return []string{parent}
	}
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z][a-z -]*?)(?: +<.*?>| +\[.*?\])*(?:  .*)?$`).FindAllStringSubmatch(list, -1) {
		if strings.HasPrefix(m[1], parent) {
			all = append(all, helpCommands(t, m[1])...)
		}
	}
	return all
}

// helpExamples are the lines under Examples of a command's help.
func helpExamples(t *testing.T, command string) []string {
	t.Helper()
	_, text, _ := strings.Cut(helpOf(t, command), "\nExamples:\n")
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func helpOf(t *testing.T, command string) string {
	t.Helper()
	got := runProgram(t, nil, append(strings.Fields(command), "--help")...)
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("ixmage %s --help: exit status %d: %s", command, got.code, got.stderr)
	}
	return got.stdout
}

// examples is where examples run: a folder with the files that they name, a server on
// which they find what they name, and stand-ins for other programs.
type examples struct {
	*server

	roles  *server // for examples of roles, and of the server's own credentials
	folder string
	env    []string
	words  map[string]string // what stands in an example for something that is not known before
}

func newExamples(t *testing.T, g *gateway.Server) *examples {
	t.Helper()
	for _, bucket := range []string{"acme-media", "acme-open"} {
		if err := g.CreateBucket(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"web/a.png", "web/logos/b.png", "blog/a.png", "private/p.png"} {
		obj := s3.Object{Body: bytesOf(2_000, key), ContentType: "image/png"}
		if err := g.PutObject(t.Context(), "acme-media", key, obj); err != nil {
			t.Fatal(err)
		}
	}
	args := slices.Concat(quickWaits, []string{
		"--provision-buckets", "acme-*", "--install-id", "examples", "--reconcile-age", "1ms",
	})
	before := startProvisioning(t, g, args...) // whose user is an orphan for the next server
	before.operateWell(http.MethodPost, "/api/v1/provision", blogBody(g, "old", map[string]any{"user_name": "ixmage-s3read-old-x7k2"}))
	before.stop()

	e := &examples{server: startProvisioning(t, g, args...), folder: t.TempDir()}
	op := e.operateWell(http.MethodPost, "/api/v1/provision", blogBody(g, "blog", nil))
	e.words = map[string]string{
		"OPERATION": op.ID, "https://s3.example.com": g.S3URL,
		"/var/lib/ixmage": stoppedFolder(t, e.data), "/etc/ixmage": t.TempDir(),
		"/srv/ixmage": filepath.Join(t.TempDir(), "ixmage"),
	}
	pair := map[string]string{"access_key_id": g.Root.AccessKeyID, "secret_access_key": g.Root.SecretAccessKey.Reveal()}
	for _, name := range []string{"shop", "old"} {
		e.create(map[string]any{
			"name": name, "bucket": "acme-media", "prefix": "web/", "region": g.Region, "endpoint": g.S3URL, "path_style": true,
			"credential": pair,
		})
	}
	var key struct{ KID string }
	r := e.api(http.MethodPost, "/api/v1/aliases/shop/signing-keys", nil)
	if err := json.Unmarshal(r.body, &key); err != nil || r.StatusCode != http.StatusCreated {
		t.Fatalf("make a signing key: %s: %s", r.Status, r.body)
	}
	e.words["k7mx2qpa"] = key.KID
	e.adminCall(http.MethodPost, "/api/v1/tokens", map[string]any{"name": "old", "roles": []string{"read"}}, http.StatusCreated)
	e.adminCall(http.MethodPost, "/api/v1/credentials", withName("unused", pair), http.StatusCreated)
	e.prepareFiles(t, g)
	e.roles = startRoles(t)
	return e
}

// startRoles starts a server that may assume roles of MinIO, with the credentials that examples of
// roles name: a key pair and a role.
func startRoles(t *testing.T) *server {
	t.Helper()
	sts := minio.New(t)
	id, secret := sts.Root.AccessKeyID, sts.Root.SecretAccessKey.Reveal()
	s := startProvisioningIn(t, filepath.Join(t.TempDir(), "data"), "--sts-endpoint", sts.URL,
		"--assume-roles", "arn:aws:iam::123456789012:role/ixmage-*", "--allow-default-credential", "--", id, secret)
	trusted := map[string]string{"access_key_id": id, "secret_access_key": secret}
	s.adminCall(http.MethodPost, "/api/v1/credentials", withName("trusted", trusted), http.StatusCreated)
	role := map[string]string{"role_arn": "arn:aws:iam::123456789012:role/ixmage-shop", "source": "trusted"}
	s.adminCall(http.MethodPost, "/api/v1/credentials", withName("media-role", role), http.StatusCreated)
	return s
}

// withName is a registration of a credential.
func withName(name string, pair map[string]string) map[string]any {
	body := map[string]any{"name": name}
	for k, v := range pair {
		body[k] = v
	}
	return body
}

func blogBody(g *gateway.Server, alias string, more map[string]any) map[string]any {
	body := map[string]any{
		"alias": alias, "bucket": "acme-media", "prefix": "blog/", "region": g.Region, "endpoint": g.S3URL, "path_style": true,
		"probe": map[string]any{"inside": "blog/a.png", "outside": "private/p.png"},
	}
	maps.Copy(body, more)
	return body
}

// prepareFiles writes the files and programs that examples name.
func (e *examples) prepareFiles(t *testing.T, g *gateway.Server) {
	t.Helper()
	id, secret := g.Root.AccessKeyID, g.Root.SecretAccessKey.Reveal()
	key, err := json.Marshal(map[string]any{"AccessKey": map[string]string{"AccessKeyId": id, "SecretAccessKey": secret}})
	if err != nil {
		t.Fatal(err)
	}
	ini := "[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = x\n\n" +
		"[media]\naws_access_key_id = " + id + "\naws_secret_access_key = " + secret + "\n"
	bin := filepath.Join(e.folder, "bin")
	for _, folder := range []string{bin, filepath.Join(e.folder, ".aws")} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(e.folder, "key.json"), string(key), 0o600)
	writeFile(t, filepath.Join(e.folder, "signing.key"), "abcd2345:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n", 0o600)
	writeFile(t, filepath.Join(e.folder, "aliases.yaml"), `aliases:
- {name: pages, bucket: acme-media, prefix: pages/, region: eu-west-1, credential: {key_file: key.json}}
- {name: icons, bucket: acme-media, prefix: icons/, region: eu-west-1, credential: shop}
`, 0o600)
	writeFile(t, filepath.Join(e.folder, ".aws", "credentials"), ini, 0o600)
	writeProgram(t, filepath.Join(bin, "aws"), "#!/bin/sh\ncat key.json\n")
	if err := os.Symlink(plain, filepath.Join(bin, "ixmage")); err != nil {
		t.Fatal(err)
	}
	e.env = append(plainEnv(),
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+e.folder,
		"IXMAGE_ADMIN_URL=http://"+e.admin, "IXMAGE_ADMIN_TOKEN="+e.token)
}

// examplePostgres is the database of examples.
const examplePostgres = "postgres://ixmage@db.example.com/ixmage"

// run runs a line, and wants it to succeed.
func (e *examples) run(t *testing.T, line string) {
	t.Helper()
	if strings.Contains(line, examplePostgres) && e.words[examplePostgres] == "" {
		postgres.Shared(t) // skips this line alone, if it must
		e.words[examplePostgres] = postgres.Database(e.t)
	}
	for word, with := range e.words {
		line = strings.ReplaceAll(line, word, with)
	}
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Env = e.folder, e.env
	for _, word := range []string{"--role-arn", "media-role", "--default"} {
		if strings.Contains(line, word) {
			cmd.Env = append(slices.Clone(e.env), "IXMAGE_ADMIN_URL=http://"+e.roles.admin, "IXMAGE_ADMIN_TOKEN="+e.roles.token)
		}
	}
	got, want := runCommand(t, time.Minute, cmd), 0
	if strings.Contains(line, "node rm") {
		want = 4 // the server is alone
	}
	if got.code != want {
		t.Errorf("exit status %d\nstdout: %s\nstderr: %s", got.code, got.stdout, got.stderr)
	}
	if strings.Contains(got.stdout+got.stderr, "\x1b") {
		t.Errorf("there is an escape sequence in an output that is no terminal: %q", got.stdout+got.stderr)
	}
}
