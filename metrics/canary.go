package metrics

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// CanaryResult records whether an alias's canary was readable. The first aliases up to
// the cap have series of their own; the others share the series _other, which is 1
// while all of them are.
func (m *Metrics) CanaryResult(alias string, ok bool) {
	if validName(alias) {
		m.canaries.put(alias, ok)
	}
}

// ForgetCanary removes the series of an alias's canary and frees its place under
// the cap. Forget calls it.
func (m *Metrics) ForgetCanary(alias string) { m.canaries.forget(alias) }

// Canaries sets has, which reports whether an alias has a canary. Every scrape calls
// it for the aliases that are shown and forgets those without a canary, because a
// check under way while its alias is deleted reports its result afterwards.
func (m *Metrics) Canaries(has func(alias string) bool) {
	m.canaries.mu.Lock()
	defer m.canaries.mu.Unlock()
	m.canaries.has = has
}

// canaries holds the last result of each alias.
type canaries struct {
	success *prometheus.Desc
	places  int

	mu        sync.Mutex // guards the fields below; not held while has is called
	has       func(alias string) bool
	own, rest map[string]bool
}

func newCanaries(places int) *canaries {
	return &canaries{
		success: prometheus.NewDesc(prometheus.BuildFQName(namespace, "", "canary_success"),
			"Whether the alias's canary could be read when it was last tried.", []string{"alias"}, nil),
		places: places, own: make(map[string]bool), rest: make(map[string]bool),
	}
}

func (c *canaries) put(alias string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, placed := c.own[alias]
	if !placed && len(c.own) >= c.places {
		c.rest[alias] = ok
		return
	}
	c.own[alias] = ok
	delete(c.rest, alias)
}

func (c *canaries) forget(aliases ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range aliases {
		delete(c.own, name)
		delete(c.rest, name)
	}
}

// Describe implements prometheus.Collector.
func (c *canaries) Describe(ch chan<- *prometheus.Desc) { ch <- c.success }

// Collect implements prometheus.Collector.
func (c *canaries) Collect(ch chan<- prometheus.Metric) {
	c.prune()
	for name, ok := range c.read() {
		ch <- prometheus.MustNewConstMetric(c.success, prometheus.GaugeValue, oneIf(ok), name)
	}
}

// prune forgets the aliases that have no canary any more. An alias that gets a canary
// again at this moment may be forgotten too, until its next check.
func (c *canaries) prune() {
	c.mu.Lock()
	has := c.has
	names := slices.AppendSeq(slices.Collect(maps.Keys(c.own)), maps.Keys(c.rest))
	c.mu.Unlock()
	if has != nil {
		c.forget(slices.DeleteFunc(names, has)...)
	}
}

// read returns the values to show, by label.
func (c *canaries) read() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	shown := make(map[string]bool, len(c.own)+1)
	maps.Copy(shown, c.own)
	if len(c.rest) > 0 {
		shown[labelOther] = true
	}
	for _, ok := range c.rest {
		shown[labelOther] = shown[labelOther] && ok
	}
	return shown
}
