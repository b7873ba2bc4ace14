package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/postgres"
)

// TestDamagedReplica: a replica that cannot be read is made anew, and is nothing to begin with
// while the database is away.
func TestDamagedReplica(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	a := e.node("a")
	if _, err := a.CreateAlias(t.Context(), named("shop", "one"), alias.CredentialRef{KeyPair: keyPair(1)}); err != nil {
		t.Fatal(err)
	}
	want, _ := stored(t, a.db)
	set := func(key, value string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			t.Helper()
			r := replicaFile(t, filepath.Dir(path))
			err := r.Update(t.Context(), func(tx alias.Tx) error { return tx.SetMeta(key, []byte(value)) })
			if err := errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	rewrite := func(change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			t.Helper()
			b, err := os.ReadFile(path)
			if err := errors.Join(err, os.WriteFile(path, change(b), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, damage := range map[string]func(t *testing.T, path string){
		"empty":        rewrite(func([]byte) []byte { return nil }),
		"text":         rewrite(func([]byte) []byte { return []byte("a text that is no database, and is long enough") }),
		"cut off":      rewrite(func(b []byte) []byte { return b[:len(b)/2] }),
		"no position":  set("replica", "{}"),
		"bad position": set("replica", "?"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := e.config(name)
			b := e.open(cfg)
			wantSame(t, "before", b, want)
			b.kill()
			damage(t, filepath.Join(cfg.Dir, "replica.db"))

			away := cfg
			away.URL = postgres.Through(t, netfault.Refused(t), e.url)
			if n, err := Open(t.Context(), away); err == nil {
				n.Close(t.Context())
				t.Error("it begins without the database")
			}
			wantSame(t, "after", e.open(cfg), want)
		})
	}
}

// TestUnwritableReplica: a replica that cannot be written is deleted, since a start from it would
// bring back what was changed since, and it is filled again when it can be.
func TestUnwritableReplica(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	cfg := e.config("b")
	a, b := e.node("a"), e.open(cfg)
	path := filepath.Join(cfg.Dir, "replica.db")
	if err := b.replica.store.Close(); err != nil { // all writes fail
		t.Fatal(err)
	}
	if _, err := a.CreateAlias(t.Context(), named("shop", "one"), alias.CredentialRef{KeyPair: keyPair(1)}); err != nil {
		t.Fatal(err)
	}
	b.sync(t)
	if _, err := os.Stat(path); !os.IsNotExist(err) || b.Position() != a.Position() {
		t.Errorf("the replica is there (%v), or the node is at %v, not at %v", err, b.Position(), a.Position())
	}
	// Nothing can be made at the path.
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	fill := func() {
		b.replica.tried = b.replica.tried.Add(-dateEvery)
		b.replica.keep(t.Context(), b.Registry)
	}
	fill()
	if b.replica.database() != nil {
		t.Error("there is a replica")
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	fill()
	want, _ := stored(t, a.db)
	wantSame(t, "after it can be written again", b, want)
}
