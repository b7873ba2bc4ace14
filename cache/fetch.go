package cache

import (
	"context"
	"time"
)

// kind says for whom a fetch runs.
type kind uint8

const (
	shared     kind = iota // in the table, where requests for its key join it
	background             // the same, but begun for no request
	private                // for one request, and in no table: nobody joins it
)

// state is how far a fetch has come. It only grows.
type state uint8

const (
	loading   state = iota // its load has not returned
	filling                // its body is being filled, while waiters follow it
	committed              // it has what it came for
	failed
	abandoned // it was cancelled, since nobody waits for it
)

// fetch is one call of a Load. Requests for its key wait for it instead of fetching
// again. It runs in a goroutine of its own, under the cache's context and not under
// that of the request that began it, so that the others get their object even if the
// first client leaves.
//
// A fetch is resolved once, when its load has returned, in one of four ways:
//
//   - err goes to every waiter;
//   - entry answers: the stored object is still the same, or refreshing it failed and
//     it may be served nevertheless;
//   - body is filled while the waiters follow it, each at its own pace;
//   - the object may not or cannot be held. One waiter takes the source and streams it
//     with back-pressure; the others fetch for themselves.
//
// A fetch whose last waiter leaves before it is committed is abandoned: cancelled, and
// taken out of the table, at once or, where finishing it is cheaper than a new request,
// after idleTimeout.
//
// Commit makes the entry visible and takes the fetch out of the table in one critical
// section of Cache.mu. That is needed for this sequence (join):
//
//  1. Request A finds no entry and no fetch for K, and starts fetch F.
//  2. Request B finds no entry for K and is suspended.
//  3. F is complete: the entry of K becomes visible, and F leaves the table.
//  4. B takes Cache.mu and finds no fetch for K. It looks into memory again, and must
//     find the entry.
//
// A waiter's hold on the body is needed for this sequence (resolve, join):
//
//  1. A waits for F to be resolved.
//  2. F is resolved, fills its body, commits, and its entry is evicted at once.
//  3. Without a hold, the body would count as free while A goes on to read it.
//
// So the hold is taken under Cache.mu by whoever comes second: by resolve for waiters
// who are there already, by join for later ones.
//
// Only a fetch in the table puts its entry (store). That is needed for two sequences:
//
//  1. A, the only reader of F, leaves, and F is abandoned. Fetch G for the same key
//     starts and completes: the entry is G's.
//  2. F's source did not notice its cancellation in time, and completes. Its older
//     object must not replace G's.
//
// and
//
//  1. F is complete and begins to commit.
//  2. Its key is purged: F leaves the table, and there is no entry to purge.
//  3. F's entry is older than the purge and must not be put.
//
// The mark of old is compared because its generation does not tell enough (renewed):
//
//  1. A soft purge of K takes its generation, and finds no fetch.
//  2. Fetch F begins, with the same generation. It asks whether the entry is the same.
//  3. The purge marks the entry, because its metadata may be wrong.
//  4. F is told that the bytes are the same, and must not make the entry fresh.
type fetch struct {
	outcome

	cache      *Cache
	key        Key
	kind       kind
	generation uint64 // of the cache when the fetch began
	space      *space
	old        *Entry // stored and to be refreshed, held until the end; nil if there is none
	purged     *mark  // of old when the fetch began
	cancel     context.CancelCauseFunc
	ready      chan struct{} // closed by resolve, which fixes outcome

	// Guarded by Cache.mu.
	state   state
	waiters int
	taken   bool        // a waiter has what only one may have
	finish  bool        // it goes on without waiters
	idle    *time.Timer // ends it if it has no waiters
}

// waiter is one request's place: at a fetch, or at an entry after all. With neither, it
// has to fetch for itself.
type waiter struct {
	*fetch

	entry  *Entry
	status Status // of entry
	first  bool   // it began the fetch
}

