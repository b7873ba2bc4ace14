package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var renewalLabels = [...]string{"ok", "denied", "throttled", "timeout", "network", "error"}

// SessionRenewal counts a call for temporary keys by its outcome: ok, denied, throttled, timeout,
// network or error.
func (m *Metrics) SessionRenewal(outcome string) {
	m.renewals.WithLabelValues(renewalLabels[slotOf(renewalLabels[:], outcome, "error")]).Inc()
}

// Sessions sets the function that returns the number of sessions, and the time until the first of
// them expires. Every scrape calls it. A second call replaces the function.
func (m *Metrics) Sessions(read func() (n int, next time.Duration)) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.sessions = read
}

func newRenewals() *prometheus.CounterVec {
	v := counters("session_renewals_total", "Calls for temporary keys of roles and of the server, by outcome.", "outcome")
	for _, label := range renewalLabels {
		v.WithLabelValues(label)
	}
	return v
}
