package cache

import (
	"context"
	"time"

	"ixmage/cache/disk"
)

const (
	// openWait is the longest wait of a request for the disk: S3 answers in about that time.
	openWait = 100 * time.Millisecond
	// maxMoves bounds the moves between the tiers that run at a time.
	maxMoves = 64
)

// move is one entry on its way from the disk into a table, or from one to the other. A purge of its key detaches it,
// as it detaches a fetch, and then it stores nothing:
//
//  1. A move of K opens the file of K.
//  2. A purge of K writes its mark to the disk, and finds no entry of K in a table.
//  3. The move must not put the entry into the table.
//
// A move that begins after the mark was written finds it when it opens the file.
type move struct {
	done  chan struct{}
	begun time.Time
}

// Open looks for key on disk if it is neither in memory nor being fetched, so that Hit, Has
// and Get find it. It waits until openWait after the look began, and returns false at once if
// there is nothing to find.
func (c *Cache) Open(ctx context.Context, key Key) (opened bool) {
	if !c.variants.Load() && key.IsVariant() {
		c.variants.Store(true)
	}
	if c.disk == nil || !c.disk.Has(disk.Key(key)) || c.memory.has(key) || c.files.has(key) || c.saver.cancelled(key) {
		return false
	}
	m, _ := c.startMove(key, c.openFile)
	if m == nil {
		return false
	}
	timer := time.NewTimer(time.Until(m.begun.Add(openWait)))
	defer timer.Stop()
	select {
	case <-m.done:
		return c.files.has(key)
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// startMove starts a move of key in the background, or finds the one that runs. It returns
// nil if there is a fetch of key, or if too many other moves run.
func (c *Cache) startMove(key Key, run func(*move, Key)) (m *move, started bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m = c.moves[key]
	if m != nil || c.fetches[key] != nil || c.moving >= maxMoves || context.Cause(c.base) != nil {
		return m, false
	}
	m = &move{make(chan struct{}), time.Now()}
	c.moves[key] = m
	c.moving++
	c.wg.Go(func() {
		c.guard.run(func() error { run(m, key); return nil }, func(error) {
			c.mu.Lock()
			c.moving--
			if c.moves[key] == m {
				delete(c.moves, key)
			}
			c.mu.Unlock()
			close(m.done)
		})
	})
	return m, true
}

// currentLocked reports whether m may still put its entry into a table.
func (c *Cache) currentLocked(m *move, key Key) bool {
	return c.moves[key] == m && c.fetches[key] == nil
}

// openFile puts the object of key that is on disk into the table of open files.
func (c *Cache) openFile(m *move, key Key) {
	obj, err := c.disk.Get(disk.Key(key))
	if err != nil {
		return
	}
	e := c.restore(key, obj)
	if e == nil {
		obj.Close()
		return
	}
	out := e
	c.mu.Lock()
	if c.currentLocked(m, key) && !c.memory.has(key) {
		e.space = c.spaceLocked(key)
		out = c.files.add(e)
	}
	c.mu.Unlock()
	if out != nil {
		out.Release()
	}
}

// restore returns the entry of an object on disk, nil if it is not to be used. Its lifetimes
// are those that it would get now: its space may have changed while the process was down.
func (c *Cache) restore(key Key, obj *disk.Object) *Entry {
	origin, ok := c.disk.cfg.Origin(key.Space, key.Epoch)
	if !ok || origin != obj.Origin {
		c.disk.Remove(disk.Key(key), reasonGone)
		return nil
	}
	src, err := c.disk.cfg.Codec.Decode(key.Space, key.Epoch, obj.Meta)
	if err != nil || src.Size != obj.Size {
		c.disk.Remove(disk.Key(key), reasonCorrupt)
		return nil
	}
	src.Age = max(0, time.Since(obj.Stored))
	b := newFileBody(&c.files.held, obj, allocated(int64(len(key.Object)))+src.MetaBytes+entryOverhead)
	e := newEntry(&fetch{key: key, generation: obj.Generation}, src, obj.Stored, b)
	e.Expires = minTime(e.Expires, obj.Expires)
	e.fileBody = obj.Body
	e.saved.Store(written)
	if m := obj.Mark; m != nil {
		e.purged.Store(&mark{generation: m.Generation, at: m.At})
	}
	return e
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
