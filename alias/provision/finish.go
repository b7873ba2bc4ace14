package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// fail stops an operation: the desired state becomes that of before, as far as that is
// safe, and what was changed in IAM is then set back. If that fails too, the operation ends
// and its error names what is left, which a later reconcile sets back. Without an operation
// the error is returned.
func (t *task) fail(ctx context.Context, step string, err error) error {
	if t.op == nil {
		return err
	}
	if t.data.Undo != nil {
		return t.endFailed(ctx, t.left(err))
	}
	failure := operationError(step, err)
	failure.Step = t.failStep(step, failure.Detail)
	t.data.Undo = failure
	t.p.log.Warn("step failed", "operation", t.op.ID, "kind", string(t.op.Kind), "step", failure.Step,
		"code", failure.Code, "detail", failure.Detail)
	t.setBack()
	return t.store(ctx)
}

// setBack makes the desired state that of before the operation. A rotation after its
// swap keeps both keys, which the registry knows. What a provisioning made is removed.
func (t *task) setBack() {
	t.seen.rights, t.seen.listed, t.seen.searched = viewUnknown, false, false
	setBackGrants(t.prov, &t.data)
	if t.op.Kind == alias.OperationRotate || adopts(t.op, &t.data) {
		dropPending(t.prov)
	}
}

// setBackGrants takes back the grants of a reuse. They are extra grants until the user's
// policy does not allow them any more.
func setBackGrants(p *alias.Provisioned, data *progress) {
	before := data.Before
	if before == nil {
		return
	}
	if !data.Widened {
		p.ExtraGrants = before.Extra // the added grant may be one of them
	}
	for _, g := range p.Grants {
		if data.Widened && !slices.Contains(before.Grants, g) {
			p.ExtraGrants = append(p.ExtraGrants, g)
		}
	}
	p.Grants, p.Policies = before.Grants, before.Policies
}

// dropPending retires the pending key.
func dropPending(p *alias.Provisioned) {
	if p.Pending != nil && p.Pending.AccessKeyID != "" {
		p.PendingDeletion = append(p.PendingDeletion, p.Pending.AccessKeyID)
	}
	p.Pending = nil
}

// left says what an undo that failed leaves in IAM.
func (t *task) left(err error) string {
	if stopped, ok := errors.AsType[*stepError](err); ok {
		return stopped.Error()
	}
	switch {
	case creates(t.op, &t.data) && isGone(err): // if IAM only does not show it yet, reconcile finds it
		return ""
	case adopts(t.op, &t.data):
		return fmt.Sprintf("taking back what was done to the IAM user %s failed; reconcile repeats it (%v)",
			t.prov.User.Name, err)
	case creates(t.op, &t.data):
		return fmt.Sprintf("removing the IAM user %s failed; reconcile removes it later (%v)", t.prov.User.Name, err)
	case t.op.Kind == alias.OperationRotate:
		return fmt.Sprintf("deleting the new key failed, and a later operation deletes it (%v)", err)
	case t.op.Kind == alias.OperationProvision:
		return fmt.Sprintf("the policy of %s still covers the new location, and reconcile revokes that later (%v)",
			t.prov.User.Name, err)
	}
	return err.Error()
}

// endFailed ends an operation as failed. left describes what remains in IAM.
func (t *task) endFailed(ctx context.Context, left string) error {
	failure := *t.data.Undo
	if left != "" {
		failure.Detail += "; " + left
	}
	state := alias.CredentialActive
	if t.op.Kind == alias.OperationRemove || t.c.Sealed == nil {
		state = alias.CredentialFailed
	}
	dropPending(t.prov)
	return t.end(ctx, &failure, func(tx alias.Tx) ([]alias.Change, error) {
		if t.op.Kind != alias.OperationProvision {
			return nil, nil
		}
		return failAlias(tx, t.op)
	}, state)
}

// failAlias marks the alias of a provisioning as failed.
func failAlias(tx alias.Tx, op *alias.Operation) ([]alias.Change, error) {
	a, err := tx.Alias(op.Alias)
	if err != nil || a.State != alias.StateProvisioning || a.CredentialID != op.CredentialID {
		return nil, ignoreMissing(err)
	}
	a.State, a.Revision, a.UpdatedAt = alias.StateFailed, a.Revision+1, op.UpdatedAt
	return []alias.Change{{AliasPut: a}}, tx.UpdateAlias(a)
}

func ignoreMissing(err error) error {
	if errors.Is(err, alias.ErrNotFound) {
		return nil
	}
	return err
}

