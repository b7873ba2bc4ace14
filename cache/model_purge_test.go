package cache

import (
	"strings"
	"time"
)

// detach removes fetches from the table and drops negative entries.
func (m *model) detach(match func(Key) bool, now time.Time) (p Purged, gone []*modelFetch) {
	p, gone = m.end(match, now)
	for key := range m.negative {
		if match(key) {
			delete(m.negative, key)
			p.Negative++
		}
	}
	return p, gone
}

// end removes fetches from the table.
func (m *model) end(match func(Key) bool, now time.Time) (p Purged, gone []*modelFetch) {
	m.purges++
	for key, f := range m.fetches {
		if match(key) {
			f.abandoned = true
			delete(m.fetches, key)
			p.Fetches++
			if f.waiters == 0 {
				m.finish(f, ErrAbandoned, now)
				gone = append(gone, f)
			}
		}
	}
	return p, gone
}

// purge purges all keys that match.
func (m *model) purge(match func(Key) bool, hard bool, now time.Time) (Purged, []*modelFetch) {
	p, gone := m.detach(match, now)
	for key, e := range m.entries {
		if !match(key) {
			continue
		}
		p.Entries++
		p.Bytes += e.body.cost
		if hard {
			m.remove(e, reasonPurged)
		} else {
			e.purged = modelMark{no: m.purges, at: now}
		}
	}
	return p, gone
}

// purgeSpace is a soft purge of a space, which may be the last of it.
func (m *model) purgeSpace(no int64, retire bool, now time.Time) (Purged, []*modelFetch) {
	p, gone := m.detach(func(k Key) bool { return k.Space == no }, now)
	s := m.spaces[no]
	if s == nil {
		return p, gone
	}
	s.purged = modelMark{no: m.purges, at: now}
	for _, e := range m.entries {
		if e.space == s {
			p.Entries++
			p.Bytes += e.body.cost
		}
	}
	if retire {
		delete(m.spaces, no)
	}
	return p, gone
}

// prefixed matches keys with the prefix at.
func prefixed(at Key) func(Key) bool {
	return func(k Key) bool { return k.Space == at.Space && strings.HasPrefix(k.Object, at.Object) }
}
