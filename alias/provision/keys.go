package provision

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/alias/scope"
	"ixmage/internal/awserr"
)

// clockSkew is the greatest assumed difference between our clock and IAM's, for
// example when a key's creation is compared with the start of an operation.
const clockSkew = 5 * time.Minute

// createKey makes a key and seals its secret into the credential. The time of the call
// and the keys that the user had before are stored first: a key whose answer is lost is
// told by them.
//
//	stored: now, and the keys that the user has
//	    │
//	    ▼
//	CreateAccessKey ── answer lost, or a crash here ──> a key that is probably ours
//	    │
//	    ▼
//	sealed, durable ── this write fails ──> DeleteAccessKey at once
func (t *task) createKey(ctx context.Context, _ decision) (string, error) {
	unsettled := !t.prov.KeySince.IsZero() // by an attempt whose key may appear still
	settle := func() {
		if !unsettled { // IAM answered: a key that appears is that of another client
			t.prov.KeySince, t.prov.KeyBeside = time.Time{}, nil
		}
	}
	t.prov.KeySince, t.prov.KeyBeside = t.now(), nil
	for _, k := range t.seen.keys {
		t.prov.KeyBeside = append(t.prov.KeyBeside, k.id)
	}
	if err := t.store(ctx); err != nil {
		return "", err
	}
	t.seen.listed = false
	kp, err := t.makeKey(ctx)
	if err != nil {
		settle()
		return "", err
	}
	if kp.AccessKeyID == "" {
		return "", nil
	}
	sealed, err := t.p.cfg.Registry.SealKey(t.c, kp, t.prov.Pending.Version)
	if err == nil {
		t.prov.Pending.SealedKey, t.prov.Pending.CreatedAt = sealed, t.now()
		t.data.Keys = append(t.data.Keys, kp.AccessKeyID)
		settle()
		err = t.store(ctx)
	}
	if err != nil {
		lost := lostKey{t.caller(), t.prov.User.Name, kp.AccessKeyID}
		return "", errors.Join(err, t.p.deleteLost(context.WithoutCancel(ctx), lost))
	}
	return "made " + kp.AccessKeyID, nil
}

// makeKey sends CreateAccessKey once: after a lost answer the keys are listed again before
// another one is made. It returns no key if the keys have to be listed. An emergency or a
// removal that interrupts the task does not interrupt the call: the secret of the key would be
// lost, and the key would hold one of the two places of the user.
func (t *task) makeKey(ctx context.Context) (alias.KeyPair, error) {
	client, create := t.iam(), t.caller().write("iam:CreateAccessKey", t.prov.User.Name)
	create.once = true
	var kp alias.KeyPair
	err := t.p.until(ctx, t.p.cfg.Timing.Visible+clockSkew, func() (bool, error) {
		out, err := call(context.WithoutCancel(ctx), create, client.CreateAccessKey,
			&iam.CreateAccessKeyInput{UserName: aws.String(t.prov.User.Name)})
		switch {
		case err == nil:
			kp = alias.KeyPair{
				AccessKeyID:     aws.ToString(out.AccessKey.AccessKeyId),
				SecretAccessKey: alias.NewSecret(aws.ToString(out.AccessKey.SecretAccessKey)),
			}
			return true, nil
		case hasCode(err, codeLimit):
			t.seen.unmade, t.seen.limited = true, err // the list of keys tells more
			return true, nil
		case isGone(err):
			return false, nil // IAM does not show the user yet
		case isUnanswered(err):
			t.seen.unmade, t.seen.limited = true, nil
			return true, nil
		}
		return false, err
	})
	return kp, err
}

// maxKeys is how many keys a user can have.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const maxKeys = 2

// pair returns the new key with its secret, or the current one if none is being made.
func (t *task) pair() (alias.KeyPair, error) {
	if t.prov.Pending == nil {
		return t.reveal(t.p.cfg.Registry.Reveal(t.c))
	}
	return t.reveal(t.p.cfg.Registry.RevealSealed(t.c, t.prov.Pending.SealedKey))
}

func (t *task) reveal(kp alias.KeyPair, err error) (alias.KeyPair, error) {
	if err != nil {
		return kp, failf(codeInternal, "decrypt the secret of the key: %v", err)
	}
	return kp, nil
}

// refusedInARow is how often in a row an inactive key must be refused.
const refusedInARow = 3

// awaitRefusal waits until a key that is inactive is refused, because IAM revokes it with
// a delay.
func (t *task) awaitRefusal(ctx context.Context, d decision) (string, error) {
	sealed := alias.SealedKey{AccessKeyID: d.key, Sealed: t.c.Sealed, Version: t.c.Version}
	if t.prov.Previous != nil && t.prov.Previous.AccessKeyID == d.key {
		sealed = t.prov.Previous.SealedKey
	}
	kp, err := t.reveal(t.p.cfg.Registry.RevealSealed(t.c, sealed))
	if err != nil {
		return "", err
	}
	if err := t.waitUntilRefused(ctx, kp, t.prov.Grants); err != nil {
		return "", err
	}
	if t.seen.refused == nil {
		t.seen.refused = map[string]bool{}
	}
	t.seen.refused[d.key] = true
	return d.key + " is refused", nil
}

