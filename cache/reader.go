package cache

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Status says where an object came from.
type Status uint8

// Values of Status.
const (
	Hit       Status = iota // from an entry
	Miss                    // fetched for this request
	Collapsed               // joined a fetch that another request started
	Bypass                  // too large for the cache
	// Stale is from an entry that is not fresh: a refresh runs, or has failed.
	Stale
	Revalidated // from an entry, after the source confirmed it
)

// Reader reads an object for one request. It is not safe for concurrent use,
// but Close may be called at any time, more than once.
type Reader struct {
	Status Status
	Meta   any
	Size   int64 // negative if it is not known
	// Stale says that an expired entry existed when the object was fetched.
	Stale bool
	// RefreshFailed says that the source was asked for this reader and did not answer,
	// so that the reader got a stale entry.
	RefreshFailed bool
	// NoBody says that there are no bytes to read: see GetMeta.
	NoBody bool
	// Stores says that the object is an entry, or will become one when it is
	// complete, if the bytes in use leave room.
	Stores  bool
	Stored  time.Time // when the object's metadata came, minus its age at that time
	Expires time.Time

	use     atomic.Int32
	buf     []byte  // of bytes read from a file
	body    *body   // or
	stream  *stream // or neither; changed by Next alone
	private bool    // the stream was there from the beginning
	fetch   *fetch  // nil if the reader has left it, or needs none
}

// States of a Reader.
const (
	idle int32 = iota
	busy       // in Next
	closed
)

// Next returns the bytes from off on, at least one, and waits until they arrive.
// It returns io.EOF at the end of a complete object. Any other error means that the
// fetch failed, and the caller must not end the body as if it were complete. The
// bytes are shared or reused: do not change them, and do not use them after the next
// call or Close. For an Exclusive reader, off must be the number of bytes that the
// earlier calls have returned.
func (r *Reader) Next(off int64) (p []byte, err error) {
	if !r.use.CompareAndSwap(idle, busy) {
		return nil, ErrReaderClosed
	}
	defer func() {
		if !r.use.CompareAndSwap(busy, idle) {
			r.release() // Close was called during Next and left this to it
			p, err = nil, ErrReaderClosed
		}
	}()
	switch {
	case r.stream != nil:
		return r.stream.next()
	case r.body != nil && (r.body.file != nil || r.body.writer != nil):
		return r.readFile(off)
	case r.body != nil:
		p, err = r.body.next(int(off))
		if err == errOutgrown { //nolint:errorlint // it is never wrapped
			return r.nextRest()
		}
		return p, err
	}
	return nil, errBare
}

// OnDisk reports whether the bytes come from an entry on disk.
func (r *Reader) OnDisk() bool { return r.body != nil && r.body.file != nil }

// fileChunk is the most that is read from disk at a time: one block of a checksum.
const fileChunk = 64 << 10

