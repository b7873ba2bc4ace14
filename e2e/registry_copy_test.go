package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/postgres"
)

// startCopied starts a server with a key set in a folder that has nothing else of it.
func startCopied(t *testing.T, g *gateway.Server, keyset, data string, args ...string) *server {
	t.Helper()
	copyTo(t, keyset, filepath.Join(data, "master.keyset"))
	return startProvisioningIn(t, data, provisionArgs(g, g.IAMURL, slices.Concat(quickWaits, args)...)...)
}

// wantServes reads a picture, rotates the key that reads it, and reads again.
func wantServes(t *testing.T, s *server) {
	t.Helper()
	body := bytesOf(20_000, "web/a.png")
	wantPicture(t, s.get("/shop/a.png"), body)
	before := s.text("/api/v1/credentials/shop")
	s.operateWell(http.MethodPost, "/api/v1/credentials/shop/rotate", nil)
	if s.text("/api/v1/credentials/shop") == before {
		t.Error("the rotation left the credential as it was")
	}
	wantPicture(t, s.get("/shop/b.png"), bytesOf(20_000, "web/b.png"))
}

// text is the body of a GET of the API.
func (s *server) text(path string) string {
	s.t.Helper()
	r := s.api(http.MethodGet, path, nil)
	if r.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s: %s", path, r.Status, r.body)
	}
	return string(r.body)
}

// TestRegistryCopy provisions on SQLite, goes on in PostgreSQL, and then on SQLite again. A backup
// of PostgreSQL can be restored.
func TestRegistryCopy(t *testing.T) {
	t.Parallel()
	g, database := realS3(t), postgres.Database(t)
	s := startProvisioning(t, g, quickWaits...)
	keyset := filepath.Join(s.data, "master.keyset")
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", media(t, g)))
	wantRun(t, nil, 1, "in use by another ixmage", "registry", "copy", "--from", s.data, "--to", database)
	s.stop()
	wantRun(t, nil, 0, "Next: ixmage serve --store", "registry", "copy", "--from", s.data, "--to", database)
	wantRun(t, nil, 1, "not empty", "registry", "copy", "--from", s.data, "--to", database)

	node := startCopied(t, g, keyset, t.TempDir(), "--store", database, "--node", "one")
	wantServes(t, node)
	file, back := filepath.Join(t.TempDir(), "backup.db"), filepath.Join(t.TempDir(), "data")
	wantRun(t, node, 0, "is written", "backup", file)
	wantRun(t, nil, 1, "used by the nodes one", "registry", "copy", "--from", database, "--to", back)
	if code := node.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	code, stdout, stderr := ixmage(t, nil, "registry", "copy", "--from", database, "--to", back, "-o", "json")
	if code != 0 || !strings.Contains(stdout, `"name": "audit"`) || !strings.Contains(stderr, "Next: ixmage serve --data "+back) {
		t.Fatalf("got exit status %d, %s%s", code, stdout, stderr)
	}
	wantServes(t, startCopied(t, g, keyset, back))

	restored := t.TempDir()
	copyTo(t, keyset, filepath.Join(restored, "master.keyset"))
	wantRun(t, nil, 0, "is restored", "restore", file, "--data", restored)
}

// TestRekeyOfPostgreSQL walks the steps of docs/operations.md for a new master key of a fleet.
func TestRekeyOfPostgreSQL(t *testing.T) {
	t.Parallel()
	v := newScripted(t, abc[:2])
	body := png(3000, "0")
	v.put("a.png", body)
	v.put("b.png", body)
	v.each(func(n *node) {
		n.serves("/shop/a.png", body)
		if code := n.stop(); code != 0 {
			t.Fatalf("exit status %d", code)
		}
	})
	keyset, dir := filepath.Join(v.dir, "keyset"), filepath.Join(t.TempDir(), "rekey")
	wantRun(t, nil, 0, "Next: ixmage serve", "registry", "copy", "--from", v.url, "--to", dir)
	copyTo(t, keyset, filepath.Join(dir, "master.keyset"))
	wantRun(t, nil, 0, "sealed with a new key", "rekey", "--data", dir)
	old := string(readFile(t, keyset))
	copied := sharedDatabase(t)
	wantRun(t, nil, 0, "Next: ixmage serve", "registry", "copy", "--from", dir, "--to", copied)

	v.url = copied
	if err := v.nodes[0].tryStart(); err == nil || !strings.Contains(err.Error(), "key set") {
		t.Errorf("with the old key set: %v", err)
	}
	copyTo(t, filepath.Join(dir, "master.keyset"), keyset)
	v.each(func(n *node) {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(filepath.Join(n.data, "replica.db"+suffix))
		}
		n.start()
		n.serves("/shop/b.png", body)
	})
	v.caughtUp(v.nodes...)
	if status, text := v.nodes[1].change("shop", 2*time.Hour); status != http.StatusOK {
		t.Errorf("a change: %d %s", status, text)
	}
	if string(readFile(t, keyset)) == old {
		t.Error("the key set is the old one")
	}
}

func TestRegistryCopyUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, row := range []struct {
		from, to, says string
		code           int
	}{
		{"-", dir, "--from: ", 2},
		{"mysql://h/d", dir, "--from: mysql:// is not supported", 2},
		{dir, "postgres://u:the-password@h:x/d", "--to: ", 2},
		{dir, filepath.Join(dir, "to"), "there is no registry", 1},
	} {
		code, _, stderr := ixmage(t, nil, "registry", "copy", "--from", row.from, "--to", row.to)
		if code != row.code || !strings.Contains(stderr, row.says) || strings.Contains(stderr, "the-password") {
			t.Errorf("from %s to %s: got exit status %d, %s", row.from, row.to, code, stderr)
		}
	}
}
