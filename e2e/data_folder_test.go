package e2e

import (
	"database/sql" //nolint:depguard // a database of a newer ixmage is made by hand
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// seeded is a data folder with an alias and its sealed secret, closed.
func seeded(t *testing.T) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	s := startIn(t, data)
	s.createOn("shop", "http://127.0.0.1:1", "media")
	if code := s.stop(); code != 0 {
		t.Fatalf("exit status is %d", code)
	}
	return data
}

// copyFolder copies a folder with its modes.
func copyFolder(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(path, from)
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(target, info.Mode().Perm())
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// refuseStart starts the program, which must end with status 1 and these messages.
func refuseStart(t *testing.T, args []string, says ...string) {
	t.Helper()
	got := runProgram(t, nil, args...)
	if got.code != 1 {
		t.Errorf("exit status %d, want 1", got.code)
	}
	// The log quotes a text that has quotes in it.
	wantAll(t, "stderr", strings.ReplaceAll(got.stderr, `\"`, `"`), says...)
}

// TestStartRefused has all failures after a right configuration. spoil damages the
// folder and mend repairs it; then the server must start and know its alias, since
// the refusal may lose nothing.
func TestStartRefused(t *testing.T) {
	t.Parallel()
	whole := seeded(t)
	stranger := seeded(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	t.Run("rows", func(t *testing.T) { // ends when all rows have, and taken is needed until then
		for _, tc := range []struct {
			name string
			args []string
			says []string
			// spoil changes the folder and returns what undoes it.
			spoil func(t *testing.T, data string) (mend func())
		}{
			{name: "public port taken", args: []string{"--listen", taken.Addr().String()}, says: []string{"--listen", "address already in use"}},
			{name: "admin port taken", args: []string{"--admin-listen", taken.Addr().String()}, says: []string{"--admin-listen", "address already in use"}},
			{name: "metrics port taken", args: []string{"--metrics-listen", taken.Addr().String()}, says: []string{"--metrics-listen", "address already in use"}},
			{name: "not our address", args: []string{"--listen", "192.0.2.1:0"}, says: []string{"--listen", "192.0.2.1"}},

			{name: "own token loose", says: []string{"admin-token", "mode 0644", "chmod 600"}, spoil: loosen("admin-token", 0o644)},
			{name: "own token empty", says: []string{"admin-token is empty", "may be removed: another token is then generated"}, spoil: overwrite("admin-token", "")},

			{
				name: "key set missing", spoil: overwrite("master.keyset", "missing"),
				says: []string{"master.keyset is missing", "the secrets of 1 credential in the registry cannot be read", "restore the file from backup", "register the key pairs anew"},
			},
			{
				name: "key set of another registry", says: []string{"not the one that the secrets in the registry were sealed with", "1 of them cannot be read", "give the key set that was in use before", "register the key pairs anew"},
				spoil: overwrite("master.keyset", string(readFile(t, filepath.Join(stranger, "master.keyset")))),
			},
			{name: "key set loose", says: []string{"mode 0640", "chmod 600"}, spoil: loosen("master.keyset", 0o640)},
			{name: "key set garbage", says: []string{"master.keyset", "damaged or holds no key set", "restore it from backup"}, spoil: overwrite("master.keyset", "{}")},
			{
				name: "named key set missing", args: []string{"--master-key", "file:/none/keyset"},
				says: []string{"key set /none/keyset is missing", "restore the file from backup"},
			},

			{
				name: "database newer", spoil: newer,
				says: []string{"schema version 1000", "a newer ixmage wrote it", "run that one, or restore the backup"},
			},
			{name: "database garbage", says: []string{"registry.db", "damaged or is no SQLite database", "restore it from backup"}, spoil: overwrite("registry.db", strings.Repeat("garbage ", 4096))},
			{name: "database cut short", says: []string{"registry.db", "damaged or is no SQLite database", "restore it from backup"}, spoil: cutShort},
			{
				name: "database missing", spoil: overwrite("registry.db", "missing"),
				says: []string{"registry.db is missing or empty", "its key set", "master.keyset is there", "restore the database from backup", "name an empty folder with --data"},
			},
			{name: "database empty", spoil: overwrite("registry.db", ""), says: []string{"registry.db is missing or empty", "restore the database from backup"}},
			{name: "database a folder", says: []string{"registry.db", "is a directory"}, spoil: overwrite("registry.db", "folder")},
		} {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				data := copyFolder(t, whole)
				mend := func() {}
				if tc.spoil != nil {
					mend = tc.spoil(t, data)
				}
				refuseStart(t, append(serveArgs(data), tc.args...), tc.says...)
				mend()
				s := startIn(t, data)
				if r := s.api(http.MethodGet, "/api/v1/aliases/shop", nil); r.StatusCode != http.StatusOK {
					t.Errorf("after the repair the alias is %s: %s", r.Status, r.body)
				}
				if r := s.get("/shop/a.png"); r.StatusCode != http.StatusBadGateway {
					t.Errorf("after the repair a request gives %s, want 502, with which the secret was read and S3 was called", r.Status)
				}
			})
		}
	})
}

