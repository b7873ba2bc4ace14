package provision

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// Orphan is a user or key in IAM under our path that belongs to no credential, or a
// difference between a credential and its user in IAM.
type Orphan struct {
	Kind        string     `json:"kind"`              // user, key, policy, boundary, missing-user, generation, leaked
	Account     string     `json:"account,omitempty"` // id; empty for that of the server's own credentials
	User        string     `json:"user"`
	AccessKeyID string     `json:"access_key_id,omitempty"`
	Credential  alias.Name `json:"credential,omitempty"` // empty if it belongs to none
	FoundAt     time.Time  `json:"found_at"`
	// State is reported, quarantined, partly-quarantined (a key is still
	// active) or deleted.
	State  string `json:"state"`
	Detail string `json:"detail"` // a description, with what to do
}

// OrphanReport is the result of the last reconcile.
type OrphanReport struct {
	ScannedAt time.Time `json:"scanned_at"` // zero before the first reconcile
	Orphans   []Orphan  `json:"orphans"`
	// Skipped is the reason why reconcile did not look at everything, or did not
	// act; empty if it did.
	Skipped string `json:"skipped,omitempty"`
}

// removed notes that a user was deleted.
func (r *OrphanReport) removed(account, user string) {
	for i, o := range r.Orphans {
		if o.User == user && o.Account == account && o.Kind == orphanUser {
			r.Orphans[i].State = stateDeleted
		}
	}
}

// open are the orphans that were not deleted.
func (r *OrphanReport) open() []Orphan {
	return slices.DeleteFunc(slices.Clone(r.Orphans), func(o Orphan) bool { return o.State == stateDeleted })
}

// Kinds and states of an orphan.
const (
	orphanUser     = "user"
	orphanKey      = "key"
	orphanPolicy   = "policy"
	orphanBoundary = "boundary"
	orphanMissing  = "missing-user"
	orphanCopied   = "generation" // another copy of the registry changed the user
	orphanLeaked   = "leaked"     // AWS found a key of the user in public

	stateReported    = "reported"
	stateQuarantined = "quarantined"
	statePartly      = "partly-quarantined" // some keys are still active
	stateDeleted     = "deleted"
)

// suspectOrphan names a key that is probably ours.
func suspectOrphan(name alias.Name, p *alias.Provisioned, id string) Orphan {
	return Orphan{
		Kind: orphanKey, Account: p.Account, User: p.User.Name, AccessKeyID: id, Credential: name, State: stateQuarantined,
		Detail: "this server probably made it and lost its secret: it is inactive, and is deleted when nobody has used it " +
			"for a day, or by the next operation that needs its place",
	}
}

// metaOrphans is where the registry keeps the report.
const metaOrphans = "orphans"

func readReport(text []byte) (r OrphanReport, err error) {
	if len(text) == 0 {
		return r, nil
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read the report of orphans: %w", err)
	}
	return r, nil
}

// editReport changes the stored report; a failure is only logged. One that cannot be read is replaced by an empty one.
func (p *Provisioner) editReport(ctx context.Context, edit func(*OrphanReport)) {
	err := p.apply(ctx, nil, func(tx alias.Tx) ([]alias.Change, error) {
		text, err := tx.Meta(metaOrphans)
		if err != nil && !errors.Is(err, alias.ErrNotFound) {
			return nil, err
		}
		report, err := readReport(text)
		if err != nil {
			report = OrphanReport{}
		}
		edit(&report)
		if text, err = json.Marshal(report); err != nil {
			return nil, err
		}
		return nil, tx.SetMeta(metaOrphans, text)
	})
	if err != nil {
		p.log.Warn("the report of orphans was not stored", "error", err)
	}
}

// addSuspects adds the keys that are probably ours and were found since the last reconcile.
func (r *OrphanReport) addSuspects(c *alias.Credential) {
	p, ok := c.Provisioned()
	if !ok {
		return
	}
	for _, s := range p.Suspects {
		if !slices.ContainsFunc(r.Orphans, func(o Orphan) bool { return o.AccessKeyID == s.AccessKeyID }) {
			o := suspectOrphan(c.Name, p, s.AccessKeyID)
			o.FoundAt = s.InactiveAt
			r.Orphans = append(r.Orphans, o)
		}
	}
}

