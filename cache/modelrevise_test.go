package cache

import (
	"time"
)

// modelRevision is how all that began before no is to be; zero is none.
type modelRevision struct {
	no int
	is script
}

// revise is a revision of a space. Where none is, nothing is there to be revised.
func (m *model) revise(no int64, s script, now time.Time) []*modelFlight {
	space := m.spaces[no]
	if space == nil {
		return nil
	}
	_, gone := m.end(func(k Key) bool { return k.Space == no }, now)
	space.revision = modelRevision{m.purges, s}
	return gone
}

// current is e as it is to be, nil if it is to go.
func (e *modelEntry) current() *modelEntry {
	r := e.space.revision
	if e.since >= r.no {
		return e
	}
	if !r.is.keeps() || r.is.meta > e.meta {
		return nil
	}
	n := *e
	n.since, n.expires, n.while, n.fault = r.no, e.stored.Add(r.is.fresh), r.is.while, r.is.fault
	return &n
}

// revised brings the entry of key up to date, or takes it out.
func (m *model) revised(key Key) *modelEntry {
	e := m.entries[key]
	if e == nil {
		return nil
	}
	n := e.current()
	if n == nil {
		m.remove(e, reasonReplaced)
		return nil
	}
	*e = *n
	return e
}

// revise has a space live by what another load would say.
func (o *operator) revise() {
	no, s := int64(o.oneOf(3)), o.script()
	for _, f := range o.m.revise(no, s, time.Now()) {
		delete(o.feeds, f)
	}
	o.Revise(no, 0, s.source)
}

func (s script) source(meta any) *Source {
	return &Source{
		Meta: meta, MetaBytes: s.meta, Size: s.size, Fresh: s.fresh, Validate: s.validate,
		StaleWhile: s.while, StaleError: s.fault,
	}
}
