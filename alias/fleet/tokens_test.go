package fleet_test

import (
	"context"
	"errors"
	"testing"

	"ixmage/alias"
	"ixmage/alias/fleet"
	"ixmage/alias/seal"
	"ixmage/internal/awstest/postgres"
)

// TestTokensOfOthers: a node that cannot read the tokens which another node has changed does not
// report the change, and has it when it can. The tokens of the replica are no answer then.
func TestTokensOfOthers(t *testing.T) {
	t.Parallel()
	url := postgres.Database(t)
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: t.TempDir(), Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	one, two := join(t, url, "one", keys), join(t, url, "two", keys)
	token := alias.Token{Name: "reader", Roles: []alias.TokenRole{alias.RoleRead}, Digest: alias.TokenDigest{1}, CreatedBy: "admin"}
	if _, err := one.tokens.Create(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	before := two.Position()
	two.store.refuse = errors.New("no tokens")
	if err := two.Sync(t.Context()); err == nil || two.Position() != before {
		t.Errorf("without the tokens: %v at %v, want an error at %v", err, two.Position(), before)
	}
	two.store.refuse = nil
	if err := two.Sync(t.Context()); err != nil || two.Position() == before {
		t.Errorf("with the tokens: %v at %v", err, two.Position())
	}
	if _, ok := two.tokens.Find(token.Digest); !ok {
		t.Error("the token is unknown at the other node")
	}
}

// member is a registry with its tokens as a node has them.
type member struct {
	*alias.Registry

	tokens *alias.Tokens
	store  *refusing
}

// refusing is a store that can refuse to read tokens.
type refusing struct {
	alias.Store

	refuse error
}

func (r *refusing) Tokens(ctx context.Context) ([]*alias.Token, error) {
	if r.refuse != nil {
		return nil, r.refuse
	}
	return r.Store.Tokens(ctx)
}

func join(t *testing.T, url, name string, keys alias.Sealer) *member {
	t.Helper()
	node, err := fleet.Open(t.Context(), fleet.Config{URL: url, Dir: t.TempDir(), Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close(context.WithoutCancel(t.Context())) })
	m := &member{store: &refusing{Store: node.Store()}}
	if m.Registry, err = alias.OpenReplica(t.Context(), m.store, node.Replica(), alias.Options{Sealer: keys}); err != nil {
		t.Fatal(err)
	}
	if m.tokens, err = alias.OpenTokens(t.Context(), m.store); err != nil {
		t.Fatal(err)
	}
	m.FollowTokens(m.tokens)
	return m
}
