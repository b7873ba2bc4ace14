// Command bench measures ixmage beside what else could stand in its place: a
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
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Commands by which the program starts itself again, pinned to a core.
const (
	bareCommand = "serve-bare"
	missCommand = "get-misses"
)

func main() {
	// Debian keeps nginx and varnishd where a user's PATH may not look.
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 && args[0] == bareCommand {
		return serveBare(os.Stdin, os.Stdout)
	}
	if len(args) == 1 && args[0] == missCommand {
		return runMissClient(os.Stdin, os.Stdout)
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
	rounds      int
	duration    time.Duration
	connections int
	binary      string
	out         string
	serverCPU   int
	clientCPU   int
}

func parseFlags(args []string) (config, error) {
	c := config{}
	var servers, sizes string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&c.part, "part", "all", "what to measure: hit, miss or all")
	f.StringVar(&servers, "servers", strings.Join(allServers, ","), "servers of the hit part")
	f.StringVar(&sizes, "sizes", "4096,65536,1048576", "object sizes in bytes")
	f.IntVar(&c.rounds, "rounds", 7, "interleaved rounds")
	f.DurationVar(&c.duration, "duration", 3*time.Second, "length of one run of the hit part, in whole seconds")
	f.IntVar(&c.connections, "connections", 32, "keep-alive connections of the hit part")
	f.StringVar(&c.binary, "binary", "bin/ixmage", "the ixmage binary")
	f.StringVar(&c.out, "o", "", "write the report to this file too")
	f.IntVar(&c.serverCPU, "server-cpu", 0, "core of the server")
	f.IntVar(&c.clientCPU, "client-cpu", 1, "core of the load generator")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	c.servers = strings.Split(servers, ",")
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 64 {
			return c, fmt.Errorf("-sizes: %q is no number of bytes from 64 up", text)
		}
		c.sizes = append(c.sizes, n)
	}
	if c.rounds < 1 {
		return c, fmt.Errorf("-rounds is %d, want at least 1", c.rounds)
	}
	if c.duration < time.Second || c.duration%time.Second != 0 {
		return c, fmt.Errorf("-duration is %s, want whole seconds: wrk takes nothing else", c.duration)
	}
	return c, nil
}

// run measures what was asked for and prints the report.
func (c config) run(ctx context.Context, w io.Writer) error {
	parts := []struct {
		name, title string
		measure     func(context.Context, io.Writer) error
	}{
		{"hit", "Answers from memory", c.runHits},
		{"miss", "Answers from S3", c.runMisses},
	}
	var report bytes.Buffer
	for _, p := range parts {
		if c.part != p.name && c.part != "all" {
			continue
		}
		fmt.Fprintf(&report, "## %s\n\n", p.title)
		if err := p.measure(ctx, &report); err != nil {
			return err
		}
		report.WriteByte('\n')
	}
	if report.Len() == 0 {
		return fmt.Errorf("-part is %q, want hit, miss or all", c.part)
	}
	fmt.Fprint(&report, "## Machine\n\n")
	writeMachine(ctx, &report)
	if c.out != "" {
		if err := os.WriteFile(c.out, report.Bytes(), 0o600); err != nil {
			return err
		}
	}
	_, err := w.Write(report.Bytes())
	return err
}

// newStage makes the scratch folder and the origin; done removes them.
func (c config) newStage() (st *stage, done func(), err error) {
	base := "/dev/shm"
	if info, err := os.Stat(base); err != nil || !info.IsDir() {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "ixmage-bench-")
	if err != nil {
		return nil, nil, err
	}
	// Varnish's workers run as a user of their own.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, nil, err
	}
	o, err := startOrigin(c.sizes)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, nil, err
	}
	st = &stage{dir: dir, origin: o, sizes: c.sizes, cpu: c.serverCPU, binary: c.binary, headers: usualHeaders(c.sizes)}
	return st, func() { o.close(); _ = os.RemoveAll(dir) }, nil
}
