package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/scope"
	"ixmage/internal/awserr"
)

// A rotation has at most two keys at any time, and one that works for every
// request:
//
//	k1 ── create k2 ── k2 proven ── swap: k2 signs, k1 is the fallback
//	   ── soak ── k1 inactive ── soak: can still be brought back
//	   ── k1 refused ── k1 deleted ── k2
//
// Before the swap a failure deletes k2. If k2 turns out to be bad before k1 is
// dead, k1 signs again. Any other failure after the swap stops: both keys are ours
// and known, and the next rotation begins with deleting k1. In an emergency, when
// a key has leaked, there is no fallback and no soak.
var rotateSteps = []step{
	{"check-keys", (*task).checkKeys},
	{"create-key", (*task).createKey},
	{"verify", (*task).verifyRotation},
	{"swap", (*task).swap},
	{"soak", (*task).soak},
	{"deactivate-old", (*task).deactivateRetiring},
	{"soak-inactive", (*task).soakInactive},
	{"probe-refused", (*task).probeRetiringRefused},
	{"delete-old", (*task).deleteRetiring},
	{"confirm", (*task).confirmKeys},
}

// checkKeys makes sure that the user has the one key that we know. A key that a
// rotation before left behind is ours by id, and goes first.
func (t *task) checkKeys(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	user, err := t.ownUser(ctx, p)
	if err != nil {
		return "", err
	}
	if user == nil {
		return "", failf(codeUserMissing, "there is no IAM user %s any more: provision the alias anew", p.User.Name)
	}
	if err := t.deleteLost(ctx, c, p); err != nil {
		return "", err
	}
	if p.PendingDeletion != nil { // deleteLost has deleted what was there of them
		p.PendingDeletion = nil
		if err := t.save(ctx, t.changed(c, p)); err != nil {
			return "", err
		}
		if c, p, err = t.credential(ctx); err != nil {
			return "", err
		}
	}
	if p.Previous == nil {
		return "has the key " + p.AccessKeyID, nil
	}
	left := p.Previous.AccessKeyID
	if err := t.caller().deleteKey(ctx, p.User.Name, left); err != nil {
		return "", err
	}
	p.Previous = nil
	return "deleted " + left + ", left behind by the rotation before", t.save(ctx, t.changed(c, p))
}

// swap makes the new key the one that signs, in one transaction: requests that
// begin after it use it, and fall back on the old one if it is refused.
func (t *task) swap(ctx context.Context) (string, error) {
	if t.data.Pending == nil {
		return "done before", nil
	}
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	now := t.now()
	old := alias.SealedKey{AccessKeyID: p.AccessKeyID, Sealed: c.Sealed, Version: c.Version}
	p.Previous = &alias.PreviousKey{SealedKey: old, Until: now.Add(t.p.cfg.Timing.PreviousKey)}
	if t.data.Emergency {
		p.Previous.Until = now
	}
	p.AccessKeyID = t.data.Pending.AccessKeyID
	next := *c
	next.Version, next.Sealed, next.RotatedAt = t.data.Pending.Version, t.data.Pending.Sealed, now
	next.Scope, next.VerifiedAt = string(t.data.Scope), now
	detail := p.AccessKeyID + " signs, " + old.AccessKeyID + " is the previous key"
	t.data.Retiring, t.data.SwappedAt, t.data.Pending = &old, now, nil
	t.data.RotatedBefore = c.RotatedAt
	return detail, t.save(ctx, t.changed(&next, p))
}

// soak keeps the old key active for those who still use it, and longer while
// requests fall back on it.
func (t *task) soak(ctx context.Context) (string, error) {
	timing := t.p.cfg.Timing
	end := t.data.SwappedAt.Add(timing.Soak)
	last := t.data.SwappedAt.Add(4 * timing.Soak)
	for {
		now := t.p.clock.Now()
		if t.data.Emergency {
			return "left out: the old key has leaked", nil
		}
		if quiet := t.p.previousUsed(t.op.CredentialID).Add(timing.Quiet); quiet.After(end) {
			end = quiet
		}
		if !now.Before(end) {
			return "no request used the old key lately", nil
		}
		if !now.Before(last) {
			return "", t.revertSwap(ctx, "soak", "requests still use the previous key")
		}
		if err := t.p.clock.Sleep(ctx, min(end.Sub(now), timing.Quiet)); err != nil {
			return "", err
		}
	}
}

// PreviousKeyUsed is called by the origin: a request was signed with the old key of a
// credential, since the new one was refused.
func (p *Provisioner) PreviousKeyUsed(credentialID int64) {
	p.previousUses.Store(credentialID, p.clock.Now())
}

