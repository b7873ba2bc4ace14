package cache

import (
	"time"
)

// replace removes a fetch whose object has become stale from the table.
func (m *model) replace(f *modelFetch, now time.Time) {
	f.abandoned = true
	delete(m.fetches, f.key)
	if f.waiters == 0 {
		m.finish(f, ErrAbandoned, now)
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
	e.body.refs++
	return e
}

// finish ends a fetch, with io.EOF when its object is complete.
func (m *model) finish(f *modelFetch, end error, now time.Time) {
	f.end = end
	body := f.body
	if f.script.unknown && isEnd(end) {
		body = m.measure(f, now)
		defer m.release(body)
	}
	switch {
	case !isEnd(end) && f.background:
		f.old.retry = modelFailure{purges: f.purges, until: now.Add(retryDelay)}
	case isEnd(end) && !f.abandoned:
		m.put(f, body, now)
	}
	if m.fetches[f.key] == f {
		delete(m.fetches, f.key)
	}
	for i := range m.live {
		if m.live[i] == f {
			m.live = append(m.live[:i], m.live[i+1:]...)
			break
		}
	}
	m.release(f.body)
	m.cleanup(f)
}

func (m *model) put(f *modelFetch, body *modelBody, now time.Time) {
	if old := m.entries[f.key]; old != nil {
		m.remove(old, reasonReplaced)
	}
	if !m.room(&m.stored, m.capacity, body.cost, now) {
		return
	}
	e := &modelEntry{
		key: f.key, body: body, meta: f.script.meta, stored: f.at, expires: f.at.Add(f.script.fresh),
		while: f.script.while, fault: f.script.fault, byDefault: f.script.byDefault, purges: f.purges, space: f.space,
	}
	e.body.refs++
	m.use(e)
	m.entries[f.key] = e
}

// cleanup releases the old entry and the refresh slot of a fetch.
func (m *model) cleanup(f *modelFetch) {
	if f.old != nil {
		m.release(f.old.body)
	}
	if f.background {
		m.refreshes--
	}
}

// leave removes a waiter, which may end the fetch.
func (m *model) leave(f *modelFetch, now time.Time) {
	f.waiters--
	rest := f.script.size - f.published()
	f.left = now
	far := !f.wanted && f.script.unknown || !f.wanted && rest > worthFinishing && 2*f.published() < f.script.size
	if f.end == nil && f.waiters == 0 && (f.abandoned || far) {
		f.abandoned = true
		m.finish(f, ErrAbandoned, now)
	}
	m.release(f.body)
}

// elapse abandons the fetches that have had no waiter for idleTimeout, and returns them.
func (m *model) elapse(now time.Time) (gone []*modelFetch) {
	for _, f := range m.fetches {
		if f.waiters == 0 && !now.Before(f.left.Add(idleTimeout)) {
			f.abandoned = true
			m.finish(f, ErrAbandoned, f.left.Add(idleTimeout))
			gone = append(gone, f)
		}
	}
	return gone
}

func (m *model) use(e *modelEntry) {
	m.uses++
	e.used = m.uses
}

func (m *model) release(b *modelBody) {
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
	m.stored -= e.body.cost
	m.evicted[reason]++
	m.release(e.body)
}

// room adds n to a budget and evicts the least recently used entries, in use or not.
func (m *model) room(used *int64, limit, n int64, now time.Time) bool {
	if n > limit {
		return false
	}
	for *used+n > limit {
		old := m.oldest()
		switch {
		case old == nil:
			return false
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
