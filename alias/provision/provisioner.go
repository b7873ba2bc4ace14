// Package provision makes the IAM users that aliases are read with: it creates
// the user, its policy and its key, proves what the key can and cannot do, opens
// the alias, rotates the key without a failed request, and removes everything
// without a trace.
//
// Every operation is a list of durable steps. A step is written down before its
// effect and after it, so that whatever a crash interrupts is finished or undone
// at the next start. What is found in IAM and does not bear the marks of an
// operation of ours is never touched.
package provision

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/panics"
)

// concurrency is how many calls of IAM are made at a time.
const concurrency = 4

// waits are between the attempts of what may yet succeed; the last one stays.
var waits = []time.Duration{
	500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
}

// Provisioner runs operations. Its methods are safe for concurrent use;
// operations make progress while Run runs.
type Provisioner struct {
	cfg   Config
	clock Clock
	log   *slog.Logger
	wake  chan struct{} // holds one token: something is to be looked at

	mu      sync.Mutex           // guards the fields below
	active  map[string]*activity // the operations that run here, by id
	changed chan struct{}        // closed and made anew when an operation ends
	orphans OrphanReport

	locks        locks
	previousUses sync.Map // credential id -> time of the last fallback
	calls        chan struct{}
}

// New makes a Provisioner. It does no I/O and starts nothing.
func New(cfg Config) *Provisioner {
	p := &Provisioner{
		cfg: cfg, clock: cfg.Clock, log: cfg.Log, wake: make(chan struct{}, 1),
		active: map[string]*activity{}, changed: make(chan struct{}), calls: make(chan struct{}, concurrency),
	}
	if p.clock == nil {
		p.clock = SystemClock{}
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	return p
}

// errOff is what a call gets while provisioning is off.
var errOff = fmt.Errorf("%w: provisioning is off; start the server with --provision", alias.ErrForbidden)

// enabled is nil where IAM may be called.
func (p *Provisioner) enabled() error {
	if p.cfg.AWS == nil {
		return errOff
	}
	return nil
}

// Run resumes what a crash interrupted, runs new operations, rotates what is
// due and looks for orphans, until ctx ends; then it waits until nothing is
// running. What is unfinished goes on at the next start.
func (p *Provisioner) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	if p.cfg.AWS != nil {
		tasks.Go(func() { p.every(ctx, p.cfg.Timing.Reconcile, p.reconcile) })
		tasks.Go(func() { p.every(ctx, scheduleEvery, p.rotateDue) })
	}
	for {
		err := panics.Catch(p.log, "start of operations", func() error { return p.startAll(ctx, &tasks) })
		if err != nil && ctx.Err() == nil {
			p.log.Error("cannot read operations; retrying", "error", err)
			tasks.Go(func() {
				if p.clock.Sleep(ctx, time.Second) == nil {
					p.notify()
				}
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		}
	}
}

// startAll starts every running operation that does not run here yet.
func (p *Provisioner) startAll(ctx context.Context, tasks *sync.WaitGroup) error {
	if p.cfg.AWS == nil {
		return nil
	}
	list, err := p.cfg.Registry.History().Operations(ctx, alias.OperationFilter{
		State: alias.OperationRunning, Limit: maxRunning,
	})
	if err != nil {
		return err
	}
	for _, o := range list {
		if p.markRunning(o) {
			tasks.Go(func() {
				// perform has caught what a step panicked with: this is about the rest.
				_ = panics.Catch(p.log, "operation "+o.ID, func() error { p.run(ctx, o.ID); return nil })
			})
		}
	}
	return nil
}

// maxRunning bounds what is read at a time.
const maxRunning = 10_000

// markRunning reports whether an operation did not run here; now it does.
func (p *Provisioner) markRunning(o *alias.Operation) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.active[o.ID]; ok {
		return false
	}
	p.active[o.ID] = &activity{since: o.CreatedAt}
	return true
}

// activity is an operation that runs here.
type activity struct {
	since time.Time
	// interrupt ends what it does, so that it goes on from what is stored; nil
	// while it does nothing.
	interrupt context.CancelFunc
}

// interruptible is ctx for one go at an operation.
func (p *Provisioner) interruptible(ctx context.Context, id string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.active[id]; a != nil {
		a.interrupt = cancel
	}
	return ctx, cancel
}

// interrupt wakes an operation that waits.
func (p *Provisioner) interrupt(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.active[id]; a != nil && a.interrupt != nil {
		a.interrupt()
	}
}

// Running says how many operations run, and since when the oldest of them does.
func (p *Provisioner) Running() (n int, oldest time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.active {
		if oldest.IsZero() || a.since.Before(oldest) {
			oldest = a.since
		}
	}
	return len(p.active), oldest
}

// release tells who waits that an operation has ended, or that it will not go
// on here.
func (p *Provisioner) release(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.active, id)
	close(p.changed)
	p.changed = make(chan struct{})
}

// notify makes Run read the running operations again.
func (p *Provisioner) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// every calls fn now and then after each interval, until ctx ends. A panic ends one
// call of fn.
func (p *Provisioner) every(ctx context.Context, interval time.Duration, fn func(context.Context)) {
	for {
		_ = panics.Catch(p.log, "background task", func() error { fn(ctx); return nil }) // it is logged
		if p.clock.Sleep(ctx, interval) != nil {
			return
		}
	}
}

// Wait returns an operation when it has ended, or as it stands when ctx ends:
// alias.ErrNotFound when there is none.
func (p *Provisioner) Wait(ctx context.Context, id string) (*alias.Operation, error) {
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		o, err := p.cfg.Registry.History().Operation(context.WithoutCancel(ctx), id)
		if err != nil || o.Finished() {
			return o, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return o, nil
		}
	}
}

// HandRotation are the aws commands by which a static key is rotated by hand.
func (p *Provisioner) HandRotation(c *alias.Credential) []string { return policy.HandRotation(c, "") }
