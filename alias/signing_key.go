package alias

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"
)

// SigningKey is a key with which URLs of an alias are signed and checked. A value returned by the
// Registry is shared and must not be changed.
type SigningKey struct {
	// KID names the key in a signed URL: 4 to 32 lower-case letters and digits.
	KID string
	// Secret has 32 random bytes. A Store neither keeps nor returns it; the Registry opens it,
	// and has no alias in memory with a key that cannot be opened.
	Secret    Secret
	CreatedAt time.Time
	// Sealed is the secret at rest, bound to the id of the alias and to KID.
	Sealed []byte
}

// Bounds of signing keys.
const (
	// MaxSigningKeys is the most signing keys of an alias.
	MaxSigningKeys = 16

	signingKeyBytes = 32
	kidLetters      = "abcdefghijklmnopqrstuvwxyz234567" // 32, so that a byte chooses each with the same probability
	kidLength       = 8
	minKID, maxKID  = 4, 32
)

// ErrTooManyKeys means that an alias has MaxSigningKeys.
var ErrTooManyKeys = errors.New("too many signing keys")

// IsKID reports whether a text has the form of the id of a signing key.
func IsKID(s string) bool {
	if len(s) < minKID || len(s) > maxKID {
		return false
	}
	for i := range len(s) {
		if !isLowerAlnum(s[i]) {
			return false
		}
	}
	return true
}

func newKID() string {
	b := make([]byte, kidLength)
	rand.Read(b) // never fails: it ends the program first
	for i := range b {
		b[i] = kidLetters[int(b[i])%len(kidLetters)]
	}
	return string(b)
}

// NewestKey returns the signing key that was made last.
func (a *Alias) NewestKey() (SigningKey, bool) {
	if len(a.SigningKeys) == 0 {
		return SigningKey{}, false
	}
	return a.SigningKeys[len(a.SigningKeys)-1], true
}

// AddSigningKey makes a signing key for an alias, the newest from then on, and an entry of the
// audit. It raises the revision of the alias. Running operations do not block it. It returns
// ErrNotFound if there is no such alias, and ErrTooManyKeys if it has MaxSigningKeys.
func (r *Registry) AddSigningKey(ctx context.Context, name Name, actor string) (SigningKey, error) {
	var key SigningKey
	entry := &AuditEntry{Actor: actor, Action: "create-signing-key", Alias: name, Outcome: "ok"}
	err := r.changeKeys(ctx, entry, func(a *Alias) error {
		if len(a.SigningKeys) >= MaxSigningKeys {
			return fmt.Errorf("%w: it has %d, the most; delete one that no URL in use is signed with",
				ErrTooManyKeys, len(a.SigningKeys))
		}
		var err error
		key, err = r.newSigningKey(a)
		a.SigningKeys = append(slices.Clip(a.SigningKeys), key)
		entry.Detail = "the signing key " + key.KID
		return err
	})
	return key, err
}

func (r *Registry) newSigningKey(a *Alias) (SigningKey, error) {
	secret := make([]byte, signingKeyBytes)
	rand.Read(secret)
	key := SigningKey{KID: newKID(), Secret: NewSecret(string(secret)), CreatedAt: now()}
	for slices.ContainsFunc(a.SigningKeys, func(k SigningKey) bool { return k.KID == key.KID }) {
		key.KID = newKID()
	}
	var err error
	if key.Sealed, err = r.sealer.SealSigningKey(key.Secret, a.ID, key.KID); err != nil {
		return SigningKey{}, fmt.Errorf("seal the signing key: %w", err)
	}
	return key, nil
}

// DeleteSigningKey deletes a signing key, and adds an entry to the audit: URLs that it has signed
// are refused from then on. It raises the revision of the alias. Running operations do not block it.
// It returns ErrNotFound if there is no such alias or key.
func (r *Registry) DeleteSigningKey(ctx context.Context, name Name, kid, actor string) error {
	return r.changeKeys(ctx, &AuditEntry{
		Actor: actor, Action: "delete-signing-key", Alias: name, Outcome: "ok", Detail: "the signing key " + kid,
	}, func(a *Alias) error {
		i := slices.IndexFunc(a.SigningKeys, func(k SigningKey) bool { return k.KID == kid })
		if i < 0 {
			return fmt.Errorf("its signing key: %w", ErrNotFound)
		}
		a.SigningKeys = slices.Concat(a.SigningKeys[:i], a.SigningKeys[i+1:])
		return nil
	})
}

