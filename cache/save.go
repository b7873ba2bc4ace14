package cache

import (
	"errors"
	"sync"

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
	written // its file has the same body, and has its metadata or will get them
)

// saver writes entries to disk while they are in memory: at their second request, because
// most objects have only one and flash wears, and in the background, because no request
// waits for the disk. One goroutine writes, so that the changes of a file keep their order.
type saver struct {
	queue chan *saving
	limit int64

	mu      sync.Mutex // guards the rest
	pending map[Key]*saving
	bytes   int64 // of the bodies in memory that wait
	closed  bool
}

// saving is an entry that is to be written.
type saving struct {
	key    Key
	next   *Entry // retained; nil while it is written
	stored bool   // next was in memory: it is not worth writing if it no longer is
	renew  bool   // its file is there and gets its metadata
	// cancelled says that the file of the key was dropped: nothing may be written any more, and
	// what was must go.
	cancelled, begun bool
}

func newSaver(memory int64) *saver {
	return &saver{queue: make(chan *saving, saveQueue), limit: memory / saveShare, pending: make(map[Key]*saving)}
}

// save queues e to be written to disk, unless it is there or on its way. It drops e if too
// many others wait; the next request for e tries again.
func (c *Cache) save(e *Entry, stored bool) {
	size := e.body.length()
	if size == 0 || size > c.disk.cfg.ObjectMax || !c.disk.Available() || !e.saved.CompareAndSwap(unsaved, queued) {
		return
	}
	if !c.saver.add(e, &saving{key: e.key, stored: stored}) {
		e.saved.Store(unsaved)
		c.disk.cfg.Recorder.DiskWrite("dropped", 1, 0)
	}
}

// add lets x wait with e, and reports false if too many others wait. A body that is larger
// than the limit waits alone.
func (s *saver) add(e *Entry, x *saving) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := x.held(e)
	before := s.pending[e.key]
	switch {
	case s.closed || before != nil && (before.cancelled || !before.renew || !x.renew):
		return false
	case before != nil: // newer metadata for the same body
		if before.next != nil {
			before.next.Release()
		}
		e.body.retain(1)
		before.next = e
		return true
	case s.bytes > 0 && s.bytes+size > s.limit:
		return false
	}
	select {
	case s.queue <- x:
	default:
		return false
	}
	e.body.retain(1)
	x.next = e
	s.pending[e.key] = x
	s.bytes += size
	return true
}

// held is how many bytes of memory x keeps from being freed.
func (x *saving) held(e *Entry) int64 {
	if x.renew {
		return 0
	}
	return e.body.length()
}

// take returns the entry that is to be written next, nil if there is none. drop says that
// what was written before must go.
func (s *saver) take(x *saving) (e *Entry, drop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, x.next = x.next, nil
	if e != nil && x.cancelled {
		s.bytes -= x.held(e)
		e.Release()
		e = nil
	}
	if e == nil {
		delete(s.pending, x.key)
		return nil, x.cancelled && x.begun
	}
	x.begun = true
	return e, false
}

// release releases an entry that take has returned.
func (s *saver) release(x *saving, e *Entry) {
	s.mu.Lock()
	s.bytes -= x.held(e)
	s.mu.Unlock()
	e.Release()
}

// cancel lets nothing be written for key that waits or is being written.
func (s *saver) cancel(key Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.pending[key]; x != nil {
		x.cancelled = true
	}
}

// cancelSave is cancel unless only metadata wait.
func (s *saver) cancelSave(key Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.pending[key]; x != nil && !x.renew {
		x.cancelled = true
	}
}

// cancelled reports whether the file of key, if there is one, is about to go.
func (s *saver) cancelled(key Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.pending[key]
	return x != nil && x.cancelled
}

// runSaver writes queued entries until the cache is closed.
func (c *Cache) runSaver() {
	for {
		select {
		case <-c.base.Done():
			c.saver.close()
			return
		case x := <-c.saver.queue:
			c.write(x)
		}
	}
}

func (s *saver) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for {
		select {
		case x := <-s.queue:
			if e, _ := s.take(x); e != nil {
				s.release(x, e)
			}
		default:
			s.mu.Lock()
			clear(s.pending)
			s.mu.Unlock()
			return
		}
	}
}

// write writes one entry to disk, and the newer metadata that it gets meanwhile.
func (c *Cache) write(x *saving) {
	for {
		e, drop := c.saver.take(x)
		if drop {
			c.disk.Remove(disk.Key(x.key), reasonReplaced)
		}
		if e == nil {
			return
		}
		c.guard.run(func() error { c.writeEntry(x, e); return nil }, func(error) { c.saver.release(x, e) })
	}
}

// writeEntry writes the file of e or, if it is there, its metadata. A purge that comes
// meanwhile covers it by its generation.
func (c *Cache) writeEntry(x *saving, e *Entry) {
	if x.renew {
		if h, ok := c.disk.header(e, e.body.length()); !ok || c.disk.Update(h) != nil {
			c.disk.Remove(disk.Key(e.key), reasonReplaced)
			e.saved.CompareAndSwap(written, unsaved)
		}
		return
	}
	e.fileBody = disk.NewBody()
	h, ok := c.disk.header(e, e.body.length())
	if !ok || x.stored && !c.stores(e) {
		return
	}
	err := c.disk.Put(h, e.body.data)
	if errors.Is(err, disk.ErrNoRoom) && c.files.shed() {
		err = c.disk.Put(h, e.body.data)
	}
	if err != nil {
		if errors.Is(err, disk.ErrOff) { // else it would fail again
			e.saved.Store(unsaved)
		}
		c.disk.cfg.Recorder.DiskWrite("failed", 1, 0)
		return
	}
	e.saved.Store(written)
	c.disk.cfg.Recorder.DiskWrite("written", 1, h.Size)
}

// renew replaces old by e, which has the same body and newer metadata, and reports whether
// it did: see memory.renew. The file of old gets the metadata too.
func (c *Cache) renew(old, e *Entry, purged *mark) bool {
	e.saved.Store(queued) // until it is known whether there is a file
	renew := c.memory.renew
	if old.OnDisk() {
		renew = c.files.renew
	}
	if !renew(old, e, purged) {
		return false
	}
	if c.disk == nil {
		return true
	}
	c.saver.cancelSave(e.key) // old is being written
	if old.saved.Load() != written {
		e.saved.Store(unsaved)
		return true
	}
	e.fileBody = old.fileBody
	e.saved.Store(written)
	if !c.saver.add(e, &saving{key: e.key, renew: true}) {
		c.disk.Remove(disk.Key(e.key), reasonReplaced)
		e.saved.Store(unsaved)
	}
	return true
}
