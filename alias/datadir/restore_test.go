package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/alias/seal"
)

// mark changes a registry, so that it differs from a backup.
func mark(t *testing.T, dir, value string) {
	t.Helper()
	store := openStore(t, dir)
	err := store.Update(t.Context(), func(tx alias.Tx) error {
		return errors.Join(tx.SetMeta("mark", []byte(value)), tx.SetMeta(alias.MetaDiskPurges, []byte("/cache")))
	})
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
}

// marked reads the mark of a registry, empty for none.
func marked(t *testing.T, path string) string {
	t.Helper()
	dir := t.TempDir()
	copyFile(t, path, RegistryPath(dir))
	store := openStore(t, dir)
	defer store.Close()
	value, err := store.Meta(t.Context(), "mark")
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		t.Fatal(err)
	}
	return string(value)
}

func TestRestore(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	mark(t, dir, "backup")
	file := backup(t, dir)
	mark(t, dir, "later")
	for n, kept := range []string{"registry.db.before-restore", "registry.db.before-restore-2"} {
		done, err := Restore(t.Context(), RestoreSpec{File: file, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if done.Aliases != 1 || done.Credentials != 2 || done.Provisioned != 1 || done.Before != filepath.Join(dir, kept) {
			t.Errorf("got %+v", done)
		}
		if got := marked(t, done.Before); got != []string{"later", "backup"}[n] {
			t.Errorf("the registry before is that of %q", got)
		}
		if got := marked(t, RegistryPath(dir)); got != "backup" || !opens(t, dir, "") {
			t.Errorf("the registry is that of %q", got)
		}
		store := openStore(t, dir)
		folder, err := store.Meta(t.Context(), alias.MetaDiskPurges)
		store.Close()
		if err != nil || len(folder) > 0 {
			t.Errorf("the disk cache in %q would not be emptied, %v", folder, err)
		}
		if info, err := os.Stat(RegistryPath(dir)); err != nil || info.Mode() != 0o600 {
			t.Errorf("got %v, %v", info.Mode(), err)
		}
		names(t, dir)
	}
}

// TestRestoreElsewhere: an empty folder with the key set, and none with the key set elsewhere.
func TestRestoreElsewhere(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	file, set := backup(t, dir), filepath.Join(dir, "master.keyset")
	with, without := t.TempDir(), filepath.Join(t.TempDir(), "a", "b")
	copyFile(t, set, filepath.Join(with, "master.keyset"))
	for to, master := range map[string]string{with: "", without: "file:" + set} {
		done, err := Restore(t.Context(), RestoreSpec{File: file, Dir: to, Master: master})
		if err != nil || done.Before != "" || !opens(t, to, master) {
			t.Errorf("%s: got %+v, %v", to, done, err)
		}
	}
	if info, err := os.Stat(without); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v", info, err)
	}
}

// TestRestoreOverDamage: a registry that cannot be read, or whose log alone is there, is
// replaced, and everything of it is kept.
func TestRestoreOverDamage(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		kept  []string
	}{
		{"garbage", func(t *testing.T, path string) {
			write(t, path, strings.Repeat("garbage", 5000))
			write(t, path+"-wal", "a log")
			write(t, path+"-shm", "shared")
		}, []string{"registry.db.before-restore", "registry.db.before-restore-wal"}},
		{"log alone", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			write(t, path+"-wal", "a log")
		}, []string{"registry.db-wal.before-restore"}},
		{"empty", func(t *testing.T, path string) { write(t, path, "") }, []string{"registry.db.before-restore"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			file := backup(t, dir)
			row.spoil(t, RegistryPath(dir))
			if _, err := Restore(t.Context(), RestoreSpec{File: file, Dir: dir}); err != nil {
				t.Fatal(err)
			}
			if list := names(t, dir); list != strings.Join(append([]string{"lock", "master.keyset", "registry.db"}, sorted(row.kept)...), " ") {
				t.Errorf("the folder has %s", list)
			}
			if !opens(t, dir, "") {
				t.Error("the registry does not open")
			}
		})
	}
}

