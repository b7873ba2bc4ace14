package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ixmage/alias"
)

// Fleet is what provisioning needs of the nodes that share its registry. Its methods are safe
// for concurrent use.
type Fleet interface {
	Name() string // of this node
	// Try takes a lease, or returns alias.ErrLeased or alias.ErrUnavailable.
	Try(ctx context.Context, name string) (Lease, error)
	// LeaseHolder names the node that had a lease a few seconds ago; empty for none.
	LeaseHolder(name string) string
	// Behind names the nodes that may not have applied a revision of the registry yet.
	Behind(ctx context.Context, revision int64) ([]string, error)
	// PreviousUsed is when another node last used the previous key of a credential.
	PreviousUsed(credentialID int64) time.Time
	// UsedPrevious tells the other nodes that this one has used it now.
	UsedPrevious(credentialID int64)
}

// Lease is the right of this process to do something alone. Once it is not Valid, it never is
// again.
type Lease interface {
	Lease() alias.Lease
	Valid() bool
	// Context ends with the cause alias.ErrLeaseLost when the lease is not Valid any more.
	Context(ctx context.Context) (context.Context, context.CancelFunc)
	Release()
}

// The leases of the background tasks.
const (
	leaseSchedule  = "schedule"
	leaseReconcile = "reconcile"
)

// errLeaseLost is the error of work whose lease was lost. It is one of the registry, so that it
// does not fail an operation: this or another node continues it from the stored state.
func errLeaseLost(name string) error {
	return &registryError{fmt.Errorf("%s: %w", name, alias.ErrLeaseLost)}
}

type leasesKey struct{}

// leasesOf are the leases under which ctx runs.
func leasesOf(ctx context.Context) []Lease {
	held, _ := ctx.Value(leasesKey{}).([]Lease)
	return held
}

// mayWrite returns an error if IAM must not be written to, because another node may have the
// leases of ctx now.
func (p *Provisioner) mayWrite(ctx context.Context) error {
	held := leasesOf(ctx)
	if p.cfg.Fleet != nil && len(held) == 0 {
		return errLeaseLost("no lease")
	}
	for _, l := range held {
		if !l.Valid() {
			return errLeaseLost(l.Lease().Name)
		}
	}
	return nil
}

// apply is Registry.Apply. It writes nothing if another process has one of the leases of ctx.
func (p *Provisioner) apply(
	ctx context.Context, names []alias.Name, fn func(alias.Tx) ([]alias.Change, error),
) error {
	return p.cfg.Registry.Apply(ctx, names, func(tx alias.Tx) ([]alias.Change, error) {
		for _, l := range leasesOf(ctx) {
			if err := tx.CheckLease(l.Lease()); err != nil {
				return nil, err
			}
		}
		return fn(tx)
	})
}

// tryLease takes a lease if no node has it; nil if this process is the only one.
func (p *Provisioner) tryLease(ctx context.Context, name string) (Lease, error) { //nolint:ireturn // of the fleet
	if p.cfg.Fleet == nil {
		return nil, nil //nolint:nilnil // see above
	}
	lease, err := p.cfg.Fleet.Try(ctx, name)
	if err != nil {
		return nil, &registryError{fmt.Errorf("lease %s: %w", name, err)}
	}
	return lease, nil
}

// awaitLease is tryLease, and waits while another node has the lease.
func (p *Provisioner) awaitLease(ctx context.Context, name string) (Lease, error) { //nolint:ireturn // of the fleet
	for i := 0; ; i++ {
		lease, err := p.tryLease(ctx, name)
		if !errors.Is(err, alias.ErrLeased) {
			return lease, err
		}
		if err := p.clock.Sleep(ctx, waits[min(i, 2)]); err != nil {
			return nil, err
		}
	}
}

