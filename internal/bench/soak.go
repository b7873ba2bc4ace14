package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The soak.
const (
	soakBudget      = 256 << 20
	soakKeys        = 30_000 // objects of more than 2 GiB in all
	soakConnections = 64
	soakBatch       = 50_000 // requests of one job
	idleConnections = 10_000
	idleObject      = 4 << 10
	// peakLimit bounds resident memory, in MiB.
	peakLimit = 1.2*soakBudget/(1<<20) + 64
	// leakSlack is the number of goroutines and of files that may be open beside those
	// before the load: a scrape is under way when they are counted.
	leakSlack = 8
	// foldersMiB is more than the empty folders of the disk tier take.
	foldersMiB = 1
	// settleTime is longer than the idle timeout of connections to S3, which end then.
	settleTime = 3 * time.Minute
)

// soakSample is what the server used at one moment.
type soakSample struct {
	at                                  time.Duration
	resident, peak, held, disk, heap    float64 // MiB
	goroutines, files, pinned, evicted  float64
	inFlight, openBodies, clientSockets float64
}

// soak is a server under a long load.
type soak struct {
	config
	server  *server
	client  *peer
	report  io.Writer
	samples []soakSample
}

// errLimit ends the program with status 1.
var errLimit = errors.New("a limit of the soak is broken")

// runSoak loads one server for long and looks for what it keeps.
func (c config) runSoak(ctx context.Context, w io.Writer) error {
	e, done, err := c.newEnv()
	if err != nil {
		return err
	}
	defer done()
	origin, err := startTraceOrigin(ctx, c.clientCPU, originSpec{Delay: c.originDelay})
	if err != nil {
		return err
	}
	defer origin.stop()
	client, err := startPeer(ctx, c.clientCPU, traceCommand)
	if err != nil {
		return err
	}
	defer client.stop()
	e.originAddr = origin.addr
	e.flags = []string{"--cache-memory", strconv.Itoa(soakBudget)}
	if c.cacheDisk != "" {
		e.flags = append(e.flags, "--cache-disk", c.cacheDisk)
	}
	s := soak{config: c, client: client, report: w}
	if s.server, err = e.begin(ctx, c.binaries[0].name); err != nil {
		return err
	}
	defer s.server.stop()
	missed := len(c.goals.missed)
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, s.server.child.Output())
	}
	if len(c.goals.missed) > missed {
		return errLimit
	}
	return nil
}

func (s *soak) run(ctx context.Context) error {
	// One request opens what stays open.
	if _, _, err := fetch(ctx, s.url(0)); err != nil {
		return err
	}
	client.CloseIdleConnections()
	before, err := s.sample(ctx, 0)
	if err != nil {
		return err
	}
	result, err := s.load(ctx)
	if err != nil {
		return err
	}
	quiet := func(now soakSample) bool {
		return now.inFlight+now.openBodies+now.pinned+now.clientSockets == 0 && now.goroutines <= before.goroutines+leakSlack
	}
	after, err := s.settle(ctx, quiet)
	if err != nil {
		return err
	}
	idle, err := s.idle(ctx)
	if err != nil {
		return err
	}
	if err := s.purge(ctx); err != nil {
		return err
	}
	purged, err := s.settle(ctx, func(now soakSample) bool {
		return quiet(now) && now.held == 0 && now.disk <= foldersMiB && now.files <= before.files+leakSlack
	})
	if err != nil {
		return err
	}
	s.addChart()
	s.write(result)
	s.limits(before, after, purged)
	s.results(idle, result)
	return nil
}

func (s *soak) url(id int) string {
	return "http://" + s.server.addr + "/" + bucket + "/" + traceKey(id, idleObject)
}

// load replays traces until the time is over, while the server is sampled.
func (s *soak) load(ctx context.Context) (traceResult, error) {
	start := time.Now()
	watching, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	var failed error
	group.Go(func() {
		for waitUntil(watching, time.Now().Add(2*time.Second)) {
			taken, err := s.sample(ctx, time.Since(start))
			if err != nil {
				failed = err
				return
			}
			s.samples = append(s.samples, taken)
			if len(s.samples)%15 == 0 {
				fmt.Fprintf(os.Stderr,
					"%5.0f s  resident %4.0f MiB (peak %4.0f)  cache %4.0f MiB  evicted %8.0f  goroutines %4.0f\n",
					taken.at.Seconds(), taken.resident, taken.peak, taken.held, taken.evicted, taken.goroutines)
			}
		}
	})
	var sum traceResult
	var err error
	for seed := uint64(0); err == nil && ctx.Err() == nil && time.Since(start) < s.soakTime; seed++ {
		var r traceResult
		err = s.client.call(traceJob{
			Trace: traceSpec{Keys: soakKeys, Requests: soakBatch, Aborts: abortShare, Seed: seed},
			Addr:  s.server.addr, Connections: soakConnections, Limit: s.soakTime - time.Since(start),
		}, &r)
		sum.merge(r)
	}
	sum.Elapsed = time.Since(start)
	stop()
	group.Wait()
	return sum, errors.Join(err, failed, ctx.Err())
}

// sample asks the kernel and the server.
func (s *soak) sample(ctx context.Context, at time.Duration) (soakSample, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.server.child.Pid()))
	if err != nil {
		return soakSample{}, err
	}
	resident, err := sumFields(kibibytes(string(status)), "VmRSS")
	if err != nil {
		return soakSample{}, err
	}
	peak, err := sumFields(kibibytes(string(status)), "VmHWM")
	if err != nil {
		return soakSample{}, err
	}
	m, err := s.server.admin.metrics(ctx)
	client.CloseIdleConnections() // a connection that is kept is a file of the server
	return soakSample{
		at: at, resident: float64(resident) / 1024, peak: float64(peak) / 1024,
		held:       m[`ixmage_cache_bytes{tier="memory"}`] / (1 << 20),
		disk:       m[`ixmage_cache_bytes{tier="disk"}`] / (1 << 20),
		heap:       m["go_memstats_heap_alloc_bytes"] / (1 << 20),
		goroutines: m["go_goroutines"], files: m["process_open_fds"], pinned: m["ixmage_cache_pinned_bytes"],
		evicted:  sumOf(m, "ixmage_cache_evictions_total", `tier="memory"`, `reason="capacity"`),
		inFlight: m["ixmage_http_requests_in_flight"], openBodies: m["ixmage_origin_open_bodies"],
		clientSockets: m["ixmage_http_connections"],
	}, err
}

// kibibytes removes the unit of /proc/<pid>/status.
func kibibytes(status string) string { return strings.ReplaceAll(status, " kB\n", "\n") }

// purge drops every entry. A purge by prefix drops those in memory at once, but only marks
// the files; one of the whole alias removes the files, but only marks what is in memory.
func (s *soak) purge(ctx context.Context) error {
	for _, what := range []map[string]any{
		{"alias": bucket, "hard": true, "prefix": "t"},
		{"alias": bucket, "hard": true},
	} {
		if err := s.server.admin.post(ctx, "purge", what); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the server has come to rest, and returns what it uses then, or after
// settleTime.
func (s *soak) settle(ctx context.Context, done func(soakSample) bool) (soakSample, error) {
	end := time.Now().Add(settleTime)
	for {
		now, err := s.sample(ctx, 0)
		if err != nil || done(now) {
			return now, err
		}
		if time.Now().After(end) {
			return now, nil
		}
		if !waitUntil(ctx, time.Now().Add(time.Second/2)) {
			return now, ctx.Err()
		}
	}
}