// overwrite replaces a file by a text, by a "folder", or by nothing ("missing").
func overwrite(name, text string) func(*testing.T, string) func() {
	return func(t *testing.T, data string) func() {
		path := filepath.Join(data, name)
		if err := os.Rename(path, path+".kept"); err != nil {
			t.Fatal(err)
		}
		switch text {
		case "missing":
		case "folder":
			os.Mkdir(path, 0o700)
		default:
			writeFile(t, path, text, 0o600)
		}
		return func() {
			os.RemoveAll(path)
			if err := os.Rename(path+".kept", path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func loosen(name string, mode fs.FileMode) func(*testing.T, string) func() {
	return func(t *testing.T, data string) func() {
		path := filepath.Join(data, name)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return func() { os.Chmod(path, 0o600) }
	}
}

// cutShort leaves only the first page of the database, like an interrupted copy.
func cutShort(t *testing.T, data string) func() {
	path := filepath.Join(data, "registry.db")
	text := readFile(t, path)
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	return func() { writeFile(t, path, string(text), 0o600) }
}

// newer marks the database as one that a newer ixmage has migrated.
func newer(t *testing.T, data string) func() {
	exec := func(query string) {
		t.Helper()
		db, err := sql.Open("sqlite", filepath.Join(data, "registry.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000, 1)`)
	return func() { exec(`DELETE FROM goose_db_version WHERE version_id = 1000`) }
}

// TestDataFolder has folders that the program cannot use.
func TestDataFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	writeFile(t, file, "not ours", 0o600)
	s := start(t)
	for _, tc := range []struct {
		name, data string
		says       []string
	}{
		{"is a file", file, []string{"--data", "not a directory"}},
		{"below a file", file + "/data", []string{"--data", "not a directory"}},
		{"in use", s.data, []string{s.data, "is in use by another ixmage", "--data"}},
	} {
		t.Run(tc.name, func(t *testing.T) { refuseStart(t, serveArgs(tc.data), tc.says...) })
	}
	if r := s.api(http.MethodGet, "/api/v1/aliases", nil); r.StatusCode != http.StatusOK {
		t.Errorf("the one that has the folder answers %s", r.Status)
	}
	if got := readFile(t, file); string(got) != "not ours" {
		t.Errorf("the file now holds %q", got)
	}
}

// TestDataFolderNotWritable runs the program as another user if this one is root, who
// may write everywhere.
func TestDataFolderNotWritable(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "ixmage-readonly-") //nolint:usetesting // t.TempDir cannot be entered by others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary, data := filepath.Join(dir, "ixmage"), filepath.Join(dir, "data")
	// Not a copy: a process that another test forks meanwhile holds its descriptor
	// until it execs, and an executable that is open for writing cannot be run.
	if err := os.Link(plain, binary); err != nil {
		t.Fatal(err)
	}
	os.Mkdir(data, 0o555)
	os.Chmod(dir, 0o555)
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	for name, folder := range map[string]string{"cannot be made": filepath.Join(dir, "other"), "cannot be written": data} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(binary, serveArgs(folder)...)
			cmd.Dir = "/"
			if os.Geteuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			cmd.Env = plainEnv()
			got := runCommand(t, 2*time.Minute, cmd)
			if got.code != 1 {
				t.Errorf("exit status %d, want 1", got.code)
			}
			wantAll(t, "stderr", got.stderr, "--data", "permission denied", folder)
		})
	}
}

// TestFirstStart checks the files that the first start creates, and that the second
// start uses them.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "deep", "data")
	s := startIn(t, data)
	s.createOn("shop", "http://127.0.0.1:1", "media")
	made := []string{"admin-token", "master.keyset", "registry.db", "registry.db-wal", "registry.db-shm", "lock"}
	for _, name := range append(made, "") {
		info, err := os.Stat(filepath.Join(data, name))
		if err != nil {
			t.Fatal(err)
		}
		want := fs.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%q has mode %04o, want %04o", name, info.Mode().Perm(), want)
		}
	}
	token, keyset := readFile(t, filepath.Join(data, "admin-token")), readFile(t, filepath.Join(data, "master.keyset"))
	if len(s.token) != 64 {
		t.Errorf("the token has %d characters, want 64 hexadecimal digits", len(s.token))
	}
	wantAll(t, "log", s.output(), "the key set is in the same folder as the database")
	s.stop()
	s = startIn(t, data)
	if string(readFile(t, filepath.Join(data, "admin-token"))) != string(token) || string(readFile(t, filepath.Join(data, "master.keyset"))) != string(keyset) {
		t.Error("the second start has made a new token or key set")
	}
	if r := s.api(http.MethodGet, "/api/v1/aliases/shop", nil); r.StatusCode != http.StatusOK {
		t.Errorf("the alias is %s after the second start", r.Status)
	}
}

