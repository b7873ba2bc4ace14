// Package provision makes the IAM users whose keys read aliases. It creates the user,
// its policy and its key, verifies what the key can and cannot do, opens the alias,
// rotates the key without a failed request, and removes the user with everything that
// it made for it.
//
// One controller does all of it: it looks at the user of a credential in IAM, compares
// that with what the registry says, and does the one thing that next chooses, until nothing
// is left to do. An operation changes what the registry says, in one transaction; its steps
// show how far the controller is. A crash loses nothing, because what was not stored is
// looked at again: only the making of a user, the making of a key and the swap of two keys
// are stored before they happen. The package never changes a user or policy in IAM that is
// not its own, except to use a managed policy with the same document and to adopt a user
// that a request names.
package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ixmage/alias"
	"ixmage/internal/panics"
)

// concurrency is the number of concurrent calls of IAM.
const concurrency = 4

// waits are the pauses between attempts; the last one repeats.
var waits = []time.Duration{
	500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
}

// Provisioner runs operations. Its methods are safe for concurrent use;
// operations make progress while Run runs.
type Provisioner struct {
	cfg   Config
	clock Clock
	log   *slog.Logger
	wake  chan struct{} // holds one token: Run must read the running operations

	mu      sync.Mutex               // guards the fields below
	active  map[alias.Name]*activity // the credentials that are worked on, by name
	changed chan struct{}            // closed and replaced when an operation changes
	first   map[alias.Name]bool      // credentials with an operation that this node was asked for; in a fleet only

	lost []lostKey // in a fleet only

	locks        locks
	unbounded    sync.Once // says that scheduled rotations need a boundary
	previousUses sync.Map  // credential id -> time of the last use of the previous key
	calls        chan struct{}
}

// New makes a Provisioner. It does no I/O and starts nothing.
func New(cfg Config) *Provisioner {
	p := &Provisioner{
		cfg: cfg, clock: cfg.Clock, log: cfg.Log, wake: make(chan struct{}, 1),
		active: map[alias.Name]*activity{}, changed: make(chan struct{}), calls: make(chan struct{}, concurrency),
		first: map[alias.Name]bool{},
	}
	if p.clock == nil {
		p.clock = SystemClock{}
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.cfg.AWS != nil {
		p.warnAccounts()
	}
	if p.cfg.Fleet != nil {
		p.cfg.Registry.Observe(p.follow)
	}
	return p
}

// errOff is returned while provisioning is off.
var errOff = fmt.Errorf("%w: provisioning is off; start the server with --provision", alias.ErrForbidden)

// enabled returns errOff if provisioning is off.
func (p *Provisioner) enabled() error {
	if p.cfg.AWS == nil {
		return errOff
	}
	return nil
}

// Run resumes interrupted operations, runs new ones, starts due rotations and
// reconciles, until ctx ends; then it waits for its goroutines. Unfinished operations
// continue at the next start.
func (p *Provisioner) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	if p.cfg.AWS != nil {
		tasks.Go(func() { p.alone(ctx, leaseReconcile, p.reconcileOften) })
		tasks.Go(func() {
			p.alone(ctx, leaseSchedule, func(ctx context.Context) { p.every(ctx, scheduleEvery, p.rotateDue) })
		})
	}
	if p.cfg.AWS != nil && p.cfg.Fleet != nil {
		tasks.Go(func() { p.every(ctx, p.cfg.Timing.Look, p.look) })
	}
	for {
		err := panics.Catch(p.log, "start of operations", func() error { return p.startAll(ctx, &tasks) })
		switch {
		case err == nil || ctx.Err() != nil:
		case p.cfg.Fleet != nil: // look wakes it again, and the node says that the database is away
			p.log.Debug("read operations failed; retrying", "error", err)
		default:
			p.log.Error("read operations failed; retrying", "error", err)
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

// startAll starts every running operation that does not run in this process yet, and for all that
// memory tells in no other.
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
		if _, err := p.accountOfName(ctx, o.Credential); errors.Is(err, alias.ErrForbidden) {
			continue // it goes on when the account is in the file again
		}
		if p.leftToUs(o) && p.markRunning(o) {
			tasks.Go(func() {
				// converge catches panics of actions; this catches those of run.
				_ = panics.Catch(p.log, "operation "+o.ID, func() error { p.run(ctx, o.Credential); return nil })
			})
		}
	}
	return nil
}

// maxRunning bounds how many operations startAll reads.
const maxRunning = 10_000

// markRunning marks the credential of an operation as being worked on, and reports whether
// it was not.
func (p *Provisioner) markRunning(o *alias.Operation) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.active[o.Credential]; ok {
		return false
	}
	p.active[o.Credential] = &activity{since: o.CreatedAt}
	return true
}

// activity is the work on a credential in this process.
type activity struct {
	since time.Time
	// interrupt ends the current attempt, so that the work continues from the stored
	// state; nil before the first attempt.
	interrupt context.CancelFunc
}

// interruptible derives the context of one attempt.
func (p *Provisioner) interruptible(ctx context.Context, name alias.Name) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.active[name]; a != nil {
		a.interrupt = cancel
	}
	return ctx, cancel
}

// interrupt ends the current attempt at a credential, even in a wait, and wakes every
// Wait.
func (p *Provisioner) interrupt(name alias.Name) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.active[name]; a != nil && a.interrupt != nil {
		a.interrupt()
	}
	p.wakeWaiting()
}

// Running returns the number of running operations and the start of the oldest.
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

// release marks a credential as not being worked on and wakes every Wait. An operation may
// have begun since the last look at the registry, so Run reads again.
func (p *Provisioner) release(name alias.Name) {
	p.leave(name)
	p.notify()
}

// leave is release, of a credential on which another node works.
func (p *Provisioner) leave(name alias.Name) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.active, name)
	p.wakeWaiting()
}

// operationStored wakes every Wait and Watch.
func (p *Provisioner) operationStored() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakeWaiting()
}

// wakeWaiting wakes every Wait and Watch. The caller holds mu.
func (p *Provisioner) wakeWaiting() {
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

// every calls fn immediately and after each interval, until ctx ends. A panic ends
// only the call of fn.
func (p *Provisioner) every(ctx context.Context, interval time.Duration, fn func(context.Context)) {
	for {
		_ = panics.Catch(p.log, "background task", func() error { fn(ctx); return nil }) // Catch logs it
		if p.clock.Sleep(ctx, interval) != nil {
			return
		}
	}
}

// Wait returns an operation when it has ended, or its current state when ctx ends. It
// returns alias.ErrNotFound for an unknown id.
func (p *Provisioner) Wait(ctx context.Context, id string) (*alias.Operation, error) {
	return p.await(ctx, id, (*alias.Operation).Finished)
}

// Watch returns an operation when its revision is above after or it has ended, or its
// current state when ctx ends. It returns alias.ErrNotFound for an unknown id.
func (p *Provisioner) Watch(ctx context.Context, id string, after int64) (*alias.Operation, error) {
	return p.await(ctx, id, func(o *alias.Operation) bool { return o.Revision > after || o.Finished() })
}

// await returns an operation when enough accepts it, or its current state when ctx ends.
func (p *Provisioner) await(
	ctx context.Context, id string, enough func(*alias.Operation) bool,
) (*alias.Operation, error) {
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		o, err := p.cfg.Registry.History().Operation(context.WithoutCancel(ctx), id)
		if err != nil || enough(o) {
			return o, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return o, nil
		}
	}
}
