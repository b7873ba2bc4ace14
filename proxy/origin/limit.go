package origin

import (
	"container/list"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// limiter bounds the concurrent calls, of all aliases and of each. A call without a slot
// waits in its alias's lane, first come, first served. The lanes take turns, except those
// at their limit. So an alias with a slow bucket takes no slots from the others beyond
// its limit and does not delay them.
type limiter struct {
	total, perAlias, maxWaiting int
	timeout                     time.Duration
	cutSlow                     func(alias int64) // nil: cuts none

	// mu guards the fields below. After each method either active == total or
	// ready is empty: no slot is free while a call that may have it waits.
	mu      sync.Mutex
	active  int
	waiting int
	lanes   map[int64]*lane
	ready   list.List // of *lane: those with a waiter and below their limit
}

// lane is the queue of one alias. It exists while the alias holds slots or waits.
type lane struct {
	alias   int64
	active  int
	waiters list.List // of chan struct{}, closed when the waiter gets a slot
	readyAt *list.Element
}

func newLimiter(cfg Config) *limiter {
	return &limiter{
		total: cfg.Concurrency, perAlias: cfg.AliasConcurrency, maxWaiting: cfg.Queue,
		timeout: cfg.QueueTimeout, cutSlow: cfg.CutSlow, lanes: map[int64]*lane{},
	}
}

// acquire returns when the caller has a slot; release gives it back and must be
// called once. An error is an *Error with OutcomeOverloaded, or ctx's cause.
func (l *limiter) acquire(ctx context.Context, alias int64) (release func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ln, waiter, err := l.tryAcquire(alias)
	if err != nil {
		return nil, err
	}
	if waiter != nil {
		if err := l.wait(ctx, ln, waiter); err != nil {
			return nil, err
		}
	}
	return func() { l.release(ln) }, nil
}

// tryAcquire takes a slot, or else adds a waiter to the lane and returns it.
func (l *limiter) tryAcquire(alias int64) (*lane, *list.Element, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.lanes[alias]
	if ln == nil {
		ln = &lane{alias: alias}
	}
	// While a slot is free, no call that may have it waits, so this call overtakes none.
	if l.active < l.total && ln.active < l.perAlias {
		l.lanes[alias] = ln
		l.active++
		ln.active++
		return ln, nil, nil
	}
	// A lane takes no more places than it leaves free: one alias alone gets half of
	// them, and each further alias still finds some.
	if ln.waiters.Len() >= l.maxWaiting-l.waiting {
		return nil, nil, overloaded(errQueueFull)
	}
	l.lanes[alias] = ln
	l.waiting++
	waiter := ln.waiters.PushBack(make(chan struct{}))
	l.updateReadyLocked(ln)
	return ln, waiter, nil
}

// wait blocks until the waiter has a slot, ctx is done or QueueTimeout is over.
func (l *limiter) wait(ctx context.Context, ln *lane, waiter *list.Element) error {
	timer := time.NewTimer(l.timeout)
	defer timer.Stop()
	ticker := time.NewTicker(max(l.timeout/cutsPerTimeout, 1))
	defer ticker.Stop()
	granted := waiter.Value.(chan struct{})
	for {
		select {
		case <-granted:
			return nil
		case <-ticker.C:
			l.cutOne(ln)
		case <-ctx.Done():
			if !l.stopWaiting(ln, waiter) {
				l.release(ln)
			}
			return context.Cause(ctx)
		case <-timer.C:
			// Granted in the same moment: the call uses the slot.
			if !l.stopWaiting(ln, waiter) {
				return nil
			}
			return overloaded(errQueueTime)
		}
	}
}

// cutsPerTimeout is how often a waiting call asks for the end of a slow stream before it
// gives up: the first slot may go to a call that has waited for longer.
const cutsPerTimeout = 8

// cutOne asks for the end of the slowest stream that holds a slot which ln may have.
func (l *limiter) cutOne(ln *lane) {
	if l.cutSlow == nil {
		return
	}
	l.mu.Lock()
	alias := int64(0) // any
	if ln.active >= l.perAlias {
		alias = ln.alias
	}
	l.mu.Unlock()
	l.cutSlow(alias)
}

// stopWaiting removes a waiter. It returns false if the waiter already has a slot.
func (l *limiter) stopWaiting(ln *lane, waiter *list.Element) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-waiter.Value.(chan struct{}):
		return false
	default:
	}
	ln.waiters.Remove(waiter)
	l.waiting--
	l.updateReadyLocked(ln)
	return true
}

func (l *limiter) release(ln *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
	ln.active--
	l.updateReadyLocked(ln)
	for l.active < l.total && l.ready.Len() > 0 {
		l.grantLocked(l.ready.Front().Value.(*lane))
	}
}

// grantLocked gives a slot to the first waiter of a lane and puts the lane last among
// the ready ones.
func (l *limiter) grantLocked(ln *lane) {
	granted := ln.waiters.Remove(ln.waiters.Front()).(chan struct{})
	l.waiting--
	l.active++
	ln.active++
	l.ready.Remove(ln.readyAt)
	ln.readyAt = nil
	l.updateReadyLocked(ln)
	close(granted)
}

// updateReadyLocked adds a lane to the ready ones or removes it from them after a change
// of its state, and drops an empty lane.
func (l *limiter) updateReadyLocked(ln *lane) {
	ready := ln.waiters.Len() > 0 && ln.active < l.perAlias
	switch {
	case ready && ln.readyAt == nil:
		ln.readyAt = l.ready.PushBack(ln)
	case !ready && ln.readyAt != nil:
		l.ready.Remove(ln.readyAt)
		ln.readyAt = nil
	}
	if ln.active == 0 && ln.waiters.Len() == 0 {
		delete(l.lanes, ln.alias)
	}
}

// overloaded spreads RetryAfter over two seconds, so that clients refused together do not
// come back together.
func overloaded(cause error) *Error {
	wait := time.Second + rand.N(2*time.Second) //nolint:gosec // a jitter is no secret
	return &Error{Outcome: OutcomeOverloaded, RetryAfter: wait, err: cause}
}
