package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"ixmage/alias"
)

//go:embed migrations/sqlite/*.sql
var sqliteMigrations embed.FS

// sqliteReaders bounds the connections that read. Only the admin API and the start
// read; requests for pictures do not.
const sqliteReaders = 4

// OpenSQLite opens the database file at path, makes it (mode 0600) if there is none, and
// migrates its schema, after a copy to a file beside it (path.before-VERSION). It refuses a
// database of a newer version, a damaged one and any other file, and does not change them.
func OpenSQLite(ctx context.Context, path string) (*Store, error) {
	s, err := openSQLite(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open the registry database %s: %w", path, err)
	}
	return s, nil
}

func openSQLite(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := private(path); err != nil {
		return nil, err
	}
	d, err := sqliteDialect()
	if err != nil {
		return nil, err
	}
	s := &Store{dialect: d}
	if s.writer, err = sql.Open("sqlite", sqliteDSN(path)); err != nil {
		return nil, err
	}
	if s.reader, err = sql.Open("sqlite", sqliteDSN(path)); err != nil {
		return nil, err
	}
	s.dialect.before = func(ctx context.Context, version int64) error {
		return copyBefore(ctx, s.writer, path, version)
	}
	// SQLite has one writer at a time. With one connection, writers queue in
	// database/sql, which is fair and obeys the caller's context; SQLite itself would
	// poll for its lock.
	s.writer.SetMaxOpenConns(1)
	s.reader.SetMaxOpenConns(sqliteReaders)
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func sqliteDialect() (dialect, error) {
	migrations, err := fs.Sub(sqliteMigrations, "migrations/sqlite")
	return dialect{
		goose:      goose.DialectSQLite3,
		migrations: migrations,
		snapshot:   sql.LevelDefault, // SQLite has one level, and the driver refuses any other
		bind:       func(query string) string { return query },
		classify:   classifySQLite,
	}, err
}

// private makes the file with mode 0600, because SQLite would make it with another mode,
// and removes the rights of other users from an existing file. SQLite gives the files
// beside it the same mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return f.Chmod(0o600)
	}
	return nil
}

// sqliteDSN returns the data source name of a file, with the settings of every
// connection.
func sqliteDSN(path string) string {
	u := url.URL{Scheme: "file", Path: path}
	options := url.Values{
		// A write transaction takes its lock at its begin. A transaction that read first
		// and wrote later would fail if another wrote in between.
		"_txlock": {"immediate"},
		"_pragma": {
			"busy_timeout(5000)", // another process, such as a backup, may have the lock
			"journal_mode(WAL)",  // readers do not wait for the writer
			"synchronous(FULL)",  // an answered write survives a power cut
			"foreign_keys(ON)",
			"trusted_schema(OFF)",
		},
		"_defensive": {"1"},
	}
	u.RawQuery = options.Encode()
	return u.String()
}

// classifySQLite uses result codes, because texts are not a contract.
func classifySQLite(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return errUnique
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return errForeign
	}
	switch e.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%w: the file is damaged or is no SQLite database; "+
			"restore it from backup, or move it away to begin with an empty registry: %w", alias.ErrDamaged, err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("%w: another process holds the lock of the registry: %w", alias.ErrUnavailable, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: no space is left for it: %w", alias.ErrUnavailable, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%w: its files cannot be read or written: %w", alias.ErrUnavailable, err)
	case sqlite3.SQLITE_READONLY:
		return fmt.Errorf("%w: it cannot be written; mount its file system, and set its mode, so that ixmage may write: %w",
			alias.ErrUnavailable, err)
	case sqlite3.SQLITE_CANTOPEN:
		// Each new connection opens files.
		return fmt.Errorf("%w: its files cannot be opened: the folder is gone or cannot be written, "+
			"or too many files are open: %w", alias.ErrUnavailable, err)
	}
	return err
}
