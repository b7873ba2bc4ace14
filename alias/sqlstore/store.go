// Package sqlstore keeps the registry in an SQL database. A dialect has the differences
// between databases.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"

	"ixmage/alias"
)

// dialect has the properties of one database.
type dialect struct {
	goose      goose.Dialect
	migrations fs.FS
	// before, if it is set, is called before a migration of existing tables to a version.
	before func(ctx context.Context, version int64) error
	// snapshot is the weakest isolation level at which two queries see the same state.
	snapshot sql.IsolationLevel
	// bind replaces the ? of a query with the placeholders of the database.
	bind func(query string) string
	// classify returns errUnique or errForeign for a violated constraint, wraps an error
	// that an operator can act on, and returns any other error unchanged.
	classify func(error) error

	// timeout bounds each call, if it is not 0. A database on a network may not answer.
	timeout time.Duration
	// answers, if it is not nil, asks the database for an answer. A call that takes longer than
	// patience has it asked, and has answerTime for it; an answer lets the call go on, since it may
	// wait for another writer.
	answers              func(ctx context.Context) error
	patience, answerTime time.Duration
	// shared, if it is not nil, means that other processes use the database: it has a log. It
	// is false until the schema is known to be the one of this program.
	shared *atomic.Bool
	// turn, if it is not nil, holds a token while a write of this process runs. Otherwise writes
	// that wait for the lock of the head could have all connections, while the one that has the
	// lock needs another to read.
	turn chan struct{}
}

// usable returns an error while the schema is unknown.
func (d dialect) usable() error {
	if d.shared != nil && !d.shared.Load() {
		return fmt.Errorf("%w: it has not answered since the start", alias.ErrUnavailable)
	}
	return nil
}

// bound bounds a call. Calls within a call have its bound.
func (d dialect) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Value(boundKey{}).(bool); bounded || d.timeout == 0 {
		return ctx, func() {}
	}
	ctx, cancel := context.WithTimeoutCause(context.WithValue(ctx, boundKey{}, true), d.timeout, ErrSilent)
	if d.answers == nil {
		return ctx, cancel
	}
	ctx, end := context.WithCancelCause(ctx)
	asked := make(chan struct{})
	ask := time.AfterFunc(d.patience, func() { defer close(asked); d.ask(ctx, end) })
	return ctx, sync.OnceFunc(func() {
		end(nil)
		cancel()
		if !ask.Stop() {
			<-asked
		}
	})
}

type boundKey struct{}

// ask ends a call when the database, asked every now and then, does not answer. An error is an
// answer: the call gets its own.
func (d dialect) ask(ctx context.Context, end context.CancelCauseFunc) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, d.answerTime)
		err := d.answers(try)
		silent := err != nil && try.Err() != nil
		cancel()
		if silent {
			end(ErrSilent)
			return
		}
		rest := time.NewTimer(d.patience)
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
		rest.Stop()
	}
}

// failed classifies the error of a call with a context of bound.
func (d dialect) failed(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), ErrSilent) {
		return fmt.Errorf("%w: %w", alias.ErrUnavailable, ErrSilent)
	}
	return d.classify(err)
}

// begin is failed for the begin of a transaction. A connection may have ended in the pool, unnoticed;
// then another one may work.
func (d dialect) begin(ctx context.Context, err error) error {
	_, dialled := errors.AsType[*pgconn.ConnectError](err)
	if err = d.failed(ctx, err); errors.Is(err, alias.ErrUnavailable) && !dialled && d.timeout > 0 && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", errRepeat, err)
	}
	return err
}

// ErrSilent means that the database does not answer, in contrast to one that refuses.
var ErrSilent = errors.New("it does not answer")

// errRepeat means that the transaction must be repeated.
var errRepeat = errors.New("the transaction must be repeated")

// Violations of constraints; their meaning depends on the statement.
var (
	errUnique  = errors.New("unique constraint")
	errForeign = errors.New("foreign key constraint")
)

// Store is an alias.Store. If the database allows only one writer, updates run one after
// the other; reads run concurrently.
type Store struct {
	dialect dialect
	reader  *sql.DB
	writer  *sql.DB   // the reader, if the database allows many writers
	conn    *sql.Conn // of all write transactions; nil: any of writer
}

var _ alias.Store = (*Store)(nil)

// Close ends all connections. Calls after it fail.
func (s *Store) Close() error { return errors.Join(s.writer.Close(), s.reader.Close()) }

// migrate migrates the schema to the version of this program, and refuses a database
// with a newer version.
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
		return newerSchema(current, known)
	}
	if 0 < current && current < known && s.dialect.before != nil {
		if err := s.dialect.before(ctx, known); err != nil {
			return err
		}
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate from schema version %d to %d: %w", current, known, s.dialect.classify(err))
	}
	return nil
}

func newerSchema(current, known int64) error {
	return fmt.Errorf("the database has schema version %d and this ixmage knows versions up to %d: "+
		"a newer ixmage wrote it; run that one, or restore the backup made before the upgrade", current, known)
}

