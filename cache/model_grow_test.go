package cache

import (
	"io"
	"time"

	"ixmage/cache/arena"
)

// unknownCost is the cost of a body of unknown size in the beginning.
func unknownCost(key Key, s script) int64 {
	return cost(key, &Source{Size: -1, MetaBytes: s.meta})
}

// grow makes room for the bytes that have been given, and for the next one unless they are the
// last. Without room it ends the fetch.
func (m *model) grow(f *modelFetch, last bool, now time.Time) {
	for f.script.unknown && f.end == nil && (f.given > f.have || f.given == f.have && !last) {
		next := min(m.objectMax, 2*f.have, f.have+growStep)
		n := bodyCost(next) - bodyCost(f.have)
		switch {
		case !f.full && f.have < m.objectMax && m.room(f.key.Space, n, now):
			f.have = next
			f.body.cost += n
			continue
		case f.given > f.have:
			m.outgrow(f, now)
		}
		f.full = true
		return
	}
}

// outgrow ends a fetch whose body has no room for its object.
func (m *model) outgrow(f *modelFetch, now time.Time) {
	f.gone, f.given, f.tail = f.given, f.have, io.EOF
	if f.have == m.objectMax {
		m.marks[f.key] = now.Add(hitForPassTTL)
	}
	if f.old != nil {
		m.remove(f.old, reasonReplaced)
	}
	background := f.background
	f.background = false // a refresh that does not fail
	m.finish(f, errOutgrown, now)
	if background {
		m.refreshes--
	}
}

// measure gives the entry of a complete body of unknown size a copy of the right size, if there
// is room for both.
func (m *model) measure(f *modelFetch, now time.Time) *modelBody {
	spare := bodyCost(f.have) - bodyCost(max(f.script.size, arena.PageSize))
	m.held -= spare
	f.body.cost -= spare
	if n := f.script.cost(f.key); m.room(f.key.Space, n, now) {
		return &modelBody{cost: n, refs: 1}
	}
	f.body.refs++
	return f.body
}
