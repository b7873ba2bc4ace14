package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/internal/panics"
)

// task is a running operation. Only the goroutine that performs the operation uses
// it.
type task struct {
	p    *Provisioner
	op   *alias.Operation
	data progress
	// resumed says that the step may have been performed before, by a process that crashed.
	resumed bool
}

// progress is the state of an operation, stored in its Data.
type progress struct {
	Request   *policy.Request `json:"request,omitempty"`
	Emergency bool            `json:"emergency,omitempty"`
	// KeySince is the time just before the first CreateAccessKey. A later key that
	// the registry does not know is ours, and its secret is lost.
	KeySince  time.Time        `json:"key_since,omitzero"`
	Pending   *alias.SealedKey `json:"pending,omitempty"` // the new key, until it is the credential's
	PendingAt time.Time        `json:"pending_at,omitzero"`
	Retiring  *alias.SealedKey `json:"old,omitempty"` // the key that is being retired

	// Scope is the verdict of the verification of the new key.
	Scope alias.Verdict `json:"scope,omitempty"`

	SwappedAt     time.Time `json:"swapped_at,omitzero"`
	RotatedBefore time.Time `json:"rotated_before,omitzero"` // the credential's RotatedAt before the swap
	DeactivatedAt time.Time `json:"deactivated_at,omitzero"`
	// Before is the reused credential before this operation added a grant.
	Before *alias.Provisioned `json:"before,omitempty"`
	// Undo is the reason for the undo; nil while the operation has not failed.
	Undo *alias.OperationError `json:"undo,omitempty"`
}

// step is one durable step. do returns a detail for the operator, or the reason for
// which the operation cannot continue. It is repeated after a crash, so it must check
// the state of IAM before it changes it.
type step struct {
	name string
	do   func(*task, context.Context) (string, error)
}

// run performs an operation until it or ctx has ended. After a failed write to the
// registry it continues from the stored state.
func (p *Provisioner) run(ctx context.Context, id string) {
	defer p.release(id)
	overtaken := false
	for i := 0; ; i++ {
		attempt, cancel := p.interruptible(scope.WithMark(ctx, id), id)
		err := p.perform(attempt, id)
		interrupted := attempt.Err() != nil
		cancel()
		if err == nil || ctx.Err() != nil {
			return
		}
		if interrupted {
			continue // from the stored state
		}
		// An emergency is stored before it interrupts the task. A write of the task
		// between the two is stale, and is repeated on the stored state.
		if errors.Is(err, alias.ErrStale) && !overtaken {
			overtaken = true
			continue
		}
		overtaken = false
		p.log.Error("operation interrupted; retrying", "operation", id, "error", err)
		if p.clock.Sleep(ctx, waits[min(i, len(waits)-1)]) != nil {
			return
		}
	}
}

// perform completes an operation, or undoes it. After an error, which comes from the
// registry or from ctx, it can be called again. A panic fails the operation, which is
// then undone; if the undo panics too, the operation ends without it.
func (p *Provisioner) perform(ctx context.Context, id string) error {
	for {
		err := panics.Catch(p.log, "operation "+id, func() error { return p.advance(ctx, id) })
		caught, panicked := errors.AsType[*panics.Error](err)
		if !panicked {
			return err
		}
		// The task in memory may be half changed, or stored already.
		t, err := p.load(ctx, id)
		if err != nil || t.op.Finished() {
			return err
		}
		if t.data.Undo != nil {
			return t.abandon(ctx)
		}
		if err := t.failPanicked(ctx, caught); err != nil {
			return err
		}
	}
}

// advance performs the remaining steps, and completes or undoes the operation.
func (p *Provisioner) advance(ctx context.Context, id string) error {
	t, err := p.load(ctx, id)
	if err != nil || t.op.Finished() {
		return err
	}
	release, err := p.locks.lock(ctx, credentialLock(t.op.Credential))
	if err != nil {
		return err
	}
	defer release()
	for i, s := range t.steps() {
		if t.data.Undo != nil {
			break
		}
		if t.op.Steps[i].State == alias.StepDone {
			continue
		}
		if err := t.perform(ctx, i, s); err != nil {
			return err
		}
	}
	if t.data.Undo != nil {
		return t.undo(ctx)
	}
	return t.complete(ctx)
}

// failPanicked marks the step that panicked as failed and the operation as one to be
// undone.
func (t *task) failPanicked(ctx context.Context, caught *panics.Error) error {
	t.data.Undo = &alias.OperationError{Code: codeInternal, Detail: caught.Error() + "; the log has the stack"}
	for i := range t.op.Steps {
		if s := &t.op.Steps[i]; s.State == alias.StepRunning {
			s.State, s.FinishedAt, s.Detail, t.data.Undo.Step = alias.StepFailed, t.now(), t.data.Undo.Detail, s.Name
		}
	}
	return t.save(ctx)
}

func (p *Provisioner) load(ctx context.Context, id string) (*task, error) {
	op, err := p.cfg.Registry.History().Operation(ctx, id)
	if err != nil {
		return nil, err
	}
	t := &task{p: p, op: op}
	err = t.decode()
	return t, err
}

// decode reads the stored state of the operation.
func (t *task) decode() error {
	if err := json.Unmarshal(t.op.Data, &t.data); err != nil {
		return fmt.Errorf("operation %s: %w", t.op.ID, err)
	}
	return nil
}

