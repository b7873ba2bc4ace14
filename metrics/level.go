package metrics

import (
	"maps"
	"sync"

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

// levels are the gauges whose values lie elsewhere and are asked for at the
// scrape, so that nobody has to keep two numbers in step.
type levels struct {
	bytes, capacity, entries, states *prometheus.Desc

	// mu guards the fields below; it is not held while they are called.
	mu      sync.Mutex
	tiers   map[string]func() (bytes, capacity, entries int64)
	aliases func() map[string]int
}

func newLevels() *levels {
	desc := func(name, help, label string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, []string{label}, nil)
	}
	return &levels{
		bytes:    desc("cache_bytes", "Bytes that the cache holds, overhead included.", "tier"),
		capacity: desc("cache_capacity_bytes", "Bytes that the cache may hold.", "tier"),
		entries:  desc("cache_entries", "Entries that the cache holds.", "tier"),
		states:   desc("aliases", "Aliases in the registry.", "state"),
		tiers:    make(map[string]func() (bytes, capacity, entries int64)),
	}
}

// Describe implements prometheus.Collector.
func (l *levels) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{l.bytes, l.capacity, l.entries, l.states} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (l *levels) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	tiers, aliases := maps.Clone(l.tiers), l.aliases
	l.mu.Unlock()

	gauge := func(d *prometheus.Desc, v int64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), label)
	}
	for tier, read := range tiers {
		bytes, capacity, entries := read()
		gauge(l.bytes, bytes, tier)
		gauge(l.capacity, capacity, tier)
		gauge(l.entries, entries, tier)
	}
	if aliases == nil {
		return
	}
	for state, n := range aliases() {
		gauge(l.states, int64(n), state)
	}
}