// changeKeys runs change on a copy of the alias of an entry of the audit, which it adds. change must
// not write to the list of keys.
func (r *Registry) changeKeys(ctx context.Context, entry *AuditEntry, change func(*Alias) error) error {
	name := entry.Alias
	return r.write(ctx, []Name{name}, func(tx Tx) ([]Change, error) {
		cur, err := tx.Alias(name)
		if err != nil {
			return nil, aliasError(name, err)
		}
		c, err := tx.Credential(cur.Credential)
		if err != nil {
			return nil, credentialError(cur.Credential, err)
		}
		next := *cur
		if err := change(&next); err != nil {
			return nil, aliasError(name, err)
		}
		next.Revision, next.UpdatedAt = cur.Revision+1, now()
		if err := tx.UpdateAlias(&next); err != nil {
			return nil, aliasError(name, err)
		}
		entry.At = next.UpdatedAt
		if err := tx.AddAudit(entry); err != nil {
			return nil, err
		}
		return []Change{{CredentialPut: c}, {AliasPut: &next}}, nil // memory may lack it
	})
}

// openKeys opens the signing keys of an alias that a store returned, which the caller owns. An
// alias with a key that cannot be opened is damaged: with an empty secret everybody could sign.
func openKeys(sealer Sealer, a *Alias) error {
	for i, k := range a.SigningKeys {
		secret, err := sealer.OpenSigningKey(k.Sealed, a.ID, k.KID)
		if err == nil && len(secret.Reveal()) != signingKeyBytes {
			err = fmt.Errorf("it does not have %d bytes", signingKeyBytes)
		}
		if err != nil {
			cause := fmt.Errorf("open its signing key %s: %w", k.KID, err)
			return &DamagedError{Kind: "alias", Name: a.Name, ID: a.ID, Cause: cause}
		}
		a.SigningKeys[i].Secret = secret
	}
	return nil
}

// opened is a Store whose aliases have open signing keys.
type opened struct {
	Store
	sealer Sealer
}

// Load is that of Store, and of a Replica.
func (s opened) Load(
	ctx context.Context, credential func(*Credential) error, use func(*Alias) error,
) (Position, error) {
	return openingLoader{s.Store, s.sealer}.Load(ctx, credential, use)
}

// Named is that of Store.
func (s opened) Named(ctx context.Context, names []Name) ([]*Alias, []*Credential, error) {
	aliases, credentials, err := s.Store.Named(ctx, names)
	return s.readable(aliases), credentials, err
}

// Alias is that of Store.
func (s opened) Alias(ctx context.Context, name Name) (*Alias, error) {
	return opens(s.sealer)(s.Store.Alias(ctx, name))
}

// Aliases is that of Store.
func (s opened) Aliases(ctx context.Context, after Name, limit int) ([]*Alias, error) {
	aliases, err := s.Store.Aliases(ctx, after, limit)
	return s.readable(aliases), err
}

// Update is that of Store.
func (s opened) Update(ctx context.Context, fn func(tx Tx) error) error {
	return s.Store.Update(ctx, func(tx Tx) error { return fn(openedTx{tx, s.sealer}) })
}

func (s opened) readable(aliases []*Alias) []*Alias {
	return slices.DeleteFunc(aliases, func(a *Alias) bool { return openKeys(s.sealer, a) != nil })
}

// openedTx is a Tx whose aliases have open signing keys.
type openedTx struct {
	Tx
	sealer Sealer
}

// Alias is that of Tx.
func (t openedTx) Alias(name Name) (*Alias, error) { return opens(t.sealer)(t.Tx.Alias(name)) }

// opens returns a function that opens the keys of the alias that a read has returned.
func opens(sealer Sealer) func(*Alias, error) (*Alias, error) {
	return func(a *Alias, err error) (*Alias, error) {
		if err == nil {
			err = openKeys(sealer, a)
		}
		if err != nil {
			return nil, err
		}
		return a, nil
	}
}

// openingLoader is a Store or a Replica that is loaded with open signing keys.
type openingLoader struct {
	from   loader
	sealer Sealer
}

// Load is that of Store. An alias with a key that cannot be opened is among the damaged rows.
func (l openingLoader) Load(
	ctx context.Context, credential func(*Credential) error, use func(*Alias) error,
) (Position, error) {
	var closed []*DamagedError
	at, err := l.from.Load(ctx, credential, func(a *Alias) error {
		if d, ok := errors.AsType[*DamagedError](openKeys(l.sealer, a)); ok {
			closed = append(closed, d)
			return nil
		}
		return use(a)
	})
	rows, damaged := errors.AsType[*DamagedRowsError](err)
	switch {
	case len(closed) == 0 || err != nil && !damaged:
		return at, err
	case damaged:
		closed = append(rows.Rows, closed...)
	}
	return at, &DamagedRowsError{Rows: closed}
}
