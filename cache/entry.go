package cache

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Entry is a complete object in memory or, if OnDisk, in a file. Its fields must not be changed.
type Entry struct {
	Meta    any
	Stored  time.Time // when its metadata came, minus its age at that time
	Expires time.Time // until then it may be served without a request to the source

	// The fields that a hit reads lie together.
	body       *body
	space      *space
	generation uint64               // of the cache when its fetch started
	hits       atomic.Int32         // since the policy last looked, maxHits at most; written by one hit at a time
	purged     atomic.Pointer[mark] // by a purge of its key
	// early is how long before Expires a hit starts a refresh. It differs from entry to
	// entry, so that entries stored together are not refreshed together. An entry that
	// is requested often never expires.
	early      time.Duration
	refreshing atomic.Bool             // a hit has started a refresh
	at         int32                   // its place in shard.all; guarded by the shard's lock
	segment    segment                 // with the next line: guarded by policy.mu
	gone       bool                    // it was removed from its shard
	failure    atomic.Pointer[failure] // the last refresh failed because the source was unavailable
	retry      atomic.Pointer[retry]   // after any failed refresh

	// How long after Expires the entry may be served while it is refreshed, and while
	// the refresh fails (RFC 5861).
	staleWhileRevalidate, staleIfError time.Duration
	byDefault                          bool // staleWhileRevalidate is the space's default

	key          Key
	metaBytes    int64
	older, newer *Entry       // of its space; guarded by policy.mu
	saved        atomic.Int32 // unsaved, queued or written
	atVariant    int32        // its place among the variants of its object; guarded by variants.mu
	fileBody     uint64       // names the body of its file, which saved says is there
	promoting    atomic.Bool  // it is being copied from disk to memory
}

// Lifetimes decide until when an entry may be served if refreshing it fails: it is fresh
// for Fresh from Entry.Stored on, and may be served for StaleIfError after that.
type Lifetimes struct{ Fresh, StaleIfError time.Duration }

// failure records that the source was unavailable for a refresh of the entry. Before until,
// requests may be served stale without waiting.
type failure struct {
	generation uint64 // when the fetch started
	until      time.Time
	now        *Lifetimes // replaces the entry's own lifetimes; nil keeps those
}

// retry delays the next refresh of an entry, because one has just failed.
type retry struct {
	generation uint64 // when the fetch started
	until      time.Time
}

// newEntry makes the entry of a source. born is when its metadata came, minus its age.
func newEntry(f *fetch, src *Source, born time.Time, b *body) *Entry {
	return &Entry{
		Meta: src.Meta, Stored: born, Expires: born.Add(src.Fresh), early: early(src.Fresh - src.Age),
		staleWhileRevalidate: src.StaleWhileRevalidate, staleIfError: src.StaleIfError,
		byDefault: src.DefaultStaleWhileRevalidate,
		key:       f.key, metaBytes: src.MetaBytes, body: b, space: f.space, generation: f.generation,
	}
}

// Refreshes before the expiry are spread over the last tenth of an object's lifetime. With
// a short lifetime there are none, because they would start at once.
const (
	earlyShare    = 10
	shortLifetime = 10 * time.Second
	earlyMax      = time.Hour
)

func early(lifetime time.Duration) time.Duration {
	if lifetime < shortLifetime {
		return 0
	}
	return rand.N(min(lifetime/earlyShare, earlyMax)) //nolint:gosec // a guess is worth nothing
}

// Bytes is the whole body, nil if it lies on disk. It is shared: do not change it, and do
// not use it after Release.
func (e *Entry) Bytes() []byte { return e.body.data }

// File returns the place of the body in a file for sendfile; ok is false if it lies in no
// file, or in one that has not been verified. The kernel must have taken the bytes before
// Release.
func (e *Entry) File() (fd int, off int64, ok bool) { return e.body.place() }

// Release releases the caller's reference. It must be called once for each Hit.
func (e *Entry) Release() { e.body.release() }

// Fresh reports whether e may be served at now without a request to the source.
func (e *Entry) Fresh(now time.Time) bool { return e.fresh(now) }

