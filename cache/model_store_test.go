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
	m.requests[key]++
	e := m.entries[key]
	if e != nil {
		e.shadow.use()
	}
	return e
}

// hit is a fresh entry, held.
func (m *model) hit(key Key, now time.Time) *modelEntry {
	e := m.entries[key]
	if e != nil {
		e.shadow.use()
	}
	if e == nil || !e.isFresh(now) {
		return nil
	}
	m.requests[key]++
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
	if !m.admit(f, body.cost, now) {
		return
	}
	e := &modelEntry{
		key: f.key, body: body, meta: f.script.meta, stored: f.at, expires: f.at.Add(f.script.fresh),
		while: f.script.while, fault: f.script.fault, byDefault: f.script.byDefault, purges: f.purges, space: f.space,
	}
	e.body.refs++
	e.shadow = shadowOf(e)
	m.policy.add(e.shadow)
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

// shadowOf stands for e in the policy.
func shadowOf(e *modelEntry) *Entry {
	return &Entry{key: e.key, body: &body{cost: e.body.cost}}
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
	m.policy.remove(e.shadow)
	m.stored.release(e.body.cost)
	m.evicted[reason]++
	m.release(e.body)
}

// room adds n to held, and evicts entries for that, in use or not.
func (m *model) room(by, n int64, now time.Time) bool {
	if n > m.limit {
		return false
	}
	for m.held+n > m.limit {
		e := m.policy.anyOf(by)
		if e == nil {
			return false
		}
		m.evict(e, by, now)
	}
	m.held += n
	return true
}

// admit adds n to stored, and evicts entries for that, unless the policy rejects the object.
func (m *model) admit(f *modelFetch, n int64, now time.Time) bool {
	if n > m.capacity {
		return false
	}
	for a := (&admission{key: f.key, cost: n, promised: f.promised}); ; {
		e, ok := m.policy.next(a, &m.stored)
		if !ok || e == nil {
			m.rejected += a.rejected
			return ok
		}
		m.evict(e, f.key.Space, now)
	}
}

func (m *model) evict(shadow *Entry, by int64, now time.Time) {
	e := m.entries[shadow.key]
	if !e.isFresh(now) {
		m.remove(e, reasonExpired)
		return
	}
	m.remove(e, reasonCapacity)
	m.pushed[[2]int64{by, e.key.Space}]++
}
