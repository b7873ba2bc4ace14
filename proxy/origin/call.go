package origin

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// callStats counts one call and reports it when it ends.
type callStats struct {
	rec        Recorder
	alias      string
	start      time.Time
	requests   atomic.Int64 // attempts, whether they reached S3 or not
	asked      atomic.Int64 // when the last request went out, after start
	noReply    atomic.Bool  // the last request got no reply, or the next one needs a new connection
	keyRetried atomic.Bool  // the call was repeated with a key that S3 did not know yet
	failure    atomic.Value // of type lastError: why a request got none
	permit     permit
	object     objectID
	endpoint   variant
	whole      bool // the call is for a whole object, not for a range or metadata
	plain      bool // the call names no range and no version
	credential *alias.Credential
	span       Span // nil: not traced
	answers    *answers
	outdated   func() bool // see Config; may be nil
	handedOver bool        // to a body, which ends the call
	ended      bool
}

// startCall lets a call pass its circuit and waits for a slot. The caller must give the
// slot back by release and end the callStats.
func (o *Origin) startCall(ctx context.Context, operation string, r Request) (t *callStats, release func(), err error) {
	if err := checkKey(r.Key); err != nil {
		return nil, nil, err
	}
	span := startSpan(ctx, operation, r)
	defer func() {
		if err != nil {
			endSpan(span, err)
		}
	}()
	t = &callStats{
		rec: o.rec, alias: string(r.Route.Alias.Name), start: time.Now(),
		plain:  r.Range == nil && r.IfMatch == "",
		object: objectIDOf(r), endpoint: variantOf(r.Route.Alias.Location), credential: r.Route.Credential,
		answers: o.answers, span: span, outdated: o.cfg.Outdated,
	}
	if !r.Force {
		t.permit = o.breaker.permit(r.Route, r.Key)
	}
	if err := t.permit.enter(); err != nil {
		return nil, nil, err
	}
	// Without a slot: STS is not S3, and if it hangs, calls that wait for it must not keep the slots
	// from the aliases that need no session.
	if _, err := o.signingKey(ctx, r.Route); err != nil {
		t.end(err)
		t.span, span = nil, nil
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

// checkKey refuses keys that S3 must not see: the SDK refuses an empty key, and a key
// that ends in a slash names a folder's marker and not a picture.
func checkKey(key string) error {
	if key == "" || strings.HasSuffix(key, "/") {
		return &Error{Outcome: OutcomeNotFound, err: errNoObject}
	}
	return nil
}

// queueError is the error of a call that got no slot.
func queueError(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Outcome: outcomeOfCause(ctx, err), err: err}
}

// end reports the call. It must be called once, when the call can send no more requests.
func (t *callStats) end(err error) {
	t.ended = true
	outcome := OutcomeOK
	if err != nil {
		outcome = outcomeOf(err)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		e.Outdated = e.Outcome == OutcomeBadCredential && e.Status != 0 && t.outdated != nil && t.outdated()
		t.recordFailure(e)
	} else if err == nil && t.whole {
		t.answers.succeeded(t.object)
	}
	t.permit.done(err)
	t.rec.OriginRequest(t.alias, outcome.Label(), time.Since(t.start))
	endSpan(t.span, err)
	if n := t.requests.Load(); n > 1 {
		t.rec.OriginRetries(t.alias, int(n-1))
	}
}

// recordReply keeps a reply that is no error as the alias's last answer. A reply to a GET
// shows that S3 does not refuse the object any more.
func (t *callStats) recordReply(operation string, m meta) {
	t.answers.put(Answer{
		At: m.received, Operation: operation, Outcome: string(OutcomeOK), OK: true,
		Status: m.status, RequestID: clip(m.requestID, 128),
	}, t.object)
	if operation == opGet {
		t.answers.accepted(t.object)
	}
}

// recordFailure keeps an error as the alias's last answer, if S3 was asked.
func (t *callStats) recordFailure(e *Error) {
	if e.Operation == "" || e.Outcome == OutcomeAborted || e.Outcome == OutcomeOverloaded {
		return
	}
	changed := e.Outcome.Changed() && !t.plain
	a := Answer{
		At: time.Now(), Operation: e.Operation, Outcome: e.Outcome.Label(), Status: e.Status, Code: e.Code,
		RequestID: e.S3RequestID, OK: changed || e.Outcome == OutcomeNotModified,
	}
	if !a.OK {
		a.Err = e.brief()
	}
	t.answers.put(a, t.object)
	switch {
	case e.Outcome == OutcomeNotFound, e.Outcome == OutcomeNotModified:
		t.answers.succeeded(t.object)
	case changed, e.Outcome == OutcomeThrottled: // not this object's problem
	case e.Outcome == OutcomeBadCredential && e.Fault != awserr.Signature: // nor this
	default:
		t.answers.failed(t.object, a)
	}
}

// endIfPanicked ends a call whose goroutine panics before the call has ended or become a
// body: other calls need its slot and, if it is the probe, its circuit.
func (t *callStats) endIfPanicked(release func()) {
	if !t.ended && !t.handedOver {
		defer release()
		t.end(&Error{Outcome: OutcomeError, err: errBroken})
	}
}

// startsAnew reports whether the last request of the call got no reply. It may be called on
// nil, for a request that belongs to no call, as may sent and gotNoReply.
func (t *callStats) startsAnew() bool { return t != nil && t.noReply.Swap(false) }

// sent counts a request.
func (t *callStats) sent() {
	if t != nil {
		t.requests.Add(1)
		t.asked.Store(int64(time.Since(t.start)))
	}
}

func (t *callStats) gotNoReply(err error) {
	if t != nil {
		t.noReply.Store(true)
		t.failure.Store(lastError{err})
	}
}

// lastError is why the last request of a call got no reply. When a timer ends the call, the
// SDK returns the end of the context and drops what happened until then.
type lastError struct{ error }

type callStatsKey struct{}

func (t *callStats) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, callStatsKey{}, t)
}

// delay is how long the last request has waited for its answer:
// response_delay of RFC 9111, section 4.2.3, without the attempts before it.
func (t *callStats) delay() time.Duration { return time.Since(t.start) - time.Duration(t.asked.Load()) }

// keyIDsOf returns the access key ids that may sign the call of a context.
func keyIDsOf(ctx context.Context) []string {
	t, ok := ctx.Value(callStatsKey{}).(*callStats)
	if !ok {
		return nil
	}
	ids := []string{t.credential.AccessKeyID()}
	if p, ok := t.credential.Provisioned(); ok && p.Previous != nil {
		ids = append(ids, p.Previous.AccessKeyID)
	}
	return ids
}

// callStatsOf returns the callStats of the call that a context belongs to.
func callStatsOf(ctx context.Context) *callStats { return ctx.Value(callStatsKey{}).(*callStats) }
