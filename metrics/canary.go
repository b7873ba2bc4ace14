package metrics

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// CanaryResult shows whether an alias's canary could be read. The first aliases
// up to the cap have series of their own; those of the others are shown together
// as _other, which is 1 while all of them are.
func (m *Metrics) CanaryResult(alias string, ok bool) {
	if ownName(alias) {
		m.canaries.put(alias, ok)
	}
}

// ForgetCanary removes the series of an alias's canary and frees its place under
// the cap. Forget does so too.
func (m *Metrics) ForgetCanary(alias string) { m.canaries.forget(alias) }

// Canaries makes has say which aliases have a canary. It is called at every
// scrape for those that are shown, and who has none is forgotten: so the result
// of a check that was under way while its alias went does not stay for good.
func (m *Metrics) Canaries(has func(alias string) bool) {
	m.canaries.mu.Lock()
	defer m.canaries.mu.Unlock()
	m.canaries.has = has
}

// canaries are the last results by alias.
type canaries struct {
	success *prometheus.Desc
	places  int

	mu        sync.Mutex // guards the fields below; it is not held while has is called
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
		value := 0.0
		if ok {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(c.success, prometheus.GaugeValue, value, name)
	}
}

// prune forgets the aliases that have no canary any more. One that gets one
// again in this moment may be forgotten too, until its next check.
func (c *canaries) prune() {
	c.mu.Lock()
	has := c.has
	names := slices.AppendSeq(slices.Collect(maps.Keys(c.own)), maps.Keys(c.rest))
	c.mu.Unlock()
	if has != nil {
		c.forget(slices.DeleteFunc(names, has)...)
	}
}

// read is what is shown.
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
