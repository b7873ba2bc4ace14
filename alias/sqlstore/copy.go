package sqlstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"ixmage/alias"
)

// table is a table that is part of a registry, wherever it is kept.
type table struct {
	name    string
	columns []string // all of them
	key     []string // the order in which rows are read
	// text is set if the key is a text, whose order may be that of a language.
	text bool
	// booleans are columns of numbers in SQLite.
	booleans []string
	// sequence is a column whose next value the database chooses.
	sequence string
	// content is set if a registry with rows in it is not empty. The others have settings, and
	// what belongs to rows of these.
	content bool
	where   string // selects the rows, all if it is empty
}

// registryTables has every table in an order that foreign keys allow, except notCopied. A test
// compares it with the schemas.
var registryTables = []table{
	{name: "credentials", columns: credentialColumns, key: []string{"id"}, content: true},
	{
		name: "aliases", columns: aliasColumns, key: []string{"id"}, booleans: []string{"path_style", "enabled"},
		content: true,
	},
	{
		name: "operations", columns: slices.Concat(operationColumns, []string{"number"}), key: []string{"number"},
		sequence: "number", content: true,
	},
	{
		name: "audit", columns: slices.Concat(auditColumns, []string{"id"}), key: []string{"id"}, sequence: "id",
		content: true,
	},
	{name: "tokens", columns: tokenColumns, key: []string{"id"}, content: true},
	// A disk cache may have objects that are purged while the copy serves, or after a backup
	// was made. Without the folder in the settings, the next server empties it.
	{
		name: "meta", columns: []string{"key", "value"}, key: []string{"key"}, text: true,
		where: `key <> '` + alias.MetaDiskPurges + `'`,
	},
	{name: "verifications", columns: verificationColumns, key: []string{"alias_id"}},
	{name: "usage", columns: slices.Concat([]string{"alias_id", "since"}, usageCounts), key: []string{"alias_id"}},
	{name: "usage_writers", columns: []string{"writer", "number", "at"}, key: []string{"writer"}, text: true},
	{
		name: "usage_history", columns: slices.Concat([]string{"hours", "at", "alias_id"}, usageCounts),
		key: []string{"hours", "at", "alias_id"},
	},
}

// notCopied are the tables of one database: its schema version, and the history of its
// registry with the nodes that follow it. In a copy a new history begins.
var notCopied = []string{"goose_db_version", "registry_head", "changes", "nodes", "leases"}

// RegistryCopy copies a registry into an empty one.
type RegistryCopy struct {
	From, To *Store // with the schema of this program
	// Progress is called with the number of rows that were copied, and of all. Optional.
	Progress func(rows, all int64)
	// Before is called before the commit, which its error prevents. Optional.
	Before func() error
}

// CopiedTable describes a table of a copy.
type CopiedTable struct {
	Name string
	Rows int64
	// Digest is the SHA-256 of all rows, the same in every database. The zero value is that of
	// a table that was not read.
	Digest string
	// Replaced is the number of texts with bytes that the target cannot store. The character
	// U+FFFD is in their place.
	Replaced int64
}

// Run copies every table in one transaction, from one consistent view, and compares what the
// target has then with the source, before it commits. The target is unchanged after an error.
func (c RegistryCopy) Run(ctx context.Context) ([]CopiedTable, error) {
	from, to := c.From.patient(), c.To.patient()
	var err error
	if to.conn, err = to.writer.Conn(ctx); err != nil {
		return nil, fmt.Errorf("connect: %w", to.dialect.classify(err))
	}
	defer to.conn.Close()
	var done []CopiedTable
	err = to.Update(ctx, func(at alias.Tx) error {
		t := at.(*tx)
		if err := t.wait(); err != nil {
			return err
		}
		if err := t.refuseContent(); err != nil {
			return err
		}
		if err := t.empty(); err != nil {
			return err
		}
		q, end, err := from.view(ctx)
		if err != nil {
			return err
		}
		defer end()
		if done, err = c.tables(q, t); err != nil {
			return err
		}
		if c.Before != nil {
			return c.Before()
		}
		return nil
	})
	return done, err
}

// patient returns the store without the limit for the time of a call.
func (s *Store) patient() *Store {
	p := *s
	p.dialect.timeout = 0
	return &p
}

// wait replaces the limits of a transaction in which every row of a registry is read or
// written, and which is idle while the other database works.
func (q querier) wait() error {
	if q.dialect.shared == nil {
		return nil
	}
	const query = `SELECT set_config('statement_timeout', '0', true) ||
		set_config('idle_in_transaction_session_timeout', '60s', true)`
	_, err := one(q, scanValue[string], query)
	return err
}

