package cache

import (
	"errors"
	"sync/atomic"

	"ixmage/cache/disk"
)

const (
	// saveQueue is how many entries may wait to be written to disk.
	saveQueue = 256
	// saveShare is the part of the memory budget that they may keep from being freed, unless
	// it is one.
	saveShare = 16
)

// States of Entry.saved.
const (
	unsaved int32 = iota
	queued
	written // its file has the same body and metadata
)

// saver writes entries to disk while they are in memory: at their second request, because
// most objects have only one and flash wears, and in the background, because no request
// waits for the disk.
type saver struct {
	queue chan saving
	bytes atomic.Int64 // of the bodies in the queue
	limit int64
}

// saving is an entry that is to be written. Its body is retained.
type saving struct {
	*Entry

	stored bool // e was in memory: it is not worth writing if it no longer is
}

func newSaver(memory int64) *saver {
	return &saver{queue: make(chan saving, saveQueue), limit: memory / saveShare}
}

// save queues e to be written to disk, unless it is there or on its way. It drops e if too
// many others wait; the next request for e tries again.
func (c *Cache) save(e *Entry, stored bool) {
	size := e.body.length()
	if size == 0 || size > c.disk.cfg.ObjectMax || !c.disk.Stats().Available || !e.saved.CompareAndSwap(unsaved, queued) {
		return
	}
	if waiting := c.saver.bytes.Add(size); waiting <= c.saver.limit || waiting == size {
		e.body.retain(1)
		select {
		case c.saver.queue <- saving{e, stored}:
			return
		default:
			e.Release()
		}
	}
	c.saver.bytes.Add(-size)
	e.saved.Store(unsaved)
	c.disk.cfg.Recorder.DiskWrite("dropped", 1, 0)
}

// runSaver writes queued entries until the cache is closed.
func (c *Cache) runSaver() {
	for {
		select {
		case <-c.base.Done():
			c.discardQueue()
			return
		case s := <-c.saver.queue:
			c.guard.run(func() error { c.write(s); return nil }, func(error) { c.saver.release(s) })
		}
	}
}

func (c *Cache) discardQueue() {
	for {
		select {
		case s := <-c.saver.queue:
			c.saver.release(s)
		default:
			return
		}
	}
}

func (s *saver) release(e saving) {
	s.bytes.Add(-e.body.length())
	e.Release()
}

// write writes one entry to disk. A purge during that covers it by its generation. If
// another entry has replaced it meanwhile, its file must go: that entry has removed the file
// of its key before this one was written.
func (c *Cache) write(s saving) {
	s.fileBody = disk.NewBody()
	h, ok := c.disk.header(s.Entry, s.body.length())
	if !ok || s.stored && !c.stores(s.Entry) {
		return
	}
	err := c.disk.Put(h, s.body.data)
	if errors.Is(err, disk.ErrNoRoom) && c.files.shed() {
		err = c.disk.Put(h, s.body.data)
	}
	if err != nil {
		if errors.Is(err, disk.ErrOff) { // else it would fail again
			s.saved.Store(unsaved)
		}
		c.disk.cfg.Recorder.DiskWrite("failed", 1, 0)
		return
	}
	s.saved.Store(written)
	c.disk.cfg.Recorder.DiskWrite("written", 1, h.Size)
	if s.stored && c.memory.has(s.key) && !c.stores(s.Entry) {
		c.disk.Remove(disk.Key(s.key), reasonReplaced)
	}
}

// renew replaces old by e, which has the same body and newer metadata, and reports whether
// it did: see memory.renew. The file of old gets the metadata too.
func (c *Cache) renew(old, e *Entry, purged *mark) bool {
	hasFile := old.saved.Load() == written
	if hasFile {
		e.fileBody = old.fileBody
		e.saved.Store(queued)
	}
	renewed := false
	if old.OnDisk() {
		renewed = c.files.renew(old, e, purged)
	} else {
		renewed = c.memory.renew(old, e, purged)
	}
	if !renewed || !hasFile {
		return renewed
	}
	if h, ok := c.disk.header(e, e.body.length()); ok && c.disk.Update(h) == nil {
		e.saved.Store(written)
	} else {
		c.disk.drop(e.key, reasonReplaced)
		e.saved.Store(unsaved)
	}
	return true
}
