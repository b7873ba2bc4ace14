package provision

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/scope"
	"ixmage/internal/awserr"
)

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
		return "", t.bringBack(ctx, "S3 answers "+refused)
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

// bringBack makes the old key the one that signs, and deletes the new one: that
// one was refused, and the old one is known to work. It is sealed anew, because
// the credential's version only ever grows.
func (t *task) bringBack(ctx context.Context, why string) error {
	c, p, err := t.credential(ctx)
	if err != nil {
		return err
	}
	bad, old := p.AccessKeyID, *t.data.Old
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
	p.AccessKeyID, p.Previous, p.Discarded = sealed.AccessKeyID, nil, append(p.Discarded, bad)
	next := *c
	next.Version, next.Sealed, next.RotatedAt = sealed.Version, sealed.Sealed, t.data.RotatedBefore
	stopped := stop(codeNotVerified, "the new key %s is refused: %s; %s signs again", bad, why, old.AccessKeyID)
	// With the same write the operation is over: done again after a crash, it
	// would take the key that signs now for the one to be retired.
	t.data.Undo = operationError("bring-back", stopped)
	if err := t.save(ctx, t.changed(&next, p)); err != nil {
		return err
	}
	if err := t.caller().deleteKey(ctx, p.User.Name, bad); err != nil {
		t.p.log.Warn("a key that is refused is not deleted yet", "access_key_id", bad, "error", err)
	}
	return stopped
}

// retiring makes sure that the old key is not the one that signs.
func (t *task) retiring(p *alias.Provisioned) error {
	if t.data.Old == nil || t.data.Old.AccessKeyID == p.AccessKeyID {
		return stop(codeInternal, "the key that signs must not be retired")
	}
	return nil
}
