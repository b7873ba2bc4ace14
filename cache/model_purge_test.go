package cache

import (
	"strings"
	"time"
)

// detach is a purge of flights, and of what is missing.
func (m *model) detach(match func(Key) bool, now time.Time) (p Purged, gone []*modelFlight) {
	p, gone = m.end(match, now)
	for key := range m.missing {
		if match(key) {
			delete(m.missing, key)
			p.Negative++
		}
	}
	return p, gone
}

// end takes flights out of the table.
func (m *model) end(match func(Key) bool, now time.Time) (p Purged, gone []*modelFlight) {
	m.purges++
	for key, f := range m.flights {
		if match(key) {
			f.abandoned = true
			delete(m.flights, key)
			p.Fetches++
			if f.seats == 0 {
				m.land(f, ErrAbandoned, now)
				gone = append(gone, f)
			}
		}
	}
	return p, gone
}

// purge is a purge of what begins with a prefix, or of one key.
func (m *model) purge(match func(Key) bool, hard bool, now time.Time) (Purged, []*modelFlight) {
	p, gone := m.detach(match, now)
	for key, e := range m.entries {
		if !match(key) {
			continue
		}
		p.Entries++
		p.Bytes += e.blob.cost
		if hard {
			m.remove(e, reasonPurged)
		} else {
			e.purged = modelMark{no: m.purges, at: now}
		}
	}
	return p, gone
}

// purgeSpace is a soft purge of a space, which may be the last of it.
func (m *model) purgeSpace(no int64, retire bool, now time.Time) (Purged, []*modelFlight) {
	p, gone := m.detach(func(k Key) bool { return k.Space == no }, now)
	s := m.spaces[no]
	if s == nil {
		return p, gone
	}
	s.purged = modelMark{no: m.purges, at: now}
	for _, e := range m.entries {
		if e.space == s {
			p.Entries++
			p.Bytes += e.blob.cost
		}
	}
	if retire {
		delete(m.spaces, no)
	}
	return p, gone
}

// prefixed matches what begins with a key.
func prefixed(at Key) func(Key) bool {
	return func(k Key) bool { return k.Space == at.Space && strings.HasPrefix(k.Object, at.Object) }
}
