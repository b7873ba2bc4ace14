package metrics

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	jobLabels       = [...]string{"ok", "refused", "failed", "timeout", "crashed", "overloaded", "limited", "abandoned"}
	signatureLabels = [...]string{"ok", "missing", "unknown_kid", "bad", "expired"}
	formatLabels    = [...]string{"jpeg", "png", "webp", "avif", "gif", "raw"}
	killLabels      = [...]string{
		"deadline", "crash", "answer", "internal", "memory", "jobs", "owner", "abandoned", "source", "starved",
		"close", "other",
	}
	offLabels = [...]string{"not_configured", "worker"}
)

const (
	jobSlots       = len(jobLabels)
	signatureSlots = len(signatureLabels)
)

// TransformJob has the values of one job of a worker. A part that did not take place is zero.
type TransformJob struct {
	// Outcome is ok, refused, failed, timeout, crashed, overloaded, limited or abandoned. Any other
	// value counts as failed.
	Outcome string
	// Format of the result: jpeg, png, webp, avif, gif or raw. Any other value is not counted.
	Format string
	Queue  time.Duration // until a worker was free
	Worker time.Duration // in which a worker was busy
	Decode time.Duration
	Encode time.Duration
	Saved  int64 // bytes by which the result is smaller than its source
}

// TransformState is the state of transforms. The counters begin with the process.
type TransformState struct {
	// Off is why transforms are off: not_configured, or worker if none can be started. It is empty
	// if they are on.
	Off         string
	Busy, Idle  int // workers
	QueueLength int // jobs that wait for a worker
}

// Transforms sets the function that returns the state of transforms. Without a call they are
// not_configured. Every scrape calls it. A second call replaces the function.
func (m *Metrics) Transforms(read func() TransformState) { m.transform.read.Store(&read) }

// WorkerStarted counts a worker that is ready, or that could not be started.
func (m *Metrics) WorkerStarted(ok bool) {
	if ok {
		m.transform.starts.Inc()
	} else {
		m.transform.failures.Inc()
	}
}

// WorkerEnded counts a worker that was ready and has ended, by a reason of the fixed set of
// killLabels. Any other value counts as other.
func (m *Metrics) WorkerEnded(reason string) {
	m.transform.kills.WithLabelValues(killLabels[slotOf(killLabels[:], reason, "other")]).Inc()
}

// TransformJob counts a job that ended. Like OriginRequest it takes the alias by name.
func (m *Metrics) TransformJob(alias string, j TransformJob) {
	c, t := m.find(alias), m.transform
	m.jobCell(c, slotOf(jobLabels[:], j.Outcome, "failed")).Inc()
	if j.Queue > 0 {
		t.queued.Observe(j.Queue.Seconds())
	}
	if j.Worker > 0 {
		m.transformCell(c).worker.Add(j.Worker.Seconds())
	}
	if j.Saved > 0 {
		m.transformCell(c).saved.Add(float64(j.Saved))
	}
	if j.Decode > 0 {
		t.decode.Observe(j.Decode.Seconds())
	}
	if j.Encode > 0 && slices.Contains(formatLabels[:], j.Format) {
		t.encode.WithLabelValues(j.Format).Observe(j.Encode.Seconds())
	}
}

// SignatureCheck counts a check of a signature: ok, missing, unknown_kid, bad or expired. Any other
// value counts as bad. Like Request it takes no lock and allocates nothing after the first time.
func (s *Series) SignatureCheck(outcome string) {
	s.metrics.signatureCell(s.cells.Load(), slotOf(signatureLabels[:], outcome, "bad")).Inc()
}

// transform has the series of transforms that no alias has.
type transform struct {
	queued, decode prometheus.Histogram
	encode         *prometheus.HistogramVec // format
	starts         prometheus.Counter
	failures       prometheus.Counter
	kills          *prometheus.CounterVec // reason

	available, off, workers, queue *prometheus.Desc
	read                           atomic.Pointer[func() TransformState]
}