// steps are the steps of the operation's kind, in the order of op.Steps.
func (t *task) steps() []step {
	switch {
	case t.op.Kind == alias.OperationRotate:
		return rotateSteps
	case t.op.Kind == alias.OperationRemove:
		return removeSteps
	case t.data.Request.Credential != "":
		return reuseSteps
	}
	return provisionSteps
}

// names makes the steps of a new operation.
func names(steps []step) []alias.Step {
	out := make([]alias.Step, len(steps))
	for i, s := range steps {
		out[i] = alias.Step{Name: s.name, State: alias.StepPending}
	}
	return out
}

// perform performs one step. If it fails, the operation is marked to be undone.
func (t *task) perform(ctx context.Context, i int, s step) error {
	state := &t.op.Steps[i]
	began := t.now()
	t.resumed = !state.StartedAt.IsZero()
	if state.StartedAt.IsZero() {
		state.StartedAt = began
	}
	state.State = alias.StepRunning
	if err := t.save(ctx); err != nil {
		return err
	}
	detail, err := s.do(t, ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if fatal, ok := errors.AsType[*registryError](err); ok {
		return fatal
	}
	state.FinishedAt, state.Detail, state.State = t.now(), detail, alias.StepDone
	t.p.cfg.Recorder.Step(s.name, state.FinishedAt.Sub(began))
	if err != nil {
		if t.data.Undo == nil {
			t.data.Undo = operationError(s.name, err)
		}
		state.State, state.Detail = alias.StepFailed, t.data.Undo.Detail
		t.p.log.Warn("step failed", "operation", t.op.ID, "kind", string(t.op.Kind), "step", s.name,
			"code", t.data.Undo.Code, "detail", t.data.Undo.Detail)
		return t.save(ctx)
	}
	// The last step is stored together with the end of the operation.
	if i < len(t.op.Steps)-1 {
		return t.save(ctx)
	}
	return nil
}

// now is the time, in the precision of the store.
func (t *task) now() time.Time { return t.p.clock.Now().UTC().Truncate(time.Microsecond) }

// registryError is a failed access to the registry, after which the step is repeated.
type registryError struct{ error }

func (e *registryError) Unwrap() error { return e.error }

// save stores the operation and calls also in the same transaction.
func (t *task) save(ctx context.Context, also ...func(alias.Tx) ([]alias.Change, error)) error {
	data, err := json.Marshal(t.data)
	if err != nil {
		return &registryError{err}
	}
	next := *t.op
	next.Data, next.Revision, next.UpdatedAt = data, t.op.Revision+1, t.now()
	names := []alias.Name{t.op.Credential}
	if t.op.Alias != "" && t.op.Alias != t.op.Credential {
		names = append(names, t.op.Alias)
	}
	err = t.p.cfg.Registry.Apply(ctx, names, func(tx alias.Tx) ([]alias.Change, error) {
		var changes []alias.Change
		for _, fn := range also {
			more, err := fn(tx)
			if err != nil {
				return nil, err
			}
			changes = append(changes, more...)
		}
		return changes, tx.UpdateOperation(&next)
	})
	if err != nil {
		return &registryError{fmt.Errorf("operation %s: %w", t.op.ID, err)}
	}
	t.op = &next
	return nil
}

// end finishes the operation and calls also in the same transaction.
func (t *task) end(
	ctx context.Context, failure *alias.OperationError, also func(alias.Tx) ([]alias.Change, error),
) error {
	t.op.State, t.op.FinishedAt, t.op.Error = alias.OperationDone, t.now(), failure
	outcome := "ok"
	if failure != nil {
		t.op.State, outcome = alias.OperationFailed, failure.Code
	}
	// Secrets, even sealed ones, are deleted when they are not needed any more.
	t.data.Pending, t.data.Retiring = nil, nil
	if err := t.save(ctx, also); err != nil {
		return err
	}
	t.p.cfg.Recorder.Operation(string(t.op.Kind), string(t.op.State))
	t.p.log.Info("operation ended", "operation", t.op.ID, "kind", string(t.op.Kind), "alias", string(t.op.Alias),
		"credential", string(t.op.Credential), "outcome", outcome)
	return nil
}

// credential reads the credential of the operation from the registry.
func (t *task) credential(ctx context.Context) (*alias.Credential, *alias.Provisioned, error) {
	c, err := t.p.cfg.Registry.Credential(ctx, t.op.Credential)
	switch {
	case errors.Is(err, alias.ErrNotFound):
		return nil, nil, failf(codeInternal, "the credential %s is not in the registry any more", t.op.Credential)
	case err != nil:
		return nil, nil, &registryError{err}
	}
	p, ok := c.Provisioned()
	if !ok || c.ID != t.op.CredentialID {
		return nil, nil, failf(codeInternal, "the credential %s was replaced since this operation began", c.Name)
	}
	return c, p.Clone(), nil
}

// changed returns the write that makes p the provider of a credential.
func (t *task) changed(c *alias.Credential, p *alias.Provisioned) func(alias.Tx) ([]alias.Change, error) {
	next := *c
	next.Provider, next.Revision, next.UpdatedAt = p, c.Revision+1, t.now()
	return func(tx alias.Tx) ([]alias.Change, error) {
		return []alias.Change{{CredentialPut: &next}}, tx.UpdateCredential(&next)
	}
}

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
			detail := fmt.Sprintf("IAM did not show the change within %s; repeat the request later", budget)
			return &stepError{code: codeNotSeen, detail: detail, err: errNotSeen}
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
