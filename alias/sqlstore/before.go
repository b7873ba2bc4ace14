package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"ixmage/internal/durable"
)

// copyBefore copies the database file at path, which writer has open, to a file of mode
// 0600 beside it before a migration to a schema version: older programs refuse the migrated
// one. It replaces a copy of an earlier start that was interrupted.
func copyBefore(ctx context.Context, writer *sql.DB, path string, version int64) error {
	to := fmt.Sprintf("%s.before-%d", path, version)
	temp, err := vacuumInto(ctx, writer, filepath.Dir(path), filepath.Base(to)+".tmp-*")
	if err == nil {
		if err = os.Rename(temp, to); err != nil {
			os.Remove(temp)
		}
	}
	if err != nil {
		return fmt.Errorf("copy the registry to %s before its migration: %w; make room for it, or make the folder writable",
			to, classifySQLite(err))
	}
	return durable.SyncDir(filepath.Dir(path))
}
