package cache

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ixmage/cache/disk"
)

// files are the entries whose bytes lie in an open file of the disk tier. They are entries
// like those in memory, but their number is bounded and not their bytes. An entry that
// leaves the table stays on disk.
//
// A key has an entry in memory or here, never in both.
type files struct {
	max  int
	held budget // memory of the entries, which has no limit of its own

	mu  sync.Mutex // guards the rest
	lru *simplelru.LRU[Key, *Entry]
}

func newFiles(limit int) *files {
	f := &files{max: limit}
	f.init()
	return f
}

func (f *files) init() { f.lru, _ = simplelru.NewLRU[Key, *Entry](f.max+1, nil) }

// hit returns a fresh entry, retained for the caller.
func (f *files) hit(key Key, now time.Time) *Entry {
	e := f.look(key)
	if e != nil && !e.fresh(now) {
		e.Release()
		return nil
	}
	return e
}

// look returns an entry, fresh or stale, retained for the caller, and marks it as used.
func (f *files) look(key Key) *Entry {
	f.mu.Lock()
	e, ok := f.lru.Get(key)
	spoilt := ok && e.body.spoilt.Load()
	switch {
	case spoilt:
		f.lru.Remove(key)
	case ok:
		e.body.retain(1)
	}
	f.mu.Unlock()
	if spoilt {
		e.Release()
		return nil
	}
	return e
}

// peek is look without counting as a use.
func (f *files) peek(key Key) *Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.lru.Peek(key)
	if ok {
		e.body.retain(1)
	}
	return e
}

func (f *files) has(key Key) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.lru.Peek(key)
	return ok && !e.body.spoilt.Load()
}

// add stores e and takes over the caller's reference on its body. It returns the entry that
// had to leave, if one had to; the caller must Release it.
func (f *files) add(e *Entry) (out *Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.lru.Peek(e.key); ok {
		f.lru.Remove(e.key)
		out = old
	}
	f.lru.Add(e.key, e)
	if f.lru.Len() > f.max {
		_, out, _ = f.lru.RemoveOldest()
	}
	return out
}

// stores reports whether e is the entry of its key.
func (f *files) stores(e *Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.storesLocked(e)
}

func (f *files) storesLocked(e *Entry) bool {
	found, ok := f.lru.Peek(e.key)
	return ok && found == e
}

// remove removes e, if it is the entry of its key, and reports whether it was.
func (f *files) remove(e *Entry) bool {
	f.mu.Lock()
	ok := f.storesLocked(e)
	if ok {
		f.lru.Remove(e.key)
	}
	f.mu.Unlock()
	if ok {
		e.Release()
	}
	return ok
}

// removeKey removes and returns the entry of key, nil if there is none. The caller must
// Release it.
func (f *files) removeKey(key Key) *Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.lru.Peek(key)
	if ok {
		f.lru.Remove(key)
	}
	return e
}

// renew replaces old by e, which has the same body, and reports whether it did: see
// memory.renew.
func (f *files) renew(old, e *Entry, purged *mark) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.storesLocked(old) || old.purged.Load() != purged {
		return false
	}
	f.lru.Add(e.key, e)
	return true
}

// purge marks the entries from before the purge that match, and removes them if by is hard.
// It returns their number.
func (f *files) purge(match func(Key) bool, by *mark) (n int) {
	var out []*Entry
	f.mu.Lock()
	for _, e := range f.lru.Values() {
		if !match(e.key) || !e.markPurged(by) {
			continue
		}
		n++
		if by.hard {
			f.lru.Remove(e.key)
			out = append(out, e)
		}
	}
	f.mu.Unlock()
	for _, e := range out {
		e.Release()
	}
	return n
}

// shed closes the half of the files that was used least lately, and reports whether there
// was one: the store evicts no file that is open, and could have no room while all are.
func (f *files) shed() bool {
	f.mu.Lock()
	out := make([]*Entry, (f.lru.Len()+1)/2)
	for i := range out {
		_, out[i], _ = f.lru.RemoveOldest()
	}
	f.mu.Unlock()
	for _, e := range out {
		e.Release()
	}
	return len(out) > 0
}

// entries returns all entries. They may have been released.
func (f *files) entries() []*Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lru.Values()
}

func (f *files) clear() {
	f.mu.Lock()
	all := f.lru.Values()
	f.init()
	f.mu.Unlock()
	for _, e := range all {
		e.Release()
	}
}

// newFileBody returns the body of an open object, with one reference, the caller's.
func newFileBody(b *budget, obj *disk.Object, cost int64) *body {
	b.used.Add(cost)
	bl := &body{budget: b, cost: cost, file: obj}
	bl.more.L = &bl.mu
	bl.refs.Store(1)
	return bl
}
