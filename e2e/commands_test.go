package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runClient runs a client command without a terminal, with further variables.
func (s *server) runClient(env []string, args ...string) outcome {
	s.t.Helper()
	cmd := exec.Command(plain, args...)
	cmd.Env = append(append(plainEnv(), "IXMAGE_ADMIN_URL=http://"+s.admin), env...)
	if len(env) == 0 {
		cmd.Env = append(cmd.Env, "IXMAGE_ADMIN_TOKEN="+s.token)
	}
	return runCommand(s.t, 2*time.Minute, cmd)
}

// TestCommandMistakes: each mistake has its exit status, nothing on standard output, and
// a text that says what to do.
func TestCommandMistakes(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.open("blog", "media", "blog/", nil)
	dir := t.TempDir()
	temporary := filepath.Join(dir, "temporary")
	writeFile(t, temporary, "[default]\naws_access_key_id=A\naws_secret_access_key=canary-secret\naws_session_token=t\n", 0o600)
	empty := filepath.Join(dir, "empty")
	writeFile(t, empty, "\n", 0o600)
	right := []string(nil)
	wrong := []string{"IXMAGE_ADMIN_TOKEN=wrong"}
	for _, row := range []struct {
		env  []string
		args string
		code int
		says []string
	}{
		{wrong, "alias ls", 3, []string{"does not accept the token", "is the token in IXMAGE_ADMIN_TOKEN right?"}},
		{[]string{"IXMAGE_ADMIN_TOKEN_FILE=" + empty}, "alias ls", 2, []string{empty, "it is empty"}},
		{[]string{"IXMAGE_ADMIN_TOKEN_FILE=" + dir + "/no"}, "alias ls", 2, []string{"--admin-token-file (IXMAGE_ADMIN_TOKEN_FILE)", "no such file"}},
		{[]string{"IXMAGE_ADMIN_TOKEN=x", "IXMAGE_ADMIN_TOKEN_FILE=" + empty}, "alias ls", 2, []string{"both set: unset one"}},
		{[]string{"IXMAGE_DATA=" + dir}, "alias ls", 2, []string{dir + "/admin-token does not exist", "--admin-token-file", "IXMAGE_DATA"}},
		{right, "alias ls --admin-url localhost:8081", 2, []string{"--admin-url (IXMAGE_ADMIN_URL)", "use one like http://"}},
		{right, "alias ls --admin-url http://" + e.public, 1, []string{"is not the admin listener of ixmage", "as the public listener does"}},
		{right, "alias ls --admin-url http://" + freeAddr(t), 6, []string{"no answer from the admin listener", "refused", "is the server running"}},
		{right, "alias get shpo", 4, []string{`no alias named "shpo"`, "Did you mean shop?"}},
		{right, "alias rm blgo --yes", 4, []string{"Did you mean blog?"}},
		{right, "alias set zzz --ttl 5m", 4, []string{`no alias named "zzz"`}},
		{right, "credential get shoop", 4, []string{"Did you mean shop?"}},
		{right, "purge shp", 4, []string{"Did you mean shop?"}},
		{right, "operation get op-none", 4, []string{"op-none"}},
		{right, "alias set shop --ttl 5x --negative-ttl=-1s", 2, []string{"The request is not valid:\n", "\n  ttl: must be a duration", "\n  negative_ttl: "}},
		{right, "alias set shop --if-revision 7 --ttl 5m", 5, []string{"read it again"}},
		{right, "alias rm shop --yes --if-revision 7", 5, []string{"read it again"}},
		{right, "alias set shop", 2, []string{"nothing to change"}},
		{right, "alias set shop --ttl 5m --reset ttl", 2, []string{"--reset ttl"}},
		{right, "alias set shop --reset nonsense", 2, []string{"nonsense: unknown field"}},
		{right, "alias rm shop", 2, []string{"no terminal", "--yes"}},
		{right, "alias add shop --bucket media --region eu-west-1 --anonymous", 5, []string{"shop"}},
		{right, "alias add new --bucket media --region eu-west-1", 2, []string{"--key-file"}},
		{right, "alias add new --bucket media --key-file " + temporary, 2, []string{temporary, "temporary"}},
		{right, "alias add new --bucket media --anonymous --credential shop", 2, []string{"--anonymous", "--credential"}},
		{right, "alias add new --anonymous", 2, []string{"bucket: "}},
		{right, "credential rm shop --yes", 5, []string{"shop"}},
		{right, "orphans ls", 3, []string{"--provision"}},
		{right, "alias ls -o xml", 2, []string{"--output", `"table","json","yaml"`}},
		{right, "alias", 2, []string{"Try: ixmage alias --help"}},
		{right, "alias get", 2, []string{"<name>", "Try: ixmage alias get --help"}},
		{right, "alias gte shop", 2, []string{"gte"}},
		{right, "alias ls --wrong", 2, []string{"--wrong"}},
	} {
		got := e.runClient(row.env, strings.Fields(row.args)...)
		if got.code != row.code || got.stdout != "" {
			t.Errorf("%s: exit status %d, want %d; stdout %q, stderr %q", row.args, got.code, row.code, got.stdout, got.stderr)
		}
		wantAll(t, row.args, got.stderr, row.says...)
		if strings.Contains(got.stderr, "canary-secret") || strings.Contains(got.stderr, e.token) {
			t.Errorf("%s: a secret is printed: %s", row.args, got.stderr)
		}
	}
	if names := e.runClient(nil, "alias", "ls", "-o", "json").stdout; strings.Count(names, `"name"`) != 2 || strings.Contains(names, `"revision": 2`) {
		t.Errorf("a mistake has changed something:\n%s", names)
	}
}

