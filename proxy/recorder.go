package proxy

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Recorder counts requests. It must be safe for concurrent use.
type Recorder interface {
	// Series returns the handle of an alias; "" stands for all names that are not in
	// the registry. The proxy keeps the handle until Proxy.Forget.
	Series(alias string) Series
	// Forget drops the series of an alias that was deleted during its first request.
	Forget(alias string)
	InFlight(delta int)
}

// Series counts the requests of one alias. Request and Saved are on the hot path.
type Series interface {
	Request(o Outcome)
	// Saved counts requests that were not sent to S3, and bytes that S3 did not send.
	Saved(by Saving, requests, bytes int64)
	// SignatureCheck counts a check of a signature: ok, missing, unknown_kid, bad or expired.
	SignatureCheck(outcome string)
	// Shared reports whether other aliases, beyond the cap, count here too.
	Shared() bool
}

// Saving is why a request or its bytes were saved.
type Saving uint8

// Values of Saving.
const (
	SavedByHit         Saving = iota // fresh, stale, or a negative entry
	SavedByCollapsed                 // another request fetched it
	SavedByNotModified               // S3 was asked, and sent no body
)

// Outcome is what one answered request adds to the counters.
type Outcome struct {
	Method    string // GET, HEAD or other
	Code      int
	Cache     string // a value of the list below
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

// seriesTable keeps the handle of each alias, so that a request finds it with one atomic
// load and one map read. It is copied when an alias is first requested. Beyond seriesMax
// aliases the recorder is asked each time.
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

// get returns the handle of an alias that was in the registry a moment ago. It looks in
// the registry again because of this sequence:
//
//  1. A request looks up the alias "shop".
//  2. "shop" is deleted, and both the recorder and this table forget it.
//  3. The request asks for its handle, and the recorder makes one: the series exist again
//     and take a place, and no later event removes them.
//
// A deletion after the second lookup calls Forget after step 3, which removes them.
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

// forget drops the handle of an alias, and the shared handles: their aliases may now get
// series of their own.
func (t *seriesTable) forget(alias string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := maps.Clone(*t.view.Load())
	maps.DeleteFunc(next, func(name string, s Series) bool { return name == alias || s.Shared() })
	t.view.Store(&next)
}
