package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// ixmage runs a command of the program for a server, or for none.
func ixmage(t *testing.T, s *server, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(plain, args...)
	cmd.Env = plainEnv()
	if s != nil {
		cmd.Env = append(cmd.Env, "IXMAGE_ADMIN_URL=http://"+s.admin, "IXMAGE_ADMIN_TOKEN="+s.token)
	}
	got := runCommand(t, time.Minute, cmd)
	return got.code, got.stdout, got.stderr
}

// wantRun is ixmage with an exit status and texts in stderr.
func wantRun(t *testing.T, s *server, code int, says string, args ...string) {
	t.Helper()
	got, _, stderr := ixmage(t, s, args...)
	if got != code || !strings.Contains(stderr, says) {
		t.Errorf("ixmage %s: got exit status %d and %q, want %d and %q", strings.Join(args, " "), got, stderr, code, says)
	}
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	writeFile(t, to, string(readFile(t, from)), 0o600)
}

// TestBackupRestore: a copy that is made under traffic serves the same pictures from another
// folder, with the key set of the server alone.
func TestBackupRestore(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(3000, "")
	s.put("a.png", s3.Object{Body: body})
	dir := t.TempDir()
	file := filepath.Join(dir, "backup.db")
	var traffic sync.WaitGroup
	stop := make(chan struct{})
	for i := range 3 {
		traffic.Go(func() {
			c := client(t)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if i == 0 {
					s.tryAPI(c, http.MethodPatch, "/api/v1/aliases/shop", map[string]any{"ttl": fmt.Sprintf("%ds", n+1)})
				} else if resp, err := c.Get("http://" + s.public + "/shop/a.png"); err != nil || resp.StatusCode != 200 {
					t.Errorf("a picture during the backup: %v, %v", resp, err)
				} else {
					resp.Body.Close()
				}
			}
		})
	}
	for range 5 {
		wantRun(t, s.server, 0, "is written", "backup", file, "--force")
	}
	code, stdout, stderr := ixmage(t, s.server, "backup", "-")
	if code != 0 || !strings.HasPrefix(stdout, "SQLite format 3\x00") {
		t.Errorf("to a pipe: got exit status %d, %d bytes, %q", code, len(stdout), stderr)
	}
	close(stop)
	traffic.Wait()
	wantBackupRefusals(t, s.server, file)
	wantServesRestored(t, s, file, body)
}

// wantBackupRefusals: nothing is replaced unasked, and nothing half done is left.
func wantBackupRefusals(t *testing.T, s *server, file string) {
	t.Helper()
	before := readFile(t, file)
	wantRun(t, s, 2, "add --force", "backup", file)
	wantRun(t, s, 1, "no such file or directory", "backup", filepath.Join(filepath.Dir(file), "none", "b.db"))
	wantRun(t, &server{admin: "127.0.0.1:1", token: s.token}, 6, "", "backup", file, "--force")
	wantRun(t, &server{admin: s.admin, token: "a-wrong-token-of-the-right-length"}, 3, "", "backup", file, "--force")
	wantRun(t, nil, 1, "in use by another ixmage", "restore", file, "--data", s.data)
	wantRun(t, nil, 1, "in use by another ixmage", "rekey", "--data", s.data)
	if list, err := os.ReadDir(filepath.Dir(file)); err != nil || len(list) != 1 || !bytes.Equal(readFile(t, file), before) {
		t.Errorf("the folder has %v, %v, or the backup has changed", list, err)
	}
	if list, err := filepath.Glob(filepath.Join(s.data, "registry.db.backup-*")); err != nil || len(list) > 0 {
		t.Errorf("left in the data folder: %v, %v", list, err)
	}
}

// wantServesRestored restores a backup into an empty folder and asks for a picture.
func wantServesRestored(t *testing.T, s *env, file string, body []byte) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	wantRun(t, nil, 1, "needs its key set", "restore", file, "--data", to)
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	copyTo(t, filepath.Join(s.data, "master.keyset"), filepath.Join(to, "master.keyset"))
	wantRun(t, nil, 0, "is restored", "restore", file, "--data", to)
	restored := startIn(t, to)
	wantPicture(t, restored.get("/shop/a.png"), body)
	if restored.token == s.token {
		t.Error("the restored server has the token of the other one")
	}
}

