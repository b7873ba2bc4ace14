package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// The part about growth requests small objects, whose cost is the server's own.
const (
	growObject  = 512
	growWorkers = 32
	growMemory  = "3GiB" // more than a million entries take
	paperCores  = 16
)

// step is a server of some size: so many entries, aliases or cores.
type step struct {
	count  int
	server *server
	load   load
}

// growth is one way to grow.
type growth struct {
	config
	what    string // entries, aliases
	counts  []int
	prepare func(ctx context.Context, s *server, count int) error
	// path is that of object or alias %d.
	path string
}

// runGrow measures how the cost of a hit depends on the number of entries, of aliases and
// of cores. Servers of all sizes run at once and take turns.
func (c config) runGrow(ctx context.Context, w io.Writer) error {
	for _, g := range []growth{
		{config: c, what: "entries", counts: c.entries, prepare: fillEntries, path: "/" + bucket + "/" + growKey("%d")},
		{config: c, what: "aliases", counts: c.aliases, prepare: fillAliases, path: "/a%d/" + growKey("0")},
	} {
		if err := g.run(ctx, w); err != nil {
			return err
		}
	}
	return c.runCores(ctx, w)
}

// growKey is traceKey for a number that is filled in later.
func growKey(id string) string { return "t" + id + "-" + strconv.Itoa(growObject) + ".png" }

func (g growth) run(ctx context.Context, w io.Writer) error {
	e, done, err := g.newEnv()
	if err != nil {
		return err
	}
	defer done()
	origin, err := startTraceOrigin(ctx, g.clientCPU, originSpec{})
	if err != nil {
		return err
	}
	defer origin.stop()
	e.originAddr, e.flags = origin.addr, []string{"--cache-memory", growMemory}
	var steps []step
	defer func() {
		for _, s := range steps {
			s.server.stop()
		}
	}()
	for _, count := range g.counts {
		s, err := e.begin(ctx, g.binaries[0].name)
		if err != nil {
			return err
		}
		one := step{count: count, server: s, load: g.load("http://" + s.addr)}
		steps = append(steps, one)
		fmt.Fprintf(os.Stderr, "%d %s\n", count, g.what)
		if err := g.prepare(ctx, s, count); err != nil {
			return fmt.Errorf("prepare %d %s: %w\n%s", count, g.what, err, s.child.Output())
		}
		script := filepath.Join(e.dir, g.what+strconv.Itoa(count)+".lua")
		if err := os.WriteFile(script, growScript(g.path, count), 0o600); err != nil {
			return err
		}
		steps[len(steps)-1].load.script = script
	}
	all, err := g.measureSteps(ctx, steps)
	if err != nil {
		return err
	}
	return g.write(w, steps, all)
}

// measureSteps has every server take its turn in every round. The size of a sample is the
// count of its step.
func (c config) measureSteps(ctx context.Context, steps []step) (samples, error) {
	var all samples
	for round := range c.rounds + 1 {
		for i := range steps {
			s := steps[(i+round)%len(steps)]
			m, err := c.measure(ctx, s.server, s.load)
			if err != nil {
				return nil, err
			}
			m.size, m.round = s.count, round
			fmt.Fprintf(os.Stderr, "round %d/%d  %8d  %7.0f/s  cpu %6.1f us\n", round, c.rounds, s.count, m.rate, cpuOf(m))
			if round > 0 {
				all = append(all, m)
			}
		}
	}
	return all, nil
}

// write prints the table and adds the chart.
func (g growth) write(w io.Writer, steps []step, all samples) error {
	name := g.binaries[0].name
	fmt.Fprintf(w, "### %s%s\n\nHits of %d bytes over all of them in random order, %d rounds of %s.\n\n",
		strings.ToUpper(g.what[:1]), g.what[1:], growObject, g.rounds, g.duration)
	fmt.Fprintf(w, "| %s | CPU µs/request | to the first | requests/s | resident MiB | bytes each |\n", g.what)
	fmt.Fprintln(w, "|---|---|---|---|---|---|")
	line := series{Name: "hit of " + strconv.Itoa(growObject) + " bytes"}
	var least int64
	for i, s := range steps {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.server.child.Pid()))
		if err != nil {
			return err
		}
		resident, err := sumFields(kibibytes(string(status)), "VmRSS")
		if err != nil {
			return err
		}
		each := "–"
		if i == 0 {
			least = resident
		} else {
			each = strconv.FormatInt((resident-least)<<10/int64(s.count-steps[0].count), 10)
		}
		cpu := all.series(name, s.count, cpuOf)
		cost := spreadOf(values(cpu))
		ratios := pairedRatios(cpu, all.series(name, steps[0].count, cpuOf))
		fmt.Fprintf(w, "| %d | %s | %s | %s | %.0f | %s |\n", s.count, cost.format("%.1f"), spreadOf(ratios).format("%.3f"),
			spreadOf(values(all.series(name, s.count, rateOf))).format("%.0f"), float64(resident)/1024, each)
		line.Points = append(line.Points, point{X: float64(s.count), Y: cost.median, Low: cost.low, High: cost.high})
	}
	fmt.Fprintln(w)
	g.charts.add(chart{
		File: "grow-" + g.what + ".svg", Title: "Processor time of a hit and the number of " + g.what,
		X: g.what, Y: "µs", LogX: true, Series: []series{line},
	})
	return nil
}

