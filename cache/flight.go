package cache

import (
	"context"
	"io"
	"time"
)

// flight is one fetch under way. Whoever asks for its key meanwhile takes a
// seat instead of fetching again. The fetch runs in a goroutine of its own,
// under the cache's context and not under that of the request that began it,
// so that the first client's leaving is nobody else's trouble.
//
// A flight is settled once, when its load returns, in one of three ways:
//
//   - failed: err goes to every seat;
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
type flight struct {
	key    Key
	cancel context.CancelCauseFunc
	ready  chan struct{} // closed when settled; the next four are fixed then
	err    error
	source *Source
	blob   *blob // of a shared flight
	born   time.Time

	// Guarded by Cache.mu.
	seats   int
	landed  bool
	claimed bool // the source of a solo flight has its reader
	wanted  bool // by a reader that needs no bytes (Reader.Finish)
	over    *time.Timer
}

// seat is one request's place: on a flight, or on an entry after all.
type seat struct {
	entry *Entry
	*flight
	first bool
	stale bool // an expired entry of the key is there
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
		f.seats++
		f.stopLocked()
		if f.blob != nil {
			f.blob.hold(1)
		}
		return seat{flight: f}, nil
	}
	e, stale := c.memory.hit(key, now)
	if e != nil {
		return seat{entry: e}, nil
	}
	if old != nil && old.seats == 0 {
		old.cancel(ErrAbandoned)
	}
	ctx, cancel := context.WithCancelCause(c.base)
	f := &flight{key: key, cancel: cancel, ready: make(chan struct{}), seats: 1}
	c.flights[key] = f
	c.wg.Go(func() {
		growStack()
		c.fetch(ctx, load, func(src *Source, err error) { c.fly(ctx, f, src, err) })
	})
	return seat{flight: f, first: true, stale: stale}, nil
}

// joinableLocked reports whether f may have another reader. One that is landing
// may: it puts its entry, and a successor could put another at the same time.
func (f *flight) joinableLocked(now time.Time) bool {
	return f.blob == nil || f.landed || now.Before(f.expires())
}

// expires tells until when the object of a shared flight is fresh.
func (f *flight) expires() time.Time { return f.born.Add(f.source.Fresh) }

// growStack makes room on a new goroutine's stack in one step. A load goes deep
// (the S3 SDK's middleware), and growing on the way means copying the stack, with
// all frames on it, four times over: an eighth of what a miss costs.
//
//go:noinline
func growStack() {
	var room [40 << 10]byte
	touch(&room)
}

// touch keeps the compiler from seeing that nobody uses the room.
//
//go:noinline
func touch(room *[40 << 10]byte) { room[0] = 1 }

// board waits until the flight is settled and turns the seat into a reader.
func (c *Cache) board(ctx context.Context, s seat, load Load) (*Reader, error) {
	select {
	case <-s.ready:
	case <-ctx.Done():
		c.leave(s.flight)
		return nil, context.Cause(ctx)
	}
	switch {
	case s.err != nil:
		return nil, s.err
	case s.blob != nil:
		return c.sharedReader(s), nil
	case c.claim(s.flight):
		return c.soloReader(s.key, s.source, s.cancel, s.stale), nil
	}
	return c.pass(ctx, s.key, load)
}

// claim gives up a seat on a solo flight, and reports whether it was the first
// to do so: that one gets the source.
func (c *Cache) claim(f *flight) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.seats--
	first := !f.claimed
	f.claimed = true
	return first
}

// fly is the life of a flight from the moment its load has returned.
func (c *Cache) fly(ctx context.Context, f *flight, src *Source, err error) {
	if err == nil && ctx.Err() != nil { // abandoned, or the cache is closed
		err = context.Cause(ctx)
		c.discard(src.Body, f.cancel)
	}
	if err != nil {
		f.cancel(nil)
		c.settle(f, func() { f.err = err })
		return
	}
	bl := c.blobFor(f.key, src)
	c.settle(f, func() { f.source, f.blob = src, bl })
	if bl == nil {
		return
	}
	c.guard(func() error {
		defer src.Body.Close()
		return bl.fill(src.Body)
	}, func(err error) {
		f.cancel(nil)
		c.land(f, err)
	})
}

// settle fixes the outcome of a flight and wakes its seats. Only a shared
// flight stays in the table, to be joined while it fills.
func (c *Cache) settle(f *flight, outcome func()) {
	c.mu.Lock()
	outcome()
	if f.source != nil {
		f.born = time.Now().Add(-f.source.Age)
	}
	if f.blob != nil {
		f.blob.hold(f.seats)
	} else {
		f.landed = true
		c.removeLocked(f)
	}
	orphan := f.orphanLocked()
	c.mu.Unlock()
	close(f.ready)
	if orphan {
		c.discard(f.source.Body, f.cancel)
	}
}

// land ends a shared flight. The order matters: the entry first, then the
// flight's going (see flight), then the last byte, so that whoever has a whole
// body finds it in memory when asking again.
func (c *Cache) land(f *flight, err error) {
	c.mu.Lock()
	f.landed = true
	f.stopLocked()
	abandoned := c.flights[f.key] != f
	c.mu.Unlock()
	if err == nil && !abandoned {
		c.memory.put(f.key, &Entry{
			Meta: f.source.Meta, Stored: f.born, Expires: f.expires(), blob: f.blob,
		})
	}
	c.mu.Lock()
	c.removeLocked(f)
	c.mu.Unlock()
	f.blob.finish(err)
	f.blob.release()
}

// removeLocked takes f out of the table, unless it was abandoned and another
// flight of its key is there by now.
func (c *Cache) removeLocked(f *flight) {
	if c.flights[f.key] == f {
		delete(c.flights, f.key)
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
// most of it is still to come, unless it is wanted, or when it will make no entry.
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
	orphan, bl := f.orphanLocked(), f.blob
	c.mu.Unlock()
	if abandon {
		f.cancel(ErrAbandoned)
	}
	if orphan {
		c.discard(f.source.Body, f.cancel)
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
	solo := f.source != nil && f.blob == nil
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

// blobFor makes room for a source that may be shared; nil where it may not, or
// where there is no room. What may not be shared is remembered for a while, so
// that requests for it need not queue up behind one another's headers.
func (c *Cache) blobFor(key Key, src *Source) *blob {
	if !c.shareable(key, src) {
		c.passes.mark(key)
		return nil
	}
	n := cost(key, src)
	if !c.memory.room(&c.memory.held, n) {
		return nil
	}
	return newBlob(&c.memory.held, c.memory.arena, int(src.Size), n)
}

// cost is what an object holds once it is in memory.
func cost(key Key, src *Source) int64 {
	return bodyCost(src.Size) + allocated(int64(len(key.Object))) + src.MetaBytes + entryOverhead
}

func (c *Cache) shareable(key Key, src *Source) bool {
	return src.Fresh > max(0, src.Age) && !c.tooLarge(key, src)
}

func (c *Cache) tooLarge(key Key, src *Source) bool {
	return src.Size < 0 || src.Size > c.objectMax || cost(key, src) > c.memory.held.limit
}

// discard ends a source that has no reader any more.
func (c *Cache) discard(body io.Closer, cancel context.CancelCauseFunc) {
	c.guard(body.Close, func(error) { cancel(ErrAbandoned) })
}
