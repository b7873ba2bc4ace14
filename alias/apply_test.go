package alias_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"ixmage/alias"
)

// pairOf is a credential and an alias that uses it, as an operation makes them.
func pairOf(credential, name alias.Name) (*alias.Credential, *alias.Alias) {
	c := &alias.Credential{ID: alias.NewID(), Name: credential, Provider: provisioned(), State: alias.CredentialActive, Version: 1, Revision: 1}
	a := draft(name)
	a.Normalize()
	a.ID, a.CredentialID, a.Credential, a.Epoch, a.Revision = alias.NewID(), c.ID, c.Name, 1, 1
	return c, a
}

// insertPair is the argument of Apply that stores them.
func insertPair(c *alias.Credential, a *alias.Alias) func(alias.Tx) ([]alias.Change, error) {
	return func(tx alias.Tx) ([]alias.Change, error) {
		return []alias.Change{{CredentialPut: c}, {AliasPut: a}}, errors.Join(
			tx.InsertCredential(c), tx.InsertAlias(a),
			tx.InsertOperation(&alias.Operation{ID: "op-1", Alias: a.Name, Credential: c.Name, State: alias.OperationRunning, Revision: 1}),
			tx.AddAudit(&alias.AuditEntry{Operation: "op-1"}))
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	seen := f.observe()
	c, a := pairOf("media", "shop")
	err := f.Apply(t.Context(), []alias.Name{"media", "shop"}, func(tx alias.Tx) ([]alias.Change, error) {
		changes, err := insertPair(c, a)(tx)
		if _, ok := f.Lookup("shop"); ok {
			t.Error("the alias is seen before it is stored")
		}
		return changes, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if route, ok := f.Lookup("shop"); !ok || route.Alias != a || route.Credential != c {
		t.Errorf("Lookup: got %+v, %v", route, ok)
	}
	wantSeen(t, seen, "credential media v1", "alias shop r1")
	if o, err := f.History().Operation(t.Context(), "op-1"); err != nil || o.Alias != "shop" {
		t.Errorf("operation: got %+v, %v", o, err)
	}
	if got := f.Count()[alias.StateActive]; got != 1 {
		t.Errorf("Count: got %d active ones", got)
	}
	f.wantAsStored(t, "shop", "media")
}

func TestApplyRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	seen := f.observe()
	stop := errors.New("stop")
	c, a := pairOf("media", "shop")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, row := range map[string]struct {
		ctx  context.Context //nolint:containedctx // it is a row of a table
		fn   func(alias.Tx) ([]alias.Change, error)
		want error
	}{
		"error": {t.Context(), func(tx alias.Tx) ([]alias.Change, error) {
			changes, err := insertPair(c, a)(tx)
			return changes, errors.Join(err, stop)
		}, stop},
		"error of a write": {t.Context(), func(tx alias.Tx) ([]alias.Change, error) {
			changes, err := insertPair(c, a)(tx)
			return changes, errors.Join(err, tx.InsertCredential(c))
		}, alias.ErrExists},
		"error of a write that is overlooked": {t.Context(), func(tx alias.Tx) ([]alias.Change, error) {
			changes, err := insertPair(c, a)(tx)
			_ = tx.InsertCredential(c)
			return changes, err
		}, alias.ErrExists},
		"no time": {ended, insertPair(c, a), context.Canceled},
	} {
		if err := f.Apply(row.ctx, []alias.Name{"media", "shop"}, row.fn); !errors.Is(err, row.want) {
			t.Errorf("%s: got %v, want %v", name, err, row.want)
		}
		if _, ok := f.Lookup("shop"); ok {
			t.Errorf("%s: the alias is there", name)
		}
		if _, err := f.History().Operation(t.Context(), "op-1"); !errors.Is(err, alias.ErrNotFound) {
			t.Errorf("%s: the operation: got %v", name, err)
		}
		wantSeen(t, seen)
	}
	f.wantAsStored(t, "shop", "media")
}

// TestApplyLostAnswer: when a commit succeeds and its answer is lost, memory
// shows all that was written, under every name.
func TestApplyLostAnswer(t *testing.T) {
	t.Parallel()
	for name, names := range map[string][]alias.Name{
		"credential first": {"media", "shop"}, "alias first": {"shop", "media"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := newFixture(t)
			store := &lossy{Store: base.store, fail: func() (before, after bool) { return false, false }}
			f := openFixture(t, base.dir, store)
			c, a := pairOf("media", "shop")
			apply := func(fn func(alias.Tx) ([]alias.Change, error)) {
				t.Helper()
				store.fail = func() (before, after bool) { return false, true }
				if err := f.Apply(t.Context(), names, fn); !errors.Is(err, errLost) {
					t.Fatalf("got %v", err)
				}
				store.fail = func() (before, after bool) { return false, false }
				f.wantAsStored(t, "shop", "media")
			}
			apply(insertPair(c, a))
			if _, ok := f.Lookup("shop"); !ok {
				t.Error("the alias is not seen")
			}
			next := *c
			next.State, next.Revision = alias.CredentialRotating, 2
			apply(func(tx alias.Tx) ([]alias.Change, error) {
				return []alias.Change{{CredentialPut: &next}}, tx.UpdateCredential(&next)
			})
			if route, _ := f.Lookup("shop"); route.Credential == nil || route.Credential.State != alias.CredentialRotating {
				t.Errorf("the changed credential: got %+v", route.Credential)
			}
			apply(func(tx alias.Tx) ([]alias.Change, error) {
				return []alias.Change{{AliasDeleted: a}, {CredentialDeleted: &next}},
					errors.Join(tx.DeleteAlias(a.ID, 1), tx.DeleteCredential(c.ID, 2))
			})
			if _, ok := f.Lookup("shop"); ok {
				t.Error("the deleted alias is seen")
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Routes(func(alias.Route) bool { t.Error("there is a route"); return true })
	f.CredentialsInMemory(func(*alias.Credential) bool { t.Error("there is a credential"); return true })
	f.create(t, "shop", pair("AKIA1"))
	f.create(t, "blog", alias.CredentialRef{Name: "shop"})
	f.create(t, "open", anonymous)
	f.addProvisioned(t, "lone", alias.CredentialFailed)
	var aliases, credentials []string
	f.Routes(func(r alias.Route) bool {
		aliases = append(aliases, string(r.Alias.Name+":"+r.Credential.Name))
		return true
	})
	f.CredentialsInMemory(func(c *alias.Credential) bool {
		credentials = append(credentials, string(c.Name))
		return true
	})
	slices.Sort(aliases)
	slices.Sort(credentials)
	if want := []string{"blog:shop", "open:open", "shop:shop"}; !slices.Equal(aliases, want) {
		t.Errorf("routes: got %q, want %q", aliases, want)
	}
	if want := []string{"lone", "open", "shop"}; !slices.Equal(credentials, want) {
		t.Errorf("credentials: got %q, want %q", credentials, want)
	}
	calls := 0
	f.Routes(func(alias.Route) bool { calls++; return false })
	f.CredentialsInMemory(func(*alias.Credential) bool { calls++; return false })
	if calls != 2 {
		t.Errorf("after a false there were %d calls, want one each", calls)
	}
}