// join waits for the fetch of key, starting one if there is none, or only one whose
// object is not fresh any more because the body comes slowly. That one goes on for its
// readers and makes no entry.
func (c *Cache) join(key Key, load Load) (waiter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := context.Cause(c.base); err != nil {
		return waiter{}, err
	}
	now := time.Now()
	if f := c.fetches[key]; f != nil {
		switch {
		case f.joinableLocked(now):
			return f.joinLocked(now), nil
		case f.exclusive(): // it leaves an entry, so it has no successor
			return waiter{}, nil
		}
	}
	if err := c.negative.get(key, now); err != nil {
		return waiter{}, err
	}
	e := c.memory.look(key)
	switch {
	case e == nil:
	case e.fresh(now):
		return waiter{entry: e}, nil
	case e.servableStale(now):
		c.refreshLocked(key, e, now, load)
		return waiter{entry: e, status: Stale}, nil
	}
	return waiter{fetch: c.startLocked(key, shared, e, load), first: true}, nil
}

// joinLocked adds a waiter, unless the stored entry will do for it.
func (f *fetch) joinLocked(now time.Time) waiter {
	if f.old != nil && f.old.servableStale(now) {
		f.old.body.retain(1)
		if f.old.fresh(now) { // it is refreshed ahead of time
			return waiter{entry: f.old}
		}
		return waiter{entry: f.old, status: Stale}
	}
	f.waiters++
	f.stopIdleLocked()
	if f.body != nil {
		f.body.retain(1)
	}
	return waiter{fetch: f}
}

// joinableLocked reports whether f may have another waiter. A committed one may, since
// its entry is about to be visible, and a successor could put another at that time.
func (f *fetch) joinableLocked(now time.Time) bool {
	return f.body == nil || f.state != filling || now.Before(f.expires())
}

// expires is until when the object of f is fresh.
func (f *fetch) expires() time.Time { return f.born.Add(f.source.Fresh) }

// exclusive reports whether the outcome is for one waiter alone: its bytes are not held,
// or each request must ask anew. f is resolved.
func (f *fetch) exclusive() bool {
	return f.source != nil && (f.bytes() == nil || !f.source.lasts())
}

// private fetches the object of key for one request alone. Without whole, what is stored
// has no say in it.
func (c *Cache) private(ctx context.Context, key Key, load Load, useStored bool) (*Reader, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var old *Entry
	if useStored {
		old = c.memory.look(key)
	}
	c.mu.Lock()
	err := context.Cause(c.base) //nolint:contextcheck // a fetch ends with the cache
	var f *fetch
	if err == nil {
		f = c.startLocked(key, private, old, load) //nolint:contextcheck // as above
	}
	c.mu.Unlock()
	if err != nil {
		if old != nil {
			old.Release()
		}
		return nil, err
	}
	return waiter{fetch: f, first: true}.wait(ctx, load, false)
}

// startLocked begins a fetch with one waiter, or none in the background. It takes over
// the hold on old. A fetch of the same key that may not be joined any more loses its
// place in the table.
func (c *Cache) startLocked(key Key, k kind, old *Entry, load Load) *fetch {
	f := &fetch{
		cache: c, key: key, kind: k, generation: c.generation.Load(), space: c.spaceLocked(key), old: old,
		ready: make(chan struct{}),
	}
	if old != nil {
		f.purged = old.purged.Load()
	}
	var ctx context.Context
	ctx, f.cancel = context.WithCancelCause(c.base)
	if k != private {
		if before := c.fetches[key]; before != nil && before.waiters == 0 {
			before.abandonLocked()
		}
		c.fetches[key] = f
	}
	if k == background {
		c.refreshes++
		f.space.refreshes++
		f.finish = true
		f.idle = time.AfterFunc(idleTimeout, f.expireIdle)
	} else {
		f.waiters = 1
	}
	c.wg.Go(func() {
		defer f.cleanup()
		growStack()
		c.guard.load(ctx, old, load, func(src *Source, err error) { f.loaded(ctx, src, err) })
	})
	return f
}

// cleanup gives back what a fetch had beside its outcome. It is out of the table by now,
// where others could find the stored entry.
func (f *fetch) cleanup() {
	if f.old != nil {
		f.old.Release()
	}
	if f.kind == background {
		c := f.cache
		c.mu.Lock()
		c.refreshes--
		f.space.refreshes--
		c.mu.Unlock()
	}
}

