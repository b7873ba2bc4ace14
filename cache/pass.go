package cache

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// passage is one fetch past the cache, by the request that it is for. What it
// finds out of the entry that is there counts all the same.
type passage struct {
	fetching

	whole bool
	old   *Entry // held; nil if nothing is stored, or not the whole is asked for
}

// pass fetches the object of key, or not the whole of it, for one reader alone.
func (c *Cache) pass(ctx context.Context, key Key, load Load, whole bool) (*Reader, error) {
	//nolint:contextcheck // the bytes outlive the wait for them
	if err := cmp.Or(context.Cause(c.base), context.Cause(ctx)); err != nil {
		return nil, err
	}
	p := c.passage(key, whole)
	if p.old != nil {
		defer p.old.Release()
	}
	own, cancel := context.WithCancelCause(c.base)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	var src *Source
	var err error
	//nolint:contextcheck // as above
	c.fetch(own, p.old, load, func(got *Source, end error) {
		src, err = got, end
		if !stop() || own.Err() != nil { // whatever it says, it was cut short
			if err == nil {
				c.drop(src, cancel)
			}
			err = cmp.Or(context.Cause(ctx), context.Cause(own))
		}
		if err != nil || src.Same {
			cancel(nil)
		}
	})
	if err != nil {
		return c.passFailed(p, err)
	}
	c.missing.remove(key) // what Missed noted meanwhile
	switch {
	case src.Same:
		return c.passConfirmed(p, src)
	case c.storable(key, src):
		c.passes.unmark(key)
	case p.old != nil:
		c.memory.remove(p.old, reasonReplaced)
	}
	return c.soloReader(key, src, cancel, p.old != nil), nil
}

func (c *Cache) passage(key Key, whole bool) passage {
	var old *Entry
	if whole {
		old = c.memory.look(key)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return passage{
		fetching: fetching{key: key, space: c.spaceLocked(key), seq: c.generation.Load(), doubts: c.doubts},
		whole:    whole, old: old,
	}
}

func (c *Cache) passFailed(p passage, err error) (*Reader, error) {
	if gone, ok := errors.AsType[*Gone](err); ok {
		c.passGone(p, gone)
		return nil, gone.Err
	}
	outage, ok := errors.AsType[*Outage](err)
	switch now := time.Now(); {
	case !ok:
		return nil, err
	case p.old == nil || !p.old.Bridges(now, outage.Now):
		return nil, outage.Err
	default:
		p.old.failed(now, p.seq, outage.Now)
		p.old.blob.hold(1)
		return entryReader(p.old, Stale), nil
	}
}

// passGone drops and notes what a flight would.
func (c *Cache) passGone(p passage, g *Gone) {
	c.mu.Lock()
	trusted := p.whole && p.doubts == c.doubts
	if trusted && p.seq == c.generation.Load() {
		c.noteLocked(p.key, g)
	}
	c.mu.Unlock()
	if trusted && p.old != nil {
		c.memory.remove(p.old, reasonGone)
	}
}

func (c *Cache) passConfirmed(p passage, src *Source) (*Reader, error) {
	if p.old == nil {
		return nil, errNoStored
	}
	e, stores := c.renewed(p.fetching, p.old, src)
	e.blob.hold(1)
	r := entryReader(e, Revalidated)
	r.Stale, r.Stores = true, stores
	return r, nil
}
