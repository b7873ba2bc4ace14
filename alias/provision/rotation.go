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

// A rotation has at most two keys at any time, and at least one key that works for
// every request:
//
//	current ── create pending ── verify pending ── swap: pending becomes current,
//	   the replaced key becomes previous and retiring
//	   ── soak ── retiring inactive ── soak: the swap can still be reverted
//	   ── retiring refused ── retiring deleted
//
// A failure before the swap deletes the pending key. If S3 refuses the new key
// before the retiring key is deleted, the swap is reverted. After any other failure
// after the swap the registry knows both keys, and the next rotation begins by
// deleting the previous key. An emergency, after a key has leaked, has no previous
// key and no soak.
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

// checkKeys makes sure that the user has no key except the current one. It deletes
// the keys that an earlier rotation recorded and left behind.
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
		return "", failf(codeUserMissing, "the IAM user %s does not exist any more: provision the alias again", p.User.Name)
	}
	if err := t.deleteLost(ctx, c, p); err != nil {
		return "", err
	}
	if p.PendingDeletion != nil { // deleteLost has deleted those that still existed
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
	return "deleted " + left + ", left behind by an earlier rotation", t.save(ctx, t.changed(c, p))
}

// swap makes the pending key the current one in one transaction. Later requests
// sign with it, and use the previous key if S3 refuses it.
func (t *task) swap(ctx context.Context) (string, error) {
	if t.data.Pending == nil {
		return "done before", nil
	}
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	now := t.now()
	retiring := alias.SealedKey{AccessKeyID: p.AccessKeyID, Sealed: c.Sealed, Version: c.Version}
	p.Previous = &alias.PreviousKey{SealedKey: retiring, Until: now.Add(t.p.cfg.Timing.PreviousKey)}
	if t.data.Emergency {
		p.Previous.Until = now
	}
	p.AccessKeyID = t.data.Pending.AccessKeyID
	next := *c
	next.Version, next.Sealed, next.RotatedAt = t.data.Pending.Version, t.data.Pending.Sealed, now
	next.Scope, next.VerifiedAt = string(t.data.Scope), now
	detail := p.AccessKeyID + " signs, " + retiring.AccessKeyID + " is the previous key"
	t.data.Retiring, t.data.SwappedAt, t.data.Pending = &retiring, now, nil
	t.data.RotatedBefore = c.RotatedAt
	return detail, t.save(ctx, t.changed(&next, p))
}

// soak keeps the retiring key active for a time, and longer while requests use the
// previous key.
func (t *task) soak(ctx context.Context) (string, error) {
	timing := t.p.cfg.Timing
	end := t.data.SwappedAt.Add(timing.Soak)
	last := t.data.SwappedAt.Add(4 * timing.Soak)
	for {
		now := t.p.clock.Now()
		if t.data.Emergency {
			return "skipped: the old key has leaked", nil
		}
		if quiet := t.p.previousUsed(t.op.CredentialID).Add(timing.Quiet); quiet.After(end) {
			end = quiet
		}
		if !now.Before(end) {
			return "no recent request used the old key", nil
		}
		if !now.Before(last) {
			return "", t.revertSwap(ctx, "soak", "requests still use the previous key")
		}
		if err := t.p.clock.Sleep(ctx, min(end.Sub(now), timing.Quiet)); err != nil {
			return "", err
		}
	}
}

// PreviousKeyUsed records that a request was signed with the previous key of a
// credential, because S3 refused the current key. The origin calls it.
func (p *Provisioner) PreviousKeyUsed(credentialID int64) {
	p.previousUses.Store(credentialID, p.clock.Now())
}

func (p *Provisioner) previousUsed(credentialID int64) time.Time {
	if at, ok := p.previousUses.Load(credentialID); ok {
		return at.(time.Time)
	}
	return time.Time{}
}

// deactivateRetiring makes the retiring key inactive. Before that it ends the use of
// the previous key by requests.
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

// confirmKeys waits until IAM lists the new key as the only one.
func (t *task) confirmKeys(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	budget := t.p.cfg.Timing.Visible + clockSkew
	return "has only the key " + p.AccessKeyID, t.p.until(ctx, budget, func() (bool, error) {
		if err := t.deleteLost(ctx, c, p); err != nil {
			return false, err
		}
		keys, err := t.caller().keys(ctx, p.User.Name)
		return err == nil && len(keys) == 1 && keys[0].id == p.AccessKeyID, err
	})
}

// endRotation ends a successful rotation.
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

