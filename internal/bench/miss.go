package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/s3"
)

// Requests of one round of the miss part, per size and way.
const (
	missTurn    = 4  // sequential requests before the next way takes its turn
	missTurns   = 16 // turns per way, which measure the time to first byte
	missLoad    = 4 * missObjects
	missWorkers = 16 // concurrent requests, which measure requests per second and processor time
)

func isMiss(cacheStatus string) bool { return strings.HasPrefix(cacheStatus, "ixmage; fwd=uri-miss") }

// way is one of the compared ways to an object: the SDK alone, or an ixmage binary with
// its cache off.
type way struct {
	name   string
	client *missProcess
	// pid is the process that is measured: the client with the SDK itself, or
	// ixmage.
	pid int
}

// missSample is one round of one way and size.
type missSample struct {
	way         string
	size, round int
	first       []float64 // ms
	rate        float64
	cost        cost
}

// runMisses measures the way to S3 with nothing cached. The client with the SDK
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
	ways, stop, err := c.openWays(ctx, e, gw)
	defer stop()
	if err != nil {
		return err
	}
	var all []missSample
	for round := range c.rounds + 1 {
		for _, n := range c.sizes {
			taken, err := missRound(ways, n, round)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, gw.Output())
			}
			if round > 0 { // round 0 opens connections
				all = append(all, taken...)
			}
			for _, s := range taken {
				fmt.Fprintf(os.Stderr, "round %d/%d  %-7s %8s  first byte %6.3f ms  %6.0f/s  cpu %7.1f us\n",
					round, c.rounds, s.way, sizeName(n), quantile(s.first, 0.5), s.rate, s.cost.cpu)
			}
		}
	}
	fmt.Fprintf(w, "%d rounds of %d requests one after the other (first byte) and %d at concurrency %d (the rest).\n\n",
		c.rounds, missTurn*missTurns, missLoad, missWorkers)
	writeMisses(w, all, c)
	return nil
}

// waySDK is the name of the way without ixmage.
const waySDK = "SDK"

// openWays fills the bucket and starts the processes; stop ends them.
func (c config) openWays(ctx context.Context, e *env, g *gateway.Server) (ways []*way, stop func(), err error) {
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
	plain, err := startMissClient(ctx, c.serverCPU, missSpec{g.S3URL, key.AccessKeyID, key.SecretAccessKey.Reveal()})
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, plain.stop)
	ways = append(ways, &way{name: waySDK, client: plain, pid: plain.cmd.Process.Pid})
	for _, b := range c.binaries {
		dir, err := os.MkdirTemp(e.dir, "ixmage-")
		if err != nil {
			return nil, stop, err
		}
		ours, err := e.startIxmage(ctx, ixmage{
			path: b.path, dir: dir, endpoint: g.S3URL, bucket: bucket, flags: []string{"--cache-memory", "0"},
			accessKey: key.AccessKeyID, secretKey: key.SecretAccessKey.Reveal(),
		})
		if err != nil {
			return nil, stop, fmt.Errorf("start %s: %w", b.name, err)
		}
		stops = append(stops, ours.stop)
		through, err := startMissClient(ctx, c.clientCPU, missSpec{Addr: ours.addr})
		if err != nil {
			return nil, stop, err
		}
		stops = append(stops, through.stop)
		ways = append(ways, &way{name: b.name, client: through, pid: ours.child.Pid()})
	}
	return ways, stop, nil
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

// missRound measures every way at one size. For the first byte they take short
// turns, so that a busy phase of the machine affects all ways.
func missRound(ways []*way, size, round int) ([]missSample, error) {
	taken := make([]missSample, len(ways))
	for turn := range missTurns {
		for i, w := range ways {
			r, err := w.client.do(missJob{Size: size, First: turn * missTurn, Count: missTurn, Workers: 1})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			for _, d := range r.FirstByte {
				taken[i].first = append(taken[i].first, float64(d)/float64(time.Millisecond))
			}
		}
	}
	for k := range ways {
		i := (k + round) % len(ways)
		s := &taken[i]
		s.way, s.size, s.round = ways[i].name, size, round
		if err := ways[i].load(s); err != nil {
			return nil, fmt.Errorf("%s: %w", ways[i].name, err)
		}
	}
	return taken, nil
}

