package origin

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"
)

// callStats is what one call reports when it is over.
type callStats struct {
	rec        Recorder
	alias      string
	start      time.Time
	requests   atomic.Int64 // tried, whether they reached S3 or not
	asked      atomic.Int64 // when the last one went out, after start
	noReply    atomic.Bool  // the last one got no reply
	permit     permit
	aliasID    int64
	answers    *answers
	handedOver bool // to a body, which ends it
	ended      bool
}

// startCall is what every call goes through before S3 is asked: its circuit and a slot,
// which release gives back. The tally must be ended.
func (o *Origin) startCall(ctx context.Context, r Request) (t *callStats, release func(), err error) {
	if err := checkKey(r.Key); err != nil {
		return nil, nil, err
	}
	t = &callStats{
		rec: o.rec, alias: string(r.Route.Alias.Name), start: time.Now(),
		aliasID: r.Route.Alias.ID, answers: o.answers,
	}
	if !r.Force {
		t.permit = o.breaker.permit(r.Route, r.Key)
	}
	if err := t.permit.enter(); err != nil {
		return nil, nil, err
	}
	release, err = o.limit.acquire(ctx, r.Route.Alias.ID)
	if err != nil {
		err = queueError(ctx, err)
		t.permit.done(err)
		return nil, nil, err
	}
	if err := t.permit.enter(); err != nil {
		release()
		return nil, nil, err
	}
	return t, release, nil
}

// checkKey answers keys that S3 must not see: the SDK refuses an empty one, and
// one that ends in a slash names a folder's marker, not a picture.
func checkKey(key string) error {
	if key == "" || strings.HasSuffix(key, "/") {
		return &Error{Outcome: OutcomeNotFound, err: errNoObject}
	}
	return nil
}

// queueError is for calls that got no slot.
func queueError(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Outcome: outcomeOfCause(ctx, err), err: err}
}

// end must be called once, when no more requests can be sent, with what Error says
// of how the call went.
func (t *callStats) end(err error) {
	t.ended = true
	outcome := OutcomeOK
	if err != nil {
		outcome = outcomeOf(err)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		t.recordFailure(e)
	}
	t.permit.done(err)
	t.rec.OriginRequest(t.alias, outcome.Label(), time.Since(t.start))
	if n := t.requests.Load(); n > 1 {
		t.rec.OriginRetries(t.alias, int(n-1))
	}
}

// recordReply is told when a reply is here that is no error.
func (t *callStats) recordReply(operation string, m meta) {
	t.answers.put(t.aliasID, Answer{
		At: m.received, Operation: operation, Outcome: string(OutcomeOK), OK: true,
		Status: m.status, RequestID: clip(m.requestID, 128),
	})
}

// recordFailure is told of what came instead, where S3 was asked.
func (t *callStats) recordFailure(e *Error) {
	if e.Operation == "" || e.Outcome == OutcomeAborted || e.Outcome == OutcomeOverloaded {
		return
	}
	label := e.Outcome.Label()
	t.answers.put(t.aliasID, Answer{
		At: time.Now(), Operation: e.Operation, Outcome: label, Status: e.Status, Code: e.Code, RequestID: e.S3RequestID,
		OK: label == string(OutcomeOK) || label == string(OutcomeNotModified),
	})
}

// endIfPanicked ends what neither came to its end nor became a body: the goroutine panics.
// Its slot, and its circuit if it is a probe, are others' all the same.
func (t *callStats) endIfPanicked(release func()) {
	if !t.ended && !t.handedOver {
		defer release()
		t.end(&Error{Outcome: OutcomeError, err: errBroken})
	}
}

type callStatsKey struct{}

func (t *callStats) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, callStatsKey{}, t)
}

// delay is how long the last request has been waiting for its answer:
// response_delay of RFC 9111, section 4.2.3, without the attempts before it.
func (t *callStats) delay() time.Duration { return time.Since(t.start) - time.Duration(t.asked.Load()) }

// callStatsOf is the tally of the call that a context is of.
func callStatsOf(ctx context.Context) *callStats { return ctx.Value(callStatsKey{}).(*callStats) }
