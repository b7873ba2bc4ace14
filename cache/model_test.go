package cache

import (
	"time"
)

// model defines the behaviour of a cache, one step at a time and without concurrency. It
// is written to be read: a list that is searched from end to end in place of shards, and
// plain numbers in place of counters. Only which entry is evicted is decided by the code under
// test, from these numbers: policy_test.go is about that. Every load returns at once; only bodies take time.
type model struct {
	capacity, limit, objectMax int64
	held                       int64
	stored                     budget
	policy                     policy // the one under test, with the model's figures
	requests                   map[Key]int
	entries                    map[Key]*modelEntry
	fetches                    map[Key]*modelFetch
	live                       []*modelFetch // in the table or not, in the order of their beginning
	spaces                     map[int64]*modelSpace
	marks                      map[Key]time.Time // hit-for-pass until then
	negative                   map[Key]time.Time // absent until then
	evicted                    map[string]int
	purges, refreshes          int
	rejected                   int
	pushed                     map[[2]int64]int
}

type modelSpace struct {
	purged, outdated modelMark
}

// modelMark is a purge; zero is none.
type modelMark struct {
	no int
	at time.Time
	// while is the default from then on, of a space that is outdated.
	while time.Duration
}

type modelBody struct {
	cost int64
	refs int
}

type modelEntry struct {
	key          Key
	body         *modelBody
	meta         int64
	stored       time.Time
	expires      time.Time
	while, fault time.Duration
	byDefault    bool // while is
	shadow       *Entry
	purges       int // before its fetch began
	space        *modelSpace
	purged       modelMark
	retry        modelFailure
	failure      modelFailure
}

// modelFailure lets an entry be served until then; zero is none.
type modelFailure struct {
	purges int // before the fetch began that failed
	until  time.Time
	now    *Lifetimes
}

type modelFetch struct {
	key       Key
	script    script
	old       *modelEntry
	body      *modelBody
	space     *modelSpace
	purges    int
	at        time.Time
	given     int64 // bytes that the source has given
	have      int64 // bytes that a body of unknown size has room for
	full      bool  // and there is no room for more
	taken     bool  // a reader has taken the rest
	gone      int64 // bytes that the source had given when there was no more room
	tail      error // the end of the rest
	waiters   int
	promised  bool
	end       error // nil while it goes on, io.EOF when it is complete
	abandoned bool  // or replaced, or purged

	wanted     bool
	background bool
	left       time.Time // when the last waiter left
}

// script determines the result of a load.
type script struct {
	kind               modelKind
	size, meta         int64
	unknown            bool // the source does not tell the size
	fresh              time.Duration
	while, fault, gone time.Duration
	validate           bool
	byDefault          bool
	now                *Lifetimes // of what is stored, if it fails
}

type modelKind int

const (
	comes modelKind = iota
	same            // if there is something that it can be the same as
	goes
	outage
	fails
)

func (s script) lasts() bool { return s.fresh > 0 }
func (s script) keeps() bool { return s.lasts() || s.validate }

func (s script) cost(key Key) int64 {
	return cost(key, &Source{Size: s.size, MetaBytes: s.meta})
}

// published is how many bytes readers may see.
func (f *modelFetch) published() int64 {
	if isEnd(f.end) {
		return f.script.size
	}
	if f.script.unknown {
		return max(0, f.given-1)
	}
	return max(0, min(f.given, f.script.size-1))
}

func newModel(capacity, limit, objectMax int64) *model {
	m := &model{
		capacity: capacity, limit: limit, objectMax: objectMax,
		entries: make(map[Key]*modelEntry), fetches: make(map[Key]*modelFetch),
		spaces: make(map[int64]*modelSpace), marks: make(map[Key]time.Time), negative: make(map[Key]time.Time),
		evicted:  map[string]int{reasonCapacity: 0, reasonExpired: 0, reasonReplaced: 0, reasonPurged: 0, reasonGone: 0},
		requests: make(map[Key]int), pushed: make(map[[2]int64]int),
	}
	m.stored.limit = capacity
	m.policy.init(capacity, func(key Key) int { return min(m.requests[key], sketchCounterMax) })
	return m
}

// end is until when e is fresh, if it is not purged or was then.
func (e *modelEntry) end() time.Time {
	return e.endBy(e.expires, e.purged, e.space.purged, e.space.outdated)
}

func (e *modelEntry) endBy(end time.Time, marks ...modelMark) time.Time {
	for _, m := range marks {
		if e.purges < m.no && m.at.Before(end) {
			end = m.at
		}
	}
	return end
}

