package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Request has the values of one answered request.
type Request struct {
	Method string
	Code   int
	// Cache is the result of the cache: hit, miss, collapsed, stale, revalidated,
	// negative or bypass; none, or any other value, if the cache was not asked.
	Cache    string
	Duration time.Duration
	// FirstByte is the time until the answer began; zero if it did not begin.
	FirstByte time.Duration
	Bytes     int64 // of the body that were sent
	Aborted   bool  // the client closed the connection before the end
}

// Series counts the requests of one alias. Get it once per alias and keep it: Request
// takes no lock and allocates nothing, except the first time that a combination of
// labels occurs. It is safe for concurrent use.
//
// After Forget a Series counts as _other, so that an answer under way at the deletion
// of its alias is counted and does not create the alias's series again.
type Series struct {
	metrics *Metrics
	cells   atomic.Pointer[cells]
}

// Series returns the handle of an alias, or of _unknown for "" and for invalid names.
// For aliases past the cap it is the handle of _other.
func (m *Metrics) Series(alias string) *Series {
	switch {
	case alias == labelOther:
		return m.other
	case !validName(alias):
		return m.unknown
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.own[alias]; ok {
		return s
	}
	if len(m.own) >= m.aliasCap {
		return m.other
	}
	s := m.newSeries(alias)
	m.own[alias] = s
	return s
}

func (m *Metrics) newSeries(alias string) *Series {
	s := &Series{metrics: m}
	s.cells.Store(&cells{alias: alias})
	return s
}

// Forget removes every series of an alias, its canary included, and frees its place
// under the cap. Its handles count as _other afterwards; Series returns a new one.
func (m *Metrics) Forget(alias string) {
	m.ForgetCanary(alias)
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.own[alias]
	if !ok {
		return
	}
	delete(m.own, alias)
	old := s.cells.Swap(m.other.cells.Load())
	old.forgotten = true
	old.unregister(m.families)
}

// Shared reports whether s counts as _other, together with other aliases.
func (s *Series) Shared() bool { return s.cells.Load() == s.metrics.other.cells.Load() }

// Request counts one answered request.
func (s *Series) Request(q Request) {
	c, m := s.cells.Load(), s.metrics
	m.requestCell(c, methodSlot(q.Method), codeSlot(q.Code)).Inc()

	slot := cacheSlot(q.Cache)
	cell := m.cacheCell(c, slot)
	cell.duration.Observe(q.Duration.Seconds())
	if q.FirstByte > 0 {
		cell.firstByte.Observe(q.FirstByte.Seconds())
	}
	if q.Bytes > 0 {
		cell.bytes.Add(float64(q.Bytes))
	}
	if slot != cacheNone {
		cell.requests.Inc()
	}
	if q.Aborted {
		cell.aborts.Inc()
	}
}

// cells are the children of one alias, each created at its first use. A cell is never
// replaced, so readers need only the atomic load.
//
// The creation of a cell races with Forget:
//
//  1. a request loads the cells of "shop"
//  2. Forget("shop") swaps them for those of _other and unregisters their children
//  3. the request does not find its cell and would create it: the series of "shop"
//     would exist again, and nothing would remove them
//
// Therefore a cell is created under Metrics.mu, which Forget holds too, and never in
// forgotten cells: step 3 creates and uses the cell of _other. A request that found
// its cell before step 2 counts into a child that is no longer shown.
type cells struct {
	alias     string
	forgotten bool // guarded by Metrics.mu

	requests [methodSlots][codeSlots]atomic.Pointer[requestCell]
	cache    [cacheSlots]atomic.Pointer[cacheCell]
	outcomes [outcomeSlots]atomic.Pointer[requestCell]
	origin   atomic.Pointer[originCell]
	saved    [savedSlots]atomic.Pointer[savedCell]
	evicted  [evictedSlots]atomic.Pointer[requestCell]

	jobs       [jobSlots]atomic.Pointer[requestCell]
	signatures [signatureSlots]atomic.Pointer[requestCell]
	transform  atomic.Pointer[transformCell]
}

// requestCell wraps the interface, because an atomic pointer needs a concrete type.
type requestCell struct{ prometheus.Counter }

type cacheCell struct {
	duration, firstByte     prometheus.Observer
	bytes, requests, aborts prometheus.Counter
}

func (m *Metrics) requestCell(c *cells, method, code int) *requestCell {
	if cell := c.requests[method][code].Load(); cell != nil {
		return cell
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.liveLocked(c)
	p := &c.requests[method][code]
	if p.Load() == nil {
		p.Store(&requestCell{m.families.requests.WithLabelValues(c.alias, methodLabels[method], codeLabel(code))})
	}
	return p.Load()
}

func (m *Metrics) cacheCell(c *cells, slot int) *cacheCell {
	if cell := c.cache[slot].Load(); cell != nil {
		return cell
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.liveLocked(c)
	p := &c.cache[slot]
	if p.Load() == nil {
		p.Store(m.families.cacheCell(c.alias, slot))
	}
	return p.Load()
}

// liveLocked returns c, or the cells of _other if c was forgotten.
func (m *Metrics) liveLocked(c *cells) *cells {
	if c.forgotten {
		return m.other.cells.Load()
	}
	return c
}

func (f *families) cacheCell(alias string, slot int) *cacheCell {
	label := cacheLabels[slot]
	cell := &cacheCell{
		duration:  f.duration.WithLabelValues(alias, label),
		firstByte: f.firstByte.WithLabelValues(alias, label),
		bytes:     f.bytes.WithLabelValues(alias, label),
		aborts:    f.aborts.WithLabelValues(alias),
	}
	if slot != cacheNone {
		cell.requests = f.cached.WithLabelValues(alias, label)
	}
	return cell
}

// unregister removes the children of c from their vectors. It deletes them one by one:
// a deletion by the alias alone would read every series of every alias.
func (c *cells) unregister(f *families) {
	for method := range c.requests {
		for code := range c.requests[method] {
			if c.requests[method][code].Load() != nil {
				f.requests.DeleteLabelValues(c.alias, methodLabels[method], codeLabel(code))
			}
		}
	}
	for slot, label := range cacheLabels {
		if c.cache[slot].Load() != nil {
			f.duration.DeleteLabelValues(c.alias, label)
			f.firstByte.DeleteLabelValues(c.alias, label)
			f.bytes.DeleteLabelValues(c.alias, label)
			f.cached.DeleteLabelValues(c.alias, label)
		}
	}
	f.aborts.DeleteLabelValues(c.alias)
	c.unregisterOrigin(f)
	c.unregisterSaved(f)
	c.unregisterEvicted(f)
	c.unregisterTransform(f)
}
