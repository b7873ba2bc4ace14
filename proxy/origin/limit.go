package origin

import (
	"container/list"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// limiter hands out slots: so many in all, so many of them to one alias. Who
// gets none waits in its alias's lane, first come first served, and the lanes
// take turns; a lane at its limit is passed over. So an alias whose bucket is
// slow holds its own slots and its own lane, and nobody else's.
type limiter struct {
	total, perAlias, maxWaiting int
	timeout                     time.Duration

	// mu guards the fields below. After each method either active == total or
	// ready is empty: a slot is never free while somebody could have it.
	mu      sync.Mutex
	active  int
	waiting int
	lanes   map[int64]*lane
	ready   list.List // of *lane: those with a waiter and below their limit
}

// lane is one alias's share. It exists while it holds slots or waiters.
type lane struct {
	alias   int64
	active  int
	waiters list.List // of chan struct{}, closed when the slot is theirs
	readyAt *list.Element
}

func newLimiter(cfg Config) *limiter {
	return &limiter{
		total: cfg.Concurrency, perAlias: cfg.AliasConcurrency, maxWaiting: cfg.Queue,
		timeout: cfg.QueueTimeout, lanes: map[int64]*lane{},
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

// tryAcquire takes a slot, or else a waiter in the lane, which it returns.
func (l *limiter) tryAcquire(alias int64) (*lane, *list.Element, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.lanes[alias]
	if ln == nil {
		ln = &lane{alias: alias}
	}
	// A free slot means that nobody who may have it waits: no one is passed.
	if l.active < l.total && ln.active < l.perAlias {
		l.lanes[alias] = ln
		l.active++
		ln.active++
		return ln, nil, nil
	}
	// No more places than are left free: one alias alone gets half of them,
	// and each further one still finds some.
	if ln.waiters.Len() >= l.maxWaiting-l.waiting {
		return nil, nil, overloaded(errQueueFull)
	}
	l.lanes[alias] = ln
	l.waiting++
	waiter := ln.waiters.PushBack(make(chan struct{}))
	l.updateReadyLocked(ln)
	return ln, waiter, nil
}

// wait blocks until the waiter is granted, ctx is done or time is up.
func (l *limiter) wait(ctx context.Context, ln *lane, waiter *list.Element) error {
	timer := time.NewTimer(l.timeout)
	defer timer.Stop()
	granted := waiter.Value.(chan struct{})
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
		if !l.stopWaiting(ln, waiter) {
			l.release(ln)
		}
		return context.Cause(ctx)
	case <-timer.C:
		// Granted in the same moment: better used than given back.
		if !l.stopWaiting(ln, waiter) {
			return nil
		}
		return overloaded(errQueueTime)
	}
}

// stopWaiting gives up a waiter. It is false when the slot had been granted already.
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

// grantLocked gives a slot to the first in a lane and sends the lane to the
// end of the line.
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

// updateReadyLocked puts a lane among the ready ones, or out of them, as its state
// now asks, and forgets a lane with nothing left.
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

// overloaded spreads what it asks for over two seconds, so that those refused
// together do not come back together.
func overloaded(cause error) *Error {
	wait := time.Second + rand.N(2*time.Second) //nolint:gosec // nobody gains by guessing it
	return &Error{Outcome: OutcomeOverloaded, RetryAfter: wait, err: cause}
}