// load measures requests per second and the cost of a request.
func (w *way) load(s *missSample) error {
	before, err := usageOf(w.pid)
	if err != nil {
		return err
	}
	r, err := w.client.do(missJob{Size: s.size, Count: missLoad, Workers: missWorkers})
	if err != nil {
		return err
	}
	after, err := usageOf(w.pid)
	s.rate = missLoad / r.Elapsed.Seconds()
	s.cost = after.minus(before).per(missLoad)
	return err
}

// missProcess is this program again, as a client.
type missProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *gob.Encoder
	dec *gob.Decoder
}

func startMissClient(ctx context.Context, cpu int, spec missSpec) (*missProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := pin(cpu, self, missCommand)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &missProcess{cmd: cmd, in: in, enc: gob.NewEncoder(in), dec: gob.NewDecoder(out)}
	return p, p.enc.Encode(spec)
}

func (p *missProcess) do(job missJob) (missResult, error) {
	var r missResult
	if err := p.enc.Encode(job); err != nil {
		return r, err
	}
	if err := p.dec.Decode(&r); err != nil {
		return r, fmt.Errorf("the client ended: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

func (p *missProcess) stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

// writeMisses prints the tables of the miss part.
func writeMisses(w io.Writer, all missSamples, c config) {
	ways := make([]string, 1, 1+len(c.binaries))
	ways[0] = waySDK
	for _, b := range c.binaries {
		ways = append(ways, b.name)
	}
	fmt.Fprintln(w, "| object | way | first byte, ms | p99 | requests/s | "+costColumns+" |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
	for _, n := range c.sizes {
		for _, name := range ways {
			var first, rates []float64
			var costs []cost
			for _, s := range all {
				if s.way == name && s.size == n {
					first = append(first, s.first...)
					rates = append(rates, s.rate)
					costs = append(costs, s.cost)
				}
			}
			fmt.Fprintf(w, "| %s | %s | %s | %.3f | %s | %s |\n", sizeName(n), name, spreadOf(first).format("%.3f"),
				quantile(first, 0.99), spreadOf(rates).format("%.0f"), costCells(costs))
		}
	}
	fmt.Fprintln(w, "\n| ratio (median of paired rounds) | object | value | goal |\n|---|---|---|---|")
	for _, r := range missComparisons(c.binaries) {
		for _, n := range c.sizes {
			ratios := pairedRatios(all.series(r.over, n, r.figure), all.series(r.under, n, r.figure))
			fmt.Fprintf(w, "| %s, %s / %s | %s | %s | %s |\n", r.what, r.over, r.under, sizeName(n),
				spreadOf(ratios).format("%.3f"), r.goal)
		}
	}
}

// missComparison is a ratio of the miss part.
type missComparison struct {
	what        string
	figure      func(missSample) float64
	over, under string
	goal        string
}

// missComparisons are the ratios of a report: of each binary to the SDK alone
// and to the first binary.
func missComparisons(binaries []binary) []missComparison {
	first := func(s missSample) float64 { return quantile(s.first, 0.5) }
	cpu := func(s missSample) float64 { return s.cost.cpu }
	calls := func(s missSample) float64 { return s.cost.calls }
	list := make([]missComparison, 0, 4*len(binaries))
	for _, b := range binaries {
		list = append(list, missComparison{"first byte", first, b.name, waySDK, "≤ 1.15"})
	}
	for _, b := range binaries[1:] {
		list = append(list,
			missComparison{"first byte", first, b.name, binaries[0].name, ""},
			missComparison{"CPU/request", cpu, b.name, binaries[0].name, ""},
			missComparison{"reads and writes", calls, b.name, binaries[0].name, ""})
	}
	return list
}

type missSamples []missSample

// series is one figure of one way and size by round.
func (ss missSamples) series(way string, size int, figure func(missSample) float64) map[int]float64 {
	values := make(map[int]float64)
	for _, s := range ss {
		if s.way == way && s.size == size {
			values[s.round] = figure(s)
		}
	}
	return values
}
