package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// Copy makes a consistent copy of the registry in a new SQLite file of mode 0600 in a folder,
// as Store.Copy does.
func (p *Postgres) Copy(ctx context.Context, dir, pattern string) (path string, err error) {
	f, err := os.CreateTemp(dir, pattern) // of mode 0600
	if err != nil {
		return "", fmt.Errorf("%w: %w", alias.ErrUnavailable, err)
	}
	defer func() {
		if err != nil {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				os.Remove(f.Name() + suffix)
			}
			err = fmt.Errorf("copy the registry: %w", err)
		}
	}()
	if err := f.Close(); err != nil {
		return "", err
	}
	to, err := OpenSQLite(ctx, f.Name())
	if err != nil {
		return "", err
	}
	_, failed := RegistryCopy{From: &p.Store, To: to}.Run(ctx)
	if err := errors.Join(failed, to.Close()); err != nil {
		return "", err
	}
	return f.Name(), Flatten(ctx, f.Name())
}

// ErrNoRegistry means that a file is not a registry.
var ErrNoRegistry = errors.New("it is not a registry")

// Copied describes a copy of a registry.
type Copied struct {
	Version                           int64 // of its schema
	Aliases, Credentials, Provisioned int
	Sealed                            int    // credentials and aliases with a sealed value
	Keyset                            string // the fingerprint of its key set; empty before there were fingerprints
	KeyCheck                          []byte // nil: there is none
}

// Inspect checks a copy that no process uses, and changes nothing of it: ErrNoRegistry, or
// alias.ErrDamaged. It refuses a schema of a newer version.
func Inspect(ctx context.Context, path string) (*Copied, error) {
	s, err := openReadOnly(path, url.Values{"immutable": {"1"}})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	q := s.read(ctx)
	if err := q.isRegistry(); err != nil {
		return nil, err
	}
	if err := intact(q); err != nil {
		return nil, err
	}
	return q.describe()
}

// openReadOnly opens an existing file: ErrNoRegistry if it is not of SQLite.
func openReadOnly(path string, options url.Values) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := hasMagic(path); err != nil {
		return nil, err
	}
	options.Set("mode", "ro")
	options.Set("_defensive", "1")
	options["_pragma"] = []string{"trusted_schema(OFF)", "busy_timeout(5000)"}
	u := url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	d, err := sqliteDialect()
	return &Store{dialect: d, reader: db, writer: db}, err
}

// isRegistry returns ErrNoRegistry if the database has not the tables of the first version.
func (q querier) isRegistry() error {
	for _, name := range []string{"goose_db_version", "aliases", "credentials", "meta"} {
		there, err := q.hasTable(name)
		if err != nil {
			return err
		}
		if !there {
			return ErrNoRegistry
		}
	}
	return nil
}

// ReadSQLite opens an existing registry, to read it only. It returns ErrNoRegistry for another
// file, and refuses a registry that is not of the schema of this program, because to migrate
// it would change the file.
func ReadSQLite(ctx context.Context, path string) (*Store, error) {
	s, err := openReadOnly(path, url.Values{})
	if err != nil {
		return nil, err
	}
	if err := s.isCurrent(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// RefuseFile returns ErrNotEmpty for a file that has content of a registry, and ErrNoRegistry for
// one that is not a registry. A file that does not exist or is empty can become one.
func RefuseFile(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	s, err := openReadOnly(path, url.Values{})
	if err != nil {
		return err
	}
	defer s.Close()
	tables, err := one(s.read(ctx), scanValue[int], `SELECT count(*) FROM sqlite_schema WHERE type = 'table'`)
	if err != nil || tables == 0 {
		return err
	}
	migrated, err := s.read(ctx).hasTable("goose_db_version")
	if err == nil && !migrated {
		err = ErrNoRegistry
	}
	if err != nil {
		return err
	}
	return s.RefuseContent(ctx) // the first start may have been killed, so tables may be missing
}

// isCurrent returns nil if the database has a registry of the schema of this program, and
// ErrNoRegistry if it has none.
func (s *Store) isCurrent(ctx context.Context) error {
	q := s.read(ctx)
	if err := q.isRegistry(); err != nil {
		return err
	}
	has, known, err := q.versions()
	if err == nil && has < known {
		err = fmt.Errorf("the registry has schema version %d and this ixmage copies version %d: "+
			"start and stop this ixmage on it once, which migrates it", has, known)
	}
	return err
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

// schemaOfSigningKeys is the first version of the SQLite schema in which aliases have sealed values.
const schemaOfSigningKeys = 9

func (q querier) describe() (*Copied, error) {
	var c Copied
	var err error
	if c.Version, _, err = q.versions(); err != nil {
		return nil, err
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
	if c.Version >= schemaOfSigningKeys {
		if c.Sealed, err = q.countSealed(); err != nil {
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

// versions reads the version of the schema, and returns that of the last migration. It refuses
// a schema of a newer version.
func (q querier) versions() (has, known int64, err error) {
	list, err := fs.ReadDir(q.dialect.migrations, ".") // sorted by name
	if err != nil {
		return 0, 0, err
	}
	if known, err = goose.NumericComponent(list[len(list)-1].Name()); err != nil {
		return 0, 0, err
	}
	has, err = one(q, scanValue[int64], `SELECT max(version_id) FROM goose_db_version WHERE is_applied`)
	if err == nil && has > known {
		err = newerSchema(has, known)
	}
	return has, known, err
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