// wait waits until the fetch is resolved and makes a reader of the waiter.
func (w waiter) wait(ctx context.Context, load Load, metaOnly bool) (*Reader, error) {
	f := w.fetch
	select {
	case <-f.ready:
	case <-ctx.Done():
		w.giveUp()
		return nil, context.Cause(ctx)
	}
	if f.err != nil {
		return nil, f.err
	}
	if f.exclusive() && !f.take() {
		return w.beside(ctx, load, metaOnly)
	}
	switch {
	case f.entry != nil:
		return answeredReader(w), nil
	case f.body != nil:
		return followingReader(w), nil
	}
	return streamReader(f), nil
}

// beside serves a waiter whose fetch brought something for another one.
func (w waiter) beside(ctx context.Context, load Load, metaOnly bool) (*Reader, error) {
	r := bareReader(w.fetch)
	w.giveUp()
	if metaOnly {
		return r, nil
	}
	return w.cache.private(ctx, w.key, load, true)
}

// take reports whether it is called for the first time.
func (f *fetch) take() bool {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	first := !f.taken
	f.taken = true
	return first
}

// giveUp is for a waiter that has not become a reader.
func (w waiter) giveUp() {
	if b := w.leave(); b != nil {
		b.release()
	}
}

// leave takes one waiter away and returns the body that it holds, which the caller must
// release. A fetch that nobody waits for any more is abandoned while most of it is still
// to come, unless it is to finish, and always when it is not in the table. Otherwise it
// has idleTimeout to finish.
func (f *fetch) leave() *body {
	c := f.cache
	c.mu.Lock()
	f.waiters--
	if f.waiters == 0 && f.underWayLocked() {
		if c.fetches[f.key] != f || !f.finish && f.farFromDone() {
			f.abandonLocked()
		} else {
			f.idle = time.AfterFunc(idleTimeout, f.expireIdle)
		}
	}
	orphan, b := f.orphanLocked(), f.bytes()
	c.mu.Unlock()
	if orphan {
		f.drop(f.source)
	}
	return b
}

// underWayLocked reports whether there is something to be cancelled.
func (f *fetch) underWayLocked() bool { return f.state <= filling }

// abandonLocked cancels f and takes it out of the table.
func (f *fetch) abandonLocked() {
	if f.underWayLocked() {
		f.state = abandoned
		f.removeLocked()
		f.cancel(ErrAbandoned)
	}
}

// removeLocked takes f out of the table, unless it is there no more.
func (f *fetch) removeLocked() {
	if f.cache.fetches[f.key] == f {
		delete(f.cache.fetches, f.key)
	}
}

// keepGoing has f go on for a while when its last waiter has left.
func (f *fetch) keepGoing() {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.finish = true
}

// idleTimeout is how long a fetch may go on that nobody waits for. It holds memory and
// one of the connections to S3, and a slow origin would have all of them held for
// readers who are long gone.
const idleTimeout = 30 * time.Second

// expireIdle abandons a fetch whose idleTimeout has passed.
func (f *fetch) expireIdle() {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	if f.waiters == 0 {
		f.abandonLocked()
	}
}

// stopIdleLocked stops the timer: f has a waiter again, or there is nothing to cancel.
// Where the timer has just fired, expireIdle sees the same.
func (f *fetch) stopIdleLocked() {
	if f.idle != nil {
		f.idle.Stop()
	}
}

// orphanLocked reports whether f has a source that nobody is left to take.
func (f *fetch) orphanLocked() bool {
	return f.source != nil && f.bytes() == nil && f.waiters == 0 && !f.taken
}

// bytes are what every waiter of a resolved fetch holds, nil where one of them streams.
func (f *fetch) bytes() *body {
	if f.entry != nil {
		return f.entry.body
	}
	return f.body
}

// worthFinishing is how many bytes a fetch without waiters may still have to read to be
// completed nevertheless: a new request would cost more.
const worthFinishing = 256 << 10

func (f *fetch) farFromDone() bool {
	if f.body == nil {
		return true
	}
	have, size := f.body.published(), len(f.body.data)
	return size-have > worthFinishing && 2*have < size
}

// drop closes a source that has no reader.
func (f *fetch) drop(src *Source) {
	if src.Same {
		f.cancel(nil)
		return
	}
	f.cache.guard.run(src.Body.Close, func(error) { f.cancel(ErrAbandoned) })
}
