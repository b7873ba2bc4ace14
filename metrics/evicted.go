package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Slots of evictedLabels.
const (
	evictedOwn = iota
	evictedPushed
	evictedLost
)

// Pushed counts n entries of the alias lost that were evicted to make room for an object of the
// alias by: for both, or as own if they are the same. by is "" if no object needs the room.
// Aliases without series of their own, and lost = "", count as _other.
func (m *Metrics) Pushed(by, lost string, n int) {
	if n <= 0 {
		return
	}
	if by == lost && by != "" {
		m.known(by).evicted(evictedOwn, n)
		return
	}
	if by != "" {
		m.known(by).evicted(evictedPushed, n)
	}
	m.known(lost).evicted(evictedLost, n)
}

// known is Series for an alias that must get no series by this call: it may have been
// deleted, and Forget would not be called again.
func (m *Metrics) known(alias string) *Series {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if s, ok := m.own[alias]; ok {
		return s
	}
	return m.other
}

func (s *Series) evicted(slot, n int) {
	s.metrics.evictedCell(s.cells.Load(), slot).Add(float64(n))
}

func (m *Metrics) evictedCell(c *cells, slot int) prometheus.Counter {
	if cell := c.evicted[slot].Load(); cell != nil {
		return cell
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.liveLocked(c)
	p := &c.evicted[slot]
	if p.Load() == nil {
		p.Store(&requestCell{m.families.aliasEvictions.WithLabelValues(c.alias, evictedLabels[slot])})
	}
	return p.Load()
}

// Evictions returns what Evicted has counted, by tier and reason.
func (m *Metrics) Evictions() map[string]map[string]int64 {
	return countsOf(m.families.evictions, "tier", "reason")
}

// AliasEvictions returns what Pushed has counted, by alias and role: own, pushed and lost.
func (m *Metrics) AliasEvictions() map[string]map[string]int64 {
	return countsOf(m.families.aliasEvictions, "alias", "role")
}

// countsOf reads the counters of v by two labels.
func countsOf(v *prometheus.CounterVec, outer, inner string) map[string]map[string]int64 {
	series := make(chan prometheus.Metric)
	go func() {
		defer close(series)
		v.Collect(series)
	}()
	counts := make(map[string]map[string]int64)
	for metric := range series {
		var d dto.Metric
		if metric.Write(&d) != nil { // of a counter it cannot fail
			continue
		}
		labels := make(map[string]string, len(d.GetLabel()))
		for _, l := range d.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if counts[labels[outer]] == nil {
			counts[labels[outer]] = make(map[string]int64)
		}
		counts[labels[outer]][labels[inner]] = int64(d.GetCounter().GetValue())
	}
	return counts
}

func (c *cells) unregisterEvicted(f *families) {
	for slot, label := range evictedLabels {
		if c.evicted[slot].Load() != nil {
			f.aliasEvictions.DeleteLabelValues(c.alias, label)
		}
	}
}
