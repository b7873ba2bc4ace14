package cache

import (
	"context"
	"errors"
	"io"
	"time"
)

// outcome is the result with which a fetch was resolved.
type outcome struct {
	err    error
	source *Source
	born   time.Time // when the source's metadata came, less its age
	entry  *Entry    // the answer: the stored entry, or its renewal
	status Status    // of entry
	stored bool      // entry is in memory
	body   *body     // being filled
	// promised says that the object will be stored when it is complete: readers are told so.
	promised bool
	// measured and compacted are the Meta and the body of the entry if the size was not
	// known; only commit reads them.
	measured  any
	compacted *body
}

// loaded continues a fetch whose load has returned.
func (f *fetch) loaded(ctx context.Context, src *Source, err error) {
	if ctx.Err() != nil { // abandoned, or the cache is closed: the result of load does not count
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

// failed ends a fetch whose load returned an error.
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
			f.err = nf.Unwrap()
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

// isCurrentLocked reports whether f, which found no object, may add a negative entry: since
// f started, its key has had no purge, ForgetNegative, entry or other fetch. A purge removes
// the fetches of its keys from the table. A private fetch is in no table, so the cache cannot
// tell whether a purge covered it; any purge since its start counts.
func (f *fetch) isCurrentLocked() bool {
	c := f.cache
	switch in := c.fetches[f.key]; {
	case f.generation < f.space.forgotten:
		return false
	case in != nil:
		return in == f
	}
	return f.generation == c.generation.Load() && !c.Has(f.key)
}

// dropNotFound drops the stored entry of an object that no longer exists. It runs while
// the fetch is in the table, so that no new fetch finds the entry. After a ForgetNegative
// it drops nothing: the answer may be that to a key pair which has been replaced.
func (f *fetch) dropNotFound() {
	c := f.cache
	c.mu.Lock()
	forgotten := f.generation < f.space.forgotten
	c.mu.Unlock()
	switch {
	case forgotten || f.kind == private && f.old == nil:
	case f.old != nil:
		c.remove(f.old, reasonGone)
	default: // the disk may have been too slow for a look
		c.dropFile(f.key, reasonGone)
	}
}

// delayRetry postpones the next background refresh after a failed one.
func (f *fetch) delayRetry(now time.Time) {
	if f.kind == background && f.old != nil {
		f.old.delayRetry(now, f.generation)
	}
}

// confirmed ends a fetch whose source confirmed the stored object. The entry is renewed
// before the fetch leaves the table, so that a request that finds no fetch finds the renewed
// entry.
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

// renewed replaces old by an entry with the same body and newer metadata, and reports
// whether it did. It does not store an entry whose metadata grew (that memory is not
// accounted) or whose source forbids storing.
func (f *fetch) renewed(src *Source) (e *Entry, stored bool) {
	c := f.cache
	e = newEntry(f, src, time.Now().Add(-src.Age), f.old.body)
	if e.metaBytes > f.old.metaBytes || !src.keeps() {
		c.remove(f.old, reasonReplaced)
		return e, false
	}
	e.metaBytes = f.old.metaBytes
	return e, c.renew(f.old, e, f.purged)
}

// arrived continues a fetch whose load returned an object.
func (f *fetch) arrived(src *Source) {
	c := f.cache
	b := f.newBody(src)
	switch {
	case b != nil || f.kind == private && (f.old == nil || c.memory.storable(f.key, src)):
	case f.old != nil:
		c.remove(f.old, reasonReplaced) // the object has changed, and will not be stored
	default: // the disk may have been too slow for a look
		c.dropFile(f.key, reasonReplaced)
	}
	c.negative.remove(f.key) // AddNegative may have added one during the fetch
	if b == nil {
		f.resolve(committed, func() { f.source = src })
		return
	}
	f.resolve(filling, func() { f.source, f.body = src, b })
	var rest io.ReadCloser
	c.guard.run(func() (err error) {
		rest, err = f.fill(src, b)
		return err
	}, func(err error) {
		if rest != nil {
			f.outgrow(rest)
			return
		}
		f.cancel(nil)
		f.commit(err)
	})
}

// fill reads the body of src into b and closes it, unless b has no room for it: then it
// returns the rest.
func (f *fetch) fill(src *Source, b *body) (rest io.ReadCloser, err error) {
	defer func() {
		if rest == nil {
			src.Body.Close()
		}
	}()
	if b.writer != nil {
		unwritten, err := b.fillFile(src.Body)
		if err == errOutgrown { //nolint:errorlint // it is never wrapped
			return &outgrown{ReadCloser: src.Body, front: unwritten}, nil
		}
		return nil, err
	}
	if src.Size >= 0 {
		return nil, b.fill(src.Body)
	}
	err = b.fillUnknown(src.Body)
	if err == errOutgrown { //nolint:errorlint // it is never wrapped
		withheld := b.data[b.growth.have-1]
		return &outgrown{ReadCloser: src.Body, front: append([]byte{withheld}, b.growth.rest...)}, nil
	}
	if err == nil {
		if src.Measured != nil {
			f.measured = src.Measured(int64(len(b.data)))
		}
		f.compacted = f.compact(b)
	}
	return nil, err
}

// newBody returns a body for a source that may be shared; nil if it must not be shared, or
// if there is no room. The key of a source that must not be shared is marked hit-for-pass,
// so that requests do not wait for each other's headers.
func (f *fetch) newBody(src *Source) *body {
	c := f.cache
	switch storable := c.memory.storable(f.key, src); {
	case f.kind == private:
		if src.keeps() && src.Size >= 0 && (storable || c.disk.takes(src)) { // one of unknown size may be too large
			c.hitForPass.unmark(f.key)
		}
		return nil
	case !storable && src.keeps() && c.disk.takes(src):
		return f.newFileBody(src)
	case !storable:
		c.hitForPass.mark(f.key)
		return nil
	}
	n := cost(f.key, src)
	if !c.memory.fetchRoom(f.key.Space, n) {
		return nil
	}
	f.promised = c.memory.policy.admits(f.key, n, &c.memory.stored)
	b := f.bodyFor(src, n)
	c.memory.filling.Add(n)
	b.pin()
	return b
}

// bodyFor returns a body for a source, whose cost has been reserved.
func (f *fetch) bodyFor(src *Source, cost int64) *body {
	m := f.cache.memory
	if src.Size < 0 {
		return newGrowingBody(m, f.key.Space, cost)
	}
	return newBody(&m.held, m.arena, int(src.Size), cost)
}

// resolve fixes the outcome of a fetch and wakes its waiters. Only a fetch that fills a
// body stays in the table, where requests can join it.
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

// commit ends a fetch whose body is complete, or failed with err. The entry is stored
// before the last byte is published, so that a client with a complete body finds the entry
// with its next request.
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
	switch {
	case err != nil:
	case f.body.writer != nil:
		f.storeFile()
	default:
		f.store(f.filledEntry())
	}
	f.body.finish(err)
	f.body.release()
	f.body.unpinFilled(c.memory)
	if f.compacted != nil {
		f.compacted.release()
	}
}

// filledEntry returns the entry of a complete body.
func (f *fetch) filledEntry() *Entry {
	b := f.body
	if f.compacted != nil {
		b = f.compacted
	}
	e := newEntry(f, f.source, f.born, b)
	if f.measured != nil {
		e.Meta = f.measured
	}
	return e
}

// store stores e if f is still in the table, and removes f from it. The present entry of
// the key is removed before room is reserved for e. The removed entry is accounted outside
// Cache.mu, because that calls the Recorder.
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
	c.dropFile(f.key, reasonReplaced)
	room := m.admit(f.key, e.body.cost, f.promised)
	c.mu.Lock()
	inTable = c.fetches[f.key] == f // a purge may have removed f
	put := room && inTable
	if put {
		m.put(e)
	}
	f.removeLocked()
	c.mu.Unlock()
	if room && !put {
		m.refund(f.key, e.body.cost)
	}
	if inTable && c.disk != nil && m.requests(f.key) > 1 {
		c.save(e, put)
	}
}
