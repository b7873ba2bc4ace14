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
	// not in the registry. The proxy keeps it until Forget.
	Series(alias string) Series
	InFlight(delta int)
}

// Series counts the requests of one alias. Request is on the hot path.
type Series interface {
	Request(o Outcome)
}

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
	cacheNone      = "none"
	cacheHit       = "hit"
	cacheMiss      = "miss"
	cacheCollapsed = "collapsed"
	cacheBypass    = "bypass"
)

// seriesTable keeps the handle of each alias, so that a request finds it with
// one load and one map read. It is copied when an alias is first asked for; past
// a bound, which a recorder with a cap on aliases does not need to pass either,
// handles are asked for each time.
type seriesTable struct {
	rec  Recorder
	view atomic.Pointer[map[string]Series]
	mu   sync.Mutex // serialises copies
}

const seriesMax = 4096

func newSeriesTable(rec Recorder) *seriesTable {
	t := &seriesTable{rec: rec}
	t.view.Store(new(map[string]Series))
	return t
}

func (t *seriesTable) of(alias string) Series {
	if s, ok := (*t.view.Load())[alias]; ok {
		return s
	}
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

func (t *seriesTable) forget(alias string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := (*t.view.Load())[alias]; ok {
		next := maps.Clone(*t.view.Load())
		delete(next, alias)
		t.view.Store(&next)
	}
}
