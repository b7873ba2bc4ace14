package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The fleet part loads three nodes behind HAProxy, configured by haproxyFile.
const (
	fleetNodes   = 3
	haproxyFile  = "deploy/fleet/haproxy.cfg"
	killAfter    = 2 * time.Second // since the begin of a phase
	skewedKeys   = 3
	skewedClient = 64 // connections of the skewed load, each with a request under way
)

// fleetWay is how the balancer chooses the node of a request.
type fleetWay struct {
	name   string
	nodes  int
	change []string // of haproxyFile, in pairs
}

var (
	oneNode    = fleetWay{"one node with all the memory", 1, nil}
	roundRobin = fleetWay{"round robin", fleetNodes, []string{"balance uri path-only", "balance roundrobin"}}
	unbounded  = fleetWay{"a URL has its node, no bound", fleetNodes, []string{fileBound, "hash-balance-factor 0"}}
	narrow     = fleetWay{"a URL has its node, bound 150", fleetNodes, []string{fileBound, "hash-balance-factor 150"}}
	wide       = fleetWay{"a URL has its node, bound 200", fleetNodes, nil}
)

// fileBound is the bound of haproxyFile.
const fileBound = "hash-balance-factor 200"

// fleet is nodes that run behind a balancer, with an origin and a client of their own.
type fleet struct {
	config
	env      *env
	way      fleetWay
	origin   *originProcess
	client   *peer
	balancer *server
	nodes    []*server
	addrs    []string
}

// fleetSample is what one phase of a load has cost.
type fleetSample struct {
	way, phase string
	result     traceResult
	origin     originCounts
	requests   int
	busiest    float64 // share of the requests that the busiest node had
}

// hits is the share of requests that S3 was not asked for.
func (s fleetSample) hits() float64 { return 1 - float64(s.origin.Requests)/float64(s.requests) }

