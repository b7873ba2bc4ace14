package cache

import (
	"context"
	"io"
	"time"
)

// kind says which requests a fetch serves.
type kind uint8

const (
	shared     kind = iota // in the table, where requests for its key join it
	background             // also in the table, but started without a waiting request
	private                // for one request, in no table, so that no request joins it
)

// state is the progress of a fetch. It only increases.
type state uint8

const (
	loading   state = iota // its load has not returned
	filling                // its body is being filled, while waiters follow it
	committed              // it has succeeded; a stream may still be read
	failed
	abandoned // it was cancelled because it has no waiter
)

// fetch is one call of a Load. Requests for its key wait for it instead of fetching
// again. It runs in its own goroutine, under the cache's context and not under that of
// the request that started it, so that the other requests get their object even if the
// first client leaves.
//
// A fetch is resolved once, when its load has returned, in one of four ways:
//
//   - err goes to every waiter;
//   - entry is the answer: the stored object is still the same, or refreshing it failed
//     and it may be served stale;
//   - body is filled while the waiters follow it, each at its own pace;
//   - the object must not be shared, or there is no memory for it. One waiter takes the
//     source and streams it with back-pressure; the others start private fetches.
//
// A fetch whose last waiter leaves before it is committed is abandoned: cancelled, and
// removed from the table, at once or, if finishing it is cheaper than a new request,
// after idleTimeout.
//
// commit makes the entry visible and removes the fetch from the table in one critical
// section of Cache.mu. This sequence needs that (join):
//
//  1. Request A finds no entry and no fetch for K, and starts fetch F.
//  2. Request B finds no entry for K and is suspended.
//  3. F is complete: the entry of K becomes visible, and F leaves the table.
//  4. B takes Cache.mu and finds no fetch for K. It looks for the entry again, and must
//     find it.
//
// A waiter retains the body because of this sequence (resolve, join):
//
//  1. A waits for F to be resolved.
//  2. F is resolved, fills its body, commits, and its entry is evicted at once.
//  3. If A did not retain the body, its memory would be freed before A reads it.
//
// So the body is retained under Cache.mu: by resolve for the waiters of that time, and by
// join for later ones.
//
// Only a fetch in the table stores its entry (store). Two sequences need that:
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
//  3. F's object is older than the purge and must not be stored.
//
// renewed compares the mark of old, because its generation is not sufficient:
//
//  1. A soft purge of K increments the generation, and finds no fetch.
//  2. Fetch F starts, with the same generation. It asks whether the entry is the same.
//  3. The purge marks the entry, because its metadata may be wrong.
//  4. The source confirms the entry to F. F must not make it fresh.
type fetch struct {
	outcome

	cache      *Cache
	key        Key
	kind       kind
	generation uint64 // of the cache when the fetch started
	space      *space
	old        *Entry // the stored entry, retained until cleanup; nil if there is none
	purged     *mark  // of old when the fetch started
	cancel     context.CancelCauseFunc
	ready      chan struct{} // closed by resolve, which fixes outcome

	// Guarded by Cache.mu.
	state   state
	waiters int
	taken   bool          // one waiter has taken the exclusive result
	finish  bool          // it continues without waiters, for idleTimeout
	idle    *time.Timer   // ends it if it has no waiters
	rest    io.ReadCloser // of an outgrown object, until it is taken
	taker   *Reader       // has taken rest
}

// waiter is one request that join has given a fetch, or an entry. If it has neither, the
// request needs a private fetch.
type waiter struct {
	*fetch

	entry  *Entry
	status Status // of entry
	first  bool   // it started the fetch
}

// join adds a waiter to the fetch of key. It starts a fetch if there is none, or if the
// object of the present one has become stale because its body arrives slowly: that fetch
// continues for its readers and makes no entry.
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
			c.memory.request(key)
			return f.joinLocked(now), nil
		case f.exclusive(): // it will store an entry, so no other fetch replaces it
			return waiter{}, nil
		}
	}
	if err := c.negative.get(key, now); err != nil {
		return waiter{}, err
	}
	e := c.look(key)
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

