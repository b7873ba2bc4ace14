package metrics

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CacheStats sets the function that returns the gauges of a tier of the cache. Every
// scrape calls it. A second call for the same tier replaces the function.
func (m *Metrics) CacheStats(tier string, read func() (bytes, capacity, entries int64)) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.tiers[tier] = read
}

// Pinned sets the function that returns how many bytes of the memory tier cannot be freed.
// Every scrape calls it. A second call replaces the function.
func (m *Metrics) Pinned(read func() int64) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.pinnedBytes = read
}

// Resident sets the function that returns how many bytes the pages of the memory tier take.
// Every scrape calls it. A second call replaces the function.
func (m *Metrics) Resident(read func() int64) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.residentBytes = read
}

// Aliases sets the function that returns the number of aliases by state. Every scrape
// calls it. A second call replaces the function.
func (m *Metrics) Aliases(read func() map[string]int) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.aliases = read
}

// Running sets the function that returns how many operations run, and the time at
// which the oldest began. Every scrape calls it. A second call replaces the function.
func (m *Metrics) Running(read func() (n int, oldest time.Time)) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.operations = read
}

// LogLines sets the functions that return how many lines of the log were left out:
// blocked because the output did not take them, rate because their kind came too often.
// Every scrape calls them. A second call replaces them.
func (m *Metrics) LogLines(blocked, rate func() int64) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.logLines = map[string]func() int64{"blocked": blocked, "rate": rate}
}

// gauges are read at the scrape from the part that owns the value, so that no copy must
// be kept up to date.
type gauges struct {
	bytes, capacity, entries, states    *prometheus.Desc
	pinned, running, oldest, logDropped *prometheus.Desc
	available, resident                 *prometheus.Desc
	sessionCount, sessionExpiry         *prometheus.Desc

	// mu guards the fields below; it is not held while they are called.
	mu          sync.Mutex
	tiers       map[string]func() (bytes, capacity, entries int64)
	pinnedBytes func() int64
	aliases     func() map[string]int
	operations  func() (n int, oldest time.Time)
	logLines    map[string]func() int64 // by reason; replaced as a whole

	diskAvailable func() bool
	residentBytes func() int64
	sessions      func() (n int, next time.Duration)
}

func newGauges() *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &gauges{
		bytes:    desc("cache_bytes", "Bytes that the cache holds, overhead included.", "tier"),
		capacity: desc("cache_capacity_bytes", "Bytes that the cache may hold.", "tier"),
		entries:  desc("cache_entries", "Entries that the cache holds.", "tier"),
		pinned:   desc("cache_pinned_bytes", "Bytes of fetches and of slow readers, which the cache cannot free."),
		resident: desc("cache_resident_bytes",
			"Bytes of the pages of the memory tier, those kept for reuse included."),
		available: desc("cache_disk_available",
			"Whether the disk tier can be used; absent without one."),
		sessionCount: desc("sessions", "Sessions with temporary keys that are alive."),
		sessionExpiry: desc("session_next_expiry_seconds",
			"Time until the first of the sessions expires; absent while none does."),
		states:  desc("aliases", "Aliases in the registry.", "state"),
		running: desc("provision_operations_running", "Operations that are running."),
		oldest: desc("provision_oldest_operation_timestamp_seconds",
			"When the oldest running operation began; absent while none runs."),
		logDropped: desc("log_lines_dropped_total", "Lines that the log does not have.", "reason"),
		tiers:      make(map[string]func() (bytes, capacity, entries int64)),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		g.bytes, g.capacity, g.entries, g.pinned, g.states, g.running, g.oldest, g.logDropped, g.available, g.resident,
		g.sessionCount, g.sessionExpiry,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	g.mu.Lock()
	tiers, pinned, aliases, operations, logLines := maps.Clone(g.tiers), g.pinnedBytes, g.aliases, g.operations, g.logLines
	available, resident, sessions := g.diskAvailable, g.residentBytes, g.sessions
	g.mu.Unlock()

	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for tier, read := range tiers {
		bytes, capacity, entries := read()
		gauge(g.bytes, float64(bytes), tier)
		gauge(g.capacity, float64(capacity), tier)
		gauge(g.entries, float64(entries), tier)
	}
	if available != nil {
		gauge(g.available, oneIf(available()))
	}
	if resident != nil {
		gauge(g.resident, float64(resident()))
	}
	if pinned != nil {
		gauge(g.pinned, float64(pinned()))
	}
	if aliases != nil {
		for state, n := range aliases() {
			gauge(g.states, float64(n), state)
		}
	}
	if operations != nil {
		n, oldest := operations()
		gauge(g.running, float64(n))
		if n > 0 {
			gauge(g.oldest, seconds(oldest))
		}
	}
	if sessions != nil {
		n, next := sessions()
		gauge(g.sessionCount, float64(n))
		if next > 0 {
			gauge(g.sessionExpiry, next.Seconds())
		}
	}
	for reason, read := range logLines {
		ch <- prometheus.MustNewConstMetric(g.logDropped, prometheus.CounterValue, float64(read()), reason)
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
