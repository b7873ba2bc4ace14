package cache

import (
	"context"
	"sync/atomic"
	"time"
)

// flight is one fetch under way. Whoever asks for its key meanwhile takes a
// seat instead of fetching again. The fetch runs in a goroutine of its own,
// under the cache's context and not under that of the request that began it,
// so that the first client's leaving is nobody else's trouble.
//
// A flight is settled once, when its load returns, in one of four ways:
//
//   - failed: err goes to every seat;
//   - answered from what was stored: it is still the same, or fetching it anew
//     failed and it may be used all the same;
//   - shared: blob is filled while the seats follow it, each at its own pace;
//   - solo: the object may not or cannot be held. One seat claims the source
//     and streams it with back-pressure; the others fetch for themselves.
//
// It lands once, when there is nothing to cancel any more: a shared one with
// its last byte, the others as they are settled. A flight that loses its last
// seat before is abandoned: cancelled, and out of the table at once, or, where
// it is worth finishing, when overtime has passed.
//
// The sequence that a second look at the memory tier is needed for (join):
//
//  1. Request A finds no entry and no flight for K, and starts flight F.
//  2. Request B finds no entry for K and is suspended.
//  3. F is complete: the entry of K becomes visible (land), and only then F
//     leaves the table of flights.
//  4. B takes the lock and finds no flight for K.
//  5. Without a second look B would fetch K again, although it is in memory.
//
// Because 3 makes the entry visible before the flight goes, and B looks at the
// table and at memory under the one lock that the flight's going needs, B finds
// one of the two. The price is a shard lock taken under Cache.mu, on misses.
//
// The sequence that seats holding the blob (settle, join) is needed for:
//
//  1. A waits for F to be settled.
//  2. F is settled, fills its blob, lands, and its entry is evicted at once.
//  3. With the flight's own hold and the tier's hold gone, the blob would count
//     as free while A still goes on to read it.
//
// So each seat's hold is taken under Cache.mu by whoever comes second: by settle
// for the seats already taken, by join for later ones.
//
// The sequence that only a flight in the table may put its entry for (land):
//
//  1. A, the only reader of flight F of K, leaves; F is abandoned.
//  2. B finds no flight for K and starts G, which completes: K's entry is G's.
//  3. F's source was too far on to notice its cancellation, and completes.
//  4. With F's entry put over G's, an older object would replace a newer one.
//
// So landing begins under Cache.mu, where F either is still in the table, and
// can neither be abandoned from then on nor have a successor, or puts nothing.
//
// The sequence that a purge marks flights for, beside taking them out (land,
// memory.put):
//
//  1. F is complete and begins to land, while it is in the table.
//  2. Its key is purged: F goes out of the table, and there is no entry to drop.
//  3. F's entry is put, although its bytes are older than the purge.
//
// So a purge sets dead first, and then looks at the shard; put looks at dead under
// the shard's lock. Whichever comes second there sees the other.
type flight struct {
	fetching

	cancel context.CancelCauseFunc
	old    *Entry        // what is stored and not fresh, held until the flight is over
	ready  chan struct{} // closed when settled; what follows is fixed then
	err    error
	source *Source
	entry  *Entry // that answers: what was stored, or its renewal
	status Status // of entry
	stores bool   // entry is stored
	blob   *blob  // of a shared flight
	alone  bool   // what came is for one reader
	born   time.Time

	dead atomic.Bool // purged: leaves no entry

	// Guarded by Cache.mu.
	seats      int
	landed     bool
	claimed    bool // what only one reader may have has its reader
	wanted     bool // by a reader that needs no bytes (Reader.Finish), or unasked
	unasked    bool // began without a reader, to renew an entry
	distrusted bool // does not tell what is missing
	over       *time.Timer
}

// seat is one request's place: on a flight, or on an entry after all. With neither,
// it has to fetch for itself.
type seat struct {
	entry  *Entry
	status Status // of entry
	*flight
	first bool
}

// join takes a seat on the flight of key, starting it if there is none, or only
// one whose object is fresh no more: it came long ago, and the rest is slow. That
// one goes on for the readers it has and makes no entry.
func (c *Cache) join(key Key, load Load) (seat, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := context.Cause(c.base); err != nil {
		return seat{}, err
	}
	now := time.Now()
	old := c.flights[key]
	if f := old; f != nil && f.joinableLocked(now) {
		return f.seatLocked(now), nil
	}
	if old != nil && old.exclusiveLocked() {
		return seat{}, nil
	}
	if err := c.missing.get(key, now); err != nil {
		return seat{}, err
	}
	e := c.memory.look(key)
	switch {
	case e == nil:
	case e.fresh(now):
		return seat{entry: e}, nil
	case e.usable(now):
		c.renewLocked(key, e, now, load)
		return seat{entry: e, status: Stale}, nil
	}
	f := c.startLocked(key, e, load)
	f.seats = 1
	return seat{flight: f, first: true}, nil
}

// seatLocked gives one more reader a seat, unless what is stored will do for it.
func (f *flight) seatLocked(now time.Time) seat {
	if f.old != nil && f.old.usable(now) {
		f.old.blob.hold(1)
		if f.old.fresh(now) { // it is renewed ahead of time
			return seat{entry: f.old}
		}
		return seat{entry: f.old, status: Stale}
	}
	f.seats++
	f.stopLocked()
	if f.blob != nil {
		f.blob.hold(1)
	}
	return seat{flight: f}
}

// startLocked begins a flight, in the place of one that may not be joined any more.
// It takes over the hold on old.
func (c *Cache) startLocked(key Key, old *Entry, load Load) *flight {
	f := &flight{fetching: fetching{key: key}, old: old}
	c.beginLocked(f, load)
	return f
}

