package cache

import (
	"context"
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
	// Asked tells of a Stale one that the source was asked for this reader, in vain.
	Asked bool
	// Bare tells that there are no bytes to read: see GetPart.
	Bare bool
	// Stores tells that the object is an entry, or will be one when it completes
	// and what is in use leaves room.
	Stores  bool
	Stored  time.Time // when the object's metadata came, less its age by then
	Expires time.Time

	state   atomic.Int32
	blob    *blob  // or
	solo    *solo  //
	want    func() // nil where there is no flight that makes an entry
	quit    func() // gives up the fetch, which may wake a Next
	release func() // gives back the bytes, which nobody may look at any more
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
	if !r.state.CompareAndSwap(idle, busy) {
		return nil, ErrReaderClosed
	}
	defer func() {
		if !r.state.CompareAndSwap(busy, idle) {
			r.release() // Close came meanwhile and left it to us
			p, err = nil, ErrReaderClosed
		}
	}()
	switch {
	case r.solo != nil:
		return r.solo.next()
	case r.blob != nil:
		return r.blob.next(int(off))
	}
	return nil, errBare
}

// Complete returns the whole body if all of it is there already. The bytes must
// not be changed, nor kept beyond Close.
func (r *Reader) Complete() ([]byte, bool) {
	if r.blob == nil || r.state.Load() == closed || !r.blob.sealed.Load() {
		return nil, false
	}
	return r.blob.data, true
}

// Close gives the object back. A fetch that nobody reads any more may be
// cancelled. Where a Next is under way, it gets ErrReaderClosed as soon as it
// stops waiting: at once where the fetch is cancelled, else with its next bytes.
func (r *Reader) Close() error {
	switch r.state.Swap(closed) {
	case idle:
		r.release()
		r.quit()
	case busy:
		r.quit()
	}
	return nil
}

// Finish is for who needs none of the bytes: where the fetch makes an entry, it
// goes on after Close, for a while, as if most of it had come. Otherwise clients
// that only ask whether the object has changed would have it begun again and
// again, and never stored.
func (r *Reader) Finish() {
	if r.want != nil {
		r.want()
	}
}

// entryReader takes over the hold on e.
func entryReader(e *Entry, status Status) *Reader {
	return &Reader{
		Status: status, Meta: e.Meta, Size: int64(len(e.blob.data)), Stores: true,
		Stored: e.Stored, Expires: e.expires(), blob: e.blob,
		release: e.Release, quit: func() {},
	}
}

// answeredReader is for a seat on a flight that was answered by what is stored.
func answeredReader(s seat) *Reader {
	r := entryReader(s.flight.entry, s.flight.status)
	r.Stale, r.Stores = true, s.stores
	r.Asked = r.Status == Stale && s.first
	if r.Status == Revalidated && !s.first {
		r.Status = Collapsed
	}
	return r
}

// bareReader is for a seat on a flight whose bytes are for another reader. The seat
// must not be given up yet.
func bareReader(s seat) *Reader {
	r := newReader(s.source, s.born)
	if s.flight.entry != nil {
		r.Size = int64(len(s.flight.entry.blob.data)) // a source that is the same has none
	}
	r.Status, r.Bare, r.Stale = Collapsed, true, s.old != nil
	r.release, r.quit = func() {}, func() {}
	return r
}

func (c *Cache) sharedReader(s seat) *Reader {
	r := newReader(s.source, s.born)
	r.Status = Collapsed
	if s.first {
		r.Status = Miss
	}
	r.Stale = s.old != nil
	r.Stores = s.blob.cost <= c.memory.stored.limit
	r.blob = s.blob
	if r.Stores {
		r.want = func() { c.want(s.flight) }
	}
	r.release = s.blob.release
	r.quit = func() { c.vacate(s.flight) }
	return r
}

func newReader(src *Source, born time.Time) *Reader {
	return &Reader{Meta: src.Meta, Size: src.Size, Stored: born, Expires: born.Add(src.Fresh)}
}

func (c *Cache) soloReader(key Key, src *Source, cancel context.CancelCauseFunc, stale bool) *Reader {
	r := newReader(src, time.Now().Add(-src.Age))
	r.Stale = stale
	r.Status = Miss
	if c.tooLarge(key, src) {
		r.Status = Bypass
	}
	r.solo = &solo{cache: c, body: src.Body, size: src.Size}
	// A source may want to read a small rest in its Close, to keep its
	// connection: where nothing is to be interrupted, its context ends after it.
	r.release = r.solo.close
	r.quit = func() { cancel(ErrAbandoned) }
	return r
}
