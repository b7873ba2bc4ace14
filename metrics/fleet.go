package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Fleet is the state of a node that shares its registry with others.
type Fleet struct {
	Revision int64 // up to which it has applied every change
	Lag      int64 // changes that it has not applied
	Stale    time.Duration
	// Leases are those that the node has, by the part of their name before a colon.
	Leases       []string
	Live, Silent int // nodes that this one knows of
	ClockOffset  time.Duration
}

// Fleet sets the function that returns the state of the node. Without a call there are no series
// of it. Every scrape calls it.
func (m *Metrics) Fleet(read func() Fleet) { m.fleet.read.Store(&read) }

// fleet shows a Fleet.
type fleet struct {
	revision, lag, stale, leases, nodes, offset *prometheus.Desc
	read                                        atomic.Pointer[func() Fleet]
}

var leaseLabels = [...]string{"schedule", "reconcile", "housekeeping", "credential", "policy", "other"}

func newFleet() *fleet {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &fleet{
		revision: desc("registry_revision", "The revision of the registry up to which this node has applied every change."),
		lag:      desc("registry_lag", "Changes of the registry that this node has not applied yet."),
		stale: desc("registry_stale_seconds",
			"For how long this node has not been able to follow the registry; 0 while it does."),
		leases: desc("lease_held", "Leases that this node has, by what they are for.", "name"),
		nodes:  desc("nodes", "Nodes that share the registry, as this node knows them.", "state"),
		offset: desc("node_clock_offset_seconds", "The clock of this node minus that of the database."),
	}
}

// Describe implements prometheus.Collector.
func (f *fleet) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.revision, f.lag, f.stale, f.leases, f.nodes, f.offset} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f *fleet) Collect(ch chan<- prometheus.Metric) {
	read := f.read.Load()
	if read == nil {
		return
	}
	s := (*read)()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(f.revision, float64(s.Revision))
	gauge(f.lag, float64(s.Lag))
	gauge(f.stale, s.Stale.Seconds())
	gauge(f.offset, s.ClockOffset.Seconds())
	gauge(f.nodes, float64(s.Live), "live")
	gauge(f.nodes, float64(s.Silent), "silent")
	var held [len(leaseLabels)]int
	for _, name := range s.Leases {
		held[slotOf(leaseLabels[:], name, "other")]++
	}
	for i, n := range held {
		gauge(f.leases, float64(n), leaseLabels[i])
	}
}
