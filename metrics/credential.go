package metrics

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CredentialInfo is what is shown of a credential.
type CredentialInfo struct {
	// Created is when the present key pair was made; zero where there is none.
	Created     time.Time
	RotateEvery time.Duration // 0: never
	// Scope is what the checks found: proven, weak, not-proven or violated;
	// empty before there were any.
	Scope string
}

// scopeLabels are the values of scope.
var scopeLabels = [...]string{"proven", "weak", "not-proven", "violated"}

// Credential shows a credential, from now on and in place of what was told of it
// before. The first ones up to the cap have series of their own. The others are
// shown together as _other: the scopes are counted, the times are those of
// the one whose rotation is due first, and the circuit is the worst one, so that a
// cap silences no alert.
func (m *Metrics) Credential(name string, info CredentialInfo) {
	if ownName(name) {
		m.credentials.put(name, info)
	}
}

// ForgetCredential removes every series of a credential and frees its place
// under the cap.
func (m *Metrics) ForgetCredential(name string) { m.credentials.forget(name) }

// RotationFallback counts a call to S3 that was made again with the previous
// key pair of a credential, because the new one was refused. One that Credential
// was not called for counts as _other.
func (m *Metrics) RotationFallback(credential string) { m.credentials.fellBack(credential) }

// credentials are the gauges and the counter of all credentials. They are
// written when a credential changes and read at the scrape.
type credentials struct {
	created, rotate, scope, fallbacks, circuit *prometheus.Desc
	places                                     int

	mu            sync.Mutex // guards the fields below
	own           map[string]*credential
	rest          map[string]*credential
	restFallbacks uint64
}

type credential struct {
	info      CredentialInfo
	fallbacks uint64 // since it has a place
	circuit   int
}

func newCredentials(places int) *credentials {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, append(labels, "credential"), nil)
	}
	return &credentials{
		created: desc("credential_created_timestamp_seconds", "When the present key pair was made."),
		rotate: desc("credential_rotate_every_seconds",
			"How old the key pair may become before it is rotated, 0 for any age."),
		scope: desc("credential_scope", "1 for what the checks of the credential found.", "scope"),
		fallbacks: desc("rotation_fallback_total",
			"Calls to S3 made again with the previous key pair because the new one was refused."),
		circuit: desc("origin_circuit",
			"Whether calls go out to S3: 0 they do, 1 one does, to see, 2 none does."),
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

func (c *credentials) fellBack(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.own[name]; known != nil {
		known.fallbacks++
		return
	}
	c.restFallbacks++
}

func (c *credentials) turned(name string, state int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.findLocked(name); known != nil {
		known.circuit = state
	}
}

// Describe implements prometheus.Collector.
func (c *credentials) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.created, c.rotate, c.scope, c.fallbacks, c.circuit} {
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
		all = append(all, c.ages(name, known.info)...)
		all = append(all, c.fallbacksOf(name, known.fallbacks), c.circuitOf(name, known.circuit))
		if s := known.info.Scope; s != "" {
			all = append(all, c.scopeOf(name, slotOf(scopeLabels[:], s, "not-proven"), 1))
		}
	}
	return append(all, c.readRestLocked()...)
}

// readRestLocked shows the credentials without a place.
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
	all = append(all, c.ages(labelOther, first)...)
	for slot, n := range scopes {
		if n > 0 {
			all = append(all, c.scopeOf(labelOther, slot, n))
		}
	}
	if len(c.rest) > 0 {
		all = append(all, c.circuitOf(labelOther, worst))
	}
	if len(c.rest) > 0 || c.restFallbacks > 0 {
		all = append(all, c.fallbacksOf(labelOther, c.restFallbacks))
	}
	return all
}

// before reports whether a key pair is due for rotation before another, or is
// older than it where neither is ever due.
func (i CredentialInfo) before(other CredentialInfo) bool {
	switch {
	case i.Created.IsZero() || other.Created.IsZero():
		return other.Created.IsZero()
	case (i.RotateEvery > 0) != (other.RotateEvery > 0):
		return i.RotateEvery > 0
	}
	return i.Created.Add(i.RotateEvery).Before(other.Created.Add(other.RotateEvery))
}

func (c *credentials) ages(name string, info CredentialInfo) []prometheus.Metric {
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

func (c *credentials) fallbacksOf(name string, n uint64) prometheus.Metric {
	return prometheus.MustNewConstMetric(c.fallbacks, prometheus.CounterValue, float64(n), name)
}

func (c *credentials) circuitOf(name string, state int) prometheus.Metric {
	return prometheus.MustNewConstMetric(c.circuit, prometheus.GaugeValue, float64(state), name)
}

// seconds is a time as Prometheus writes it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
