package alias

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// CreateCredential registers a key pair, a role, the default or an anonymous credential
// under a name: ErrExists if the name is taken.
func (r *Registry) CreateCredential(ctx context.Context, name Name, use CredentialRef) (*Credential, error) {
	problems := name.problems()
	switch {
	case use.Name != "" || use.count() != 1:
		problems = append(problems, Problem{"credential", "must be a key pair, a role, the default or anonymous"})
	default:
		problems = append(problems, use.ownProblems()...)
	}
	if err := invalid(problems); err != nil {
		return nil, err
	}
	var c *Credential
	err := r.write(ctx, []Name{name}, func(tx Tx) ([]Change, error) {
		if _, err := tx.Credential(name); !errors.Is(err, ErrNotFound) {
			return nil, credentialError(name, orExists(err))
		}
		var err error
		if c, err = r.insert(tx, name, use); err != nil {
			return nil, err
		}
		return []Change{{CredentialPut: c}}, nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// insert makes and stores a new credential.
func (r *Registry) insert(tx Tx, name Name, use CredentialRef) (*Credential, error) {
	at := now()
	c := &Credential{
		ID: NewID(), Name: name, Provider: Anonymous{}, Version: 1, State: CredentialActive,
		Revision: 1, CreatedAt: at, UpdatedAt: at,
	}
	switch {
	case use.KeyPair != nil:
		if err := r.seal(c, *use.KeyPair); err != nil {
			return nil, err
		}
		c.Provider = Static{AccessKeyID: use.KeyPair.AccessKeyID, Expect: use.Expect}
	case use.Temporary != nil:
		if err := checkSource(tx, use.Temporary); err != nil {
			return nil, err
		}
		c.Provider = use.Temporary
	}
	if err := tx.InsertCredential(c); err != nil {
		return nil, credentialError(name, err)
	}
	return c, nil
}

// seal seals a key pair for a credential, whose ID and Version must be set.
func (r *Registry) seal(c *Credential, kp KeyPair) error {
	sealed, err := r.sealer.Seal(kp.SecretAccessKey, c.ID, c.Version)
	if err != nil {
		return fmt.Errorf("seal the secret of credential %s: %w", c.Name, err)
	}
	c.Provider, c.Sealed = Static{AccessKeyID: kp.AccessKeyID}, sealed
	return nil
}

// ReplaceKeyPair replaces the key pair of a static credential. It returns ErrNotStatic
// for any other kind, and ErrStale unless ifRevision is the current one or 0.
func (r *Registry) ReplaceKeyPair(ctx context.Context, name Name, ifRevision int64, kp KeyPair) (*Credential, error) {
	return r.ChangeStatic(ctx, name, ifRevision, StaticChange{KeyPair: &kp})
}

// StaticChange is a change of a static credential. It keeps what is nil.
type StaticChange struct {
	KeyPair *KeyPair
	Expect  *PolicyMode // as in Static
}

// Validate is like CredentialRef.Validate.
func (s StaticChange) Validate() error {
	ref := CredentialRef{KeyPair: s.KeyPair}
	problems := ref.ownProblems()
	if s.Expect != nil {
		problems = append(problems, expectProblems(*s.Expect)...)
	}
	return invalid(problems)
}

// ChangeStatic changes a static credential. The last verdict is about another key or
// expectation then, and is dropped. Its errors are
// those of ReplaceKeyPair.
func (r *Registry) ChangeStatic(
	ctx context.Context, name Name, ifRevision int64, change StaticChange,
) (*Credential, error) {
	if err := change.Validate(); err != nil {
		return nil, err
	}
	var c *Credential
	err := r.write(ctx, []Name{name}, func(tx Tx) ([]Change, error) {
		var err error
		if c, err = currentCredential(tx, name, ifRevision); err != nil {
			return nil, err
		}
		was, ok := c.Provider.(Static)
		if !ok {
			return nil, fmt.Errorf("credential %s is of kind %s: %w", name, c.Provider.Kind(), ErrNotStatic)
		}
		if err := r.change(c, was, change); err != nil {
			return nil, err
		}
		if err := tx.UpdateCredential(c); err != nil {
			return nil, credentialError(name, err)
		}
		return []Change{{CredentialPut: c}}, nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (r *Registry) change(c *Credential, was Static, change StaticChange) error {
	at := now()
	c.Revision, c.UpdatedAt = c.Revision+1, at
	if change.KeyPair != nil || change.Expect != nil && *change.Expect != was.Expect {
		c.Scope, c.VerifiedAt = "", time.Time{}
	}
	if change.KeyPair != nil {
		c.Version, c.RotatedAt = c.Version+1, at
		if err := r.seal(c, *change.KeyPair); err != nil {
			return err
		}
		was.AccessKeyID = change.KeyPair.AccessKeyID
	}
	if change.Expect != nil {
		was.Expect = *change.Expect
	}
	c.Provider = was
	return nil
}

// ReplaceRole replaces the role of a credential: it gets a new version, and so new sessions. It
// returns ErrNotRole for any other kind, and ErrStale unless ifRevision is the current one or 0.
func (r *Registry) ReplaceRole(ctx context.Context, name Name, ifRevision int64, role Role) (*Credential, error) {
	if err := invalid(role.problems()); err != nil {
		return nil, err
	}
	var c *Credential
	err := r.write(ctx, []Name{name}, func(tx Tx) ([]Change, error) {
		var err error
		if c, err = currentCredential(tx, name, ifRevision); err != nil {
			return nil, err
		}
		if _, ok := c.Role(); !ok {
			return nil, fmt.Errorf("credential %s is of kind %s: %w", name, c.Provider.Kind(), ErrNotRole)
		}
		if err := checkSource(tx, role); err != nil {
			return nil, err
		}
		at := now()
		c.Provider, c.Version, c.RotatedAt = role, c.Version+1, at
		c.Revision, c.UpdatedAt = c.Revision+1, at
		c.Scope, c.VerifiedAt = "", time.Time{}
		if err := tx.UpdateCredential(c); err != nil {
			return nil, credentialError(name, err)
		}
		return []Change{{CredentialPut: c}}, nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// checkSource checks that the source of a role exists and has a long-lived key.
func checkSource(tx Tx, p Provider) error {
	role, ok := p.(Role)
	if !ok || role.Source == SourceDefault {
		return nil
	}
	c, err := tx.Credential(role.Source)
	switch {
	case errors.Is(err, ErrNotFound):
		return invalid([]Problem{{"source", fmt.Sprintf("there is no credential named %q", role.Source)}})
	case err != nil:
		return credentialError(role.Source, err)
	case c.Provider.Kind() != KindStatic:
		return invalid([]Problem{{"source", fmt.Sprintf(
			"must be default or a static credential: %s is of kind %s", c.Name, c.Provider.Kind())}})
	}
	return nil
}

// rolesOf names the roles that a credential is the source of, sorted. They are read from
// memory, which all writes wait for: in a registry that many nodes share
// a write first brings it up to date.
func (r *Registry) rolesOf(c *Credential) []Name {
	var roles []Name
	if c.Provider.Kind() != KindStatic || c.Name == SourceDefault {
		return nil
	}
	r.CredentialsInMemory(func(other *Credential) bool {
		if role, ok := other.Role(); ok && role.Source == c.Name {
			roles = append(roles, other.Name)
		}
		return true
	})
	slices.Sort(roles)
	return roles
}

// DeleteCredential deletes a credential. It returns *InUseError while aliases or roles use it,
// ErrProvisioned if its IAM user must be removed first, and ErrStale unless ifRevision
// is the current one or 0.
func (r *Registry) DeleteCredential(ctx context.Context, name Name, ifRevision int64) error {
	return r.write(ctx, []Name{name}, func(tx Tx) ([]Change, error) {
		c, err := currentCredential(tx, name, ifRevision)
		if err != nil {
			return nil, err
		}
		if c.Provider.Kind() == KindProvisioned {
			return nil, credentialError(name, ErrProvisioned)
		}
		users, err := tx.AliasesOf(c.ID)
		if err != nil {
			return nil, credentialError(name, err)
		}
		if roles := r.rolesOf(c); len(users)+len(roles) > 0 {
			return nil, &InUseError{Credential: name, Aliases: users, Roles: roles}
		}
		if err := tx.DeleteCredential(c.ID, c.Revision); err != nil {
			return nil, credentialError(name, err)
		}
		return []Change{{CredentialDeleted: c}}, nil
	})
}

func currentCredential(tx Tx, name Name, ifRevision int64) (*Credential, error) {
	c, err := tx.Credential(name)
	if err != nil {
		return nil, credentialError(name, err)
	}
	if ifRevision != 0 && ifRevision != c.Revision {
		return nil, credentialError(name, ErrStale)
	}
	return c, nil
}

// Credential reads one credential from the store: ErrNotFound if there is none.
func (r *Registry) Credential(ctx context.Context, name Name) (*Credential, error) {
	c, err := r.store.Credential(ctx, name)
	return c, credentialError(name, err)
}

// Credentials reads at most limit credentials with names above after, sorted by name.
func (r *Registry) Credentials(ctx context.Context, after Name, limit int) ([]*Credential, error) {
	return r.store.Credentials(ctx, after, limit)
}

// AliasesOf names the aliases that use a credential, sorted.
func (r *Registry) AliasesOf(ctx context.Context, credentialID int64) ([]Name, error) {
	return r.store.AliasesOf(ctx, credentialID)
}

// credentialError adds the name of the credential to an error; nil stays nil.
func credentialError(name Name, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("credential %s: %w", name, err)
}
