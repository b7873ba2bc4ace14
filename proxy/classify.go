package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// Canary reads the object that shows whether an alias works. It must be safe for
// concurrent use.
type Canary interface {
	// Refused reports whether S3 refuses the alias's canary too. It is false if the
	// alias has no canary, or the answer is not known. It may ask S3 and takes no
	// longer than such a call may. It is called once for all requests that wait for an
	// object.
	Refused(ctx context.Context, r alias.Route) bool
	// State is the last reading of an alias's canary.
	State(aliasID int64) (ok bool, at time.Time, known bool)
	// Inconclusive reports whether the last reading did not tell if the canary is refused.
	Inconclusive(aliasID int64) bool
}

// noCanary makes every refusal count as a missing object.
type noCanary struct{}

func (noCanary) Refused(context.Context, alias.Route) bool       { return false }
func (noCanary) State(int64) (ok bool, at time.Time, known bool) { return false, time.Time{}, false }
func (noCanary) Inconclusive(int64) bool                         { return false }

// errContradiction means that a page or an error document came in place of a picture:
// probably a proxy on the way to S3 sent it, and the object still exists.
var errContradiction = fmt.Errorf("%w: the bytes are not of its type", errNotImage)

// errAliasDenied means that S3 refuses the alias's canary as well as the object.
var errAliasDenied = errors.New("the alias's canary is refused too")

// classify tells the cache what an error means for a stored object: cache.NotFound drops it,
// cache.Unavailable keeps it, so that it can be served stale.
func (p *Proxy) classify(ctx context.Context, route alias.Route, err error) error {
	err = p.checkCanary(ctx, route, err)
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, errAliasDenied), errors.Is(err, errContradiction):
		return &cache.Unavailable{Err: err}
	case errors.Is(err, errNotImage): // the stored object was a picture; the new one is not
		return &cache.NotFound{Err: err}
	}
	oe, ok := errors.AsType[*origin.Error](err)
	if !ok {
		return err
	}
	negative := p.currentRoute(route).Alias.NegativeTTL
	switch oe.Outcome {
	case origin.OutcomeDenied:
		if p.canaryUnknown(route.Alias) {
			return &cache.Unavailable{Err: err}
		}
		return &cache.NotFound{Err: withoutCause(oe), Full: oe, For: negative}
	case origin.OutcomeNotFound:
		n := &cache.NotFound{Err: withoutCause(oe), For: negative}
		if !isNoSuchKey(oe.Code) {
			n.Full = oe // a code that needs S3's message
		}
		return n
	case origin.OutcomeAborted:
		return err
	default:
		return &cache.Unavailable{Err: err}
	}
}

// checkCanary distinguishes a missing object from a broken alias after a refusal. Without the
// right to list a bucket, S3 answers AccessDenied for both; if it refuses the alias's
// canary too, the alias is broken.
func (p *Proxy) checkCanary(ctx context.Context, route alias.Route, err error) error {
	oe, ok := errors.AsType[*origin.Error](err)
	if ok && oe.Outcome == origin.OutcomeDenied && p.canary.Refused(ctx, route) {
		return fmt.Errorf("%w: %w", errAliasDenied, err)
	}
	return err
}

// canaryUnknown reports whether a refusal cannot be explained now: the alias has a canary,
// and the last reading of it had no clear answer.
func (p *Proxy) canaryUnknown(a *alias.Alias) bool {
	return a.Canary != "" && p.canary.Inconclusive(a.ID)
}

// withoutCause copies an error without its cause, which would keep a whole reply in
// memory.
func withoutCause(e *origin.Error) error {
	return &origin.Error{
		Outcome: e.Outcome, Operation: e.Operation, Status: e.Status, Code: e.Code, Fault: e.Fault,
		S3RequestID: e.S3RequestID,
	}
}

// isAmbiguous404 reports whether a 404 may mean a missing object or a missing bucket: an
// answer to HEAD has no code.
func isAmbiguous404(nf *cache.NotFound) bool {
	oe, ok := errors.AsType[*origin.Error](nf.Err)
	return ok && oe.Outcome == origin.OutcomeNotFound && oe.Code != "NoSuchKey"
}
