package cache

import (
	"io"
	"time"
)

// promote copies a disk entry that was hit to memory, in the background, if it is worth a
// place there. Its file stays, so that it can leave memory without being written again.
func (c *Cache) promote(e *Entry) {
	m := c.memory
	if e.body.length() > m.objectMax || !m.policy.deserves(e.key, e.memoryCost(), &m.stored) ||
		!e.promoting.CompareAndSwap(false, true) {
		return
	}
	e.body.retain(1)
	if _, started := c.startMove(e.key, func(m *move, _ Key) { c.copyToMemory(m, e) }); !started {
		e.Release()
		e.promoting.Store(false)
	}
}

// memoryCost is the memory that e would take with its body.
func (e *Entry) memoryCost() int64 {
	return cost(e.key, &Source{Size: e.body.length(), MetaBytes: e.metaBytes})
}

// copyToMemory reads the file of e and replaces e by an entry in memory. A purge or another
// event that makes e stale meanwhile detaches m. No slow reader is ended for it: e can be
// served without it.
func (c *Cache) copyToMemory(m *move, e *Entry) {
	defer e.promoting.Store(false)
	defer e.Release()
	if !e.fresh(time.Now()) || !c.memory.room(e.key.Space, e.memoryCost()) {
		return
	}
	b := newBody(&c.memory.held, c.memory.arena, int(e.body.length()), e.memoryCost())
	defer b.release()
	if err := b.fill(io.NewSectionReader(e.body.file, 0, e.body.length())); err != nil {
		e.Spoil()
		return
	}
	b.finish(nil)
	if !c.memory.admit(e.key, b.cost, true) {
		return
	}
	if !c.replaceFile(m, e, e.inMemory(b)) {
		c.memory.refund(e.key, b.cost)
		return
	}
	c.disk.cfg.Recorder.Promoted(1)
}

// replaceFile replaces e, whose bytes lie on disk, by the same entry in memory.
func (c *Cache) replaceFile(m *move, e, in *Entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.currentLocked(m, e.key) || !c.files.remove(e) {
		return false
	}
	c.memory.put(in)
	return true
}

// inMemory returns a copy of e with its body in memory.
func (e *Entry) inMemory(b *body) *Entry {
	in := &Entry{
		Meta: e.Meta, Stored: e.Stored, Expires: e.Expires, early: e.early,
		staleWhileRevalidate: e.staleWhileRevalidate, staleIfError: e.staleIfError, byDefault: e.byDefault,
		key: e.key, metaBytes: e.metaBytes, body: b, space: e.space, generation: e.generation,
		fileBody: e.fileBody,
	}
	in.saved.Store(e.saved.Load())
	in.purged.Store(e.purged.Load())
	in.failure.Store(e.failure.Load())
	in.retry.Store(e.retry.Load())
	return in
}