// TestDataFolderMode: an existing folder is closed to other users, unless it holds
// other files.
func TestDataFolderMode(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		holds []string
		mode  fs.FileMode // after the start
	}{
		{"empty", nil, 0o700},
		{"fresh volume", []string{"lost+found"}, 0o700},
		{"ours", []string{"admin-token", "registry.db"}, 0o700},
		{"ours, after a migration", []string{"admin-token", "registry.db", "registry.db.before-4", "registry.db.before-5.tmp-12"}, 0o700},
		{"ours, with a disk cache", []string{"registry.db", "cache"}, 0o700},
		{"nearly ours, after a migration", []string{"registry.db.before-me"}, 0o755},
		{"ours, after a crash", []string{"admin-token.tmp-1234567890", "master.keyset.tmp-1", "master.keyset.kms.tmp-22"}, 0o700},
		{"nearly ours, after a crash", []string{"admin-token.tmp-letter"}, 0o755},
		{"somebody else's", []string{"letter.txt"}, 0o755},
		{"nearly ours", []string{"registry.db.bak"}, 0o755},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			os.Mkdir(data, 0o755)
			for _, name := range tc.holds {
				text := ""
				if name == "admin-token" {
					text = strings.Repeat("t", 32) + "\n"
				}
				writeFile(t, filepath.Join(data, name), text, 0o600)
			}
			s := startIn(t, data)
			info, err := os.Stat(data)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != tc.mode {
				t.Errorf("mode is %04o, want %04o", got, tc.mode)
			}
			if warned := strings.Contains(s.output(), "other users can enter the data folder"); warned != (tc.mode != 0o700) {
				t.Errorf("warned: %v", warned)
			}
		})
	}
}

// TestKeySetElsewhere: a key set outside the data folder may be of many registries, so a new
// registry may begin with it.
func TestKeySetElsewhere(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(t.TempDir(), "keyset")
	for range 2 {
		s := start(t, "--master-key", "file:"+keys)
		s.createOn("shop", "http://127.0.0.1:1", "media")
		s.stop()
	}
}