func (e *modelEntry) isFresh(now time.Time) bool { return now.Before(e.end()) }

func (e *modelEntry) servableStale(now time.Time) bool {
	while := e.while
	if e.byDefault && e.purges < e.space.outdated.no {
		while = e.space.outdated.while
	}
	if now.Before(e.end().Add(while)) {
		return true
	}
	f := e.failure
	return f.purges >= e.space.outdated.no && now.Before(f.until) && e.staleIfErrorOK(now, f.now)
}

// staleIfErrorOK goes by the lifetimes of e or, if l is set, by l.
func (e *modelEntry) staleIfErrorOK(now time.Time, l *Lifetimes) bool {
	if l != nil {
		end := e.endBy(e.stored.Add(l.Fresh), e.purged, e.space.purged)
		return now.Before(end.Add(l.StaleIfError))
	}
	return now.Before(e.end().Add(e.fault))
}

// modelOutcome is the result of a request: a fetch, a stored object, an error, or none
// of them, which is a stream of its own.
type modelOutcome struct {
	status Status
	fetch  *modelFetch
	body   *modelBody
	err    bool
	loads  bool
	behind bool // no request waits for the load
	stores bool // the object is an entry, or will be
}

// get is a request whose load follows s.
func (m *model) get(key Key, s script, now time.Time) modelOutcome {
	if until, ok := m.marks[key]; ok && now.Before(until) {
		return m.private(key, s, now)
	}
	old := m.fetches[key]
	switch {
	case old != nil && now.Before(old.at.Add(old.script.fresh)):
		m.requests[key]++
		if e := old.old; e != nil && e.servableStale(now) {
			return stored(e, now)
		}
		old.waiters++
		old.body.refs++
		return modelOutcome{status: Collapsed, fetch: old, stores: old.promised}
	case old != nil && !old.script.lasts():
		return m.private(key, s, now)
	case m.absent(key, now):
		return modelOutcome{err: true}
	}
	e := m.look(key)
	switch {
	case e != nil && e.isFresh(now):
		return stored(e, now)
	case e != nil && e.servableStale(now):
		o := stored(e, now)
		o.loads = m.renew(e, s, now)
		o.behind = o.loads
		return o
	}
	if old != nil {
		m.replace(old, now)
	}
	f := m.begin(key, e, s, now)
	f.waiters = 1
	return m.run(f, now)
}

// stored is an answer by e, held.
func stored(e *modelEntry, now time.Time) modelOutcome {
	e.body.refs++
	if e.isFresh(now) {
		return modelOutcome{status: Hit, body: e.body, stores: true}
	}
	return modelOutcome{status: Stale, body: e.body, stores: true}
}

func (m *model) space(key Key) *modelSpace {
	if m.spaces[key.Space] == nil {
		m.spaces[key.Space] = new(modelSpace)
	}
	return m.spaces[key.Space]
}

func (m *model) begin(key Key, old *modelEntry, s script, now time.Time) *modelFetch {
	if old != nil {
		old.body.refs++
	} else if s.kind == same {
		s.kind = comes
	}
	return &modelFetch{key: key, old: old, script: s, at: now, space: m.space(key), purges: m.purges}
}

// retryDelayed reports whether a refresh has just failed, by a fetch that no purge has ended.
func (e *modelEntry) retryDelayed(now time.Time) bool {
	since := max(e.purged.no, e.space.purged.no, e.space.outdated.no)
	return now.Before(e.retry.until) && e.retry.purges >= since
}

// renew starts a background fetch, and reports whether it did.
func (m *model) renew(e *modelEntry, s script, now time.Time) bool {
	if m.fetches[e.key] != nil || e.retryDelayed(now) {
		return false
	}
	f := m.begin(e.key, e, s, now)
	f.background, f.wanted, f.left = true, true, now
	m.refreshes++
	m.run(f, now)
	return true
}

// run runs a fetch until its load has returned.
func (m *model) run(f *modelFetch, now time.Time) modelOutcome {
	if f.script.kind == comes {
		return m.arrive(f, now)
	}
	o := m.conclude(f.key, f.old, f.script, now, f)
	if f.waiters > 0 && o.body != nil {
		o.body.refs++
	}
	m.cleanup(f)
	return o
}

