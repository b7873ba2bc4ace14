// Package transform resizes pictures in worker processes that have no files, no network and
// no credentials. It knows neither aliases nor the cache.
package transform

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Config has the settings of a Pool. A zero field means its default.
type Config struct {
	Path    string        // the program of the workers
	Workers int           // default: GOMAXPROCS
	Timeout time.Duration // for one job, from the first byte that its worker gets; default 5 s
	Memory  int64         // bytes of address space of a worker (RLIMIT_AS), default and most 1 GiB
	// AliasTime and ClientTime are how long workers may be busy for one owner and for one
	// client. A zero rate is no limit.
	AliasTime, ClientTime Rate
	Log                   *slog.Logger
	Recorder              Recorder // may be nil

	tune tune
}

// tune is what tests set otherwise.
type tune struct {
	args               []string // of a worker
	jobs               int      // after which a worker is replaced
	resident           int64    // bytes of memory of a worker that is replaced; 0: no limit
	start, retry, turn time.Duration
	dying              time.Duration               // as dyingTime
	changed            func()                      // called with the pool's lock held
	scheduled          func(*worker) processorTime // as worker.scheduled
}

// Stats is the state of a Pool at one moment.
type Stats struct {
	Workers int // that may be busy at once
	Busy    int
	Queued  int
	Spares  int // ready and without an owner
}

// Pool runs jobs in worker processes. It is safe for concurrent use.
//
// A worker without an owner is a spare. The first job of an owner that has no worker binds a
// spare to it; from then on the worker works for this owner only, until it ends. If all places
// are taken, the idle worker that was used longest ago ends for the spare.
type Pool struct {
	cfg      Config
	forker   *forker
	killers  *killers
	suspects *killers // of one death that may have had another cause
	aliases  *budget[int64]
	clients  *budget[string]
	version  string // set by Start, and landlock too
	landlock uint32
	queued   atomic.Int64
	ends     sync.WaitGroup // of processes, and of goroutines that start them

	mu       sync.Mutex // guards what follows, and the pool's fields of workers
	closed   bool
	queue    queue
	alive    map[*worker]struct{} // all, also those that are not ready
	spares   []*worker
	idle     []*worker // with an owner; the one used longest ago first
	busy     int
	starting int
	err      error // of the last start of a worker
	failures int   // of starts, in a row
	lost     bool  // a spare has died young since one got a job
	retry    *time.Timer
}

// Start starts one worker, to find out whether one can be confined and answers. The error says what to do.
func Start(ctx context.Context, cfg Config) (*Pool, error) {
	if supported != nil {
		return nil, supported
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("%s: the working directory is not known; give an absolute path: %w", cfg.Path, err)
	}
	cfg.Path = path
	cfg.setDefaults()
	p := &Pool{
		cfg: cfg, forker: newForker(), killers: newKillers(), suspects: newKillers(),
		aliases: newBudget[int64](cfg.AliasTime), clients: newBudget[string](cfg.ClientTime),
		queue: queue{max: queueFactor * cfg.Workers}, alive: make(map[*worker]struct{}),
	}
	stop := context.AfterFunc(ctx, p.abort)
	defer stop()
	w, err := p.launch()
	if ctx.Err() != nil {
		err = fmt.Errorf("start %s: %w", path, context.Cause(ctx))
	}
	if err == nil {
		p.version, p.landlock = w.ready.version, w.ready.landlock
		p.mu.Lock()
		err = p.addSpare(w)
		p.schedule()
		p.mu.Unlock()
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (c *Config) setDefaults() {
	if c.Workers <= 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	c.Memory = cmp.Or(c.Memory, defaultMemory)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Recorder == nil {
		c.Recorder = noRecorder{}
	}
	c.tune.jobs = cmp.Or(c.tune.jobs, workerJobs)
	c.tune.resident = cmp.Or(c.tune.resident, max(0, c.Memory/residentShare))
	c.tune.start = cmp.Or(c.tune.start, startTimeout)
	c.tune.retry = cmp.Or(c.tune.retry, retryStart)
	c.tune.turn = cmp.Or(c.tune.turn, turnTime)
	c.tune.dying = cmp.Or(c.tune.dying, dyingTime)
	if c.tune.scheduled == nil {
		c.tune.scheduled = (*worker).scheduled
	}
	if c.tune.changed == nil {
		c.tune.changed = func() {}
	}
}

// Busy reports whether so many jobs wait that results should be cheap to encode: half of
// the queue is full.
func (p *Pool) Busy() bool { return p.queued.Load() >= int64(p.cfg.Workers) }

// Version returns the version of libvips in the workers.
func (p *Pool) Version() string { return p.version }

// Landlock returns the version of Landlock that holds the workers.
func (p *Pool) Landlock() int { return int(p.landlock) }

// KilledBy reports whether a picture of an owner killed its worker a short time ago, so that it is
// not tried now. mark is the Blob.ID of the watermark, "" without one.
func (p *Pool) KilledBy(owner int64, source, mark string) bool {
	return p.killers.has(killer{owner, source, mark}, time.Now())
}

// Err returns why no worker can be started at the moment, or nil. Workers that have been
// started before go on.
func (p *Pool) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Stats returns the state of the pool.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{Workers: p.cfg.Workers, Busy: p.busy, Queued: p.queue.n, Spares: len(p.spares)}
}

// Close kills all workers and waits for them. Jobs under way and later ones fail with ErrOff.
func (p *Pool) Close() {
	p.abort()
	p.ends.Wait()
	p.forker.close()
}

// abort kills all workers, and lets none start.
func (p *Pool) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.spares, p.idle = nil, nil
	for w := range p.alive {
		w.end(EndClose)
	}
	if p.retry != nil {
		p.retry.Stop()
	}
	p.schedule()
}