// TestFirstStartAfterCrash: a first start may end after each file that it makes.
func TestFirstStartAfterCrash(t *testing.T) {
	t.Parallel()
	whole := filepath.Join(t.TempDir(), "whole")
	startIn(t, whole).kill()
	made := []string{"lock", "registry.db", "registry.db-wal", "registry.db-shm", "master.keyset", "admin-token"}
	for i := range made {
		data := filepath.Join(t.TempDir(), "data")
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range made[:i+1] {
			writeFile(t, filepath.Join(data, name), string(readFile(t, filepath.Join(whole, name))), 0o600)
		}
		s := startIn(t, data)
		s.createOn("shop", "http://127.0.0.1:1", "media")
		s.stop()
	}
}

// TestDamagedRows: a damaged row names itself in the log and in the admin API, and the rest
// is served.
func TestDamagedRows(t *testing.T) {
	t.Parallel()
	whole := filepath.Join(t.TempDir(), "data")
	s := newEnvOn(t, startIn(t, whole))
	s.open("blog", "media", "web/", nil)
	s.put("a.png", s3.Object{Body: bytesOf(2000, "a")})
	if code := s.stop(); code != 0 {
		t.Fatalf("exit status is %d", code)
	}
	for _, tc := range []struct {
		name, change string
		row          string // of the row in the log
		path         string // of what cannot be read, "" if it can
		public       int    // the status of the alias shop
	}{
		{"state of an alias", `UPDATE aliases SET enabled = 7 WHERE name = 'shop'`, "alias=shop", "/api/v1/aliases/shop", 404},
		{"name of an alias", `UPDATE aliases SET name = 'sh' || char(1) WHERE name = 'shop'`, `alias="sh\x01"`, "", 404},
		{"credential of an alias", `UPDATE aliases SET credential_id = 7 WHERE name = 'shop'`, "alias=shop", "/api/v1/aliases/shop", 404},
		{"no credential", `DELETE FROM credentials WHERE name = 'shop'`, "alias=shop", "/api/v1/aliases/shop", 404},
		{"key pair", `UPDATE credentials SET public = '{"x' WHERE name = 'shop'`, "credential=shop", "/api/v1/credentials/shop", 404},
		{"secret", `UPDATE credentials SET sealed = x'00010203' WHERE name = 'shop'`, "credential=shop", "", 502},
		{"id of a credential", `UPDATE credentials SET version = version + 1 WHERE name = 'shop'`, "credential=shop", "", 502},
		{"key check", `UPDATE meta SET value = x'00' WHERE key = 'key_check'`, "", "", 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := copyFolder(t, whole)
			db, err := sql.Open("sqlite", filepath.Join(data, "registry.db"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(tc.change); err != nil {
				t.Fatal(err)
			}
			db.Close()
			s := startIn(t, data)
			if tc.row != "" {
				wantAll(t, "the log", lineWith(s.output(), "level=ERROR"), "a row of the registry is damaged", tc.row, "Restore the database from backup")
			}
			if r := s.get("/blog/a.png"); r.StatusCode != http.StatusOK {
				t.Errorf("another alias: %s", summary(r))
			}
			if r := s.get("/shop/a.png"); r.StatusCode != tc.public {
				t.Errorf("the alias shop: %s, want %d", summary(r), tc.public)
			}
			if r := s.api(http.MethodGet, "/api/v1/aliases", nil); r.StatusCode != http.StatusOK || !strings.Contains(string(r.body), `"name":"blog"`) {
				t.Errorf("the list: %s", summary(r))
			}
			if r := s.api(http.MethodGet, "/api/v1/explain?path=/shop/a.png&probe=true", nil); tc.public != http.StatusOK && tc.name != "name of an alias" {
				wantAll(t, "explain", string(r.body), "from backup")
			}
			if tc.path == "" {
				return
			}
			for _, call := range []struct{ method, body string }{{"GET", ""}, {"PATCH", `{"ttl":"1m0s"}`}} {
				if call.method == "PATCH" && !strings.Contains(tc.path, "aliases") {
					continue
				}
				r := s.api(call.method, tc.path, call.body)
				if r.StatusCode != http.StatusInternalServerError || !strings.Contains(string(r.body), "damaged") ||
					!strings.Contains(string(r.body), "shop cannot be read: its row in the database is damaged; restore") {
					t.Errorf("%s %s: %s", call.method, tc.path, summary(r))
				}
			}
		})
	}
}
