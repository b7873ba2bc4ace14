package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/panics"
)

// Orphan is something in IAM under our path that belongs to no credential, or
// that is not as we left it.
type Orphan struct {
	Kind        string // user, key, policy, boundary, missing-user
	User        string
	AccessKeyID string
	Credential  alias.Name // where it is about a credential of ours
	FoundAt     time.Time
	// State is reported, quarantined, partly-quarantined (a key is still
	// active) or deleted.
	State  string
	Detail string // what it is and what to do
}

// OrphanReport is what the last look at IAM found.
type OrphanReport struct {
	ScannedAt time.Time // zero before the first look
	Orphans   []Orphan
	// Skipped says why nothing, or less than there is, was looked at; empty
	// when all was.
	Skipped string
}

// Kinds and states of an orphan.
const (
	orphanUser     = "user"
	orphanKey      = "key"
	orphanPolicy   = "policy"
	orphanBoundary = "boundary"
	orphanMissing  = "missing-user"

	stateReported    = "reported"
	stateQuarantined = "quarantined"
	statePartly      = "partly-quarantined" // some keys are still active
	stateDeleted     = "deleted"
)

// maxDeletions is how many users a scan deletes by itself in an hour, and
// maxShare the part of all users, in percent, that may be unknown before a scan
// touches none: a database that was lost or restored must not take the users of
// the one that is right with it.
const (
	maxDeletions = 5
	maxShare     = 20
)

// reconciler is who acts when nobody asked.
const reconciler = "reconcile"

// scan is one pass over all users in IAM under our path.
type scan struct {
	caller
	now     time.Time
	users   []*iamUser
	byUser  map[string]*alias.Credential // those that are active, by user name
	owned   map[string]bool              // operations that made a user which a credential has
	orphans []Orphan
	skipped string
}

// reconcile looks for orphans, deals with those that are certainly ours, and
// keeps the report.
func (p *Provisioner) reconcile(ctx context.Context) {
	s := &scan{caller: caller{p: p, actor: reconciler}, now: p.clock.Now().UTC()}
	if err := panics.Catch(p.log, "scan for orphans", func() error { return s.run(ctx) }); err != nil {
		if ctx.Err() != nil {
			return
		}
		s.skipped = err.Error()
		p.log.Warn("scan for orphans failed", "error", err)
	}
	p.mu.Lock()
	p.orphans = OrphanReport{ScannedAt: s.now, Orphans: s.orphans, Skipped: s.skipped}
	p.mu.Unlock()
	p.cfg.Recorder.Orphans(len(s.open()))
}

// open are the orphans that still stand.
func (s *scan) open() []Orphan {
	return slices.DeleteFunc(slices.Clone(s.orphans), func(o Orphan) bool { return o.State == stateDeleted })
}

func (s *scan) run(ctx context.Context) error {
	if err := s.list(ctx); err != nil {
		return err
	}
	s.byUser, s.owned = map[string]*alias.Credential{}, map[string]bool{}
	s.p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		if prov, ok := c.Provisioned(); ok {
			s.owned[prov.Operation] = s.owned[prov.Operation] || owns(c)
			if c.State == alias.CredentialActive {
				s.byUser[prov.User.Name] = c
			}
		}
		return true
	})
	if err := s.checkUnknown(ctx); err != nil {
		return err
	}
	return s.checkKnown(ctx)
}

// list reads every user under our path, with tags: the list itself has none.
func (s *scan) list(ctx context.Context) error {
	client := s.p.cfg.AWS.iam()
	in := &iam.ListUsersInput{PathPrefix: aws.String(policy.UserPath(s.p.cfg.InstallID))}
	for {
		out, err := call(ctx, s.read("iam:ListUsers", ""), client.ListUsers, in)
		if err != nil {
			return err
		}
		for _, u := range out.Users {
			user, err := s.getUser(ctx, aws.ToString(u.UserName))
			if isGone(err) {
				continue
			}
			if err != nil {
				return err
			}
			s.users = append(s.users, user)
		}
		if !out.IsTruncated {
			return nil
		}
		in.Marker = out.Marker
	}
}

