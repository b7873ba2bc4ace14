package cache

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Entry is a complete object in memory. Its fields must not be changed.
type Entry struct {
	Meta    any
	Stored  time.Time // when its metadata came, less its age by then
	Expires time.Time // until when it may be served without asking again

	// What a hit looks at lies together.
	body       *body
	space      *space
	generation uint64               // of the cache when its fetch began
	used       uint64               // when it was last asked for, by memory.clock; guarded by the shard's lock
	purged     atomic.Pointer[mark] // by a purge of its key
	// early is how long before Expires a hit has the object fetched anew. It
	// differs from entry to entry, so that what came together does not go
	// together, and what is in demand is never seen to expire.
	early      time.Duration
	refreshing atomic.Bool             // a hit has begun to have it fetched anew
	at         int32                   // its place in shard.all; guarded by the shard's lock
	failure    atomic.Pointer[failure] // to fetch it anew, by an outage
	retry      atomic.Pointer[retry]   // after any failure

	// staleWhileRevalidate and staleIfError are how long after Expires the entry may be
	// served while it is fetched anew, and while that fails.
	staleWhileRevalidate, staleIfError time.Duration
	byDefault                          bool // staleWhileRevalidate is

	key       Key
	metaBytes int64
}

// Lifetimes are what decides until when an entry may be served if fetching it anew
// fails: it is fresh for Fresh from Entry.Stored on, and may be served for StaleIfError
// after that.
type Lifetimes struct{ Fresh, StaleIfError time.Duration }

// failure lets an entry be served until then, since an outage kept it from being fetched
// anew.
type failure struct {
	generation uint64 // when the fetch began
	until      time.Time
	now        *Lifetimes // instead of the entry's own; nil leaves those
}

// retry keeps an entry from being fetched anew until then, since that has just failed.
type retry struct {
	generation uint64 // when the fetch began
	until      time.Time
}

// newEntry makes the entry of a source whose metadata came at born, less its age.
func newEntry(f *fetch, src *Source, born time.Time, b *body) *Entry {
	return &Entry{
		Meta: src.Meta, Stored: born, Expires: born.Add(src.Fresh), early: early(src.Fresh - src.Age),
		staleWhileRevalidate: src.StaleWhileRevalidate, staleIfError: src.StaleIfError, byDefault: src.DefaultStaleWhileRevalidate,
		key: f.key, metaBytes: src.MetaBytes, body: b, space: f.space, generation: f.generation,
	}
}

// Fetches ahead of time are spread over the last tenth of an object's life. One
// that is short has none: its end would be asked for before it has begun.
const (
	earlyShare = 10
	shortLife  = 10 * time.Second
	earlyMax   = time.Hour
)

func early(life time.Duration) time.Duration {
	if life < shortLife {
		return 0
	}
	return rand.N(min(life/earlyShare, earlyMax)) //nolint:gosec // nobody gains by guessing it
}

// Bytes is the whole body. It is shared: do not change it, and do not use it
// after Release.
func (e *Entry) Bytes() []byte { return e.body.data }

// File says where Bytes lies in a file that can be sent from, if it does.
// Sending must have been handed to the kernel before Release.
func (e *Entry) File() (fd int, off int64, ok bool) { return e.body.file() }

// Release gives the entry back. It must be called once for each Hit.
func (e *Entry) Release() { e.body.release() }

// Fresh reports whether e may be served at now without asking again.
func (e *Entry) Fresh(now time.Time) bool { return e.fresh(now) }

// Due reports, to one caller, that it is time to have a fresh entry fetched anew:
// that one should call Refresh.
func (e *Entry) Due(now time.Time) bool {
	return e.early > 0 && e.Expires.Sub(now) <= e.early && !e.retryDelayed(now) &&
		e.refreshing.CompareAndSwap(false, true)
}

// Purged reports whether a purge has made e stale. Then its metadata is not to be
// trusted either, which a source does not compare when it says that e is the same.
func (e *Entry) Purged() bool {
	m := e.space.purged.Load()
	return e.purged.Load() != nil || m != nil && e.generation < m.generation
}

// expires is the end of e's freshness: a purge or a Revalidate may have brought it
// forward.
func (e *Entry) expires() time.Time {
	return e.endsBy(e.Expires, e.purged.Load(), e.space.purged.Load(), e.space.outdated.Load())
}

