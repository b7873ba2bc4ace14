package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The labels of operations. A kind that is none is shown as other; an end that
// nobody can name did not go well.
var (
	kindLabels   = [...]string{"provision", "rotate", "remove", "other"}
	endingLabels = [...]string{"done", "failed"}
)

// Operation counts an operation that ended: its kind is provision, rotate or
// remove, its outcome done or failed.
func (m *Metrics) Operation(kind, outcome string) {
	k, e := slotOf(kindLabels[:], kind, "other"), slotOf(endingLabels[:], outcome, "failed")
	m.provision.operations.WithLabelValues(kindLabels[k], endingLabels[e]).Inc()
}

// Step records how long a step of an operation took. Names come from a fixed
// set of the caller's; past a bound further ones are shown as other.
func (m *Metrics) Step(name string, d time.Duration) {
	m.provision.steps.WithLabelValues(m.provision.step(name)).Observe(d.Seconds())
}

// Propagation records the time from the making of a key to its first use that
// worked.
func (m *Metrics) Propagation(d time.Duration) { m.provision.propagation.Observe(d.Seconds()) }

// Orphans shows how many things stand in IAM under our path and belong to no
// credential. Before the first call nothing is shown.
func (m *Metrics) Orphans(n int) {
	m.provision.orphans.Set(float64(n))
	m.provision.looked.Do(func() { m.registry.MustRegister(m.provision.orphans) })
}

// provision are the families of operations.
type provision struct {
	operations  *prometheus.CounterVec   // kind, outcome
	steps       *prometheus.HistogramVec // step
	propagation prometheus.Histogram
	orphans     prometheus.Gauge
	looked      sync.Once // registers orphans

	mu    sync.Mutex // guards names
	names map[string]struct{}
}

// maxSteps is far above what the operations have together.
const maxSteps = 64

func newProvision() *provision {
	p := &provision{
		operations: counters("provision_operations_total",
			"Operations that ended, by how.", "kind", "outcome"),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "provision_step_duration_seconds", Help: "Time of a step of an operation.",
			// From a call to IAM to the soak of a rotation.
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 3600},
		}, []string{"step"}),
		propagation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "provision_propagation_seconds",
			Help:    "Time from the making of a key to its first use that worked.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 15, 20, 30, 60, 120},
		}),
		orphans: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "provision_orphans",
			Help: "Things in IAM under our path that belong to no credential.",
		}),
		names: make(map[string]struct{}),
	}
	// From 0 on, so that a rate shows the first one.
	for _, kind := range kindLabels[:len(kindLabels)-1] {
		for _, ending := range endingLabels {
			p.operations.WithLabelValues(kind, ending)
		}
	}
	return p
}

func (p *provision) register(r prometheus.Registerer) {
	r.MustRegister(p.operations, p.steps, p.propagation)
}

// step is the name that a step is shown under.
func (p *provision) step(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.names[name]; ok {
		return name
	}
	if len(p.names) >= maxSteps || !ownName(name) {
		return "other"
	}
	p.names[name] = struct{}{}
	return name
}
