package alias

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// SharedAnonymous is the name of the anonymous credential for aliases of public buckets
// whose name is taken by a credential of another kind.
const SharedAnonymous Name = "anonymous"

// CredentialRef refers to the credential of an alias. Exactly one field is set, and Expect
// only beside a key pair; the zero value, where it is allowed, keeps the current credential.
type CredentialRef struct {
	Name      Name     // a credential that exists
	KeyPair   *KeyPair // a static credential to be made
	Temporary Provider // a Role, or the Default, to be made
	Anonymous bool     // no signature

	Expect PolicyMode // of a key pair, as in Static
}

// IsZero reports whether nothing is set.
func (c CredentialRef) IsZero() bool { return c == CredentialRef{} }

// problems validates the reference; the transaction checks whether a named credential
// exists.
func (c CredentialRef) problems() []Problem {
	if c.count() != 1 {
		return []Problem{{
			"credential", "must be one of: the name of a credential, a key pair, a role, null for a public bucket",
		}}
	}
	problems := c.ownProblems()
	for i := range problems {
		problems[i].Field = "credential." + problems[i].Field
	}
	return problems
}

// count is how many ways to refer to a credential are set.
func (c CredentialRef) count() int {
	set := 0
	for _, is := range []bool{c.Name != "", c.KeyPair != nil, c.Temporary != nil, c.Anonymous} {
		if is {
			set++
		}
	}
	return set
}

// ownProblems validates the credential to be made, and what a key pair is meant to be.
func (c CredentialRef) ownProblems() []Problem {
	problems := expectProblems(c.Expect)
	role, ok := c.Temporary.(Role)
	switch {
	case ok:
		problems = role.problems()
	case c.KeyPair != nil:
		problems = append(c.KeyPair.problems(), problems...)
	case c.Expect != "":
		problems = []Problem{{"expect", "must be empty: it is for key pairs"}}
	}
	return problems
}

// Validate checks the form of a key pair and what it is meant to be, or of a role, not whether
// AWS accepts it. The error is a *ValidationError with every problem.
func (c CredentialRef) Validate() error { return invalid(c.ownProblems()) }

// CreateAlias registers an alias and returns it as stored. It ignores the
// fields of a that the registry sets: ID, CredentialID, Credential, SigningKeys, Epoch,
// Revision and the times; an empty State means active. A key pair or a role becomes a credential with
// the name of the alias, in the same transaction. Anonymous uses or makes the anonymous
// credential of that name, or SharedAnonymous if a credential of another kind has the
// name. The text of ErrExists tells whether the alias or the credential exists; the
// name of an unknown credential is a *ValidationError.
func (r *Registry) CreateAlias(ctx context.Context, a *Alias, use CredentialRef) (*Alias, error) {
	next := *a
	next.Normalize()
	next.Templates = r.policy.CanonicalTemplates(next.Templates)
	next.ID, next.Epoch, next.Revision, next.SigningKeys = NewID(), 1, 1, nil
	next.CreatedAt = now()
	next.UpdatedAt = next.CreatedAt
	if err := invalid(append(next.problems(r.policy), use.problems()...)); err != nil {
		return nil, err
	}
	err := r.write(ctx, []Name{next.Name}, func(tx Tx) ([]Change, error) {
		if _, err := tx.Alias(next.Name); !errors.Is(err, ErrNotFound) {
			return nil, aliasError(next.Name, orExists(err))
		}
		changes, err := r.attach(tx, &next, use)
		if err != nil {
			return nil, err
		}
		if err := tx.InsertAlias(&next); err != nil {
			return nil, aliasError(next.Name, err)
		}
		return append(changes, Change{AliasPut: &next}), nil
	})
	if err != nil {
		return nil, err
	}
	return &next, nil
}

