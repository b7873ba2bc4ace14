package provision

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias"
	"ixmage/alias/scope"
	"ixmage/internal/awserr"
)

// clockSkew is how far our clock and IAM's may lie apart when we ask whether a
// key is older than an operation.
const clockSkew = 5 * time.Minute

// createKey makes the key of a new user, or the second one in a rotation, and
// seals its secret into the operation. A key whose secret was lost on the way
// is deleted first: nobody can ever use it.
//
//	list keys ── unknown, made since this step began ──> delete it
//	    │                                                   │
//	    ▼                                                   ▼
//	CreateAccessKey ── answer lost, or a crash here ──> the step is done again
//	    │
//	    ▼
//	sealed, durable ── this write fails ──> DeleteAccessKey at once
func (t *task) createKey(ctx context.Context) (string, error) {
	if t.data.Pending != nil {
		return "made " + t.data.Pending.AccessKeyID, nil
	}
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	if t.data.KeySince.IsZero() {
		t.data.KeySince = t.now()
		if err := t.save(ctx); err != nil {
			return "", err
		}
	}
	kp, err := t.makeKey(ctx, c, p)
	if err != nil {
		return "", err
	}
	sealed, err := t.p.cfg.Registry.SealKey(c, kp, t.nextVersion(c))
	if err == nil {
		t.data.Pending, t.data.PendingAt = &sealed, t.now()
		err = t.save(ctx)
	}
	if err != nil {
		t.data.Pending = nil
		lost := t.caller().deleteKey(context.WithoutCancel(ctx), p.User.Name, kp.AccessKeyID)
		return "", errors.Join(err, lost)
	}
	return "made " + kp.AccessKeyID, nil
}

// nextVersion is the credential version that the new key will have.
func (t *task) nextVersion(c *alias.Credential) int64 {
	if t.op.Kind == alias.OperationProvision {
		return c.Version
	}
	return c.Version + 1
}

func (t *task) makeKey(ctx context.Context, c *alias.Credential, p *alias.Provisioned) (alias.KeyPair, error) {
	client := t.p.cfg.AWS.iam()
	var kp alias.KeyPair
	err := t.p.until(ctx, t.p.cfg.Timing.Visible+clockSkew, func() (bool, error) {
		if err := t.dropLost(ctx, c, p); err != nil {
			return false, err
		}
		out, err := call(ctx, t.caller().ask("iam:CreateAccessKey", p.User.Name), client.CreateAccessKey,
			&iam.CreateAccessKeyInput{UserName: aws.String(p.User.Name)})
		switch {
		case err == nil:
			kp = alias.KeyPair{
				AccessKeyID:     aws.ToString(out.AccessKey.AccessKeyId),
				SecretAccessKey: alias.NewSecret(aws.ToString(out.AccessKey.SecretAccessKey)),
			}
			return true, nil
		case isGone(err), hasCode(err, "LimitExceeded"):
			return false, nil // the user, or the key that takes the place, is not seen yet
		}
		return false, err
	})
	if errors.Is(err, errNotSeen) {
		err = stop(codeQuota, "no access key could be made for %s: a user holds two at most; "+
			"see which there are with: aws iam list-access-keys --user-name %s", p.User.Name, p.User.Name)
	}
	return kp, err
}

// dropLost deletes the keys that this step made and whose secrets were lost.
// Any other key that we do not know is somebody else's: then the operation
// stops and names it.
func (t *task) dropLost(ctx context.Context, c *alias.Credential, p *alias.Provisioned) error {
	keys, err := t.caller().keys(ctx, p.User.Name)
	if isGone(err) {
		return nil // not seen yet, so there are none
	}
	if err != nil {
		return err
	}
	var own, foreign []string
	for _, k := range keys {
		lost, err := t.lost(ctx, p, k)
		if err != nil {
			return err
		}
		switch {
		case t.knows(c, p, k.id):
			own = append(own, k.id)
		case lost:
			if err := t.caller().deleteKey(ctx, p.User.Name, k.id); err != nil {
				return err
			}
		default:
			foreign = append(foreign, k.id)
		}
	}
	if len(foreign) > 0 {
		return t.unknownKeys(ctx, p.User.Name, foreign, own)
	}
	return nil
}

