package metrics

import "github.com/prometheus/client_golang/prometheus"

// savedCell holds the children of one value of the label by.
type savedCell struct{ requests, bytes prometheus.Counter }

// Saved counts requests to S3, and bytes of their bodies, that were not needed, by
// hit, collapsed or not_modified. It ignores any other value. Like Request it
// takes no lock and allocates nothing after the first time.
func (s *Series) Saved(by string, requests, bytes int64) {
	slot := savedSlot(by)
	if slot < 0 {
		return
	}
	cell := s.metrics.savedCell(s.cells.Load(), slot)
	if requests > 0 {
		cell.requests.Add(float64(requests))
	}
	if bytes > 0 {
		cell.bytes.Add(float64(bytes))
	}
}

func (m *Metrics) savedCell(c *cells, slot int) *savedCell {
	if cell := c.saved[slot].Load(); cell != nil {
		return cell
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.liveLocked(c)
	p := &c.saved[slot]
	if p.Load() == nil {
		p.Store(&savedCell{
			requests: m.families.savedRequests.WithLabelValues(c.alias, savedLabels[slot]),
			bytes:    m.families.savedBytes.WithLabelValues(c.alias, savedLabels[slot]),
		})
	}
	return p.Load()
}

func (c *cells) unregisterSaved(f *families) {
	for slot, label := range savedLabels {
		if c.saved[slot].Load() != nil {
			f.savedRequests.DeleteLabelValues(c.alias, label)
			f.savedBytes.DeleteLabelValues(c.alias, label)
		}
	}
}
