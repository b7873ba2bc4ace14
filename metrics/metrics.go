// Package metrics has the Prometheus metrics of the server. It knows aliases,
// credentials, caches and origins only as label values. Every label except alias and
// credential has a fixed set of values, and a cap bounds these two, so that clients
// cannot make the number of series grow.
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

// Config has the parameters of New.
type Config struct {
	// Version is a label of build_info.
	Version string
	// AliasCap is the number of aliases with their own series, and of credentials. The
	// others count as _other; with 0 all do.
	AliasCap int
}

// Metrics holds the metrics of one server in a registry of its own. All methods are
// safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	families *families
	gauges   *gauges
	aliasCap int

	credentials *credentials
	canaries    *canaries
	provision   *provision
	fleet       *fleet
	transform   *transform
	renewals    *prometheus.CounterVec // outcome

	inFlight   atomic.Int64
	openBodies atomic.Int64

	other, unknown *Series // never forgotten

	// mu guards own, and in every cells the creation of children and forgotten.
	mu  sync.RWMutex
	own map[string]*Series
}

// New returns Metrics with all counters at zero.
func New(cfg Config) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		families: newFamilies(),
		gauges:   newGauges(),
		aliasCap: cfg.AliasCap,
		own:      make(map[string]*Series),

		credentials: newCredentials(cfg.AliasCap),
		canaries:    newCanaries(cfg.AliasCap),
		provision:   newProvision(),
		fleet:       newFleet(),
		transform:   newTransform(),
		renewals:    newRenewals(),
	}
	m.other, m.unknown = m.newSeries(labelOther), m.newSeries(labelUnknown)
	m.families.register(m.registry)
	m.provision.register(m.registry)
	m.transform.register(m.registry)
	m.registry.MustRegister(
		m.gauges, m.credentials, m.canaries, m.renewals, m.fleet,
		gaugeOf("http_requests_in_flight", "Requests being answered.", &m.inFlight),
		gaugeOf("origin_open_bodies", "Bodies from S3 that are open.", &m.openBodies),
		buildInfo(cfg.Version),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Handler serves the metrics in the text format of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// InFlight adds delta to the number of requests being answered.
func (m *Metrics) InFlight(delta int) { m.inFlight.Add(int64(delta)) }

// Shed counts n connections or requests that a limit refused or closed. The reason is from
// a fixed set of the caller. A call with n = 0 creates the series.
func (m *Metrics) Shed(reason string, n int) {
	if n >= 0 {
		m.families.shed.WithLabelValues(reason).Add(float64(n))
	}
}

// OpenConnections makes open the source of the gauge of public connections.
func (m *Metrics) OpenConnections(open func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{
			Namespace: namespace, Name: "http_connections", Help: "Connections that are open on the public listener.",
		},
		func() float64 { return float64(open()) },
	))
}

// Evicted counts n entries that left a tier of the cache. Both labels are from a fixed
// set of the caller. A call with n = 0 creates the series.
func (m *Metrics) Evicted(tier, reason string, n int) {
	if n >= 0 {
		m.families.evictions.WithLabelValues(tier, reason).Add(float64(n))
	}
}

// Rejected counts n objects that a tier of the cache did not store. A call with n = 0 creates
// the series.
func (m *Metrics) Rejected(tier string, n int) {
	if n >= 0 {
		m.families.rejected.WithLabelValues(tier).Add(float64(n))
	}
}

// ClientCut counts n clients that were cut because they read too slowly. reason is from a
// fixed set of the caller. A call with n = 0 creates the series.
func (m *Metrics) ClientCut(reason string, n int) {
	if n >= 0 {
		m.families.cuts.WithLabelValues(reason).Add(float64(n))
	}
}

// gaugeOf makes a gauge of an atomic integer. An update costs less than that of a
// Prometheus gauge, which compares and swaps a float in a loop.
func gaugeOf(name, help string, v *atomic.Int64) prometheus.Collector {
	return prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help},
		func() float64 { return float64(v.Load()) },
	)
}

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info",
		Help:        "Always 1; the labels have the versions.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}
