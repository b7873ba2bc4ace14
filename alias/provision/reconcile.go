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

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/accounts"
	"ixmage/alias/policy"
	"ixmage/internal/panics"
)

// maxDeletions is how many users reconcile deletes in an hour. If more than maxShare
// percent of all users are unknown, reconcile changes no unknown user: with a lost or
// restored database it must not disable the users of the live database.
const (
	maxDeletions = 5
	maxShare     = 20
)

// reconciler is the actor of calls made by the periodic reconcile.
const reconciler = "reconcile"

// scan is one pass over all users in IAM of an account under our path.
type scan struct {
	caller
	account *accounts.Account // nil: that of the server's own credentials
	now     time.Time
	users   []*iamUser
	byUser  map[string]*alias.Credential // active credentials, by user name
	owned   map[string]bool              // operations whose user belongs to a credential
	failed  map[string]*alias.Credential // those without a key, by the operation that failed
	left    []*alias.Credential          // those whose user was to be adopted and has something of ours
	orphans []Orphan
	skipped string
}

// reconcile scans IAM of every account for orphans, removes or quarantines those that are
// certainly ours, and stores the report. An account that cannot be read does not stop that of
// the others.
func (p *Provisioner) reconcile(ctx context.Context) {
	report, round := OrphanReport{ScannedAt: p.clock.Now().UTC()}, reconciler+"-"+rand.Text()
	var skipped []string
	for _, a := range p.everyAccount() {
		s := &scan{
			caller:  caller{p: p, accountRole: p.roleIn(idOf(a), round), actor: reconciler},
			account: a, now: p.clock.Now().UTC(),
		}
		if err := panics.Catch(p.log, "reconcile", func() error { return s.run(ctx) }); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.skipped = err.Error()
			p.log.Warn("reconcile failed", "account", idOf(a), "error", err)
		}
		report.Orphans = append(report.Orphans, s.orphans...)
		if s.skipped != "" && a != nil {
			s.skipped = "account " + a.String() + ": " + s.skipped
		}
		if s.skipped != "" {
			skipped = append(skipped, s.skipped)
		}
	}
	report.Skipped = strings.Join(skipped, "; ")
	p.editReport(ctx, func(r *OrphanReport) { *r = report })
	p.cfg.Recorder.Orphans(len(report.open()))
}

// reconcileOften reconciles until ctx ends. Then, in a fleet, another node counts the orphans.
func (p *Provisioner) reconcileOften(ctx context.Context) {
	p.every(ctx, p.cfg.Timing.Reconcile, p.reconcile)
	if p.cfg.Fleet != nil {
		p.cfg.Recorder.Orphans(0)
	}
}

func (s *scan) run(ctx context.Context) error {
	if err := s.list(ctx); err != nil {
		return err
	}
	s.byUser, s.owned, s.failed = map[string]*alias.Credential{}, map[string]bool{}, map[string]*alias.Credential{}
	readable := map[int64]bool{}
	s.p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		readable[c.ID] = true
		if prov, ok := c.Provisioned(); ok {
			s.owned[prov.Operation] = s.owned[prov.Operation] || owns(c)
			switch {
			case prov.Account != idOf(s.account):
				return true
			case c.State == alias.CredentialActive:
				s.byUser[prov.User.Name] = c
			case !owns(c):
				s.failed[prov.Operation] = c
			}
			if isAbandoned(c) {
				s.left = append(s.left, c)
			}
		}
		return true
	})
	for _, d := range s.p.cfg.Registry.Damaged() {
		if d.Kind == "credential" && !readable[d.ID] { // its user would count as unknown
			return fmt.Errorf("no user is touched, because the user of a credential may seem to be an orphan: %w", d)
		}
	}
	if err := s.checkUnknown(ctx); err != nil {
		return err
	}
	return s.checkKnown(ctx)
}

