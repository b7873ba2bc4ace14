package alias_test

import (
	"context"
	"testing"

	"ixmage/alias"
)

// forgetful is a store that loses the answer to a write, and cannot be read
// either until it is well again.
type forgetful struct {
	alias.Store
	ill bool
}

func (s *forgetful) Update(ctx context.Context, fn func(alias.Tx) error) error {
	err := s.Store.Update(ctx, fn)
	if err == nil && s.ill {
		return errLost
	}
	return err
}

func (s *forgetful) Alias(ctx context.Context, name alias.Name) (*alias.Alias, error) {
	if s.ill {
		return nil, errLost
	}
	return s.Store.Alias(ctx, name)
}

func (s *forgetful) Credential(ctx context.Context, name alias.Name) (*alias.Credential, error) {
	if s.ill {
		return nil, errLost
	}
	return s.Store.Credential(ctx, name)
}

// heals are the writes after which memory has to know of what an earlier write,
// or another node, has stored.
var heals = []struct {
	name  string
	alias alias.Name
	write func(context.Context, *alias.Registry) error
}{
	{"alias that names the credential", "guest", func(ctx context.Context, r *alias.Registry) error {
		_, err := r.CreateAlias(ctx, draft("guest"), alias.CredentialRef{Name: "shop"})
		return err
	}},
	{"alias changed", "shop", func(ctx context.Context, r *alias.Registry) error {
		_, err := r.UpdateAlias(ctx, "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error { a.TTL++; return nil })
		return err
	}},
	{"alias written as it was", "shop", func(ctx context.Context, r *alias.Registry) error {
		_, err := r.UpdateAlias(ctx, "shop", 0, func(*alias.Alias, *alias.CredentialRef) error { return nil })
		return err
	}},
	{"alias purged", "shop", func(ctx context.Context, r *alias.Registry) error {
		_, err := r.RaiseEpoch(ctx, "shop")
		return err
	}},
	{"alias given the credential that it has", "shop", func(ctx context.Context, r *alias.Registry) error {
		_, err := r.UpdateAlias(ctx, "shop", 0, func(_ *alias.Alias, use *alias.CredentialRef) error { use.Name = "shop"; return nil })
		return err
	}},
}

func TestWriteHealsLostAnswer(t *testing.T) {
	t.Parallel()
	for _, row := range heals {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			base := newFixture(t)
			store := &forgetful{Store: base.store}
			f := openFixture(t, base.dir, store)
			store.ill = true
			_, err := f.CreateAlias(t.Context(), draft("shop"), pair("AKIA1"))
			wantError(t, err, errLost, "")
			store.ill = false
			if _, ok := f.Lookup("shop"); ok {
				t.Fatal("memory knows of the alias: the row tests nothing")
			}
			if err := row.write(t.Context(), f.Registry); err != nil {
				t.Fatal(err)
			}
			if _, ok := f.Lookup(string(row.alias)); !ok {
				t.Errorf("the alias %s cannot be looked up", row.alias)
			}
		})
	}
}

func TestWriteHealsOtherNode(t *testing.T) {
	t.Parallel()
	for _, row := range heals {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			there := newFixture(t)
			here, err := alias.Open(t.Context(), there.store, there.sealer, alias.Policy{})
			if err != nil {
				t.Fatal(err)
			}
			there.create(t, "shop", pair("AKIA1"))
			if err := row.write(t.Context(), here); err != nil {
				t.Fatal(err)
			}
			if _, ok := here.Lookup(string(row.alias)); !ok {
				t.Errorf("the alias %s cannot be looked up", row.alias)
			}
		})
	}
}

// TestLostAnswerNamesCredential: what is read again after a lost answer brings
// the credential of the alias along, whatever its name is.
func TestLostAnswerNamesCredential(t *testing.T) {
	t.Parallel()
	there := newFixture(t)
	store := &lossy{Store: there.store, fail: func() (before, after bool) { return false, true }}
	here, err := alias.Open(t.Context(), store, there.sealer, alias.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	there.create(t, "shop", pair("AKIA1"))
	_, err = here.CreateAlias(t.Context(), draft("guest"), alias.CredentialRef{Name: "shop"})
	wantError(t, err, errLost, "")
	if _, ok := here.Lookup("guest"); !ok {
		t.Error("the alias cannot be looked up")
	}
}

// TestObserveOnce: observers get no change that memory already has.
func TestObserveOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.create(t, "shop", pair("AKIA1"))
	seen := f.observe()
	f.create(t, "guest", alias.CredentialRef{Name: "shop"})
	wantSeen(t, seen, "alias guest r1")
	nothing := func(*alias.Alias, *alias.CredentialRef) error { return nil }
	if _, err := f.UpdateAlias(ctx, "guest", 0, nothing); err != nil {
		t.Fatal(err)
	}
	wantSeen(t, seen)
	touch := func(a *alias.Alias, _ *alias.CredentialRef) error { a.TTL++; return nil }
	if _, err := f.UpdateAlias(ctx, "guest", 0, touch); err != nil {
		t.Fatal(err)
	}
	wantSeen(t, seen, "alias guest r2")
}

// away is a store whose transactions cannot begin.
type away struct {
	alias.Store
	reads int
}

func (s *away) Update(context.Context, func(alias.Tx) error) error { return errLost }

func (s *away) Alias(ctx context.Context, name alias.Name) (*alias.Alias, error) {
	s.reads++
	return s.Store.Alias(ctx, name)
}

func (s *away) Credential(ctx context.Context, name alias.Name) (*alias.Credential, error) {
	s.reads++
	return s.Store.Credential(ctx, name)
}

// TestWriteThatDidNotBegin: it stored nothing, so the caller does not wait until a database that
// is away has been read too.
func TestWriteThatDidNotBegin(t *testing.T) {
	t.Parallel()
	base := newFixture(t)
	store := &away{Store: base.store}
	f := openFixture(t, base.dir, store)
	store.reads = 0
	_, err := f.CreateAlias(t.Context(), draft("shop"), pair("AKIA1"))
	wantError(t, err, errLost, "")
	if store.reads != 0 {
		t.Errorf("%d reads after a transaction that did not begin", store.reads)
	}
}
