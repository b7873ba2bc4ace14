package provision

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
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
	{"deactivate-old", (*task).deactivateOld},
	{"soak-inactive", (*task).soakInactive},
	{"probe-refused", (*task).probeOldRefused},
	{"delete-old", (*task).deleteOld},
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
		return "", stop(codeUserMissing, "there is no IAM user %s any more: provision the alias anew", p.User.Name)
	}
	if err := t.dropLost(ctx, c, p); err != nil {
		return "", err
	}
	if p.Discarded != nil { // dropLost has deleted what was there of them
		p.Discarded = nil
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
	p.Previous = &alias.PreviousKey{SealedKey: old, Until: now.Add(t.p.cfg.Timing.Fallback)}
	if t.data.Emergency {
		p.Previous.Until = now
	}
	p.AccessKeyID = t.data.Pending.AccessKeyID
	next := *c
	next.Version, next.Sealed, next.RotatedAt = t.data.Pending.Version, t.data.Pending.Sealed, now
	next.Scope, next.VerifiedAt = string(t.data.Scope), now
	detail := p.AccessKeyID + " signs, " + old.AccessKeyID + " is the fallback"
	t.data.Old, t.data.SwappedAt, t.data.Pending = &old, now, nil
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
		if quiet := t.p.lastFallback(t.op.CredentialID).Add(timing.Quiet); quiet.After(end) {
			end = quiet
		}
		if !now.Before(end) {
			return "nobody needs the old key", nil
		}
		if !now.Before(last) {
			return "", t.bringBack(ctx, "requests still fall back on the old one")
		}
		if err := t.p.clock.Sleep(ctx, min(end.Sub(now), timing.Quiet)); err != nil {
			return "", err
		}
	}
}

// Fallback is told by who serves: a request was signed with the old key of a
// credential, since the new one was refused.
func (p *Provisioner) Fallback(credentialID int64) {
	p.fallbacks.Store(credentialID, p.clock.Now())
}

func (p *Provisioner) lastFallback(credentialID int64) time.Time {
	if at, ok := p.fallbacks.Load(credentialID); ok {
		return at.(time.Time)
	}
	return time.Time{}
}

// deactivateOld makes the old key inactive. Requests stop falling back on it
// first.
func (t *task) deactivateOld(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	if err := t.retiring(p); err != nil {
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
	return t.data.Old.AccessKeyID + " made inactive",
		t.caller().setKey(ctx, p.User.Name, t.data.Old.AccessKeyID, types.StatusTypeInactive)
}

func (t *task) probeOldRefused(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	kp, err := t.reveal(t.p.cfg.Registry.RevealSealed(c, *t.data.Old))
	if err != nil {
		return "", err
	}
	return kp.AccessKeyID + " is refused", t.proveRefused(ctx, kp, p.Grants)
}

func (t *task) deleteOld(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	if err := t.retiring(p); err != nil {
		return "", err
	}
	if err := t.caller().deleteKey(ctx, p.User.Name, t.data.Old.AccessKeyID); err != nil {
		return "", err
	}
	p.Previous = nil
	return "deleted " + t.data.Old.AccessKeyID, t.save(ctx, t.changed(c, p))
}

// confirmKeys waits until the new key is seen as the only one.
func (t *task) confirmKeys(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	budget := t.p.cfg.Timing.Visible + clockSkew
	return "has the key " + p.AccessKeyID + " alone", t.p.until(ctx, budget, func() (bool, error) {
		if err := t.dropLost(ctx, c, p); err != nil {
			return false, err
		}
		keys, err := t.caller().keys(ctx, p.User.Name)
		return err == nil && len(keys) == 1 && keys[0].id == p.AccessKeyID, err
	})
}

// endRotation ends a rotation that went well.
func (t *task) endRotation(ctx context.Context) error {
	return t.end(ctx, nil, t.settle)
}

// settle makes the credential active again.
func (t *task) settle(tx alias.Tx) ([]alias.Change, error) {
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
		return t.end(ctx, &failure, t.settle)
	}
	if err := t.dropNew(ctx); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		failure.Detail += fmt.Sprintf("; the new key may be left behind and is deleted later (%v)", err)
		if err := t.discard(ctx); err != nil {
			return err
		}
	}
	return t.end(ctx, &failure, t.settle)
}

// discard remembers a key that could not be deleted.
func (t *task) discard(ctx context.Context) error {
	c, p, err := t.credential(ctx)
	if err != nil || t.data.Pending == nil {
		return t.registryOnly(err)
	}
	p.Discarded = append(p.Discarded, t.data.Pending.AccessKeyID)
	t.data.Pending = nil
	return t.save(ctx, t.changed(c, p))
}

func (t *task) dropNew(ctx context.Context) error {
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
	return t.dropLost(ctx, c, p)
}