func (m *model) arrive(f *modelFetch, now time.Time) modelOutcome {
	o := modelOutcome{status: m.statusOf(f.key, f.script, now), loads: true}
	delete(m.negative, f.key)
	storable := f.script.keeps() && !m.tooLarge(f.key, f.script)
	if !storable {
		m.marks[f.key] = now.Add(hitForPassTTL)
	}
	cost := f.script.cost(f.key)
	if f.script.unknown {
		cost, f.have = unknownCost(f.key, f.script), growFirst
	}
	if !storable || !m.room(f.key.Space, cost, now) {
		if f.old != nil {
			m.remove(f.old, reasonReplaced)
		}
		m.cleanup(f)
		return o
	}
	f.promised = m.policy.admits(f.key, cost, &m.stored)
	f.body = &modelBody{cost: cost, refs: 1 + f.waiters}
	m.fetches[f.key], m.live = f, append(m.live, f)
	o.fetch, o.stores = f, f.promised
	return o
}

func (m *model) statusOf(key Key, s script, now time.Time) Status {
	until, marked := m.marks[key]
	if s.unknown && s.keeps() && marked && now.Before(until) || m.tooLarge(key, s) {
		return Bypass
	}
	return Miss
}

func (m *model) tooLarge(key Key, s script) bool {
	return !s.unknown && (s.size > m.objectMax || s.cost(key) > m.limit)
}

// conclude handles the result of a load without an object. f is nil for a private fetch.
func (m *model) conclude(key Key, old *modelEntry, s script, now time.Time, f *modelFetch) modelOutcome {
	o := modelOutcome{loads: true}
	if f != nil && f.background && s.kind != same {
		old.retry = modelFailure{purges: f.purges, until: now.Add(retryDelay)}
	}
	switch {
	case s.kind == same:
		delete(m.negative, key)
		o.status, o.body = Revalidated, old.body
		o.stores = m.renewed(old, s, now)
	case s.kind == outage && old != nil && old.staleIfErrorOK(now, s.now):
		old.retry = modelFailure{purges: m.purges, until: now.Add(retryDelay)}
		old.failure = modelFailure{m.purges, now.Add(failureMemory), s.now}
		o.status, o.body, o.stores = Stale, old.body, true
	case s.kind == goes:
		if old != nil {
			m.remove(old, reasonGone)
		}
		if f != nil || m.fetches[key] == nil { // a running fetch counts more
			m.addNegative(key, s.gone, now)
		}
		o.err = true
	default:
		o.err = true
	}
	return o
}

// renewed puts an entry with the same body in old's place, and reports whether it did.
func (m *model) renewed(old *modelEntry, s script, now time.Time) bool {
	if s.meta > old.meta || !s.keeps() {
		m.remove(old, reasonReplaced)
		return false
	}
	e := &modelEntry{
		key: old.key, body: old.body, meta: old.meta, stored: now, expires: now.Add(s.fresh), while: s.while, fault: s.fault, byDefault: s.byDefault,
		purges: m.purges, space: m.space(old.key),
	}
	e.shadow = shadowOf(e)
	e.shadow.hits.Store(old.shadow.hits.Load())
	m.policy.renew(old.shadow, e.shadow)
	m.entries[e.key] = e
	return true
}

// private is a fetch for one request only.
func (m *model) private(key Key, s script, now time.Time) modelOutcome {
	old := m.look(key)
	if old == nil && s.kind == same {
		s.kind = comes
	}
	if old != nil {
		old.body.refs++
		defer m.release(old.body)
	}
	if s.kind != comes {
		o := m.conclude(key, old, s, now, nil)
		if o.body != nil {
			o.body.refs++
		}
		return o
	}
	o := modelOutcome{status: m.statusOf(key, s, now), loads: true}
	delete(m.negative, key)
	switch {
	case s.keeps() && s.unknown: // it may be too large
	case s.keeps() && o.status != Bypass:
		delete(m.marks, key)
	case old != nil:
		m.remove(old, reasonReplaced)
	}
	return o
}

// absent reports whether key has a negative entry, and drops an expired one.
func (m *model) absent(key Key, now time.Time) bool {
	until, ok := m.negative[key]
	if ok && !now.Before(until) {
		delete(m.negative, key)
		return false
	}
	return ok
}

func (m *model) addNegative(key Key, ttl time.Duration, now time.Time) {
	if ttl <= 0 {
		return
	}
	delete(m.marks, key)
	if negativeCost(key) <= min(m.capacity, negativeMax) {
		m.negative[key] = now.Add(ttl)
	}
}
