package cache

import (
	"errors"
	"io"
	"time"

	"ixmage/cache/disk"
)

// fillBuffer is how many bytes are read from a source at a time to be written to disk.
const fillBuffer = 256 << 10

// takes reports whether an object that is too large for memory may be stored on disk.
func (d *Disk) takes(src *Source) bool {
	return d != nil && src.Size > 0 && src.Size <= d.cfg.ObjectMax && d.Available()
}

// newFileBody returns a body that is filled into a file while readers follow it, nil if the
// object is not to be stored: one that is too large for memory is stored at its second
// request.
func (f *fetch) newFileBody(src *Source) *body {
	c := f.cache
	if c.memory.requests(f.key) < 2 {
		return nil
	}
	h, ok := c.disk.header(newEntry(f, src, time.Now().Add(-src.Age), nil), src.Size)
	if !ok {
		return nil
	}
	w := c.createFile(h)
	if w == nil {
		c.disk.cfg.Recorder.DiskWrite("failed", 1, 0)
		return nil
	}
	b := &body{budget: &c.files.held, cost: cost(f.key, src) - bodyCost(src.Size), size: src.Size, writer: w}
	b.budget.used.Add(b.cost)
	c.memory.filling.Add(b.cost)
	b.pin()
	b.more.L = &b.mu
	b.refs.Store(1)
	return b
}

// createFile starts an object on disk. It returns nil if the disk fails, or takes longer than
// openWait.
func (c *Cache) createFile(h disk.Header) *disk.Writer {
	made, late := make(chan *disk.Writer), make(chan struct{})
	c.wg.Go(func() {
		w, err := c.disk.Create(h)
		if errors.Is(err, disk.ErrNoRoom) && c.files.shed() {
			w, err = c.disk.Create(h)
		}
		if err != nil {
			w = nil
		}
		select {
		case made <- w:
		case <-late:
			if w != nil {
				w.Abort()
			}
		}
	})
	timer := time.NewTimer(openWait)
	defer timer.Stop()
	select {
	case w := <-made:
		return w
	case <-timer.C:
		close(late)
		return nil
	}
}

// fillFile reads from into the file of b, as fill does in memory. If the disk fails, it
// returns errOutgrown and the bytes that were read and not written: a reader can go on with
// them and from.
func (b *body) fillFile(from io.Reader) (unwritten []byte, err error) {
	buf := make([]byte, min(fillBuffer, b.size))
	for n, idle := int64(0), 0; n < b.size; {
		k, err := from.Read(buf[:min(int64(len(buf)), b.size-n)])
		if k > 0 {
			if _, failed := b.writer.Write(buf[:k]); failed != nil {
				return buf[:k], errOutgrown
			}
			n, idle = n+int64(k), 0
			b.publish(int(min(n, b.size-1)))
		}
		switch {
		case isEnd(err) && n == b.size:
			return nil, nil
		case isEnd(err):
			return nil, errShort
		case err != nil:
			return nil, err
		}
		if idle++; idle > emptyReads {
			return nil, io.ErrNoProgress
		}
	}
	return nil, expectEOF(from)
}

// commitFile publishes the file of b, which is complete, and returns its entry; nil if it
// cannot be stored. The readers of b go on with the bytes that were written.
func (f *fetch) commitFile() *Entry {
	c, b := f.cache, f.body
	obj, err := b.writer.Commit()
	if err != nil {
		if !errors.Is(err, disk.ErrPurged) {
			c.disk.cfg.Recorder.DiskWrite("failed", 1, 0)
		}
		return nil
	}
	c.disk.cfg.Recorder.DiskWrite("written", 1, b.size)
	e := newEntry(f, f.source, f.born, newFileBody(&c.files.held, obj, b.cost))
	e.fileBody = obj.Body
	e.saved.Store(written)
	e.body.retain(1) // the readers of b read from its file
	b.backing = e.body
	return e
}

// storeFile is store for a body that was filled into a file. The file replaces that of a newer
// object if f leaves the table while it is published, and must go then:
//
//  1. F is in the table, and begins to publish its file.
//  2. Revalidate removes F from the table. Fetch G for the same key starts, and publishes its
//     file first.
//  3. F's file replaces G's.
func (f *fetch) storeFile() {
	c := f.cache
	c.mu.Lock()
	var old *Entry
	inTable := c.fetches[f.key] == f
	if inTable {
		old = c.memory.removeKey(f.key)
	}
	c.mu.Unlock()
	if !inTable {
		return
	}
	if old != nil {
		c.memory.evicted(old, reasonReplaced)
	}
	c.saver.cancel(f.key)
	e := f.commitFile()
	out := e
	c.mu.Lock()
	inTable = c.fetches[f.key] == f
	if inTable && e != nil {
		out = c.files.add(e)
	}
	f.removeLocked()
	c.mu.Unlock()
	if out != nil {
		out.Release()
	}
	if e == nil || !inTable {
		c.dropFile(f.key, reasonReplaced)
	}
}

// follow waits for bytes from off on of a body that is filled into a file, and reads them.
func (b *body) follow(p []byte, off int64) (int, error) {
	b.mu.Lock()
	for int64(b.n) <= off && b.err == nil {
		b.more.Wait()
	}
	n, err := int64(b.n), b.err
	b.mu.Unlock()
	switch {
	case off < n:
		return b.writer.ReadAt(p[:min(int64(len(p)), n-off)], off)
	case err == errOutgrown && off > n: //nolint:errorlint // it is never wrapped
		return 0, ErrOutgrown // the rest begins at n
	}
	return 0, err
}

// Filling returns how many bytes of the object have arrived, if it is too large for memory
// and is being filled into a file.
func (r *Reader) Filling() (have int64, ok bool) {
	if r.body == nil || r.body.writer == nil {
		return 0, false
	}
	n, _ := r.body.progress()
	return int64(n), true
}