func (c *Cache) beginLocked(f *flight, load Load) {
	if f := c.flights[f.key]; f != nil && f.seats == 0 {
		f.cancel(ErrAbandoned)
	}
	var ctx context.Context
	ctx, f.cancel = context.WithCancelCause(c.base)
	f.space, f.seq, f.doubts, f.ready = c.spaceLocked(f.key), c.generation.Load(), c.doubts, make(chan struct{})
	c.flights[f.key] = f
	c.wg.Go(func() {
		defer c.letGo(f)
		growStack()
		c.fetch(ctx, f.old, load, func(src *Source, err error) { c.fly(ctx, f, src, err) })
	})
}

// joinableLocked reports whether f may have another reader. One that is landing
// may: it puts its entry, and a successor could put another at the same time.
func (f *flight) joinableLocked(now time.Time) bool {
	return f.blob == nil || f.landed || now.Before(f.expires())
}

// exclusiveLocked reports whether f brings an object that only who asked first may
// have, since each request must ask anew. It leaves an entry, so it has no successor.
func (f *flight) exclusiveLocked() bool { return f.blob != nil && f.alone }

// expires tells until when the object of a shared flight is fresh.
func (f *flight) expires() time.Time { return f.born.Add(f.source.Fresh) }

// board waits until the flight is settled and turns the seat into a reader.
func (c *Cache) board(ctx context.Context, s seat, load Load, part bool) (*Reader, error) {
	select {
	case <-s.ready:
	case <-ctx.Done():
		c.leave(s.flight)
		return nil, context.Cause(ctx)
	}
	if s.err != nil {
		return nil, s.err
	}
	if s.alone && !c.claim(s.flight) {
		return c.beside(ctx, s, load, part)
	}
	switch {
	case s.flight.entry != nil:
		return answeredReader(s), nil
	case s.blob != nil:
		return c.sharedReader(s), nil
	}
	return c.soloReader(s.key, s.source, s.cancel, s.old != nil), nil
}

// beside serves a seat on a flight whose bytes are for another reader.
func (c *Cache) beside(ctx context.Context, s seat, load Load, part bool) (*Reader, error) {
	r := bareReader(s)
	c.leave(s.flight)
	if part {
		return r, nil
	}
	return c.pass(ctx, s.key, load, true)
}

// claim reports whether it is the first for f, whose outcome is for one alone.
func (c *Cache) claim(f *flight) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !f.claimed
	f.claimed = true
	return first
}

// fly is the life of a flight from the moment its load has returned.
func (c *Cache) fly(ctx context.Context, f *flight, src *Source, err error) {
	if ctx.Err() != nil { // abandoned, or the cache is closed: no word on the source
		if err == nil {
			c.drop(src, f.cancel)
		}
		err = context.Cause(ctx)
	}
	switch {
	case err != nil:
		f.cancel(nil)
		c.failed(f, err)
	case src.Same:
		f.cancel(nil)
		c.confirmed(f, src)
	default:
		c.arrived(f, src)
	}
}

// leave gives up a seat that has not become a reader.
func (c *Cache) leave(f *flight) {
	if bl := c.vacate(f); bl != nil {
		bl.release()
	}
}

// vacate gives up a seat and returns the blob that the seat holds, which is the
// caller's to release. A flight that nobody follows any more is abandoned while
// most of it is still to come, unless it is wanted.
// Else it has overtime to finish in.
func (c *Cache) vacate(f *flight) *blob {
	c.mu.Lock()
	f.seats--
	alone := f.seats == 0 && !f.landed
	abandon := alone && (c.flights[f.key] != f || !f.wanted && f.farFromDone())
	switch {
	case abandon:
		c.removeLocked(f)
	case alone:
		f.over = time.AfterFunc(overtime, func() { c.giveUp(f) })
	}
	orphan, bl := f.orphanLocked(), f.bytes()
	c.mu.Unlock()
	if abandon {
		f.cancel(ErrAbandoned)
	}
	if orphan {
		c.drop(f.source, f.cancel)
	}
	return bl
}

// want keeps f from being abandoned at once when its last seat is given up.
func (c *Cache) want(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.wanted = true
}

// overtime is how long a flight may go on that nobody follows. It holds memory
// and one of the places before S3, and an origin that is slow enough would have
// all of them held for readers who are long gone.
const overtime = 30 * time.Second

// giveUp abandons a flight whose overtime has passed.
func (c *Cache) giveUp(f *flight) {
	c.mu.Lock()
	alone := f.seats == 0 && !f.landed
	if alone {
		c.removeLocked(f)
	}
	c.mu.Unlock()
	if alone {
		f.cancel(ErrAbandoned)
	}
}

// stopLocked ends overtime: somebody follows f again, or it has landed. Where it
// is just over, giveUp comes to see the same.
func (f *flight) stopLocked() {
	if f.over != nil {
		f.over.Stop()
	}
}

// orphanLocked reports whether f has a source that nobody is left to claim.
func (f *flight) orphanLocked() bool {
	solo := f.source != nil && f.bytes() == nil
	return solo && f.seats == 0 && !f.claimed
}

// worthFinishing is what an abandoned flight may still have to fetch and is
// completed nevertheless: asking again would cost more.
const worthFinishing = 256 << 10

func (f *flight) farFromDone() bool {
	if f.blob == nil {
		return true
	}
	have, size := f.blob.published(), len(f.blob.data)
	return size-have > worthFinishing && 2*have < size
}
