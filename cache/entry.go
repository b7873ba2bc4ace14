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
	// early is how long before Expires a hit starts a refresh. It differs from entry to
	// entry, so that entries stored together do not expire together, and an entry in
	// demand never expires.
	early      time.Duration
	refreshing atomic.Bool             // a hit has started a refresh
	at         int32                   // its place in shard.all; guarded by the shard's lock
	failure    atomic.Pointer[failure] // to fetch it anew, by an outage
	retry      atomic.Pointer[retry]   // after any failure

	// How long after Expires the entry may be served while it is refreshed, and while
	// that fails (RFC 5861).
	staleWhileRevalidate, staleIfError time.Duration
	byDefault                          bool // staleWhileRevalidate is

	key       Key
	metaBytes int64
}

// Lifetimes decide until when an entry may be served if refreshing it fails: it is fresh
// for Fresh from Entry.Stored on, and may be served for StaleIfError after that.
type Lifetimes struct{ Fresh, StaleIfError time.Duration }

// failure records that the source was unavailable when the entry was to be refreshed:
// until then, requests may be served stale without waiting.
type failure struct {
	generation uint64 // when the fetch began
	until      time.Time
	now        *Lifetimes // instead of the entry's own; nil leaves those
}

// retry delays the next refresh of an entry until then, since one has just failed.
type retry struct {
	generation uint64 // when the fetch began
	until      time.Time
}

// newEntry makes the entry of a source whose metadata came at born, less its age.
func newEntry(f *fetch, src *Source, born time.Time, b *body) *Entry {
	return &Entry{
		Meta: src.Meta, Stored: born, Expires: born.Add(src.Fresh), early: early(src.Fresh - src.Age),
		staleWhileRevalidate: src.StaleWhileRevalidate, staleIfError: src.StaleIfError,
		byDefault: src.DefaultStaleWhileRevalidate,
		key:       f.key, metaBytes: src.MetaBytes, body: b, space: f.space, generation: f.generation,
	}
}

// Refreshes ahead of time are spread over the last tenth of an object's lifetime. A short
// lifetime has none: its refresh would begin at once.
const (
	earlyShare    = 10
	shortLifetime = 10 * time.Second
	earlyMax      = time.Hour
)

func early(lifetime time.Duration) time.Duration {
	if lifetime < shortLifetime {
		return 0
	}
	return rand.N(min(lifetime/earlyShare, earlyMax)) //nolint:gosec // nobody gains by guessing it
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

// Due reports to one caller that it is time to refresh a fresh entry. That caller should
// call Refresh.
func (e *Entry) Due(now time.Time) bool {
	return e.early > 0 && e.Expires.Sub(now) <= e.early && !e.retryDelayed(now) &&
		e.refreshing.CompareAndSwap(false, true)
}

// Purged reports whether a purge has made e stale. Then a Load must not ask the source
// whether e is still the same: the answer would leave metadata in place that the purge
// was meant to replace.
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

// fresh does not compare now with the time of a purge: the caller may have read the
// clock before the purge.
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
// waiting: while it is refreshed, or because a refresh failed shortly before.
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

// StaleIfErrorOK reports whether e may be served at now if refreshing it fails, by its own
// lifetimes or, if l is set, by l. A fetch may still hold e when a hard purge has dropped
// it: then it may not.
func (e *Entry) StaleIfErrorOK(now time.Time, l *Lifetimes) bool {
	if m := e.purged.Load(); m != nil && m.hard {
		return false
	}
	return now.Before(e.staleIfErrorEnd(l))
}

// staleIfErrorEnd is until when e may be served if refreshing it fails.
func (e *Entry) staleIfErrorEnd(l *Lifetimes) time.Time {
	if l == nil {
		return e.expires().Add(e.staleIfError)
	}
	return e.endsBy(e.Stored.Add(l.Fresh), e.purged.Load(), e.space.purged.Load()).Add(l.StaleIfError)
}

const (
	// retryDelay is how long no refresh of an entry begins after one has failed.
	retryDelay = 2 * time.Second
	// failureMemory is how long requests are served stale without waiting after a
	// failure. After that, the next request waits: the source may be back for long.
	failureMemory = time.Minute
)

// failed records a failed refresh: for failureMemory, requests may be served stale
// without waiting.
func (e *Entry) failed(now time.Time, generation uint64, l *Lifetimes) {
	if f := e.failure.Load(); f == nil || f.generation <= generation { // a newer one knows better
		e.failure.Store(&failure{generation: generation, until: now.Add(failureMemory), now: l})
	}
	e.delayRetry(now, generation)
}

// delayRetry records that a refresh failed for any reason.
func (e *Entry) delayRetry(now time.Time, generation uint64) {
	if r := e.retry.Load(); r == nil || r.generation <= generation {
		e.retry.Store(&retry{generation: generation, until: now.Add(retryDelay)})
	}
	e.refreshing.Store(false)
}

// retryDelayed reports whether a refresh has just failed. A failure of a fetch that began
// before a purge does not count: the purge may have cancelled it.
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

// cost is how many bytes an object takes in memory.
func cost(key Key, src *Source) int64 {
	return bodyCost(src.Size) + allocated(int64(len(key.Object))) + src.MetaBytes + entryOverhead
}

// storable reports whether src may become an entry.
func (m *memory) storable(key Key, src *Source) bool {
	return src.keeps() && !m.tooLarge(key, src)
}

// keeps reports whether src wants to be stored.
func (src *Source) keeps() bool { return src.lasts() || src.Validate }

// lasts reports whether src may answer other requests than the one that fetched it.
func (src *Source) lasts() bool { return src.Fresh > max(0, src.Age) }

func (m *memory) tooLarge(key Key, src *Source) bool {
	return src.Size < 0 || src.Size > m.objectMax || cost(key, src) > m.held.limit
}