// TestRestoreEmptiesDiskCache: a picture that was purged after the backup is not served from
// disk after its restore.
func TestRestoreEmptiesDiskCache(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-disk", "64MiB")
	old, changed := png(50_000, "old"), png(50_000, "changed")
	s.put("a.png", s3.Object{Body: old})
	file := filepath.Join(t.TempDir(), "backup.db")
	wantRun(t, s.server, 0, "", "backup", file)
	for range 3 {
		wantPicture(t, s.get("/shop/a.png"), old)
	}
	eventually(t, "the picture is on disk", func() bool { return s.metric(`ixmage_cache_entries{tier="disk"}`) == 1 })
	s.put("a.png", s3.Object{Body: changed})
	if r := s.api(http.MethodPost, "/api/v1/purge", map[string]any{"alias": "shop", "hard": true}); r.StatusCode != http.StatusOK {
		t.Fatalf("purge: %s: %s", r.Status, r.body)
	}
	if code := s.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	wantRun(t, nil, 0, "disk cache is emptied", "restore", file, "--data", s.data)
	again := startIn(t, s.data, "--cache-disk", "64MiB")
	wantPicture(t, again.get("/shop/a.png"), changed)
}

// TestRekeyCommand: the server starts with the new master key alone, and says what to do with
// another.
func TestRekeyCommand(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(3000, "")
	s.put("a.png", s3.Object{Body: body})
	if code := s.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	next := "file:" + filepath.Join(t.TempDir(), "new.keyset")
	wantRun(t, nil, 2, "--new-master-key", "rekey", "--data", s.data, "--new-master-key", "new.keyset")
	wantRun(t, nil, 0, "Start the server with --master-key "+next, "rekey", "--data", s.data, "--new-master-key", next)
	wantRun(t, nil, 1, "which has the fingerprint", "serve", "--data", s.data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	again := startIn(t, s.data, "--master-key", next)
	wantPicture(t, again.get("/shop/a.png"), body)
	if log := again.output(); strings.Contains(log, "not a file of ixmage") {
		t.Errorf("the server does not know a file in its folder: %s", log)
	}
}

// TestKillRestoreAndRekey kills the commands at any moment: the server starts with one of the
// two key sets, and the same command completes the work.
func TestKillRestoreAndRekey(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(3000, "")
	s.put("a.png", s3.Object{Body: body})
	file := filepath.Join(t.TempDir(), "backup.db")
	wantRun(t, s.server, 0, "", "backup", file)
	if code := s.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	masters, keysets := []string{""}, t.TempDir()
	for round := range 6 {
		master := masters[len(masters)-1]
		next := fmt.Sprintf("file:%s/%d.keyset", keysets, round)
		restore := []string{"restore", file, "--data", s.data, "--master-key", master}
		rekey := []string{"rekey", "--data", s.data, "--new-master-key", next, "--master-key", master}
		if master == "" {
			restore, rekey = restore[:4], rekey[:5]
		}
		killed(t, rng, restore)
		wantOneServes(t, s, []string{master}, body)
		wantRun(t, nil, 0, "is restored", restore...)
		killed(t, rng, rekey)
		wantOneServes(t, s, []string{next, master}, body)
		wantRun(t, nil, 0, "sealed with a new key", rekey...)
		wantOneServes(t, s, []string{next}, body)
		masters = append(masters, next)
	}
}

// killed starts a command and kills it soon.
func killed(t *testing.T, rng *rand.Rand, args []string) {
	t.Helper()
	cmd := exec.Command(plain, args...)
	cmd.Env = plainEnv()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Duration(rng.IntN(120)) * time.Millisecond) //nolint:forbidigo // the moment of the cut is the test's input
	cmd.Process.Kill()
	_ = cmd.Wait()
}

// wantOneServes starts a server with the first master key that opens the registry.
func wantOneServes(t *testing.T, s *env, masters []string, body []byte) {
	t.Helper()
	for _, master := range masters {
		args := []string{"--master-key", master}
		if master == "" {
			args = nil
		}
		if master != masters[len(masters)-1] && !starts(t, s.data, args) {
			continue
		}
		server := startIn(t, s.data, args...)
		wantPicture(t, server.get("/shop/a.png"), body)
		if code := server.stop(); code != 0 {
			t.Errorf("exit status %d", code)
		}
		return
	}
}

// starts reports whether a master key opens the registry: then a command that changes nothing
// gets past it.
func starts(t *testing.T, data string, args []string) bool {
	t.Helper()
	address := []string{"serve", "--data", data, "--listen", "256.0.0.1:0", "--admin-listen", "127.0.0.1:0"}
	_, _, stderr := ixmage(t, nil, append(address, args...)...)
	return strings.Contains(stderr, "open the public listener")
}