func (p *Provisioner) previousUsed(credentialID int64) time.Time {
	if at, ok := p.previousUses.Load(credentialID); ok {
		return at.(time.Time)
	}
	return time.Time{}
}

// deactivateRetiring makes the old key inactive. Requests stop falling back on it
// first.
func (t *task) deactivateRetiring(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	if err := t.checkRetiring(p); err != nil {
		return "", err
	}
	if p.Previous != nil && p.Previous.Until.After(t.now()) {
		p.Previous.Until = t.now()
		if err := t.save(ctx, t.changed(c, p)); err != nil {
			return "", err
		}
	}
	if t.data.DeactivatedAt.IsZero() {
		t.data.DeactivatedAt = t.now()
	}
	return t.data.Retiring.AccessKeyID + " made inactive",
		t.caller().setKey(ctx, p.User.Name, t.data.Retiring.AccessKeyID, types.StatusTypeInactive)
}

func (t *task) probeRetiringRefused(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	kp, err := t.reveal(t.p.cfg.Registry.RevealSealed(c, *t.data.Retiring))
	if err != nil {
		return "", err
	}
	return kp.AccessKeyID + " is refused", t.waitUntilRefused(ctx, kp, p.Grants)
}

func (t *task) deleteRetiring(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	if err := t.checkRetiring(p); err != nil {
		return "", err
	}
	if err := t.caller().deleteKey(ctx, p.User.Name, t.data.Retiring.AccessKeyID); err != nil {
		return "", err
	}
	p.Previous = nil
	return "deleted " + t.data.Retiring.AccessKeyID, t.save(ctx, t.changed(c, p))
}

// confirmKeys waits until the new key is seen as the only one.
func (t *task) confirmKeys(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	budget := t.p.cfg.Timing.Visible + clockSkew
	return "has the key " + p.AccessKeyID + " alone", t.p.until(ctx, budget, func() (bool, error) {
		if err := t.deleteLost(ctx, c, p); err != nil {
			return false, err
		}
		keys, err := t.caller().keys(ctx, p.User.Name)
		return err == nil && len(keys) == 1 && keys[0].id == p.AccessKeyID, err
	})
}

// endRotation ends a rotation that went well.
func (t *task) endRotation(ctx context.Context) error {
	return t.end(ctx, nil, t.reactivate)
}

// reactivate makes the credential active again.
func (t *task) reactivate(tx alias.Tx) ([]alias.Change, error) {
	c, err := tx.Credential(t.op.Credential)
	if err != nil || c.ID != t.op.CredentialID {
		return nil, ignoreMissing(err)
	}
	c.State, c.Revision, c.UpdatedAt = alias.CredentialActive, c.Revision+1, t.now()
	return []alias.Change{{CredentialPut: c}}, tx.UpdateCredential(c)
}

// undoRotation deletes the new key if nobody signs with it yet. After the swap
// it leaves both keys, which the registry knows.
func (t *task) undoRotation(ctx context.Context) error {
	failure := *t.data.Undo
	if !t.data.SwappedAt.IsZero() || t.data.KeySince.IsZero() {
		return t.end(ctx, &failure, t.reactivate)
	}
	if err := t.caught(func() error { return t.deletePending(ctx) }); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		failure.Detail += fmt.Sprintf("; the new key may be left behind and is deleted later (%v)", err)
		if err := t.recordUndeleted(ctx); err != nil {
			return err
		}
	}
	return t.end(ctx, &failure, t.reactivate)
}

// recordUndeleted remembers a key that could not be deleted.
func (t *task) recordUndeleted(ctx context.Context) error {
	c, p, err := t.credential(ctx)
	if err != nil || t.data.Pending == nil {
		return t.registryOnly(err)
	}
	p.PendingDeletion = append(p.PendingDeletion, t.data.Pending.AccessKeyID)
	t.data.Pending = nil
	return t.save(ctx, t.changed(c, p))
}

func (t *task) deletePending(ctx context.Context) error {
	c, p, err := t.credential(ctx)
	if err != nil {
		return err
	}
	if t.data.Pending != nil {
		if err := t.caller().deleteKey(ctx, p.User.Name, t.data.Pending.AccessKeyID); err != nil {
			return err
		}
		t.data.Pending = nil
	}
	return t.deleteLost(ctx, c, p)
}

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
	return t.verifyLocation(ctx, details, kp)
}