// unknownKeys names the keys that nobody knows, those that we do know beside
// them, and when each was used last: by that it is told which may go.
func (t *task) unknownKeys(ctx context.Context, user string, foreign, own []string) error {
	named := func(ids []string) string {
		list := make([]string, len(ids))
		for i, id := range ids {
			list[i] = id + " (" + t.caller().lastUse(ctx, id) + ")"
		}
		return strings.Join(list, ", ")
	}
	beside := ""
	if len(own) > 0 {
		beside = ", beside its own " + named(own)
	}
	return stop(codeUnknownKeys, "%s has access keys that this server did not make: %s%s; "+
		"nothing was touched: delete them, or find out who uses them", user, named(foreign), beside)
}

// knows reports whether a key is one that the registry holds.
func (t *task) knows(c *alias.Credential, p *alias.Provisioned, id string) bool {
	known := []string{c.AccessKeyID()}
	if p.Previous != nil {
		known = append(known, p.Previous.AccessKeyID)
	}
	if t.data.Pending != nil {
		known = append(known, t.data.Pending.AccessKeyID)
	}
	if t.data.Old != nil {
		known = append(known, t.data.Old.AccessKeyID)
	}
	return slices.Contains(known, id)
}

// lost reports whether a key that nobody knows is one whose secret was lost on
// the way to us: it is not older than the step that makes keys, and nobody ever
// used it. A key that works for somebody is somebody's, even if this registry
// is a copy of one that knows it.
func (t *task) lost(ctx context.Context, p *alias.Provisioned, k accessKey) (bool, error) {
	if slices.Contains(p.Discarded, k.id) {
		return true, nil
	}
	if t.data.KeySince.IsZero() || k.created < t.data.KeySince.Add(-clockSkew).Unix() {
		return false, nil
	}
	last, err := t.caller().lastUsed(ctx, k.id)
	if isUnimplemented(err) || isGone(err) {
		return true, nil
	}
	return last.IsZero(), err
}

// pair is the new key in the clear.
func (t *task) pair(ctx context.Context) (alias.KeyPair, error) {
	c, _, err := t.credential(ctx)
	if err != nil {
		return alias.KeyPair{}, err
	}
	if t.data.Pending == nil { // a reuse, or a rotation that has swapped
		return t.reveal(t.p.cfg.Registry.Reveal(c))
	}
	return t.reveal(t.p.cfg.Registry.RevealSealed(c, *t.data.Pending))
}

func (t *task) reveal(kp alias.KeyPair, err error) (alias.KeyPair, error) {
	if err != nil {
		return kp, stop(codeInternal, "the secret of the new key cannot be opened: %v", err)
	}
	return kp, nil
}

// refusedInARow is how often a dead key must be refused to be believed dead.
const refusedInARow = 3

// proveRefused probes with a key until it is refused time after time, by STS and
// by the S3 server that it was for.
func (t *task) proveRefused(ctx context.Context, kp alias.KeyPair, grants []alias.Grant) error {
	timing := t.p.cfg.Timing
	deadline, inARow := t.p.clock.Now().Add(timing.Refused), 0
	for {
		works := t.p.stillWorks(ctx, kp, grants)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if works == "" {
			inARow++
		} else {
			inARow = 0
		}
		if inARow == refusedInARow {
			return nil
		}
		if !t.p.clock.Now().Before(deadline) {
			return stop(codeOldKeyWorks, "the key %s is inactive but was not refused %d times in a row within %s: %s; "+
				"it was not deleted", kp.AccessKeyID, refusedInARow, timing.Refused, orNone(works))
		}
		if err := t.p.clock.Sleep(ctx, timing.RefusedEvery); err != nil {
			return err
		}
	}
}

// stillWorks says who still takes a key, or could not be asked; empty when
// everybody refuses it.
func (p *Provisioner) stillWorks(ctx context.Context, kp alias.KeyPair, grants []alias.Grant) string {
	_, client := p.cfg.Probes.withKey(kp)
	// An S3 server that is gone for good must not keep a key from being
	// deleted that STS refuses.
	unanswered := "S3 does not answer"
	switch err := whoAmI(ctx, client); {
	case err == nil:
		return "STS takes it"
	case !err.refused() && !err.unimplemented():
		return err.Error()
	case err.refused():
		unanswered = ""
	}
	for _, g := range grants[:min(len(grants), 1)] {
		switch rep := scope.ReadMissing(ctx, p.cfg.S3(g.Location(), kp), g.Location()); {
		case rep.Silent():
			return unanswered
		case !awserr.KeyRefused(rep.Code):
			return "S3 answers " + rep.Code
		}
	}
	return ""
}
