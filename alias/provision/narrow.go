package provision

import (
	"context"
	"fmt"
	"slices"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// undoReuse puts the policy back to what it was. What cannot be put back now is
// written down, and taken back by the next look for orphans.
func (t *task) undoReuse(ctx context.Context) error {
	if t.data.Before == nil {
		return t.fail(ctx, "", "")
	}
	left := ""
	c, p, err := t.credential(ctx)
	if err != nil {
		return t.registryOnly(err)
	}
	widened := slices.DeleteFunc(append(p.Widened, t.grants(p)...), func(g alias.Grant) bool {
		return slices.Contains(t.data.Before.Grants, g)
	})
	p.Grants, p.Policies, p.Widened = t.data.Before.Grants, t.data.Before.Policies, widened
	if err := t.caller().narrow(ctx, p); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		left = fmt.Sprintf("the policy of %s still covers the new location, which is taken back later (%v)", p.User.Name, err)
	} else {
		p.Widened = nil
	}
	if err := t.save(ctx, t.changed(c, p)); err != nil {
		return err
	}
	return t.fail(ctx, left, "")
}

// narrow gives a user its grants and no others.
func (c caller) narrow(ctx context.Context, p *alias.Provisioned) error {
	if p.Mode == alias.PolicyInline {
		partition, _ := policy.ARNParts(p.User.ARN)
		document, err := policy.Inline(partition, p.Grants)
		if err != nil {
			return err
		}
		return c.putInline(ctx, p.User.Name, document)
	}
	for _, arn := range widenedARNs(p) {
		if err := c.dropManaged(ctx, p.User.Name, arn); err != nil {
			return err
		}
	}
	return nil
}

// widenedARNs are the managed policies that a user has and should not have.
func widenedARNs(p *alias.Provisioned) []string {
	if p.Mode != alias.PolicyManaged {
		return nil
	}
	var arns []string
	partition, account := policy.ARNParts(p.User.ARN)
	for _, g := range p.Widened {
		arn := policy.ManagedARN(partition, account, g)
		if !slices.ContainsFunc(p.Policies, func(r alias.PolicyRef) bool { return r.ARN == arn }) {
			arns = append(arns, arn)
		}
	}
	return arns
}

// managedARNs are the managed policies that the operation may have attached,
// whether it came to writing that down or not.
func (t *task) managedARNs(p *alias.Provisioned) []string {
	var arns []string
	for _, ref := range p.Policies {
		arns = append(arns, ref.ARN)
	}
	if p.Mode == alias.PolicyManaged && p.User.ARN != "" {
		partition, account := policy.ARNParts(p.User.ARN)
		for _, g := range t.grants(p) {
			arns = append(arns, policy.ManagedARN(partition, account, g))
		}
		arns = append(arns, widenedARNs(p)...)
	}
	slices.Sort(arns)
	return slices.Compact(arns)
}

// takeBack takes from a user what a reuse that failed has left it, unless an
// operation on its credential runs.
func (s *scan) takeBack(ctx context.Context, name alias.Name) error {
	release, free := s.p.locks.try(credentialLock(name))
	if !free {
		return nil
	}
	defer release()
	c, err := s.p.cfg.Registry.Store().Credential(ctx, name)
	if err != nil {
		return ignoreMissing(err)
	}
	p, ok := c.Provisioned()
	if !ok || c.State != alias.CredentialActive || len(p.Widened) == 0 {
		return nil
	}
	on := s.caller
	on.credential = name
	if err := on.narrow(ctx, p); err != nil {
		return err
	}
	return s.p.cfg.Registry.Apply(ctx, []alias.Name{name}, func(tx alias.Tx) ([]alias.Change, error) {
		next, err := tx.Credential(name)
		if err != nil || next.ID != c.ID {
			return nil, ignoreMissing(err)
		}
		prov, _ := next.Provisioned()
		prov = prov.Clone()
		prov.Widened = nil
		next.Provider, next.Revision, next.UpdatedAt = prov, next.Revision+1, s.now
		return []alias.Change{{CredentialPut: next}}, tx.UpdateCredential(next)
	})
}
