package cache

import (
	"sync/atomic"
	"time"
)

// Status says how the cache came by an object.
type Status uint8

// Values of Status.
const (
	Hit       Status = iota // from memory
	Miss                    // fetched for this request
	Collapsed               // joined a fetch that another request began
	Bypass                  // larger than the cache takes, or of unknown length
	// Stale is from memory and not fresh: it is fetched anew meanwhile, or could
	// not be.
	Stale
	Revalidated // from memory, after the source said that it is still the same
)

// Reader is one request's hold on an object. It is not safe for concurrent use,
// but Close may be called at any time, more than once.
type Reader struct {
	Status Status
	Meta   any
	Size   int64 // negative where it is not known
	// Stale tells that an expired entry was there when it was fetched.
	Stale bool
	// Tried tells of a Stale one that the source was asked for this reader, in vain.
	RefreshFailed bool
	// NoBody tells that there are no bytes to read: see GetMeta.
	NoBody bool
	// Stores tells that the object is an entry, or will be one when it completes
	// and what is in use leaves room.
	Stores  bool
	Stored  time.Time // when the object's metadata came, less its age by then
	Expires time.Time

	use    atomic.Int32
	body   *body   // or
	stream *stream // or neither
	fetch  *fetch  // nil where there is nothing to give up
}

// States of a Reader.
const (
	idle int32 = iota
	busy       // in Next
	closed
)

// Next returns the bytes from off on, at least one, waiting for them if need
// be. It returns io.EOF at the end of a complete object, and before that
// whatever broke the fetch: then the body must not be ended as if complete. The
// bytes are shared or reused: they must not be changed, nor kept beyond the
// next call and Close. Where the object is not shared, off must be what the
// calls before added up to.
func (r *Reader) Next(off int64) (p []byte, err error) {
	if !r.use.CompareAndSwap(idle, busy) {
		return nil, ErrReaderClosed
	}
	defer func() {
		if !r.use.CompareAndSwap(busy, idle) {
			r.release() // Close came meanwhile and left it to us
			p, err = nil, ErrReaderClosed
		}
	}()
	switch {
	case r.stream != nil:
		return r.stream.next()
	case r.body != nil:
		return r.body.next(int(off))
	}
	return nil, errBare
}

// Complete returns the whole body if all of it is there already. The bytes must
// not be changed, nor kept beyond Close.
func (r *Reader) Complete() ([]byte, bool) {
	if r.body == nil || r.use.Load() == closed || !r.body.sealed.Load() {
		return nil, false
	}
	return r.body.data, true
}

// Close gives the object back. A fetch that nobody reads any more may be
// cancelled. Where a Next is under way, it gets ErrReaderClosed as soon as it
// stops waiting: at once where the fetch is cancelled, else with its next bytes.
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

// release gives back the bytes. They must not be used after that.
func (r *Reader) release() {
	switch {
	case r.stream != nil:
		r.stream.close()
	case r.body != nil:
		r.body.release()
	}
}

// quit gives up the fetch, which may wake a Next. It comes after release where nothing is
// to be interrupted: a source may want to read a small rest in its Close, to keep its
// connection, and its context must not have ended by then.
func (r *Reader) quit() {
	switch {
	case r.fetch == nil:
	case r.stream != nil:
		r.fetch.cancel(ErrAbandoned)
	default:
		r.fetch.leave()
	}
}

// KeepFetching is for who needs none of the bytes: where the fetch makes an entry, it
// goes on after Close, for a while, as if most of it had come. Otherwise clients
// that only ask whether the object has changed would have it begun again and
// again, and never stored.
func (r *Reader) KeepFetching() {
	if r.fetch != nil && r.Stores {
		r.fetch.keepGoing()
	}
}

// Exclusive reports whether the bytes come for this reader only: in order, once.
func (r *Reader) Exclusive() bool { return r.stream != nil }

// entryReader takes over the hold on e.
func entryReader(e *Entry, status Status) *Reader {
	return &Reader{
		Status: status, Meta: e.Meta, Size: int64(len(e.body.data)), Stores: true,
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

// bareReader is for a waiter whose fetch has bytes for another reader. The waiter must
// not have left yet.
func bareReader(f *fetch) *Reader {
	r := metaReader(f)
	if f.entry != nil {
		r.Size = int64(len(f.entry.body.data)) // a source that is the same has none
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
	r.Stores = f.body.cost <= f.cache.memory.stored.limit
	r.body, r.fetch = f.body, f
	return r
}

// streamReader streams the source of a fetch, which it has taken.
func streamReader(f *fetch) *Reader {
	r := metaReader(f)
	r.Status = Miss
	if f.cache.memory.tooLarge(f.key, f.source) {
		r.Status = Bypass
	}
	r.stream = &stream{guard: f.cache.guard, body: f.source.Body, size: f.source.Size}
	r.fetch = f
	return r
}

func metaReader(f *fetch) *Reader {
	return &Reader{
		Meta: f.source.Meta, Size: f.source.Size, Stored: f.born, Expires: f.expires(), Stale: f.old != nil,
	}
}
