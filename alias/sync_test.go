package alias_test

import (
	"context"
	"errors"
	"testing"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
	"ixmage/internal/awstest/postgres"
)

// slowly is a store whose log is read one revision at a time, while the rows are those of now.
type slowly struct{ alias.Store }

func (s slowly) Log(ctx context.Context, after alias.Position, _ int) ([]alias.LogEntry, alias.Position, error) {
	return s.Store.Log(ctx, after, 1)
}

// shared opens a registry in PostgreSQL twice. The other one reads the log slowly.
func shared(t *testing.T) (one, other *alias.Registry) { t.Helper(); return sharedAt(t, migrated(t)) }

// migrated is a database with the whole schema.
func migrated(t *testing.T) string {
	t.Helper()
	return postgres.Prepared(t, func(ctx context.Context, url string) error {
		store, err := sqlstore.NewPostgres(url)
		if err != nil {
			return err
		}
		return errors.Join(store.Prepare(ctx), store.Close())
	})
}

func sharedAt(t *testing.T, url string) (one, other *alias.Registry) {
	t.Helper()
	store, err := sqlstore.NewPostgres(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if err := store.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.Open(t.Context(), seal.Spec{Dir: t.TempDir(), Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	open := func(s alias.Store) *alias.Registry {
		r, err := alias.Open(t.Context(), s, sealer, alias.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	return open(store), open(slowly{store})
}

// TestSyncIsNeverTorn: the rows that a part of the log names may be newer than this part. Between
// two parts an alias must have its credential all the same.
func TestSyncIsNeverTorn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		log  func(ctx context.Context, r *alias.Registry) error
	}{
		{"credential is made later", func(ctx context.Context, r *alias.Registry) error {
			if err := change(ctx, r, "guest", ""); err != nil {
				return err
			}
			if _, err := r.CreateAlias(ctx, draft("other"), pair("AKIA2")); err != nil {
				return err
			}
			return change(ctx, r, "guest", "other")
		}},
		{"credential is deleted later", func(ctx context.Context, r *alias.Registry) error {
			if err := change(ctx, r, "shop", ""); err != nil {
				return err
			}
			if _, err := r.CreateAlias(ctx, draft("other"), pair("AKIA2")); err != nil {
				return err
			}
			for _, name := range []alias.Name{"shop", "guest"} {
				if err := change(ctx, r, name, "other"); err != nil {
					return err
				}
			}
			return r.DeleteCredential(ctx, "shop", 0)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			one, other := shared(t)
			if _, err := one.CreateAlias(t.Context(), draft("shop"), pair("AKIA1")); err != nil {
				t.Fatal(err)
			}
			if _, err := one.CreateAlias(t.Context(), draft("guest"), alias.CredentialRef{Name: "shop"}); err != nil {
				t.Fatal(err)
			}
			if err := other.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := tt.log(t.Context(), one); err != nil {
				t.Fatal(err)
			}
			seen := 0
			other.Observe(func(c alias.Change) {
				seen++
				if _, ok := other.Lookup("guest"); !ok {
					t.Errorf("after %+v the alias has no credential", c)
				}
			})
			if err := other.Sync(t.Context()); err != nil || seen == 0 {
				t.Fatalf("Sync: %d changes, %v", seen, err)
			}
			got, _ := other.Lookup("guest")
			if got.Credential == nil || got.Credential.Name != "other" {
				t.Errorf("guest has the credential %v", got.Credential)
			}
		})
	}
}

// change changes an alias, and gives it another credential if use is not empty.
func change(ctx context.Context, r *alias.Registry, name, use alias.Name) error {
	_, err := r.UpdateAlias(ctx, name, 0, func(a *alias.Alias, ref *alias.CredentialRef) error {
		a.TTL++
		if use != "" {
			*ref = alias.CredentialRef{Name: use}
		}
		return nil
	})
	return err
}

// TestReloadFindsEqualRevisions: the database that a backup was restored to may have another
// credential with the revision of the one in memory.
func TestReloadFindsEqualRevisions(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	one, other := sharedAt(t, url)
	if _, err := one.CreateAlias(t.Context(), draft("shop"), pair("AKIA1")); err != nil {
		t.Fatal(err)
	}
	if err := other.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	const restore = `UPDATE registry_head SET tag = 'restored'; UPDATE changes SET tag = 'restored';
		UPDATE credentials SET public = '{"access_key_id":"AKIA2"}'`
	postgres.Shared(t).Exec(t, postgres.Name(t, url), restore)
	var keys []string
	other.Observe(func(c alias.Change) {
		if c.CredentialPut != nil {
			keys = append(keys, c.CredentialPut.AccessKeyID())
		}
	})
	if err := other.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 1 || keys[0] != "AKIA2" {
		t.Errorf("the observers were told of the keys %v", keys)
	}
}

// TestPurgeOfAnotherAlias: a node that is behind must not purge by the id of an alias that was
// deleted and made anew: every node would confirm the purge, and keep the objects.
func TestPurgeOfAnotherAlias(t *testing.T) {
	t.Parallel()
	one, other := shared(t)
	ctx := t.Context()
	register := func() *alias.Alias {
		a, err := one.CreateAlias(ctx, draft("shop"), anonymous)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	old := register()
	if err := other.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if err := one.DeleteAlias(ctx, "shop", 0); err != nil {
		t.Fatal(err)
	}
	again := register()
	purged := false
	purge := func(id int64) error {
		return other.Purge(ctx, "shop", alias.Purge{AliasID: id, Epoch: 1}, func() { purged = true })
	}
	if err := purge(old.ID); !errors.Is(err, alias.ErrStale) || purged {
		t.Errorf("the old one: %v, purged %t", err, purged)
	}
	if route, ok := other.Lookup("shop"); !ok || route.Alias.ID != again.ID {
		t.Errorf("the node knows %+v", route.Alias)
	}
	if err := purge(again.ID); err != nil || !purged {
		t.Errorf("the new one: %v, purged %t", err, purged)
	}
}
