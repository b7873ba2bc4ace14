package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

// aToken returns a token with every field set.
func aToken(id int64, name alias.Name) *alias.Token {
	return &alias.Token{
		ID: id, Name: name, Roles: []alias.TokenRole{alias.RoleRead, alias.RolePurge}, Buckets: []string{"acme-*", "b"},
		Digest: alias.DigestOf(string(name)), CreatedAt: at, CreatedBy: "admin@::1",
		ExpiresAt: at.Add(time.Hour), LastUsedAt: at.Add(time.Minute),
	}
}

func wantTokens(t *testing.T, s alias.Store, want ...*alias.Token) {
	t.Helper()
	got, err := s.Tokens(t.Context())
	if err != nil {
		t.Fatalf("Tokens: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Tokens (-want +got):\n%s", diff)
	}
}

func insertToken(tk *alias.Token) func(alias.Tx) error {
	return func(tx alias.Tx) error { return tx.InsertToken(tk) }
}

func testTokens(t *testing.T, s alias.Store) {
	wantTokens(t, s)
	admin := []alias.TokenRole{alias.RoleAdmin}
	bare := &alias.Token{ID: 3, Name: "bare", Roles: admin, Buckets: []string{}, CreatedAt: at}
	full := aToken(2, "zeta")
	must(t, s, insertToken(full))
	must(t, s, insertToken(bare))
	wantTokens(t, s, bare, full)

	for name, taken := range map[string]*alias.Token{
		"name":   {ID: 9, Name: "zeta", Digest: alias.DigestOf("other"), CreatedAt: at},
		"digest": {ID: 9, Name: "other", Digest: full.Digest, CreatedAt: at},
		"id":     {ID: 2, Name: "other", Digest: alias.DigestOf("other"), CreatedAt: at},
	} {
		if err := s.Update(t.Context(), insertToken(taken)); !errors.Is(err, alias.ErrExists) {
			t.Errorf("taken %s: got %v, want ErrExists", name, err)
		}
	}

	touch := func(id int64, at time.Time) { must(t, s, func(tx alias.Tx) error { return tx.TouchToken(id, at) }) }
	touch(3, at)
	touch(2, at) // earlier than what is stored
	touch(7, at) // no such token
	bare.LastUsedAt = at
	wantTokens(t, s, bare, full)

	must(t, s, func(tx alias.Tx) error { return tx.DeleteToken(2) })
	wantTokens(t, s, bare)
	err := s.Update(t.Context(), func(tx alias.Tx) error { return tx.DeleteToken(2) })
	if !errors.Is(err, alias.ErrStale) {
		t.Errorf("deleted twice: got %v, want ErrStale", err)
	}
}
