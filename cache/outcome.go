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
		case isOutage && f.old != nil && f.old.bridges(now):
			f.old.failed(now)
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
	distrusted := f.distrusted
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
