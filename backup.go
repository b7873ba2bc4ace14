package main

import (
	"context"
	"os"

	"ixmage/alias/admin"
	"ixmage/alias/datadir"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
)

// backups copies the registry for the admin API.
type backups struct {
	store *sqlstore.Store
	dir   string
	keys  *seal.Keyset
}

// Backup makes a copy in the data folder, and removes its name at once: the file goes when it
// has been sent, or when the process ends.
func (b backups) Backup(ctx context.Context) (*admin.Backup, error) {
	path, err := b.store.Copy(ctx, b.dir, datadir.BackupPattern)
	if err != nil {
		return nil, err
	}
	defer os.Remove(path)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &admin.Backup{
		ReadCloser: f, Size: info.Size(), Keyset: b.keys.Fingerprint(), KeysetPlace: b.keys.Place(),
	}, nil
}