// withLease calls fn with a context that ends when the lease is lost, and releases the lease.
func withLease(ctx context.Context, lease Lease, fn func(context.Context) error) error {
	if lease == nil {
		return fn(ctx)
	}
	defer lease.Release()
	held, cancel := lease.Context(context.WithValue(ctx, leasesKey{}, append(slices.Clone(leasesOf(ctx)), lease)))
	defer cancel()
	err := fn(held)
	if err != nil && ctx.Err() == nil && errors.Is(context.Cause(held), alias.ErrLeaseLost) {
		return errLeaseLost(lease.Lease().Name)
	}
	return err
}

// locked calls fn while nothing else of the fleet has the lock of this name. It waits for that.
func (p *Provisioner) locked(ctx context.Context, name string, fn func(context.Context) error) error {
	return p.lockedBy(ctx, name, p.awaitLease, fn)
}

// lockedFirst is locked, and does not wait for another node: it returns alias.ErrLeased then.
func (p *Provisioner) lockedFirst(ctx context.Context, name string, fn func(context.Context) error) error {
	return p.lockedBy(ctx, name, p.tryLease, fn)
}

func (p *Provisioner) lockedBy(
	ctx context.Context, name string, take func(context.Context, string) (Lease, error), fn func(context.Context) error,
) error {
	release, err := p.locks.lock(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	lease, err := take(ctx, name)
	if err != nil {
		return err
	}
	return withLease(ctx, lease, fn)
}

// lockedIfFree is locked, and waits for nothing: it does not call fn then.
func (p *Provisioner) lockedIfFree(ctx context.Context, name string, fn func(context.Context) error) error {
	release, free := p.locks.try(name)
	if !free {
		return nil
	}
	defer release()
	lease, err := p.tryLease(ctx, name)
	if errors.Is(err, alias.ErrLeased) {
		return nil
	}
	if err != nil {
		return err
	}
	return withLease(ctx, lease, fn)
}

// alone runs a background task on one node of the fleet, until ctx ends. Another node begins it
// when this one has lost the lease.
func (p *Provisioner) alone(ctx context.Context, name string, task func(context.Context)) {
	if p.cfg.Fleet == nil {
		task(ctx)
		return
	}
	for ctx.Err() == nil {
		if !p.hasOther(name) {
			err := p.lockedFirst(ctx, name, func(ctx context.Context) error { task(ctx); return ctx.Err() })
			if ctx.Err() == nil && !errors.Is(err, alias.ErrLeased) {
				p.log.Warn("background task interrupted", "lease", name, "error", err)
			}
		}
		_ = p.clock.Sleep(ctx, p.cfg.Timing.Look) // the loop ends with ctx
	}
}

// hasOther reports whether another node had a lease a few seconds ago. It does not ask the database.
func (p *Provisioner) hasOther(name string) bool {
	holder := p.cfg.Fleet.LeaseHolder(name)
	return holder != "" && holder != p.cfg.Fleet.Name()
}

// leftToUs reports whether an operation is for this node to run, as far as memory tells: it was asked
// for it, or the node that was has had time to begin, and no other node has the lease.
func (p *Provisioner) leftToUs(o *alias.Operation) bool {
	if p.cfg.Fleet == nil {
		return true
	}
	p.mu.Lock()
	first := p.first[o.Credential]
	delete(p.first, o.Credential)
	p.mu.Unlock()
	return !p.hasOther(credentialLock(o.Credential)) && (first || p.clock.Now().Sub(o.UpdatedAt) >= p.cfg.Timing.Look)
}

// begun makes Run start an operation that this node was asked for.
func (p *Provisioner) begun(name alias.Name) {
	if p.cfg.Fleet != nil {
		p.mu.Lock()
		p.first[name] = true
		p.mu.Unlock()
	}
	p.notify()
}

// follow reacts to what other nodes do with operations. It is an observer of the registry. An
// attempt at a credential continues from the stored state, because a removal or an emergency may
// have taken the place of its operation.
func (p *Provisioner) follow(c alias.Change) {
	if c.Operation == "" && !c.Missed {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, a := range p.active {
		if (c.Missed || name == c.Operation) && a.interrupt != nil {
			a.interrupt()
		}
	}
	p.wakeWaiting()
	p.notify()
}

// takeOver notes that this process runs an operation. If another one may have begun it, the user
// gets a new generation before anything else: a call of that one which arrives late is noticed.
func (t *task) takeOver(ctx context.Context) error {
	held := leasesOf(ctx)
	if len(held) == 0 {
		return nil
	}
	process := held[len(held)-1].Lease().Process
	if t.data.Owner == process {
		return nil
	}
	before := t.data.Owner != "" || t.op.Steps[0].State != alias.StepPending
	if t.data.Owner = process; !before {
		return nil // stored when the first step begins
	}
	t.data.Raised = false
	return t.save(ctx)
}

// lookNodes asks which nodes may sign with the previous key as their current one or, if the decision
// names a key, with that one, because they do not know that the rotation to it was undone.
func (t *task) lookNodes(ctx context.Context, d decision) (string, error) {
	reverted, ours := d.key != "", t.p.cfg.Registry.Position().Revision
	var revision int64
	if reverted {
		revision = t.prov.Reverted.Revision
	} else {
		revision = t.prov.Previous.Revision
	}
	if revision == 0 || revision > ours { // the registry was copied since
		revision = ours
	}
	behind, err := t.p.cfg.Fleet.Behind(ctx, revision)
	if err != nil {
		return "", &registryError{err}
	}
	behind = slices.DeleteFunc(behind, func(name string) bool { return name == t.p.cfg.Fleet.Name() }) // we have the swap
	t.seen.nodesAt = t.p.clock.Now()
	switch {
	case len(behind) > 0 && reverted:
		return "", t.say(ctx, d.step, awaitNodes(behind, "that the previous key signs again", d.key))
	case len(behind) > 0:
		return "", t.say(ctx, d.step, awaitNodes(behind, "the new key", "the previous one"))
	case reverted:
		t.prov.Reverted = nil
		return "no node signs with " + d.key, t.store(ctx)
	}
	t.prov.Previous.FollowedAt = t.now()
	return "every node signs with the new key", t.store(ctx)
}

// say stores the detail of a step that waits, in an undo behind the reason for that.
func (t *task) say(ctx context.Context, step, detail string) error {
	if t.op != nil && t.data.Undo != nil {
		step, detail = t.data.Undo.Step, t.data.Undo.Detail+"; "+detail
	}
	i := t.step(step)
	if i < 0 || t.op.Steps[i].Detail == detail {
		return nil
	}
	t.op.Steps[i].Detail = detail
	return t.save(ctx)
}

// lostKey is a key that was made and whose secret is not stored.
type lostKey struct {
	by   caller
	user string
	id   string
}

// deleteLost deletes a key at once or, if the lease was lost while the key was made, later: no
// other process knows that the key is ours.
func (p *Provisioner) deleteLost(ctx context.Context, k lostKey) error {
	err := k.by.deleteKey(ctx, k.user, k.id)
	if errors.Is(err, alias.ErrLeaseLost) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lost = append(p.lost, k)
	}
	return err
}

// look looks for what other nodes do not do any more, and deletes keys that were lost here.
func (p *Provisioner) look(ctx context.Context) {
	p.notify()
	p.mu.Lock()
	keys := p.lost
	p.lost = nil
	p.mu.Unlock()
	for _, k := range keys {
		deleted := false
		err := p.lockedIfFree(ctx, credentialLock(k.by.credential), func(ctx context.Context) error {
			deleted = true
			return k.by.deleteKey(ctx, k.user, k.id)
		})
		switch {
		case err != nil:
			p.log.Warn("a key whose secret was lost was not deleted", "user", k.user, "access_key_id", k.id, "error", err)
		case deleted:
			continue
		}
		p.mu.Lock()
		p.lost = append(p.lost, k)
		p.mu.Unlock()
	}
}
