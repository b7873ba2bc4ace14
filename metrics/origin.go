package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// originCell holds the children of an alias that have no other label.
type originCell struct {
	duration       prometheus.Observer
	bytes, retries prometheus.Counter
}

// OriginRequest counts a finished call to S3 by its outcome: ok, not_modified, not_found,
// denied, bad_credential, throttled, timeout, network, error or aborted.
//
// The Origin methods take the alias by name. An alias without a Series counts as
// _other: a call that ends after Forget must not take a place under the cap, because
// no later call would free it.
func (m *Metrics) OriginRequest(alias, outcome string, d time.Duration) {
	c := m.find(alias)
	m.outcomeCell(c, outcomeSlot(outcome)).Inc()
	m.originCell(c).duration.Observe(d.Seconds())
}

// OriginBytes counts n body bytes that came from S3.
func (m *Metrics) OriginBytes(alias string, n int64) {
	if n > 0 {
		m.originCell(m.find(alias)).bytes.Add(float64(n))
	}
}

// OriginRetries counts n repeated calls to S3.
func (m *Metrics) OriginRetries(alias string, n int) {
	if n > 0 {
		m.originCell(m.find(alias)).retries.Add(float64(n))
	}
}

// OriginOpenBodies adds delta to the number of open bodies.
func (m *Metrics) OriginOpenBodies(delta int) { m.openBodies.Add(int64(delta)) }

// OriginCircuit sets the state of a credential's circuit to S3: 0 closed, 1 half-open,
// 2 open. It does nothing for a credential that was never passed to Credential.
func (m *Metrics) OriginCircuit(credential string, state int) {
	m.credentials.setCircuit(credential, state)
}

// find returns the cells of an alias that has a place, else those of _other.
func (m *Metrics) find(alias string) *cells {
	if alias == "" {
		return m.unknown.cells.Load()
	}
	m.mu.RLock()
	s, ok := m.own[alias]
	m.mu.RUnlock()
	if !ok {
		s = m.other
	}
	return s.cells.Load()
}

func (m *Metrics) outcomeCell(c *cells, slot int) *requestCell {
	if cell := c.outcomes[slot].Load(); cell != nil {
		return cell
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.liveLocked(c)
	p := &c.outcomes[slot]
	if p.Load() == nil {
		p.Store(&requestCell{m.families.originRequests.WithLabelValues(c.alias, outcomeLabels[slot])})
	}
	return p.Load()
}

func (m *Metrics) originCell(c *cells) *originCell {
	if cell := c.origin.Load(); cell != nil {
		return cell
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.liveLocked(c)
	if c.origin.Load() == nil {
		c.origin.Store(&originCell{
			duration: m.families.originDuration.WithLabelValues(c.alias),
			bytes:    m.families.originBytes.WithLabelValues(c.alias),
			retries:  m.families.originRetries.WithLabelValues(c.alias),
		})
	}
	return c.origin.Load()
}

func (c *cells) unregisterOrigin(f *families) {
	for slot, label := range outcomeLabels {
		if c.outcomes[slot].Load() != nil {
			f.originRequests.DeleteLabelValues(c.alias, label)
		}
	}
	f.originDuration.DeleteLabelValues(c.alias)
	f.originBytes.DeleteLabelValues(c.alias)
	f.originRetries.DeleteLabelValues(c.alias)
}
