package metrics

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CredentialInfo has the values of a credential's gauges.
type CredentialInfo struct {
	// Created is the creation time of the current key pair; zero without a key pair.
	Created     time.Time
	RotateEvery time.Duration // 0: never
	// Scope is the result of the checks: proven, weak, not-proven or violated;
	// empty before the first check.
	Scope string
}

// scopeLabels are the values of the label scope.
var scopeLabels = [...]string{"proven", "weak", "not-proven", "violated"}

// Credential sets the gauges of a credential. The first credentials up to the cap
// have series of their own. The others share the series _other: it has the number of
// each scope, the times of the credential whose rotation is due first, and the worst
// circuit, so that the cap suppresses no alert.
func (m *Metrics) Credential(name string, info CredentialInfo) {
	if validName(name) {
		m.credentials.put(name, info)
	}
}

// ForgetCredential removes every series of a credential and frees its place
// under the cap.
func (m *Metrics) ForgetCredential(name string) { m.credentials.forget(name) }

// RotationFallback counts a call to S3 that was repeated with the previous key pair
// of a credential because the current one was refused. A credential that was never
// passed to Credential counts as _other.
func (m *Metrics) RotationFallback(credential string) { m.credentials.countPreviousKey(credential) }

// credentials holds the gauges and the counter of all credentials. They are written
// when a credential changes and read at the scrape.
type credentials struct {
	created, rotate, scope, previousKey, circuit *prometheus.Desc
	places                                       int

	mu              sync.Mutex // guards the fields below
	own             map[string]*credential
	rest            map[string]*credential
	restPreviousKey uint64
}

type credential struct {
	info        CredentialInfo
	previousKey uint64 // calls, since it has a place
	circuit     int
}

func newCredentials(places int) *credentials {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, append(labels, "credential"), nil)
	}
	return &credentials{
		created: desc("credential_created_timestamp_seconds", "When the current key pair was made."),
		rotate: desc("credential_rotate_every_seconds",
			"Age at which the key pair is rotated, 0 for never."),
		scope: desc("credential_scope", "1 for the result of the last checks of the credential.", "scope"),
		previousKey: desc("rotation_fallback_total",
			"Calls to S3 repeated with the previous key pair because the current one was refused."),
		circuit: desc("origin_circuit",
			"State of the circuit to S3: 0 closed, 1 half-open, 2 open."),
		places: places,
		own:    make(map[string]*credential), rest: make(map[string]*credential),
	}
}

func (c *credentials) put(name string, info CredentialInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.findLocked(name)
	if known == nil {
		known = &credential{}
		c.rest[name] = known
	}
	known.info = info
	c.fillLocked()
}

func (c *credentials) findLocked(name string) *credential {
	if known := c.own[name]; known != nil {
		return known
	}
	return c.rest[name]
}

func (c *credentials) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.own, name)
	delete(c.rest, name)
	c.fillLocked()
}

// fillLocked gives the free places to credentials without one: to the worst
// circuit first, then to the oldest key pair.
func (c *credentials) fillLocked() {
	for len(c.own) < c.places && len(c.rest) > 0 {
		next := slices.MinFunc(slices.Collect(maps.Keys(c.rest)), func(a, b string) int {
			x, y := c.rest[a], c.rest[b]
			return cmp.Or(cmp.Compare(y.circuit, x.circuit), x.info.compareAge(y.info), cmp.Compare(a, b))
		})
		c.own[next] = c.rest[next]
		delete(c.rest, next)
	}
}

// compareAge orders the oldest key pair first and a credential without one last.
func (i CredentialInfo) compareAge(other CredentialInfo) int {
	if i.Created.IsZero() != other.Created.IsZero() {
		return other.Created.Compare(i.Created)
	}
	return i.Created.Compare(other.Created)
}

func (c *credentials) countPreviousKey(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.own[name]; known != nil {
		known.previousKey++
		return
	}
	c.restPreviousKey++
}

func (c *credentials) setCircuit(name string, state int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.findLocked(name); known != nil {
		known.circuit = state
	}
}

// Describe implements prometheus.Collector.
func (c *credentials) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.created, c.rotate, c.scope, c.previousKey, c.circuit} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *credentials) Collect(ch chan<- prometheus.Metric) {
	for _, metric := range c.read() {
		ch <- metric
	}
}

func (c *credentials) read() []prometheus.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []prometheus.Metric
	for name, known := range c.own {
		all = append(all, c.timesOf(name, known.info)...)
		all = append(all, c.previousKeyOf(name, known.previousKey), c.circuitOf(name, known.circuit))
		if s := known.info.Scope; s != "" {
			all = append(all, c.scopeOf(name, slotOf(scopeLabels[:], s, "not-proven"), 1))
		}
	}
	return append(all, c.readRestLocked()...)
}

// readRestLocked returns the metrics of the credentials without a place.
func (c *credentials) readRestLocked() []prometheus.Metric {
	var all []prometheus.Metric
	var first CredentialInfo
	var scopes [len(scopeLabels)]int
	worst := 0
	for _, known := range c.rest {
		if known.info.before(first) {
			first = known.info
		}
		worst = max(worst, known.circuit)
		if s := known.info.Scope; s != "" {
			scopes[slotOf(scopeLabels[:], s, "not-proven")]++
		}
	}
	all = append(all, c.timesOf(labelOther, first)...)
	for slot, n := range scopes {
		if n > 0 {
			all = append(all, c.scopeOf(labelOther, slot, n))
		}
	}
	if len(c.rest) > 0 {
		all = append(all, c.circuitOf(labelOther, worst))
	}
	if len(c.rest) > 0 || c.restPreviousKey > 0 {
		all = append(all, c.previousKeyOf(labelOther, c.restPreviousKey))
	}
	return all
}

// before reports whether a key pair is due for rotation before another one. If neither
// is rotated by age, the older one is first.
func (i CredentialInfo) before(other CredentialInfo) bool {
	switch {
	case i.Created.IsZero() || other.Created.IsZero():
		return other.Created.IsZero()
	case (i.RotateEvery > 0) != (other.RotateEvery > 0):
		return i.RotateEvery > 0
	}
	return i.Created.Add(i.RotateEvery).Before(other.Created.Add(other.RotateEvery))
}

func (c *credentials) timesOf(name string, info CredentialInfo) []prometheus.Metric {
	if info.Created.IsZero() {
		return nil
	}
	return []prometheus.Metric{
		prometheus.MustNewConstMetric(c.created, prometheus.GaugeValue, seconds(info.Created), name),
		prometheus.MustNewConstMetric(c.rotate, prometheus.GaugeValue, info.RotateEvery.Seconds(), name),
	}
}

func (c *credentials) scopeOf(name string, slot, n int) prometheus.Metric {
	return prometheus.MustNewConstMetric(c.scope, prometheus.GaugeValue, float64(n), scopeLabels[slot], name)
}

func (c *credentials) previousKeyOf(name string, n uint64) prometheus.Metric {
	return prometheus.MustNewConstMetric(c.previousKey, prometheus.CounterValue, float64(n), name)
}

func (c *credentials) circuitOf(name string, state int) prometheus.Metric {
	return prometheus.MustNewConstMetric(c.circuit, prometheus.GaugeValue, float64(state), name)
}

// seconds returns a time in seconds since 1970, the unit of Prometheus.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
