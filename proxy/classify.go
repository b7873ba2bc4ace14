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

// Canary knows whether the object can be read that shows that an alias works. It is
// called from many goroutines.
type Canary interface {
	// Refused reports whether S3 refuses the alias's canary too. It is false where the
	// alias has no canary, or the answer is not known. It may ask S3 and takes no longer
	// than such a call may. It is called once for all who wait for one object.
	Refused(ctx context.Context, r alias.Route) bool
	// State is the last reading of an alias's canary.
	State(aliasID int64) (ok bool, at time.Time, known bool)
	// Unsure reports whether the last reading left open if the canary is refused.
	Unsure(aliasID int64) bool
}

// noCanary takes every refusal for a missing object.
type noCanary struct{}

func (noCanary) Refused(context.Context, alias.Route) bool       { return false }
func (noCanary) State(int64) (ok bool, at time.Time, known bool) { return false, time.Time{}, false }
func (noCanary) Unsure(int64) bool                               { return false }

// errContradiction is a page or an error that bears a picture's name: more likely
// something on the way to S3 than the object itself.
var errContradiction = fmt.Errorf("%w: the bytes are none of its type", errNotImage)

// errAliasDenied means that S3 refuses not only the object that was asked for.
var errAliasDenied = errors.New("the alias's canary is refused too")

// classify tells the cache what an error means for what is stored: an object that
// is gone goes, and everything that is nobody's fault but the origin's, or ours,
// leaves what there is to be served.
func (p *Proxy) classify(ctx context.Context, route alias.Route, err error) error {
	err = p.checkCanary(ctx, route, err)
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, errAliasDenied), errors.Is(err, errContradiction):
		return &cache.Outage{Err: err}
	case errors.Is(err, errNotImage): // any more
		return &cache.Gone{Err: err}
	}
	oe, ok := errors.AsType[*origin.Error](err)
	if !ok {
		return err
	}
	negative := p.currentRoute(route).Alias.NegativeTTL
	switch oe.Outcome {
	case origin.OutcomeDenied:
		if p.canaryUnknown(route.Alias) {
			return &cache.Outage{Err: err}
		}
		return &cache.Gone{Err: withoutCause(oe), For: negative}
	case origin.OutcomeNotFound:
		return &cache.Gone{Err: withoutCause(oe), For: negative}
	case origin.OutcomeAborted:
		return err
	default:
		return &cache.Outage{Err: err}
	}
}

// checkCanary finds out what a refusal means. Without the right to list a bucket, S3
// answers AccessDenied for an object that is not there as well; where the
// alias's canary is refused too, it is the alias that is broken.
func (p *Proxy) checkCanary(ctx context.Context, route alias.Route, err error) error {
	oe, ok := errors.AsType[*origin.Error](err)
	if ok && oe.Outcome == origin.OutcomeDenied && p.canary.Refused(ctx, route) {
		return fmt.Errorf("%w: %w", errAliasDenied, err)
	}
	return err
}

// canaryUnknown reports whether nobody can tell now what a refusal means: the alias has a
// canary, and S3 has no answer about that either.
func (p *Proxy) canaryUnknown(a *alias.Alias) bool {
	return a.Canary != "" && p.canary.Unsure(a.ID)
}

// withoutCause is what may be kept of an error: what it says, without what it holds.
func withoutCause(e *origin.Error) error {
	return &origin.Error{
		Outcome: e.Outcome, Operation: e.Operation, Status: e.Status, Code: e.Code, S3RequestID: e.S3RequestID,
	}
}

// isAmbiguous404 reports whether a 404 leaves open what is missing: an answer to HEAD has no
// code, and the bucket may not be there.
func isAmbiguous404(gone *cache.Gone) bool {
	oe, ok := errors.AsType[*origin.Error](gone.Err)
	return ok && oe.Outcome == origin.OutcomeNotFound && oe.Code != "NoSuchKey"
}
