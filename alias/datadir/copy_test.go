package datadir

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
	"ixmage/internal/awstest/postgres"
)

// place is ParsePlace of a valid text.
func place(t testing.TB, text string) Place {
	t.Helper()
	p, err := ParsePlace(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func copyAndDie(from, to string, step func(string)) error {
	a, err := ParsePlace(from)
	b, err2 := ParsePlace(to)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	_, err = CopyRegistry(context.Background(), CopySpec{From: a, To: b, step: step})
	return err
}

// TestCopyRegistry: a data folder, PostgreSQL, another data folder.
func TestCopyRegistry(t *testing.T) {
	t.Parallel()
	dir, database := folder(t), postgres.Database(t)
	path := filepath.Join(t.TempDir(), "a", "b")
	rows, all := int64(0), int64(0)
	progress := func(n, of int64) { rows, all = n, of }
	done, err := CopyRegistry(t.Context(), CopySpec{From: place(t, dir), To: place(t, database), Progress: progress})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: dir, Sealed: 2})
	if err != nil {
		t.Fatal(err)
	}
	if !done.Shared || done.Keyset != keys.Fingerprint() || done.From != RegistryPath(dir) || rows != all || rows == 0 {
		t.Errorf("got %+v, %d of %d rows", done, rows, all)
	}
	done, err = CopyRegistry(t.Context(), CopySpec{From: place(t, database), To: place(t, "sqlite:"+path)})
	if err != nil || done.Shared || done.Dir != path || done.To != RegistryPath(path) || done.Keyset != keys.Fingerprint() {
		t.Fatalf("got %+v, %v", done, err)
	}
	copyFile(t, filepath.Join(dir, "master.keyset"), filepath.Join(path, "master.keyset"))
	if !opens(t, path, "") {
		t.Error("the copy does not open")
	}
	for of, want := range map[string]os.FileMode{path: os.ModeDir | 0o700, RegistryPath(path): 0o600} {
		if info, err := os.Stat(of); err != nil || info.Mode() != want {
			t.Errorf("%s: got %v, %v, want %v", of, info.Mode(), err, want)
		}
	}
	if list := names(t, path); list != "lock master.keyset registry.db" {
		t.Errorf("the folder has %s", list)
	}
}

// TestCopyRegistryToFile: a path that ends in .db is a file, in a folder that stays as it is.
func TestCopyRegistryToFile(t *testing.T) {
	t.Parallel()
	dir, to := folder(t), t.TempDir()
	path := filepath.Join(to, "copy.db")
	done, err := CopyRegistry(t.Context(), CopySpec{From: place(t, RegistryPath(dir)), To: place(t, path)})
	list, _ := filepath.Glob(filepath.Join(to, "*"))
	if err != nil || done.Dir != "" || len(list) != 1 || list[0] != path {
		t.Fatalf("got %+v, %v, and the folder has %s", done, err, list)
	}
	if _, err := Restore(t.Context(), RestoreSpec{File: path, Dir: dir}); err != nil || !opens(t, dir, "") {
		t.Errorf("it cannot be restored: %v", err)
	}
}