// TestManyWrongTokens: after too many wrong ones the server says when to try again.
func TestManyWrongTokens(t *testing.T) {
	t.Parallel()
	s := start(t)
	for range 20 {
		if got := s.runClient([]string{"IXMAGE_ADMIN_TOKEN=wrong"}, "alias", "ls"); strings.Contains(got.stderr, "Try again in ") {
			if got.code != 3 {
				t.Errorf("exit status %d", got.code)
			}
			return
		}
	}
	t.Error("20 wrong tokens were not too many")
}

// TestFoundWithoutFlag: beside its data folder a command needs no flag and no token.
func TestFoundWithoutFlag(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, filepath.Join(dir, "ixmage-data"))
	_, port, _ := net.SplitHostPort(s.admin)
	for _, listen := range []string{"127.0.0.1:" + port, ":" + port, "0.0.0.0:" + port, "[::]:" + port} {
		cmd := exec.Command(plain, "alias", "ls", "-o", "json")
		cmd.Dir, cmd.Env = dir, append(plainEnv(), "IXMAGE_ADMIN_LISTEN="+listen)
		if got := runCommand(t, time.Minute, cmd); got.code != 0 || got.stdout != "{\n  \"aliases\": []\n}\n" {
			t.Errorf("%s: %+v", listen, got)
		}
	}
}

// TestOutputEnds: a reader that has seen enough ends the command without a word; a full
// disk is an error.
func TestOutputEnds(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for i := range 40 { // more than the buffer of a pipe, as JSON of several KiB each
		e.open(fmt.Sprintf("more-%d", i), "media", strings.Repeat("x", 500)+"/", map[string]any{"cors_origins": manyOrigins()})
	}
	cmd := exec.Command("sh", "-c", `"$0" alias ls -o json | head -1`, plain)
	cmd.Env = e.client().Env
	if got := runCommand(t, time.Minute, cmd); got.code != 0 || got.stdout != "{\n" || got.stderr != "" {
		t.Errorf("a pipe that ends: %+v", got)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("SKIPPED: there is no /dev/full")
	}
	defer full.Close()
	for _, args := range []string{"alias ls", "alias ls -o json", "alias ls -o yaml", "man", "completion zsh", "explain /shop/a.png"} {
		cmd := e.client(strings.Fields(args)...)
		cmd.Stdout = full
		var text strings.Builder
		cmd.Stderr = &text
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(text.String(), "write the output: ") || !strings.Contains(text.String(), "no space left") {
			t.Errorf("%s: exit status %d, %q", args, code, text.String())
		}
	}
}

func manyOrigins() []string {
	list := make([]string, 32)
	for i := range list {
		list[i] = fmt.Sprintf("https://%s-%d.example.com", strings.Repeat("o", 50), i)
	}
	return list
}

// TestEveryFieldHasAFlag: alias set can change each field that the API does not keep for
// itself.
func TestEveryFieldHasAFlag(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	var fields map[string]any
	if err := json.Unmarshal(e.api("GET", "/api/v1/aliases/shop", nil).body, &fields); err != nil {
		t.Fatal(err)
	}
	help := runProgram(t, nil, "alias", "set", "--help").stdout
	for _, own := range []string{"name", "state", "revision", "created_at", "updated_at"} {
		delete(fields, own)
	}
	for field := range fields {
		flag := strings.ReplaceAll(field, "_", "-")
		if field == "templates" {
			flag = "template" // one for each of them
		}
		if !strings.Contains(help, " --"+flag+"=") && !strings.Contains(help, " --[no-]"+flag+" ") {
			t.Errorf("the field %s has no flag", field)
		}
	}
	got := e.runClient(nil, strings.Fields("alias set shop --bucket-owner 123456789012 --no-enabled --canary c.png --ttl 5m --negative-ttl 6s "+
		"--stale-while-revalidate 7s --stale-if-error 8s --cache-control public --cors-origins https://a.example,https://b.example "+
		"--cors-headers * --fallback-missing m.png --fallback-broken b.png --cache-min 1MiB --cache-max 2MiB -o json")...)
	if got.code != 0 {
		t.Fatal(got)
	}
	wantAll(t, "alias", got.stdout, `"bucket_owner": "123456789012"`, `"enabled": false`, `"canary": "c.png"`, `"ttl": "5m0s"`,
		`"https://b.example"`, `"missing": "m.png"`, `"broken": "b.png"`, `"cache_max": "2MiB"`, `"revision": 2`)
	got = e.runClient(nil, strings.Fields("alias set shop --enabled --cors-origins= --fallback= --reset canary,cors-headers,ttl -o json --if-revision 2")...)
	wantAll(t, "alias", got.stdout, `"enabled": true`, `"canary": ""`, `"ttl": "1h0m0s"`, `"cors_origins": []`, `"cors_headers": []`,
		`"fallback": ""`, `"cache_control": "public"`)
	if dry := e.runClient(nil, strings.Fields("alias set shop --ttl 9m --dry-run -o json")...); !strings.Contains(dry.stdout, `"ttl": "9m0s"`) {
		t.Errorf("dry run: %+v", dry)
	}
	if now := e.runClient(nil, "alias", "get", "shop").stdout; strings.Contains(now, "9m0s") {
		t.Errorf("a dry run has changed it:\n%s", now)
	}
}
