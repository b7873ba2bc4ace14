package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"ixmage/alias"
)

// querier runs reads, in a transaction or without one.
type querier struct {
	ctx context.Context //nolint:containedctx // lives as long as the call that made it
	db  interface {
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
	dialect dialect
}

// row is the argument of a scan function.
type row interface{ Scan(dest ...any) error }

// each yields the rows of a query. If the query fails, the last pair is the error. The
// error of a damaged row is not the last pair: the rows after it follow.
func each[T any](q querier, scan func(row) (T, error), query string, args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if err := q.dialect.usable(); err != nil {
			yield(none, err)
			return
		}
		ctx, cancel := q.dialect.bound(q.ctx)
		defer cancel()
		rows, err := q.db.QueryContext(ctx, q.dialect.bind(query), args...)
		if err != nil {
			yield(none, fmt.Errorf("query: %w", q.dialect.failed(ctx, err)))
			return
		}
		defer rows.Close()
		for rows.Next() {
			v, err := scan(rows)
			_, damaged := errors.AsType[*alias.DamagedError](err)
			if !yield(v, err) || err != nil && !damaged {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(none, fmt.Errorf("query: %w", q.dialect.failed(ctx, err)))
		}
	}
}

// collect returns all rows of a query.
func collect[T any](q querier, scan func(row) (T, error), query string, args ...any) ([]T, error) {
	var list []T
	for v, err := range each(q, scan, query, args...) {
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// readable returns the rows of a query that can be read.
func readable[T any](q querier, scan func(row) (T, error), query string, args ...any) ([]T, error) {
	var list []T
	for v, err := range each(q, scan, query, args...) {
		if _, damaged := errors.AsType[*alias.DamagedError](err); damaged {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// one returns the only row of a query: alias.ErrNotFound if there is none.
func one[T any](q querier, scan func(row) (T, error), query string, args ...any) (T, error) {
	list, err := collect(q, scan, query, args...)
	if err == nil && len(list) == 0 {
		err = alias.ErrNotFound
	}
	if err != nil {
		var none T
		return none, err
	}
	return list[0], nil
}

func scanValue[T any](r row) (T, error) {
	var v T
	err := r.Scan(&v)
	return v, err
}

func (q querier) alias(name alias.Name) (*alias.Alias, error) {
	return one(q, scanAlias, selectAliases+` WHERE a.name = ?`, string(name))
}

func (q querier) credential(name alias.Name) (*alias.Credential, error) {
	return one(q, scanCredential, selectCredentials+` WHERE name = ?`, string(name))
}

func (q querier) aliasesOf(credentialID int64) ([]alias.Name, error) {
	const query = `SELECT name FROM aliases WHERE credential_id = ? ORDER BY name`
	return collect(q, scanValue[alias.Name], query, credentialID)
}

func (q querier) countSealed() (int, error) {
	return one(q, scanValue[int], `SELECT (SELECT count(*) FROM credentials WHERE sealed IS NOT NULL) +
		(SELECT count(*) FROM aliases WHERE signing_keys <> '[]')`)
}

func (q querier) meta(key string) ([]byte, error) {
	return one(q, scanValue[[]byte], `SELECT value FROM meta WHERE key = ?`, key)
}

// Update runs fn in one transaction, after all earlier ones of every process. If fn panics, it
// rolls back and panics too.
func (s *Store) Update(ctx context.Context, fn func(alias.Tx) error) error {
	ctx, cancel := s.dialect.bound(ctx)
	defer cancel()
	if s.dialect.turn != nil {
		select {
		case s.dialect.turn <- struct{}{}:
			defer func() { <-s.dialect.turn }()
		case <-ctx.Done():
			return s.dialect.failed(ctx, ctx.Err())
		}
	}
	return s.update(ctx, func(t *tx) error {
		if err := t.lockHead(); err != nil {
			return err
		}
		return fn(t)
	})
}

// attempts bounds how often a transaction is run that the database wants repeated.
const attempts = 4

// update runs fn in a transaction that does not wait for others.
func (s *Store) update(ctx context.Context, fn func(*tx) error) error {
	var err error
	for range attempts {
		if err = s.attempt(ctx, fn); !errors.Is(err, errRepeat) {
			break
		}
	}
	return err
}

func (s *Store) attempt(ctx context.Context, fn func(*tx) error) error {
	if err := s.dialect.usable(); err != nil {
		return err
	}
	ctx, cancel := s.dialect.bound(ctx)
	defer cancel()
	begin := s.writer.BeginTx
	if s.conn != nil {
		begin = s.conn.BeginTx
	}
	sqlTx, err := begin(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", s.dialect.begin(ctx, err))
	}
	defer sqlTx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	t := &tx{querier: querier{ctx: ctx, db: sqlTx, dialect: s.dialect}, sql: sqlTx, conn: s.conn}
	if err := t.setTimeouts(); err != nil {
		return err
	}
	if err := fn(t); err != nil {
		return ended(ctx, err)
	}
	if t.failed != nil {
		return ended(ctx, t.failed)
	}
	if err := t.writeLog(); err != nil {
		return err
	}
	if err := sqlTx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", ended(ctx, s.dialect.failed(ctx, err)))
	}
	return nil
}

// ended returns the error of the context, if it has ended. database/sql rolls back in a
// goroutine and then reports only that the transaction is done.
func ended(ctx context.Context, err error) error {
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// tx is an alias.Tx.
type tx struct {
	querier
	sql  *sql.Tx
	conn *sql.Conn // that of the store
	// failed is the first error of a write. After one, PostgreSQL refuses every further
	// statement of the transaction, and SQLite does not. Update refuses for both, so
	// that no caller depends on SQLite.
	failed error
	history
}

// Alias reads one alias.
func (t *tx) Alias(name alias.Name) (*alias.Alias, error) { return t.alias(name) }

// Credential reads one credential.
func (t *tx) Credential(name alias.Name) (*alias.Credential, error) { return t.credential(name) }

// AliasesOf names the aliases that use a credential.
func (t *tx) AliasesOf(credentialID int64) ([]alias.Name, error) { return t.aliasesOf(credentialID) }

// CountSealed counts the credentials and aliases that hold a sealed value.
func (t *tx) CountSealed() (int, error) { return t.countSealed() }

// Meta reads a setting.
func (t *tx) Meta(key string) ([]byte, error) { return t.meta(key) }

// SetMeta writes a setting.
func (t *tx) SetMeta(key string, value []byte) error {
	if value == nil {
		value = []byte{} // nil would be NULL
	}
	const query = `INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`
	_, err := t.exec(query, key, value)
	return err
}

// exec runs a write and returns the number of changed rows. It returns errForeign for a
// violated foreign key; the caller translates it.
func (t *tx) exec(query string, args ...any) (int64, error) {
	if t.failed != nil {
		return 0, t.failed
	}
	return t.changed(t.sql.ExecContext(t.ctx, t.dialect.bind(query), args...))
}

// prepare prepares a write that run runs many times.
func (t *tx) prepare(query string) (*sql.Stmt, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	stmt, err := t.sql.PrepareContext(t.ctx, t.dialect.bind(query))
	if err != nil {
		return nil, t.fail(t.dialect.failed(t.ctx, err))
	}
	return stmt, nil
}

// run is exec with a prepared write.
func (t *tx) run(stmt *sql.Stmt, args ...any) (int64, error) {
	if t.failed != nil {
		return 0, t.failed
	}
	return t.changed(stmt.ExecContext(t.ctx, args...))
}

// changed returns the number of rows that a write has changed.
func (t *tx) changed(result sql.Result, err error) (int64, error) {
	if err != nil {
		err = t.dialect.failed(t.ctx, err)
		if errors.Is(err, errUnique) {
			err = alias.ErrExists
		}
		return 0, t.fail(err)
	}
	n, err := result.RowsAffected()
	return n, t.fail(err)
}

// change runs a write that must change one row, and returns the name in it: the error missing
// if there is no such row.
func (t *tx) change(missing error, query string, args ...any) (alias.Name, error) {
	if t.failed != nil {
		return "", t.failed
	}
	name, err := one(t.querier, scanValue[alias.Name], query+` RETURNING name`, args...)
	if errors.Is(err, alias.ErrNotFound) {
		err = missing
	}
	if err != nil {
		return "", t.fail(err)
	}
	return name, nil
}

// replace runs a write that must change one row: alias.ErrStale if there is no such
// row.
func (t *tx) replace(query string, args ...any) error {
	n, err := t.exec(query, args...)
	if err == nil && n == 0 {
		err = t.fail(alias.ErrStale)
	}
	return err
}

// fail remembers the first error.
func (t *tx) fail(err error) error {
	if t.failed == nil {
		t.failed = err
	}
	return err
}
