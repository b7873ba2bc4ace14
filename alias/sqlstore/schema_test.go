package sqlstore

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// column is what both dialects say of one.
type column struct {
	Type     string // of the program: number, text or bytes
	NotNull  bool
	Position int // in the primary key, from 1; 0 outside
}

// kinds are the types of columns, by those of the dialects.
var kinds = map[string]string{
	"INTEGER": "number", "bigint": "number", "boolean": "number", // SQLite has no boolean
	"TEXT": "text", "text": "text", "BLOB": "bytes", "bytea": "bytes",
}

// TestDialectsHaveOneSchema: a migration of one dialect must not be forgotten in the other. The
// tables of a fleet exist in PostgreSQL alone.
func TestDialectsHaveOneSchema(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, migrated(t))
	s := openTest(t, filepath.Join(t.TempDir(), "registry.db"))
	const columnsOfSQLite = `SELECT m.name, c.name, c.type, c."notnull" OR c.pk > 0, c.pk
		FROM sqlite_master m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name <> 'goose_db_version'`
	const columnsOfPostgres = `SELECT c.table_name, c.column_name, c.data_type, c.is_nullable = 'NO',
			coalesce((SELECT k.ordinal_position FROM information_schema.key_column_usage k
				JOIN information_schema.table_constraints u USING (constraint_schema, constraint_name)
				WHERE u.constraint_type = 'PRIMARY KEY' AND k.table_name = c.table_name AND k.column_name = c.column_name), 0)
		FROM information_schema.columns c WHERE c.table_schema = 'public'
			AND c.table_name NOT IN ('goose_db_version', 'registry_head', 'changes', 'nodes', 'leases')`
	if diff := cmp.Diff(allColumns(t, s, columnsOfSQLite), allColumns(t, &p.Store, columnsOfPostgres)); diff != "" {
		t.Errorf("columns (-SQLite +PostgreSQL):\n%s", diff)
	}
	const indexesOfSQLite = `SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL`
	const indexesOfPostgres = `SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
		AND tablename NOT IN ('goose_db_version', 'registry_head', 'changes', 'nodes', 'leases')
		AND indexname NOT LIKE '%_pkey' AND indexname NOT LIKE '%_key'`
	if diff := cmp.Diff(indexesOf(t, s, indexesOfSQLite), indexesOf(t, &p.Store, indexesOfPostgres)); diff != "" {
		t.Errorf("indexes, and whether they are unique (-SQLite +PostgreSQL):\n%s", diff)
	}
	// Constraints that are no index of their own.
	for what, queries := range map[string][2]string{
		"unique columns": {
			`SELECT m.name || '.' || group_concat(c.name) FROM sqlite_master m JOIN pragma_index_list(m.name) i
				JOIN pragma_index_info(i.name) c WHERE m.type = 'table' AND i.origin = 'u' GROUP BY m.name, i.name`,
			`SELECT u.table_name || '.' || string_agg(k.column_name, ',') FROM information_schema.table_constraints u
				JOIN information_schema.key_column_usage k USING (constraint_schema, constraint_name)
				WHERE u.constraint_type = 'UNIQUE' AND u.table_schema = 'public' GROUP BY u.table_name, constraint_name`,
		},
		"foreign keys": {
			`SELECT m.name || '.' || f."from" || ' ' || f."table" || ' ' || f.on_delete
				FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`,
			`SELECT k.table_name || '.' || k.column_name || ' ' || u.table_name || ' ' || r.delete_rule
				FROM information_schema.referential_constraints r
				JOIN information_schema.key_column_usage k USING (constraint_schema, constraint_name)
				JOIN information_schema.table_constraints u ON u.constraint_name = r.unique_constraint_name
				WHERE k.table_schema = 'public'`,
		},
	} {
		if diff := cmp.Diff(setOf(t, s, queries[0]), setOf(t, &p.Store, queries[1])); diff != "" {
			t.Errorf("%s (-SQLite +PostgreSQL):\n%s", what, diff)
		}
	}
}

func allColumns(t *testing.T, s *Store, query string) map[string]column {
	t.Helper()
	columns := map[string]column{}
	_, err := collect(s.read(t.Context()), func(r row) (any, error) {
		var table, name, kind string
		var c column
		err := r.Scan(&table, &name, &kind, &c.NotNull, &c.Position)
		if c.Type = kinds[kind]; c.Type == "" {
			t.Errorf("%s.%s has the unknown type %q", table, name, kind)
		}
		columns[table+"."+name] = c
		return nil, err
	}, query)
	if err != nil || len(columns) == 0 {
		t.Fatalf("got %d columns, %v", len(columns), err)
	}
	return columns
}

func indexesOf(t *testing.T, s *Store, query string) map[string]bool {
	t.Helper()
	unique := map[string]bool{}
	_, err := collect(s.read(t.Context()), func(r row) (any, error) {
		var name, definition string
		err := r.Scan(&name, &definition)
		unique[name] = strings.HasPrefix(definition, "CREATE UNIQUE")
		return nil, err
	}, query)
	if err != nil || len(unique) == 0 {
		t.Fatalf("got %d indexes, %v", len(unique), err)
	}
	return unique
}

func setOf(t *testing.T, s *Store, query string) map[string]bool {
	t.Helper()
	set := map[string]bool{}
	values, err := collect(s.read(t.Context()), scanValue[string], query)
	if err != nil || len(values) == 0 {
		t.Fatalf("got %d values, %v", len(values), err)
	}
	for _, v := range values {
		set[v] = true
	}
	return set
}