// ErrNotEmpty means that the target of a copy has a registry.
var ErrNotEmpty = errors.New("it is not empty")

// refuseContent returns ErrNotEmpty if the database has aliases, or other content of a registry.
// It may have no tables yet.
func (q querier) refuseContent() error {
	var found []string
	for _, t := range registryTables {
		if !t.content {
			continue
		}
		there, err := q.hasTable(t.name)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		n, err := t.count(q)
		if err != nil {
			return err
		}
		if n > 0 {
			found = append(found, fmt.Sprintf("%s: %d", t.name, n))
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: it has rows (%s)", ErrNotEmpty, strings.Join(found, ", "))
	}
	return nil
}

// RefuseContent returns ErrNotEmpty if the database has aliases, or other content of a registry.
func (s *Store) RefuseContent(ctx context.Context) error { return s.read(ctx).refuseContent() }

// RefuseContent is that of Store. It may be called before Prepare, which would change the schema
// of a database that is refused.
func (p *Postgres) RefuseContent(ctx context.Context) error { return p.asItIs().RefuseContent(ctx) }

// Use takes the place of Prepare for a registry that must not be changed: it returns ErrNoRegistry
// if the database has none, and refuses one that is not of the schema of this program.
func (p *Postgres) Use(ctx context.Context) error {
	if err := p.asItIs().isCurrent(ctx); err != nil {
		return err
	}
	p.dialect.shared.Store(true)
	return nil
}

// asItIs returns the store without the check that Prepare has made the tables.
func (p *Postgres) asItIs() *Store {
	s := p.Store
	s.dialect.shared = new(atomic.Bool)
	s.dialect.shared.Store(true)
	return &s
}

func (q querier) hasTable(name string) (bool, error) {
	query := `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?`
	if q.dialect.shared != nil {
		query = `SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = ?`
	}
	n, err := one(q, scanValue[int], query, name)
	return n > 0, err
}

// empty deletes the settings of an empty registry, and begins another history.
func (t *tx) empty() error {
	tables := []string{}
	for _, r := range registryTables {
		if !r.content {
			tables = append(tables, r.name)
		}
	}
	if t.dialect.shared != nil {
		tables = append(tables, "changes", "nodes", "leases")
		t.log(logBegin, "")
	}
	for _, name := range tables {
		if _, err := t.exec(`DELETE FROM ` + name); err != nil {
			return err
		}
	}
	return nil
}

// logBegin is the kind of the first entry of a log. No node reads it: a position that is not in
// the log is of another history.
const logBegin alias.LogKind = "begin"

// tables copies every table and compares it.
func (c RegistryCopy) tables(q querier, t *tx) ([]CopiedTable, error) {
	if err := q.wait(); err != nil {
		return nil, err
	}
	var all, rows int64
	for _, r := range registryTables {
		n, err := r.count(q)
		if err != nil {
			return nil, fmt.Errorf("count the rows of the table %s: %w", r.name, err)
		}
		all += n
	}
	progress := func(n int) {
		if rows += int64(n); c.Progress != nil {
			c.Progress(rows, all)
		}
	}
	done := make([]CopiedTable, 0, len(registryTables))
	for _, r := range registryTables {
		source, err := r.copy(q, t, progress)
		if err != nil {
			return nil, fmt.Errorf("copy the table %s: %w", r.name, err)
		}
		target, err := r.read(t.querier, func([]any) error { return nil })
		if err != nil {
			return nil, fmt.Errorf("read the table %s of the copy: %w", r.name, err)
		}
		if source.Rows != target.Rows || source.Digest != target.Digest {
			return nil, fmt.Errorf("the table %s differs in the copy: the source has %d rows with the digest %.16s, "+
				"the copy has %d with %.16s; nothing was copied",
				r.name, source.Rows, source.Digest, target.Rows, target.Digest)
		}
		done = append(done, source)
	}
	return done, nil
}

func (r *table) count(q querier) (int64, error) {
	query := `SELECT count(*) FROM ` + r.name
	if r.where != "" {
		query += ` WHERE ` + r.where
	}
	return one(q, scanValue[int64], query)
}

// read calls fn with each row, by the key. fn must not keep the row. PostgreSQL can store every
// text that it returns.
func (r *table) read(q querier, fn func(values []any) error) (CopiedTable, error) {
	done := CopiedTable{Name: r.name}
	query := `SELECT ` + strings.Join(r.columns, ", ") + ` FROM ` + r.name
	if r.where != "" {
		query += ` WHERE ` + r.where
	}
	query += ` ORDER BY ` + strings.Join(r.key, ", ")
	if r.text && q.dialect.shared != nil {
		query += ` COLLATE "C"`
	}
	values, dest := make([]any, len(r.columns)), make([]any, len(r.columns))
	for i := range values {
		dest[i] = &values[i]
	}
	digest := sha256.New()
	scan := func(row row) (struct{}, error) { return struct{}{}, row.Scan(dest...) }
	for _, err := range each(q, scan, query) {
		if err == nil {
			err = r.normalize(values, &done.Replaced)
		}
		if err == nil {
			err = addRow(digest, values)
		}
		if err == nil {
			err = fn(values)
		}
		if err != nil {
			return done, err
		}
		done.Rows++
	}
	done.Digest = hex.EncodeToString(digest.Sum(nil))
	return done, nil
}

// normalize gives equal rows of two databases equal values.
func (r *table) normalize(values []any, replaced *int64) error {
	for i, v := range values {
		switch v := v.(type) {
		case int64:
			if slices.Contains(r.booleans, r.columns[i]) {
				values[i] = v != 0
			}
		case string:
			if s := text(v); s != v {
				values[i] = s
				*replaced++
			}
		case []byte:
			if len(v) == 0 {
				values[i] = []byte{} // nil would be NULL
			}
		case nil, bool:
		default:
			return fmt.Errorf("the column %s has a value of the type %T", r.columns[i], v)
		}
	}
	return nil
}

// addRow adds a row to a digest. No two rows have the same bytes.
func addRow(h hash.Hash, values []any) error {
	var b []byte
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			b = append(b, 'n')
		case bool:
			b = append(b, 'f')
			if v {
				b[len(b)-1] = 't'
			}
		case int64:
			b = binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v))
		case string:
			b = append(binary.BigEndian.AppendUint64(append(b, 's'), uint64(len(v))), v...)
		case []byte:
			b = append(binary.BigEndian.AppendUint64(append(b, 'b'), uint64(len(v))), v...)
		}
	}
	_, err := h.Write(b)
	return err
}

