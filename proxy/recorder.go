package proxy

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Recorder counts requests. It must be safe for concurrent use.
type Recorder interface {
	// Series returns the handle of an alias; "" stands for all names that are
	// not in the registry. The proxy keeps it until Proxy.Forget.
	Series(alias string) Series
	// Forget is told of an alias that was asked for and turns out to be gone.
	Forget(alias string)
	InFlight(delta int)
}

// Series counts the requests of one alias. Request and Saved are on the hot path.
type Series interface {
	Request(o Outcome)
	// Saved counts what S3 need not be asked for, and the bytes that it need not
	// send.
	Saved(by Saving, requests, bytes int64)
	// Shared reports whether other aliases count here too, for want of room.
	Shared() bool
}

// Saving is why S3 was spared something.
type Saving uint8

// Values of Saving.
const (
	SavedByHit         Saving = iota // fresh, stale, or known to be missing
	SavedByCollapsed                 // another request fetched it
	SavedByNotModified               // S3 was asked, and sent no body
)

// Outcome is what one answered request adds to the counters.
type Outcome struct {
	Method    string // GET, HEAD or other
	Code      int
	Cache     string // what the cache did, or none
	Duration  time.Duration
	FirstByte time.Duration // zero when the answer never began
	Bytes     int64         // of the body, as far as it was sent
	Aborted   bool          // the client went away before the end
}

// Values of Outcome.Cache.
const (
	cacheNone        = "none"
	cacheHit         = "hit"
	cacheMiss        = "miss"
	cacheCollapsed   = "collapsed"
	cacheBypass      = "bypass"
	cacheStale       = "stale"
	cacheRevalidated = "revalidated"
	cacheNegative    = "negative"
)

// seriesTable keeps the handle of each alias, so that a request finds it with
// one load and one map read. It is copied when an alias is first asked for; past
// a bound, which a recorder with a cap on aliases does not need to pass either,
// handles are asked for each time.
type seriesTable struct {
	rec    Recorder
	exists func(alias string) bool
	view   atomic.Pointer[map[string]Series]
	mu     sync.Mutex // serialises copies
}

const seriesMax = 4096

func newSeriesTable(rec Recorder, exists func(alias string) bool) *seriesTable {
	t := &seriesTable{rec: rec, exists: exists}
	t.view.Store(new(map[string]Series))
	return t
}

// get returns the handle of an alias that was in the registry a moment ago. The
// sequence that a second look is needed for:
//
//  1. a request looks up the alias "shop"
//  2. "shop" is deleted, and both the recorder and this table forget it
//  3. the request asks for its handle, and the recorder makes one: the series
//     are back, and a place is taken, with nobody left to give them up
//
// A deletion after the second look is told to us after step 3, and undoes it.
func (t *seriesTable) get(alias string) Series {
	if s, ok := (*t.view.Load())[alias]; ok {
		return s
	}
	s := t.insert(alias)
	if !t.exists(alias) {
		t.rec.Forget(alias)
		t.forget(alias)
	}
	return s
}

func (t *seriesTable) insert(alias string) Series {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.view.Load()
	if s, ok := old[alias]; ok {
		return s
	}
	s := t.rec.Series(alias)
	if len(old) < seriesMax {
		next := maps.Clone(old)
		if next == nil {
			next = make(map[string]Series)
		}
		next[alias] = s
		t.view.Store(&next)
	}
	return s
}

// forget drops the handle of an alias, and those that are shared: there may be
// room now for one of their own.
func (t *seriesTable) forget(alias string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := maps.Clone(*t.view.Load())
	maps.DeleteFunc(next, func(name string, s Series) bool { return name == alias || s.Shared() })
	t.view.Store(&next)
}