// waitUntilRefused probes with a key until STS and every S3 server that it reads from refuse
// it refusedInARow times in a row.
func (t *task) waitUntilRefused(ctx context.Context, kp alias.KeyPair, grants []alias.Grant) error {
	timing := t.p.cfg.Timing
	stillWorks := t.p.refusalProbe(kp, grants)
	deadline, inARow := t.p.clock.Now().Add(timing.Refused), 0
	for {
		works := stillWorks(ctx)
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

// refusalProbe returns a function that names a service which still accepts a key, or that did
// not answer. It is empty if every service refuses the key. The clients are made once, because
// they learn the difference between their clock and the server's. A revocation takes its time
// in each region, so each is asked.
func (p *Provisioner) refusalProbe(kp alias.KeyPair, grants []alias.Grant) func(context.Context) string {
	type place struct {
		at     alias.Location
		client *s3.Client
	}
	_, client := p.cfg.Probes.withKey(kp)
	var places []place
	for _, g := range grants {
		at := g.Location()
		known := func(p place) bool { return p.at.Region == at.Region && p.at.Endpoint == at.Endpoint }
		if !slices.ContainsFunc(places, known) {
			places = append(places, place{at, p.cfg.S3(at, kp)})
		}
	}
	return func(ctx context.Context) string {
		// If STS does not know the key, an S3 server that no longer exists must not prevent the
		// deletion of the key. Another refusal of STS can be one of our clock.
		unanswered := "S3 does not answer"
		switch err := whoAmI(ctx, client); {
		case err == nil:
			return "STS accepts it"
		case !err.refused() && !err.unimplemented():
			return err.Error()
		case err.code == "InvalidClientTokenId":
			unanswered = ""
		}
		for _, p := range places {
			switch rep := scope.ReadMissing(ctx, p.client, p.at); {
			case rep.Silent():
				return unanswered
			case !awserr.KeyRefused(rep.Code):
				return "S3 answers " + rep.Code
			}
		}
		return ""
	}
}

// keySlotsTaken is the error for a user that has two keys already.
func keySlotsTaken(user string, keys []accessKey) error {
	named := make([]string, len(keys))
	for i, k := range keys {
		named[i] = k.id
	}
	return failf(codeQuota, "no access key could be made for %s: a user has at most two, and it has %s; "+
		"find out who uses them, and delete one", user, strings.Join(named, " and "))
}

// accessKey is a key as IAM lists it.
type accessKey struct {
	id      string
	active  bool
	created int64 // seconds since 1970
	use     keyUse
	last    time.Time // its last use, if use is useSome
}

// keyUse is what IAM tells of the use of a key. It shows a use hours late.
type keyUse int

const (
	useUnknown keyUse = iota // not asked, or the server cannot tell
	useDenied                // this server may not ask
	useNever
	useSome
)

// lastUse describes the last use of a key for the operator.
func (k accessKey) lastUse() string {
	switch k.use {
	case useNever:
		return "never used"
	case useSome:
		return "last used " + k.last.UTC().Format("2006-01-02 15:04")
	case useUnknown, useDenied:
	}
	return "last use unknown"
}

// usage asks for the use of a key. That of the key that an operation made for a new user
// counts only after the operation's own probes.
func (t *task) usage(ctx context.Context, id string) (keyUse, time.Time) {
	last, err := t.caller().lastUsed(ctx, id)
	call, failed := errors.AsType[*callError](err)
	switch own := t.op != nil && t.prov.Pending != nil && t.prov.Pending.AccessKeyID == id; {
	case isNotAssumed(err), failed && (call.denied() || call.passing()):
		return useDenied, time.Time{}
	case err != nil:
		return useUnknown, time.Time{}
	case last.IsZero(), own && !last.After(t.provedBy()):
		return useNever, time.Time{}
	}
	return useSome, last
}

// provedBy is the latest time at which the operation itself can have used the pending
// key, if it was not interrupted.
func (t *task) provedBy() time.Time {
	began := t.op.CreatedAt
	for _, s := range t.op.Steps {
		if s.StartedAt.After(began) {
			began = s.StartedAt
		}
	}
	return began.Add(t.p.cfg.Timing.VerifyBudget + clockSkew)
}

// keys lists the keys of a user.
func (c caller) keys(ctx context.Context, user string) ([]accessKey, error) {
	return c.read("iam:ListAccessKeys", user).listKeys(ctx)
}

// setKey makes a key active or inactive. A key that no longer exists counts as inactive.
func (c caller) setKey(ctx context.Context, user, id string, status types.StatusType) error {
	client := c.iam()
	return c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.write("iam:UpdateAccessKey", user).onKey(id), client.UpdateAccessKey, &iam.UpdateAccessKeyInput{
			UserName: aws.String(user), AccessKeyId: aws.String(id), Status: status,
		})
		if status == types.StatusTypeInactive {
			err = ignoreGone(err)
		}
		return err == nil, err
	})
}

// deleteKey deletes a key. A key that no longer exists is not an error.
func (c caller) deleteKey(ctx context.Context, user, id string) error {
	client := c.iam()
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

// lastUsed is the last use of a key that IAM shows, which can be hours late; zero for
// never.
func (c caller) lastUsed(ctx context.Context, id string) (time.Time, error) {
	client := c.iam()
	out, err := call(ctx, c.read("iam:GetAccessKeyLastUsed", "").onKey(id), client.GetAccessKeyLastUsed,
		&iam.GetAccessKeyLastUsedInput{AccessKeyId: aws.String(id)})
	if err != nil || out.AccessKeyLastUsed == nil {
		return time.Time{}, err
	}
	return aws.ToTime(out.AccessKeyLastUsed.LastUsedDate), nil
}
