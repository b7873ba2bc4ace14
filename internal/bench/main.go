// Command bench measures one or more ixmage binaries beside the alternatives: a
// bare handler on the same HTTP library, nginx and Varnish. Every server runs
// on one core and the load generator on another; servers take turns in
// rounds, and ratios are taken within a round.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Commands by which the program starts itself again, pinned to a core.
const (
	bareCommand   = "serve-bare"
	missCommand   = "get-misses"
	originCommand = "serve-trace"
	traceCommand  = "get-trace"
)

func main() {
	// Debian installs nginx and varnishd in a folder that may not be in a user's PATH.
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	peers := map[string]func(io.Reader, io.Writer) error{
		bareCommand: serveBare, missCommand: runMissClient, originCommand: runTraceOrigin, traceCommand: runTraceClient,
	}
	if len(args) == 1 && peers[args[0]] != nil {
		return peers[args[0]](os.Stdin, os.Stdout)
	}
	c, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return c.run(ctx, os.Stdout)
}

// config is the command line.
type config struct {
	part        string
	servers     []string
	sizes       []int
	states      []missState
	rounds      int
	duration    time.Duration
	connections int
	binaries    []binary
	out         string
	serverCPU   int
	clientCPU   int
	// of traces
	keys, requests int
	rate           float64
	originDelay    time.Duration
	mixedRounds    int
	diskDir        string
	cacheDisk      string
	soakTime       time.Duration
	goals          *goals
	charts         *charts
	plots          string
	// of transforms
	worker, vips, images string
	// entries and aliases are the steps of growth.
	entries, aliases []int
}

func parseFlags(args []string) (config, error) {
	c := config{goals: new(goals), charts: new(charts)}
	var servers, sizes, binaries, states, entries, aliases string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&c.part, "part", "all", "what to measure: hit, miss, disk, mixed, grow, transform, soak, fleet "+
		"or all (all but soak and fleet)")
	f.StringVar(&binaries, "binaries", nameOurs+"=bin/ixmage", "ixmage binaries to compare: name=path,name=path")
	f.StringVar(&servers, "servers", "", "servers of the hit part, where ixmage stands for every binary "+
		"(default all, or the binaries alone where there are several)")
	f.StringVar(&sizes, "sizes", "4096,65536,1048576", "object sizes in bytes")
	f.StringVar(&states, "states", "off,cold,full", "states of the cache in the miss part")
	f.IntVar(&c.rounds, "rounds", 7, "interleaved rounds")
	f.DurationVar(&c.duration, "duration", 3*time.Second, "length of one run of the hit part, in whole seconds")
	f.IntVar(&c.connections, "connections", 32, "keep-alive connections of the hit part")
	f.StringVar(&c.out, "o", "", "write the report to this file too")
	f.StringVar(&c.plots, "plots", "", "draw charts as SVG files into this folder")
	f.IntVar(&c.serverCPU, "server-cpu", 0, "core of the server")
	f.IntVar(&c.clientCPU, "client-cpu", 1, "core of the load generator")
	f.StringVar(&c.diskDir, "disk-dir", os.TempDir(), "folder of the files of the disk part; it should not be in memory")
	f.DurationVar(&c.soakTime, "soak", 10*time.Minute, "length of the load of the soak")
	f.StringVar(&c.cacheDisk, "cache-disk", "", "--cache-disk of ixmage in the soak")
	f.StringVar(&entries, "entries", "1000,10000,100000,1000000", "numbers of entries, of which the first is compared")
	f.StringVar(&aliases, "aliases", "1,100,10000,100000", "numbers of aliases, of which the first is compared")
	transformFlags(f, &c)
	f.IntVar(&c.keys, "keys", 8000, "objects of the mixed load")
	f.IntVar(&c.requests, "requests", 60000, "requests of the mixed load")
	f.Float64Var(&c.rate, "rate", 1000, "requests per second of the mixed load, 0 for as many as possible")
	f.IntVar(&c.mixedRounds, "mixed-rounds", 1, "rounds of the mixed load")
	f.DurationVar(&c.originDelay, "origin-delay", 10*time.Millisecond, "first byte of the origin of the mixed load")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	var err error
	if c.binaries, err = parseBinaries(binaries); err != nil {
		return c, err
	}
	if c.states, err = statesOf(states); err != nil {
		return c, err
	}
	c.servers = serversOf(servers, c.binaries)
	for _, list := range []struct {
		flag, text string
		least      int
		numbers    *[]int
	}{
		{"-sizes", sizes, 64, &c.sizes},
		{"-entries", entries, 1, &c.entries},
		{"-aliases", aliases, 1, &c.aliases},
	} {
		if *list.numbers, err = numbersOf(list.text, list.least); err != nil {
			return c, fmt.Errorf("%s: %w", list.flag, err)
		}
	}
	if c.rounds < 1 {
		return c, fmt.Errorf("-rounds is %d, want at least 1", c.rounds)
	}
	if c.duration < time.Second || c.duration%time.Second != 0 {
		return c, fmt.Errorf("-duration is %s, want whole seconds: wrk accepts no fractions", c.duration)
	}
	return c, nil
}

