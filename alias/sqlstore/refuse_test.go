package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
)

// execRaw changes a database behind the store's back.
func execRaw(t *testing.T, path, query string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", sqliteDSN(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// someCredential is a credential to fill databases with.
func someCredential(id int64, name alias.Name) *alias.Credential {
	return &alias.Credential{
		ID: id, Name: name, Provider: alias.Static{AccessKeyID: "AKIAEXAMPLE"}, Sealed: make([]byte, 64),
		Version: 1, State: alias.CredentialActive, Revision: 1,
	}
}

// makeDatabase leaves a closed database with n credentials.
func makeDatabase(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registry.db")
	s, err := OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx alias.Tx) error {
		for i := range n {
			if err := tx.InsertCredential(someCredential(int64(i+1), alias.Name("c"+strings.Repeat("x", i%50)+string(rune('a'+i/50))))); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenSQLiteRefuses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		path func(t *testing.T) string
		want []string
	}{
		{
			name: "newer version",
			path: func(t *testing.T) string {
				path := makeDatabase(t, 1)
				execRaw(t, path, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`)
				return path
			},
			want: []string{"schema version 999", "versions up to ", "newer ixmage", "run that one", "backup"},
		},
		{
			name: "text file",
			path: func(t *testing.T) string {
				path := filepath.Join(t.TempDir(), "registry.db")
				write(t, path, []byte(strings.Repeat("this is no database\n", 500)))
				return path
			},
			want: []string{"no SQLite database", "backup"},
		},
		{
			name: "short text file",
			path: func(t *testing.T) string {
				path := filepath.Join(t.TempDir(), "registry.db")
				write(t, path, []byte("short"))
				return path
			},
			want: []string{"no SQLite database", "backup"},
		},
		{
			name: "truncated in the middle",
			path: func(t *testing.T) string {
				path := makeDatabase(t, 200)
				truncate(t, path, 2)
				return path
			},
			want: []string{"damaged", "backup"},
		},
		{
			name: "truncated to less than a header",
			path: func(t *testing.T) string {
				path := makeDatabase(t, 1)
				if err := os.Truncate(path, 40); err != nil {
					t.Fatal(err)
				}
				return path
			},
			want: []string{"damaged", "backup"},
		},
		{
			name: "folder",
			path: func(t *testing.T) string { return t.TempDir() },
			want: []string{"is a directory"},
		},
		{
			name: "folder that is not there",
			path: func(t *testing.T) string { return filepath.Join(t.TempDir(), "none", "registry.db") },
			want: []string{"no such file or directory"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			path := row.path(t)
			before, _ := os.ReadFile(path)
			s, err := OpenSQLite(t.Context(), path)
			if err == nil {
				s.Close()
				t.Fatal("got no error")
			}
			for _, want := range append(row.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the refused file was changed")
			}
		})
	}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// truncate leaves the first 1/n of a file.
func truncate(t *testing.T, path string, n int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()/n/4096*4096); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownKind(t *testing.T) {
	t.Parallel()
	path := makeDatabase(t, 1)
	execRaw(t, path, `UPDATE credentials SET kind = 'future'`)
	s := openTest(t, path)
	_, err := s.Load(t.Context(), func(*alias.Credential) error { return nil }, func(*alias.Alias) error { return nil })
	if err == nil || !strings.Contains(err.Error(), `kind "future"`) || !strings.Contains(err.Error(), "newer ixmage") {
		t.Errorf("Load: got %v, want an error about the kind and a newer version", err)
	}
}

// TestFilesArePrivate looks while the store is open, when the files beside the
// database exist.
func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		mode fs.FileMode // of a file that is there already; 0 for none
	}{
		{"new", 0},
		{"loose", 0o644},
		{"right", 0o600},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a folder?with #odd %41 name.db")
			if row.mode != 0 {
				write(t, path, nil)
				if err := os.Chmod(path, row.mode); err != nil {
					t.Fatal(err)
				}
			}
			s := openTest(t, path)
			if err := s.Update(t.Context(), func(tx alias.Tx) error { return tx.InsertCredential(someCredential(1, "c")) }); err != nil {
				t.Fatal(err)
			}
			for _, suffix := range []string{"", "-wal", "-shm"} {
				info, err := os.Stat(path + suffix)
				if err != nil {
					t.Errorf("stat: %v", err)
				} else if info.Mode().Perm() != 0o600 {
					t.Errorf("%s: got mode %v, want 0600", info.Name(), info.Mode().Perm())
				}
			}
		})
	}
}

// TestEveryConnectionIsDurable reads the pragmas of connections of both pools, because
// no other test would fail without them.
func TestEveryConnectionIsDurable(t *testing.T) {
	t.Parallel()
	s := openTest(t, filepath.Join(t.TempDir(), "registry.db"))
	for _, row := range []struct{ pragma, want string }{
		{"journal_mode", "wal"},
		{"synchronous", "2"},
		{"foreign_keys", "1"},
		{"busy_timeout", "5000"},
	} {
		for name, db := range map[string]*sql.DB{"reader": s.reader, "writer": s.writer} {
			var got string
			if err := db.QueryRowContext(t.Context(), "PRAGMA "+row.pragma).Scan(&got); err != nil || got != row.want {
				t.Errorf("%s: %s: got %q, %v, want %q", name, row.pragma, got, err, row.want)
			}
		}
	}
}

// TestWriterWaitsForAnotherProcess opens the file twice, as another process
// would. The first holds the lock until the second is known to have asked.
func TestWriterWaitsForAnotherProcess(t *testing.T) {
	t.Parallel()
	path := makeDatabase(t, 0)
	a, b := openTest(t, path), openTest(t, path)
	pragma(t, b, "busy_timeout(60000)") // the machine may be busy too
	locked, unlock, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- a.Update(t.Context(), func(tx alias.Tx) error {
			close(locked)
			<-unlock
			return tx.InsertCredential(someCredential(1, "a"))
		})
	}()
	<-locked
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error)
	go func() { refused <- b.Update(ctx, func(alias.Tx) error { return nil }) }()
	cancel() // a writer that waits, or is about to, gives up with its context
	if err := <-refused; !errors.Is(err, context.Canceled) {
		t.Errorf("Update while locked: got %v, want context.Canceled", err)
	}
	go func() {
		done <- b.Update(t.Context(), func(tx alias.Tx) error { return tx.InsertCredential(someCredential(2, "b")) })
	}()
	close(unlock)
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("Update: %v", err)
		}
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	t.Parallel()
	path := makeDatabase(t, 3)
	for range 2 {
		s, err := OpenSQLite(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		list, err := s.Credentials(t.Context(), "", 10)
		if len(list) != 3 {
			t.Errorf("got %d credentials, %v, want 3", len(list), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnwritable: root can write every file, so a folder in place of the log file makes
// the writes fail.
func TestUnwritable(t *testing.T) {
	t.Parallel()
	path := makeDatabase(t, 1)
	if err := os.MkdirAll(path+"-wal", 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSQLite(t.Context(), path)
	if err == nil {
		s.Close()
		t.Fatal("got no error")
	}
	if !strings.Contains(err.Error(), "cannot be written") {
		t.Errorf("got %v, want an error that says what cannot be written", err)
	}
}
