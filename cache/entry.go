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
	blob   *blob
	space  *space
	seq    uint64               // when its fetch began, among purges
	used   uint64               // when it was last asked for, by memory.clock; guarded by the shard's lock
	purged atomic.Pointer[mark] // by a purge of its key
	// early is how long before Expires a hit has the object fetched anew. It
	// differs from entry to entry, so that what came together does not go
	// together, and what is in demand is never seen to expire.
	early   time.Duration
	renewal atomic.Bool // a hit has begun to have it fetched anew
	at      int32       // its place in shard.all; guarded by the shard's lock
	rest    until       // until when it is not fetched anew because that failed
	failure atomic.Pointer[failure]

	// graceWhile and graceError are how long after Expires the entry may be
	// served while it is fetched anew, and while that fails.
	graceWhile, graceError time.Duration
	byDefault              bool // graceWhile is

	key       Key
	metaBytes int64
}

// Lifetimes are what decides until when an entry may be served if fetching it anew
// fails: it is fresh for Fresh from Entry.Stored on, and may be served for StaleError
// after that.
type Lifetimes struct{ Fresh, StaleError time.Duration }

// failure is that an outage kept an entry from being fetched anew.
type failure struct {
	seq   uint64 // purges before the fetch began
	until time.Time
	now   *Lifetimes // instead of the entry's own; nil leaves those
}

// until is a time in nanoseconds of this process; zero is none.
type until struct{ atomic.Int64 }

// began is what entries count nanoseconds from: the clock of the process, which
// no administrator can set.
var began = time.Now()

func (u *until) set(t time.Time)          { u.Store(int64(t.Sub(began))) }
func (u *until) after(now time.Time) bool { t := u.Load(); return t != 0 && int64(now.Sub(began)) < t }

// fetching is what a fetch of a key is known by from its beginning on.
type fetching struct {
	key    Key
	space  *space
	seq    uint64 // purges before it began
	doubts uint64 // and ForgetMissing
}

// newEntry makes the entry of a source whose metadata came at born, less its age.
func newEntry(f fetching, src *Source, born time.Time, b *blob) *Entry {
	return &Entry{
		Meta: src.Meta, Stored: born, Expires: born.Add(src.Fresh), early: early(src.Fresh - src.Age),
		graceWhile: src.StaleWhile, graceError: src.StaleError, byDefault: src.WhileByDefault,
		key: f.key, metaBytes: src.MetaBytes, blob: b, space: f.space, seq: f.seq,
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
func (e *Entry) Bytes() []byte { return e.blob.data }

// File says where Bytes lies in a file that can be sent from, if it does.
// Sending must have been handed to the kernel before Release.
func (e *Entry) File() (fd int, off int64, ok bool) { return e.blob.file() }

// Release gives the entry back. It must be called once for each Hit.
func (e *Entry) Release() { e.blob.release() }

// Fresh reports whether e may be served at now without asking again.
func (e *Entry) Fresh(now time.Time) bool { return e.fresh(now) }

// Due reports, to one caller, that it is time to have a fresh entry fetched anew:
// that one should call Renew.
func (e *Entry) Due(now time.Time) bool {
	return e.early > 0 && e.Expires.Sub(now) <= e.early && !e.rest.after(now) &&
		e.renewal.CompareAndSwap(false, true)
}

// Purged reports whether a purge has made e stale. Then its metadata is not to be
// trusted either, which a source does not compare when it says that e is the same.
func (e *Entry) Purged() bool {
	m := e.space.purged.Load()
	return e.purged.Load() != nil || m != nil && e.seq < m.seq
}

// expires is the end of e's freshness: a purge or a Revalidate may have brought it
// forward.
func (e *Entry) expires() time.Time {
	return e.endsBy(e.Expires, e.purged.Load(), e.space.purged.Load(), e.space.outdated.Load())
}

// endsBy is end, or the earliest of marks that e is older than.
func (e *Entry) endsBy(end time.Time, marks ...*mark) time.Time {
	for _, m := range marks {
		if m != nil && e.seq < m.seq && m.at.Before(end) {
			end = m.at
		}
	}
	return end
}

// fresh does not compare now with the time of a purge: who asks may have looked at
// the clock before that.
func (e *Entry) fresh(now time.Time) bool {
	return now.Before(e.Expires) && e.purged.Load() == nil && e.seq >= e.space.since.Load()
}

// outdated reports whether e's lifetimes may have changed since it was fetched.
func (e *Entry) outdated() bool {
	m := e.space.outdated.Load()
	return m != nil && e.seq < m.seq
}

// staleWhile is how long after its end e may be served while it is fetched anew.
func (e *Entry) staleWhile() time.Duration {
	if m := e.space.outdated.Load(); e.byDefault && m != nil && e.seq < m.seq {
		return m.staleWhile
	}
	return e.graceWhile
}

// usable reports whether e may be served at now although it is not fresh, without
// waiting for anything: while it is fetched anew, or because that failed lately.
func (e *Entry) usable(now time.Time) bool {
	if now.Before(e.expires().Add(e.staleWhile())) {
		return true
	}
	f := e.lastFailure()
	return f != nil && now.Before(f.until) && e.Bridges(now, f.now)
}

// lastFailure is nil where there was none, or where the lifetimes have changed since.
func (e *Entry) lastFailure() *failure {
	f, m := e.failure.Load(), e.space.outdated.Load()
	if f != nil && m != nil && f.seq < m.seq {
		return nil
	}
	return f
}

// Bridges reports whether e may be served at now if fetching it anew fails, by its own
// lifetimes, or by those that it would get now. It is asked by flights, which may hold e
// yet when a hard purge has dropped it.
func (e *Entry) Bridges(now time.Time, l *Lifetimes) bool {
	if m := e.purged.Load(); m != nil && m.hard {
		return false
	}
	end, grace := e.expires(), e.graceError
	if l != nil {
		end, grace = e.endsBy(e.Stored.Add(l.Fresh), e.purged.Load(), e.space.purged.Load()), l.StaleError
	}
	return now.Before(end.Add(grace))
}

const (
	// respite is how long nobody fetches an entry anew after that failed.
	respite = 2 * time.Second
	// lately is how long a failure lets others be served at once. After that, the
	// next one waits and sees: it may have been over for long.
	lately = time.Minute
)

// failed notes that an outage kept e from being fetched anew, for who comes next.
func (e *Entry) failed(now time.Time, seq uint64, l *Lifetimes) {
	e.failure.Store(&failure{seq: seq, until: now.Add(lately), now: l})
	e.tired(now)
}

// tired notes that e was not fetched anew, whatever the reason: it is not asked for
// at once again.
func (e *Entry) tired(now time.Time) {
	e.rest.set(now.Add(respite))
	e.renewal.Store(false)
}