func (c config) runFleet(ctx context.Context, w io.Writer) error {
	memory := c.trace().hotBytes(hotShare)
	fmt.Fprintf(w, "%d requests, %.0f a second, Zipf %.1f over %d objects of %.0f MiB in all; "+
		"%d nodes with %.0f MiB of memory together; first byte of the origin after %s; "+
		"nodes, HAProxy, client and origin on cores %d and %d.\n\n",
		c.requests, c.rate, zipfExponent, c.keys, mib(c.trace().hotBytes(1)),
		fleetNodes, mib(memory), c.originDelay, c.serverCPU, c.clientCPU)
	for _, measure := range []func(context.Context, io.Writer) error{c.fleetHits, c.fleetKill, c.fleetSkew} {
		if err := measure(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// fleetHits replays the trace through every way from empty caches. The first half fills them.
func (c config) fleetHits(ctx context.Context, w io.Writer) error {
	fmt.Fprintln(w, "### Hit ratio of three nodes\n\n"+
		"| balancer | nodes x MiB | S3 requests | S3 MiB | hit ratio | p99 ms | busiest node | failed |\n"+
		"|---|---|---|---|---|---|---|---|")
	for _, way := range []fleetWay{oneNode, roundRobin, unbounded, narrow, wide} {
		s, err := c.withFleet(ctx, way, func(f *fleet) (fleetSample, error) {
			if _, err := f.load(ctx, "fill", c.half(0), nil); err != nil {
				return fleetSample{}, err
			}
			return f.load(ctx, "hits", c.half(1), nil)
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "| %s | %d x %.0f | %d | %.0f | %.1f %% | %.0f | %.0f %% | %d |\n", way.name, way.nodes,
			mib(c.trace().hotBytes(hotShare))/float64(way.nodes), s.origin.Requests, mib(s.origin.Bytes), 100*s.hits(),
			s.result.Total.quantile(0.99), 100*s.busiest, s.result.Failed)
	}
	return nil
}

// half is a half of the trace; each seed is another one over the same objects.
func (c config) half(seed uint64) traceSpec {
	return traceSpec{Keys: c.keys, Requests: c.requests / 2, Rate: c.rate, Seed: seed}
}

// fleetKill kills a node under load and starts it again, with empty memory.
func (c config) fleetKill(ctx context.Context, w io.Writer) error {
	fmt.Fprintf(w, "\n### A node is killed\n\n"+
		"Each phase is %d requests; the node is killed or started %s after its begin.\n\n"+
		"| balancer | phase | S3 requests | hit ratio | p99 ms | failed |\n|---|---|---|---|---|---|\n",
		c.requests/2, killAfter)
	for _, way := range []fleetWay{roundRobin, unbounded, wide} {
		_, err := c.withFleet(ctx, way, func(f *fleet) (s fleetSample, err error) {
			for i, phase := range []struct {
				name string
				act  func() error
			}{
				{"fill", nil},
				{"before", nil},
				{"node killed", func() error { f.nodes[1].child.Kill(); return nil }},
				{"two nodes", nil},
				{"node started", func() error { return f.startNode(ctx, 1) }},
				{"after", nil},
			} {
				if s, err = f.load(ctx, phase.name, c.half(uint64(i)), phase.act); err != nil {
					return s, err
				}
				if i > 0 {
					fmt.Fprintf(w, "| %s | %s | %d | %.1f %% | %.0f | %d |\n", way.name, phase.name,
						s.origin.Requests, 100*s.hits(), s.result.Total.quantile(0.99), s.result.Failed)
				}
			}
			return s, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fleetSkew sends half of the requests to one object.
func (c config) fleetSkew(ctx context.Context, w io.Writer) error {
	spec := traceSpec{Keys: skewedKeys, Requests: c.requests / 2}
	fmt.Fprintf(w, "\n### Bounded load\n\n"+
		"%d requests over %d objects, of which one has %.0f %%, on %d connections without a pause.\n\n",
		spec.Requests, skewedKeys, 100*zipfShares(skewedKeys)[0], skewedClient)
	fmt.Fprintln(w, "| balancer | busiest node | S3 requests | requests/s | p99 ms | failed |\n|---|---|---|---|---|---|")
	for _, way := range []fleetWay{roundRobin, unbounded, narrow, wide} {
		s, err := c.withFleet(ctx, way, func(f *fleet) (fleetSample, error) { return f.load(ctx, "skew", spec, nil) })
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "| %s | %.0f %% | %d | %.0f | %.1f | %d |\n", way.name, 100*s.busiest, s.origin.Requests,
			float64(s.requests)/s.result.Elapsed.Seconds(), s.result.Total.quantile(0.99), s.result.Failed)
	}
	return nil
}

// withFleet starts a fleet, measures it and stops it.
func (c config) withFleet(
	ctx context.Context, way fleetWay, measure func(*fleet) (fleetSample, error),
) (s fleetSample, err error) {
	e, done, err := c.newEnv()
	if err != nil {
		return s, err
	}
	defer done()
	f := &fleet{config: c, env: e, way: way, nodes: make([]*server, way.nodes), addrs: make([]string, way.nodes)}
	defer f.stop()
	if f.origin, err = startTraceOrigin(ctx, c.clientCPU, originSpec{Delay: c.originDelay}); err != nil {
		return s, err
	}
	if f.client, err = startPeer(ctx, c.clientCPU, traceCommand); err != nil {
		return s, err
	}
	e.originAddr = f.origin.addr
	e.cores = fmt.Sprintf("%d,%d", c.serverCPU, c.clientCPU)
	e.flags = []string{"--cache-memory", strconv.FormatInt(c.trace().hotBytes(hotShare)/int64(way.nodes), 10)}
	for i := range f.nodes {
		if f.addrs[i], err = freeAddr(); err == nil {
			err = f.startNode(ctx, i)
		}
		if err != nil {
			return s, err
		}
	}
	if err := f.startBalancer(ctx); err != nil {
		return s, err
	}
	return measure(f)
}

// startNode starts a node on its address, with an empty data folder.
func (f *fleet) startNode(ctx context.Context, i int) (err error) {
	e := *f.env
	e.flags = append([]string{"--listen", f.addrs[i]}, f.env.flags...)
	f.nodes[i], err = e.begin(ctx, f.binaries[0].name)
	return err
}

func (f *fleet) startBalancer(ctx context.Context) error {
	dir, addr, err := f.env.place("haproxy-")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(haproxyFile)
	if err != nil {
		return fmt.Errorf("start the benchmark in the root of the repository: %w", err)
	}
	config, err := balancerConfig(string(text), f.way, append([]string{addr}, f.addrs...))
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	isHit := func(http.Header) bool { return false } // nobody asks
	f.balancer, err = f.env.startCache(ctx, exec.CommandContext(ctx, "haproxy", "-db", "-f", file), addr, isHit)
	return err
}

// balancerConfig has the addresses of the balancer and of the nodes, no TLS and no log of
// requests. Nodes without an address are removed.
func balancerConfig(text string, way fleetWay, addrs []string) (string, error) {
	change := append([]string{
		"bind :443 ssl crt /etc/ssl/private/pictures.pem alpn h2,http/1.1", "bind " + addrs[0],
		"local0 info", "local0 emerg",
	}, way.change...)
	for i := range fleetNodes {
		sample := fmt.Sprintf("192.0.2.%d:8080", 11+i)
		if i+1 < len(addrs) {
			change = append(change, sample, addrs[i+1])
		} else {
			change = append(change, fmt.Sprintf("server node-%d", i+1), "# ")
		}
	}
	for i := 0; i < len(change); i += 2 {
		if strings.Count(text, change[i]) != 1 {
			return "", fmt.Errorf("%s has %q %d times, want once", haproxyFile, change[i], strings.Count(text, change[i]))
		}
		text = strings.Replace(text, change[i], change[i+1], 1)
	}
	return text, nil
}

func (f *fleet) stop() {
	for _, s := range append(f.nodes, f.balancer) {
		if s != nil {
			s.stop()
		}
	}
	if f.client != nil {
		f.client.stop()
	}
	if f.origin != nil {
		f.origin.stop()
	}
}

// load replays a trace. act happens meanwhile.
func (f *fleet) load(ctx context.Context, phase string, spec traceSpec, act func() error) (fleetSample, error) {
	s := fleetSample{way: f.way.name, phase: phase, requests: spec.Requests}
	before, err := f.origin.counts()
	if err != nil {
		return s, err
	}
	counts, err := f.requestsByNode(ctx)
	if err != nil {
		return s, err
	}
	var group sync.WaitGroup
	var failed error
	if act != nil {
		group.Go(func() {
			if waitUntil(ctx, time.Now().Add(killAfter)) {
				failed = act()
			}
		})
	}
	connections := mixedConnections
	if spec.Rate == 0 {
		connections = skewedClient
	}
	err = f.client.call(traceJob{Trace: spec, Addr: f.balancer.addr, Connections: connections}, &s.result)
	group.Wait()
	if err == nil {
		err = failed
	}
	if err != nil {
		return s, err
	}
	if s.origin, err = f.origin.counts(); err != nil {
		return s, err
	}
	s.origin.Requests -= before.Requests
	s.origin.Bytes -= before.Bytes
	if act == nil {
		s.busiest, err = f.busiest(ctx, counts)
	}
	fmt.Fprintf(os.Stderr, "%-30s %-13s S3 %6d requests  hits %5.1f %%  p99 %7.2f ms  failed %d %s\n",
		s.way, s.phase, s.origin.Requests, 100*s.hits(), s.result.Total.quantile(0.99), s.result.Failed, s.result.Error)
	return s, err
}

// busiest is the share of the requests since before that the busiest node had.
func (f *fleet) busiest(ctx context.Context, before []float64) (float64, error) {
	now, err := f.requestsByNode(ctx)
	most, sum := 0.0, 0.0
	for i := range now {
		most, sum = max(most, now[i]-before[i]), sum+now[i]-before[i]
	}
	return most / sum, err
}

// requestsByNode counts the requests that the nodes have had; a dead one has none.
func (f *fleet) requestsByNode(ctx context.Context) ([]float64, error) {
	counts := make([]float64, len(f.nodes))
	for i, n := range f.nodes {
		select {
		case <-n.child.Done():
			continue
		default:
		}
		m, err := n.admin.metrics(ctx)
		if err != nil {
			return nil, err
		}
		counts[i] = sumOf(m, "ixmage_http_requests_total")
	}
	return counts, nil
}
