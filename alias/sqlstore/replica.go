package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"ixmage/alias"
)

// Replica is a copy of a shared registry in an SQLite database on this node: aliases,
// credentials, admin tokens and settings. It has neither history nor usage.
type Replica struct{ *Store }

// OpenReplica opens a replica, or makes an empty one.
func OpenReplica(ctx context.Context, path string) (*Replica, error) {
	s, err := OpenSQLite(ctx, path)
	if err != nil {
		return nil, err
	}
	return &Replica{s}, nil
}

// metaReplica is the setting that has the position of a replica, and when it was known to be
// that of the database.
const metaReplica = "replica"

// ReplicaState is the position of a replica.
type ReplicaState struct {
	Position alias.Position `json:"position"`
	// At is the last time, by the database's clock, at which the database had this position.
	At time.Time `json:"at"`
	// ClockOffset is the clock of the database minus that of this machine at that time.
	ClockOffset time.Duration `json:"clock_offset"`
}

// State returns the position of the replica. It is zero if the replica is empty.
func (r *Replica) State(ctx context.Context) (ReplicaState, error) {
	var s ReplicaState
	value, err := r.Meta(ctx, metaReplica)
	if errors.Is(err, alias.ErrNotFound) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(value, &s)
	}
	if err != nil {
		return ReplicaState{}, fmt.Errorf("read the state of the replica: %w", err)
	}
	return s, nil
}

// Load reads the replica.
func (r *Replica) Load(
	ctx context.Context, credential func(*alias.Credential) error, use func(*alias.Alias) error,
) (alias.Position, error) {
	state, err := r.State(ctx)
	if err != nil || state.Position == (alias.Position{}) {
		return alias.Position{}, err
	}
	_, err = r.Store.Load(ctx, credential, use)
	return state.Position, err
}

// Apply stores changes of aliases and credentials and the state after them.
func (r *Replica) Apply(ctx context.Context, changes []alias.Change, state ReplicaState) error {
	value, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return r.update(ctx, func(t *tx) error {
		// A credential may be deleted before its alias gets another one.
		if _, err := t.exec(`PRAGMA defer_foreign_keys = ON`); err != nil {
			return err
		}
		if err := t.apply(changes); err != nil {
			return err
		}
		return t.SetMeta(metaReplica, value)
	})
}

// apply prepares each statement once, because that takes most of the time of a write.
func (t *tx) apply(changes []alias.Change) error {
	prepared := map[string]*sql.Stmt{}
	defer func() {
		for _, stmt := range prepared {
			stmt.Close()
		}
	}()
	run := func(query string, args ...any) error {
		stmt := prepared[query]
		if stmt == nil {
			var err error
			if stmt, err = t.prepare(query); err != nil {
				return err
			}
			prepared[query] = stmt
		}
		_, err := t.run(stmt, args...)
		return err
	}
	for _, c := range changes {
		var err error
		switch {
		case c.AliasPut != nil:
			err = run(putAlias, aliasValues(c.AliasPut)...)
		case c.CredentialPut != nil:
			var values []any
			if values, err = credentialValues(c.CredentialPut); err == nil {
				err = run(putCredential, values...)
			}
		case c.AliasDeleted != nil:
			err = run(`DELETE FROM aliases WHERE id = ?`, c.AliasDeleted.ID)
		case c.CredentialDeleted != nil:
			err = run(`DELETE FROM credentials WHERE id = ?`, c.CredentialDeleted.ID)
		case c.Tokens: // PutTokens follows. A kill in between must not bring back one that was deleted
			err = run(`DELETE FROM tokens`)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var (
	putAlias      = insertInto("aliases", aliasColumns) + orReplace(aliasColumns)
	putCredential = insertInto("credentials", credentialColumns) + orReplace(credentialColumns)
)

// orReplace replaces the row with the same id, the last of the columns.
func orReplace(columns []string) string {
	set := make([]string, len(columns)-1)
	for i, c := range columns[:len(columns)-1] {
		set[i] = c + " = excluded." + c
	}
	return ` ON CONFLICT (id) DO UPDATE SET ` + strings.Join(set, ", ")
}

// PutTokens replaces all admin tokens.
func (r *Replica) PutTokens(ctx context.Context, tokens []*alias.Token) error {
	return r.update(ctx, func(t *tx) error {
		if _, err := t.exec(`DELETE FROM tokens`); err != nil {
			return err
		}
		for _, k := range tokens {
			if err := t.InsertToken(k); err != nil {
				return err
			}
		}
		return nil
	})
}
