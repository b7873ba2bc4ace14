package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/storetest"
	"ixmage/internal/awstest/postgres"
)

// columnsOf reads the columns of all tables.
func columnsOf(t *testing.T, s *Store, query string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for c, err := range each(s.read(t.Context()), func(r row) (c [2]string, err error) {
		err = r.Scan(&c[0], &c[1])
		return c, err
	}, query) {
		if err != nil {
			t.Fatal(err)
		}
		all[c[0]] = append(all[c[0]], c[1])
	}
	return all
}

// TestCopyHasEveryColumn: a table or a column that is added to a schema is copied, or it is said
// that it is not.
func TestCopyHasEveryColumn(t *testing.T) {
	t.Parallel()
	for name, schema := range map[string]map[string][]string{
		"sqlite": columnsOf(t, openTest(t, filepath.Join(t.TempDir(), "registry.db")),
			`SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!'`),
		"postgres": columnsOf(t, &openPostgres(t, migrated(t)).Store,
			`SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = current_schema()`),
	} {
		for _, r := range registryTables {
			want, got := slices.Sorted(slices.Values(schema[r.name])), slices.Sorted(slices.Values(r.columns))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: the table %s (-schema +copied):\n%s", name, r.name, diff)
			}
			delete(schema, r.name)
		}
		for _, table := range notCopied {
			delete(schema, table)
		}
		if len(schema) > 0 {
			t.Errorf("%s: not copied: %v", name, schema)
		}
	}
}

func newKeyset(t *testing.T) *seal.Keyset {
	t.Helper()
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: t.TempDir(), Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// filled is a registry with everything, in SQLite.
func filled(t *testing.T, keys alias.Sealer, seed uint64) *Store {
	t.Helper()
	s := openTest(t, filepath.Join(t.TempDir(), "registry.db"))
	storetest.Fill(t, s, keys, rand.New(rand.NewPCG(seed, 0)))
	return s
}

// copyInto copies a registry that must be copied whole.
func copyInto(t *testing.T, from, to *Store) []CopiedTable {
	t.Helper()
	done, err := RegistryCopy{From: from, To: to}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range done {
		if c.Rows == 0 || c.Digest == "" || c.Replaced != 0 {
			t.Errorf("got %+v", c)
		}
	}
	return done
}

// TestCopyRoundTrip: a registry is the same after it was in PostgreSQL, and its secrets open.
func TestCopyRoundTrip(t *testing.T) {
	t.Parallel()
	server, template, keys := postgres.Shared(t), migrated(t), newKeyset(t)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			source := filled(t, keys, seed)
			want := storetest.ContentsOf(t, source)
			want.WantOpen(t, keys)
			middle := openPostgres(t, server.Copy(t, template))
			there := copyInto(t, source, &middle.Store)
			if diff := cmp.Diff(want, storetest.ContentsOf(t, middle)); diff != "" {
				t.Errorf("in PostgreSQL (-want +got):\n%s", diff)
			}
			back := openTest(t, filepath.Join(t.TempDir(), "registry.db"))
			again := copyInto(t, &middle.Store, back)
			got := storetest.ContentsOf(t, back)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("back in SQLite (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(there, again); diff != "" {
				t.Errorf("the digests differ:\n%s", diff)
			}
			got.WantOpen(t, keys)
			wantGoesOn(t, middle)
			wantGoesOn(t, back)
		})
	}
}

