package provision

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/internal/panics"
)

// task is the work on one credential: it looks at the user in IAM, lets next decide, and
// does what that says, until nothing is left to do. Everything that has to outlive the
// process is in the registry; what was seen is looked at again after a crash. Only one
// goroutine uses a task.
type task struct {
	p    *Provisioner
	c    *alias.Credential  // as stored
	prov *alias.Provisioned // its provider, a copy to be edited
	op   *alias.Operation   // nil if none runs
	data progress
	seen observed
	// missed counts the looks in a row that did not find what they were for.
	missed      map[actionKind]miss
	actor       string       // of the calls, if no operation runs
	accountRole *accountRole // nil: the server's own
	// resumed means that a process that crashed may have created the user, and maybeOurs that
	// the existing user may be the one of an attempt whose answer was lost.
	resumed, maybeOurs bool
	made               []string // the managed policies that were made: see caller
}

// miss is a series of looks without the wanted result.
type miss struct {
	since time.Time
	n     int
}

// progress is the part of an operation that is not in its credential, stored in its Data.
type progress struct {
	Request   *policy.Request `json:"request,omitempty"`
	Emergency bool            `json:"emergency,omitempty"`
	// Scope is the verdict of the verification of the new key or location.
	Scope alias.Verdict `json:"scope,omitempty"`
	// Before is what the user of a reused credential could read before this operation.
	Before *granted `json:"before,omitempty"`
	// Widened means that the user may have the added grant.
	Widened bool `json:"widened,omitempty"`
	// Undo is the reason for the undo; nil while the operation has not failed.
	Undo *alias.OperationError `json:"undo,omitempty"`
	// Keys are the ids of the keys that the operation made, and Deleted those that it
	// deleted.
	Keys    []string `json:"keys,omitempty"`
	Deleted []string `json:"deleted,omitempty"`
	// Raised means that the operation has given the user a new generation.
	Raised bool `json:"raised,omitempty"`
	// Static is the id of the credential that the alias has until an adopted user's key takes
	// its place; 0 for a new alias.
	Static int64 `json:"static,omitempty"`
	// Adopted means that the user of a removal is an adopted one, and Released that all of
	// ixmage but the tags was taken off it.
	Adopted  bool `json:"adopted,omitempty"`
	Released bool `json:"released,omitempty"`
	// Owner is the process that runs the operation. It is empty without a fleet.
	Owner string `json:"owner,omitempty"`
	// Taken counts the generations that an adopted user got because another process took the
	// operation over, before its key was verified.
	Taken int64 `json:"taken,omitempty"`
	// Format is progressFormat, or 0 if an earlier version wrote this.
	Format int `json:"format,omitempty"`
}

const progressFormat = 2

// granted is what a user can read, and by which managed policies.
type granted struct {
	Grants   []alias.Grant     `json:"grants"`
	Policies []alias.PolicyRef `json:"policies,omitempty"`
	Extra    []alias.Grant     `json:"widened,omitempty"` // the ExtraGrants of the credential
}

// creates reports whether an operation makes a user.
func creates(op *alias.Operation, data *progress) bool {
	r := data.Request
	return op.Kind == alias.OperationProvision && r != nil && r.Credential == "" && r.Adopt == ""
}

// adopts reports whether an operation takes over a user.
func adopts(op *alias.Operation, data *progress) bool {
	return op.Kind == alias.OperationProvision && data.Request != nil && data.Request.Adopt != ""
}

// abandoned reports whether a failed operation left something of ixmage on a user that it
// was to adopt.
func (t *task) abandoned() bool { return t.op == nil && isAbandoned(t.c) }

func isAbandoned(c *alias.Credential) bool {
	p, ok := c.Provisioned()
	return ok && p.Adopted != nil && p.User.ID != "" && c.State == alias.CredentialFailed && c.Sealed == nil
}

