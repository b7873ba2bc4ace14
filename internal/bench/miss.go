package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/s3"
)

// Requests of one round of the miss part, per size, state and way.
const (
	missTurn    = 4   // sequential requests before the next way takes its turn
	missTurns   = 16  // turns per way, which measure the time to first byte
	missLoad    = 256 // requests that measure requests per second and processor time
	missWorkers = 16  // of them at a time
	// missObjects is the number of objects of one size: a round requests each one once.
	missObjects = missTurn*missTurns + missLoad
)

func isMiss(cacheStatus string) bool { return strings.HasPrefix(cacheStatus, "ixmage; fwd=uri-miss") }

// missState is a state of the cache, by its memory in bytes.
type missState struct {
	name   string
	memory func(size, rounds int) int
	full   bool // it is filled before it is measured, so that every miss evicts
}

// missStates are the states in which misses are measured. Each object is requested once: by
// an alias of its own in each round, because an alias is a part of an object's key.
var missStates = []missState{
	{name: "off", memory: func(int, int) int { return 0 }},
	{name: "cold", memory: func(size, rounds int) int { return (rounds + 2) * missObjects * (size + objectOverhead) }},
	{name: "full", memory: func(int, int) int { return fullMemory }, full: true},
}

// statesOf returns the states with the names of a list.
func statesOf(list string) ([]missState, error) {
	var states []missState
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(missStates, func(s missState) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-states: %q is not off, cold or full", name)
		}
		states = append(states, missStates[i])
	}
	return states, nil
}

const (
	fullMemory = 64 << 20
	// objectOverhead is more than an entry takes beside the bytes of its object.
	objectOverhead = 8 << 10
)

// way is one of the compared ways to an object: the SDK alone, or an ixmage binary with a
// cache in some state.
type way struct {
	name   string
	client missProcess
	// pid is the process that is measured: the client with the SDK itself, or
	// ixmage.
	pid    int
	server *server // nil for the SDK
	access ixmage
}

// missCell is a size of objects and a state of the cache, and the ways measured there.
type missCell struct {
	state missState
	size  int
	ways  []*way
}

// missSample is one round of one way, size and state.
type missSample struct {
	way, state  string
	size, round int
	first       []float64 // ms
	rate        float64
	cost        cost
}

// runMisses measures the way to S3 of objects that are not cached. The client with the SDK
// runs on the core of ixmage: it does the part of the work that ixmage must do too.
func (c config) runMisses(ctx context.Context, w io.Writer) error {
	e, done, err := c.newEnv()
	if err != nil {
		return err
	}
	defer done()
	gw, err := gateway.Start(ctx, e.dir)
	if err != nil {
		return err
	}
	defer func() { _ = gw.Stop() }()
	cells, stop, err := c.openCells(ctx, e, gw)
	defer stop()
	if err != nil {
		return err
	}
	var all []missSample
	for round := range c.rounds + 1 {
		for _, cell := range cells {
			taken, err := cell.measure(ctx, round)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, gw.Output())
			}
			if round > 0 { // round 0 opens connections
				all = append(all, taken...)
			}
			for _, s := range taken {
				fmt.Fprintf(os.Stderr, "round %d/%d  %-7s %8s %-4s  first byte %6.3f ms  %6.0f/s  cpu %7.1f us  faults %7.2f\n",
					round, c.rounds, s.way, sizeName(s.size), s.state, quantile(s.first, 0.5), s.rate, s.cost.cpu, s.cost.faults)
			}
		}
	}
	fmt.Fprintf(w, "%d rounds of %d requests one after the other (first byte) and %d at concurrency %d (the rest).\n\n",
		c.rounds, missTurn*missTurns, missLoad, missWorkers)
	writeMisses(w, all, c)
	missSamples(all).addCharts(c)
	return nil
}

// waySDK is the name of the way without ixmage.
const waySDK = "SDK"

// wayNginx is the name of the way through an nginx without a cache.
const wayNginx = "nginx-proxy"

// openCells fills the bucket and starts the processes; stop ends them. Every cell has
// processes of its own, so that none finds the cache of another size.
func (c config) openCells(ctx context.Context, e *env, g *gateway.Server) (cells []missCell, stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	key, err := g.ReadOnlyUser(ctx, "bench-reader", bucket, "")
	if err != nil {
		return nil, stop, err
	}
	if err := fillBucket(ctx, g, c.sizes); err != nil {
		return nil, stop, err
	}
	access := ixmage{
		endpoint: g.S3URL, bucket: bucket, accessKey: key.AccessKeyID, secretKey: key.SecretAccessKey.Reveal(),
	}
	spec := missSpec{Addr: g.S3URL, AccessKey: access.accessKey, SecretKey: access.secretKey}
	plain, err := startMissClient(ctx, c.serverCPU, spec)
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, plain.stop)
	others := []*way{{name: waySDK, client: plain, pid: plain.cmd.Process.Pid}}
	if c.missNginx() {
		proxy, err := c.openProxy(ctx, e, spec)
		if err != nil {
			return nil, stop, err
		}
		stops = append(stops, proxy.stop)
		others = append(others, proxy)
	}
	for _, n := range c.sizes {
		for _, state := range c.states {
			cell := missCell{state: state, size: n, ways: slices.Clone(others)}
			for _, b := range c.binaries {
				access.path = b.path
				access.flags = []string{"--cache-memory", strconv.Itoa(state.memory(n, c.rounds))}
				ours, err := c.openOurs(ctx, e, access)
				if err != nil {
					return nil, stop, fmt.Errorf("start %s: %w", b.name, err)
				}
				ours.name = b.name
				stops = append(stops, ours.stop)
				cell.ways = append(cell.ways, ours)
				if err := ours.fill(ctx, cell); err != nil {
					return nil, stop, fmt.Errorf("fill the cache of %s: %w", b.name, err)
				}
			}
			cells = append(cells, cell)
		}
	}
	return cells, stop, nil
}

