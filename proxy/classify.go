package proxy

import (
	"context"
	"errors"
	"fmt"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// errContradiction is a page or an error that bears a picture's name: more likely
// something on the way to S3 than the object itself.
var errContradiction = fmt.Errorf("%w: the bytes are none of its type", errNotImage)

// errAliasDenied means that S3 refuses not only the object that was asked for.
var errAliasDenied = errors.New("the alias's canary is refused too")

// verdict tells the cache what an error means for what is stored: an object that
// is gone goes, and everything that is nobody's fault but the origin's, or ours,
// leaves what there is to be served.
func (p *Proxy) verdict(ctx context.Context, route alias.Route, err error) error {
	err = p.judge(ctx, route, err)
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
	negative := p.standing(route).Alias.NegativeTTL
	switch oe.Outcome {
	case origin.OutcomeDenied:
		if p.unsure(route.Alias) {
			return &cache.Outage{Err: err}
		}
		return &cache.Gone{Err: gist(oe), For: negative}
	case origin.OutcomeNotFound:
		return &cache.Gone{Err: gist(oe), For: negative}
	case origin.OutcomeAborted:
		return err
	default:
		return &cache.Outage{Err: err}
	}
}

// judge finds out what a refusal means. Without the right to list a bucket, S3
// answers AccessDenied for an object that is not there as well; where the
// alias's canary is refused too, it is the alias that is broken.
func (p *Proxy) judge(ctx context.Context, route alias.Route, err error) error {
	if err == nil || p.canary == nil {
		return err
	}
	oe, ok := errors.AsType[*origin.Error](err)
	if ok && oe.Outcome == origin.OutcomeDenied && p.canary.Refused(ctx, route) {
		return fmt.Errorf("%w: %w", errAliasDenied, err)
	}
	return err
}

// unsure reports whether nobody can tell now what a refusal means: the alias has a
// canary, and S3 has no answer about that either.
func (p *Proxy) unsure(a *alias.Alias) bool {
	keeper, ok := p.canary.(canaryKeeper)
	return ok && a.Canary != "" && keeper.Unsure(a.ID)
}

// gist is what may be kept of an error: what it says, without what it holds.
func gist(e *origin.Error) error {
	return &origin.Error{
		Outcome: e.Outcome, Operation: e.Operation, Status: e.Status, Code: e.Code, S3RequestID: e.S3RequestID,
	}
}

// mute reports whether a 404 leaves open what is missing: an answer to HEAD has no
// code, and the bucket may not be there.
func mute(gone *cache.Gone) bool {
	oe, ok := errors.AsType[*origin.Error](gone.Err)
	return ok && oe.Outcome == origin.OutcomeNotFound && oe.Code != "NoSuchKey"
}