// desired is the input of next.
func (t *task) desired() desired {
	d := desired{Provisioned: t.prov, name: t.c.Name, timing: t.p.cfg.Timing, fellBack: t.p.previousUsed(t.c.ID)}
	d.fleet = t.p.cfg.Fleet != nil
	if t.op != nil {
		d.kind, d.emergency, d.undo = t.op.Kind, t.data.Emergency, t.data.Undo != nil
		d.began = t.op.CreatedAt
		d.creates, d.scope = creates(t.op, &t.data), t.data.Scope
		d.raised = t.data.Raised
		d.adopts, d.released = adopts(t.op, &t.data), t.data.Released
		d.taken = t.data.Taken
	}
	if d.abandoned = t.abandoned(); t.prov.Adopted != nil {
		d.keptInUse = t.p.serves(t.prov.Adopted.AccessKeyID)
	}
	return d
}

// run works on a credential until nothing is left to do, another node does it, or ctx has ended.
func (p *Provisioner) run(ctx context.Context, name alias.Name) {
	release := p.release
	defer func() { release(name) }()
	for i := 0; ; i++ {
		err := p.lockedFirst(ctx, credentialLock(name), func(ctx context.Context) error { return p.attempts(ctx, name) })
		switch {
		case errors.Is(err, alias.ErrLeased):
			release = p.leave
			return
		case err == nil, ctx.Err() != nil:
			return
		}
		p.log.Warn("operation interrupted; trying to continue", "credential", string(name), "error", err)
		if p.clock.Sleep(ctx, waits[min(i, len(waits)-1)]) != nil {
			return
		}
	}
}

// attempts works on a credential until nothing is left to do, ctx has ended, or the lease was lost.
// After a failed write to the registry it continues from the stored state.
func (p *Provisioner) attempts(ctx context.Context, name alias.Name) error {
	overtaken := false
	for i := 0; ; i++ {
		attempt, cancel := p.interruptible(ctx, name)
		err := p.converge(attempt, name)
		interrupted := attempt.Err() != nil
		cancel()
		if err == nil || ctx.Err() != nil || errors.Is(err, alias.ErrLeaseLost) {
			return err
		}
		if interrupted {
			continue // from the stored state
		}
		// A removal or an emergency is stored before it interrupts the task. A write of the
		// task between the two is stale, and is repeated on the stored state.
		if errors.Is(err, alias.ErrStale) && !overtaken {
			overtaken = true
			continue
		}
		overtaken = false
		p.log.Error("operation interrupted; retrying", "credential", string(name), "error", err)
		if err := p.clock.Sleep(ctx, waits[min(i, len(waits)-1)]); err != nil {
			return err
		}
	}
}

// converge brings a credential's user into the desired state, and ends its operation. An
// error comes from the registry or from ctx, and converge can then be called again. A panic
// fails the operation, which is then undone; if the undo panics too, the operation ends
// without it. The caller has the lock of the credential.
func (p *Provisioner) converge(ctx context.Context, name alias.Name) error {
	for {
		t, err := p.load(ctx, name)
		if err != nil || t == nil {
			return err
		}
		err = panics.Catch(p.log, "operation "+t.op.ID, func() error { return t.loop(scope.WithMark(ctx, t.op.ID)) })
		caught, panicked := errors.AsType[*panics.Error](err)
		if !panicked {
			return err
		}
		failed := t.op.ID
		// The task in memory may be half changed, or stored already.
		if t, err = p.load(ctx, name); err != nil || t == nil {
			return err
		}
		if t.op.ID != failed {
			continue // it has taken the place of the one that panicked
		}
		failure := failf(codeInternal, "%s; the log has the stack", caught.Error())
		if t.data.Undo != nil {
			failure = errors.New("the undo panicked; reconcile removes the rest later")
		}
		if err := t.fail(ctx, "", failure); err != nil {
			return err
		}
	}
}

