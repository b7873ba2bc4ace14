package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// Shares of the mixed load.
const (
	hotShare   = 0.9  // of requests, over the objects that fit into the larger budget
	abortShare = 0.05 // of requests, whose client goes away
)

// mixedConnections is more than an open load needs unless the server stalls.
const mixedConnections = 128

// mixedServers are the caches that take part besides ixmage.
var mixedServers = []string{nameHeld, nameNginx, nameVarnish}

// mixedSample is one replay of the trace by one server.
type mixedSample struct {
	server string
	budget int64
	round  int
	result traceResult
	origin originCounts
	held   holding
	cost   cost
}

// holding is what a cache held while it was watched.
type holding struct{ mean, peak float64 }

// runMixed replays a trace through caches of the same budget.
func (c config) runMixed(ctx context.Context, w io.Writer) error {
	trace := c.trace()
	hot := trace.hotBytes(hotShare)
	budgets := []int64{hot, hot / 4}
	var all []mixedSample
	for round := range min(c.rounds, c.mixedRounds) {
		for _, budget := range budgets {
			taken, err := c.mixedRound(ctx, budget, round)
			if err != nil {
				return err
			}
			all = append(all, taken...)
		}
	}
	fmt.Fprintf(w, "%d requests, %.0f a second, Zipf %.1f over %d objects of %.0f MiB in all; "+
		"%.0f %% of the requests go to %.0f MiB; %.0f %% of the clients go away within the body; "+
		"first byte of the origin after %s; server on core %d, client and origin on core %d.\n\n",
		trace.Requests, trace.Rate, zipfExponent, trace.Keys, mib(trace.hotBytes(1)), 100*hotShare, mib(hot),
		100*abortShare, c.originDelay, c.serverCPU, c.clientCPU)
	c.writeMixed(w, all, budgets)
	c.addMixed(all, budgets)
	return nil
}

func (c config) trace() traceSpec {
	return traceSpec{Keys: c.keys, Requests: c.requests, Rate: c.rate, Aborts: abortShare}
}

func (c config) mixedNames() []string {
	var names []string
	for _, b := range c.binaries {
		names = append(names, b.name)
	}
	return append(names, mixedServers...)
}

// mixedRound has every server replay the trace, each from an empty cache. Each round
// begins with another server.
func (c config) mixedRound(ctx context.Context, budget int64, round int) ([]mixedSample, error) {
	names := c.mixedNames()
	var taken []mixedSample
	for i := range names {
		s, err := c.mixedRun(ctx, names[(i+round)%len(names)], budget)
		if err != nil {
			return nil, err
		}
		s.round = round
		taken = append(taken, s)
		fmt.Fprintf(os.Stderr, "round %d/%d  %-10s %4.0f MiB  origin %6d requests %6.0f MiB  held %4.0f MiB  "+
			"p50 %6.2f ms  p99 %7.2f ms  failed %d %s\n",
			round+1, c.mixedRounds, s.server, mib(budget), s.origin.Requests, mib(s.origin.Bytes), s.held.mean,
			s.result.Total.quantile(0.5), s.result.Total.quantile(0.99), s.result.Failed, s.result.Error)
	}
	return taken, nil
}

// mixedRun starts a server with an origin of its own and replays the trace.
func (c config) mixedRun(ctx context.Context, name string, budget int64) (s mixedSample, err error) {
	e, done, err := c.newEnv()
	if err != nil {
		return s, err
	}
	defer done()
	origin, err := startTraceOrigin(ctx, c.clientCPU, originSpec{Delay: c.originDelay})
	if err != nil {
		return s, err
	}
	defer origin.stop()
	client, err := startPeer(ctx, c.clientCPU, traceCommand)
	if err != nil {
		return s, err
	}
	defer client.stop()
	e.originAddr, e.budget, e.openFiles = origin.addr, budget, ""
	e.flags = append(e.flags, "--cache-memory", strconv.FormatInt(budget, 10))
	server, err := e.begin(ctx, name)
	if err != nil {
		return s, err
	}
	defer server.stop()
	before, err := usageOf(server.child.Pid())
	if err != nil {
		return s, err
	}
	s = mixedSample{server: name, budget: budget}
	watch := watchHeld(ctx, server)
	err = client.call(traceJob{Trace: c.trace(), Addr: server.addr, Connections: mixedConnections}, &s.result)
	s.held = watch()
	if err != nil {
		return s, err
	}
	after, err := usageOf(server.child.Pid())
	if err != nil {
		return s, fmt.Errorf("%s: %w\n%s", name, err, server.child.Output())
	}
	s.cost = after.minus(before).per(c.requests)
	if s.origin, err = origin.counts(); err != nil {
		return s, err
	}
	if s.result.Failed > c.requests/100 {
		err = errors.New("more than a hundredth failed: " + s.result.Error)
	}
	return s, err
}

