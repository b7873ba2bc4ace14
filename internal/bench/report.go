package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// quantile interpolates between the two nearest values. It returns NaN for no values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 == len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// spread is a median with its quartiles.
type spread struct{ low, median, high float64 }

func spreadOf(values []float64) spread {
	return spread{quantile(values, 0.25), quantile(values, 0.5), quantile(values, 0.75)}
}

func (s spread) format(verb string) string {
	return fmt.Sprintf(verb+" ("+verb+"–"+verb+")", s.median, s.low, s.high)
}

// pairedRatios divides round by round, so that a disturbance of the machine affects both
// sides of a ratio. It skips rounds that one side lacks.
func pairedRatios(over, under map[int]float64) []float64 {
	var ratios []float64
	for round, a := range over {
		if b, ok := under[round]; ok && b > 0 {
			ratios = append(ratios, a/b)
		}
	}
	return ratios
}

// sample is one run of the load generator against one server.
type sample struct {
	server      string
	size, round int
	rate        float64 // requests per second
	p99         time.Duration
	cost        cost
	busy        float64 // share of the core
}

type samples []sample

// series is one figure of one server and size by round.
func (ss samples) series(server string, size int, figure func(sample) float64) map[int]float64 {
	values := make(map[int]float64)
	for _, s := range ss {
		if s.server == server && s.size == size {
			values[s.round] = figure(s)
		}
	}
	return values
}

func rateOf(s sample) float64  { return s.rate }
func cpuOf(s sample) float64   { return s.cost.cpu }
func callsOf(s sample) float64 { return s.cost.calls }
func p99Of(s sample) float64   { return float64(s.p99) / float64(time.Millisecond) }
func busyOf(s sample) float64  { return 100 * s.busy }

// comparison is a ratio that is reported, with its goal by size: "at least"
// for a rate, "at most" for a cost.
type comparison struct {
	what        string
	figure      func(sample) float64
	over, under string
	goal        func(size int) goal
}

// comparisons are the ratios of a report: between binaries, and of each to the
// other servers.
func comparisons(binaries []binary) []comparison {
	var list []comparison
	for _, b := range binaries[1:] {
		list = append(list,
			comparison{"requests/s", rateOf, b.name, binaries[0].name, noGoal},
			comparison{"CPU/request", cpuOf, b.name, binaries[0].name, noGoal},
			comparison{"reads and writes", callsOf, b.name, binaries[0].name, noGoal})
	}
	for _, b := range binaries {
		list = append(list, comparisonsOf(b.name)...)
	}
	return append(list,
		comparison{"requests/s", rateOf, nameBare, nameNginx, noGoal},
		comparison{"requests/s", rateOf, nameBare, nameCopying, noGoal},
		comparison{"requests/s", rateOf, nameBare, nameVarnish, noGoal},
		comparison{"CPU/request", cpuOf, nameBare, nameNginx, noGoal})
}

func comparisonsOf(ours string) []comparison {
	return []comparison{
		{"requests/s", rateOf, ours, nameNginx, func(size int) goal {
			if size < 1<<20 {
				return atLeast(1.15)
			}
			return atLeast(1)
		}},
		{"requests/s", rateOf, ours, nameCopying, noGoal},
		{"requests/s", rateOf, ours, nameVarnish, func(size int) goal {
			if size < 1<<20 {
				return atLeast(1.15)
			}
			return goal{}
		}},
		{"CPU/request", cpuOf, ours, nameBare, func(size int) goal {
			if size < 1<<20 {
				return atMost(1.08)
			}
			return atMost(1.15)
		}},
	}
}

func noGoal(int) goal { return goal{} }

// writeHits prints the tables of the hit part.
func (ss samples) writeHits(w io.Writer, c config) {
	ss.writeServers(w, c)
	ss.writeRatios(w, c, comparisons(c.binaries))
	ss.addRatios(c, "hit", comparisons(c.binaries))
}