// verifyLocation proves the new key on the first location alone, without an object,
// where no alias could prove it.
func (t *task) verifyLocation(ctx context.Context, details []string, kp alias.KeyPair) (string, error) {
	if t.data.Scope != "" {
		return strings.Join(details, "; "), nil
	}
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	if len(p.Grants) == 0 {
		return "", failf(codeNotVerified, "the credential %s has no location to prove the new key on", c.Name)
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
	return scope.Conclusive(checks) && !v.Blocks()
}

// aliases are those that the credential is proven on: what is served, and lies
// within its grants.
func (t *task) aliases(ctx context.Context, c *alias.Credential) ([]*alias.Alias, error) {
	registry := t.p.cfg.Registry
	names, err := registry.AliasesOf(ctx, c.ID)
	if err != nil {
		return nil, &registryError{err}
	}
	p, _ := c.Provisioned()
	var list []*alias.Alias
	for _, name := range names {
		a, err := registry.Alias(ctx, name)
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
	return list, nil
}

// granted reports whether a user's rights are meant to cover an alias.
func granted(p *alias.Provisioned, a *alias.Alias) bool {
	return p.Mode == alias.PolicyReadOnly || slices.ContainsFunc(p.Grants, func(g alias.Grant) bool {
		return g.Bucket == a.Bucket && strings.HasPrefix(a.Prefix, g.Prefix)
	})
}

// soakInactive is the last time that the old key can be brought back: if the
// new one is refused at its end, it is.
func (t *task) soakInactive(ctx context.Context) (string, error) {
	if t.data.Emergency {
		return "left out: the old key has leaked", nil
	}
	if wait := t.data.DeactivatedAt.Add(t.p.cfg.Timing.SoakInactive).Sub(t.p.clock.Now()); wait > 0 {
		if err := t.p.clock.Sleep(ctx, wait); err != nil {
			return "", err
		}
	}
	_, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	kp, err := t.pair(ctx)
	if err != nil {
		return "", err
	}
	refused := ""
	err = t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		refused = t.p.keyRefused(ctx, kp, p.Grants)
		return refused == "", nil
	})
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", t.revertSwap(ctx, "soak-inactive", "S3 answers "+refused)
	}
	return "the new key works without the old one", nil
}

// keyRefused is how S3 refuses a key as such, empty when it takes it: a missing
// object or right is no refusal of the key, and no answer is none either.
func (p *Provisioner) keyRefused(ctx context.Context, kp alias.KeyPair, grants []alias.Grant) string {
	for _, g := range grants {
		at := g.Location()
		if rep := scope.ReadMissing(ctx, p.cfg.S3(at, kp), at); awserr.KeyRefused(rep.Code) {
			return rep.Code
		}
	}
	return ""
}

// revertSwap makes the retiring key the current one again and deletes the new key,
// which S3 refused. step is the step that found this out. The retiring key is
// sealed again, because the credential's version only grows.
func (t *task) revertSwap(ctx context.Context, step, why string) error {
	c, p, err := t.credential(ctx)
	if err != nil {
		return err
	}
	bad, old := p.AccessKeyID, *t.data.Retiring
	if err := t.caller().setKey(ctx, p.User.Name, old.AccessKeyID, types.StatusTypeActive); err != nil {
		return err
	}
	kp, err := t.reveal(t.p.cfg.Registry.RevealSealed(c, old))
	if err != nil {
		return err
	}
	sealed, err := t.p.cfg.Registry.SealKey(c, kp, c.Version+1)
	if err != nil {
		return err
	}
	p.AccessKeyID, p.Previous, p.PendingDeletion = sealed.AccessKeyID, nil, append(p.PendingDeletion, bad)
	next := *c
	next.Version, next.Sealed, next.RotatedAt = sealed.Version, sealed.Sealed, t.data.RotatedBefore
	stopped := failf(codeNotVerified, "the new key %s is refused: %s; %s signs again", bad, why, old.AccessKeyID)
	// The same transaction marks the operation to be undone: repeated after a
	// crash, the step would take the current key for the retiring one.
	t.data.Undo = operationError(step, stopped)
	if err := t.save(ctx, t.changed(&next, p)); err != nil {
		return err
	}
	if err := t.caller().deleteKey(ctx, p.User.Name, bad); err != nil {
		t.p.log.Warn("cannot delete the refused key yet", "access_key_id", bad, "error", err)
	}
	return stopped
}

// checkRetiring makes sure that the old key is not the one that signs.
func (t *task) checkRetiring(p *alias.Provisioned) error {
	if t.data.Retiring == nil || t.data.Retiring.AccessKeyID == p.AccessKeyID {
		return failf(codeInternal, "the key that signs must not be retired")
	}
	return nil
}