// load reads the operation that runs on a credential; nil if there is none.
func (p *Provisioner) load(ctx context.Context, name alias.Name) (*task, error) {
	list, err := p.cfg.Registry.History().Operations(ctx, alias.OperationFilter{
		Credential: name, State: alias.OperationRunning, Limit: 1,
	})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	t := &task{p: p, op: list[0], missed: map[actionKind]miss{}}
	if err := json.Unmarshal(t.op.Data, &t.data); err != nil {
		return nil, fmt.Errorf("operation %s: %w", t.op.ID, err)
	}
	if err := t.read(ctx, name); err != nil {
		return nil, err
	}
	if t.data.Format != progressFormat {
		err = t.upgrade(ctx)
	}
	if creates(t.op, &t.data) && t.prov.User.ID == "" && t.data.Undo == nil {
		t.seen.user.state = userAbsent // or made by a call whose answer was lost: see createUser
		t.resumed = t.op.Steps[0].State != alias.StepPending
	}
	if err == nil {
		err = t.takeOver(ctx)
	}
	return t, err
}

// read reads the credential of a task.
func (t *task) read(ctx context.Context, name alias.Name) error {
	c, err := t.p.cfg.Registry.Credential(ctx, name)
	if err != nil {
		return err
	}
	prov, ok := c.Provisioned()
	if !ok {
		return fmt.Errorf("credential %s is of kind %s: %w", name, c.Provider.Kind(), alias.ErrNotProvisioned)
	}
	own := *c
	t.c, t.prov = &own, prov.Clone()
	if t.accountRole == nil {
		t.accountRole = t.p.roleIn(t.prov.Account, t.operation())
	}
	return nil
}

// operation names the work in a session.
func (t *task) operation() string {
	if t.op != nil {
		return t.op.ID
	}
	return "reclaim-" + rand.Text()
}

// loop decides and acts until nothing is left to do.
func (t *task) loop(ctx context.Context) error {
	for {
		t.seen.deleted = t.data.Deleted
		d := next(t.desired(), t.seen, t.p.clock.Now())
		var err error
		switch {
		case d.act != "":
			err = t.act(ctx, d)
		case d.stop != nil:
			err = t.fail(ctx, d.step, d.stop)
		case !d.until.IsZero():
			t.accountRole.drop() // a soak is long
			if err = t.enter(ctx, d.step); err == nil {
				err = t.p.clock.Sleep(ctx, d.until.Sub(t.p.clock.Now()))
			}
		default:
			if err = t.finish(ctx); t.op == nil {
				return err
			}
		}
		if err != nil || t.op != nil && t.op.Finished() {
			return err
		}
	}
}

// act does what was decided. If it fails, the operation is undone.
func (t *task) act(ctx context.Context, d decision) error {
	if err := t.enter(ctx, d.step); err != nil {
		return err
	}
	if over, err := t.pause(ctx, d); err != nil {
		return err
	} else if over {
		return t.fail(ctx, d.step, d.stop)
	}
	detail, err := actions[d.act](t, ctx, d)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if fatal, ok := errors.AsType[*registryError](err); ok {
		return fatal
	}
	if err != nil {
		return t.fail(ctx, d.step, err)
	}
	t.note(d.step, detail)
	return nil
}

// pause waits before an action that is repeated, longer each time. It reports whether the
// budget of the repetitions is over.
func (t *task) pause(ctx context.Context, d decision) (over bool, err error) {
	if d.again == 0 {
		delete(t.missed, d.act)
		return false, t.p.clock.Sleep(ctx, d.after)
	}
	now, m := t.p.clock.Now(), t.missed[d.act]
	if m.n == 0 {
		m.since = now
	}
	left := d.again - now.Sub(m.since)
	if left <= 0 {
		return true, nil
	}
	wait := min(waits[min(m.n, len(waits)-1)], left)
	m.n++
	t.missed[d.act] = m
	return false, t.p.clock.Sleep(ctx, wait)
}

// now is the time, in the precision of the store.
func (t *task) now() time.Time { return t.p.clock.Now().UTC().Truncate(time.Microsecond) }

