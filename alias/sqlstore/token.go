package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ixmage/alias"
)

var tokenColumns = []string{
	"id", "name", "roles", "buckets", "digest", "created_at", "created_by", "expires_at", "last_used_at",
}

const selectTokens = `SELECT id, name, roles, buckets, digest, created_at, created_by, expires_at, last_used_at ` +
	`FROM tokens`

func scanToken(r row) (*alias.Token, error) {
	var t alias.Token
	var roles, buckets, digest []byte
	var created, expires, used int64
	err := r.Scan(&t.ID, &t.Name, &roles, &buckets, &digest, &created, &t.CreatedBy, &expires, &used)
	if err == nil {
		err = errors.Join(json.Unmarshal(roles, &t.Roles), json.Unmarshal(buckets, &t.Buckets))
	}
	if err == nil && copy(t.Digest[:], digest) != len(digest) || len(digest) != len(t.Digest) {
		err = errors.Join(err, fmt.Errorf("its digest has %d bytes", len(digest)))
	}
	if err != nil {
		return nil, &alias.DamagedError{Kind: "token", Name: t.Name, ID: t.ID, Cause: err}
	}
	t.CreatedAt, t.ExpiresAt, t.LastUsedAt = fromMicros(created), fromMicros(expires), fromMicros(used)
	return &t, nil
}

// Tokens reads all admin tokens, by name.
func (s *Store) Tokens(ctx context.Context) ([]*alias.Token, error) {
	return readable(s.read(ctx), scanToken, selectTokens+` ORDER BY name`)
}

// InsertToken adds a token.
func (t *tx) InsertToken(k *alias.Token) error {
	roles, err := json.Marshal(k.Roles)
	if err != nil {
		return t.fail(fmt.Errorf("encode the roles of a token: %w", err))
	}
	buckets, err := json.Marshal(append([]string{}, k.Buckets...))
	if err != nil {
		return t.fail(fmt.Errorf("encode the buckets of a token: %w", err))
	}
	t.log(alias.LogTokens, k.Name)
	_, err = t.exec(insertInto("tokens", tokenColumns), k.ID, string(k.Name), string(roles), string(buckets), k.Digest[:],
		micros(k.CreatedAt), k.CreatedBy, micros(k.ExpiresAt), micros(k.LastUsedAt))
	return err
}

// TouchToken sets the time of the last use of a token, if it exists.
func (t *tx) TouchToken(id int64, at time.Time) error {
	_, err := t.exec(`UPDATE tokens SET last_used_at = ? WHERE id = ? AND last_used_at < ?`, micros(at), id, micros(at))
	return err
}

// DeleteToken deletes a token: alias.ErrStale if there is none with this id.
func (t *tx) DeleteToken(id int64) error {
	name, err := t.change(alias.ErrStale, `DELETE FROM tokens WHERE id = ?`, id)
	t.log(alias.LogTokens, name)
	return err
}