// missNginx tells whether nginx takes part: if builds of ixmage are not compared.
func (c config) missNginx() bool {
	_, err := exec.LookPath("nginx")
	return err == nil && len(c.binaries) == 1
}

// openProxy starts an nginx that stores nothing, and its client.
func (c config) openProxy(ctx context.Context, e *env, spec missSpec) (*way, error) {
	s, err := e.startProxyNginx(ctx, strings.TrimPrefix(spec.Addr, "http://"))
	if err != nil {
		return nil, err
	}
	spec.Proxy = s.addr
	client, err := startMissClient(ctx, c.clientCPU, spec)
	if err != nil {
		s.stop()
		return nil, err
	}
	return &way{name: wayNginx, client: client, pid: s.child.Pid(), server: s}, nil
}

// openOurs starts an ixmage and its client.
func (c config) openOurs(ctx context.Context, e *env, access ixmage) (*way, error) {
	dir, err := os.MkdirTemp(e.dir, "ixmage-")
	if err != nil {
		return nil, err
	}
	access.dir = dir
	ours, err := e.startIxmage(ctx, access)
	if err != nil {
		return nil, err
	}
	through, err := startMissClient(ctx, c.clientCPU, missSpec{Addr: ours.addr})
	if err != nil {
		ours.stop()
		return nil, err
	}
	return &way{client: through, pid: ours.child.Pid(), server: ours, access: access}, nil
}

func (w *way) stop() {
	w.client.stop()
	w.server.stop()
}

// fill requests more objects than the cache of a full state takes.
func (w *way) fill(ctx context.Context, cell missCell) error {
	if !cell.state.full {
		return nil
	}
	for i := 0; i*missObjects*cell.size < 2*fullMemory; i++ {
		name := "fill-" + strconv.Itoa(i)
		if err := w.alias(ctx, name); err != nil {
			return err
		}
		job := missJob{Alias: name, Size: cell.size, Count: missObjects, Workers: missWorkers}
		if _, err := w.client.do(job); err != nil {
			return err
		}
	}
	return nil
}

// alias makes an alias, whose objects are in no cache.
func (w *way) alias(ctx context.Context, name string) error {
	if w.access.path == "" {
		return nil
	}
	return w.access.register(ctx, w.server.admin, name, bucket)
}

