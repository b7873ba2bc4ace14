package provision

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/scope"
	"ixmage/internal/awserr"
)

// swap makes the pending key the current one in one transaction. Later requests sign with
// it, and use the previous key if S3 refuses it. In an emergency no request uses the
// previous key.
func (t *task) swap(ctx context.Context, _ decision) (string, error) {
	now, p, pending := t.now(), t.prov, t.prov.Pending
	p.Previous = &alias.PreviousKey{
		SealedKey: alias.SealedKey{AccessKeyID: p.AccessKeyID, Sealed: t.c.Sealed, Version: t.c.Version},
		Until:     now.Add(t.p.cfg.Timing.PreviousKey), SwappedAt: now, RotatedBefore: t.c.RotatedAt,
	}
	if t.data.Emergency {
		p.Previous.Until = now
	}
	p.AccessKeyID, p.Pending = pending.AccessKeyID, nil
	t.c.Version, t.c.Sealed, t.c.RotatedAt = pending.Version, pending.Sealed, now
	t.c.Scope, t.c.VerifiedAt = string(t.data.Scope), now
	t.seen.listed, t.seen.works = false, false
	return p.AccessKeyID + " signs, " + p.Previous.AccessKeyID + " is the previous key", t.store(ctx)
}

// PreviousKeyUsed records that a request was signed with the previous key of a
// credential, because S3 refused the current key. The origin calls it.
func (p *Provisioner) PreviousKeyUsed(credentialID int64) {
	p.previousUses.Store(credentialID, p.clock.Now())
	if p.cfg.Fleet != nil {
		p.cfg.Fleet.UsedPrevious(credentialID)
	}
}

// previousUsed is when a request to any node last used the previous key of a credential.
func (p *Provisioner) previousUsed(credentialID int64) time.Time {
	var last time.Time
	if at, ok := p.previousUses.Load(credentialID); ok {
		last = at.(time.Time)
	}
	if p.cfg.Fleet != nil {
		last = later(last, p.cfg.Fleet.PreviousUsed(credentialID))
	}
	return last
}

// tryCurrent tries the current key while the previous one is inactive. If S3 refuses it,
// the previous one becomes the current one again.
func (t *task) tryCurrent(ctx context.Context, _ decision) (string, error) {
	kp, err := t.reveal(t.p.cfg.Registry.Reveal(t.c))
	if err != nil {
		return "", err
	}
	refused := ""
	err = t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		refused = t.p.keyRefused(ctx, kp, t.prov.Grants)
		return refused == "", nil
	})
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", t.bringBack(ctx, "S3 answers "+refused)
	}
	t.seen.works = true
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

func (t *task) revert(ctx context.Context, _ decision) (string, error) {
	return "", t.bringBack(ctx, "requests still use the previous key")
}

// bringBack makes the previous key the current one again and retires the new key, which
// S3 refused. The previous key is sealed again, because the credential's version only
// grows. The operation fails in the same transaction: it must not retire the key that
// signs again.
func (t *task) bringBack(ctx context.Context, why string) error {
	refused, previous := t.prov.AccessKeyID, *t.prov.Previous
	err := t.caller().setKey(ctx, t.prov.User.Name, previous.AccessKeyID, types.StatusTypeActive)
	if isGone(err) {
		return failf(codeNotVerified, "the new key %s is refused: %s; the key before it, %s, does not exist any more",
			refused, why, previous.AccessKeyID)
	}
	if err != nil {
		return err
	}
	kp, err := t.reveal(t.p.cfg.Registry.RevealSealed(t.c, previous.SealedKey))
	if err != nil {
		return err
	}
	sealed, err := t.p.cfg.Registry.SealKey(t.c, kp, t.c.Version+1)
	if err != nil {
		return err
	}
	t.prov.AccessKeyID, t.prov.Previous = sealed.AccessKeyID, nil
	t.prov.PendingDeletion = append(t.prov.PendingDeletion, refused)
	if t.p.cfg.Fleet != nil {
		t.prov.Reverted = &alias.Reverted{}
	}
	t.c.Version, t.c.Sealed, t.c.RotatedAt = sealed.Version, sealed.Sealed, previous.RotatedBefore
	return failf(codeNotVerified, "the new key %s is refused: %s; %s signs again", refused, why, previous.AccessKeyID)
}