// Orphans is the report of the last reconcile, with the keys that are probably ours and were
// found since. It is empty before the first one. Every node that shares the registry has it.
func (p *Provisioner) Orphans(ctx context.Context) (OrphanReport, error) {
	if err := p.enabled(); err != nil {
		return OrphanReport{}, err
	}
	text, err := p.cfg.Registry.History().Meta(ctx, metaOrphans)
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		return OrphanReport{}, err
	}
	report, err := readReport(text)
	if err != nil {
		return report, err
	}
	p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		report.addSuspects(c)
		return true
	})
	return report, nil
}

// RemoveOrphan deletes a user under our path that belongs to no credential. account is the name
// or id of that of the user, empty for that of the server. Errors: alias.ErrNotFound if the user
// does not exist, alias.ErrInUse if it belongs to a credential, alias.ErrForbidden if it does not
// have our tags, a *alias.ValidationError if there is no such account.
func (p *Provisioner) RemoveOrphan(ctx context.Context, actor, account, user string) error {
	if err := p.enabled(); err != nil {
		return err
	}
	in, err := p.accountNamed(account)
	if err != nil {
		return err
	}
	c := caller{p: p, accountRole: p.roleIn(idOf(in), "remove-orphan-"+rand.Text()), actor: actor}
	u, err := c.getUser(ctx, user)
	if isGone(err) {
		return fmt.Errorf("IAM user %s: %w", user, alias.ErrNotFound)
	}
	if err != nil {
		return publicError(err)
	}
	if _, ours := u.operation(p.cfg.InstallID, policy.UserPath(p.cfg.InstallID)); !ours {
		return fmt.Errorf("%w: the IAM user %s does not have the tags of this installation", alias.ErrForbidden, user)
	}
	used := false
	p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		operation, _ := u.operation(p.cfg.InstallID, u.Path)
		used = used || ok && prov.Operation == operation && owns(c)
		return !used
	})
	if used {
		return fmt.Errorf("IAM user %s belongs to a credential: %w: delete the credential instead", user, alias.ErrInUse)
	}
	err = p.locked(ctx, userLock(user), func(ctx context.Context) error { return c.removeUnknown(ctx, idOf(in), u) })
	if ctx.Err() != nil && err != nil {
		p.audit(ctx, &alias.AuditEntry{Actor: actor, Action: "remove-orphan", User: user, Outcome: "interrupted"})
		return fmt.Errorf("%w: the deletion of the user %s was interrupted, and some of its keys and policies "+
			"may be deleted; repeat the request to continue", alias.ErrIAM, user)
	}
	return publicError(err)
}

// publicError wraps an error of IAM in a sentinel of package alias, whose text the
// admin API shows.
func publicError(err error) error {
	if notAssumed, ok := errors.AsType[*notAssumedError](err); ok {
		if notAssumed.operationCode() == codePermission {
			return fmt.Errorf("%w: %w", alias.ErrForbidden, err)
		}
		return fmt.Errorf("%w: %w", alias.ErrIAM, err)
	}
	call, ok := errors.AsType[*callError](err)
	switch {
	case !ok:
		return err
	case call.denied():
		return fmt.Errorf("%w: %w", alias.ErrForbidden, err)
	}
	return fmt.Errorf("%w: %w", alias.ErrIAM, err)
}

func (c caller) removeUnknown(ctx context.Context, account string, u *iamUser) error {
	id, err := c.identity(ctx, u.Name)
	if err == nil {
		_, err = id.unsure()
	}
	if err != nil {
		return err
	}
	what := removal{user: u.Name, policies: id.attached} // every mode except inline attaches some
	id.attached = nil
	if found := id.foreign(&alias.Provisioned{User: u.IAMUser}, nil); len(found) > 0 {
		return fmt.Errorf("%w: another client gave the IAM user %s %s: delete the user by hand", alias.ErrForbidden, u.Name,
			strings.Join(found, ", "))
	}
	for _, k := range id.keys {
		what.keys = append(what.keys, k.id)
	}
	if err := c.removeUser(ctx, what); err != nil {
		return err
	}
	c.p.editReport(ctx, func(r *OrphanReport) { r.removed(account, u.Name) })
	return nil
}
