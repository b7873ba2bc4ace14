// Package sqltest helps tests that need many registries.
package sqltest

import (
	"context"
	"os"
	"path/filepath"
	"sync"

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
