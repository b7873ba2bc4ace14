package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/postgres"
)

// secretOf is the password in the URL of a database.
var secretOf = regexp.MustCompile(`^[^:]+://[^:]+:(.+)@`)

// serveRefused runs `ixmage serve` with a store until it ends, and returns the last line of its
// output. No output may have the password.
func serveRefused(t *testing.T, status int, store string, args ...string) string {
	t.Helper()
	return serveRefusedIn(t, status, filepath.Join(t.TempDir(), "data"), store, args...)
}

func serveRefusedIn(t *testing.T, status int, data, store string, args ...string) string {
	t.Helper()
	got := runProgram(t, []string{"IXMAGE_STORE=" + store}, serveArgs(data, args...)...)
	text := strings.TrimSpace(got.stderr)
	if got.code != status {
		t.Errorf("got exit status %d, want %d:\n%s", got.code, status, text)
	}
	if m := secretOf.FindStringSubmatch(store); len(m) == 2 && strings.Contains(got.stdout+got.stderr, m[1]) {
		t.Errorf("the output has the password:\n%s", text)
	}
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// TestFleetRefusesStore: a database that cannot be used is refused at the start, in one line that
// names the flag and says what to do.
func TestFleetRefusesStore(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	tls := postgres.Start(t, postgres.Options{TLS: true})
	role := server.Role(t)
	url := server.URL("postgres", role)
	readOnly, newer := server.Database(t), server.Database(t)
	server.Exec(t, "postgres", "ALTER DATABASE "+postgres.Name(t, readOnly)+" SET default_transaction_read_only = on")
	if code := startStore(t, newer).stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	server.Exec(t, postgres.Name(t, newer), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true)`)
	for _, tt := range []struct {
		name, store string
		status      int
		want        []string
	}{
		{"scheme", "mysql://me:secret@127.0.0.1/db", 2, []string{"postgres://"}},
		{"file", "registry.db", 2, []string{"postgres://", "SQLite"}},
		{"at sign in the password", "postgres://me:x@sEcReT@127.0.0.1/db", 2, []string{"%40", "PGPASSFILE"}},
		{"port", strings.Replace(url, server.Addr, "127.0.0.1:five", 1), 2, []string{"port"}},
		{"sslmode", strings.Replace(url, "disable", "on", 1), 2, []string{"sslmode"}},
		{"nothing listens", postgres.Through(t, netfault.Refused(t), url), 1, []string{"connection refused", "no replica"}},
		// No resolver asks for a name with an empty label.
		{"unknown host", postgres.Through(t, "nowhere..invalid:5432", url), 1, []string{"nowhere..invalid", "no replica"}},
		{"password", strings.Replace(url, role+":", role+":x", 1), 1, []string{"password is wrong", "PGPASSWORD"}},
		{"database", server.URL("nothing", role), 1, []string{"create it first"}},
		{"no right to migrate", server.URL(postgres.Name(t, server.Database(t)), role), 1, []string{"lacks a right", "CREATE"}},
		{"read-only", readOnly, 1, []string{"must accept writes", "standby"}},
		{"newer schema", newer, 1, []string{"schema version 999", "newer ixmage"}},
		{"TLS", strings.Split(tls.URL("postgres", "me"), "?")[0] + "?sslmode=disable", 1, []string{"sslmode=verify-full"}},
		{"no TLS", strings.Replace(url, "sslmode=disable", "sslmode=require", 1), 1, []string{"has no TLS", "turn on ssl", "sslmode=disable"}},
		{"parameter", url + "&sslmod=require", 1, []string{"parameter", "sslmod"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantAll(t, "the last line", serveRefused(t, tt.status, tt.store), append(tt.want, "--store")...)
		})
	}
}

// startStore starts a node of a fleet.
func startStore(t *testing.T, store string, args ...string) *server {
	t.Helper()
	return startWith(t, []string{"IXMAGE_STORE=" + store}, args...)
}

// TestFleetRefusesNode: a node that does not belong to the fleet in the database is refused, leaves
// no key set behind, and does not stay in the list of nodes.
func TestFleetRefusesNode(t *testing.T) {
	t.Parallel()
	store := postgres.Database(t)
	beat := []string{"--node-beat", nodeBeat.String(), "--node-lease", nodeLease.String()}
	first := startStore(t, store, append(beat, "--node", "first", "--install-id", "one")...)
	text := serveRefused(t, 1, store, append(beat, "--node", "second")...) // though no secret is sealed yet
	wantAll(t, "without a key set", text, "key set", "another node", "--master-key")
	first.create(map[string]any{
		"name": "shop", "bucket": "media", "endpoint": "http://127.0.0.1:1", "path_style": true,
		"credential": map[string]string{"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "not-a-real-secret-key"},
	})
	other := start(t) // has a key set of its own
	if code := other.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	keyset := string(readFile(t, filepath.Join(first.data, "master.keyset")))
	for _, tt := range []struct {
		name, keyset string
		args, want   []string
	}{
		{"another installation", keyset, []string{"--install-id", "two"}, []string{"one", "two", "--install-id", "--store"}},
		{"no key set", "", nil, []string{"key set", "another node", "--master-key"}},
		{"another key set", string(readFile(t, filepath.Join(other.data, "master.keyset"))), nil, []string{"same key set", "another node", "--master-key"}},
		{"a name that is taken", keyset, []string{"--node", "first"}, []string{"first", "--node"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(data, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(data, "master.keyset")
			if tt.keyset != "" {
				writeFile(t, path, tt.keyset, 0o600)
			}
			args := append(append([]string{"--node", "second"}, beat...), tt.args...)
			wantAll(t, "the last line", serveRefusedIn(t, 1, data, store, args...), tt.want...)
			if _, err := os.Stat(path); tt.keyset == "" && err == nil {
				t.Error("a key set was made")
			}
			r := first.api(http.MethodGet, "/api/v1/nodes", "")
			if r.StatusCode != http.StatusOK || strings.Contains(string(r.body), "second") || !strings.Contains(string(r.body), "first") {
				t.Errorf("nodes: %s: %s", r.Status, r.body)
			}
		})
	}
	second := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(second, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(second, "master.keyset"), keyset, 0o600)
	startIn(t, second, append([]string{"--store", store, "--node", "second"}, beat...)...)
}

// TestFleetForgotStore: a server without --store on the data folder of a node does not begin with
// an empty registry, and says so if it uses one that is older than the fleet's.
func TestFleetForgotStore(t *testing.T) {
	t.Parallel()
	store := postgres.Database(t)
	node := startStore(t, store, "--node", "first")
	wantAll(t, "the log", node.output(), `msg="the registry is in PostgreSQL"`, "node=first", "store=postgres://")
	if code := node.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	wantAll(t, "the last line", serveRefusedIn(t, 1, node.data, ""), "node of a fleet", "--store", "IXMAGE_STORE", "--data")

	alone := start(t)
	if text := alone.output(); strings.Contains(text, "fleet") || strings.Contains(text, "PostgreSQL") {
		t.Errorf("without --store the log has:\n%s", text)
	}
	if code := alone.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	if code := startIn(t, alone.data, "--store", postgres.Database(t)).stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	wantAll(t, "the log", startIn(t, alone.data).output(), "level=WARN", "IXMAGE_STORE", "lacks the changes of the fleet")
}
