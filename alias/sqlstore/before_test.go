package sqlstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoCopy: a new registry, and one of this version, is not copied.
func TestNoCopy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.db")
	for range 2 {
		if err := openTest(t, path).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if files, _ := filepath.Glob(path + ".before-*"); len(files) > 0 {
		t.Errorf("got %q", files)
	}
}

// TestCopyFails: a registry that cannot be copied is not migrated.
func TestCopyFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "registry.db")
	text, err := os.ReadFile(filepath.Join("testdata", "v0", "registry.sql"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, nil)
	execRaw(t, path, "PRAGMA foreign_keys = OFF;\n"+string(text))
	if err := os.MkdirAll(copyPath(path)+"/in-the-way", 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := OpenSQLite(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), "before its migration") {
			t.Fatalf("got %v, want a refusal", err)
		}
	}
	if err := os.RemoveAll(copyPath(path)); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, path)
	wantCopy(t, s, 3, 4) // of the old schema: nothing was migrated before
}
