package cache

import (
	"context"
	"errors"
	"time"
)

// outcome is what a fetch was resolved with.
type outcome struct {
	err    error
	source *Source
	born   time.Time // when the source's metadata came, less its age
	entry  *Entry    // that answers: the stored one, or what renews it
	status Status    // of entry
	stored bool      // entry is in memory
	body   *body     // that is being filled
}

// loaded goes on with a fetch whose load has returned.
func (f *fetch) loaded(ctx context.Context, src *Source, err error) {
	if ctx.Err() != nil { // abandoned, or the cache is closed: the source has said nothing
		if err == nil {
			f.drop(src)
		}
		err = context.Cause(ctx)
	}
	switch {
	case err != nil:
		f.cancel(nil)
		f.failed(err)
	case src.Same:
		f.cancel(nil)
		f.confirmed(src)
	default:
		f.arrived(src)
	}
}

// failed ends a fetch whose load gave nothing.
func (f *fetch) failed(err error) {
	nf, notFound := errors.AsType[*NotFound](err)
	outage, unavailable := errors.AsType[*Unavailable](err)
	now := time.Now()
	if notFound {
		f.dropNotFound()
	}
	f.delayRetry(now)
	f.resolve(failed, func() {
		switch {
		case notFound:
			f.err = nf.Err
			if f.isCurrentLocked() {
				f.cache.addNegativeLocked(f.key, nf)
			}
		case unavailable && f.old != nil && f.old.StaleIfErrorOK(now, outage.Now):
			f.old.failed(now, f.generation, outage.Now)
			f.entry, f.status, f.stored = f.old, Stale, true
		case unavailable:
			f.err = outage.Err
		default:
			f.err = err
		}
	})
}

// isCurrentLocked reports whether f, which found no object, knows best: no purge or
// ForgetNegative of its key has come since f began, nor an entry or another fetch. A purge
// takes the fetches that it means out of the table; a private fetch is in no table, so that
// for it any purge counts.
func (f *fetch) isCurrentLocked() bool {
	c := f.cache
	switch in := c.fetches[f.key]; {
	case f.generation < f.space.forgotten:
		return false
	case in != nil:
		return in == f
	}
	return f.generation == c.generation.Load() && !c.memory.has(f.key)
}

// dropNotFound drops the stored entry of an object that is gone, before anybody can begin
// anew and find it. The answer to a key pair that has been replaced drops nothing.
func (f *fetch) dropNotFound() {
	c := f.cache
	c.mu.Lock()
	forgotten := f.generation < f.space.forgotten
	c.mu.Unlock()
	if f.old != nil && !forgotten {
		c.memory.remove(f.old, reasonGone)
	}
}

// delayRetry has what was to be refreshed in the background, in vain, rest for a moment.
func (f *fetch) delayRetry(now time.Time) {
	if f.kind == background && f.old != nil {
		f.old.delayRetry(now, f.generation)
	}
}

// confirmed ends a fetch which found that the stored object is still the same. The entry
// is renewed first, so that a request that finds no fetch finds the renewed entry.
func (f *fetch) confirmed(src *Source) {
	if f.old == nil {
		f.resolve(failed, func() { f.err = errNoStored })
		return
	}
	e, stored := f.renewed(src)
	f.cache.negative.remove(f.key) // which AddNegative may have added meanwhile
	f.resolve(committed, func() {
		f.source, f.entry, f.status, f.stored = src, e, Revalidated, stored
	})
}

// renewed puts an entry with the same body and newer metadata in old's place, and
// reports whether it did. What would need more memory than is counted is not stored
// again, nor what is not to be stored any more.
func (f *fetch) renewed(src *Source) (e *Entry, stored bool) {
	m := f.cache.memory
	e = newEntry(f, src, time.Now().Add(-src.Age), f.old.body)
	if e.metaBytes > f.old.metaBytes || !src.keeps() {
		m.remove(f.old, reasonReplaced)
		return e, false
	}
	e.metaBytes = f.old.metaBytes
	return e, m.renew(f.old, e, f.purged)
}