// numbersOf reads "1,2,3".
func numbersOf(list string, least int) ([]int, error) {
	var numbers []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < least {
			return nil, fmt.Errorf("%q is not a number of at least %d", text, least)
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// binary is a build of ixmage.
type binary struct{ name, path string }

// parseBinaries reads "name=path,name=path".
func parseBinaries(list string) ([]binary, error) {
	var binaries []binary
	for text := range strings.SplitSeq(list, ",") {
		name, path, ok := strings.Cut(text, "=")
		if !ok || name == "" || path == "" {
			return nil, fmt.Errorf("-binaries: %q is not name=path", text)
		}
		taken := func(b binary) bool { return b.name == name }
		if slices.ContainsFunc(binaries, taken) || slices.Contains(otherServers, name) || name == waySDK || name == wayNginx {
			return nil, fmt.Errorf("-binaries: the name %q is taken", name)
		}
		binaries = append(binaries, binary{name, path})
	}
	return binaries, nil
}

// serversOf returns the servers of a list, with the binaries in place of ixmage.
func serversOf(list string, binaries []binary) []string {
	names := strings.Split(list, ",")
	switch {
	case list != "":
	case len(binaries) > 1:
		names = []string{nameOurs}
	default:
		names = append([]string{nameOurs}, otherServers...)
	}
	at := slices.Index(names, nameOurs)
	if at < 0 {
		return names
	}
	ours := make([]string, 0, len(binaries))
	for _, b := range binaries {
		ours = append(ours, b.name)
	}
	return slices.Replace(names, at, at+1, ours...)
}

// run measures the selected parts and prints the report.
func (c config) run(ctx context.Context, w io.Writer) error {
	parts := []struct {
		name, title string
		measure     func(context.Context, io.Writer) error
	}{
		{"hit", "Answers from memory", c.runHits},
		{"miss", "Answers from S3", c.runMisses},
		{"disk", "Answers from disk", c.runDisk},
		{"mixed", "Mixed load", c.runMixed},
		{"grow", "How it grows", c.runGrow},
		{"transform", "Transforms", c.runTransforms},
		{"soak", "Soak", c.runSoak},
		{"fleet", "Fleet", c.runFleet},
	}
	var report bytes.Buffer
	var broken error
	for _, p := range parts {
		if c.part != p.name && (c.part != "all" || p.name == "soak" || p.name == "fleet") {
			continue
		}
		fmt.Fprintf(&report, "## %s\n\n", p.title)
		if err := p.measure(ctx, &report); errors.Is(err, errLimit) {
			broken = err
		} else if err != nil {
			return err
		}
		report.WriteByte('\n')
	}
	if report.Len() == 0 {
		return fmt.Errorf("-part is %q, want hit, miss, disk, mixed, grow, transform, soak, fleet or all "+
			"(all but soak and fleet)", c.part)
	}
	if err := c.publish(ctx, &report, w); err != nil {
		return err
	}
	return broken
}

// publish adds the summary to the report, writes it, and draws its charts.
func (c config) publish(ctx context.Context, report *bytes.Buffer, w io.Writer) error {
	c.goals.write(report)
	fmt.Fprint(report, "\n## Machine\n\n")
	writeMachine(ctx, report)
	if c.out != "" {
		if err := os.WriteFile(c.out, report.Bytes(), 0o600); err != nil {
			return err
		}
	}
	if _, err := w.Write(report.Bytes()); err != nil {
		return err
	}
	return c.charts.draw(ctx, c.plots)
}

// newEnv makes the scratch folder and the origin; done removes them.
func (c config) newEnv() (e *env, done func(), err error) {
	base := "/dev/shm"
	if info, err := os.Stat(base); err != nil || !info.IsDir() {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "ixmage-bench-")
	if err != nil {
		return nil, nil, err
	}
	// Varnish's workers run as their own user.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, nil, err
	}
	o, err := startOrigin(c.sizes)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, nil, err
	}
	e = &env{
		dir: dir, originAddr: o.addr, sizes: c.sizes, cpu: c.serverCPU, binaries: c.binaries, headers: usualHeaders(c.sizes),
		budget: 1 << 30, openFiles: cachedFiles,
	}
	return e, func() { o.close(); _ = os.RemoveAll(dir) }, nil
}
