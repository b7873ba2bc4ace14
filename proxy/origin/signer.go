package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// signer is a client and the key that it signs with.
type signer struct {
	client  *s3.Client
	keyID   string
	version int64 // of the credential that it was made for
}

// signer returns the client of a route's credential.
func (o *Origin) signer(ctx context.Context, r alias.Route) (signer, error) {
	client, err := o.clients.current(r)
	if err != nil {
		return signer{}, &Error{Outcome: OutcomeBadCredential, err: err}
	}
	keyID, err := o.signingKey(ctx, r)
	return signer{client, keyID, r.Credential.Version}, err
}

// signingKey returns the id of the key that signs for a route now. It waits while a credential
// with temporary keys has none that is alive.
func (o *Origin) signingKey(ctx context.Context, r alias.Route) (string, error) {
	if !r.Credential.Temporary() || o.cfg.Sessions == nil { // without sessions there is no client either
		return r.Credential.AccessKeyID(), nil
	}
	wait, cancel := context.WithTimeoutCause(ctx, o.cfg.CallTimeout, errSlow)
	defer cancel()
	keys, err := o.cfg.Sessions.Provider(r).Retrieve(wait)
	switch {
	case err == nil:
		return keys.AccessKeyID, nil
	case ctx.Err() != nil:
		return "", queueError(ctx, err)
	}
	return "", &Error{Outcome: OutcomeBadCredential, err: fmt.Errorf("%w: %w", ErrNoSession, err)}
}

// retrySigner returns the key pair for a retry after S3 has refused one: the key of another session,
// if the credential has sessions. Of a credential with a key of its own it is another one in two
// cases, both during a rotation:
//
//  1. The credential has a new key pair, which has passed verification, but some server of
//     S3 does not know it yet. The previous key works until the rotation
//     retires it, so it signs the retry.
//  2. A request came with the old version of the credential and waited (for a slot, or
//     with a body that broke) until the old key was deactivated. The current version's
//     key pair signs the retry.
//
// 3. The alias was just opened, so there is no previous key, and some server of S3 does not
// know the new key yet, though it has worked at others. The same key pair signs the retry, on
// a new connection, which may lead to another server.
//
// The caller must retry at most once: if S3 refuses the second key too, the credential
// is broken.
func (o *Origin) retrySigner(ctx context.Context, r alias.Route, refused signer, err error) (signer, bool) {
	if err == nil || outcomeOf(err) != OutcomeBadCredential {
		return signer{}, false
	}
	r = o.currentRoute(r)
	temporary := r.Credential.Temporary()
	switch {
	case temporary && refused.version == r.Credential.Version:
		if !o.cfg.Sessions.Renew(ctx, r, refused.keyID) {
			return signer{}, false
		}
	case !temporary && refused.version == r.Credential.Version && refused.keyID == r.Credential.AccessKeyID():
		return o.otherKey(ctx, r, refused, err)
	}
	s, err := o.signer(ctx, r)
	return s, err == nil
}

// otherKey returns the previous key of a credential whose current one was refused, or the same
// key once more if that is new.
func (o *Origin) otherKey(ctx context.Context, r alias.Route, refused signer, err error) (signer, bool) {
	if previous, ok := o.previousSigner(ctx, r, err); ok {
		return previous, true
	}
	return refused, isNew(r.Credential) && isUnknownKey(err) && retryNewKey(ctx)
}

const (
	// newKeyTime is how long some servers of S3 may not know a key that others know.
	newKeyTime = time.Minute
	// newKeyPause is the time between the two requests with such a key.
	newKeyPause = 200 * time.Millisecond
)

// isNew reports whether the key of a provisioned credential began to sign less than newKeyTime
// ago. At its first opening that is when it was verified.
func isNew(c *alias.Credential) bool {
	if _, ok := c.Provisioned(); !ok {
		return false
	}
	began := c.RotatedAt
	if c.RotatedAt.IsZero() {
		began = c.VerifiedAt
	}
	return time.Since(began) < newKeyTime
}

func isUnknownKey(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Fault == awserr.UnknownKey
}

// retryNewKey waits for newKeyPause, and reports whether the call may be repeated with the same
// key: once, however often its body is resumed.
func retryNewKey(ctx context.Context) bool {
	t, ok := ctx.Value(callStatsKey{}).(*callStats)
	if !ok || t.keyRetried.Swap(true) {
		return false
	}
	pause := time.NewTimer(newKeyPause)
	defer pause.Stop()
	select {
	case <-pause.C:
		t.noReply.Store(true) // the next request gets a new connection
		return true
	case <-ctx.Done():
		return false
	}
}

// currentRoute returns the route with the current version of its credential. If the alias
// is gone, or another credential signs for it, the request's route is returned.
func (o *Origin) currentRoute(r alias.Route) alias.Route {
	if o.cfg.Lookup == nil {
		return r
	}
	now, ok := o.cfg.Lookup(string(r.Alias.Name))
	// Compared by id, not by name: a name that was deleted and made again is another
	// alias, and another credential.
	if !ok || now.Alias.ID != r.Alias.ID || now.Credential.ID != r.Credential.ID ||
		now.Credential.Version < r.Credential.Version {
		return r
	}
	return alias.Route{Alias: r.Alias, Credential: now.Credential}
}

// now is the time by the clock that the ends of previous keys were set with.
func (o *Origin) now() time.Time {
	if o.cfg.Now != nil {
		return o.cfg.Now()
	}
	return time.Now()
}

// previousSigner returns the previous key pair while the rotation still allows it.
func (o *Origin) previousSigner(ctx context.Context, r alias.Route, cause error) (signer, bool) {
	c := r.Credential
	p, ok := c.Provisioned()
	if !ok || p.Previous == nil || !o.now().Before(p.Previous.Until) {
		return signer{}, false
	}
	client, err := o.clients.previous(r, p.Previous.SealedKey)
	if err != nil {
		o.log.LogAttrs(ctx, slog.LevelError, "previous key cannot be used",
			slog.String("credential", string(c.Name)), slog.Any("error", err))
		return signer{}, false
	}
	o.rec.RotationFallback(string(c.Name))
	if o.cfg.PreviousKeyUsed != nil {
		o.cfg.PreviousKeyUsed(c.ID)
	}
	o.log.LogAttrs(ctx, slog.LevelInfo, "key refused, falling back on the previous one",
		slog.String("credential", string(c.Name)), slog.Any("cause", cause))
	return signer{client, p.Previous.AccessKeyID, c.Version}, true
}
