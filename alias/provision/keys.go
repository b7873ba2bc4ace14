package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

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
		if err := t.deleteLost(ctx, c, p); err != nil {
			return false, err
		}
		out, err := call(ctx, t.caller().write("iam:CreateAccessKey", p.User.Name), client.CreateAccessKey,
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
		err = failf(codeQuota, "no access key could be made for %s: a user holds two at most; "+
			"see which there are with: aws iam list-access-keys --user-name %s", p.User.Name, p.User.Name)
	}
	return kp, err
}

// deleteLost deletes the keys that this step made and whose secrets were lost.
// Any other key that we do not know is somebody else's: then the operation
// stops and names it.
func (t *task) deleteLost(ctx context.Context, c *alias.Credential, p *alias.Provisioned) error {
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
// them, and when each was used last: that tells which may go.
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
	return failf(codeUnknownKeys, "%s has access keys that this server did not make: %s%s; "+
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
	if t.data.Retiring != nil {
		known = append(known, t.data.Retiring.AccessKeyID)
	}
	return slices.Contains(known, id)
}

// lost reports whether a key that nobody knows is one whose secret was lost on
// the way to us: it is not older than the step that makes keys, and nobody ever
// used it. A key that works for somebody is somebody's, even if this registry
// is a copy of one that knows it.
func (t *task) lost(ctx context.Context, p *alias.Provisioned, k accessKey) (bool, error) {
	if slices.Contains(p.PendingDeletion, k.id) {
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
		return kp, failf(codeInternal, "the secret of the new key cannot be opened: %v", err)
	}
	return kp, nil
}

// refusedInARow is how often a dead key must be refused to be believed dead.
const refusedInARow = 3

// waitUntilRefused probes with a key until it is refused time after time, by STS and
// by the S3 server that it was for.
func (t *task) waitUntilRefused(ctx context.Context, kp alias.KeyPair, grants []alias.Grant) error {
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
			return failf(codeOldKeyWorks, "the key %s is inactive but was not refused %d times in a row within %s: %s; "+
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

// accessKey is a key as IAM lists it.
type accessKey struct {
	id      string
	active  bool
	created int64 // seconds since 1970
}

// keys lists the keys of a user.
func (c caller) keys(ctx context.Context, user string) ([]accessKey, error) {
	client := c.p.cfg.AWS.iam()
	in := &iam.ListAccessKeysInput{UserName: aws.String(user)}
	var keys []accessKey
	for {
		out, err := call(ctx, c.read("iam:ListAccessKeys", user), client.ListAccessKeys, in)
		if err != nil {
			return nil, err
		}
		for _, k := range out.AccessKeyMetadata {
			keys = append(keys, accessKey{
				id: aws.ToString(k.AccessKeyId), active: k.Status == types.StatusTypeActive,
				created: aws.ToTime(k.CreateDate).Unix(),
			})
		}
		if !out.IsTruncated {
			return keys, nil
		}
		in.Marker = out.Marker
	}
}

// setKey makes a key active or inactive. That it is gone is no error.
func (c caller) setKey(ctx context.Context, user, id string, status types.StatusType) error {
	client := c.p.cfg.AWS.iam()
	return c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.write("iam:UpdateAccessKey", user).onKey(id), client.UpdateAccessKey, &iam.UpdateAccessKeyInput{
			UserName: aws.String(user), AccessKeyId: aws.String(id), Status: status,
		})
		return done(err)
	})
}

// deleteKey deletes a key. That it is gone is no error.
func (c caller) deleteKey(ctx context.Context, user, id string) error {
	client := c.p.cfg.AWS.iam()
	return c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.write("iam:DeleteAccessKey", user).onKey(id), client.DeleteAccessKey, &iam.DeleteAccessKeyInput{
			UserName: aws.String(user), AccessKeyId: aws.String(id),
		})
		return done(err)
	})
}

// done is what a deletion means for until: that there is nothing is as good.
func done(err error) (bool, error) {
	if isGone(err) {
		return true, nil
	}
	return err == nil, err
}

// lastUse says in words when a key was used last, for the operator. It is a
// hint that lags by hours, and decides nothing.
func (c caller) lastUse(ctx context.Context, id string) string {
	client := c.p.cfg.AWS.iam()
	out, err := call(ctx, c.read("iam:GetAccessKeyLastUsed", "").onKey(id), client.GetAccessKeyLastUsed,
		&iam.GetAccessKeyLastUsedInput{AccessKeyId: aws.String(id)})
	switch {
	case err != nil:
		return "last use unknown"
	case out.AccessKeyLastUsed == nil || out.AccessKeyLastUsed.LastUsedDate == nil:
		return "never used"
	}
	return fmt.Sprintf("last used %s for %s", out.AccessKeyLastUsed.LastUsedDate.UTC().Format("2006-01-02 15:04"),
		aws.ToString(out.AccessKeyLastUsed.ServiceName))
}

// usedSince names a key of a user that was used after a moment.
func (c caller) usedSince(ctx context.Context, user string, since time.Time) (string, error) {
	keys, err := c.keys(ctx, user)
	if err != nil {
		return "", ignoreGone(err)
	}
	for _, k := range keys {
		last, err := c.lastUsed(ctx, k.id)
		if err != nil && !isUnimplemented(err) {
			return "", err
		}
		if last.After(since) {
			return k.id, nil
		}
	}
	return "", nil
}

// lastUsed is when a key was used last, as far as IAM knows yet; zero for never.
func (c caller) lastUsed(ctx context.Context, id string) (time.Time, error) {
	client := c.p.cfg.AWS.iam()
	out, err := call(ctx, c.read("iam:GetAccessKeyLastUsed", "").onKey(id), client.GetAccessKeyLastUsed,
		&iam.GetAccessKeyLastUsedInput{AccessKeyId: aws.String(id)})
	if err != nil || out.AccessKeyLastUsed == nil {
		return time.Time{}, err
	}
	return aws.ToTime(out.AccessKeyLastUsed.LastUsedDate), nil
}
