package metrics

import "github.com/prometheus/client_golang/prometheus"

const namespace = "ixmage"

// families are the vectors whose children cells keep after the first lookup.
type families struct {
	requests  *prometheus.CounterVec   // alias, method, code
	duration  *prometheus.HistogramVec // alias, cache
	firstByte *prometheus.HistogramVec // alias, cache
	bytes     *prometheus.CounterVec   // alias, cache
	aborts    *prometheus.CounterVec   // alias
	shed      *prometheus.CounterVec   // reason
	cuts      *prometheus.CounterVec   // reason

	cached    *prometheus.CounterVec // alias, cache
	evictions *prometheus.CounterVec // tier, reason
	rejected  *prometheus.CounterVec // tier

	aliasEvictions *prometheus.CounterVec // alias, role

	diskErrors *prometheus.CounterVec // operation
	diskWrites *prometheus.CounterVec // result
	diskBytes  prometheus.Counter
	promotions prometheus.Counter

	originRequests *prometheus.CounterVec   // alias, outcome
	originDuration *prometheus.HistogramVec // alias
	originBytes    *prometheus.CounterVec   // alias
	originRetries  *prometheus.CounterVec   // alias

	savedRequests *prometheus.CounterVec // alias, by
	savedBytes    *prometheus.CounterVec // alias, by

	jobs           *prometheus.CounterVec // alias, outcome
	workerSeconds  *prometheus.CounterVec // alias
	transformSaved *prometheus.CounterVec // alias
	signatures     *prometheus.CounterVec // alias, outcome
}

func newFamilies() *families {
	return &families{
		requests: counters("http_requests_total",
			"Requests answered on the public listener, health checks left out.", "alias", "method", "code"),
		duration: histograms("http_request_duration_seconds",
			"Time from the request's first line to the end of its answer.", "alias", "cache"),
		firstByte: histograms("http_time_to_first_byte_seconds",
			"Time from the request's first line to the first byte of its answer.", "alias", "cache"),
		bytes: counters("http_response_bytes_total",
			"Body bytes sent to clients.", "alias", "cache"),
		aborts: counters("http_client_aborts_total",
			"Answers that ended early because the client went away.", "alias"),
		shed: counters("http_shed_total",
			"Connections and requests that were refused or closed because of a limit.", "reason"),
		cuts: counters("http_clients_cut_total",
			"Connections closed because the client read an answer too slowly, by reason.", "reason"),

		cached: counters("cache_requests_total",
			"Requests that asked the cache, by what it did.", "alias", "cache"),
		evictions: counters("cache_evictions_total",
			"Entries that left the cache.", "tier", "reason"),
		rejected: counters("cache_rejected_total",
			"Objects that were not stored, because the entries that they would have evicted are requested more often.", "tier"),

		aliasEvictions: counters("cache_alias_evictions_total",
			"Entries evicted from memory for capacity, by the part that the alias has in it.", "alias", "role"),

		diskErrors: counters("cache_disk_errors_total",
			"Operations on files of the disk tier that failed.", "operation"),
		diskWrites: counters("cache_disk_writes_total",
			"Objects that were to be written to the disk tier, by what became of it.", "result"),
		diskBytes:  counter("cache_disk_written_bytes_total", "Body bytes written to the disk tier."),
		promotions: counter("cache_promotions_total", "Objects copied from the disk tier to memory."),

		originRequests: counters("origin_requests_total",
			"Calls to S3, by how they ended.", "alias", "outcome"),
		originDuration: histograms("origin_request_duration_seconds",
			"Time of a call to S3, its body included.", "alias"),
		originBytes: counters("origin_bytes_total",
			"Body bytes received from S3.", "alias"),
		originRetries: counters("origin_retries_total",
			"Calls to S3 repeated after a failure.", "alias"),

		savedRequests: counters("saved_requests_total",
			"Calls to S3 that were not needed, by what saved them.", "alias", "by"),
		savedBytes: counters("saved_bytes_total",
			"Body bytes that S3 did not have to send, by what saved them.", "alias", "by"),

		jobs: counters("transform_jobs_total",
			"Transformations that were not in the cache, by how they ended.", "alias", "outcome"),
		workerSeconds: counters("transform_worker_seconds_total",
			"Time in which workers were busy.", "alias"),
		transformSaved: counters("transform_saved_bytes_total",
			"Bytes by which results of transformations were smaller than their sources.", "alias"),
		signatures: counters("signature_checks_total",
			"Checks of signed URLs, by result.", "alias", "outcome"),
	}
}

func (f *families) register(r prometheus.Registerer) {
	r.MustRegister(
		f.requests, f.duration, f.firstByte, f.bytes, f.aborts, f.shed, f.cuts,
		f.cached, f.evictions, f.rejected, f.aliasEvictions,
		f.diskErrors, f.diskWrites, f.diskBytes, f.promotions,
		f.originRequests, f.originDuration, f.originBytes, f.originRetries,
		f.savedRequests, f.savedBytes,
		f.jobs, f.workerSeconds, f.transformSaved, f.signatures,
	)
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(
		prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

func histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help,
		// A hit from memory takes a fraction of a millisecond; a slow reader of a
		// large object takes half a minute. Classic buckets work with every
		// Prometheus without a setting.
		Buckets: []float64{
			.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05,
			.1, .25, .5, 1, 2.5, 5, 10, 30,
		},
	}, labels)
}
