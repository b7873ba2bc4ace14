package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// wrkResult is what one run of wrk reports.
type wrkResult struct {
	Requests int
	Elapsed  time.Duration
	P50, P99 time.Duration
	// Errors counts socket errors and answers other than 2xx and 3xx.
	Errors int
}

// Rate is requests per second.
func (r wrkResult) Rate() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// load is one run of the generator.
type load struct {
	url         string
	connections int
	duration    time.Duration
	cores       string // of the load generator
	threads     int
	script      string // file in Lua that chooses the requests; none asks for url only
}

// run drives url with wrk, pinned to its cores, over keep-alive connections.
func (l load) run(ctx context.Context) (wrkResult, error) {
	args := pinTo(l.cores, "wrk", "-t"+strconv.Itoa(l.threads), "-c"+strconv.Itoa(l.connections), "--latency",
		"--timeout", "30s", "-d"+strconv.Itoa(int(l.duration.Seconds()))+"s", l.url)
	if l.script != "" {
		args = append(args, "-s", l.script)
	}
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return wrkResult{}, fmt.Errorf("run wrk on %s: %w: %s", l.url, err, out)
	}
	return parseWrk(string(out))
}

var (
	wrkTotal  = regexp.MustCompile(`(?m)^\s*(\d+) requests in ([0-9.]+(?:us|ms|s|m|h)),`)
	wrkP50    = regexp.MustCompile(`(?m)^\s*50%\s+([0-9.]+(?:us|ms|s|m))\s*$`)
	wrkP99    = regexp.MustCompile(`(?m)^\s*99%\s+([0-9.]+(?:us|ms|s|m))\s*$`)
	wrkSocket = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
	wrkStatus = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
)

// parseWrk reads what `wrk --latency` prints.
func parseWrk(out string) (wrkResult, error) {
	var r wrkResult
	total := wrkTotal.FindStringSubmatch(out)
	p50, p99 := wrkP50.FindStringSubmatch(out), wrkP99.FindStringSubmatch(out)
	if total == nil || p50 == nil || p99 == nil {
		return r, fmt.Errorf("wrk printed no totals or no latency distribution: %q", out)
	}
	// The expressions let only what Atoi and ParseDuration take pass.
	r.Requests, _ = strconv.Atoi(total[1])
	r.Elapsed, _ = time.ParseDuration(total[2])
	r.P50, _ = time.ParseDuration(p50[1])
	r.P99, _ = time.ParseDuration(p99[1])
	if r.Requests == 0 || r.Elapsed <= 0 {
		return r, fmt.Errorf("wrk made no requests: %q", out)
	}
	for _, m := range [][]string{wrkSocket.FindStringSubmatch(out), wrkStatus.FindStringSubmatch(out)} {
		for _, n := range m[min(1, len(m)):] {
			count, _ := strconv.Atoi(n)
			r.Errors += count
		}
	}
	return r, nil
}
