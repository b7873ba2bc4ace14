// Package sqlstore keeps the registry in an SQL database. What differs between
// databases is in a dialect; everything else is written once.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"ixmage/alias"
)

// dialect is what one database does its own way.
type dialect struct {
	goose      goose.Dialect
	migrations fs.FS
	// snapshot is the weakest level at which two queries see the same moment.
	snapshot sql.IsolationLevel
	// bind turns the ? of a query into the database's own placeholders.
	bind func(query string) string
	// classify turns a driver's error into errUnique or errForeign where it is
	// one of these, wraps what a user can do something about, and leaves the rest.
	classify func(error) error
}

// Violations of constraints, which mean different things for different
// statements.
var (
	errUnique  = errors.New("unique constraint")
	errForeign = errors.New("foreign key constraint")
)

// Store is an alias.Store. Updates run one after the other where the database
// allows only one writer; reads go on beside them.
type Store struct {
	dialect dialect
	reader  *sql.DB
	writer  *sql.DB // the reader itself where many may write
}

var _ alias.Store = (*Store)(nil)

// Close ends all connections. Calls after it fail.
func (s *Store) Close() error { return errors.Join(s.writer.Close(), s.reader.Close()) }

// migrate brings the schema up to the version that this program knows, and
// refuses a database that is beyond it.
func (s *Store) migrate(ctx context.Context) error {
	p, err := goose.NewProvider(s.dialect.goose, s.writer, s.dialect.migrations,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	current, known, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version: %w", s.dialect.classify(err))
	}
	if current > known {
		return fmt.Errorf("the database has schema version %d and this ixmage knows versions up to %d: "+
			"a newer ixmage wrote it; run that one, or restore the backup made before the upgrade", current, known)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate from schema version %d to %d: %w", current, known, s.dialect.classify(err))
	}
	return nil
}

// Load reads everything in one consistent view.
func (s *Store) Load(
	ctx context.Context, credential func(*alias.Credential) error, use func(*alias.Alias) error,
) error {
	tx, err := s.reader.BeginTx(ctx, &sql.TxOptions{Isolation: s.dialect.snapshot, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin: %w", s.dialect.classify(err))
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	q := querier{ctx: ctx, db: tx, dialect: s.dialect}
	for c, err := range each(q, scanCredential, selectCredentials) {
		if err == nil {
			err = credential(c)
		}
		if err != nil {
			return err
		}
	}
	for a, err := range each(q, scanAlias, selectAliases) {
		if err == nil {
			err = use(a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read runs queries outside of a transaction.
func (s *Store) read(ctx context.Context) querier {
	return querier{ctx: ctx, db: s.reader, dialect: s.dialect}
}

// Alias reads one alias: alias.ErrNotFound when there is none.
func (s *Store) Alias(ctx context.Context, name alias.Name) (*alias.Alias, error) {
	return s.read(ctx).alias(name)
}

// Credential reads one credential: alias.ErrNotFound when there is none.
func (s *Store) Credential(ctx context.Context, name alias.Name) (*alias.Credential, error) {
	return s.read(ctx).credential(name)
}

// Aliases reads at most limit aliases with names above after, by name.
func (s *Store) Aliases(ctx context.Context, after alias.Name, limit int) ([]*alias.Alias, error) {
	const query = selectAliases + ` WHERE a.name > ? ORDER BY a.name LIMIT ?`
	return collect(s.read(ctx), scanAlias, query, string(after), max(limit, 0))
}

// Credentials reads at most limit credentials with names above after, by name.
func (s *Store) Credentials(ctx context.Context, after alias.Name, limit int) ([]*alias.Credential, error) {
	const query = selectCredentials + ` WHERE name > ? ORDER BY name LIMIT ?`
	return collect(s.read(ctx), scanCredential, query, string(after), max(limit, 0))
}

// AliasesOf names the aliases that use a credential, sorted.
func (s *Store) AliasesOf(ctx context.Context, credentialID int64) ([]alias.Name, error) {
	return s.read(ctx).aliasesOf(credentialID)
}

// CountSealed says how many credentials hold a sealed value.
func (s *Store) CountSealed(ctx context.Context) (int, error) {
	return s.read(ctx).countSealed()
}

// Meta reads a setting: alias.ErrNotFound when it was never set.
func (s *Store) Meta(ctx context.Context, key string) ([]byte, error) {
	return s.read(ctx).meta(key)
}
