package provision

import (
	"context"
	"errors"
	"slices"
	"strings"

	"ixmage/alias"
	"ixmage/alias/scope"
)

// verify verifies the pending key, or the current one on the location that a reuse added. The
// user then gets a new generation: a copy of the registry in which this operation still runs
// must not undo what comes now.
func (t *task) verify(ctx context.Context, _ decision) (string, error) {
	detail, found, err := t.verifyAll(ctx)
	if err != nil {
		return "", err
	}
	t.data.Scope = found
	if !t.seen.untagged && raiseGeneration(t.prov) {
		t.seen.user.state = userRaising
	}
	return detail, t.store(ctx)
}

// verifyAll verifies the key wherever it has to work. It returns the worst scope.
func (t *task) verifyAll(ctx context.Context) (detail string, found alias.Verdict, err error) {
	if t.op.Kind == alias.OperationRotate {
		return t.verifyRotation(ctx)
	}
	a, err := t.p.cfg.Registry.Alias(ctx, t.op.Alias)
	if err != nil {
		return "", "", &registryError{err}
	}
	kp, err := t.pair()
	if err != nil {
		return "", "", err
	}
	return t.verifyOn(ctx, a, kp)
}

// proveAliases bounds for how many aliases of a credential a new key is verified.
const proveAliases = 5

// verifyRotation verifies the pending key on the locations of the credential's
// aliases. It skips an alias that the current key cannot read either: such an alias
// must not stop the replacement of a leaked key.
func (t *task) verifyRotation(ctx context.Context) (string, alias.Verdict, error) {
	aliases, err := t.aliases(ctx)
	if err != nil {
		return "", "", err
	}
	current, err := t.reveal(t.p.cfg.Registry.Reveal(t.c))
	if err != nil {
		return "", "", err
	}
	kp, err := t.pair()
	if err != nil {
		return "", "", err
	}
	var details []string
	var worst alias.Verdict
	for _, a := range aliases {
		detail, found, err := t.verifyOn(ctx, a, kp)
		if err != nil && t.mattersOn(ctx, a, current, err) {
			return "", "", err
		}
		if err != nil {
			detail, found = "skipped: the old key cannot read it either", worst
		}
		worst = worse(worst, found)
		details = append(details, string(a.Name)+": "+detail)
	}
	if worst == "" { // verified for no alias
		detail, found, err := t.verifyLocation(ctx, kp)
		if err != nil {
			return "", "", err
		}
		details, worst = append(details, detail), found
	}
	return strings.Join(details, "; "), worst, nil
}

// mattersOn reports whether the failure of the new key on an alias stops the rotation. It
// does not if the old key cannot read the alias either.
func (t *task) mattersOn(ctx context.Context, a *alias.Alias, current alias.KeyPair, err error) bool {
	_, fatal := errors.AsType[*registryError](err)
	return fatal || ctx.Err() != nil || t.worksOn(ctx, a, current)
}

// verifyLocation verifies a key on the first location, without an existing object.
func (t *task) verifyLocation(ctx context.Context, kp alias.KeyPair) (string, alias.Verdict, error) {
	if len(t.prov.Grants) == 0 {
		return "", "", failf(codeNotVerified, "the credential %s has no location on which the new key can be verified",
			t.c.Name)
	}
	return t.verifyOn(ctx, &alias.Alias{Name: t.c.Name, Location: t.prov.Grants[0].Location()}, kp)
}

// verifyOn verifies a key for one alias and stores the verification.
func (t *task) verifyOn(ctx context.Context, a *alias.Alias, kp alias.KeyPair) (string, alias.Verdict, error) {
	v, detail, err := t.prove(ctx, a, t.prov, kp)
	if err != nil {
		return "", "", err
	}
	v.CredentialVersion = t.c.Version
	if t.prov.Pending != nil {
		v.CredentialVersion = t.prov.Pending.Version
	}
	return detail, v.Scope(), t.save(ctx, func(tx alias.Tx) ([]alias.Change, error) {
		if a.ID == 0 {
			return nil, nil
		}
		err := tx.PutVerification(v)
		return nil, err
	})
}

// worse is the worse of two verdicts. An empty a stands for no verdict yet.
func worse(a, b alias.Verdict) alias.Verdict {
	if a == "" {
		return b
	}
	v := alias.Verification{Checks: []alias.Check{{Verdict: a}, {Verdict: b}}}
	return v.Scope()
}

// worksOn reports whether a key can read an alias now.
func (t *task) worksOn(ctx context.Context, a *alias.Alias, kp alias.KeyPair) bool {
	checks := scope.CheckRead(ctx, t.p.keyOf(a.Location, kp), t.p.target(a, t.prov, nil))
	v := alias.Verification{Checks: checks}
	return scope.Conclusive(checks) && !v.Blocks()
}

// aliases are those on which a key of the credential is verified: they are served
// and lie within its grants. At most proveAliases are returned.
func (t *task) aliases(ctx context.Context) ([]*alias.Alias, error) {
	registry := t.p.cfg.Registry
	names, err := registry.AliasesOf(ctx, t.c.ID)
	if err != nil {
		return nil, &registryError{err}
	}
	var list []*alias.Alias
	for _, name := range names {
		a, err := registry.Alias(ctx, name)
		if errors.Is(err, alias.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, &registryError{err}
		}
		if a.Serves() && covers(t.prov, a) && len(list) < proveAliases {
			list = append(list, a)
		}
	}
	return list, nil
}

// covers reports whether a user's policy covers an alias.
func covers(p *alias.Provisioned, a *alias.Alias) bool {
	return p.Mode == alias.PolicyReadOnly || slices.ContainsFunc(p.Grants, func(g alias.Grant) bool {
		return g.Bucket == a.Bucket && strings.HasPrefix(a.Prefix, g.Prefix)
	})
}
