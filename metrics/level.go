package metrics

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CacheStats shows what read returns as the gauges of a tier. It is called at
// every scrape; a later call for the same tier replaces it.
func (m *Metrics) CacheStats(tier string, read func() (bytes, capacity, entries int64)) {
	m.levels.mu.Lock()
	defer m.levels.mu.Unlock()
	m.levels.tiers[tier] = read
}

// Aliases shows what read returns, a count by state, as the gauge aliases. It
// is called at every scrape; a later call replaces it.
func (m *Metrics) Aliases(read func() map[string]int) {
	m.levels.mu.Lock()
	defer m.levels.mu.Unlock()
	m.levels.aliases = read
}

// Running shows what read returns: how many operations run, and since when the
// oldest of them has. It is called at every scrape; a later call replaces it.
func (m *Metrics) Running(read func() (n int, oldest time.Time)) {
	m.levels.mu.Lock()
	defer m.levels.mu.Unlock()
	m.levels.operations = read
}

// levels are the gauges whose values lie elsewhere and are asked for at the
// scrape, so that nobody has to keep two numbers in step.
type levels struct {
	bytes, capacity, entries, states *prometheus.Desc
	running, oldest                  *prometheus.Desc

	// mu guards the fields below; it is not held while they are called.
	mu         sync.Mutex
	tiers      map[string]func() (bytes, capacity, entries int64)
	aliases    func() map[string]int
	operations func() (n int, oldest time.Time)
}

func newLevels() *levels {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &levels{
		bytes:    desc("cache_bytes", "Bytes that the cache holds, overhead included.", "tier"),
		capacity: desc("cache_capacity_bytes", "Bytes that the cache may hold.", "tier"),
		entries:  desc("cache_entries", "Entries that the cache holds.", "tier"),
		states:   desc("aliases", "Aliases in the registry.", "state"),
		running:  desc("provision_operations_running", "Operations that have begun and not ended."),
		oldest: desc("provision_oldest_operation_timestamp_seconds",
			"When the oldest running operation began; not there while none runs."),
		tiers: make(map[string]func() (bytes, capacity, entries int64)),
	}
}

// Describe implements prometheus.Collector.
func (l *levels) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{l.bytes, l.capacity, l.entries, l.states, l.running, l.oldest} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (l *levels) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	tiers, aliases, operations := maps.Clone(l.tiers), l.aliases, l.operations
	l.mu.Unlock()

	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for tier, read := range tiers {
		bytes, capacity, entries := read()
		gauge(l.bytes, float64(bytes), tier)
		gauge(l.capacity, float64(capacity), tier)
		gauge(l.entries, float64(entries), tier)
	}
	if aliases != nil {
		for state, n := range aliases() {
			gauge(l.states, float64(n), state)
		}
	}
	if operations != nil {
		n, oldest := operations()
		gauge(l.running, float64(n))
		if n > 0 {
			gauge(l.oldest, seconds(oldest))
		}
	}
}