// checkUnknown deals with users that no credential has. One that an operation
// of ours made, which has ended, is the remains of that and is deleted. One of
// an operation that this database never heard of may be alive in another
// database: its keys are made inactive once they have not been used for long,
// and it is reported; deleting it takes a command.
func (s *scan) checkUnknown(ctx context.Context) error {
	var unheard []*iamUser
	for _, u := range s.users {
		heard, err := s.checkOne(ctx, u)
		if err != nil {
			return err
		}
		if !heard {
			unheard = append(unheard, u)
		}
	}
	if share := len(unheard) * 100; share > maxShare*len(s.users) {
		s.skipped = fmt.Sprintf("%d of %d users under %s are of operations that this registry never heard of: "+
			"the registry may be an old copy or a new one. They were reported and not touched", len(unheard), len(s.users),
			policy.UserPath(s.p.cfg.InstallID))
	}
	for _, u := range unheard {
		if err := s.quarantine(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// checkOne deletes the remains of an operation that has ended. It reports whether
// this registry ever heard of the one that made the user.
func (s *scan) checkOne(ctx context.Context, u *iamUser) (heard bool, err error) {
	operation, ours := u.operation(s.p.cfg.InstallID)
	if !ours || s.owned[operation] {
		return true, nil
	}
	op, err := s.p.cfg.Registry.History().Operation(ctx, operation)
	switch {
	case errors.Is(err, alias.ErrNotFound):
		return false, nil
	case err != nil || !op.Finished():
		return true, err
	}
	return true, s.deleteRemains(ctx, u, op)
}

// owns reports whether a credential has the user that its operation made. One
// that failed before it ever had a key does not: what is left of it is removed.
// One whose removal failed does: only another removal may touch its user.
func owns(c *alias.Credential) bool { return c.State != alias.CredentialFailed || c.Sealed != nil }

func (s *scan) add(o Orphan) {
	o.FoundAt = s.now
	s.orphans = append(s.orphans, o)
	s.p.log.Warn("orphan", "kind", o.Kind, "user", o.User, "access_key_id", o.AccessKeyID,
		"credential", string(o.Credential), "state", o.State, "detail", o.Detail)
}

// deleteRemains deletes the user of an operation that failed or of a credential
// that was removed, within the cap.
func (s *scan) deleteRemains(ctx context.Context, u *iamUser, op *alias.Operation) error {
	o := Orphan{Kind: orphanUser, User: u.Name, State: stateReported,
		Detail: "left behind by " + op.ID + ", which " + string(op.State)}
	recent, err := s.recentDeletions(ctx)
	if err != nil {
		return err
	}
	if recent >= maxDeletions {
		o.Detail += fmt.Sprintf("; %d users were deleted within the hour, which is the limit: "+
			"a later scan deletes this one", recent)
		s.add(o)
		return nil
	}
	found, _, err := s.foreign(ctx, &alias.Provisioned{User: u.IAMUser, Policies: s.attachedOurs(op)})
	if err != nil {
		return s.gaveUp(ctx, o, err)
	}
	used, err := s.usedSince(ctx, u.Name, op.FinishedAt.Add(clockSkew))
	if err != nil {
		return s.gaveUp(ctx, o, err)
	}
	if used != "" {
		found = append(found, "work: its key "+used+" was used after that")
	}
	if len(found) > 0 {
		o.Detail += "; somebody else gave it " + strings.Join(found, ", ") + ": not touched"
		s.add(o)
		return nil
	}
	if err := s.on(op).removeUser(ctx, u.Name, s.managedOf(op, u)); err != nil {
		return s.gaveUp(ctx, o, err)
	}
	o.State = stateDeleted
	s.add(o)
	return nil
}

// gaveUp reports an orphan that could not be dealt with, and goes on with the
// others: one that cannot be touched must not hide the rest.
func (s *scan) gaveUp(ctx context.Context, o Orphan, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if isGone(err) {
		return nil
	}
	o.Detail += "; the scan could not act on it: " + err.Error()
	s.add(o)
	return nil
}

// on is the scan acting for what an operation left.
func (s *scan) on(op *alias.Operation) caller {
	c := s.caller
	c.operation, c.alias, c.credential = op.ID, op.Alias, op.Credential
	return c
}

// managedOf are the managed policies that an operation may have attached.
func (s *scan) managedOf(op *alias.Operation, u *iamUser) []string {
	t := task{p: s.p, op: op}
	if op.Kind != alias.OperationProvision || t.decode() != nil || t.data.Request == nil {
		return nil
	}
	p := &alias.Provisioned{User: u.IAMUser, Mode: t.data.Request.Policy}
	if p.Mode == alias.PolicyReadOnly {
		partition, _ := policy.ARNParts(u.ARN)
		p.Policies = []alias.PolicyRef{{ARN: policy.ReadOnlyARN(partition)}}
	}
	return t.managedARNs(p)
}

func (s *scan) attachedOurs(op *alias.Operation) []alias.PolicyRef {
	var refs []alias.PolicyRef
	for _, u := range s.users {
		if id, _ := u.operation(s.p.cfg.InstallID); id == op.ID {
			for _, arn := range s.managedOf(op, u) {
				refs = append(refs, alias.PolicyRef{ARN: arn})
			}
		}
	}
	return refs
}

// recentDeletions counts, in the audit, the users that scans deleted within the
// hour: a restart does not begin to count anew.
func (s *scan) recentDeletions(ctx context.Context) (int, error) {
	return s.p.cfg.Registry.History().CountAudit(ctx, alias.AuditFilter{
		Actor: reconciler, Action: "iam:DeleteUser", Outcome: "ok", Since: s.now.Add(-time.Hour),
	})
}

// unusedFor is how long a key must have been idle to be taken for forgotten.
const unusedFor = 7 * 24 * time.Hour

// quarantine reports a user of an operation that nobody here heard of, and
// makes its keys inactive where nobody has used them for long. It deletes
// nothing.
func (s *scan) quarantine(ctx context.Context, u *iamUser) error {
	o := Orphan{Kind: orphanUser, User: u.Name, State: stateReported,
		Detail: "bears our tags, but this registry knows nothing of the operation that made it; " +
			"delete it with DELETE /api/v1/orphans/" + u.Name}
	if s.now.Sub(u.created) < s.p.cfg.Timing.OrphanAge || s.skipped != "" {
		s.add(o)
		return nil
	}
	if err := s.deactivateIdle(ctx, u, &o); err != nil {
		return s.gaveUp(ctx, o, err)
	}
	s.add(o)
	return nil
}

// deactivateIdle makes the idle keys of a user inactive, and says of each what it
// is.
func (s *scan) deactivateIdle(ctx context.Context, u *iamUser, o *Orphan) error {
	keys, err := s.keys(ctx, u.Name)
	if err != nil {
		return err
	}
	inactive := 0
	for _, k := range keys {
		if idle, err := s.idle(ctx, k); k.active && (err != nil || !idle) {
			o.Detail += "; its key " + k.id + " was used within the week, or that is not known: left active"
			continue
		}
		if k.active {
			if err := s.setKey(ctx, u.Name, k.id, types.StatusTypeInactive); err != nil {
				return err
			}
		}
		inactive++
		o.Detail += "; its key " + k.id + " is inactive"
	}
	switch inactive {
	case 0:
	case len(keys):
		o.State = stateQuarantined
	default:
		o.State = statePartly
	}
	return nil
}

// neverUsedFor is how old a key must be that was never used to be taken for
// forgotten: IAM tells of a use hours later.
const neverUsedFor = 24 * time.Hour

// idle reports whether a key was not used for long, or never. A key that works
// for somebody is not idle, whatever this registry knows of it.
func (s *scan) idle(ctx context.Context, k accessKey) (bool, error) {
	last, err := s.lastUsed(ctx, k.id)
	if err != nil {
		return false, err
	}
	if last.IsZero() {
		return s.now.Sub(time.Unix(k.created, 0)) > neverUsedFor, nil
	}
	return s.now.Sub(last) > unusedFor, nil
}

// checkKnown looks at the users that credentials have: keys that nobody knows,
// rights that drifted, a boundary that is gone, a user that is gone.
func (s *scan) checkKnown(ctx context.Context) error {
	seen := map[string]*iamUser{}
	for _, u := range s.users {
		seen[u.Name] = u
	}
	for name, c := range s.byUser {
		prov, _ := c.Provisioned()
		u, ok := seen[name]
		if !ok {
			if s.now.Sub(c.CreatedAt) > s.p.cfg.Timing.OrphanAge {
				s.add(Orphan{Kind: orphanMissing, User: name, Credential: c.Name, State: stateReported,
					Detail: "the IAM user of this credential is gone: provision its aliases anew"})
			}
			continue
		}
		if err := s.checkUser(ctx, c, prov, u); err != nil {
			o := Orphan{Kind: orphanUser, User: name, Credential: c.Name, State: stateReported, Detail: "not scanned"}
			if err := s.gaveUp(ctx, o, err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scan) checkUser(ctx context.Context, c *alias.Credential, prov *alias.Provisioned, u *iamUser) error {
	if operation, ours := u.operation(s.p.cfg.InstallID); !ours || operation != prov.Operation {
		s.add(Orphan{Kind: orphanUser, User: u.Name, Credential: c.Name, State: stateReported,
			Detail: "the user of this credential does not bear our tags any more; it is not touched"})
		return nil
	}
	if prov.User.Boundary != "" && u.Boundary != prov.User.Boundary {
		s.add(Orphan{Kind: orphanBoundary, User: u.Name, Credential: c.Name, State: stateReported,
			Detail: "its permissions boundary is " + orNone(u.Boundary) + ", not " + prov.User.Boundary})
	}
	if len(prov.ExtraGrants) > 0 {
		if err := s.revokeExtra(ctx, c.Name); err != nil {
			return err
		}
	}
	drift, err := s.drift(ctx, prov)
	if err != nil && !isUnimplemented(err) {
		return err
	}
	if drift != "" {
		s.add(Orphan{Kind: orphanPolicy, User: u.Name, Credential: c.Name, State: stateReported, Detail: drift})
	}
	return s.checkKeys(ctx, c, prov)
}

// revokeExtra takes from a user what a reuse that failed has left it, unless an
// operation on its credential runs.
func (s *scan) revokeExtra(ctx context.Context, name alias.Name) error {
	release, free := s.p.locks.try(credentialLock(name))
	if !free {
		return nil
	}
	defer release()
	c, err := s.p.cfg.Registry.Credential(ctx, name)
	if err != nil {
		return ignoreMissing(err)
	}
	p, ok := c.Provisioned()
	if !ok || c.State != alias.CredentialActive || len(p.ExtraGrants) == 0 {
		return nil
	}
	on := s.caller
	on.credential = name
	if err := on.limitGrants(ctx, p); err != nil {
		return err
	}
	return s.p.cfg.Registry.Apply(ctx, []alias.Name{name}, func(tx alias.Tx) ([]alias.Change, error) {
		next, err := tx.Credential(name)
		if err != nil || next.ID != c.ID {
			return nil, ignoreMissing(err)
		}
		prov, _ := next.Provisioned()
		prov = prov.Clone()
		prov.ExtraGrants = nil
		next.Provider, next.Revision, next.UpdatedAt = prov, next.Revision+1, s.now
		return []alias.Change{{CredentialPut: next}}, tx.UpdateCredential(next)
	})
}

// checkKeys looks for keys that this registry does not have. One that a rotation
// could not get rid of is deleted. Any other may be alive in another database:
// it is reported, and made inactive once it is idle.
func (s *scan) checkKeys(ctx context.Context, c *alias.Credential, prov *alias.Provisioned) error {
	keys, err := s.keys(ctx, prov.User.Name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		switch {
		case k.id == prov.AccessKeyID || prov.Previous != nil && k.id == prov.Previous.AccessKeyID:
			continue
		case s.now.Unix()-k.created < int64(s.p.cfg.Timing.OrphanAge.Seconds()):
			continue // an operation that has just ended may not be seen in memory
		case slices.Contains(prov.PendingDeletion, k.id):
			if err := s.deleteKey(ctx, prov.User.Name, k.id); err != nil {
				return err
			}
			continue
		}
		if err := s.unknownKey(ctx, c, prov, k); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) unknownKey(ctx context.Context, c *alias.Credential, prov *alias.Provisioned, k accessKey) error {
	o := Orphan{Kind: orphanKey, User: prov.User.Name, AccessKeyID: k.id, Credential: c.Name,
		State: stateReported, Detail: "this registry does not have it (" + s.lastUse(ctx, k.id) +
			"): delete it, or move it to a user of its own"}
	idle, err := s.idle(ctx, k)
	if err != nil && !isUnimplemented(err) {
		return err
	}
	if idle && s.skipped == "" {
		if k.active {
			if err := s.setKey(ctx, prov.User.Name, k.id, types.StatusTypeInactive); err != nil {
				return err
			}
		}
		o.State = stateQuarantined
	}
	s.add(o)
	return nil
}

// Orphans is what the last look found. Without one yet it is empty.
func (p *Provisioner) Orphans(context.Context) (OrphanReport, error) {
	if err := p.enabled(); err != nil {
		return OrphanReport{}, err
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
	u, err := c.getUser(ctx, user)
	if isGone(err) {
		return fmt.Errorf("IAM user %s: %w", user, alias.ErrNotFound)
	}
	if err != nil {
		return publicError(err)
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
	return publicError(err)
}

// publicError puts an error of IAM under a sentinel whose words an operator may see.
func publicError(err error) error {
	call, ok := errors.AsType[*callError](err)
	switch {
	case !ok:
		return err
	case call.denied():
		return fmt.Errorf("%w: %w", alias.ErrForbidden, err)
	}
	return fmt.Errorf("%w: %w", alias.ErrIAM, err)
}

func (c caller) removeUnknown(ctx context.Context, u *iamUser) error {
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
