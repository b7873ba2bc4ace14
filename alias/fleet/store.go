package fleet

import (
	"context"
	"errors"
	"fmt"

	"ixmage/alias"
	"ixmage/alias/sqlstore"
)

// Store is the shared registry. While the database is away, it answers some reads from the
// replica, and refuses everything else with alias.ErrUnavailable at once.
type Store struct {
	*sqlstore.Postgres

	n *Node
}

var _ alias.Store = (*Store)(nil)

// Store returns the registry of the fleet.
func (n *Node) Store() *Store { return &Store{n.db, n} }

// Replica returns the copy on this node.
func (n *Node) Replica() alias.Replica { return n.replica } //nolint:ireturn // the registry knows no more of it

// Settings are kept beside the replica, for what is of this node alone.
type Settings struct{ r *replica }

// Settings returns those of this node.
func (n *Node) Settings() Settings { return Settings{n.replica} }

// Meta reads a setting: alias.ErrNotFound if it was never set, or was lost with the replica.
func (s Settings) Meta(ctx context.Context, key string) ([]byte, error) {
	if db := s.r.database(); db != nil {
		return db.Meta(ctx, key)
	}
	return nil, alias.ErrNotFound
}

// Update writes settings. Without a replica they are lost, as that is.
func (s Settings) Update(ctx context.Context, fn func(alias.Tx) error) error {
	if db := s.r.database(); db != nil {
		return db.Update(ctx, fn)
	}
	return nil
}

// fallBack reads from the database, or else from the replica.
func fallBack[T any](s *Store, database func(alias.Store) (T, error)) (T, error) {
	if !s.n.away() {
		v, err := database(s.Postgres)
		if !errors.Is(err, alias.ErrUnavailable) {
			return v, err
		}
		s.n.heard(err)
	}
	local := s.n.replica.database()
	if local == nil {
		var none T
		return none, s.n.unavailable()
	}
	return database(local)
}

// Update refuses at once while the database is away.
func (s *Store) Update(ctx context.Context, fn func(alias.Tx) error) error {
	if s.n.away() {
		return s.n.unavailable()
	}
	err := s.Postgres.Update(ctx, fn)
	s.n.heard(err)
	return err
}

// errOther means that the database is not the one that the node has joined.
var errOther = errors.New("the registry is another one")

// Log is that of the database. Another history is followed only if it belongs to this fleet.
func (s *Store) Log(ctx context.Context, after alias.Position, limit int) ([]alias.LogEntry, alias.Position, error) {
	entries, to, err := s.Postgres.Log(ctx, after, limit)
	if errors.Is(err, alias.ErrHistory) && s.n.verify != nil {
		if other := s.n.verify(ctx, s.n.db); other != nil {
			return nil, alias.Position{}, fmt.Errorf("%w: %w: %w", alias.ErrUnavailable, errOther, other)
		}
	}
	return entries, to, err
}

// Alias reads one alias.
func (s *Store) Alias(ctx context.Context, name alias.Name) (*alias.Alias, error) {
	return fallBack(s, func(db alias.Store) (*alias.Alias, error) { return db.Alias(ctx, name) })
}

// Credential reads one credential.
func (s *Store) Credential(ctx context.Context, name alias.Name) (*alias.Credential, error) {
	return fallBack(s, func(db alias.Store) (*alias.Credential, error) { return db.Credential(ctx, name) })
}

// Aliases reads aliases by name.
func (s *Store) Aliases(ctx context.Context, after alias.Name, limit int) ([]*alias.Alias, error) {
	return fallBack(s, func(db alias.Store) ([]*alias.Alias, error) { return db.Aliases(ctx, after, limit) })
}

// Credentials reads credentials by name.
func (s *Store) Credentials(ctx context.Context, after alias.Name, limit int) ([]*alias.Credential, error) {
	return fallBack(s, func(db alias.Store) ([]*alias.Credential, error) { return db.Credentials(ctx, after, limit) })
}

// AliasesOf names the aliases that use a credential.
func (s *Store) AliasesOf(ctx context.Context, credentialID int64) ([]alias.Name, error) {
	return fallBack(s, func(db alias.Store) ([]alias.Name, error) { return db.AliasesOf(ctx, credentialID) })
}

// CountSealed counts the credentials that hold a sealed value.
func (s *Store) CountSealed(ctx context.Context) (int, error) {
	return fallBack(s, func(db alias.Store) (int, error) { return db.CountSealed(ctx) })
}

// Tokens reads all admin tokens. Once the node follows the log, those of the replica are no
// answer: they are from before the change of which the log tells.
func (s *Store) Tokens(ctx context.Context) ([]*alias.Token, error) {
	if s.n.registry != nil {
		return s.Postgres.Tokens(ctx)
	}
	return fallBack(s, func(db alias.Store) ([]*alias.Token, error) { return db.Tokens(ctx) })
}

// Meta reads a setting.
func (s *Store) Meta(ctx context.Context, key string) ([]byte, error) {
	return fallBack(s, func(db alias.Store) ([]byte, error) { return db.Meta(ctx, key) })
}
