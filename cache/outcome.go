package cache

import (
	"errors"
	"time"
)

// failed ends a flight whose load gave nothing.
func (c *Cache) failed(f *flight, err error) {
	gone, isGone := errors.AsType[*Gone](err)
	outage, isOutage := errors.AsType[*Outage](err)
	now := time.Now()
	if isGone {
		c.dropGone(f)
	}
	c.settle(f, func() {
		f.tireLocked(now)
		switch {
		case isGone:
			f.err = gone.Err
			if c.flights[f.key] == f && !f.distrusted {
				c.noteLocked(f.key, gone)
			}
		case isOutage && f.old != nil && f.old.Bridges(now, outage.Now):
			f.old.failed(now, f.seq, outage.Now)
			f.entry, f.status, f.stores = f.old, Stale, true
		case isOutage:
			f.err = outage.Err
		default:
			f.err = err
		}
	})
}

// dropGone drops what is stored of an object that is gone, before anybody can begin
// anew and find it.
func (c *Cache) dropGone(f *flight) {
	c.mu.Lock()
	distrusted := f.distrusted || c.flights[f.key] != f && f.doubts != c.doubts // ForgetMissing found it no more
	c.mu.Unlock()
	if f.old != nil && !distrusted {
		c.memory.remove(f.old, reasonGone)
	}
}

// confirmed ends a flight which found that what is stored is still the same. The
// entry is renewed first, so that whoever finds no flight finds that.
func (c *Cache) confirmed(f *flight, src *Source) {
	if f.old == nil {
		c.settle(f, func() { f.err = errNoStored })
		return
	}
	e, stores := c.renewed(f.fetching, f.old, src)
	c.missing.remove(f.key) // what Missed noted meanwhile
	c.settle(f, func() {
		f.source, f.entry, f.status, f.stores, f.alone = src, e, Revalidated, stores, !src.lasts()
	})
}

// renewed puts an entry with the same body and newer metadata in old's place, and
// reports whether it did. What would need more memory than is counted is not stored
// again, nor what is not to be stored any more.
func (c *Cache) renewed(f fetching, old *Entry, src *Source) (e *Entry, stores bool) {
	e = newEntry(f, src, time.Now().Add(-src.Age), old.blob)
	if e.metaBytes > old.metaBytes || !src.keeps() {
		c.memory.remove(old, reasonReplaced)
		return e, false
	}
	e.metaBytes = old.metaBytes
	return e, c.memory.renew(old, e)
}

// arrived goes on with a flight whose load gave an object.
func (c *Cache) arrived(f *flight, src *Source) {
	bl := c.blobFor(f.key, src)
	if bl == nil && f.old != nil { // it has changed, and will not be stored
		c.memory.remove(f.old, reasonReplaced)
	}
	c.missing.remove(f.key) // what Missed noted meanwhile
	c.settle(f, func() { f.source, f.blob, f.alone = src, bl, bl == nil || !src.lasts() })
	if bl == nil {
		return
	}
	c.guard(func() error {
		defer src.Body.Close()
		return bl.fill(src.Body)
	}, func(err error) {
		f.cancel(nil)
		c.land(f, err)
	})
}

// settle fixes the outcome of a flight and wakes its seats. Only a shared
// flight stays in the table, to be joined while it fills.
func (c *Cache) settle(f *flight, outcome func()) {
	c.mu.Lock()
	outcome()
	if f.source != nil {
		f.born = time.Now().Add(-f.source.Age)
	}
	if b := f.bytes(); b != nil {
		b.hold(f.seats)
	}
	if f.blob == nil {
		f.landed = true
		f.stopLocked()
		c.removeLocked(f)
	}
	orphan := f.orphanLocked()
	c.mu.Unlock()
	close(f.ready)
	if orphan {
		c.drop(f.source, f.cancel)
	}
}

// bytes are what every seat of a settled flight holds, nil for a solo one.
func (f *flight) bytes() *blob {
	if f.entry != nil {
		return f.entry.blob
	}
	return f.blob
}

// land ends a shared flight. The order matters: the entry first, then the
// flight's going (see flight), then the last byte, so that whoever has a whole
// body finds it in memory when asking again.
func (c *Cache) land(f *flight, err error) {
	c.mu.Lock()
	f.landed = true
	f.stopLocked()
	abandoned := c.flights[f.key] != f
	c.mu.Unlock()
	if err == nil && !abandoned {
		c.memory.put(newEntry(f.fetching, f.source, f.born, f.blob), &f.dead)
	}
	c.mu.Lock()
	if err != nil {
		f.tireLocked(time.Now())
	}
	c.removeLocked(f)
	c.mu.Unlock()
	f.blob.finish(err)
	f.blob.release()
}

// removeLocked takes f out of the table, unless it was abandoned and another
// flight of its key is there by now.
func (c *Cache) removeLocked(f *flight) {
	if c.flights[f.key] == f {
		delete(c.flights, f.key)
	}
}
