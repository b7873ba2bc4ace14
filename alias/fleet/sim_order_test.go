package fleet

import (
	"context"
	"os"
	"testing"

	"ixmage/alias"
)

// long reports whether make test-long runs.
func long() bool { return os.Getenv("IXMAGE_INTERLEAVINGS") == "all" }

// oneChange is a store of a fleet with one change in its log.
type oneChange struct{ alias.Store }

func (oneChange) Load(context.Context, func(*alias.Credential) error, func(*alias.Alias) error) (alias.Position, error) {
	return alias.Position{Revision: 1, Tag: "a"}, nil
}

func (oneChange) Log(_ context.Context, after alias.Position, _ int) ([]alias.LogEntry, alias.Position, error) {
	if after.Revision == 2 {
		return nil, after, nil
	}
	return []alias.LogEntry{{Kind: alias.LogPurge, Purge: &alias.Purge{AliasID: 1, Key: "a.png"}}},
		alias.Position{Revision: 2, Tag: "b"}, nil
}

func (oneChange) Named(context.Context, []alias.Name) ([]*alias.Alias, []*alias.Credential, error) {
	return nil, nil, nil
}

func (oneChange) Meta(context.Context, string) ([]byte, error) { return nil, alias.ErrNotFound }

func (oneChange) Update(context.Context, func(alias.Tx) error) error { return nil } // the key check

// shown notes in which order the parts are shown, and when the position is reported.
type shown struct {
	r     *alias.Registry
	parts []part
}

func (s *shown) note(p part) {
	if s.r.Position().Revision != 1 {
		s.parts = append(s.parts, reported)
	}
	s.parts = append(s.parts, p)
}

func (*shown) Load(context.Context, func(*alias.Credential) error, func(*alias.Alias) error) (alias.Position, error) {
	return alias.Position{}, nil
}

func (s *shown) Apply(_ context.Context, _ []alias.Change, at alias.Position) {
	if at.Revision == 2 {
		s.note(replicated)
	}
}

// shownOrder is the order of the parts of a change in a real registry.
func shownOrder(t *testing.T) [3]part {
	t.Helper()
	s := &shown{}
	r, err := alias.OpenReplica(t.Context(), oneChange{}, s, alias.Options{Sealer: noSecrets{}})
	if err != nil {
		t.Fatal(err)
	}
	s.r = r
	r.Observe(func(alias.Change) { s.note(observers) })
	if err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.parts) == 2 && r.Position().Revision == 2 {
		s.parts = append(s.parts, reported)
	}
	if len(s.parts) != 3 {
		t.Fatalf("parts %v", s.parts)
	}
	return [3]part(s.parts)
}

// noSecrets seals nothing, and has no signing keys.
type noSecrets struct{ alias.Sealer }

func (noSecrets) Seal(alias.Secret, int64, int64) ([]byte, error) { return []byte("x"), nil }

func (noSecrets) Open([]byte, int64, int64) (alias.Secret, error) { return alias.Secret{}, nil }
