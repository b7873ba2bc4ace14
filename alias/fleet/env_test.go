package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
	"ixmage/internal/awstest/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is a database with a key set, which nodes share.
type env struct {
	t    *testing.T
	url  string
	keys alias.Sealer
}

func newEnv(t *testing.T) *env {
	t.Helper()
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: t.TempDir(), Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	return &env{t, postgres.Prepared(t, migrate), keys}
}

// migrate prepares a database for the tests to copy.
func migrate(ctx context.Context, url string) error {
	db, err := sqlstore.NewPostgres(url)
	if err != nil {
		return err
	}
	return errors.Join(db.Prepare(ctx), db.Close())
}

// exec runs SQL in the database.
func (e *env) exec(format string, args ...any) [][]string {
	e.t.Helper()
	return postgres.Shared(e.t).Exec(e.t, postgres.Name(e.t, e.url), fmt.Sprintf(format, args...))
}

// member is a node whose registry follows only when the test says so, unless it is started.
type member struct {
	*Node
	*alias.Registry

	model *model
}

// config is that of a node in a data folder of its own. The test has beats of its own.
func (e *env) config(name string) Config {
	return Config{URL: e.url, Dir: e.t.TempDir(), Name: name, Log: slog.New(slog.DiscardHandler), Every: time.Hour, TTL: time.Minute}
}

func (e *env) node(name string) *member { e.t.Helper(); return e.open(e.config(name)) }

// open opens a node, and its registry.
func (e *env) open(cfg Config) *member {
	e.t.Helper()
	n, err := Open(e.t.Context(), cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { n.Close(context.Background()) })
	r, err := alias.OpenReplica(e.t.Context(), n.Store(), n.Replica(), alias.Options{Sealer: e.keys})
	if err != nil {
		e.t.Fatal(err)
	}
	n.registry = r
	n.replica.keep(e.t.Context(), r)
	m := &member{n, r, newModel(e.t, r)}
	r.Observe(m.model.observe)
	return m
}

// kill ends a node as kill -9 does: its row stays, and its replica is what it has written.
func (m *member) kill() {
	m.stop()
	m.tasks.Wait()
	m.replica.close()
	m.db.Close()
}

func (m *member) sync(t *testing.T) {
	t.Helper()
	if err := m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// model is the registry as the changes that observers are told make it.
type model struct {
	t           *testing.T
	aliases     map[alias.Name]*alias.Alias
	credentials map[alias.Name]*alias.Credential
	changes     []alias.Change
}

func newModel(t *testing.T, r *alias.Registry) *model {
	m := &model{t: t, aliases: map[alias.Name]*alias.Alias{}, credentials: map[alias.Name]*alias.Credential{}}
	r.CredentialsInMemory(func(c *alias.Credential) bool { m.credentials[c.Name] = c; return true })
	r.Routes(func(route alias.Route) bool { m.aliases[route.Alias.Name] = route.Alias; return true })
	return m
}

// observe checks that the value with an old id is told as deleted, and that an alias comes after
// its credential.
func (m *model) observe(c alias.Change) {
	m.changes = append(m.changes, c)
	switch {
	case c.AliasPut != nil:
		a := c.AliasPut
		if was := m.aliases[a.Name]; was != nil && was.ID != a.ID {
			m.t.Errorf("alias %s: the id %d is put before %d is deleted", a.Name, a.ID, was.ID)
		}
		if used := m.credentials[a.Credential]; used == nil || used.ID != a.CredentialID {
			m.t.Errorf("alias %s is put before its credential %s", a.Name, a.Credential)
		}
		m.aliases[a.Name] = a
	case c.AliasDeleted != nil:
		if was := m.aliases[c.AliasDeleted.Name]; was == nil || was.ID != c.AliasDeleted.ID {
			m.t.Errorf("alias %s of the id %d is deleted, and it is %+v", c.AliasDeleted.Name, c.AliasDeleted.ID, was)
		}
		delete(m.aliases, c.AliasDeleted.Name)
	case c.CredentialPut != nil:
		if was := m.credentials[c.CredentialPut.Name]; was != nil && was.ID != c.CredentialPut.ID {
			m.t.Errorf("credential %s: another id is put before %d is deleted", was.Name, was.ID)
		}
		m.credentials[c.CredentialPut.Name] = c.CredentialPut
	case c.CredentialDeleted != nil:
		if was := m.credentials[c.CredentialDeleted.Name]; was == nil || was.ID != c.CredentialDeleted.ID {
			m.t.Errorf("credential %s of the id %d is deleted, and it is %+v", c.CredentialDeleted.Name, c.CredentialDeleted.ID, was)
		}
		delete(m.credentials, c.CredentialDeleted.Name)
	}
}

// contents is a registry as text, to compare.
type contents struct {
	aliases     map[alias.Name]alias.Alias
	credentials map[alias.Name]string
}

func newContents() contents {
	return contents{map[alias.Name]alias.Alias{}, map[alias.Name]string{}}
}

func (c contents) alias(a *alias.Alias) error { c.aliases[a.Name] = *a; return nil }

func (c contents) credential(k *alias.Credential) error {
	c.credentials[k.Name] = fmt.Sprintf("%d %d %d %s %x", k.ID, k.Version, k.Revision, k.Provider.Kind(), k.Sealed)
	return nil
}

// memory is what Lookup returns.
func (m *member) memory() contents {
	c := newContents()
	m.CredentialsInMemory(func(k *alias.Credential) bool { return c.credential(k) == nil })
	m.Routes(func(route alias.Route) bool { return c.alias(route.Alias) == nil })
	return c
}

// told is what observers made of the changes.
func (m *model) told() contents {
	c := newContents()
	for _, k := range m.credentials {
		_ = c.credential(k)
	}
	for _, a := range m.aliases {
		_ = c.alias(a)
	}
	return c
}

// stored is what the database has, or a replica.
func stored(t *testing.T, s interface {
	Load(ctx context.Context, credential func(*alias.Credential) error, alias func(*alias.Alias) error) (alias.Position, error)
},
) (contents, alias.Position) {
	t.Helper()
	c := newContents()
	at, err := s.Load(t.Context(), c.credential, c.alias)
	if err != nil {
		t.Fatal(err)
	}
	return c, at
}

// replicaFile is the replica of a data folder.
func replicaFile(t *testing.T, dir string) *sqlstore.Replica {
	t.Helper()
	r, err := sqlstore.OpenReplica(t.Context(), filepath.Join(dir, "replica.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