func sorted(list []string) []string {
	if len(list) == 2 && list[0] > list[1] {
		return []string{list[1], list[0]}
	}
	return list
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRestoreAfterRekey: the new key set has the key of older backups.
func TestRestoreAfterRekey(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	file := backup(t, dir)
	next := "file:" + filepath.Join(dir, "new.keyset")
	if _, err := Rekey(t.Context(), RekeySpec{Dir: dir, NewMaster: next}); err != nil {
		t.Fatal(err)
	}
	newer := backup(t, dir)
	if _, err := Restore(t.Context(), RestoreSpec{File: newer, Dir: dir}); err == nil || !strings.Contains(err.Error(), "another key set") {
		t.Errorf("a backup of after, with the old key set: got %v", err)
	}
	for _, f := range []string{file, newer} {
		if _, err := Restore(t.Context(), RestoreSpec{File: f, Dir: dir, Master: next}); err != nil || !opens(t, dir, next) {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// TestRestoreKilled: killed at any step, the folder has the registry of before or the backup,
// also if a crash had left a write-ahead log.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	prepare := func(t *testing.T) []string {
		t.Helper()
		dir := folder(t)
		mark(t, dir, "backup")
		file := backup(t, dir)
		leaveLog(t, dir)
		return []string{"restore", file, dir, ""}
	}
	eachKill(t, 8, prepare, func(t *testing.T, args []string) {
		file, dir := args[1], args[2]
		if got := marked(t, wholeOf(t, dir)); got != "later" && got != "backup" || !opens(t, dir, "") {
			t.Fatalf("the folder has the registry of %q: %s", got, names(t, dir))
		}
		if _, err := Restore(t.Context(), RestoreSpec{File: file, Dir: dir}); err != nil {
			t.Fatalf("again: %v", err)
		}
		if got := marked(t, RegistryPath(dir)); got != "backup" || !opens(t, dir, "") {
			t.Errorf("the registry is that of %q", got)
		}
		if got := marked(t, RegistryPath(dir)+".before-restore"); got != "later" {
			t.Errorf("the registry before is that of %q", got)
		}
		if strings.Contains(names(t, dir), "tmp") {
			t.Errorf("left behind: %s", names(t, dir))
		}
	})
}

// leaveLog changes the registry as a server that is killed: the change is in the write-ahead
// log alone.
func leaveLog(t *testing.T, dir string) {
	t.Helper()
	store := openStore(t, dir)
	err := store.Update(t.Context(), func(tx alias.Tx) error { return tx.SetMeta("mark", []byte("later")) })
	if err != nil {
		t.Fatal(err)
	}
	path, aside := RegistryPath(dir), t.TempDir()
	for _, suffix := range []string{"", "-wal"} {
		copyFile(t, path+suffix, filepath.Join(aside, "registry.db"+suffix))
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		copyFile(t, filepath.Join(aside, "registry.db"+suffix), path+suffix)
	}
}

// wholeOf opens and closes the registry, which moves its log into it.
func wholeOf(t *testing.T, dir string) string {
	t.Helper()
	if err := openStore(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	return RegistryPath(dir)
}

func TestRestoreRefused(t *testing.T) {
	t.Parallel()
	other := folder(t)
	file := func(text string) func(*testing.T, string) RestoreSpec {
		return func(t *testing.T, dir string) RestoreSpec {
			path := filepath.Join(t.TempDir(), "file")
			write(t, path, text)
			return RestoreSpec{File: path, Dir: dir}
		}
	}
	for _, row := range []struct {
		name  string
		spec  func(t *testing.T, dir string) RestoreSpec
		wants []string
	}{
		{"no file", func(_ *testing.T, dir string) RestoreSpec { return RestoreSpec{File: dir + "/none", Dir: dir} }, []string{"none: no such file"}},
		{"a folder", func(_ *testing.T, dir string) RestoreSpec { return RestoreSpec{File: dir, Dir: dir} }, []string{"is a directory"}},
		{"an empty file", file(""), []string{"is not a registry of ixmage", "ixmage backup"}},
		{"another file", file(strings.Repeat("text ", 5000)), []string{"is not a registry of ixmage"}},
		{"another database", func(t *testing.T, dir string) RestoreSpec {
			path := filepath.Join(t.TempDir(), "db")
			execRaw(t, path, `CREATE TABLE things (id INTEGER)`)
			return RestoreSpec{File: path, Dir: dir}
		}, []string{"is not a registry of ixmage"}},
		{"a newer version", func(t *testing.T, dir string) RestoreSpec {
			path := backup(t, dir)
			execRaw(t, path, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`)
			return RestoreSpec{File: path, Dir: dir}
		}, []string{"schema version 999", "newer ixmage", "run that one"}},
		{"cut", func(t *testing.T, dir string) RestoreSpec {
			path := backup(t, dir)
			text := read(t, path)
			write(t, path, string(text[:len(text)/2]))
			return RestoreSpec{File: path, Dir: dir}
		}, []string{"is damaged", "another backup"}},
		{"a page overwritten", func(t *testing.T, dir string) RestoreSpec {
			path := backup(t, dir)
			text := read(t, path)
			copy(text[5*4096:], strings.Repeat("x", 4096))
			write(t, path, string(text))
			return RestoreSpec{File: path, Dir: dir}
		}, []string{"is damaged", "another backup"}},
		{"an alias without its credential", func(t *testing.T, dir string) RestoreSpec {
			path := backup(t, dir)
			execRaw(t, path, `PRAGMA foreign_keys = OFF; DELETE FROM credentials WHERE name = 'shop'`)
			return RestoreSpec{File: path, Dir: dir}
		}, []string{"is damaged", "1 rows refer"}},
		{"with a log beside it", func(t *testing.T, dir string) RestoreSpec {
			path := backup(t, dir)
			write(t, path+"-wal", "log")
			return RestoreSpec{File: path, Dir: dir}
		}, []string{"write-ahead log beside it", "ixmage backup"}},
		{"of another key set", func(t *testing.T, dir string) RestoreSpec {
			return RestoreSpec{File: backup(t, other), Dir: dir}
		}, []string{"sealed with another key set (fingerprint ", "master.keyset, which has the fingerprint", "--master-key"}},
		{"of another key set, before there were fingerprints", func(t *testing.T, dir string) RestoreSpec {
			path := backup(t, other)
			execRaw(t, path, `DELETE FROM meta WHERE key = 'keyset'`)
			return RestoreSpec{File: path, Dir: dir}
		}, []string{"sealed with another key set than"}},
		{"key set missing", func(t *testing.T, dir string) RestoreSpec {
			return RestoreSpec{File: backup(t, dir), Dir: dir, Master: "file:" + dir + "/none"}
		}, []string{"needs its key set (fingerprint ", "none is missing"}},
		{"no folder, and no key set", func(t *testing.T, dir string) RestoreSpec {
			return RestoreSpec{File: backup(t, dir), Dir: dir + "/new"}
		}, []string{"needs its key set", "is missing"}},
		{"in use", func(t *testing.T, dir string) RestoreSpec {
			file := backup(t, dir)
			unlock, err := Lock(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(unlock)
			return RestoreSpec{File: file, Dir: dir}
		}, []string{"in use by another ixmage", "stop it"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			spec := row.spec(t, dir)
			_, err := Restore(t.Context(), spec)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, w := range row.wants {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want %q in it", err, w)
				}
			}
			if list := names(t, dir); list != "lock master.keyset registry.db" && list != "master.keyset registry.db" {
				t.Errorf("the folder has %s", list)
			}
			if row.name != "in use" && !opens(t, dir, "") {
				t.Error("the registry does not open any more")
			}
		})
	}
}

// TestRestoreWithoutSecrets: a registry without secrets needs no key set.
func TestRestoreWithoutSecrets(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	if err := openStore(t, from).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), RestoreSpec{File: backup(t, from), Dir: to}); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Open(t.Context(), seal.Spec{Dir: to, Fresh: true}); err != nil {
		t.Error(err)
	}
}