func newTransform() *transform {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	opts := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: []float64{
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, // a job is killed after some seconds
		}}
	}
	t := &transform{
		queued: prometheus.NewHistogram(opts("transform_queue_seconds", "Time that a job waited for a worker.")),
		decode: prometheus.NewHistogram(
			opts("transform_decode_seconds", "Time in which a worker decoded and transformed a picture.")),
		encode: prometheus.NewHistogramVec(
			opts("transform_encode_seconds", "Time in which a worker encoded a result."), []string{"format"}),
		starts: counter("transform_worker_starts_total", "Workers that were started."),
		failures: counter("transform_worker_start_failures_total",
			"Workers that could not be started, or whose sandbox was refused."),
		kills: counters("transform_worker_kills_total", "Workers that were killed, or that died.", "reason"),

		available: desc("transform_available", "Whether transforms are on."),
		off:       desc("transform_off", "Why transforms are off; the reason that holds has 1.", "reason"),
		workers:   desc("transform_workers", "Workers that run.", "state"),
		queue:     desc("transform_queue_length", "Jobs that wait for a worker."),
	}
	for _, reason := range killLabels {
		t.kills.WithLabelValues(reason)
	}
	return t
}

func (t *transform) register(r prometheus.Registerer) {
	r.MustRegister(t, t.queued, t.decode, t.encode, t.starts, t.failures, t.kills)
}

// Describe implements prometheus.Collector.
func (t *transform) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{t.available, t.off, t.workers, t.queue} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (t *transform) Collect(ch chan<- prometheus.Metric) {
	s := TransformState{Off: offLabels[0]}
	if read := t.read.Load(); read != nil {
		s = (*read)()
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(t.available, oneIf(s.Off == ""))
	for _, reason := range offLabels {
		gauge(t.off, oneIf(reason == s.Off), reason)
	}
	gauge(t.workers, float64(s.Busy), "busy")
	gauge(t.workers, float64(s.Idle), "idle")
	gauge(t.queue, float64(s.QueueLength))
}

// transformCell holds the children of an alias that have no other label.
type transformCell struct{ worker, saved prometheus.Counter }

func (m *Metrics) transformCell(c *cells) *transformCell {
	if cell := c.transform.Load(); cell != nil {
		return cell
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.liveLocked(c)
	if c.transform.Load() == nil {
		c.transform.Store(&transformCell{
			worker: m.families.workerSeconds.WithLabelValues(c.alias),
			saved:  m.families.transformSaved.WithLabelValues(c.alias),
		})
	}
	return c.transform.Load()
}

func (m *Metrics) jobCell(c *cells, slot int) *requestCell {
	if cell := c.jobs[slot].Load(); cell != nil {
		return cell
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.liveLocked(c)
	p := &c.jobs[slot]
	if p.Load() == nil {
		p.Store(&requestCell{m.families.jobs.WithLabelValues(c.alias, jobLabels[slot])})
	}
	return p.Load()
}

func (m *Metrics) signatureCell(c *cells, slot int) *requestCell {
	if cell := c.signatures[slot].Load(); cell != nil {
		return cell
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.liveLocked(c)
	p := &c.signatures[slot]
	if p.Load() == nil {
		p.Store(&requestCell{m.families.signatures.WithLabelValues(c.alias, signatureLabels[slot])})
	}
	return p.Load()
}

func (c *cells) unregisterTransform(f *families) {
	for slot, label := range jobLabels {
		if c.jobs[slot].Load() != nil {
			f.jobs.DeleteLabelValues(c.alias, label)
		}
	}
	for slot, label := range signatureLabels {
		if c.signatures[slot].Load() != nil {
			f.signatures.DeleteLabelValues(c.alias, label)
		}
	}
	if c.transform.Load() != nil {
		f.workerSeconds.DeleteLabelValues(c.alias)
		f.transformSaved.DeleteLabelValues(c.alias)
	}
}
