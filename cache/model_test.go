package cache

import (
	"time"
)

// model says, one step at a time and without any concurrency, what a cache must
// do. It is meant to be read: a list searched from end to end where the cache
// has shards, and plain numbers where it has counters. Every load answers at
// once; only bodies take their time.
type model struct {
	capacity, limit, objectMax int64
	held, stored               int64
	entries                    map[Key]*modelEntry
	flights                    map[Key]*modelFlight
	live                       []*modelFlight // in the table or not, in the order of their beginning
	spaces                     map[int64]*modelSpace
	marks                      map[Key]time.Time // passed by until then
	missing                    map[Key]time.Time // not there until then
	evicted                    map[string]int
	uses, purges, refreshes    int
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

type modelBlob struct {
	cost int64
	refs int
}

type modelEntry struct {
	key          Key
	blob         *modelBlob
	meta         int64
	stored       time.Time
	expires      time.Time
	while, fault time.Duration
	byDefault    bool // while is
	used         int
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

type modelFlight struct {
	key       Key
	script    script
	old       *modelEntry
	blob      *modelBlob
	space     *modelSpace
	purges    int
	at        time.Time
	given     int64 // bytes that the source has given
	seats     int
	end       error // nil while it goes on, io.EOF when it is complete
	abandoned bool  // or outlived, or purged

	wanted  bool
	unasked bool
	left    time.Time // when the last seat was given up
}

// script is what a load is to do.
type script struct {
	kind               modelKind
	size, meta         int64
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
	return cost(key, &Source{Size: max(s.size, 0), MetaBytes: s.meta})
}

// published is how many bytes readers may see.
func (f *modelFlight) published() int64 {
	if isEnd(f.end) {
		return f.script.size
	}
	return max(0, min(f.given, f.script.size-1))
}

func newModel(capacity, limit, objectMax int64) *model {
	return &model{
		capacity: capacity, limit: limit, objectMax: objectMax,
		entries: make(map[Key]*modelEntry), flights: make(map[Key]*modelFlight),
		spaces: make(map[int64]*modelSpace), marks: make(map[Key]time.Time), missing: make(map[Key]time.Time),
		evicted: map[string]int{reasonCapacity: 0, reasonExpired: 0, reasonReplaced: 0, reasonPurged: 0, reasonGone: 0},
	}
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
	return f.purges >= e.space.outdated.no && now.Before(f.until) && e.bridges(now, f.now)
}

// bridges is by the lifetimes that e has, or by those that it would get now.
func (e *modelEntry) bridges(now time.Time, l *Lifetimes) bool {
	if l != nil {
		end := e.endBy(e.stored.Add(l.Fresh), e.purged, e.space.purged)
		return now.Before(end.Add(l.StaleIfError))
	}
	return now.Before(e.end().Add(e.fault))
}

// modelOutcome is what a request comes by: a flight, what is stored, an error, or none
// of them, which is a stream of its own.
type modelOutcome struct {
	status Status
	flight *modelFlight
	blob   *modelBlob
	err    bool
	loads  bool
	behind bool // the load is nobody's to wait for
}

// get is a request, whose load does what s says.
func (m *model) get(key Key, s script, now time.Time) modelOutcome {
	if until, ok := m.marks[key]; ok && now.Before(until) {
		return m.pass(key, s, now)
	}
	old := m.flights[key]
	switch {
	case old != nil && now.Before(old.at.Add(old.script.fresh)):
		if e := old.old; e != nil && e.servableStale(now) {
			return stored(e, now)
		}
		old.seats++
		old.blob.refs++
		return modelOutcome{status: Collapsed, flight: old}
	case old != nil && !old.script.lasts():
		return m.pass(key, s, now)
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
		m.outlive(old, now)
	}
	f := m.begin(key, e, s, now)
	f.seats = 1
	return m.fly(f, now)
}

// stored is an answer by e, held.
func stored(e *modelEntry, now time.Time) modelOutcome {
	e.blob.refs++
	if e.isFresh(now) {
		return modelOutcome{status: Hit, blob: e.blob}
	}
	return modelOutcome{status: Stale, blob: e.blob}
}

func (m *model) space(key Key) *modelSpace {
	if m.spaces[key.Space] == nil {
		m.spaces[key.Space] = new(modelSpace)
	}
	return m.spaces[key.Space]
}

func (m *model) begin(key Key, old *modelEntry, s script, now time.Time) *modelFlight {
	if old != nil {
		old.blob.refs++
	} else if s.kind == same {
		s.kind = comes
	}
	return &modelFlight{key: key, old: old, script: s, at: now, space: m.space(key), purges: m.purges}
}

// retryDelayed is that it was not fetched anew just now, by a fetch that no purge has ended.
func (e *modelEntry) retryDelayed(now time.Time) bool {
	since := max(e.purged.no, e.space.purged.no, e.space.outdated.no)
	return now.Before(e.retry.until) && e.retry.purges >= since
}

// renew begins a flight that nobody waits for, and reports whether it did.
func (m *model) renew(e *modelEntry, s script, now time.Time) bool {
	if m.flights[e.key] != nil || e.retryDelayed(now) {
		return false
	}
	f := m.begin(e.key, e, s, now)
	f.unasked, f.wanted, f.left = true, true, now
	m.refreshes++
	m.fly(f, now)
	return true
}

// fly is a flight up to where its load has returned.
func (m *model) fly(f *modelFlight, now time.Time) modelOutcome {
	if f.script.kind == comes {
		return m.arrive(f, now)
	}
	o := m.conclude(f.key, f.old, f.script, now, f)
	if f.seats > 0 && o.blob != nil {
		o.blob.refs++
	}
	m.over(f)
	return o
}

func (m *model) arrive(f *modelFlight, now time.Time) modelOutcome {
	o := modelOutcome{status: m.statusOf(f.key, f.script), loads: true}
	delete(m.missing, f.key)
	keeps := f.script.keeps() && o.status != Bypass
	if !keeps {
		m.marks[f.key] = now.Add(hitForPassTTL)
	}
	cost := f.script.cost(f.key)
	if !keeps || !m.room(&m.held, m.limit, cost, now) {
		if f.old != nil {
			m.remove(f.old, reasonReplaced)
		}
		m.over(f)
		return o
	}
	f.blob = &modelBlob{cost: cost, refs: 1 + f.seats}
	m.flights[f.key], m.live = f, append(m.live, f)
	o.flight = f
	return o
}

func (m *model) statusOf(key Key, s script) Status {
	if s.size < 0 || s.size > m.objectMax || s.cost(key) > m.limit {
		return Bypass
	}
	return Miss
}

// conclude is what follows from an answer without an object. f is nil past the cache.
func (m *model) conclude(key Key, old *modelEntry, s script, now time.Time, f *modelFlight) modelOutcome {
	o := modelOutcome{loads: true}
	if f != nil && f.unasked && s.kind != same {
		old.retry = modelFailure{purges: f.purges, until: now.Add(retryDelay)}
	}
	switch {
	case s.kind == same:
		delete(m.missing, key)
		o.status, o.blob = Revalidated, old.blob
		m.renewed(old, s, now)
	case s.kind == outage && old != nil && old.bridges(now, s.now):
		old.retry = modelFailure{purges: m.purges, until: now.Add(retryDelay)}
		old.failure = modelFailure{m.purges, now.Add(failureMemory), s.now}
		o.status, o.blob = Stale, old.blob
	case s.kind == goes:
		if old != nil {
			m.remove(old, reasonGone)
		}
		if f != nil || m.flights[key] == nil { // what is under way knows better
			m.missed(key, s.gone, now)
		}
		o.err = true
	default:
		o.err = true
	}
	return o
}

// renewed puts an entry with the same body in old's place.
func (m *model) renewed(old *modelEntry, s script, now time.Time) {
	if s.meta > old.meta || !s.keeps() {
		m.remove(old, reasonReplaced)
		return
	}
	e := &modelEntry{
		key: old.key, blob: old.blob, meta: old.meta, stored: now, expires: now.Add(s.fresh), while: s.while, fault: s.fault, byDefault: s.byDefault,
		purges: m.purges, space: m.space(old.key),
	}
	m.use(e)
	m.entries[e.key] = e
}

// pass is a fetch by one request for itself.
func (m *model) pass(key Key, s script, now time.Time) modelOutcome {
	old := m.look(key)
	if old == nil && s.kind == same {
		s.kind = comes
	}
	if old != nil {
		old.blob.refs++
		defer m.release(old.blob)
	}
	if s.kind != comes {
		o := m.conclude(key, old, s, now, nil)
		if o.blob != nil {
			o.blob.refs++
		}
		return o
	}
	o := modelOutcome{status: m.statusOf(key, s), loads: true}
	delete(m.missing, key)
	switch {
	case s.keeps() && o.status != Bypass:
		delete(m.marks, key)
	case old != nil:
		m.remove(old, reasonReplaced)
	}
	return o
}

// absent forgets what has ended.
func (m *model) absent(key Key, now time.Time) bool {
	until, ok := m.missing[key]
	if ok && !now.Before(until) {
		delete(m.missing, key)
		return false
	}
	return ok
}

func (m *model) missed(key Key, life time.Duration, now time.Time) {
	if life <= 0 {
		return
	}
	delete(m.marks, key)
	if negativeCost(key) <= min(m.capacity, negativeMax) {
		m.missing[key] = now.Add(life)
	}
}
