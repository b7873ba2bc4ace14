package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"ixmage/alias"
	"ixmage/alias/accounts"
	"ixmage/alias/session"
)

// assumption is a role that the server should be able to assume.
type assumption struct {
	name    FindingName // of the finding
	subject string      // "the credential shop: arn:…"
	role    alias.Role
}

// assumeRoles tries the roles of all credentials.
func (e *examination) assumeRoles(ctx context.Context) {
	var all []assumption
	seen := map[alias.Role]bool{}
	for _, c := range e.roles {
		role, _ := c.Role()
		subject := fmt.Sprintf("the credential %s: %s", c.Name, role.ARN)
		if err := e.cfg.Sessions.Allowed(role); err != nil {
			e.add(Finding{Role, Bad, subject, err.Error(),
				"start the server with a flag that allows it, or give its aliases another credential"})
			continue
		}
		asked := alias.Role{ARN: role.ARN, ExternalID: role.ExternalID, Source: role.Source, Region: role.Region}
		if !seen[asked] {
			seen[asked] = true
			all = append(all, assumption{Role, subject, role})
		}
	}
	e.assumeAll(ctx, all)
}

// accountRoleDuration is the time for which the role of an account is assumed.
const accountRoleDuration = 15 * time.Minute

// assumeAccounts tries the roles of the accounts of --accounts.
func (e *examination) assumeAccounts(ctx context.Context) {
	all := make([]assumption, 0, len(e.cfg.Accounts.All()))
	for _, a := range e.cfg.Accounts.All() {
		all = append(all, assumption{Account, fmt.Sprintf("the account %s: %s", a, a.Role), roleOf(a)})
	}
	e.assumeAll(ctx, all)
}

func roleOf(a *accounts.Account) alias.Role {
	r := alias.NewRole(a.Role)
	r.ExternalID, r.Region, r.Duration = a.ExternalID, a.Region, accountRoleDuration
	return r
}

func (e *examination) assumeAll(ctx context.Context, all []assumption) {
	if more := len(all) - maxRoles; more > 0 {
		e.notTried(all[0].name, fmt.Sprintf("%d more roles", more), fmt.Sprintf("one examination assumes %d", maxRoles), "")
		all = all[:maxRoles]
	}
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, a := range all {
		group.Go(func() error { e.assume(ctx, a); return nil })
	}
	_ = group.Wait()
}

// assume tries a role with its external id, and then without: a role that can be assumed without
// one is open to everybody who can make its trusted party assume it (the confused deputy,
// https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html).
func (e *examination) assume(ctx context.Context, a assumption) {
	err := e.probe(ctx, a.role)
	if e.outOfTime(ctx, a.name, a.subject) {
		return
	}
	if err != nil {
		e.notAssumed(a, err)
		return
	}
	e.good(a.name, a.subject, "STS gives sessions of it")
	if a.role.ExternalID == "" {
		return
	}
	without := a.role
	without.ExternalID, without.Account = "", ""
	err = e.probe(ctx, without)
	failed, known := errors.AsType[*session.Error](err)
	switch {
	case e.outOfTime(ctx, ExternalID, a.subject):
	case err == nil:
		e.add(Finding{ExternalID, Warning, a.subject,
			"STS gives sessions of it without the external id too, so the id protects nothing",
			"add the condition StringEquals sts:ExternalId to its trust policy"})
	case known && failed.Refused():
		e.good(ExternalID, a.subject, "STS refuses it without the external id")
	default:
		e.notTried(ExternalID, a.subject,
			"it is not known whether its trust policy asks for the external id: "+err.Error(), "")
	}
}

func (e *examination) probe(ctx context.Context, role alias.Role) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.limits.call)
	defer cancel()
	return e.cfg.Sessions.Probe(ctx, role)
}

func (e *examination) notAssumed(a assumption, err error) {
	if failed, ok := errors.AsType[*session.Error](err); ok && failed.Refused() {
		e.add(Finding{a.name, Bad, a.subject, err.Error(),
			"correct the role and its trust policy in IAM, or " + a.field(failed.Field)})
		return
	}
	e.notTried(a.name, a.subject, err.Error(), "")
}

// field says where the part of a role is that is to blame.
func (a assumption) field(field string) string {
	if a.name == Account {
		return "role and external_id of the account in the file of --accounts"
	}
	return field + " of the credential"
}
