package cache

import (
	"time"
)

// outlive takes a flight out of the table whose object is fresh no more.
func (m *model) outlive(f *modelFlight, now time.Time) {
	f.abandoned = true
	delete(m.flights, f.key)
	if f.seats == 0 {
		m.land(f, ErrAbandoned, now)
	}
}

// look is an entry, whatever its age: being asked for is use.
func (m *model) look(key Key) *modelEntry {
	e := m.entries[key]
	if e != nil {
		m.use(e)
	}
	return e
}

// hit is a fresh entry, held.
func (m *model) hit(key Key, now time.Time) *modelEntry {
	e := m.look(key)
	if e == nil || !e.isFresh(now) {
		return nil
	}
	e.blob.refs++
	return e
}

// land ends a flight, with io.EOF when its object is complete.
func (m *model) land(f *modelFlight, end error, now time.Time) {
	f.end = end
	switch {
	case !isEnd(end) && f.unasked:
		f.old.retry = modelFailure{purges: f.purges, until: now.Add(retryDelay)}
	case isEnd(end) && !f.abandoned:
		m.put(f, now)
	}
	if m.flights[f.key] == f {
		delete(m.flights, f.key)
	}
	for i := range m.live {
		if m.live[i] == f {
			m.live = append(m.live[:i], m.live[i+1:]...)
			break
		}
	}
	m.release(f.blob)
	m.over(f)
}

func (m *model) put(f *modelFlight, now time.Time) {
	if old := m.entries[f.key]; old != nil {
		m.remove(old, reasonReplaced)
	}
	if !m.room(&m.stored, m.capacity, f.blob.cost, now) {
		return
	}
	e := &modelEntry{
		key: f.key, blob: f.blob, meta: f.script.meta, stored: f.at, expires: f.at.Add(f.script.fresh),
		while: f.script.while, fault: f.script.fault, byDefault: f.script.byDefault, purges: f.purges, space: f.space,
	}
	e.blob.refs++
	m.use(e)
	m.entries[f.key] = e
}

// over is the end of a flight: it lets go of what was stored.
func (m *model) over(f *modelFlight) {
	if f.old != nil {
		m.release(f.old.blob)
	}
	if f.unasked {
		m.refreshes--
	}
}

// leave gives up a seat, which may end the flight.
func (m *model) leave(f *modelFlight, now time.Time) {
	f.seats--
	rest := f.script.size - f.published()
	f.left = now
	far := !f.wanted && rest > worthFinishing && 2*f.published() < f.script.size
	if f.end == nil && f.seats == 0 && (f.abandoned || far) {
		f.abandoned = true
		m.land(f, ErrAbandoned, now)
	}
	m.release(f.blob)
}

// elapse gives up what nobody has followed for long, and returns it.
func (m *model) elapse(now time.Time) (gone []*modelFlight) {
	for _, f := range m.flights {
		if f.seats == 0 && !now.Before(f.left.Add(idleTimeout)) {
			f.abandoned = true
			m.land(f, ErrAbandoned, f.left.Add(idleTimeout))
			gone = append(gone, f)
		}
	}
	return gone
}

func (m *model) use(e *modelEntry) {
	m.uses++
	e.used = m.uses
}

func (m *model) release(b *modelBlob) {
	if b.refs--; b.refs == 0 {
		m.held -= b.cost
	}
}

// remove takes e out, if it is still there.
func (m *model) remove(e *modelEntry, reason string) {
	if m.entries[e.key] != e {
		return
	}
	delete(m.entries, e.key)
	m.stored -= e.blob.cost
	m.evicted[reason]++
	m.release(e.blob)
}

// room adds n to a budget, evicting what was used longest ago and is not in use.
func (m *model) room(used *int64, limit, n int64, now time.Time) bool {
	if n > limit {
		return false
	}
	for skipped := 0; *used+n > limit; {
		old := m.oldest()
		switch {
		case old == nil:
			return false
		case old.blob.refs > 1:
			m.use(old)
			if skipped++; skipped > inUseMax {
				return false
			}
		case old.isFresh(now):
			m.remove(old, reasonCapacity)
		default:
			m.remove(old, reasonExpired)
		}
	}
	*used += n
	return true
}

func (m *model) oldest() *modelEntry {
	var old *modelEntry
	for _, e := range m.entries {
		if old == nil || e.used < old.used {
			old = e
		}
	}
	return old
}
