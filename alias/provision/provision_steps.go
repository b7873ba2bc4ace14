package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/panics"
)

// The steps of each kind of operation. Their names are part of the API.
var (
	provisionSteps = []step{
		{"create-user", (*task).createUser},
		{"wait-user", (*task).waitUser},
		{"put-policy", (*task).putPolicy},
		{"check-policy", (*task).checkPolicy},
		{"create-key", (*task).createKey},
		{"verify", (*task).verify},
		{"open", (*task).prepareOpen},
	}
	reuseSteps = []step{
		{"put-policy", (*task).putPolicy},
		{"check-policy", (*task).checkPolicy},
		{"verify", (*task).verify},
		{"open", (*task).prepareOpen},
	}
)

// prepareOpen deletes lost keys once more. IAM may not have listed such a key when
// the pending key was made, and lists it now that the pending key works everywhere.
func (t *task) prepareOpen(ctx context.Context) (string, error) {
	if t.data.Request.Credential != "" {
		return "", nil
	}
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	return "", t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		err := t.deleteLost(ctx, c, p)
		return err == nil, err
	})
}

// complete ends an operation whose steps are all done.
func (t *task) complete(ctx context.Context) error {
	last := &t.op.Steps[len(t.op.Steps)-1]
	last.State, last.FinishedAt = alias.StepDone, t.now()
	switch t.op.Kind {
	case alias.OperationRotate:
		return t.endRotation(ctx)
	case alias.OperationRemove:
		return t.forget(ctx)
	case alias.OperationProvision:
	}
	return t.open(ctx)
}

// open makes the pending key the credential's key and activates the alias, in the
// transaction that ends the operation.
func (t *task) open(ctx context.Context) error {
	pending := t.data.Pending
	return t.end(ctx, nil, func(tx alias.Tx) ([]alias.Change, error) {
		c, err := tx.Credential(t.op.Credential)
		if err != nil {
			return nil, err
		}
		a, err := tx.Alias(t.op.Alias)
		if err != nil {
			return nil, err
		}
		p, ok := c.Provisioned()
		if !ok || c.ID != t.op.CredentialID || a.CredentialID != c.ID {
			return nil, fmt.Errorf("alias %s does not use credential %s any more", a.Name, c.Name)
		}
		p = p.Clone()
		if pending != nil {
			p.AccessKeyID, c.Sealed = pending.AccessKeyID, pending.Sealed
		}
		c.Provider, c.State, c.Scope, c.VerifiedAt = p, alias.CredentialActive, string(t.data.Scope), t.now()
		c.Revision, c.UpdatedAt = c.Revision+1, t.now()
		a.BucketOwner = policy.OwnerOf(a.Location, p.User.ARN)
		a.State, a.Revision, a.UpdatedAt = alias.StateActive, a.Revision+1, t.now()
		changes := []alias.Change{{CredentialPut: c}, {AliasPut: a}}
		return changes, errors.Join(tx.UpdateCredential(c), tx.UpdateAlias(a))
	})
}

// undo reverts the operation as far as that is safe, and ends it as failed. If a part
// cannot be reverted now, the operation's error names it, and a later reconcile
// reverts it.
func (t *task) undo(ctx context.Context) error {
	switch t.op.Kind {
	case alias.OperationRotate:
		return t.undoRotation(ctx)
	case alias.OperationRemove:
		return t.fail(ctx, "", alias.CredentialFailed)
	case alias.OperationProvision:
	}
	if t.data.Request.Credential != "" {
		return t.undoReuse(ctx)
	}
	return t.undoProvision(ctx)
}

// abandon ends an operation as failed if its undo panicked. A later reconcile removes
// what the operation left in IAM.
func (t *task) abandon(ctx context.Context) error {
	const left = "the undo panicked; reconcile removes the rest later"
	switch t.op.Kind {
	case alias.OperationRotate:
		failure := *t.data.Undo
		failure.Detail += "; " + left
		return t.end(ctx, &failure, t.reactivate)
	case alias.OperationRemove, alias.OperationProvision:
	}
	if t.data.Request != nil && t.data.Request.Credential != "" {
		return t.fail(ctx, left, "")
	}
	return t.fail(ctx, left, alias.CredentialFailed)
}

// caught calls fn and returns a panic as an error.
func (t *task) caught(fn func() error) error {
	return panics.Catch(t.p.log, "undo of operation "+t.op.ID, fn)
}

// undoProvision removes the user, if it bears the tag of this operation.
func (t *task) undoProvision(ctx context.Context) error {
	left := ""
	if t.begun("create-user") {
		var err error
		if left, err = t.removeOwn(ctx); err != nil {
			return err
		}
	}
	return t.fail(ctx, left, alias.CredentialFailed)
}

// begun reports whether a step was ever begun.
func (t *task) begun(name string) bool {
	for _, s := range t.op.Steps {
		if s.Name == name {
			return s.State != alias.StepPending
		}
	}
	return false
}