// writeServers prints what was measured of each server, and an empty line.
func (ss samples) writeServers(w io.Writer, c config) {
	fmt.Fprintln(w, "| object | server | requests/s | p99 ms | "+costColumns+" | core busy % |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
	for _, n := range c.sizes {
		for _, s := range c.servers {
			row := func(figure func(sample) float64) spread { return spreadOf(values(ss.series(s, n, figure))) }
			var costs []cost
			for _, one := range ss {
				if one.server == s && one.size == n {
					costs = append(costs, one.cost)
				}
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %.0f |\n", sizeName(n), s,
				row(rateOf).format("%.0f"), row(p99Of).format("%.2f"), costCells(costs), row(busyOf).median)
		}
	}
	fmt.Fprintln(w)
}

// diskComparisons are the ratios of the disk part.
func diskComparisons(binaries []binary) []comparison {
	var list []comparison
	for _, b := range binaries {
		list = append(list,
			comparison{"requests/s", rateOf, b.name, nameNginx, func(int) goal { return atLeast(1) }},
			comparison{"requests/s", rateOf, b.name, nameCopying, noGoal},
			comparison{"CPU/request", cpuOf, b.name, nameNginx, noGoal})
	}
	for _, b := range binaries[1:] {
		list = append(list,
			comparison{"requests/s", rateOf, b.name, binaries[0].name, noGoal},
			comparison{"CPU/request", cpuOf, b.name, binaries[0].name, noGoal})
	}
	return list
}

// writeRatios prints those of the comparisons whose servers were measured.
func (ss samples) writeRatios(w io.Writer, c config, list []comparison) {
	fmt.Fprintln(w, ratioHeader)
	for _, cmp := range list {
		for _, n := range c.sizes {
			ratios := pairedRatios(ss.series(cmp.over, n, cmp.figure), ss.series(cmp.under, n, cmp.figure))
			if len(ratios) > 0 {
				c.goals.ratio(w, cmp.what+", "+cmp.over+" / "+cmp.under, sizeName(n), ratio{ratios, cmp.goal(n)})
			}
		}
	}
}

// costColumns are the titles of the columns that costCells fills.
const costColumns = "CPU µs/request | reads and writes | page faults | waits"

// costCells are the costs of a request over the rounds.
func costCells(costs []cost) string {
	cell := func(figure func(cost) float64) spread {
		list := make([]float64, 0, len(costs))
		for _, c := range costs {
			list = append(list, figure(c))
		}
		return spreadOf(list)
	}
	return cell(func(c cost) float64 { return c.cpu }).format("%.1f") + " | " +
		cell(func(c cost) float64 { return c.calls }).format("%.2f") + " | " +
		cell(func(c cost) float64 { return c.faults }).format("%.3f") + " | " +
		cell(func(c cost) float64 { return c.switches }).format("%.2f")
}

func values(m map[int]float64) []float64 {
	list := make([]float64, 0, len(m))
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

// sizeName writes whole KiB and MiB as such.
func sizeName(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// writeMachine prints what the numbers depend on.
func writeMachine(ctx context.Context, w io.Writer) {
	facts := [][2]string{
		{"CPU", firstMatch(readText("/proc/cpuinfo"), `model name\s*:\s*(.+)`) + fmt.Sprintf(", %d cores", runtime.NumCPU())},
		{"kernel", strings.TrimSpace(readText("/proc/sys/kernel/osrelease"))},
		{"TCP", strings.TrimSpace(readText("/proc/sys/net/ipv4/tcp_congestion_control"))},
		{"go", runtime.Version()},
		{"nginx", firstMatch(output(ctx, "nginx", "-v"), `nginx/(\S+)`)},
		{"varnish", firstMatch(output(ctx, "varnishd", "-V"), `varnish-(\S+)`)},
		{"wrk", firstMatch(output(ctx, "wrk", "-v"), `wrk (\S+)`)},
		{"haproxy", firstMatch(output(ctx, "haproxy", "-v"), `version (\S+)`)},
		{"commit", firstMatch(output(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12"), `^([0-9a-z.-]+)\n$`)},
		{"date", time.Now().UTC().Format(time.DateOnly)},
	}
	for _, f := range facts {
		fmt.Fprintf(w, "- %s: %s\n", f[0], f[1])
	}
}

func readText(file string) string {
	text, _ := os.ReadFile(file)
	return string(text)
}

// output returns the output of a command on both streams; some commands print their
// version and exit with an error.
func output(ctx context.Context, name string, args ...string) string {
	text, _ := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(text)
}

func firstMatch(text, expression string) string {
	m := regexp.MustCompile(expression).FindStringSubmatch(text)
	if m == nil {
		return "unknown"
	}
	return m[1]
}
