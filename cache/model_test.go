package cache

import (
	"time"
)

// model says, one step at a time and without any concurrency, what a cache must
// do. It is meant to be read: a list searched from end to end where the cache
// has shards, and plain numbers where it has counters.
type model struct {
	capacity, limit, objectMax int64
	held, stored               int64
	entries                    map[Key]*modelBlob
	flights                    map[Key]*modelFlight
	marks                      map[Key]time.Time // passed by until then
	evicted                    map[string]int
	uses                       int
}

type modelBlob struct {
	key     Key
	cost    int64
	refs    int
	used    int
	expires time.Time
}

type modelFlight struct {
	key       Key
	blob      *modelBlob
	fresh     time.Duration
	at        time.Time
	size      int64
	given     int64 // bytes that the source has given
	seats     int
	end       error // nil while it goes on, io.EOF when it is complete
	abandoned bool  // or outlived
	wanted    bool
	left      time.Time // when the last seat was given up
}

// published is how many bytes readers may see.
func (f *modelFlight) published() int64 {
	if isEnd(f.end) {
		return f.size
	}
	return max(0, min(f.given, f.size-1))
}

func newModel(capacity, limit, objectMax int64) *model {
	return &model{
		capacity: capacity, limit: limit, objectMax: objectMax,
		entries: make(map[Key]*modelBlob), flights: make(map[Key]*modelFlight),
		marks: make(map[Key]time.Time), evicted: map[string]int{reasonCapacity: 0, reasonExpired: 0, reasonReplaced: 0},
	}
}

// outcome is what a request comes by: a flight, an entry, or neither, which is
// a stream of its own.
type outcome struct {
	status Status
	flight *modelFlight
	entry  *modelBlob
	loads  bool
}

// get is a request, whose load gives size bytes that are fresh for a while.
func (m *model) get(key Key, size int64, fresh time.Duration, now time.Time) outcome {
	solo := outcome{status: Miss, loads: true}
	cost := cost(key, &Source{Size: max(size, 0)})
	if size < 0 || size > m.objectMax || cost > m.limit {
		solo.status = Bypass
	}
	shareable := fresh > 0 && solo.status != Bypass
	if until, ok := m.marks[key]; ok && now.Before(until) {
		if shareable {
			delete(m.marks, key)
		}
		return solo
	}
	old := m.flights[key]
	if f := old; f != nil && now.Before(f.at.Add(f.fresh)) {
		f.seats++
		f.blob.refs++
		return outcome{status: Collapsed, flight: f}
	}
	if e := m.hit(key, now); e != nil {
		return outcome{status: Hit, entry: e}
	}
	if old != nil {
		m.outlive(old, now)
	}
	if !shareable {
		m.marks[key] = now.Add(passLife)
		return solo
	}
	if !m.room(&m.held, m.limit, cost, now) {
		return solo
	}
	b := &modelBlob{key: key, cost: cost, refs: 2} // the flight's and the seat's
	f := &modelFlight{key: key, blob: b, fresh: fresh, at: now, size: size, seats: 1}
	m.flights[key] = f
	return outcome{status: Miss, flight: f, loads: true}
}

// outlive takes a flight out of the table whose object is fresh no more.
func (m *model) outlive(f *modelFlight, now time.Time) {
	f.abandoned = true
	delete(m.flights, f.key)
	if f.seats == 0 {
		m.land(f, ErrAbandoned, now)
	}
}

// hit is a fresh entry, held. An expired one counts as used by being asked for.
func (m *model) hit(key Key, now time.Time) *modelBlob {
	e := m.entries[key]
	if e == nil {
		return nil
	}
	m.use(e)
	if !now.Before(e.expires) {
		return nil
	}
	e.refs++
	return e
}

// land ends a flight, with io.EOF when its object is complete.
func (m *model) land(f *modelFlight, end error, now time.Time) {
	f.end = end
	if isEnd(end) && !f.abandoned {
		if old := m.entries[f.key]; old != nil {
			m.left(old, reasonReplaced)
		}
		if m.room(&m.stored, m.capacity, f.blob.cost, now) {
			f.blob.expires = f.at.Add(f.fresh)
			f.blob.refs++
			m.use(f.blob)
			m.entries[f.key] = f.blob
		}
	}
	if m.flights[f.key] == f {
		delete(m.flights, f.key)
	}
	m.release(f.blob)
}

// leave gives up a seat, which may end the flight.
func (m *model) leave(f *modelFlight, now time.Time) {
	f.seats--
	rest := f.size - f.published()
	f.left = now
	far := !f.wanted && rest > worthFinishing && 2*f.published() < f.size
	if f.end == nil && f.seats == 0 && (f.abandoned || far) {
		f.abandoned = true
		m.land(f, ErrAbandoned, now)
	}
	m.release(f.blob)
}

// pass gives up what nobody has followed for long, and returns it.
func (m *model) pass(now time.Time) (gone []*modelFlight) {
	for _, f := range m.flights {
		if f.seats == 0 && !now.Before(f.left.Add(overtime)) {
			f.abandoned = true
			m.land(f, ErrAbandoned, now)
			gone = append(gone, f)
		}
	}
	return gone
}

func (m *model) use(b *modelBlob) {
	m.uses++
	b.used = m.uses
}

func (m *model) release(b *modelBlob) {
	if b.refs--; b.refs == 0 {
		m.held -= b.cost
	}
}

func (m *model) left(b *modelBlob, reason string) {
	delete(m.entries, b.key)
	m.stored -= b.cost
	m.evicted[reason]++
	m.release(b)
}

// room adds n to a budget, evicting what was used longest ago and is not in use.
func (m *model) room(used *int64, limit, n int64, now time.Time) bool {
	if n > limit {
		return false
	}
	for spared := 0; *used+n > limit; {
		old := m.oldest()
		switch {
		case old == nil:
			return false
		case old.refs > 1:
			m.use(old)
			if spared++; spared > spareMax {
				return false
			}
		case now.Before(old.expires):
			m.left(old, reasonCapacity)
		default:
			m.left(old, reasonExpired)
		}
	}
	*used += n
	return true
}

func (m *model) oldest() *modelBlob {
	var old *modelBlob
	for _, b := range m.entries {
		if old == nil || b.used < old.used {
			old = b
		}
	}
	return old
}