// registryError is a failed access to the registry, after which the work is repeated.
type registryError struct{ error }

func (e *registryError) Unwrap() error { return e.error }

// save stores the operation and calls also in the same transaction.
func (t *task) save(ctx context.Context, also ...func(alias.Tx) ([]alias.Change, error)) error {
	names := []alias.Name{t.c.Name}
	var next alias.Operation
	if t.op != nil {
		data, err := json.Marshal(t.data)
		if err != nil {
			return &registryError{err}
		}
		next = *t.op
		next.Data, next.Revision, next.UpdatedAt = data, t.op.Revision+1, t.now()
		if t.op.Alias != "" && t.op.Alias != t.c.Name {
			names = append(names, t.op.Alias)
		}
	}
	err := t.p.apply(ctx, names, func(tx alias.Tx) ([]alias.Change, error) {
		var changes []alias.Change
		for _, fn := range also {
			more, err := fn(tx)
			if err != nil {
				return nil, err
			}
			changes = append(changes, more...)
		}
		if t.op == nil {
			return changes, nil
		}
		return changes, tx.UpdateOperation(&next)
	})
	if err != nil {
		return &registryError{fmt.Errorf("credential %s: %w", t.c.Name, err)}
	}
	if t.op != nil {
		t.op = &next
		t.p.operationStored()
	}
	return nil
}

// store stores the credential with its edited provider, together with the operation.
func (t *task) store(ctx context.Context, also ...func(alias.Tx) ([]alias.Change, error)) error {
	next := *t.c
	next.Provider, next.Revision, next.UpdatedAt = t.prov.Clone(), t.c.Revision+1, t.now()
	put := func(tx alias.Tx) ([]alias.Change, error) {
		if p, ok := next.Provisioned(); ok {
			dateSwap(p, t.prov, tx.Position().After.Revision)
		}
		return []alias.Change{{CredentialPut: &next}}, tx.UpdateCredential(&next)
	}
	if err := t.save(ctx, append([]func(alias.Tx) ([]alias.Change, error){put}, also...)...); err != nil {
		return err
	}
	own := next // requests sign with the published one, which must not change any more
	t.c = &own
	return nil
}

// dateSwap notes the revision with which a swap, or its undoing, is stored, in the stored and in
// the edited provider.
func dateSwap(stored, edited *alias.Provisioned, revision int64) {
	for _, p := range []*alias.Provisioned{stored, edited} {
		if p.Previous != nil && p.Previous.Revision == 0 {
			p.Previous.Revision = revision
		}
		if p.Reverted != nil && p.Reverted.Revision == 0 {
			p.Reverted.Revision = revision
		}
	}
}

// caller is the caller of IAM for the task.
func (t *task) caller() caller {
	c := caller{
		p: t.p, accountRole: t.accountRole, actor: t.actor, credential: t.c.Name, adopted: t.prov.Adopted != nil,
		made: t.made,
	}
	if t.op != nil {
		c.actor, c.operation, c.alias = t.op.Actor, t.op.ID, t.op.Alias
	}
	return c
}

func (t *task) iam() *iam.Client { return t.caller().iam() }

// until calls fn until it reports that it is done, within a budget of time. It
// repeats fn after a temporary error of IAM, and while IAM does not show a change yet.
func (p *Provisioner) until(ctx context.Context, budget time.Duration, fn func() (bool, error)) error {
	deadline := p.clock.Now().Add(budget)
	for i := 0; ; i++ {
		done, err := fn()
		if done || err != nil && !isPassing(err) {
			return err
		}
		wait := min(waits[min(i, len(waits)-1)], deadline.Sub(p.clock.Now()))
		if wait <= 0 && err == nil {
			return notSeen(budget)
		}
		if wait <= 0 {
			return err
		}
		if err := p.clock.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// errNotSeen means that IAM did not show a change within the budget.
var errNotSeen = errors.New("IAM did not show the change in time")