// list reads every user under our path. It calls GetUser for each, because ListUsers
// returns no tags.
func (s *scan) list(ctx context.Context) error {
	in := &iam.ListUsersInput{PathPrefix: aws.String(policy.UserPath(s.p.cfg.InstallID))}
	a := s.read("iam:ListUsers", "")
	return readPages(&s.users, func() ([]*iamUser, *page, error) {
		out, err := call(ctx, a, s.iam().ListUsers, in)
		if err != nil {
			return nil, nil, err
		}
		var users []*iamUser
		for _, u := range out.Users {
			user, err := s.getUser(ctx, aws.ToString(u.UserName))
			if isGone(err) {
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			users = append(users, user)
		}
		return users, &page{a, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
}

// checkUnknown handles users that belong to no credential. A user whose operation has
// ended is deleted. A user whose operation is not in this database may belong to
// another database: it is reported, and its keys are made inactive after a long time
// without use. Only a command deletes it.
func (s *scan) checkUnknown(ctx context.Context) error {
	var unknown []*iamUser
	for _, u := range s.users {
		known, err := s.checkOne(ctx, u)
		if err != nil {
			return err
		}
		if !known {
			unknown = append(unknown, u)
		}
	}
	if share := len(unknown) * 100; share > maxShare*len(s.users) {
		s.skipped = fmt.Sprintf("%d of %d users under %s were made by operations that are not in this registry: "+
			"the registry may be an old copy or a new one. They were reported and not changed", len(unknown), len(s.users),
			policy.UserPath(s.p.cfg.InstallID))
	}
	for _, u := range unknown {
		if err := s.quarantine(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// checkOne deletes a user whose operation has ended and that belongs to no credential.
// known is false if the operation is not in this registry.
func (s *scan) checkOne(ctx context.Context, u *iamUser) (known bool, err error) {
	operation, ours := u.operation(s.p.cfg.InstallID, policy.UserPath(s.p.cfg.InstallID))
	if !ours && !s.isKnown(u) {
		s.add(Orphan{Kind: orphanUser, User: u.Name, State: stateReported,
			Detail: "it is under the path of this installation and does not have its tags, so it is not changed: " +
				"the server may have dropped them; delete the user by hand if nobody needs it"})
	}
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

// isKnown reports whether a user is that of a credential.
func (s *scan) isKnown(u *iamUser) bool {
	known := false
	s.p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		known = ok && prov.Account == idOf(s.account) && prov.User.Name == u.Name && owns(c)
		return !known
	})
	return known
}

// owns reports whether the user of a credential belongs to it. A credential that
// failed before it had a key owns no user, so reconcile removes the user. A credential
// whose removal failed owns its user, and only another removal may change that.
func owns(c *alias.Credential) bool { return c.State != alias.CredentialFailed || c.Sealed != nil }

func (s *scan) add(o Orphan) {
	o.FoundAt, o.Account = s.now, idOf(s.account)
	s.orphans = append(s.orphans, o)
	s.p.log.Warn("orphan found", "kind", o.Kind, "user", o.User, "access_key_id", o.AccessKeyID,
		"credential", string(o.Credential), "state", o.State, "detail", o.Detail)
}

// remains is a user of a failed operation or of a removed credential.
type remains struct {
	user *iamUser
	op   *alias.Operation
	data progress
	prov *alias.Provisioned // what the operation may have given the user
	id   *identity
}

// deleteRemains deletes the user of a failed operation or of a removed credential,
// at most maxDeletions in an hour.
func (s *scan) deleteRemains(ctx context.Context, u *iamUser, op *alias.Operation) error {
	o := Orphan{Kind: orphanUser, User: u.Name, State: stateReported,
		Detail: "left behind by " + op.ID + ", which " + string(op.State)}
	r := remains{user: u, op: op}
	why, err := s.kept(ctx, &r)
	if err != nil {
		return s.gaveUp(ctx, o, err)
	}
	if why != "" {
		o.Detail += "; " + why
		s.add(o)
		return nil
	}
	what := removal{user: u.Name, policies: s.p.managedOf(r.prov)}
	for _, k := range r.id.keys {
		what.keys = append(what.keys, k.id)
	}
	if err := s.on(op).removeUser(ctx, what); err != nil {
		return s.gaveUp(ctx, o, err)
	}
	o.State = stateDeleted
	s.add(o)
	return nil
}

// kept is the reason for which remains are not deleted now; empty if they are.
func (s *scan) kept(ctx context.Context, r *remains) (string, error) {
	if err := json.Unmarshal(r.op.Data, &r.data); err != nil {
		return "", err
	}
	r.prov = s.given(r)
	if c := s.failed[r.op.ID]; c != nil {
		if of, _ := c.Provisioned(); judge(of, r.user, s.p.cfg.InstallID).state == userCopied {
			return "not deleted, because another copy of the registry, or another client, changed its tags since", nil
		}
	}
	recent, err := s.recentDeletions(ctx)
	if err != nil {
		return "", err
	}
	if recent >= maxDeletions {
		return fmt.Sprintf("%d users were deleted within the hour, which is the limit: a later reconcile deletes this one",
			recent), nil
	}
	r.id, err = s.identity(ctx, r.user.Name)
	if err == nil {
		_, err = r.id.unsure()
	}
	if err != nil {
		return "", err
	}
	keys, err := s.settleKeys(ctx, r)
	if found := append(r.id.foreign(r.prov, s.p.managedOf(r.prov)), keys...); len(found) > 0 {
		return "not deleted, because it has " + strings.Join(found, ", "), err
	}
	return "", err
}

// settleKeys describes the keys of remains that must not be deleted: those that were used
// after the operation, and those that it did not record, until they were inactive and
// unused for a day.
func (s *scan) settleKeys(ctx context.Context, r *remains) ([]string, error) {
	var found []string
	for _, k := range r.id.keys {
		last, err := s.lastUsed(ctx, k.id)
		switch {
		case err != nil && !isUnimplemented(err):
			return nil, err
		case last.After(r.op.FinishedAt.Add(clockSkew)):
			found = append(found, "the key "+k.id+", which was used after the operation")
		case slices.Contains(r.data.Keys, k.id):
		case k.active:
			if err := s.setKey(ctx, r.user.Name, k.id, types.StatusTypeInactive); err != nil {
				return nil, err
			}
			found = append(found, "the key "+k.id+", which is not in this registry; it was made inactive")
		case err != nil || !last.IsZero() || s.now.Sub(time.Unix(k.created, 0)) < s.p.cfg.Timing.KeyAge:
			found = append(found, "the inactive key "+k.id+", which is not in this registry")
		}
	}
	return found, nil
}

// gaveUp reports an orphan on which an action failed. It returns an error only if ctx
// has ended, so that one orphan does not stop the reconcile of the others.
func (s *scan) gaveUp(ctx context.Context, o Orphan, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if isGone(err) {
		return nil
	}
	if errors.Is(err, alias.ErrLeaseLost) {
		s.p.log.Warn("check of a user interrupted", "user", o.User, "error", err)
		return nil
	}
	o.Detail += "; an action on it failed: " + err.Error()
	s.add(o)
	return nil
}

// on is the caller for actions on what an operation left behind.
func (s *scan) on(op *alias.Operation) caller {
	c := s.caller
	c.operation, c.alias, c.credential = op.ID, op.Alias, op.Credential
	return c
}

// given is what an operation may have given a user that belongs to no credential.
func (s *scan) given(r *remains) *alias.Provisioned {
	p := &alias.Provisioned{User: r.user.IAMUser}
	if r.op.Kind != alias.OperationProvision || r.data.Request == nil {
		return p
	}
	p.Mode, p.Grants = r.data.Request.Policy, []alias.Grant{policy.GrantOf(r.data.Request)}
	return p
}

// recentDeletions counts the users that reconcile deleted within the hour. It reads
// the audit, so that a restart does not reset the count.
func (s *scan) recentDeletions(ctx context.Context) (int, error) {
	return s.p.cfg.Registry.History().CountAudit(ctx, alias.AuditFilter{
		Actor: reconciler, Action: "iam:DeleteUser", Outcome: "ok", Since: s.now.Add(-time.Hour),
	})
}

// unusedFor is the time without use after which a key counts as idle.
const unusedFor = 7 * 24 * time.Hour

// quarantine reports a user whose operation is not in this registry, and makes its
// idle keys inactive. It deletes nothing.
func (s *scan) quarantine(ctx context.Context, u *iamUser) error {
	o := Orphan{Kind: orphanUser, User: u.Name, State: stateReported,
		Detail: "has our tags, but the operation that made it is not in this registry; " +
			"delete it with DELETE /api/v1/orphans/" + u.Name + s.query()}
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

// query is the one that names the account in a call of the API.
func (s *scan) query() string {
	if s.account == nil {
		return ""
	}
	return "?account=" + s.account.ID
}

// deactivateIdle makes the idle keys of a user inactive, and adds the state of each
// key to the orphan's detail.
func (s *scan) deactivateIdle(ctx context.Context, u *iamUser, o *Orphan) error {
	keys, err := s.keys(ctx, u.Name)
	if err != nil {
		return err
	}
	inactive := 0
	for _, k := range keys {
		t := task{p: s.p, accountRole: s.accountRole, actor: reconciler, c: &alias.Credential{}, prov: &alias.Provisioned{}}
		k.use, k.last = t.usage(ctx, k.id)
		if k.active && !s.idle(k) {
			o.Detail += "; its key " + k.id + " was used within the week, or its last use is unknown: left active"
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

// neverUsedFor is the age after which a key that was never used counts as idle. IAM
// shows a use hours later.
const neverUsedFor = 24 * time.Hour

// idle reports whether a key was not used for unusedFor, or never. A key in use is
// not idle, even if this registry does not know it.
func (s *scan) idle(k accessKey) bool {
	switch k.use {
	case useNever:
		return s.now.Sub(time.Unix(k.created, 0)) > neverUsedFor
	case useSome:
		return s.now.Sub(k.last) > unusedFor
	case useUnknown, useDenied:
	}
	return false
}

// checkKnown checks the users of credentials for unknown keys, drift of the policy, a
// changed boundary and missing users.
func (s *scan) checkKnown(ctx context.Context) error {
	seen := map[string]*iamUser{}
	for _, u := range s.users {
		seen[u.Name] = u
	}
	for name, c := range s.byUser {
		u, ok := seen[name]
		if prov, _ := c.Provisioned(); prov.Adopted != nil {
			var err error
			if u, err = s.adoptedUser(ctx, c); err != nil {
				return err
			}
			if ok = u != nil; !ok && slices.ContainsFunc(s.orphans, func(o Orphan) bool { return o.Credential == c.Name }) {
				continue // it could not be read
			}
		}
		if !ok {
			if s.now.Sub(c.CreatedAt) > s.p.cfg.Timing.OrphanAge {
				s.add(Orphan{Kind: orphanMissing, User: name, Credential: c.Name, State: stateReported,
					Detail: "the IAM user of this credential does not exist: provision its aliases again"})
			}
			continue
		}
		if err := s.checkUser(ctx, c.Name, u); err != nil {
			o := Orphan{Kind: orphanUser, User: name, Credential: c.Name, State: stateReported, Detail: "not checked"}
			if err := s.gaveUp(ctx, o, err); err != nil {
				return err
			}
		}
	}
	return s.giveBack(ctx)
}

// adoptedUser reads a user that is not under our path, and so not in the list. It returns nil
// if there is none, or if it could not be read, which is reported.
func (s *scan) adoptedUser(ctx context.Context, c *alias.Credential) (*iamUser, error) {
	prov, _ := c.Provisioned()
	u, err := s.of(c).getUser(ctx, prov.User.Name)
	switch {
	case isGone(err):
		return nil, nil //nolint:nilnil // there is none
	case err != nil:
		o := Orphan{Kind: orphanUser, User: prov.User.Name, Credential: c.Name, State: stateReported, Detail: "not checked"}
		return nil, s.gaveUp(ctx, o, err)
	}
	return u, nil
}

// of is the caller for a credential.
func (s *scan) of(c *alias.Credential) caller {
	by := s.caller
	prov, ok := c.Provisioned()
	by.credential, by.adopted = c.Name, ok && prov.Adopted != nil
	return by
}

// giveBack takes off users what failed adoptions left on them.
func (s *scan) giveBack(ctx context.Context) error {
	for _, c := range s.left {
		before := len(s.orphans)
		u, err := s.adoptedUser(ctx, c)
		if err != nil {
			return err
		}
		if u == nil && len(s.orphans) > before {
			continue // it could not be read
		}
		if err := s.checkUser(ctx, c.Name, u); err != nil {
			prov, _ := c.Provisioned()
			o := Orphan{Kind: orphanUser, User: prov.User.Name, Credential: c.Name, State: stateReported,
				Detail: "a failed operation was to adopt it, and left something of ixmage on it"}
			if err := s.gaveUp(ctx, o, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkUser lets the controller look at a user on which no operation runs, and reports what
// it found.
func (s *scan) checkUser(ctx context.Context, name alias.Name, u *iamUser) error {
	return s.p.lockedIfFree(ctx, credentialLock(name), func(ctx context.Context) error {
		return s.checkLocked(ctx, name, u)
	})
}

func (s *scan) checkLocked(ctx context.Context, name alias.Name, u *iamUser) error {
	t := &task{p: s.p, accountRole: s.accountRole, actor: reconciler, missed: map[actionKind]miss{}}
	if err := t.read(ctx, name); err != nil {
		return ignoreMissing(err)
	}
	if t.c.State != alias.CredentialActive && !t.abandoned() {
		return nil
	}
	t.seen.user = userView{state: userAbsent}
	if u != nil {
		t.seen.user = judge(t.prov, u, s.p.cfg.InstallID)
	}
	left := t.abandoned()
	err := t.loop(ctx)
	o := Orphan{Kind: orphanUser, User: t.prov.User.Name, Credential: name, State: stateReported}
	if stopped, ok := errors.AsType[*stepError](err); ok {
		if stopped.code == codeCopied {
			o.Kind = orphanCopied
		}
		o.Detail = stopped.Error()
		s.add(o)
		return nil
	}
	if err != nil || left {
		return err
	}
	return s.report(ctx, t, o)
}

// report adds what the controller saw of a user and did not change.
func (s *scan) report(ctx context.Context, t *task, o Orphan) error {
	if want, got := t.prov.User.Boundary, t.seen.user.boundary; want != "" && got != want {
		o.Kind, o.Detail = orphanBoundary, "its permissions boundary is "+orNone(got)+", not "+want
		s.add(o)
	}
	if t.seen.drift != "" {
		o.Kind, o.Detail = orphanPolicy, t.seen.drift
		s.add(o)
	}
	if err := s.reportAttached(ctx, t, o); err != nil {
		return err
	}
	d := t.desired()
	for _, k := range t.seen.keys {
		if d.knows(k.id) || slices.Contains(t.prov.PendingDeletion, k.id) ||
			s.now.Unix()-k.created < int64(s.p.cfg.Timing.OrphanAge.Seconds()) {
			continue // IAM may show a key late, or that of an operation that just ended
		}
		if err := s.unknownKey(ctx, t, k); err != nil {
			return err
		}
	}
	return nil
}

// reportAttached reports the managed policies on a user that this server did not attach: those
// of AWS, which say that a key is public, and those of other clients.
func (s *scan) reportAttached(ctx context.Context, t *task, o Orphan) error {
	attached, err := s.of(t.c).attached(ctx, t.prov.User.Name)
	if err != nil && !isUnimplemented(err) {
		return err
	}
	given := s.p.managedOf(t.prov)
	for _, arn := range attached {
		switch {
		case isQuarantine(arn):
			o.Kind, o.Detail = orphanLeaked, "AWS found a key of this user in public and attached "+arn+
				": send POST /api/v1/credentials/"+string(t.c.Name)+`/rotate with {"emergency":true}, then detach the policy`
		case !slices.Contains(given, arn) && !hadPolicy(t.prov, arn):
			o.Kind, o.Detail = orphanPolicy, "another client attached "+plainNames([]string{arn})+" to it"
		default:
			continue
		}
		s.add(o)
	}
	return nil
}

// unknownKey reports a key that is not the credential's. It may be in use from another
// database, so it is made inactive only when it is idle, and never deleted, unless it is
// probably one of ours.
func (s *scan) unknownKey(ctx context.Context, t *task, k accessKey) error {
	o := Orphan{Kind: orphanKey, User: t.prov.User.Name, AccessKeyID: k.id, Credential: t.c.Name, State: stateReported,
		Detail: "it is not in this registry (" + k.lastUse() + "): delete it, or use a key of another user instead"}
	if t.desired().isSuspect(k.id) {
		s.add(suspectOrphan(t.c.Name, t.prov, k.id))
		return nil
	}
	if s.idle(k) && s.skipped == "" {
		if k.active {
			if err := s.of(t.c).setKey(ctx, t.prov.User.Name, k.id, types.StatusTypeInactive); err != nil {
				return err
			}
		}
		o.State = stateQuarantined
	}
	s.add(o)
	return nil
}