// wantGoesOn: new operations and entries of the audit come after those that were copied.
func wantGoesOn(t *testing.T, s alias.Store) {
	t.Helper()
	before := storetest.ContentsOf(t, s)
	err := s.Update(t.Context(), func(tx alias.Tx) error {
		o := *before.Operations[0]
		o.ID, o.Alias, o.Credential = "next", "next", "next"
		return errors.Join(tx.InsertOperation(&o), tx.AddAudit(&alias.AuditEntry{Detail: "next"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	after := storetest.ContentsOf(t, s)
	if after.Operations[0].ID != "next" || after.Audit[0].Detail != "next" || len(after.Audit) != len(before.Audit)+1 {
		t.Errorf("the newest are %+v and %+v", after.Operations[0], after.Audit[0])
	}
}

// TestCopyBeginsHistory: a node that has followed the database before loads everything anew.
func TestCopyBeginsHistory(t *testing.T) {
	t.Parallel()
	target := openPostgres(t, migrated(t))
	load := func() alias.Position {
		at, err := target.Load(t.Context(), func(*alias.Credential) error { return nil }, func(*alias.Alias) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	err := target.Update(t.Context(), func(tx alias.Tx) error { return tx.SetMeta("a setting 0", []byte("of before")) })
	if err != nil {
		t.Fatal(err)
	}
	before := load()
	copyInto(t, filled(t, newKeyset(t), 1), &target.Store)
	after := load()
	if after.Revision <= before.Revision || after.Tag == before.Tag {
		t.Errorf("the history goes on from %+v to %+v", before, after)
	}
	if _, _, err := target.Log(t.Context(), before, 100); !errors.Is(err, alias.ErrHistory) {
		t.Errorf("after the position of before: got %v", err)
	}
	if _, at, err := target.Log(t.Context(), after, 100); err != nil || at != after {
		t.Errorf("after its own position: got %+v, %v", at, err)
	}
}

// targets are empty registries in both databases.
func targets(t *testing.T) map[string]*Store {
	t.Helper()
	return map[string]*Store{
		"sqlite":   openTest(t, filepath.Join(t.TempDir(), "registry.db")),
		"postgres": &openPostgres(t, migrated(t)).Store,
	}
}

// TestCopyRefusesContent: each kind of content alone.
func TestCopyRefusesContent(t *testing.T) {
	t.Parallel()
	c := someCredential(1, "shop")
	for says, write := range map[string]func(alias.Tx) error{
		"credentials: 1": func(tx alias.Tx) error { return tx.InsertCredential(c) },
		"aliases: 1": func(tx alias.Tx) error {
			a := &alias.Alias{ID: 7, Name: "shop", CredentialID: 1, Credential: "shop", Revision: 1}
			return errors.Join(tx.InsertCredential(c), tx.InsertAlias(a))
		},
		"operations: 1": func(tx alias.Tx) error {
			return tx.InsertOperation(&alias.Operation{ID: "op", Request: []byte("{}"), Data: []byte("{}")})
		},
		"audit: 1":  func(tx alias.Tx) error { return tx.AddAudit(&alias.AuditEntry{}) },
		"tokens: 1": func(tx alias.Tx) error { return tx.InsertToken(&alias.Token{ID: 1, Name: "deploy"}) },
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			for name, target := range targets(t) {
				if err := target.Update(t.Context(), write); err != nil {
					t.Fatal(err)
				}
				_, err := RegistryCopy{From: filled(t, newKeyset(t), 1), To: target}.Run(t.Context())
				if !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: got %v", name, err)
				}
				if err := target.RefuseContent(t.Context()); !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: RefuseContent: got %v", name, err)
				}
			}
		})
	}
	without := newPostgres(t, postgres.Database(t))
	if err := without.RefuseContent(t.Context()); err != nil {
		t.Errorf("without tables: %v", err)
	}
}

// TestCopyAllOrNothing: an error just before the end leaves an empty target, which can be used.
func TestCopyAllOrNothing(t *testing.T) {
	t.Parallel()
	source := filled(t, newKeyset(t), 1)
	failed := errors.New("no")
	for name, target := range targets(t) {
		rows, all := int64(0), int64(0)
		c := RegistryCopy{
			From: source, To: target, Progress: func(n, of int64) { rows, all = n, of },
			Before: func() error { return failed },
		}
		if _, err := c.Run(t.Context()); !errors.Is(err, failed) || rows != all || rows < 50 {
			t.Errorf("%s: got %v after %d of %d rows", name, err, rows, all)
		}
		if err := target.RefuseContent(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		c.Before = func() error { cancel(); return nil }
		if _, err := c.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: cancelled: got %v", name, err)
		}
		copyInto(t, source, target)
	}
}

// TestCopyDiffers: a database that changes what is written to it.
func TestCopyDiffers(t *testing.T) {
	t.Parallel()
	source := filled(t, newKeyset(t), 1)
	spoils := map[string]map[string]string{
		"sqlite": {
			"tokens": `CREATE TRIGGER spoil AFTER INSERT ON tokens BEGIN UPDATE tokens SET created_by = 'x' WHERE id = NEW.id; END`,
			"usage":  `CREATE TRIGGER spoil AFTER INSERT ON usage BEGIN DELETE FROM usage WHERE alias_id = NEW.alias_id; END`,
		},
		"postgres": {
			"tokens": `CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.created_by := ''x''; RETURN NEW; END';
				CREATE TRIGGER spoil BEFORE INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION spoil()`,
			"usage": `CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
				CREATE TRIGGER spoil BEFORE INSERT ON usage FOR EACH ROW EXECUTE FUNCTION spoil()`,
		},
	}
	for _, table := range []string{"tokens", "usage"} {
		for name, target := range targets(t) {
			for statement := range strings.SplitSeq(spoils[name][table], ";\n") {
				if _, err := target.writer.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			_, err := RegistryCopy{From: source, To: target}.Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), "the table "+table+" differs in the copy") {
				t.Errorf("%s: got %v", name, err)
			}
			if err := target.RefuseContent(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestCopyReplacesBytes: SQLite stores texts that PostgreSQL refuses.
func TestCopyReplacesBytes(t *testing.T) {
	t.Parallel()
	source := openTest(t, filepath.Join(t.TempDir(), "registry.db"))
	for _, detail := range []string{"a\x00b", "a\xffb", "whole"} {
		values := []any{0, detail, "", "", "", "", "", "", "", "", "\xc0\x80"}
		if _, err := source.writer.ExecContext(t.Context(), insertInto("audit", auditColumns), values...); err != nil {
			t.Fatal(err)
		}
	}
	target := openPostgres(t, migrated(t))
	done, err := RegistryCopy{From: source, To: &target.Store}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range done {
		if want := map[string]int64{"audit": 5}[c.Name]; c.Replaced != want {
			t.Errorf("%s: got %d replaced, want %d", c.Name, c.Replaced, want)
		}
	}
	list, err := target.Audit(t.Context(), 0, 3)
	if err != nil || list[2].Actor != "a\ufffdb" || list[1].Actor != "a\ufffdb" || list[0].Detail != "\ufffd" {
		t.Errorf("got %+v, %v", list, err)
	}
}

// TestCopyDiskCache: the folder of the disk cache is not copied, so that it is emptied.
func TestCopyDiskCache(t *testing.T) {
	t.Parallel()
	source := openTest(t, filepath.Join(t.TempDir(), "registry.db"))
	err := source.Update(t.Context(), func(tx alias.Tx) error {
		return errors.Join(tx.SetMeta(alias.MetaDiskPurges, []byte("/cache")), tx.SetMeta("install_id", []byte("id")))
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range targets(t) {
		err := target.Update(t.Context(), func(tx alias.Tx) error {
			return errors.Join(tx.SetMeta(alias.MetaDiskPurges, []byte("/cache")), tx.SetMeta("old", []byte("of the target")))
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (RegistryCopy{From: source, To: target}).Run(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := map[string]string{}
		for _, key := range []string{alias.MetaDiskPurges, "install_id", "old"} {
			if value, err := target.Meta(t.Context(), key); err == nil {
				got[key] = string(value)
			}
		}
		if !maps.Equal(got, map[string]string{"install_id": "id"}) {
			t.Errorf("%s: got the settings %v", name, got)
		}
	}
}

// TestPostgresBackup: a backup of a database in use is a file as that of SQLite.
func TestPostgresBackup(t *testing.T) {
	t.Parallel()
	keys, dir := newKeyset(t), t.TempDir()
	db := openPostgres(t, migrated(t))
	storetest.Fill(t, db, keys, rand.New(rand.NewPCG(7, 0)))
	want := storetest.ContentsOf(t, db)
	path, err := db.Copy(t.Context(), dir, "registry.db.backup-*")
	if err != nil {
		t.Fatal(err)
	}
	if list, _ := filepath.Glob(filepath.Join(dir, "*")); len(list) != 1 || list[0] != path {
		t.Errorf("the folder has %q", list)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	got, err := Inspect(t.Context(), path)
	if err != nil || got.Aliases != len(want.Aliases) || got.Credentials != len(want.Credentials) {
		t.Errorf("got %+v, %v", got, err)
	}
	if diff := cmp.Diff(want, storetest.ContentsOf(t, openTest(t, path))); diff != "" {
		t.Errorf("the backup (-want +got):\n%s", diff)
	}
	away := newPostgres(t, "postgres://u@127.0.0.1:1/d")
	away.dialect.shared.Store(true)
	if path, err := away.Copy(t.Context(), t.TempDir(), "registry.db.backup-*"); !errors.Is(err, alias.ErrUnavailable) || path != "" {
		t.Errorf("without the database: got %q, %v", path, err)
	}
	if _, err := db.Copy(t.Context(), filepath.Join(dir, "none"), "b-*"); !errors.Is(err, alias.ErrUnavailable) {
		t.Errorf("without the folder: %v", err)
	}
}
