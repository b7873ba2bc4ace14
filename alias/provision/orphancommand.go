package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ixmage/alias"
)

// Orphans is what the last look found. Without one yet it is empty.
func (p *Provisioner) Orphans(context.Context) (alias.OrphanReport, error) {
	if err := p.enabled(); err != nil {
		return alias.OrphanReport{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	report := p.orphans
	report.Orphans = slices.Clone(report.Orphans)
	return report, nil
}

// RemoveOrphan deletes a user under our path that belongs to no credential, on
// command: alias.ErrNotFound when there is no such user, alias.ErrInUse when a
// credential has it, alias.ErrForbidden when it does not bear our tags.
func (p *Provisioner) RemoveOrphan(ctx context.Context, actor, user string) error {
	if err := p.enabled(); err != nil {
		return err
	}
	c := caller{p: p, actor: actor}
	u, err := c.lookUp(ctx, user)
	if isGone(err) {
		return fmt.Errorf("IAM user %s: %w", user, alias.ErrNotFound)
	}
	if err != nil {
		return told(err)
	}
	if _, ours := u.operation(p.cfg.InstallID); !ours {
		return fmt.Errorf("%w: the IAM user %s does not bear the tags of this installation", alias.ErrForbidden, user)
	}
	used := false
	p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		operation, _ := u.operation(p.cfg.InstallID)
		used = used || ok && prov.Operation == operation && owns(c)
		return !used
	})
	if used {
		return fmt.Errorf("IAM user %s: a credential has it: %w: delete the credential instead", user, alias.ErrInUse)
	}
	err = c.removeUnknown(ctx, u)
	if ctx.Err() != nil && err != nil {
		p.audit(ctx, &alias.AuditEntry{Actor: actor, Action: "remove-orphan", User: user, Outcome: "interrupted"})
		return fmt.Errorf("%w: the deletion of the user %s was interrupted: a part of what it had may be gone; "+
			"ask again, and it goes on", alias.ErrIAM, user)
	}
	return told(err)
}

// told puts an error of IAM under a sentinel whose words an operator may see.
func told(err error) error {
	call, ok := errors.AsType[*callError](err)
	switch {
	case !ok:
		return err
	case call.denied():
		return fmt.Errorf("%w: %w", alias.ErrForbidden, err)
	}
	return fmt.Errorf("%w: %w", alias.ErrIAM, err)
}

func (c caller) removeUnknown(ctx context.Context, u *foundUser) error {
	found, _, err := c.foreign(ctx, &alias.Provisioned{User: u.IAMUser})
	if err != nil {
		return err
	}
	// Managed policies are what every mode but inline attaches.
	found = slices.DeleteFunc(found, func(what string) bool { return what == "a foreign managed policy" })
	if len(found) > 0 {
		return fmt.Errorf("%w: somebody else gave the IAM user %s %s: delete it by hand", alias.ErrForbidden, u.Name,
			strings.Join(found, ", "))
	}
	arns, err := c.attached(ctx, u.Name)
	if err != nil && !isUnimplemented(err) {
		return err
	}
	if err := c.removeUser(ctx, u.Name, arns); err != nil {
		return err
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	for i, o := range c.p.orphans.Orphans {
		if o.User == u.Name && o.Kind == orphanUser {
			c.p.orphans.Orphans[i].State = stateDeleted
		}
	}
	return nil
}
