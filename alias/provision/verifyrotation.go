package provision

import (
	"context"
	"errors"
	"slices"
	"strings"

	"ixmage/alias"
	"ixmage/alias/scope"
)

// proveAliases bounds how many aliases of a credential a new key is proven on.
const proveAliases = 5

// verifyRotation proves the new key on the locations of the credential's
// aliases. An alias that the old key cannot read either says nothing about the
// new one, and must not keep a leaked key alive.
func (t *task) verifyRotation(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	aliases, err := t.aliases(ctx, c)
	if err != nil {
		return "", err
	}
	old, err := t.reveal(t.p.cfg.Registry.Reveal(c))
	if err != nil {
		return "", err
	}
	kp, err := t.pair(ctx)
	if err != nil {
		return "", err
	}
	var details []string
	t.data.Scope = ""
	for _, a := range aliases {
		detail, err := t.verifyOn(ctx, a, p, kp)
		if err != nil && t.registryOnly(err) == nil && ctx.Err() == nil && !t.worksOn(ctx, a, p, old) {
			detail, err = "the old key does not read it either: left out", nil
		}
		if err != nil {
			return "", err
		}
		details = append(details, string(a.Name)+": "+detail)
	}
	return t.verifyPlace(ctx, details, kp)
}

// verifyPlace proves the new key on the first location alone, without an object,
// where no alias could prove it.
func (t *task) verifyPlace(ctx context.Context, details []string, kp alias.KeyPair) (string, error) {
	if t.data.Scope != "" {
		return strings.Join(details, "; "), nil
	}
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	place := &alias.Alias{Name: c.Name, Location: p.Grants[0].Location()}
	detail, err := t.verifyOn(ctx, place, p, kp)
	return strings.Join(append(details, detail), "; "), err
}

// verifyOn proves the new key for one alias and keeps what was found.
func (t *task) verifyOn(ctx context.Context, a *alias.Alias, p *alias.Provisioned, kp alias.KeyPair) (string, error) {
	v, detail, err := t.prove(ctx, a, p, kp)
	if err != nil {
		return "", err
	}
	v.CredentialVersion = t.data.Pending.Version
	t.data.Scope = worse(t.data.Scope, v.Scope())
	return detail, t.save(ctx, func(tx alias.Tx) ([]alias.Change, error) {
		if a.ID == 0 {
			return nil, nil
		}
		err := tx.PutVerification(v)
		return nil, err
	})
}

// worse is the worse of two verdicts; empty is none yet.
func worse(a, b alias.Verdict) alias.Verdict {
	if a == "" {
		return b
	}
	v := alias.Verification{Checks: []alias.Check{{Verdict: a}, {Verdict: b}}}
	return v.Scope()
}

// worksOn reports whether a key can read an alias now.
func (t *task) worksOn(ctx context.Context, a *alias.Alias, p *alias.Provisioned, kp alias.KeyPair) bool {
	checks := scope.CheckRead(ctx, t.p.keyOf(a.Location, kp), t.p.target(a, p, nil))
	v := alias.Verification{Checks: checks}
	return scope.Settled(checks) && !v.Blocks()
}

// aliases are those that the credential is proven on: what is served, and lies
// within its grants. Where there is none, its first location stands in.
func (t *task) aliases(ctx context.Context, c *alias.Credential) ([]*alias.Alias, error) {
	store := t.p.cfg.Registry.Store()
	names, err := store.AliasesOf(ctx, c.ID)
	if err != nil {
		return nil, &registryError{err}
	}
	p, _ := c.Provisioned()
	var list []*alias.Alias
	for _, name := range names {
		a, err := store.Alias(ctx, name)
		if errors.Is(err, alias.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, &registryError{err}
		}
		if a.Serves() && granted(p, a) && len(list) < proveAliases {
			list = append(list, a)
		}
	}
	if len(list) == 0 && len(p.Grants) > 0 {
		list = append(list, &alias.Alias{Name: c.Name, Location: p.Grants[0].Location()})
	}
	return list, nil
}

// granted reports whether a user's rights are meant to cover an alias.
func granted(p *alias.Provisioned, a *alias.Alias) bool {
	return p.Mode == alias.PolicyReadOnly || slices.ContainsFunc(p.Grants, func(g alias.Grant) bool {
		return g.Bucket == a.Bucket && strings.HasPrefix(a.Prefix, g.Prefix)
	})
}
