package provision

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"ixmage/alias"
)

// Rotate begins to replace the key of a provisioned credential. In an emergency
// the old key dies as soon as the new one is proven. While a rotation runs it
// returns that one. alias.ErrNotStatic stands for a credential whose key is not
// ours to rotate.
func (p *Provisioner) Rotate(
	ctx context.Context, actor string, name alias.Name, emergency bool,
) (*alias.Operation, error) {
	if err := p.enabled(); err != nil {
		return nil, err
	}
	op := p.newOperation(alias.OperationRotate, actor)
	op.Credential = name
	data := progress{Emergency: emergency}
	return p.beginOn(ctx, op, data, func(c *alias.Credential) error {
		if c.State != alias.CredentialActive {
			return fmt.Errorf("credential %s is %s: %w", name, c.State, alias.ErrBusy)
		}
		c.State = alias.CredentialRotating
		return nil
	})
}

// Remove begins to remove a provisioned credential and its IAM user:
// *alias.InUseError while aliases use it, alias.ErrStale unless ifRevision is
// the current one or 0.
func (p *Provisioner) Remove(
	ctx context.Context, actor string, name alias.Name, ifRevision int64,
) (*alias.Operation, error) {
	if err := p.enabled(); err != nil {
		return nil, err
	}
	op := p.newOperation(alias.OperationRemove, actor)
	op.Credential = name
	return p.beginOn(ctx, op, progress{}, func(c *alias.Credential) error {
		if ifRevision != 0 && ifRevision != c.Revision {
			return fmt.Errorf("credential %s: %w", name, alias.ErrStale)
		}
		c.State = alias.CredentialRemoving
		return nil
	})
}

// beginOn writes the intent of an operation on a credential. One of the same
// kind that runs is the answer instead.
func (p *Provisioner) beginOn(
	ctx context.Context, op *alias.Operation, data progress, allow func(*alias.Credential) error,
) (*alias.Operation, error) {
	var same *alias.Operation
	err := p.cfg.Registry.Apply(ctx, []alias.Name{op.Credential}, func(tx alias.Tx) ([]alias.Change, error) {
		c, err := provisionedIn(tx, op.Credential)
		if err != nil {
			return nil, err
		}
		running, err := tx.RunningOperation("", op.Credential)
		switch {
		case err == nil && running.Kind == op.Kind:
			same = running
			return nil, hasten(tx, running, data)
		case err == nil:
			return nil, fmt.Errorf("credential %s: %w: %s, of kind %s", c.Name, alias.ErrBusy, running.ID, running.Kind)
		case !errors.Is(err, alias.ErrNotFound):
			return nil, err
		}
		if err := cmp.Or(inUse(tx, op, c), allow(c)); err != nil {
			return nil, err
		}
		return writeIntent(tx, op, data, c)
	})
	if err == nil && same != nil && data.Emergency {
		p.interrupt(same.ID)
	}
	if err != nil || same != nil {
		return same, err
	}
	p.audit(ctx, &alias.AuditEntry{
		Actor: op.Actor, Action: string(op.Kind), Credential: op.Credential, Outcome: "begun", Operation: op.ID,
	})
	p.poke()
	return op, nil
}

// provisionedIn reads a credential whose user is ours.
func provisionedIn(tx alias.Tx, name alias.Name) (*alias.Credential, error) {
	c, err := tx.Credential(name)
	if err != nil {
		return nil, fmt.Errorf("credential %s: %w", name, err)
	}
	if _, ok := c.Provisioned(); !ok {
		return nil, fmt.Errorf("credential %s is of kind %s: %w", name, c.Provider.Kind(), alias.ErrNotProvisioned)
	}
	return c, nil
}

// hasten makes an emergency of a rotation that runs, if that is what is asked for
// now. The task that performs it finds that out with its next write, or when it
// is interrupted.
func hasten(tx alias.Tx, running *alias.Operation, asked progress) error {
	var data progress
	if err := json.Unmarshal(running.Data, &data); err != nil || !asked.Emergency || data.Emergency {
		return err
	}
	data.Emergency = true
	next := *running
	next.Revision++
	var err error
	if next.Data, err = json.Marshal(data); err != nil {
		return err
	}
	return tx.UpdateOperation(&next)
}

// inUse keeps a credential from being removed while aliases use it.
func inUse(tx alias.Tx, op *alias.Operation, c *alias.Credential) error {
	if op.Kind != alias.OperationRemove {
		return nil
	}
	users, err := tx.AliasesOf(c.ID)
	if err == nil && len(users) > 0 {
		err = &alias.InUseError{Credential: c.Name, Aliases: users}
	}
	return err
}

func writeIntent(tx alias.Tx, op *alias.Operation, data progress, c *alias.Credential) ([]alias.Change, error) {
	var err error
	if op.Data, err = json.Marshal(data); err != nil {
		return nil, err
	}
	t := task{op: op, data: data}
	op.CredentialID, op.Steps = c.ID, names(t.steps())
	c.Revision, c.UpdatedAt = c.Revision+1, op.CreatedAt
	if err := tx.UpdateCredential(c); err != nil {
		return nil, err
	}
	return []alias.Change{{CredentialPut: c}}, tx.InsertOperation(op)
}
