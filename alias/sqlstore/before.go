package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// copyBefore copies the database file at path, which writer has open, to a file of mode
// 0600 beside it before a migration to a schema version: older programs refuse the migrated
// one. It replaces a copy of an earlier start that was interrupted.
func copyBefore(ctx context.Context, writer *sql.DB, path string, version int64) error {
	to := fmt.Sprintf("%s.before-%d", path, version)
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(to)+".tmp-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("copy the registry to %s before its migration: %w", to, err)
	}
	// SQLite fills an empty file. The copy includes the pages that are still in the
	// write-ahead log.
	_, err = writer.ExecContext(ctx, `VACUUM INTO ?`, f.Name())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), to)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("copy the registry to %s before its migration: %w; make room for it, or make the folder writable",
			to, classifySQLite(err))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the entries of a folder durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
