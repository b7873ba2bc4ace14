package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The labels of operations. An unknown kind counts as other, an unknown outcome as
// failed.
var (
	kindLabels = [...]string{"provision", "rotate", "remove", "other"}
	endLabels  = [...]string{"done", "failed", "superseded"}
)

// Operation counts a finished operation. Its kind is provision, rotate or remove, its
// outcome done, failed or superseded.
func (m *Metrics) Operation(kind, outcome string) {
	k, e := slotOf(kindLabels[:], kind, "other"), slotOf(endLabels[:], outcome, "failed")
	m.provision.operations.WithLabelValues(kindLabels[k], endLabels[e]).Inc()
}

// Step records the duration of a step of an operation. Names are from a fixed set of the
// caller; after maxSteps names a new one counts as other.
func (m *Metrics) Step(name string, d time.Duration) {
	m.provision.steps.WithLabelValues(m.provision.step(name)).Observe(d.Seconds())
}

// Propagation records the time from the creation of a key to its first success.
func (m *Metrics) Propagation(d time.Duration) { m.provision.propagation.Observe(d.Seconds()) }

// Orphans sets the number of users, keys and policies in IAM, under the path of this
// installation, that match no credential. The gauge is absent before the first call.
func (m *Metrics) Orphans(n int) {
	m.provision.orphans.Set(float64(n))
	m.provision.orphansOnce.Do(func() { m.registry.MustRegister(m.provision.orphans) })
}

// provision has the families of operations.
type provision struct {
	operations  *prometheus.CounterVec   // kind, outcome
	steps       *prometheus.HistogramVec // step
	propagation prometheus.Histogram
	orphans     prometheus.Gauge
	orphansOnce sync.Once // registers orphans

	mu    sync.Mutex // guards names
	names map[string]struct{}
}

// maxSteps is far above the number of steps of all operations.
const maxSteps = 64

func newProvision() *provision {
	p := &provision{
		operations: counters("provision_operations_total",
			"Operations that ended, by outcome.", "kind", "outcome"),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "provision_step_duration_seconds", Help: "Time of a step of an operation.",
			// From a call to IAM to the soak of a rotation.
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 3600},
		}, []string{"step"}),
		propagation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "provision_propagation_seconds",
			Help:    "Time from the creation of a key to its first success.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 15, 20, 30, 60, 120},
		}),
		orphans: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "provision_orphans",
			Help: "Users, keys and policies in IAM under our path that match no credential.",
		}),
		names: make(map[string]struct{}),
	}
	// The series begin at 0, so that a rate includes the first operation.
	for _, kind := range kindLabels[:len(kindLabels)-1] {
		for _, ending := range endLabels {
			p.operations.WithLabelValues(kind, ending)
		}
	}
	return p
}

func (p *provision) register(r prometheus.Registerer) {
	r.MustRegister(p.operations, p.steps, p.propagation)
}

// step returns the label of a step.
func (p *provision) step(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.names[name]; ok {
		return name
	}
	if len(p.names) >= maxSteps || !validName(name) {
		return "other"
	}
	p.names[name] = struct{}{}
	return name
}