// joinLocked adds a waiter, or returns the stored entry if that may be served.
func (f *fetch) joinLocked(now time.Time) waiter {
	if f.old != nil && !f.old.body.spoilt.Load() && f.old.servableStale(now) {
		f.old.body.retain(1)
		if f.old.fresh(now) { // it is refreshed before it expires
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

// joinableLocked reports whether f may have another waiter. A committed fetch may: its
// entry is about to be visible, and a second fetch could store another entry at the same
// time.
func (f *fetch) joinableLocked(now time.Time) bool {
	return f.body == nil || f.state != filling || now.Before(f.expires())
}

// expires is the time at which the object of f becomes stale.
func (f *fetch) expires() time.Time { return f.born.Add(f.source.Fresh) }

// exclusive reports whether only one waiter may have the outcome: its bytes are not in
// memory, or each request must be validated by the source. f must be resolved.
func (f *fetch) exclusive() bool {
	return f.source != nil && (f.bytes() == nil || !f.source.lasts())
}

// private fetches the object of key for one request only. If useStored is false, the
// stored entry is ignored.
func (c *Cache) private(ctx context.Context, key Key, load Load, useStored bool) (*Reader, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var old *Entry
	if useStored {
		old = c.look(key)
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

// startLocked starts a fetch with one waiter, or with none if it is a background fetch. It
// takes over the caller's reference on old. It replaces a fetch of the same key in the
// table, which must not be joinable.
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

// cleanup releases the old entry and the refresh slot. The fetch has left the table, so no
// request can get old from it any more.
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

// beside serves a waiter whose fetch has an exclusive result that another waiter took.
func (w waiter) beside(ctx context.Context, load Load, metaOnly bool) (*Reader, error) {
	r := bareReader(w.fetch)
	w.giveUp()
	if metaOnly {
		return r, nil
	}
	return w.cache.private(ctx, w.key, load, true)
}

// take takes an exclusive result. It reports true to the first caller only.
func (f *fetch) take() bool {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	first := !f.taken
	f.taken = true
	return first
}

// giveUp removes a waiter that has not become a reader.
func (w waiter) giveUp() {
	if b := w.leave(); b != nil {
		b.release()
	}
}

// leave removes one waiter and returns the body that it retains, which the caller must
// release. A fetch without waiters is abandoned if it is not in the table, or if most of
// its body is missing and finish is not set. Otherwise it has idleTimeout to finish.
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
	orphan, b, rest := f.orphanLocked(), f.bytes(), f.takeOrphanLocked()
	c.mu.Unlock()
	if orphan {
		f.drop(f.source)
	}
	f.closeRest(rest)
	return b
}

// underWayLocked reports whether f can still be cancelled.
func (f *fetch) underWayLocked() bool { return f.state <= filling }

// abandonLocked cancels f and removes it from the table.
func (f *fetch) abandonLocked() {
	if f.underWayLocked() {
		f.state = abandoned
		f.removeLocked()
		f.cancel(ErrAbandoned)
	}
}

// removeLocked removes f from the table, if f is still in it.
func (f *fetch) removeLocked() {
	if f.cache.fetches[f.key] == f {
		delete(f.cache.fetches, f.key)
	}
}

// keepGoing lets f continue for idleTimeout after its last waiter has left.
func (f *fetch) keepGoing() {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.finish = true
}

// idleTimeout is how long a fetch without waiters may continue. Such a fetch holds memory
// and a connection to S3; without the limit, a slow origin could use up all connections
// for clients that have left.
const idleTimeout = 30 * time.Second

// expireIdle abandons a fetch whose idleTimeout has passed.
func (f *fetch) expireIdle() {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	if f.waiters == 0 {
		f.abandonLocked()
	}
}

// stopIdleLocked stops the timer, because f has a waiter again or has ended. If the timer
// has just fired, expireIdle finds this out under the lock.
func (f *fetch) stopIdleLocked() {
	if f.idle != nil {
		f.idle.Stop()
	}
}

// orphanLocked reports whether f has a source for one reader and no waiter to take it.
func (f *fetch) orphanLocked() bool {
	return f.source != nil && f.bytes() == nil && f.waiters == 0 && !f.taken
}

// bytes is the body that every waiter of a resolved fetch retains, nil if one waiter
// streams the source.
func (f *fetch) bytes() *body {
	if f.entry != nil {
		return f.entry.body
	}
	return f.body
}

// worthFinishing is the number of missing bytes up to which a fetch without waiters is
// completed: a new request would cost more.
const worthFinishing = 256 << 10

func (f *fetch) farFromDone() bool {
	if f.body == nil {
		return true
	}
	if f.source.Size < 0 {
		return true // its end is not known
	}
	have, size := f.body.progress()
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
