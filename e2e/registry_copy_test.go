package e2e

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
