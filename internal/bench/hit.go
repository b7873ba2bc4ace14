package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

// runHits measures answers from memory.
func (c config) runHits(ctx context.Context, w io.Writer) error {
	e, done, err := c.newEnv()
	if err != nil {
		return err
	}
	defer done()
	servers, err := c.startAll(ctx, e)
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	if err != nil {
		return err
	}
	var all samples
	for round := range c.rounds + 1 {
		taken, err := c.hitRound(ctx, servers, round)
		if err != nil {
			return err
		}
		if round > 0 { // round 0 warms up
			all = append(all, taken...)
		}
	}
	fmt.Fprintf(w, "%d rounds of %s, %d connections, server on core %d, wrk on core %d.\n\n",
		c.rounds, c.duration, c.connections, c.serverCPU, c.clientCPU)
	all.writeHits(w, c)
	return nil
}

// startAll starts the servers, the first binary first: the bare handler copies
// its headers.
func (c config) startAll(ctx context.Context, e *env) ([]*server, error) {
	order := slices.Clone(c.servers)
	first := c.binaries[0].name
	if i := slices.Index(order, first); i > 0 {
		order[0], order[i] = order[i], order[0]
	}
	var servers []*server
	for _, name := range order {
		s, err := e.start(ctx, name)
		if err != nil {
			return servers, err
		}
		servers = append(servers, s)
		if name == first {
			if e.headers, err = s.headerLines(ctx, c.sizes); err != nil {
				return servers, err
			}
		}
	}
	return servers, nil
}

// hitRound measures every server at every size. Each round begins with
// another server, so that no server always follows the same one.
func (c config) hitRound(ctx context.Context, servers []*server, round int) (samples, error) {
	var taken samples
	for _, n := range c.sizes {
		for i := range servers {
			s := servers[(i+round)%len(servers)]
			m, err := c.measure(ctx, s, c.load(s.url(n)))
			if err != nil {
				return nil, err
			}
			m.size, m.round = n, round
			taken = append(taken, m)
			c.progress(m)
		}
	}
	return taken, nil
}

func (c config) progress(s sample) {
	fmt.Fprintf(os.Stderr, "round %d/%d  %-10s %8s  %7.0f/s  p99 %6.2f ms  cpu %6.1f us  busy %3.0f%%\n",
		s.round, c.rounds, s.server, sizeName(s.size), s.rate, p99Of(s), cpuOf(s), busyOf(s))
}

func (c config) load(url string) load {
	return load{url: url, connections: c.connections, duration: c.duration, cores: strconv.Itoa(c.clientCPU), threads: 1}
}

// measure runs the load generator once and reads the usage of the server before and
// after.
func (c config) measure(ctx context.Context, s *server, l load) (sample, error) {
	before, err := usageOf(s.child.Pid())
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w\n%s", s.name, err, s.child.Output())
	}
	r, err := l.run(ctx)
	if err != nil {
		return sample{}, err
	}
	after, err := usageOf(s.child.Pid())
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w\n%s", s.name, err, s.child.Output())
	}
	if r.Errors > 0 {
		return sample{}, fmt.Errorf("%s: %d of %d requests for %s failed\n%s",
			s.name, r.Errors, r.Requests, l.url, s.child.Output())
	}
	used := after.minus(before)
	return sample{
		server: s.name, rate: r.Rate(), p99: r.P99,
		cost: used.per(r.Requests), busy: used.cpu.Seconds() / r.Elapsed.Seconds(),
	}, nil
}