// copy copies the rows of a table, and describes those of the source.
func (r *table) copy(q querier, t *tx, progress func(rows int)) (CopiedTable, error) {
	b := batch{tx: t, table: r, progress: progress}
	done, err := r.read(q, b.add)
	if err == nil {
		err = b.flush()
	}
	if err == nil && r.sequence != "" && t.dialect.shared != nil {
		// Without rows it changes nothing.
		_, err = t.exec(fmt.Sprintf(`SELECT setval(pg_get_serial_sequence('%s', '%s'), max(%s)) FROM %s`,
			r.name, r.sequence, r.sequence, r.name))
	}
	if errors.Is(err, errForeign) {
		err = errors.New("a row refers to a row that the source does not have")
	}
	return done, err
}

// Limits of a batch.
const (
	batchValues       = 64_000
	batchSQLiteValues = 16_000 // SQLite allows 32,766 parameters
	batchBytes        = 1 << 20
)

// batch inserts rows, many at once.
type batch struct {
	tx       *tx
	table    *table
	progress func(rows int)
	values   []any // of its rows
	bytes    int
}

func (b *batch) add(values []any) error {
	b.values = append(b.values, values...)
	for _, v := range values {
		switch v := v.(type) {
		case string:
			b.bytes += len(v)
		case []byte:
			b.bytes += len(v)
		}
	}
	limit := batchValues
	if b.tx.dialect.shared == nil {
		limit = batchSQLiteValues
	}
	if len(b.values)+len(values) > limit || b.bytes > batchBytes {
		return b.flush()
	}
	return nil
}

func (b *batch) flush() error {
	if len(b.values) == 0 {
		return nil
	}
	insert := b.insert
	if b.tx.dialect.shared != nil {
		insert = b.copyFrom
	}
	rows := len(b.values) / len(b.table.columns)
	if err := insert(rows); err != nil {
		return err
	}
	b.values, b.bytes = b.values[:0], 0
	b.progress(rows)
	return nil
}

func (b *batch) insert(rows int) error {
	more := `, (` + strings.Repeat(", ?", len(b.table.columns))[2:] + `)`
	_, err := b.tx.exec(insertInto(b.table.name, b.table.columns)+strings.Repeat(more, rows-1), b.values...)
	return err
}

// copyFrom is about six times as fast as INSERT.
func (b *batch) copyFrom(rows int) error {
	n := len(b.table.columns)
	err := b.tx.conn.Raw(func(driver any) error {
		_, err := driver.(*stdlib.Conn).Conn().CopyFrom(b.tx.ctx, pgx.Identifier{b.table.name}, b.table.columns,
			pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return b.values[i*n : (i+1)*n], nil }))
		return err
	})
	return b.tx.fail(b.tx.dialect.failed(b.tx.ctx, err))
}