// removeOwn removes the user of this operation. left describes a user that remains.
func (t *task) removeOwn(ctx context.Context) (left string, err error) {
	_, p, err := t.credential(ctx)
	if err != nil {
		return "", t.registryOnly(err)
	}
	err = t.caught(func() error {
		left, err = t.removeUnused(ctx, p)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil:
		return left, nil
	case isGone(err): // if IAM only does not show it yet, reconcile finds it
		return "", nil
	}
	t.p.log.Warn("undo failed; reconcile removes the user later", "operation", t.op.ID, "user", p.User.Name, "error", err)
	return fmt.Sprintf("removing the IAM user %s failed; reconcile removes it later (%v)", p.User.Name, err), nil
}

// removeUnused removes the user of this operation unless another client uses its keys.
func (t *task) removeUnused(ctx context.Context, p *alias.Provisioned) (left string, err error) {
	user, err := t.caller().getUser(ctx, p.User.Name)
	if err != nil {
		return "", err
	}
	if operation, ours := user.operation(t.p.cfg.InstallID); !ours || operation != t.op.ID {
		return "", nil // of another operation, never touched
	}
	// A registry that was restored from a backup may undo an operation that the
	// live registry has finished since.
	used, err := t.usedByOthers(ctx, p.User.Name)
	if err != nil {
		return "", err
	}
	if used != "" {
		return fmt.Sprintf("the IAM user %s was not removed, because its key %s is in use", p.User.Name, used), nil
	}
	return "", t.caller().removeUser(ctx, p.User.Name, t.managedARNs(p))
}

// usedByOthers returns the id of a key that another client uses: a key that this
// operation did not make and that was used at any time, or the key of this operation
// if it was used after the operation's probes.
func (t *task) usedByOthers(ctx context.Context, user string) (string, error) {
	keys, err := t.caller().keys(ctx, user)
	if err != nil {
		return "", ignoreGone(err)
	}
	for _, k := range keys {
		last, err := t.caller().lastUsed(ctx, k.id)
		if err != nil && !isUnimplemented(err) && !isGone(err) {
			return "", err
		}
		own := t.data.Pending != nil && t.data.Pending.AccessKeyID == k.id
		if !last.IsZero() && (!own || last.After(t.provedBy())) {
			return k.id, nil
		}
	}
	return "", nil
}

// provedBy is the latest time at which the operation itself can have used the pending
// key, if it was not interrupted.
func (t *task) provedBy() time.Time {
	began := t.op.CreatedAt
	for _, s := range t.op.Steps {
		if s.StartedAt.After(began) {
			began = s.StartedAt
		}
	}
	return began.Add(t.p.cfg.Timing.VerifyBudget + clockSkew)
}

// registryOnly returns err if the step is repeated after it, and else nil.
func (t *task) registryOnly(err error) error {
	if fatal, ok := errors.AsType[*registryError](err); ok {
		return fatal
	}
	return nil
}

// fail ends the operation as failed and puts its credential into state, unless that
// is empty. left describes what remains in IAM.
func (t *task) fail(ctx context.Context, left string, state alias.CredentialState) error {
	failure := *t.data.Undo
	if left != "" {
		failure.Detail += "; " + left
	}
	return t.end(ctx, &failure, func(tx alias.Tx) ([]alias.Change, error) {
		var changes []alias.Change
		c, err := tx.Credential(t.op.Credential)
		if err == nil && c.ID == t.op.CredentialID && state != "" {
			c.State, c.Revision, c.UpdatedAt = state, c.Revision+1, t.now()
			changes = append(changes, alias.Change{CredentialPut: c})
			if err := tx.UpdateCredential(c); err != nil {
				return nil, err
			}
		}
		if t.op.Kind != alias.OperationProvision {
			return changes, ignoreMissing(err)
		}
		a, err := tx.Alias(t.op.Alias)
		if err != nil || a.State != alias.StateProvisioning {
			return changes, ignoreMissing(err)
		}
		a.State, a.Revision, a.UpdatedAt = alias.StateFailed, a.Revision+1, t.now()
		return append(changes, alias.Change{AliasPut: a}), tx.UpdateAlias(a)
	})
}

func ignoreMissing(err error) error {
	if errors.Is(err, alias.ErrNotFound) {
		return nil
	}
	return err
}

// undoReuse restores the policy that the user had. Grants that it cannot revoke now
// are stored as ExtraGrants, which the next reconcile revokes.
func (t *task) undoReuse(ctx context.Context) error {
	if t.data.Before == nil {
		return t.fail(ctx, "", "")
	}
	left := ""
	c, p, err := t.credential(ctx)
	if err != nil {
		return t.registryOnly(err)
	}
	extra := slices.DeleteFunc(append(p.ExtraGrants, t.grants(p)...), func(g alias.Grant) bool {
		return slices.Contains(t.data.Before.Grants, g)
	})
	p.Grants, p.Policies, p.ExtraGrants = t.data.Before.Grants, t.data.Before.Policies, extra
	if err := t.caught(func() error { return t.caller().limitGrants(ctx, p) }); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		left = fmt.Sprintf("the policy of %s still covers the new location, and reconcile revokes that later (%v)",
			p.User.Name, err)
	} else {
		p.ExtraGrants = nil
	}
	if err := t.save(ctx, t.changed(c, p)); err != nil {
		return err
	}
	return t.fail(ctx, left, "")
}
