package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// firstRetry is the shortest pause after a call that failed. It doubles with each failure in
	// a row, up to lastRetry.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// shortRetry is the shortest pause while there is a living session: a pause is at most an
	// eighth of the rest of its life, so that many attempts are left however short that is.
	shortRetry = 100 * time.Millisecond
	// refusalPause is the time in which a session is renewed only once because S3 refused its
	// key: if S3 refuses the next key too, another one would not help.
	refusalPause = 10 * time.Second
)

// lease is a set of temporary keys.
type lease struct {
	keys aws.Credentials
	// until is the end of their use by the clock of this process, a little before they expire;
	// zero for keys that do not expire. renew is when the next ones should be fetched.
	renew, until time.Time
	expires      time.Time // as their issuer says
	sent         request   // what STS was asked for; zero for the keys of the server itself
}

func (l *lease) alive(now time.Time) bool { return l.until.IsZero() || now.Before(l.until) }

// session holds the temporary keys that sign for one alias, and fetches the next ones. A request
// in the last part of their life starts the fetch and does not wait for it; only a
// request without living keys waits.
type session struct {
	sessions  *Sessions
	fetchKeys func(context.Context) (*lease, error)
	// reset makes the next fetch bring other keys than those that were refused; nil if each does.
	reset func()

	current atomic.Pointer[lease] // nil before the first keys

	mu       sync.Mutex // guards what follows
	fetch    *fetch     // nil while none runs
	failures int        // in a row
	err      error      // of the last fetch; nil if it succeeded
	retryAt  time.Time  // no fetch begins before
	refused  time.Time  // when S3 refused a key last
}

// fetch is a call for keys that is under way.
type fetch struct {
	done chan struct{}
	err  error // set before done is closed
}

// wait returns the error of the fetch when it has ended, or that of ctx.
func (f *fetch) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Retrieve implements aws.CredentialsProvider.
func (x *session) Retrieve(ctx context.Context) (aws.Credentials, error) {
	l, err := x.lease(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	return l.keys, nil
}

// lease returns the living keys, or waits for the next ones.
func (x *session) lease(ctx context.Context) (*lease, error) {
	now := time.Now()
	l := x.current.Load()
	if l == nil || !l.alive(now) {
		return x.wait(ctx)
	}
	if !l.until.IsZero() && !now.Before(l.renew) {
		x.mu.Lock()
		if x.current.Load() == l { // else a fetch has ended since
			x.startLocked(now) //nolint:contextcheck // a fetch belongs to no request
		}
		x.mu.Unlock()
	}
	return l, nil
}

// wait returns the next keys, or the error of the last fetch until retryAt.
func (x *session) wait(ctx context.Context) (*lease, error) {
	x.mu.Lock()
	now := time.Now()
	if l := x.current.Load(); l != nil && l.alive(now) { // a fetch has ended since the caller looked
		x.mu.Unlock()
		return l, nil
	}
	f := x.startLocked(now) //nolint:contextcheck // a fetch belongs to no request
	err := x.err
	x.mu.Unlock()
	if f == nil {
		return nil, err
	}
	if err := f.wait(ctx); err != nil {
		return nil, err
	}
	return x.current.Load(), nil
}

// startLocked starts a fetch, or returns the one that runs. It returns nil during the pause
// after a failure.
func (x *session) startLocked(now time.Time) *fetch {
	if x.fetch != nil || now.Before(x.retryAt) {
		return x.fetch
	}
	f := &fetch{done: make(chan struct{})}
	x.fetch = f
	if !x.sessions.start(func() { x.run(f) }) {
		x.fetch, f.err = nil, errClosed
		close(f.done)
	}
	return f
}

// run fetches keys once. It belongs to no request: all that wait share it.
func (x *session) run(f *fetch) {
	l, err := x.sessions.call(x.fetchKeys)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fetch, x.err, f.err = nil, err, err
	if err == nil {
		x.current.Store(l)
		x.failures, x.retryAt = 0, time.Time{}
	} else {
		now, pause := time.Now(), min(firstRetry<<min(x.failures, 10), lastRetry)
		if l := x.current.Load(); l != nil && !l.until.IsZero() && l.alive(now) {
			pause = min(pause, max(l.until.Sub(now)/8, shortRetry))
		}
		x.failures++
		x.retryAt = now.Add(pause/2 + rand.N(pause)) //nolint:gosec // a jitter is no secret
	}
	close(f.done)
}

// renewRefused fetches other keys after S3 refused one, and reports whether there are others now.
func (x *session) renewRefused(ctx context.Context, keyID string) bool {
	x.mu.Lock()
	now := time.Now()
	l := x.current.Load()
	if l != nil && l.keys.AccessKeyID != keyID && l.alive(now) {
		x.mu.Unlock()
		return true // another request has renewed it
	}
	if !x.refused.IsZero() && now.Sub(x.refused) < refusalPause && x.fetch == nil {
		x.mu.Unlock()
		return false
	}
	x.refused = now
	if x.reset != nil && x.fetch == nil {
		x.reset()
	}
	f := x.startLocked(now) //nolint:contextcheck // a fetch belongs to no request
	x.mu.Unlock()
	return f != nil && f.wait(ctx) == nil
}

// renewTime is a random time in the third quarter of a life, so that the sessions of one role are
// not all renewed at once.
func renewTime(now time.Time, life time.Duration) time.Time {
	return now.Add(life/2 + rand.N(life/4+1)) //nolint:gosec // a jitter is no secret
}

// newLease makes a lease of keys whose life begins now. The end is a tenth of the life early, at
// most margin: a request that is signed then must reach S3 in time.
func newLease(keys aws.Credentials, now time.Time, life time.Duration) *lease {
	const margin = 30 * time.Second
	l := &lease{keys: keys, expires: keys.Expires}
	l.renew, l.until = renewTime(now, life), now.Add(life-min(life/10, margin))
	l.keys.CanExpire = false // the SDK need not look: Retrieve does
	return l
}

var errClosed = errors.New("the server is shutting down")
