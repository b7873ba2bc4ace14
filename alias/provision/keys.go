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

// clockSkew is the greatest assumed difference between our clock and IAM's, for
// example when a key's creation is compared with the start of an operation.
const clockSkew = 5 * time.Minute

// createKey makes the key of a new user, or the second one in a rotation, and
// seals its secret into the operation. It first deletes a key of an earlier attempt
// whose secret was lost, since no client can use that key.
//
//	list keys ── unknown, made since this step began ──> delete it
//	    │                                                   │
//	    ▼                                                   ▼
//	CreateAccessKey ── answer lost, or a crash here ──> the step is repeated
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
	full := 0 // attempts for which the user had too many keys
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
		case isGone(err):
			return false, nil // IAM does not show the user yet
		case hasCode(err, codeLimit):
			full++
			return false, t.caller().keySlots(ctx, p.User.Name, full)
		}
		return false, err
	})
	if errors.Is(err, errNotSeen) {
		err = failf(codeQuota, "no access key could be made for %s: a user has at most two; "+
			"list them with: aws iam list-access-keys --user-name %s", p.User.Name, p.User.Name)
	}
	return kp, err
}

// deleteLost deletes the keys that this operation made and whose secrets were lost,
// and the keys in PendingDeletion. Any other key that the registry does not know
// belongs to another client: the operation then fails and names it.
func (t *task) deleteLost(ctx context.Context, c *alias.Credential, p *alias.Provisioned) error {
	keys, err := t.caller().keys(ctx, p.User.Name)
	if isGone(err) {
		return nil // a user that IAM does not show has no keys
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

// unknownKeys is the error that names the user's unknown and known keys and the last
// use of each, so that an operator can decide which to delete.
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
		"ixmage changed nothing; find out who uses them, then delete them", user, named(foreign), beside)
}

// knows reports whether the registry holds a key.
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

// lost reports whether a key unknown to the registry was created by this operation
// and its secret was lost: it is not older than the step, and it was never used. A
// key that was used belongs to a client, perhaps of the registry that this one is a
// copy of.
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

// pair returns the new key with its secret.
func (t *task) pair(ctx context.Context) (alias.KeyPair, error) {
	c, _, err := t.credential(ctx)
	if err != nil {
		return alias.KeyPair{}, err
	}
	if t.data.Pending == nil { // a reuse, or a rotation after its swap
		return t.reveal(t.p.cfg.Registry.Reveal(c))
	}
	return t.reveal(t.p.cfg.Registry.RevealSealed(c, *t.data.Pending))
}

func (t *task) reveal(kp alias.KeyPair, err error) (alias.KeyPair, error) {
	if err != nil {
		return kp, failf(codeInternal, "decrypt the secret of the key: %v", err)
	}
	return kp, nil
}

// refusedInARow is how often in a row an inactive key must be refused.
const refusedInARow = 3

// waitUntilRefused probes with a key until STS and its S3 server refuse it
// refusedInARow times in a row.
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

// stillWorks names a service that still accepts a key, or that did not answer. It is
// empty if every service refuses the key.
func (p *Provisioner) stillWorks(ctx context.Context, kp alias.KeyPair, grants []alias.Grant) string {
	_, client := p.cfg.Probes.withKey(kp)
	// If STS refuses the key, an S3 server that no longer exists must not prevent
	// the deletion of the key.
	unanswered := "S3 does not answer"
	switch err := whoAmI(ctx, client); {
	case err == nil:
		return "STS accepts it"
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

// setKey makes a key active or inactive. A key that no longer exists is not an error.
func (c caller) setKey(ctx context.Context, user, id string, status types.StatusType) error {
	client := c.p.cfg.AWS.iam()
	return c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.write("iam:UpdateAccessKey", user).onKey(id), client.UpdateAccessKey, &iam.UpdateAccessKeyInput{
			UserName: aws.String(user), AccessKeyId: aws.String(id), Status: status,
		})
		return done(err)
	})
}

// deleteKey deletes a key. A key that no longer exists is not an error.
func (c caller) deleteKey(ctx context.Context, user, id string) error {
	client := c.p.cfg.AWS.iam()
	return c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.write("iam:DeleteAccessKey", user).onKey(id), client.DeleteAccessKey, &iam.DeleteAccessKeyInput{
			UserName: aws.String(user), AccessKeyId: aws.String(id),
		})
		return done(err)
	})
}

// done adapts the result of a deletion for until: NoSuchEntity counts as success.
func done(err error) (bool, error) {
	if isGone(err) {
		return true, nil
	}
	return err == nil, err
}

// lastUse describes the last use of a key for the operator. IAM shows it hours late,
// so no decision depends on it.
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

// usedSince returns the id of a user's key that was used after since, and empty if
// there is none.
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

// lastUsed is the last use of a key that IAM shows, which can be hours late; zero for
// never.
func (c caller) lastUsed(ctx context.Context, id string) (time.Time, error) {
	client := c.p.cfg.AWS.iam()
	out, err := call(ctx, c.read("iam:GetAccessKeyLastUsed", "").onKey(id), client.GetAccessKeyLastUsed,
		&iam.GetAccessKeyLastUsedInput{AccessKeyId: aws.String(id)})
	if err != nil || out.AccessKeyLastUsed == nil {
		return time.Time{}, err
	}
	return aws.ToTime(out.AccessKeyLastUsed.LastUsedDate), nil
}