// watchHeld asks the cache each second for the bytes that it holds, until the returned
// function is called.
func watchHeld(ctx context.Context, s *server) (end func() holding) {
	ctx, cancel := context.WithCancel(ctx)
	var values []float64
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if n, err := s.held(ctx); err == nil {
				values = append(values, mib(n))
			}
		}
	})
	return func() holding {
		cancel()
		group.Wait()
		var h holding
		// The first half fills the cache.
		for i, v := range values {
			h.peak = max(h.peak, v)
			if i >= len(values)/2 {
				h.mean += v / float64(len(values)-len(values)/2)
			}
		}
		return h
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// writeMixed prints the tables of the mixed part.
func (c config) writeMixed(w io.Writer, all []mixedSample, budgets []int64) {
	names := c.mixedNames()
	fmt.Fprintln(w, "| budget | server | origin requests | origin MiB | p50 ms | p99 ms | first byte p99 ms | "+
		"CPU µs/request | held MiB (peak) | failed |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|")
	for _, budget := range budgets {
		for _, name := range names {
			m := mixedOf(all, name, budget)
			fmt.Fprintf(w, "| %.0f MiB | %s | %.0f | %.0f | %.2f | %.2f | %.2f | %.0f | %.0f (%.0f) | %d |\n", mib(budget), name,
				m.requests, m.bytes, m.total.quantile(0.5), m.total.quantile(0.99), m.first.quantile(0.99), m.cpu,
				m.held.mean, m.held.peak, m.failed)
		}
	}

	fmt.Fprintf(w, "\n%s\n", ratioHeader)
	requests := func(s mixedSample) float64 { return float64(s.origin.Requests) }
	bytes := func(s mixedSample) float64 { return float64(s.origin.Bytes) }
	for _, budget := range budgets {
		for _, name := range names[:len(c.binaries)] {
			for _, other := range names[1:] {
				if other == name {
					continue
				}
				row := func(what string, figure func(mixedSample) float64, g goal) {
					values := pairedRatios(mixedSeries(all, name, budget, figure), mixedSeries(all, other, budget, figure))
					c.goals.ratio(w, what+", "+name+" / "+other, fmt.Sprintf("%.0f MiB", mib(budget)), ratio{values, g})
				}
				row("origin bytes", bytes, mixedGoal(other))
				row("origin requests", requests, goal{})
			}
		}
	}
}

// mixedGoal is fewer bytes than the caches that keep to the budget.
func mixedGoal(other string) goal {
	if other == nameHeld || other == nameVarnish {
		return belowOne()
	}
	return goal{}
}

// mixedSeries is one figure by round.
func mixedSeries(all []mixedSample, name string, budget int64, figure func(mixedSample) float64) map[int]float64 {
	values := make(map[int]float64)
	for _, s := range all {
		if s.server == name && s.budget == budget {
			values[s.round] = figure(s)
		}
	}
	return values
}

// mixedFigures are those of all rounds of one server and budget.
type mixedFigures struct {
	requests, bytes, cpu float64 // medians; bytes in MiB
	total, first         histogram
	held                 holding
	failed               int
}

func mixedOf(all []mixedSample, name string, budget int64) (m mixedFigures) {
	var requests, bytes, cpu, mean []float64
	for _, s := range all {
		if s.server != name || s.budget != budget {
			continue
		}
		requests = append(requests, float64(s.origin.Requests))
		bytes = append(bytes, mib(s.origin.Bytes))
		cpu = append(cpu, s.cost.cpu)
		mean = append(mean, s.held.mean)
		m.held.peak = max(m.held.peak, s.held.peak)
		m.total.merge(s.result.Total)
		m.first.merge(s.result.FirstByte)
		m.failed += s.result.Failed
	}
	m.requests, m.bytes, m.cpu = quantile(requests, 0.5), quantile(bytes, 0.5), quantile(cpu, 0.5)
	m.held.mean = quantile(mean, 0.5)
	return m
}
