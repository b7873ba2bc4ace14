package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"

	"ixmage/alias"
)

// Copy makes a consistent copy of the database in a new file of mode 0600 in a folder, and
// returns its path. Other calls, writes too, go on meanwhile.
func (s *Store) Copy(ctx context.Context, dir, pattern string) (string, error) {
	path, err := vacuumInto(ctx, s.reader, dir, pattern)
	if err != nil {
		return "", fmt.Errorf("copy the registry: %w", s.dialect.classify(err))
	}
	return path, nil
}

// vacuumInto copies the database, with the pages that are still in the write-ahead log.
func vacuumInto(ctx context.Context, db *sql.DB, dir, pattern string) (string, error) {
	f, err := os.CreateTemp(dir, pattern) // of mode 0600
	if err != nil {
		return "", fmt.Errorf("%w: %w", alias.ErrUnavailable, err)
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, f.Name()) // SQLite fills an empty file
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// ErrNoRegistry means that a file is not a registry.
var ErrNoRegistry = errors.New("it is not a registry")

// Copied describes a copy of a registry.
type Copied struct {
	Version                           int64 // of its schema
	Aliases, Credentials, Provisioned int
	Sealed                            int    // credentials with a sealed value
	Keyset                            string // the fingerprint of its key set; empty before there were fingerprints
	KeyCheck                          []byte // nil: there is none
}

// Inspect checks a copy that no process uses, and changes nothing of it: ErrNoRegistry, or
// alias.ErrDamaged. It refuses a schema of a newer version.
func Inspect(ctx context.Context, path string) (*Copied, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := hasMagic(path); err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"mode": {"ro"}, "immutable": {"1"}, "_pragma": {"trusted_schema(OFF)"}, "_defensive": {"1"},
	}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	defer db.Close()
	d := dialect{bind: func(query string) string { return query }, classify: classifySQLite}
	q := querier{ctx: ctx, db: db, dialect: d}
	tables, err := one(q, scanValue[int], `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN
		('goose_db_version', 'aliases', 'credentials', 'meta')`)
	if err != nil {
		return nil, err
	}
	if tables < 4 {
		return nil, ErrNoRegistry
	}
	if err := intact(q); err != nil {
		return nil, err
	}
	return q.describe()
}

// hasMagic looks at the first bytes of a file.
func hasMagic(path string) error {
	const magic = "SQLite format 3\x00"
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f, head); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if string(head) != magic {
		return ErrNoRegistry
	}
	return nil
}

// intact has SQLite check every page and every reference.
func intact(q querier) error {
	found, err := collect(q, scanValue[string], `PRAGMA integrity_check(5)`)
	if err == nil && len(found) == 1 && found[0] == "ok" {
		var lost int
		if lost, err = one(q, scanValue[int], `SELECT count(*) FROM pragma_foreign_key_check`); err == nil && lost == 0 {
			return nil
		}
		found = []string{fmt.Sprintf("%d rows refer to rows that are not there", lost)}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", alias.ErrDamaged, err)
	}
	return fmt.Errorf("%w: %s", alias.ErrDamaged, strings.Join(found, "; "))
}

func (q querier) describe() (*Copied, error) {
	var c Copied
	known, err := sqliteVersion()
	if err != nil {
		return nil, err
	}
	const version = `SELECT max(version_id) FROM goose_db_version WHERE is_applied`
	if c.Version, err = one(q, scanValue[int64], version); err != nil {
		return nil, err
	}
	if c.Version > known {
		return nil, newerSchema(c.Version, known)
	}
	for query, n := range map[string]*int{
		`SELECT count(*) FROM aliases`:                                &c.Aliases,
		`SELECT count(*) FROM credentials`:                            &c.Credentials,
		`SELECT count(*) FROM credentials WHERE sealed IS NOT NULL`:   &c.Sealed,
		`SELECT count(*) FROM credentials WHERE kind = 'provisioned'`: &c.Provisioned,
	} {
		if *n, err = one(q, scanValue[int], query); err != nil {
			return nil, err
		}
	}
	fingerprint, err := q.optional(alias.MetaKeyset)
	if err != nil {
		return nil, err
	}
	c.Keyset = string(fingerprint)
	c.KeyCheck, err = q.optional(alias.MetaKeyCheck)
	return &c, err
}

// sqliteVersion is the version of the last migration.
func sqliteVersion() (int64, error) {
	list, err := sqliteMigrations.ReadDir("migrations/sqlite") // sorted by name
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(list[len(list)-1].Name())
}

// optional reads a setting, nil if it was never set.
func (q querier) optional(key string) ([]byte, error) {
	value, err := q.meta(key)
	if errors.Is(err, alias.ErrNotFound) {
		return nil, nil
	}
	return value, err
}

// EmptyDiskCache notes in a copy, which no process uses, that the next server must empty its
// disk cache: purges after the copy was made are unknown to it.
func EmptyDiskCache(ctx context.Context, path string) error {
	return inPlace(ctx, path, `UPDATE meta SET value = x'' WHERE key = '`+alias.MetaDiskPurges+`'`)
}

// Flatten moves what the write-ahead log of a database has into the database, and removes
// the log. No process uses the database. It returns alias.ErrDamaged for a file that SQLite
// cannot read; of one that is no database SQLite would delete the log, so it is not opened.
func Flatten(ctx context.Context, path string) error {
	if err := hasMagic(path); errors.Is(err, ErrNoRegistry) {
		return fmt.Errorf("%w: %w", alias.ErrDamaged, err)
	} else if err != nil {
		return err
	}
	return inPlace(ctx, path, `PRAGMA wal_checkpoint(TRUNCATE)`)
}

// inPlace runs a statement, and leaves the database in one file.
func inPlace(ctx context.Context, path, statement string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", sqliteDSN(path))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	if _, err = db.ExecContext(ctx, statement); err == nil {
		var mode string
		err = db.QueryRowContext(ctx, `PRAGMA journal_mode = DELETE`).Scan(&mode)
		if err == nil && mode != "delete" {
			err = fmt.Errorf("%w: another process uses it", alias.ErrUnavailable)
		}
	}
	return classifySQLite(errors.Join(err, db.Close()))
}