// beat makes a node that was seen now.
func beat(t *testing.T, database string) {
	t.Helper()
	db, err := sqlstore.NewPostgres(database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Beat(t.Context(), alias.Beat{Node: alias.Node{Name: "a-node", ID: "id", Process: "p"}, TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
}

func TestCopyRegistryRefused(t *testing.T) {
	t.Parallel()
	fresh := func(t *testing.T) string { t.Helper(); return filepath.Join(t.TempDir(), "data") }
	file := func(t *testing.T, text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "file.db")
		write(t, path, text)
		return path
	}
	for _, row := range []struct {
		name  string
		paths func(t *testing.T) (from, to string)
		wants []string
	}{
		{"no source", func(t *testing.T) (string, string) { return fresh(t), fresh(t) }, []string{"--from", "there is no registry"}},
		{"no registry in a folder", func(t *testing.T) (string, string) { return t.TempDir(), fresh(t) }, []string{"there is no registry"}},
		{"source is text", func(t *testing.T) (string, string) { return file(t, strings.Repeat("text ", 99)), fresh(t) }, []string{"is not a registry"}},
		{"source is empty", func(t *testing.T) (string, string) { return file(t, ""), fresh(t) }, []string{"is not a registry"}},
		{"source is another database", func(t *testing.T) (string, string) {
			path := file(t, "")
			execRaw(t, path, `CREATE TABLE things (id INTEGER)`)
			return path, fresh(t)
		}, []string{"is not a registry"}},
		{"source of a newer version", func(t *testing.T) (string, string) {
			dir := folder(t)
			execRaw(t, RegistryPath(dir), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`)
			return dir, fresh(t)
		}, []string{"schema version 999", "newer ixmage"}},
		{"source of an older version", func(t *testing.T) (string, string) {
			dir := folder(t)
			execRaw(t, RegistryPath(dir), `DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
			return dir, fresh(t)
		}, []string{"schema version 9", "start and stop this ixmage on it once"}},
		{"source in use", func(t *testing.T) (string, string) {
			dir := folder(t)
			unlock, err := Lock(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(unlock)
			return RegistryPath(dir), fresh(t)
		}, []string{"--from", "in use by another ixmage"}},
		{"source in use, by a link", func(t *testing.T) (string, string) {
			dir, link := folder(t), filepath.Join(t.TempDir(), "link.db")
			unlock, err := Lock(dir)
			if err := errors.Join(err, os.Symlink(RegistryPath(dir), link)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(unlock)
			return link, fresh(t)
		}, []string{"in use by another ixmage"}},
		{"target in use", func(t *testing.T) (string, string) {
			dir := t.TempDir()
			unlock, err := Lock(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(unlock)
			return folder(t), dir
		}, []string{"--to", "in use by another ixmage"}},
		{"the same", func(t *testing.T) (string, string) { dir := folder(t); return dir, RegistryPath(dir) }, []string{"it is the source too"}},
		{"target is not empty", func(t *testing.T) (string, string) { return folder(t), folder(t) }, []string{"not empty", "aliases: 1", "credentials: 2", "operations: 2", "new file"}},
		{"target is text", func(t *testing.T) (string, string) { return folder(t), file(t, strings.Repeat("text ", 99)) }, []string{"is not a registry"}},
		{"target is another database", func(t *testing.T) (string, string) {
			path := file(t, "")
			execRaw(t, path, `CREATE TABLE things (id INTEGER)`)
			return folder(t), path
		}, []string{"is not a registry"}},
		{"postgres without a registry", func(t *testing.T) (string, string) { return postgres.Database(t), fresh(t) }, []string{"has no registry of ixmage"}},
		{"postgres is not empty", func(t *testing.T) (string, string) {
			database := postgres.Database(t)
			if _, err := CopyRegistry(t.Context(), CopySpec{From: place(t, folder(t)), To: place(t, database)}); err != nil {
				t.Fatal(err)
			}
			return folder(t), database
		}, []string{"not empty", "aliases: 1", "give an empty database"}},
		{"nodes on the source", func(t *testing.T) (string, string) {
			database := postgres.Database(t)
			beat(t, database)
			return database, fresh(t)
		},
			[]string{"the source", "by the nodes a-node", "stop them"}},
		{"nodes on the target", func(t *testing.T) (string, string) {
			dir, database := folder(t), postgres.Database(t)
			beat(t, database) // it counts for some seconds
			return dir, database
		},
			[]string{"the target", "by the nodes a-node"}},
		{"no such database", func(t *testing.T) (string, string) {
			return folder(t), strings.Replace(postgres.Database(t), "?", "_not_there?", 1)
		}, []string{"does not exist"}},
		{"nobody listens", func(t *testing.T) (string, string) {
			return folder(t), "postgres://u:the-password@127.0.0.1:1/db?connect_timeout=1"
		},
			[]string{"127.0.0.1", "refused"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			from, to := row.paths(t)
			done, err := CopyRegistry(t.Context(), CopySpec{From: place(t, from), To: place(t, to)})
			if err == nil {
				t.Fatalf("got %+v", done)
			}
			for _, want := range row.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
			if errors.Is(err, alias.ErrUnavailable) && strings.Contains(err.Error(), "empty database") {
				t.Errorf("another database is no remedy: %v", err)
			}
			if strings.Contains(err.Error(), "the-password") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

// TestCopyRegistryNodeStarts: a node that starts during the copy ends it.
func TestCopyRegistryNodeStarts(t *testing.T) {
	t.Parallel()
	database, to := postgres.Database(t), postgres.Database(t)
	if _, err := CopyRegistry(t.Context(), CopySpec{From: place(t, folder(t)), To: place(t, database)}); err != nil {
		t.Fatal(err)
	}
	_, err := CopyRegistry(t.Context(), CopySpec{From: place(t, database), To: place(t, to), step: func(name string) {
		if name == "commit" {
			beat(t, database)
		}
	}})
	if !errors.Is(err, alias.ErrInUse) || !strings.Contains(err.Error(), "a-node") {
		t.Errorf("got %v", err)
	}
	if _, err := CopyRegistry(t.Context(), CopySpec{From: place(t, folder(t)), To: place(t, to)}); err != nil {
		t.Errorf("the target is not empty: %v", err)
	}
}

// TestCopyRegistryKilled: killed at any step, the target is empty and can be used, or it is whole.
func TestCopyRegistryKilled(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	for name, target := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { t.Helper(); return filepath.Join(t.TempDir(), "data") },
		"postgres": func(t *testing.T) string { t.Helper(); return postgres.Database(t) },
	} {
		prepare := func(t *testing.T) []string { t.Helper(); return []string{"copy", dir, target(t)} }
		eachKill(t, 3, prepare, func(t *testing.T, args []string) {
			_, err := CopyRegistry(t.Context(), CopySpec{From: place(t, dir), To: place(t, args[2])})
			if strings.Contains(t.Name(), "killed_at_2") { // after the commit
				if !errors.Is(err, sqlstore.ErrNotEmpty) {
					t.Errorf("%s: got %v", name, err)
				}
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestParsePlace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Place{
		"postgres://u@h/d":         {url: "postgres://u@h/d"},
		"postgresql://h:5433/d":    {url: "postgresql://h:5433/d"},
		"/var/lib/ixmage":          {path: "/var/lib/ixmage"},
		"./a/../registry.db":       {path: "registry.db"},
		"sqlite:/a/b.db":           {path: "/a/b.db"},
		"sqlite:b":                 {path: "b"},
		"sqlite:///a/b.db":         {path: "/a/b.db"},
		"sqlite:postgres://u@h/d":  {},
		"postgres:/a":              {path: "postgres:/a"},
		"":                         {},
		"-":                        {},
		"sqlite:":                  {},
		"sqlite://a":               {},
		"mysql://h/d":              {},
		"file:///a":                {},
		"https://example.com":      {},
		"postgres://u@h:port/d":    {},
		"postgres://h/d?sslmode=x": {},
		"a\x00b":                   {},
	} {
		got, err := ParsePlace(text)
		if got != want || (err == nil) != (want != Place{}) {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]bool{
		"postgres://u:p@h/d": true, "postgres://u:@h/d": true, "postgres://h/d?password=p": true,
		"postgres://u@h/d": false, "/a:b@c": false,
	} {
		if got := place(t, text).HasPassword(); got != want {
			t.Errorf("%q: got %v", text, got)
		}
		if shown := place(t, text).shown(); strings.Contains(shown, ":p@") || strings.Contains(shown, "password") {
			t.Errorf("%q is shown as %q", text, shown)
		}
	}
}

// FuzzParsePlace: no error has a password, and a place is one thing.
func FuzzParsePlace(f *testing.F) {
	const secret = "pa55word-that-nobody-sees"
	for _, text := range []string{
		"postgres://u:SECRET@h/d", "postgres://u:SECRET@h:x/d", "postgres://u:SECRET%zz@h/d", "postgres://h/d?password=SECRET&sslmode=x",
		"postgres://u:SECRET@[::1/d", "postgres:// u:SECRET@h/d", "/var/lib/ixmage", "sqlite:/a", "postgres://u:SECRET@/d?host=/x",
		"postgres://u:\x00SECRET@h/d", "postgres://h/d?sslpassword=SECRET&sslkey=x", "mysql://u:SECRET@h/d", "postgres://u:a@SECRET@h:p/d",
		"postgres://u:SECRET/x@h/d", "postgres://u:SECRET?x@h/d", "postgres://u:x:SECRET@h:1:2/d", "postgres://u:SECRET@h/d?x",
	} {
		f.Add(strings.ReplaceAll(text, "SECRET", secret))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var hidden []string
		if strings.HasPrefix(text, "postgres://") {
			hidden = []string{secret} // of an invalid URL, everything
		}
		if u, err := url.Parse(text); err == nil {
			password, _ := u.User.Password()
			hidden = append(slices.Concat(u.Query()["password"], u.Query()["sslpassword"]), password)
		}
		p, err := ParsePlace(text)
		shown := p.shown()
		if err != nil {
			shown = err.Error()
		}
		for _, h := range hidden {
			if strings.Contains(h, secret) && strings.Contains(shown, h) {
				t.Errorf("%q: got %+v, %v, shown as %q", text, p, err, shown)
			}
		}
		if (p != Place{}) != (err == nil) || p.url != "" && p.path != "" {
			t.Errorf("%q: got %+v, %v", text, p, err)
		}
	})
}
