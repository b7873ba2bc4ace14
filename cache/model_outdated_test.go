package cache

import (
	"time"
)

// revalidate makes a space outdated. Where none is, nothing is there to be outdated.
func (m *model) revalidate(no int64, while time.Duration, now time.Time) []*modelFetch {
	space := m.spaces[no]
	if space == nil {
		return nil
	}
	_, gone := m.end(func(k Key) bool { return k.Space == no }, now)
	space.outdated = modelMark{m.purges, now, while}
	return gone
}

// revalidate changes a space's lifetimes. From then on no older object is served as fresh.
func (o *operator) revalidate() {
	no, while := int64(o.oneOf(3)), []time.Duration{0, time.Minute, time.Hour}[o.oneOf(3)]
	for _, f := range o.m.revalidate(no, while, time.Now()) {
		delete(o.feeds, f)
	}
	o.Revalidate(no, 0, while)
	o.bar(prefixed(Key{Space: no}), false)
}

func (s script) source(meta any) *Source {
	size := s.size
	if s.unknown {
		size = -1
	}
	return &Source{
		Meta: meta, MetaBytes: s.meta, Size: size, Measured: func(int64) any { return meta }, Fresh: s.fresh, Validate: s.validate,
		StaleWhileRevalidate: s.while, StaleIfError: s.fault, DefaultStaleWhileRevalidate: s.byDefault,
	}
}