// endsBy is end, or the earliest of marks that e is older than.
func (e *Entry) endsBy(end time.Time, marks ...*mark) time.Time {
	for _, m := range marks {
		if m != nil && e.generation < m.generation && m.at.Before(end) {
			end = m.at
		}
	}
	return end
}

// fresh does not compare now with the time of a purge: who asks may have looked at
// the clock before that.
func (e *Entry) fresh(now time.Time) bool {
	return now.Before(e.Expires) && e.purged.Load() == nil && e.generation >= e.space.since.Load()
}

// outdated reports whether e's lifetimes may have changed since it was fetched.
func (e *Entry) outdated() bool {
	m := e.space.outdated.Load()
	return m != nil && e.generation < m.generation
}

// staleWhile is how long after its end e may be served while it is fetched anew.
func (e *Entry) staleWhile() time.Duration {
	if m := e.space.outdated.Load(); e.byDefault && m != nil && e.generation < m.generation {
		return m.staleWhile
	}
	return e.staleWhileRevalidate
}

// servableStale reports whether e may be served at now although it is not fresh, without
// waiting for anything: while it is fetched anew, or because that failed lately.
func (e *Entry) servableStale(now time.Time) bool {
	if now.Before(e.expires().Add(e.staleWhile())) {
		return true
	}
	f := e.lastFailure()
	return f != nil && now.Before(f.until) && e.StaleIfErrorOK(now, f.now)
}

// lastFailure is nil where there was none, or where the lifetimes have changed since.
func (e *Entry) lastFailure() *failure {
	f, m := e.failure.Load(), e.space.outdated.Load()
	if f != nil && m != nil && f.generation < m.generation {
		return nil
	}
	return f
}

// StaleIfErrorOK reports whether e may be served at now if fetching it anew fails, by its own
// lifetimes, or by those that it would get now. It is asked by flights, which may hold e
// yet when a hard purge has dropped it.
func (e *Entry) StaleIfErrorOK(now time.Time, l *Lifetimes) bool {
	if m := e.purged.Load(); m != nil && m.hard {
		return false
	}
	end, grace := e.expires(), e.staleIfError
	if l != nil {
		end, grace = e.endsBy(e.Stored.Add(l.Fresh), e.purged.Load(), e.space.purged.Load()), l.StaleIfError
	}
	return now.Before(end.Add(grace))
}

const (
	// retryDelay is how long nobody fetches an entry anew after that failed.
	retryDelay = 2 * time.Second
	// failureMemory is how long a failure lets others be served at once. After that, the
	// next one waits and sees: it may have been over for long.
	failureMemory = time.Minute
)

// failed notes that an outage kept e from being fetched anew, for who comes next.
func (e *Entry) failed(now time.Time, generation uint64, l *Lifetimes) {
	e.failure.Store(&failure{generation: generation, until: now.Add(failureMemory), now: l})
	e.delayRetry(now, generation)
}

// delayRetry notes that e was not fetched anew, whatever the reason: it is not asked for
// at once again.
func (e *Entry) delayRetry(now time.Time, generation uint64) {
	e.retry.Store(&retry{generation: generation, until: now.Add(retryDelay)})
	e.refreshing.Store(false)
}

// retryDelayed reports whether e was not fetched anew just now. A fetch from before a purge
// has no say in it: it may be the purge that ended it.
func (e *Entry) retryDelayed(now time.Time) bool {
	r := e.retry.Load()
	return r != nil && now.Before(r.until) && r.generation >= e.invalidated()
}

// invalidated is the generation of the last purge, or Revalidate, of e.
func (e *Entry) invalidated() uint64 {
	since := e.space.since.Load()
	if m := e.purged.Load(); m != nil {
		since = max(since, m.generation)
	}
	return since
}

// cost is what an object holds once it is in memory.
func cost(key Key, src *Source) int64 {
	return bodyCost(src.Size) + allocated(int64(len(key.Object))) + src.MetaBytes + entryOverhead
}

// storable reports whether src may become an entry.
func (m *memory) storable(key Key, src *Source) bool {
	return src.keeps() && !m.tooLarge(key, src)
}

// keeps reports whether src wants to be stored.
func (src *Source) keeps() bool { return src.lasts() || src.Validate }

// lasts reports whether src may answer other requests than the one that it was
// fetched for.
func (src *Source) lasts() bool { return src.Fresh > max(0, src.Age) }

func (m *memory) tooLarge(key Key, src *Source) bool {
	return src.Size < 0 || src.Size > m.objectMax || cost(key, src) > m.held.limit
}