// growScript has wrk fill random numbers below count into the path.
func growScript(path string, count int) []byte {
	return fmt.Appendf(nil, `math.randomseed(3)
local form = "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n"
function request() return string.format(form, math.random(0, %d)) end
`, path, count-1)
}

// fillEntries requests count objects.
func fillEntries(ctx context.Context, s *server, count int) error {
	return inParallel(ctx, count, func(c *traceConn, i int) error {
		c.addr = s.addr
		_, _, err := c.get(traceRequest{key: i, abortAt: -1}, growObject)
		return err
	})
}

// fillAliases makes count aliases with the credential of the first one, and requests one
// object through each.
func fillAliases(ctx context.Context, s *server, count int) error {
	return inParallel(ctx, count, func(c *traceConn, i int) error {
		name := "a" + strconv.Itoa(i)
		if err := s.access.register(ctx, s.admin, name, bucket); err != nil {
			return err
		}
		c.addr, c.alias = s.addr, name
		_, _, err := c.get(traceRequest{abortAt: -1}, growObject)
		return err
	})
}

// inParallel calls do with the numbers below count.
func inParallel(ctx context.Context, count int, do func(*traceConn, int) error) error {
	var next atomic.Int64
	var group sync.WaitGroup
	errs := make(chan error, growWorkers)
	for range growWorkers {
		group.Go(func() {
			c := traceConn{buf: make([]byte, growObject)}
			defer c.close()
			for i := int(next.Add(1)) - 1; i < count && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := do(&c, i); err != nil {
					next.Store(int64(count)) // the others end too
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return ctx.Err()
	}
}

// runCores measures one and two cores. Both servers may use both cores, which they share
// with wrk; they differ in GOMAXPROCS. The processor time of a request tells what two
// cores would serve if they had no other work.
func (c config) runCores(ctx context.Context, w io.Writer) error {
	e, done, err := c.newEnv()
	if err != nil {
		return err
	}
	defer done()
	e.cores = strconv.Itoa(c.serverCPU) + "," + strconv.Itoa(c.clientCPU)
	var steps []step
	defer func() {
		for _, s := range steps {
			s.server.stop()
		}
	}()
	for _, count := range []int{1, 2} {
		e.environ = []string{"GOMAXPROCS=" + strconv.Itoa(count)}
		s, err := e.start(ctx, c.binaries[0].name)
		if err != nil {
			return err
		}
		l := c.load(s.url(c.sizes[0]))
		l.cores, l.threads = e.cores, 2
		steps = append(steps, step{count: count, server: s, load: l})
	}
	all, err := c.measureSteps(ctx, steps)
	if err != nil {
		return err
	}
	c.writeCores(w, all)
	return nil
}

// writeCores prints what was measured, and what follows on paper for more cores.
func (c config) writeCores(w io.Writer, all samples) {
	name := c.binaries[0].name
	one, two := all.series(name, 1, cpuOf), all.series(name, 2, cpuOf)
	ratios := spreadOf(pairedRatios(two, one))
	fmt.Fprintf(w, "### Cores\n\nHits of %s; one server with GOMAXPROCS=1 and one with 2, both on cores %d and %d "+
		"with wrk, %d rounds of %s.\n\n",
		sizeName(c.sizes[0]), c.serverCPU, c.clientCPU, c.rounds, c.duration)
	fmt.Fprintln(w, "| cores | CPU µs/request | to one core | speed-up | |\n|---|---|---|---|---|")
	fmt.Fprintf(w, "| 1 | %s | 1 | 1 | measured |\n", spreadOf(values(one)).format("%.1f"))
	fmt.Fprintf(w, "| 2 | %s | %s | %.2f | measured |\n", spreadOf(values(two)).format("%.1f"), ratios.format("%.3f"),
		2/ratios.median)
	fmt.Fprintf(w, "| %d | | | %.1f (%.1f–%.1f) | on paper, Amdahl |\n", paperCores, speedup(paperCores, ratios.median),
		speedup(paperCores, ratios.high), speedup(paperCores, ratios.low))
	measured := series{Name: "measured", Points: []point{
		{X: 1, Y: 1}, {X: 2, Y: 2 / ratios.median, Low: 2 / ratios.high, High: 2 / ratios.low},
	}}
	paper, ideal := series{Name: "on paper (Amdahl)", Dashed: true}, series{Name: "ideal", Dashed: true}
	for n := 1; n <= paperCores; n++ {
		paper.Points = append(paper.Points, point{X: float64(n), Y: speedup(n, ratios.median)})
		ideal.Points = append(ideal.Points, point{X: float64(n), Y: float64(n)})
	}
	c.charts.add(chart{
		File: "grow-cores.svg", Title: "Hits and cores: 1 and 2 measured, more on paper", X: "cores", Y: "speed-up",
		Series: []series{measured, paper, ideal},
	})
}

// speedup is Amdahl's law for n cores, where the serial share is what a request costs more
// on two cores than on one: ratio - 1. A lower ratio is noise.
func speedup(n int, ratio float64) float64 {
	serial := math.Max(0, ratio-1)
	return float64(n) / (1 + serial*float64(n-1))
}