// Load reads everything in one consistent view.
func (s *Store) Load(
	ctx context.Context, credential func(*alias.Credential) error, use func(*alias.Alias) error,
) (alias.Position, error) {
	d := s.dialect
	d.timeout *= 8 // it is a lot to read
	ctx, cancel := d.bound(ctx)
	defer cancel()
	q, end, err := s.view(ctx)
	if err != nil {
		return alias.Position{}, err
	}
	defer end()
	head, err := q.head()
	if err != nil {
		return alias.Position{}, err
	}
	var damaged alias.DamagedRowsError
	if err := loadRows(each(q, scanCredential, selectCredentials), credential, &damaged); err != nil {
		return alias.Position{}, err
	}
	if err := loadRows(each(q, scanAlias, selectAliases), use, &damaged); err != nil {
		return alias.Position{}, err
	}
	if len(damaged.Rows) > 0 {
		return head, &damaged
	}
	return head, nil
}

// view begins a read-only transaction, whose queries all see the same state.
func (s *Store) view(ctx context.Context) (q querier, end func(), err error) {
	if err := s.dialect.usable(); err != nil {
		return querier{}, nil, err
	}
	ctx, cancel := s.dialect.bound(ctx)
	tx, err := s.reader.BeginTx(ctx, &sql.TxOptions{Isolation: s.dialect.snapshot, ReadOnly: true})
	if err != nil {
		defer cancel()
		return querier{}, nil, fmt.Errorf("begin: %w", s.dialect.failed(ctx, err))
	}
	return querier{ctx: ctx, db: tx, dialect: s.dialect}, func() { _ = tx.Rollback(); cancel() }, nil
}

// Named reads the aliases with some names, and the credentials with these names or that these
// aliases use, in one consistent view.
func (s *Store) Named(ctx context.Context, names []alias.Name) ([]*alias.Alias, []*alias.Credential, error) {
	if len(names) == 0 {
		return nil, nil, nil
	}
	q, end, err := s.view(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	aliases, err := named(q, scanAlias, selectAliases+` WHERE a.name IN `, names)
	if err != nil {
		return nil, nil, err
	}
	names = slices.Clone(names)
	for _, a := range aliases {
		names = append(names, a.Credential)
	}
	slices.Sort(names)
	credentials, err := named(q, scanCredential, selectCredentials+` WHERE name IN `, slices.Compact(names))
	return aliases, credentials, err
}

// named reads the rows with some names. A database limits the number of arguments.
func named[T any](q querier, scan func(row) (T, error), query string, names []alias.Name) ([]T, error) {
	var list []T
	for some := range slices.Chunk(names, 500) {
		in, args := among(some, func(n alias.Name) any { return string(n) })
		more, err := readable(q, scan, query+in, args...)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// loadRows calls fn with each row that can be read, and adds the others to damaged.
func loadRows[T any](rows iter.Seq2[T, error], fn func(T) error, damaged *alias.DamagedRowsError) error {
	for v, err := range rows {
		if d, ok := errors.AsType[*alias.DamagedError](err); ok {
			damaged.Rows = append(damaged.Rows, d)
			continue
		}
		if err == nil {
			err = fn(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read runs queries without a transaction.
func (s *Store) read(ctx context.Context) querier {
	return querier{ctx: ctx, db: s.reader, dialect: s.dialect}
}

// Alias reads one alias: alias.ErrNotFound if there is none.
func (s *Store) Alias(ctx context.Context, name alias.Name) (*alias.Alias, error) {
	return s.read(ctx).alias(name)
}

// Credential reads one credential: alias.ErrNotFound if there is none.
func (s *Store) Credential(ctx context.Context, name alias.Name) (*alias.Credential, error) {
	return s.read(ctx).credential(name)
}

// Aliases reads at most limit aliases with names above after, by name.
func (s *Store) Aliases(ctx context.Context, after alias.Name, limit int) ([]*alias.Alias, error) {
	const query = selectAliases + ` WHERE a.name > ? ORDER BY a.name LIMIT ?`
	return readable(s.read(ctx), scanAlias, query, string(after), max(limit, 0))
}

// Credentials reads at most limit credentials with names above after, by name.
func (s *Store) Credentials(ctx context.Context, after alias.Name, limit int) ([]*alias.Credential, error) {
	const query = selectCredentials + ` WHERE name > ? ORDER BY name LIMIT ?`
	return readable(s.read(ctx), scanCredential, query, string(after), max(limit, 0))
}

// AliasesOf names the aliases that use a credential, sorted.
func (s *Store) AliasesOf(ctx context.Context, credentialID int64) ([]alias.Name, error) {
	return s.read(ctx).aliasesOf(credentialID)
}

// CountSealed counts the credentials and aliases that hold a sealed value.
func (s *Store) CountSealed(ctx context.Context) (int, error) {
	return s.read(ctx).countSealed()
}

// Meta reads a setting: alias.ErrNotFound if it was never set.
func (s *Store) Meta(ctx context.Context, key string) ([]byte, error) {
	return s.read(ctx).meta(key)
}
