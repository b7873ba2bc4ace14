// Package metrics counts what the server does and shows it to Prometheus. It
// knows aliases, credentials, caches and origins only as words in labels: every
// label but the alias and the credential has a fixed set of values, and these two
// are bounded by a cap, so that no stranger can make the number of series grow.
package metrics

import (
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config is what New needs.
type Config struct {
	// Version is shown in build_info.
	Version string
	// AliasCap is how many aliases get series of their own, and how many
	// credentials; the others count as _other. With 0 all of them do.
	AliasCap int
}

// Metrics holds the counters of one server on a registry of its own. All
// methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	families *families
	levels   *levels
	aliasCap int

	credentials *credentials
	canaries    *canaries
	provision   *provision

	inFlight   atomic.Int64
	openBodies atomic.Int64

	other, unknown *Series // these two live as long as the Metrics

	// mu guards own, and in every cells the making of children and gone.
	mu  sync.RWMutex
	own map[string]*Series
}

// New returns Metrics that count from zero.
func New(cfg Config) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		families: newFamilies(),
		levels:   newLevels(),
		aliasCap: cfg.AliasCap,
		own:      make(map[string]*Series),

		credentials: newCredentials(cfg.AliasCap),
		canaries:    newCanaries(cfg.AliasCap),
		provision:   newProvision(),
	}
	m.other, m.unknown = m.newSeries(labelOther), m.newSeries(labelUnknown)
	m.families.register(m.registry)
	m.provision.register(m.registry)
	m.registry.MustRegister(
		m.levels, m.credentials, m.canaries,
		gaugeOf("http_requests_in_flight", "Requests being answered.", &m.inFlight),
		gaugeOf("origin_open_bodies", "Bodies from S3 that are open.", &m.openBodies),
		buildInfo(cfg.Version),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Handler serves the exposition.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// InFlight adds delta to the number of requests being answered.
func (m *Metrics) InFlight(delta int) { m.inFlight.Add(int64(delta)) }

// Evicted counts n entries that left a tier of the cache. Both words come from
// a fixed set of the caller's, who shows a series before its first entry with 0.
func (m *Metrics) Evicted(tier, reason string, n int) {
	if n >= 0 {
		m.families.evictions.WithLabelValues(tier, reason).Add(float64(n))
	}
}

// gaugeOf shows an integer as a gauge. An atomic integer costs a request less
// than a gauge, which swaps a float in a loop.
func gaugeOf(name, help string, v *atomic.Int64) prometheus.Collector {
	return prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help},
		func() float64 { return float64(v.Load()) },
	)
}

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info",
		Help:        "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}