// arrived goes on with a fetch whose load gave an object.
func (f *fetch) arrived(src *Source) {
	c := f.cache
	b := f.newBody(src)
	if b == nil && f.old != nil && (f.kind != private || !c.memory.storable(f.key, src)) {
		c.memory.remove(f.old, reasonReplaced) // it has changed, and will not be stored
	}
	c.negative.remove(f.key) // which AddNegative may have added meanwhile
	if b == nil {
		f.resolve(committed, func() { f.source = src })
		return
	}
	f.resolve(filling, func() { f.source, f.body = src, b })
	c.guard.run(func() error {
		defer src.Body.Close()
		return b.fill(src.Body)
	}, func(err error) {
		f.cancel(nil)
		f.commit(err)
	})
}

// newBody makes room for a source that may be shared; nil where it may not, or where
// there is no room. What may not be shared is remembered for a while, so that requests
// for it need not queue up behind one another's headers.
func (f *fetch) newBody(src *Source) *body {
	c := f.cache
	switch storable := c.memory.storable(f.key, src); {
	case f.kind == private && storable:
		c.hitForPass.unmark(f.key)
		return nil
	case f.kind == private:
		return nil
	case !storable:
		c.hitForPass.mark(f.key)
		return nil
	}
	n := cost(f.key, src)
	if !c.memory.room(&c.memory.held, n) {
		return nil
	}
	return newBody(&c.memory.held, c.memory.arena, int(src.Size), n)
}

// resolve fixes the outcome of a fetch and wakes its waiters. Only one that is filling
// stays in the table, to be joined meanwhile.
func (f *fetch) resolve(to state, outcome func()) {
	c := f.cache
	c.mu.Lock()
	outcome()
	if f.source != nil {
		f.born = time.Now().Add(-f.source.Age)
	}
	if b := f.bytes(); b != nil {
		b.retain(f.waiters)
	}
	if f.state != abandoned {
		f.state = to
	}
	if f.body == nil {
		f.stopIdleLocked()
		f.removeLocked()
	}
	orphan := f.orphanLocked()
	c.mu.Unlock()
	close(f.ready)
	if orphan {
		f.drop(f.source)
	}
}

// commit ends a fetch whose body has been filled, or could not be. The entry comes before
// the last byte, so that a client with a whole body finds the entry when it asks again.
func (f *fetch) commit(err error) {
	c := f.cache
	if err != nil {
		f.delayRetry(time.Now())
	}
	c.mu.Lock()
	switch {
	case f.state == abandoned:
	case err == nil:
		f.state = committed
	default:
		f.state = failed
		f.removeLocked()
	}
	f.stopIdleLocked()
	c.mu.Unlock()
	if err == nil {
		f.store(newEntry(f, f.source, f.born, f.body))
	}
	f.body.finish(err)
	f.body.release()
}

// store puts e, unless f is in the table no more, and takes f out of the table. e takes
// the place of the entry that is there before it takes room of its own. What leaves is
// settled without Cache.mu, since a Recorder is told of it.
func (f *fetch) store(e *Entry) {
	c, m := f.cache, f.cache.memory
	c.mu.Lock()
	var old *Entry
	inTable := c.fetches[f.key] == f
	if inTable {
		old = m.removeKey(f.key)
	}
	c.mu.Unlock()
	if !inTable {
		return
	}
	if old != nil {
		m.evicted(old, reasonReplaced)
	}
	room := m.room(&m.stored, e.body.cost)
	c.mu.Lock()
	put := room && c.fetches[f.key] == f // it may have been purged meanwhile
	if put {
		m.put(e)
	}
	f.removeLocked()
	c.mu.Unlock()
	if room && !put {
		m.stored.release(e.body.cost)
	}
}