// readFile is Next for a body on disk. An entry whose file cannot be read is not used again.
func (r *Reader) readFile(off int64) ([]byte, error) {
	b := r.body
	if off >= b.length() {
		return nil, io.EOF
	}
	if r.buf == nil {
		r.buf = make([]byte, min(fileChunk, b.length()))
	}
	p := r.buf[:min(int64(len(r.buf)), b.length()-off)]
	if b.writer != nil {
		n, err := b.follow(p, off)
		if err == errOutgrown { //nolint:errorlint // it is never wrapped
			return r.nextRest()
		}
		return p[:n], err
	}
	if _, err := b.file.ReadAt(p, off); err != nil {
		b.spoilt.Store(true)
		return nil, fmt.Errorf("read a body from disk: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	return p, nil
}

// File is Entry.File for a body on disk.
func (r *Reader) File() (fd int, off int64, ok bool) {
	if !r.OnDisk() {
		return -1, 0, false
	}
	return r.body.place()
}

// ReadAt reads a body on disk; p must not reach beyond its end. It waits for the disk. After
// an error no other request gets the entry.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.body.file.ReadAt(p, off)
	if err != nil {
		r.Spoil()
	}
	return n, err
}

// Spoil is Entry.Spoil.
func (r *Reader) Spoil() { r.body.spoilt.Store(true) }

// Complete returns the whole body if all of it is in memory already. Do not change
// the bytes, and do not use them after Close.
func (r *Reader) Complete() ([]byte, bool) {
	if r.body == nil || r.use.Load() == closed || !r.body.sealed.Load() || r.body.data == nil {
		return nil, false
	}
	return r.body.data, true
}

// Close releases the object. A fetch without readers may be cancelled. A concurrent
// Next returns ErrReaderClosed when it stops waiting: at once if the fetch is cancelled,
// else with its next bytes.
func (r *Reader) Close() error {
	switch r.use.Swap(closed) {
	case idle:
		r.release()
		r.quit()
	case busy:
		r.quit()
	}
	return nil
}

// release releases the bytes. They must not be used after that.
func (r *Reader) release() {
	switch {
	case r.stream != nil:
		r.stream.close()
	case r.body != nil:
		r.body.release()
	}
}

// quit leaves the fetch, which may wake a Next. If no Next is running, release comes first:
// the source may read a small rest in its Close, to keep its connection, and needs its
// context for that.
func (r *Reader) quit() {
	switch {
	case r.fetch == nil:
	case r.private:
		r.fetch.cancel(ErrAbandoned)
	default:
		r.fetch.leave()
		if r.fetch.tookRest(r) {
			r.fetch.cancel(ErrAbandoned)
		}
	}
}

// KeepFetching tells the cache that this reader needs no bytes. A fetch that will be
// stored continues after Close, for idleTimeout. Without this, clients that only
// revalidate would restart it again and again, and it would never be stored.
func (r *Reader) KeepFetching() {
	if r.fetch != nil && r.Stores {
		r.fetch.keepGoing()
	}
}

// Exclusive reports whether this reader alone gets the bytes, in order and once.
func (r *Reader) Exclusive() bool { return r.stream != nil }

// entryReader takes over the caller's reference on e.
func entryReader(e *Entry, status Status) *Reader {
	return &Reader{
		Status: status, Meta: e.Meta, Size: e.body.length(), Stores: true,
		Stored: e.Stored, Expires: e.expires(), body: e.body,
	}
}

// answeredReader is for a waiter whose fetch was answered by the stored object.
func answeredReader(w waiter) *Reader {
	f := w.fetch
	r := entryReader(f.entry, f.status)
	r.Stale, r.Stores = true, f.stored
	r.RefreshFailed = r.Status == Stale && w.first
	if r.Status == Revalidated && !w.first {
		r.Status = Collapsed
	}
	return r
}

// bareReader is for a waiter whose fetch has its bytes for another reader. The waiter must
// not have left yet.
func bareReader(f *fetch) *Reader {
	r := metaReader(f)
	if f.entry != nil {
		r.Size = f.entry.body.length() // a source with Same has no Size
	}
	r.Status, r.NoBody = Collapsed, true
	return r
}

// followingReader follows the body that a fetch fills.
func followingReader(w waiter) *Reader {
	f := w.fetch
	r := metaReader(f)
	r.Status = Collapsed
	if w.first {
		r.Status = Miss
	}
	r.Stores = f.body.writer != nil || f.promised
	r.body, r.fetch = f.body, f
	return r
}

// streamReader streams the source of a fetch, which it has taken.
func streamReader(f *fetch) *Reader {
	r := metaReader(f)
	r.Status = Miss
	if f.cache.bypassed(f.key, f.source) {
		r.Status = Bypass
	}
	r.stream = &stream{guard: f.cache.guard, body: f.source.Body, size: f.source.Size}
	r.fetch, r.private = f, true
	return r
}

func metaReader(f *fetch) *Reader {
	return &Reader{
		Meta: f.source.Meta, Size: f.source.Size, Stored: f.born, Expires: f.expires(), Stale: f.old != nil,
	}
}
