package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// idle returns the heap in KiB that one of many idle connections takes in the server.
func (s *soak) idle(ctx context.Context) (float64, error) {
	before, err := s.liveHeap(ctx)
	if err != nil {
		return 0, err
	}
	conns := make([]traceConn, idleConnections)
	defer func() {
		for i := range conns {
			conns[i].close()
		}
	}()
	for i := range conns {
		conns[i] = traceConn{addr: s.server.addr, buf: make([]byte, idleObject)}
		if _, _, err := conns[i].get(traceRequest{abortAt: -1}, idleObject); err != nil {
			return 0, fmt.Errorf("open connection %d of %d (is ulimit -n high enough?): %w", i, idleConnections, err)
		}
		conns[i].buf, conns[i].in = nil, nil
	}
	after, err := s.liveHeap(ctx)
	if err != nil {
		return 0, err
	}
	now, err := s.sample(ctx, 0)
	if err == nil && now.clientSockets < idleConnections {
		err = fmt.Errorf("%.0f connections are open when the heap has been read, want %d", now.clientSockets, idleConnections)
	}
	return (after - before) / idleConnections, err
}

// liveHeap is the heap of the server in KiB without garbage: the least that it reports
// in the three collections after now. Its own answers are the garbage that makes it
// collect.
func (s *soak) liveHeap(ctx context.Context) (float64, error) {
	const collections = "go_gc_duration_seconds_count"
	least, first := math.Inf(1), -1.0
	end := time.Now().Add(40 * time.Second) // idle connections are closed after 65
	for time.Now().Before(end) {
		m, err := s.server.admin.metrics(ctx)
		if err != nil {
			return 0, err
		}
		if first < 0 {
			first = m[collections]
		}
		if m[collections] > first+1 { // one may have begun before
			least = min(least, m["go_memstats_heap_alloc_bytes"]/1024)
		}
		if m[collections] > first+3 {
			break
		}
	}
	if math.IsInf(least, 1) {
		return 0, errors.New("the server has not collected its garbage twice in 40 s")
	}
	return least, nil
}

func limit(most float64) goal { return goal{"≤", most} }

// row prints one limit.
func (s *soak) row(what string, value float64, g goal) {
	fmt.Fprintf(s.report, "| %s | %.1f | %s | %s |\n", what, value, g, s.goals.judge(what, value, g))
}

// write prints the load.
func (s *soak) write(r traceResult) {
	var most soakSample
	for _, one := range s.samples {
		most.goroutines = max(most.goroutines, one.goroutines)
		most.files = max(most.files, one.files)
		most.evicted = max(most.evicted, one.evicted)
	}
	fmt.Fprintf(s.report, "%s of the mixed load over %d objects on %d connections, budget %.0f MiB, disk tier %s: "+
		"%d complete answers, %d aborted by the client, %.1f GiB, %.0f evictions; "+
		"at most %.0f goroutines and %.0f files.\n\n",
		r.Elapsed.Round(time.Second), soakKeys, soakConnections, mib(soakBudget), orOff(s.cacheDisk),
		r.Complete, r.Aborted, float64(r.Bytes)/(1<<30), most.evicted, most.goroutines, most.files)
}

func orOff(text string) string {
	if text == "" {
		return "off"
	}
	return text
}

// results prints the limits of what clients see.
func (s *soak) results(idle float64, r traceResult) {
	s.row("heap of an idle connection, KiB", idle, limit(20))
	s.row("failed answers", float64(r.Failed), limit(0))
	if r.Failed > 0 {
		fmt.Fprintf(s.report, "\nThe first failure: %s\n", r.Error)
	}
}

// limits prints the table of what may stay.
func (s *soak) limits(before, after, purged soakSample) {
	fmt.Fprint(s.report, "| what | value | limit | |\n|---|---|---|---|\n")
	s.row("peak resident memory, MiB", after.peak, limit(peakLimit))
	s.row("goroutines more than before the load", after.goroutines-before.goroutines, limit(leakSlack))
	s.row("requests in flight after the load", after.inFlight, limit(0))
	s.row("open bodies of S3 after the load", after.openBodies, limit(0))
	s.row("pinned bytes after the load", after.pinned, limit(0))
	s.row("bytes held in memory after a purge of everything, MiB", purged.held, limit(0))
	s.row("bytes held on disk after it, MiB", purged.disk, limit(foldersMiB))
	s.row("open files more than before, after that purge", purged.files-before.files, limit(leakSlack))
	s.row("goroutines more than before, after that purge", purged.goroutines-before.goroutines, limit(leakSlack))
}