func fillBucket(ctx context.Context, g *gateway.Server, sizes []int) error {
	if err := g.CreateBucket(ctx, bucket); err != nil {
		return err
	}
	for _, n := range sizes {
		for i := range missObjects {
			obj := s3.Object{Body: objectBody(n), ContentType: "image/png"}
			if err := g.PutObject(ctx, bucket, missKey(n, i), obj); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure measures every way of a cell. For the first byte they take short turns, so that a
// busy phase of the machine affects all ways.
func (c missCell) measure(ctx context.Context, round int) ([]missSample, error) {
	name := "round-" + strconv.Itoa(round)
	for _, w := range c.ways {
		if err := w.alias(ctx, name); err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
	}
	taken := make([]missSample, len(c.ways))
	for turn := range missTurns {
		for i, w := range c.ways {
			r, err := w.client.do(missJob{Alias: name, Size: c.size, First: turn * missTurn, Count: missTurn, Workers: 1})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			for _, d := range r.FirstByte {
				taken[i].first = append(taken[i].first, float64(d)/float64(time.Millisecond))
			}
		}
	}
	for k := range c.ways {
		i := (k + round) % len(c.ways)
		s := &taken[i]
		s.way, s.state, s.size, s.round = c.ways[i].name, c.state.name, c.size, round
		if err := c.ways[i].load(s, name); err != nil {
			return nil, fmt.Errorf("%s: %w", c.ways[i].name, err)
		}
	}
	return taken, nil
}

// load measures requests per second and the cost of a request.
func (w *way) load(s *missSample, alias string) error {
	before, err := usageOf(w.pid)
	if err != nil {
		return err
	}
	job := missJob{Alias: alias, Size: s.size, First: missTurn * missTurns, Count: missLoad, Workers: missWorkers}
	r, err := w.client.do(job)
	if err != nil {
		return err
	}
	after, err := usageOf(w.pid)
	s.rate = missLoad / r.Elapsed.Seconds()
	s.cost = after.minus(before).per(missLoad)
	return err
}

// missProcess is this program again, as a client.
type missProcess struct{ *peer }

func startMissClient(ctx context.Context, cpu int, spec missSpec) (missProcess, error) {
	p, err := startPeer(ctx, cpu, missCommand)
	if err != nil {
		return missProcess{}, err
	}
	return missProcess{p}, p.enc.Encode(spec)
}

func (p missProcess) do(job missJob) (missResult, error) {
	var r missResult
	err := p.call(job, &r)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	return r, err
}

// writeMisses prints the tables of the miss part.
func writeMisses(w io.Writer, all missSamples, c config) {
	ways := make([]string, 2, 2+len(c.binaries))
	ways[0], ways[1] = waySDK, wayNginx
	for _, b := range c.binaries {
		ways = append(ways, b.name)
	}
	fmt.Fprintln(w, "| object | cache | way | first byte, ms | p99 | requests/s | "+costColumns+" |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|")
	for _, n := range c.sizes {
		for _, state := range c.states {
			for _, name := range ways {
				all.of(name, state.name, n).writeRow(w)
			}
		}
	}
	fmt.Fprint(w, "\n| ratio (median of paired rounds) | object |")
	for _, state := range c.states {
		fmt.Fprintf(w, " %s |", state.name)
	}
	fmt.Fprintln(w, " goal | |\n|---|---|---|---|"+strings.Repeat("---|", len(c.states)))
	for _, r := range missComparisons(c.binaries) {
		for _, n := range c.sizes {
			if len(all.of(r.under, c.states[0].name, n)) == 0 {
				continue
			}
			what := fmt.Sprintf("%s, %s / %s", r.what, r.over, r.under)
			fmt.Fprintf(w, "| %s | %s |", what, sizeName(n))
			judged := make([]string, 0, len(c.states))
			for _, state := range c.states {
				over, under := all.of(r.over, state.name, n), all.of(r.under, state.name, n)
				ratios := spreadOf(pairedRatios(over.series(r.figure), under.series(r.figure)))
				fmt.Fprintf(w, " %s |", ratios.format("%.3f"))
				judged = append(judged, c.goals.judge(what+", "+sizeName(n)+", "+state.name, ratios.median, r.goal))
			}
			fmt.Fprintf(w, " %s | %s |\n", r.goal, strings.Trim(strings.Join(judged, ", "), ", "))
		}
	}
}

// writeRow prints the samples of one way, size and state.
func (ss missSamples) writeRow(w io.Writer) {
	var first []float64
	rates, costs := make([]float64, 0, len(ss)), make([]cost, 0, len(ss))
	for _, s := range ss {
		first = append(first, s.first...)
		rates = append(rates, s.rate)
		costs = append(costs, s.cost)
	}
	if len(ss) == 0 {
		return
	}
	fmt.Fprintf(w, "| %s | %s | %s | %s | %.3f | %s | %s |\n", sizeName(ss[0].size), ss[0].state, ss[0].way,
		spreadOf(first).format("%.3f"), quantile(first, 0.99), spreadOf(rates).format("%.0f"), costCells(costs))
}

// missComparison is a ratio of the miss part.
type missComparison struct {
	what        string
	figure      func(missSample) float64
	over, under string
	goal        goal
}

// missComparisons are the ratios of a report: of each binary to the SDK alone
// and to the first binary.
func missComparisons(binaries []binary) []missComparison {
	first := func(s missSample) float64 { return quantile(s.first, 0.5) }
	rate := func(s missSample) float64 { return s.rate }
	cpu := func(s missSample) float64 { return s.cost.cpu }
	calls := func(s missSample) float64 { return s.cost.calls }
	list := make([]missComparison, 0, 10*len(binaries))
	for _, b := range binaries {
		list = append(list,
			missComparison{"CPU/request", cpu, b.name, waySDK, atMost(1.25)},
			missComparison{"first byte", first, b.name, waySDK, atMost(1.15)},
			missComparison{"requests/s", rate, b.name, waySDK, atLeast(0.85)},
			missComparison{"CPU/request", cpu, b.name, wayNginx, goal{}},
			missComparison{"first byte", first, b.name, wayNginx, goal{}},
			missComparison{"requests/s", rate, b.name, wayNginx, goal{}})
	}
	for _, b := range binaries[1:] {
		list = append(list,
			missComparison{"CPU/request", cpu, b.name, binaries[0].name, goal{}},
			missComparison{"first byte", first, b.name, binaries[0].name, goal{}},
			missComparison{"requests/s", rate, b.name, binaries[0].name, goal{}},
			missComparison{"reads and writes", calls, b.name, binaries[0].name, goal{}})
	}
	return list
}

type missSamples []missSample

// of returns the samples of one way, state and size.
func (ss missSamples) of(way, state string, size int) missSamples {
	var some missSamples
	for _, s := range ss {
		if s.way == way && s.state == state && s.size == size {
			some = append(some, s)
		}
	}
	return some
}

// series is one figure by round.
func (ss missSamples) series(figure func(missSample) float64) map[int]float64 {
	values := make(map[int]float64)
	for _, s := range ss {
		values[s.round] = figure(s)
	}
	return values
}
