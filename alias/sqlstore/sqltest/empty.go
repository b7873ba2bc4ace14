// Package sqltest helps tests that need many registries.
package sqltest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"ixmage/alias/sqlstore"
)

// Empty returns the file of a new registry, which is made once: to migrate one for each test
// takes too long. The caller must not change it.
var Empty = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "ixmage-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "registry.db")
	store, err := sqlstore.OpenSQLite(context.Background(), path)
	if err != nil {
		return nil, err
	}
	if err := store.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// Open opens a new registry in a file that does not exist: a copy of Empty. It is closed with the test.
func Open(t testing.TB, path string) *sqlstore.Store {
	t.Helper()
	empty, err := Empty()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, empty, 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := sqlstore.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}