// Due reports whether a fresh entry should be refreshed. It returns true to one caller,
// which should call Refresh.
func (e *Entry) Due(now time.Time) bool {
	return e.early > 0 && e.Expires.Sub(now) <= e.early && !e.retryDelayed(now) &&
		e.refreshing.CompareAndSwap(false, true)
}

// Purged reports whether a purge has made e stale. Then a Load must not revalidate e: a
// 304 would keep metadata that the purge was meant to replace.
func (e *Entry) Purged() bool {
	m := e.space.purged.Load()
	return e.purged.Load() != nil || m != nil && e.generation < m.generation
}

// markPurged marks e as purged by m, unless its fetch started later. It reports whether it
// did not. The table's lock must be held.
func (e *Entry) markPurged(m *mark) bool {
	if e.generation >= m.generation {
		return false
	}
	if p := e.purged.Load(); m.hard || p == nil || p.generation < m.generation {
		e.purged.Store(m) // of two concurrent purges, the later one counts
	}
	return true
}

// expires is the end of e's freshness, which may be earlier than Expires because of a purge
// or a Revalidate.
func (e *Entry) expires() time.Time {
	return e.endsBy(e.Expires, e.purged.Load(), e.space.purged.Load(), e.space.outdated.Load())
}

// endsBy returns end, or the time of the earliest mark that covers e, if that is earlier.
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

// staleWhile is how long after its expiry e may be served while it is refreshed.
func (e *Entry) staleWhile() time.Duration {
	if m := e.space.outdated.Load(); e.byDefault && m != nil && e.generation < m.generation {
		return m.staleWhile
	}
	return e.staleWhileRevalidate
}

// servableStale reports whether e may be served at now, fresh or not, without waiting:
// while it is refreshed, or because a refresh failed shortly before.
func (e *Entry) servableStale(now time.Time) bool {
	if now.Before(e.expires().Add(e.staleWhile())) {
		return true
	}
	f := e.lastFailure()
	return f != nil && now.Before(f.until) && e.StaleIfErrorOK(now, f.now)
}

// lastFailure is nil if there was none, or if the lifetimes have changed since.
func (e *Entry) lastFailure() *failure {
	f, m := e.failure.Load(), e.space.outdated.Load()
	if f != nil && m != nil && f.generation < m.generation {
		return nil
	}
	return f
}

// StaleIfErrorOK reports whether e may be served at now if refreshing it fails, by its own
// lifetimes or, if l is set, by l. An entry that a hard purge has dropped may not be served,
// although a fetch may still retain it.
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
	// retryDelay is the pause between a failed refresh of an entry and the next one.
	retryDelay = 2 * time.Second
	// failureMemory is how long requests are served stale without waiting after a
	// failure. After that, the next request waits, because the source may work again.
	failureMemory = time.Minute
)

// failed records a failed refresh: for failureMemory, requests may be served stale
// without waiting.
func (e *Entry) failed(now time.Time, generation uint64, l *Lifetimes) {
	if f := e.failure.Load(); f == nil || f.generation <= generation { // keep the failure of a newer fetch
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

// retryDelayed reports whether a refresh has just failed. A fetch that started before a
// purge does not count: the purge may have cancelled it.
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

// cost is the memory that an object takes, in bytes.
func cost(key Key, src *Source) int64 {
	n := bodyCost(src.Size) + allocated(int64(len(key.Object))) + src.MetaBytes + entryOverhead
	if key.IsVariant() {
		n += variantOverhead
	}
	return n
}

// storable reports whether src may become an entry.
func (m *memory) storable(key Key, src *Source) bool {
	return src.keeps() && !m.tooLarge(key, src)
}

// keeps reports whether src may be stored, to be served or to be revalidated.
func (src *Source) keeps() bool { return src.lasts() || src.Validate }

// lasts reports whether src may answer more requests than the one that fetched it.
func (src *Source) lasts() bool { return src.Fresh > max(0, src.Age) }

func (m *memory) tooLarge(key Key, src *Source) bool {
	return src.Size < 0 && m.objectMax == 0 || src.Size > m.objectMax || cost(key, src) > m.held.limit
}
