package metrics

import "github.com/prometheus/client_golang/prometheus"

// The values of labels of the disk tier, except those that its owner makes.
var (
	diskReasons    = []string{"capacity", "replaced", "purged", "gone", "corrupt"}
	diskOperations = []string{"open", "read", "write", "sync", "rename", "remove", "list", "stat", "lock"}
	diskResults    = []string{"written", "failed", "dropped"}
)

// DiskTier makes the series of the disk tier, so that they exist before the first event.
func (m *Metrics) DiskTier() {
	for _, reason := range diskReasons {
		m.Evicted("disk", reason, 0)
	}
	for _, operation := range diskOperations {
		m.DiskError(operation, 0)
	}
	for _, result := range diskResults {
		m.DiskWrite(result, 0, 0)
	}
}

// DiskError counts n failed operations on files. operation is from a fixed set of the caller.
func (m *Metrics) DiskError(operation string, n int) {
	if n >= 0 {
		m.families.diskErrors.WithLabelValues(operation).Add(float64(n))
	}
}

// DiskWrite counts n objects, with bytes in all, that were to be written to disk. result is
// written, failed, or dropped if too many others waited.
func (m *Metrics) DiskWrite(result string, n int, bytes int64) {
	if n >= 0 {
		m.families.diskWrites.WithLabelValues(result).Add(float64(n))
	}
	if bytes > 0 {
		m.families.diskBytes.Add(float64(bytes))
	}
}

// Promoted counts n objects that were copied from disk to memory.
func (m *Metrics) Promoted(n int) {
	if n > 0 {
		m.families.promotions.Add(float64(n))
	}
}

// DiskHits sets the function that returns how many hits came from disk. Every scrape calls it.
func (m *Metrics) DiskHits(read func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(
		prometheus.CounterOpts{
			Namespace: namespace, Name: "cache_disk_hits_total", Help: "Hits whose bytes came from the disk tier.",
		},
		func() float64 { return float64(read()) },
	))
}

// DiskAvailable sets the function that reports whether the disk tier can be used. Every
// scrape calls it. A second call replaces the function.
func (m *Metrics) DiskAvailable(read func() bool) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.diskAvailable = read
}