// UpdateAlias changes an alias. change edits a copy of it, and sets the reference to
// give the alias another credential, by Name or Anonymous, as in CreateAlias. It may be
// called more than once. Its changes of the name, the ID, the signing keys, the revision and
// the times are ignored. A change of bucket, prefix, region or endpoint raises the epoch; change
// may raise it too, to drop the cached objects. If nothing differs at the end, the
// revision stays. UpdateAlias returns ErrStale unless ifRevision is the current one or
// 0, and an error of change unchanged.
func (r *Registry) UpdateAlias(
	ctx context.Context, name Name, ifRevision int64, change func(*Alias, *CredentialRef) error,
) (*Alias, error) {
	var result *Alias
	err := r.write(ctx, []Name{name}, func(tx Tx) ([]Change, error) {
		cur, err := tx.Alias(name)
		if err != nil {
			return nil, aliasError(name, err)
		}
		if ifRevision != 0 && ifRevision != cur.Revision {
			return nil, aliasError(name, ErrStale)
		}
		if err := idle(tx, name, ""); err != nil {
			return nil, aliasError(name, err)
		}
		next, changes, err := r.edit(tx, cur, change)
		if err != nil {
			return nil, err
		}
		if next.same(cur) {
			result = cur
			return append(changes, Change{AliasPut: cur}), nil // memory may lack it
		}
		next.Revision, next.UpdatedAt = cur.Revision+1, now()
		if err := tx.UpdateAlias(next); err != nil {
			return nil, aliasError(name, err)
		}
		if next.moved(cur.Location) {
			unverified, err := unverify(tx, next)
			if err != nil {
				return nil, err
			}
			changes = append(changes, unverified...)
		}
		result = next
		return append(changes, Change{AliasPut: next}), nil
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// unverify drops what was proven of an alias with temporary keys before it moved: other sessions,
// with another policy, sign for it now.
func unverify(tx Tx, a *Alias) ([]Change, error) {
	c, err := tx.Credential(a.Credential)
	if err != nil {
		return nil, credentialError(a.Credential, err)
	}
	if kind := c.Provider.Kind(); kind != KindRole && kind != KindDefault {
		return nil, nil
	}
	if err := tx.DeleteVerification(a.ID); err != nil || c.Scope == "" {
		return nil, aliasError(a.Name, err)
	}
	c.Scope, c.VerifiedAt = "", time.Time{}
	c.Revision, c.UpdatedAt = c.Revision+1, now()
	return []Change{{CredentialPut: c}}, credentialError(c.Name, tx.UpdateCredential(c))
}

// edit runs change on a copy of cur and sets the fields that the registry keeps.
func (r *Registry) edit(tx Tx, cur *Alias, change func(*Alias, *CredentialRef) error) (*Alias, []Change, error) {
	next, use := *cur, CredentialRef{}
	if err := change(&next, &use); err != nil {
		return nil, nil, err
	}
	next.Normalize()
	next.Templates = r.policy.CanonicalTemplates(next.Templates)
	next.SigningKeys = cur.SigningKeys
	next.ID, next.Name, next.CredentialID, next.Credential = cur.ID, cur.Name, cur.CredentialID, cur.Credential
	next.Revision, next.CreatedAt, next.UpdatedAt = cur.Revision, cur.CreatedAt, cur.UpdatedAt
	// With a lower epoch, purged objects could be served again.
	next.Epoch = max(next.Epoch, cur.Epoch)
	if next.Epoch == cur.Epoch && next.moved(cur.Location) {
		next.Epoch++
	}
	problems := next.newProblems(cur, r.policy)
	switch {
	case use.KeyPair != nil, use.Temporary != nil:
		problems = append(problems, Problem{
			"credential", "must be the name of a credential, or null; to replace a key pair, replace the credential",
		})
	case !use.IsZero():
		problems = append(problems, use.problems()...)
	}
	if err := invalid(problems); err != nil {
		return nil, nil, err
	}
	keeps := use.IsZero()
	if keeps {
		use.Name = cur.Credential // unchanged; attach adds it for a memory that lacks it
	}
	changes, err := r.attach(tx, &next, use)
	if keeps && errors.Is(err, ErrBusy) {
		err = nil // the credential failed; the alias can still be disabled, or corrected
	}
	return &next, changes, err
}

// attach sets the credential of an alias, and makes the credential if necessary. A
// credential that is in the store already is among the changes too, because memory may
// lack it: another node may have made it, or a write of this node whose answer was
// lost. Lookup does not find an alias whose credential is not in memory.
func (r *Registry) attach(tx Tx, a *Alias, use CredentialRef) ([]Change, error) {
	name, c, err := findCredential(tx, a.Name, use)
	switch {
	case err == nil && (use.KeyPair != nil || use.Temporary != nil):
		return nil, credentialError(name, ErrExists)
	case err == nil && use.Anonymous && c.Provider.Kind() != KindAnonymous:
		return nil, fmt.Errorf("credential %s is of kind %s: %w: "+
			"register an anonymous credential under another name, and name that", name, c.Provider.Kind(), ErrExists)
	case err == nil:
		a.CredentialID, a.Credential = c.ID, c.Name
		return []Change{{CredentialPut: c}}, signs(c)
	case !errors.Is(err, ErrNotFound):
		return nil, credentialError(name, err)
	case use.Name != "":
		return nil, invalid([]Problem{{"credential", fmt.Sprintf("there is no credential named %q", name)}})
	}
	if c, err = r.insert(tx, name, use); err != nil {
		return nil, err
	}
	a.CredentialID, a.Credential = c.ID, c.Name
	return []Change{{CredentialPut: c}}, nil
}

// signs returns ErrBusy for a credential that a new alias may not use.
func signs(c *Credential) error {
	if c.State == CredentialActive || c.State == CredentialRotating {
		return nil
	}
	return fmt.Errorf("credential %s is %s: %w", c.Name, c.State, ErrBusy)
}

// findCredential looks for the credential that use asks for. With ErrNotFound it
// returns the name for a new credential.
func findCredential(tx Tx, own Name, use CredentialRef) (Name, *Credential, error) {
	name := cmp.Or(use.Name, own)
	c, err := tx.Credential(name)
	if err == nil && use.Anonymous && c.Provider.Kind() != KindAnonymous {
		name = SharedAnonymous
		c, err = tx.Credential(name)
	}
	return name, c, err
}

// RaiseEpoch makes all cached objects of an alias unreachable at once, and returns
// the alias with its new epoch. The configuration does not change: the revision
// stays, so that a purge breaks no If-Match, and UpdatedAt stays too. Running operations
// do not block it. It returns ErrNotFound if there is no such alias. After any other
// error the epoch is unchanged, unless it was stored and only the answer was lost; then
// memory has the new epoch too.
func (r *Registry) RaiseEpoch(ctx context.Context, name Name) (*Alias, error) {
	var raised *Alias
	err := r.write(ctx, []Name{name}, func(tx Tx) ([]Change, error) {
		a, err := tx.Alias(name)
		if err != nil {
			return nil, aliasError(name, err)
		}
		if err := tx.RaiseEpoch(a.ID); err != nil {
			return nil, aliasError(name, err)
		}
		if raised, err = tx.Alias(name); err != nil {
			return nil, aliasError(name, err)
		}
		c, err := tx.Credential(raised.Credential)
		if err != nil {
			return nil, credentialError(raised.Credential, err)
		}
		return []Change{{CredentialPut: c}, {AliasPut: raised}}, nil // memory may lack it
	})
	if err != nil {
		return nil, err
	}
	return raised, nil
}

// DeleteAlias removes an alias, and its credential as DropOwn does. It returns ErrStale unless
// ifRevision is the current one or 0.
func (r *Registry) DeleteAlias(ctx context.Context, name Name, ifRevision int64) error {
	return r.write(ctx, []Name{name}, func(tx Tx) ([]Change, error) {
		a, err := tx.Alias(name)
		if err != nil {
			return nil, aliasError(name, err)
		}
		if ifRevision != 0 && ifRevision != a.Revision {
			return nil, aliasError(name, ErrStale)
		}
		if err := idle(tx, name, ""); err != nil {
			return nil, aliasError(name, err)
		}
		if err := tx.DeleteAlias(a.ID, a.Revision); err != nil {
			return nil, aliasError(name, err)
		}
		gone, err := r.DropOwn(tx, a)
		return append([]Change{{AliasDeleted: a}}, gone...), err
	})
}

// DropOwn deletes the credential with the name of an alias that has been deleted, or uses
// another credential now, if it was given with the alias (a static one, a role or the default)
// and no other alias or role uses it. a is the alias as it was.
func (r *Registry) DropOwn(tx Tx, a *Alias) ([]Change, error) {
	if a.Credential != a.Name {
		return nil, nil
	}
	c, err := tx.Credential(a.Credential)
	if err != nil {
		return nil, credentialError(a.Credential, err)
	}
	if kind := c.Provider.Kind(); kind == KindAnonymous || kind == KindProvisioned || len(r.rolesOf(c)) > 0 {
		return nil, nil
	}
	users, err := tx.AliasesOf(c.ID)
	if err != nil || len(users) > 0 {
		return nil, credentialError(c.Name, err)
	}
	if err := tx.DeleteCredential(c.ID, c.Revision); err != nil {
		return nil, credentialError(c.Name, err)
	}
	return []Change{{CredentialDeleted: c}}, nil
}

// Alias reads one alias from the store: ErrNotFound if there is none.
func (r *Registry) Alias(ctx context.Context, name Name) (*Alias, error) {
	a, err := r.store.Alias(ctx, name)
	return a, aliasError(name, err)
}

// Aliases reads at most limit aliases with names above after, sorted by name.
func (r *Registry) Aliases(ctx context.Context, after Name, limit int) ([]*Alias, error) {
	return r.store.Aliases(ctx, after, limit)
}

// idle returns ErrBusy, with the id of the operation, while one runs for the alias or
// the credential; an empty name is not checked.
func idle(tx Tx, aliasName, credential Name) error {
	o, err := tx.RunningOperation(aliasName, credential)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: %s, of kind %s; wait for its end", ErrBusy, o.ID, o.Kind)
}

// aliasError adds the name of the alias to an error; nil stays nil.
func aliasError(name Name, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("alias %s: %w", name, err)
}

// orExists returns ErrExists when a lookup succeeded: the name is taken.
func orExists(err error) error {
	if err == nil {
		return ErrExists
	}
	return err
}

// now returns the time with the precision that every store keeps.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// NewID returns a random positive id; its 63 bits make it unique.
func NewID() int64 {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails: it ends the program first
		if id := int64(binary.LittleEndian.Uint64(b[:]) >> 1); id > 0 {
			return id
		}
	}
}
