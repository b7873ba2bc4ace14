package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Request is what one answered request adds to the counters.
type Request struct {
	Method string
	Code   int
	// Cache is what the cache did: hit, miss, collapsed, stale, revalidated,
	// negative or bypass; none, or any other word, when it was not asked.
	Cache    string
	Duration time.Duration
	// FirstByte is the time until the answer began; zero when it never did.
	FirstByte time.Duration
	Bytes     int64 // of the body, as far as it was sent
	Aborted   bool  // the client went away before the end
}

// Series counts the requests of one alias. Get it once per alias and keep it:
// a Request through it takes no lock and allocates nothing, except the first
// time a combination of labels is seen. It is safe for concurrent use.
//
// After Forget a Series counts as _other, so that an answer under way when its
// alias goes is neither lost nor brings the alias's series back.
type Series struct {
	metrics *Metrics
	cells   atomic.Pointer[cells]
}

// Series returns the handle of an alias, "" being all names that are none.
// Past the cap it is the handle of _other.
func (m *Metrics) Series(alias string) *Series {
	switch {
	case alias == labelOther:
		return m.other
	case !ownName(alias):
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

// Forget removes every series of an alias and frees its place under the cap.
// Handles of the alias count as _other from now on; Series gives a new one.
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
	old.gone = true
	old.unregister(m.families)
}

// Shared reports whether this counts as _other: other aliases do so too.
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

// cells are the children of one alias, each made when it is first needed. A
// cell, once made, stays; so readers need only the atomic load.
//
// Making one races with Forget:
//
//  1. a request loads the cells of "shop"
//  2. Forget("shop") swaps them for those of _other and unregisters what stands
//     in them
//  3. the request finds its cell missing and would make it: the series of
//     "shop" would be back, and nobody left to remove them
//
// So a cell is made under Metrics.mu, which Forget holds too, and not in cells
// that are gone: step 3 makes and uses the cell of _other. A request that had
// found its cell before step 2 counts into a child that is no longer shown.
type cells struct {
	alias string
	gone  bool // guarded by Metrics.mu

	requests [methodSlots][codeSlots]atomic.Pointer[requestCell]
	cache    [cacheSlots]atomic.Pointer[cacheCell]
	outcomes [outcomeSlots]atomic.Pointer[requestCell]
	origin   atomic.Pointer[originCell]
	saved    [savedSlots]atomic.Pointer[savedCell]
}

// requestCell wraps the interface, because an atomic pointer wants a type.
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
	c = m.presentLocked(c)
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
	c = m.presentLocked(c)
	p := &c.cache[slot]
	if p.Load() == nil {
		p.Store(m.families.cacheCell(c.alias, slot))
	}
	return p.Load()
}

// presentLocked returns c, or the cells of _other when c was forgotten.
func (m *Metrics) presentLocked(c *cells) *cells {
	if c.gone {
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

// unregister removes from the exposition what was made for c. It goes by the
// cells rather than by a search for the alias: a search would read every
// series of every alias.
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
}
