package alias_test

import (
	"context"
	"testing"

	"ixmage/alias"
)

// overtaking is a store in which another write comes before this one, and waits until the tokens
// were read again: its memory lacks a change of tokens by another node.
type overtaking struct {
	alias.Store

	tokens *alias.Tokens
}

func (s *overtaking) Update(ctx context.Context, fn func(alias.Tx) error) error {
	if err := s.tokens.Reload(ctx); err != nil {
		return err
	}
	return s.Store.Update(ctx, fn)
}

// TestReloadDoesNotWaitForWrites: a write of tokens may wait for a transaction that waits for the
// tokens.
func TestReloadDoesNotWaitForWrites(t *testing.T) {
	t.Parallel()
	store := &overtaking{Store: newFixture(t).store}
	tokens, err := alias.OpenTokens(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	store.tokens = tokens
	created, err := tokens.Create(t.Context(), alias.Token{
		Name: "ci", Roles: []alias.TokenRole{alias.RoleRead}, Digest: alias.TokenDigest{1}, CreatedBy: "admin",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := tokens.Find(created.Digest); !ok {
		t.Error("the new token is unknown")
	}
	if err := tokens.Delete(t.Context(), "ci", "admin"); err != nil {
		t.Fatal(err)
	}
	if _, ok := tokens.Find(created.Digest); ok {
		t.Error("the deleted token is known")
	}
}