// undoRotation deletes the pending key. After the swap it leaves both keys, which
// the registry knows.
func (t *task) undoRotation(ctx context.Context) error {
	failure := *t.data.Undo
	if !t.data.SwappedAt.IsZero() || t.data.KeySince.IsZero() {
		return t.end(ctx, &failure, t.reactivate)
	}
	if err := t.caught(func() error { return t.deletePending(ctx) }); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		failure.Detail += fmt.Sprintf("; deleting the new key failed, and a later operation deletes it (%v)", err)
		if err := t.recordUndeleted(ctx); err != nil {
			return err
		}
	}
	return t.end(ctx, &failure, t.reactivate)
}

// recordUndeleted records a key whose deletion failed, so that it is deleted later.
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

// proveAliases bounds for how many aliases of a credential a new key is verified.
const proveAliases = 5

// verifyRotation verifies the pending key on the locations of the credential's
// aliases. It skips an alias that the current key cannot read either: such an alias
// must not stop the replacement of a leaked key.
func (t *task) verifyRotation(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	aliases, err := t.aliases(ctx, c)
	if err != nil {
		return "", err
	}
	current, err := t.reveal(t.p.cfg.Registry.Reveal(c))
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
		if err != nil && t.registryOnly(err) == nil && ctx.Err() == nil && !t.worksOn(ctx, a, p, current) {
			detail, err = "skipped: the old key cannot read it either", nil
		}
		if err != nil {
			return "", err
		}
		details = append(details, string(a.Name)+": "+detail)
	}
	return t.verifyLocation(ctx, details, kp)
}

// verifyLocation verifies the pending key on the first location, without an existing
// object, if it was verified for no alias.
func (t *task) verifyLocation(ctx context.Context, details []string, kp alias.KeyPair) (string, error) {
	if t.data.Scope != "" {
		return strings.Join(details, "; "), nil
	}
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	if len(p.Grants) == 0 {
		return "", failf(codeNotVerified, "the credential %s has no location on which the new key can be verified", c.Name)
	}
	place := &alias.Alias{Name: c.Name, Location: p.Grants[0].Location()}
	detail, err := t.verifyOn(ctx, place, p, kp)
	return strings.Join(append(details, detail), "; "), err
}

// verifyOn verifies the pending key for one alias and stores the verification.
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

// worse is the worse of two verdicts. An empty a stands for no verdict yet.
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

// aliases are those on which a key of the credential is verified: they are served
// and lie within its grants. At most proveAliases are returned.
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

// granted reports whether a user's policy covers an alias.
func granted(p *alias.Provisioned, a *alias.Alias) bool {
	return p.Mode == alias.PolicyReadOnly || slices.ContainsFunc(p.Grants, func(g alias.Grant) bool {
		return g.Bucket == a.Bucket && strings.HasPrefix(a.Prefix, g.Prefix)
	})
}

// soakInactive waits while the retiring key is inactive, and reverts the swap if S3
// refuses the new key at the end of that time.
func (t *task) soakInactive(ctx context.Context) (string, error) {
	if t.data.Emergency {
		return "skipped: the old key has leaked", nil
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

// keyRefused is the code with which S3 refuses a key, and empty if it does not. A
// missing object, a missing right and a missing answer are no refusals of the key.
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
	refused, retiring := p.AccessKeyID, *t.data.Retiring
	if err := t.caller().setKey(ctx, p.User.Name, retiring.AccessKeyID, types.StatusTypeActive); err != nil {
		return err
	}
	kp, err := t.reveal(t.p.cfg.Registry.RevealSealed(c, retiring))
	if err != nil {
		return err
	}
	sealed, err := t.p.cfg.Registry.SealKey(c, kp, c.Version+1)
	if err != nil {
		return err
	}
	p.AccessKeyID, p.Previous, p.PendingDeletion = sealed.AccessKeyID, nil, append(p.PendingDeletion, refused)
	next := *c
	next.Version, next.Sealed, next.RotatedAt = sealed.Version, sealed.Sealed, t.data.RotatedBefore
	stopped := failf(codeNotVerified, "the new key %s is refused: %s; %s signs again", refused, why, retiring.AccessKeyID)
	// The same transaction marks the operation to be undone: repeated after a
	// crash, the step would take the current key for the retiring one.
	t.data.Undo = operationError(step, stopped)
	if err := t.save(ctx, t.changed(&next, p)); err != nil {
		return err
	}
	if err := t.caller().deleteKey(ctx, p.User.Name, refused); err != nil {
		t.p.log.Warn("delete refused key failed; the next reconcile deletes it", "access_key_id", refused, "error", err)
	}
	return stopped
}

// checkRetiring makes sure that the retiring key is not the current one.
func (t *task) checkRetiring(p *alias.Provisioned) error {
	if t.data.Retiring == nil || t.data.Retiring.AccessKeyID == p.AccessKeyID {
		return failf(codeInternal, "the current key must not be retired")
	}
	return nil
}