// finish ends an operation for which nothing is left to do, done or undone.
func (t *task) finish(ctx context.Context) error {
	if t.op == nil && !t.abandoned() {
		return nil
	}
	if t.op == nil || adopts(t.op, &t.data) && t.data.Undo != nil {
		t.prov.User.ID, t.prov.PendingDeletion, t.prov.Suspects = "", nil, nil // the user has nothing of ours any more
	}
	switch {
	case t.op == nil:
		return t.store(ctx)
	case t.data.Undo != nil:
		return t.endFailed(ctx, "")
	}
	return t.succeed(ctx)
}

// succeed ends an operation that has done what it was for.
func (t *task) succeed(ctx context.Context) error {
	if err := t.enter(ctx, t.op.Steps[len(t.op.Steps)-1].Name); err != nil {
		return err
	}
	if err := t.mayOpen(ctx); err != nil {
		if fatal, ok := errors.AsType[*registryError](err); ok {
			return fatal
		}
		return t.fail(ctx, "", err)
	}
	t.pass(len(t.op.Steps))
	switch t.op.Kind {
	case alias.OperationRemove:
		return t.forget(ctx)
	case alias.OperationProvision:
		return t.end(ctx, nil, t.open, alias.CredentialActive)
	case alias.OperationRotate:
		t.prov.KeySince, t.prov.KeyBeside = time.Time{}, nil // IAM lists no key of an attempt that was lost
	}
	return t.end(ctx, nil, nil, alias.CredentialActive)
}

// open activates the alias, in the transaction that ends the operation.
func (t *task) open(tx alias.Tx) ([]alias.Change, error) {
	a, err := tx.Alias(t.op.Alias)
	if err != nil {
		return nil, err
	}
	if t.data.Static != 0 {
		return t.handOver(tx, a)
	}
	if a.CredentialID != t.op.CredentialID {
		return nil, fmt.Errorf("alias %s does not use credential %s any more", a.Name, t.c.Name)
	}
	a.BucketOwner = policy.OwnerOf(a.Location, t.prov.User.ARN)
	a.State, a.Revision, a.UpdatedAt = alias.StateActive, a.Revision+1, t.now()
	return []alias.Change{{AliasPut: a}}, tx.UpdateAlias(a)
}

// forget deletes the credential from the registry, in the transaction that ends the
// operation.
func (t *task) forget(ctx context.Context) error {
	t.conclude(nil)
	err := t.save(ctx, func(tx alias.Tx) ([]alias.Change, error) {
		return []alias.Change{{CredentialDeleted: t.c}}, tx.DeleteCredential(t.c.ID, t.c.Revision)
	})
	if err == nil {
		t.p.ended(t.op)
	}
	return err
}

// end finishes the operation, puts the credential into state and calls also in the same
// transaction. The key of a new user becomes the current one.
func (t *task) end(
	ctx context.Context, failure *alias.OperationError, also func(alias.Tx) ([]alias.Change, error),
	state alias.CredentialState,
) error {
	t.conclude(failure)
	if pending := t.prov.Pending; failure == nil && pending != nil {
		t.prov.AccessKeyID, t.c.Sealed, t.prov.Pending = pending.AccessKeyID, pending.Sealed, nil
	}
	if failure == nil && adopts(t.op, &t.data) {
		t.prov.Adopted.Since = t.now()
	}
	if t.data.Scope != "" && failure == nil && t.op.Kind == alias.OperationProvision {
		t.c.Scope, t.c.VerifiedAt = string(t.data.Scope), t.now()
	}
	t.c.State = state
	more := []func(alias.Tx) ([]alias.Change, error){}
	if also != nil {
		more = append(more, also)
	}
	if err := t.store(ctx, more...); err != nil {
		return err
	}
	t.p.ended(t.op)
	return nil
}

func (t *task) conclude(failure *alias.OperationError) {
	t.op.State, t.op.FinishedAt, t.op.Error = alias.OperationDone, t.now(), failure
	if failure != nil {
		t.op.State = alias.OperationFailed
	}
}

// ended counts and logs the end of an operation.
func (p *Provisioner) ended(op *alias.Operation) {
	outcome := "ok"
	if op.Error != nil {
		outcome = op.Error.Code
	}
	p.cfg.Recorder.Operation(string(op.Kind), string(op.State))
	p.log.Info("operation ended", "operation", op.ID, "kind", string(op.Kind), "alias", string(op.Alias),
		"credential", string(op.Credential), "outcome", outcome)
}
