package provision

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
)

// verifiedInARow is how often in a row a new key must work: IAM distributes a key to
// many servers, and at first only some of them know it.
const verifiedInARow = 5

// prove runs the checks for one alias until the key is verified or VerifyBudget has
// passed.
//
//	works for the first time ── scope checks ── violated twice ──> stop
//	                                  │
//	                                  ▼
//	works five times in a row, with a pause between two of them ──> verified
//	         │
//	         └── refused in between ──> count from the beginning
func (t *task) prove(
	ctx context.Context, a *alias.Alias, p *alias.Provisioned, kp alias.KeyPair,
) (*alias.Verification, string, error) {
	timing := t.p.cfg.Timing
	key, target := t.p.keyOf(a.Location, kp), t.p.target(a, p, t.data.Request)
	read := func() []alias.Check { return scope.CheckRead(ctx, key, target) }
	began := t.p.clock.Now()
	deadline := began.Add(timing.VerifyBudget)
	incurable := func(checks []alias.Check, late bool) error {
		if !cannotRead(checks) || violated(checks) {
			return nil
		}
		return readError(target, scope.ReadInside(ctx, key, target), late)
	}
	if err := t.untilWorks(ctx, deadline, read, incurable); err != nil {
		return nil, "", err
	}
	worked := t.p.clock.Now().Sub(began)
	if pending := t.prov.Pending; pending != nil {
		t.p.cfg.Recorder.Propagation(t.p.clock.Now().Sub(pending.CreatedAt))
	}
	var last checked
	err := t.untilWorks(ctx, deadline, func() []alias.Check {
		last = t.check(ctx, key, target, p)
		return last.blocking
	}, incurable)
	if err != nil {
		return nil, "", err
	}
	if err := t.worksInARow(ctx, deadline, read); err != nil {
		return nil, "", err
	}
	v := &alias.Verification{
		AliasID: a.ID, Alias: a.Name, CredentialID: t.op.CredentialID, CheckedAt: t.now(), Checks: last.checks,
		NotTried: last.notTried,
	}
	return v, describeScope(v, worked), nil
}

func describeScope(v *alias.Verification, worked time.Duration) string {
	text := fmt.Sprintf("worked after %s, and %d times in a row; scope %s",
		worked.Round(10*time.Millisecond), verifiedInARow, v.Scope())
	var open []string
	for _, c := range v.Checks {
		if c.Verdict != alias.VerdictProven {
			open = append(open, c.Name+" "+string(c.Verdict))
		}
	}
	if len(open) > 0 {
		text += " (" + strings.Join(open, ", ") + ")"
	}
	return text
}

// untilWorks repeats the checks until all answers are conclusive. A check that is
// violated twice in a row, one pause apart, fails. incurable returns the reason why the
// key cannot read, if waiting cannot cure it or it is late.
func (t *task) untilWorks(
	ctx context.Context, deadline time.Time, run func() []alias.Check, incurable func([]alias.Check, bool) error,
) error {
	blockedBefore := false
	for i := 0; ; i++ {
		checks := run()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v := alias.Verification{Checks: checks}
		blocked := v.Blocks()
		if scope.Conclusive(checks) && !blocked {
			return nil
		}
		late := !t.p.clock.Now().Before(deadline)
		if err := incurable(checks, late); err != nil {
			return err
		}
		if err := t.giveUp(checks, late, blockedBefore); err != nil {
			return err
		}
		blockedBefore = blocked
		if err := t.p.clock.Sleep(ctx, waits[min(i, len(waits)-1)]); err != nil {
			return err
		}
	}
}

// giveUp returns the error for checks that are blocked for good, or for which the time is over.
func (t *task) giveUp(checks []alias.Check, late, blockedBefore bool) error {
	v := alias.Verification{Checks: checks}
	switch {
	case v.Blocks() && scope.Conclusive(checks) && (late || blockedBefore && violated(checks)):
		return t.scopeError(checks)
	case late:
		return failf(codeNotVerified, "the key did not work within %s: %s",
			t.p.cfg.Timing.VerifyBudget, listChecks(checks, inconclusive))
	}
	return nil
}

func violated(checks []alias.Check) bool {
	for _, c := range checks {
		if c.Verdict == alias.VerdictViolated {
			return true
		}
	}
	return false
}

func (t *task) scopeError(checks []alias.Check) error {
	return failf(codeScope, "the key has other rights than the alias needs: %s",
		listChecks(checks, func(c alias.Check) bool { return c.Verdict == alias.VerdictViolated || c.Positive && c.Failed }))
}

func inconclusive(c alias.Check) bool { return c.Verdict == alias.VerdictNotProven || c.Failed }

// listChecks describes the checks that which selects.
func listChecks(checks []alias.Check, which func(alias.Check) bool) string {
	var parts []string
	for _, c := range checks {
		if !which(c) {
			continue
		}
		text := fmt.Sprintf("%s got %s, expected %s", c.Name, c.Got, c.Expected)
		if c.Detail != "" {
			text += " (" + c.Detail + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// worksInARow waits until a key that worked once has worked verifiedInARow times in a
// row.
func (t *task) worksInARow(ctx context.Context, deadline time.Time, run func() []alias.Check) error {
	for n := 1; n < verifiedInARow; {
		if err := t.p.clock.Sleep(ctx, t.p.cfg.Timing.VerifyEvery); err != nil {
			return err
		}
		checks := run()
		v := alias.Verification{Checks: checks}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case scope.Conclusive(checks) && !v.Blocks():
			n++
		case !t.p.clock.Now().Before(deadline):
			return failf(codeNotVerified, "the key did not work %d times in a row within %s: %s",
				verifiedInARow, t.p.cfg.Timing.VerifyBudget, listChecks(checks, inconclusive))
		default:
			n = 0
		}
	}
	return nil
}

// keyOf makes the key that the checks use from a key pair.
func (p *Provisioner) keyOf(at alias.Location, kp alias.KeyPair) scope.Key {
	key := scope.Key{S3: p.cfg.S3(at, kp), Now: p.clock.Now, CustomIAM: p.cfg.IAMEndpoint != ""}
	if p.cfg.Probes != nil && kp.AccessKeyID != "" && !p.elsewhere(at) {
		p.cfg.Probes.probesAt(&key, at, keysOf(kp))
	}
	return key
}

// elsewhere reports whether a location is on an S3 server that is not AWS while IAM is AWS's. Its
// keys must not be sent to AWS.
func (p *Provisioner) elsewhere(at alias.Location) bool {
	return !at.AtAWS() && p.cfg.IAMEndpoint == ""
}

// target is the target of the checks: the location of an alias, with the object keys
// from the request or the alias's canary.
func (p *Provisioner) target(a *alias.Alias, prov *alias.Provisioned, r *policy.Request) scope.Target {
	t := scope.Target{Location: a.Location, Grants: []alias.Grant{{Bucket: a.Bucket, Prefix: a.Prefix}}}
	if a.Canary != "" {
		t.Inside = a.Prefix + a.Canary
	}
	if prov != nil {
		t.Mode, t.Grants, t.User = prov.Mode, prov.Grants, prov.User
		if a.State == alias.StateProvisioning { // as it will be opened
			t.Location.BucketOwner = policy.OwnerOf(a.Location, prov.User.ARN)
		}
	}
	if r != nil && r.Bucket == a.Bucket && r.Prefix == a.Prefix {
		t.Outside = r.Outside
		t.Inside = cmp.Or(t.Inside, r.Inside)
	}
	return t
}

// Verify runs the scope checks of an alias's credential on its location and stores
// the verification. The keys of the probe replace those that are known of the alias. The
// alias is served whatever the result.
func (p *Provisioner) Verify(
	ctx context.Context, actor string, name alias.Name, probe policy.Probe,
) (*alias.Verification, error) {
	r := p.cfg.Registry
	a, err := r.Alias(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := probe.Validate(a.Prefix); err != nil {
		return nil, err
	}
	c, err := r.Credential(ctx, a.Credential)
	if err != nil {
		return nil, err
	}
	key, session, err := p.signing(ctx, a, c)
	if err != nil {
		return nil, err
	}
	prov, _ := c.Provisioned()
	request, err := p.requestOf(ctx, name)
	if err != nil {
		return nil, err
	}
	v := &alias.Verification{
		AliasID: a.ID, Alias: a.Name, CredentialID: c.ID, CredentialVersion: c.Version,
	}
	target := p.target(a, prov, request)
	target.Session = session
	if static, ok := c.Provider.(alias.Static); ok {
		target.Expect = static.Expect
	}
	target.Inside, target.Outside = cmp.Or(probe.Inside, target.Inside), cmp.Or(probe.Outside, target.Outside)
	if prov == nil && !session.Narrowed() {
		if err := p.addGrants(ctx, &target, c.ID); err != nil {
			return nil, err
		}
	}
	by := caller{p: p, actor: actor, operation: "verify-" + rand.Text(), alias: name, credential: c.Name}
	if p.cfg.AWS != nil {
		by.accountRole = p.roleIn(p.accountToRead(c), by.operation)
	}
	found, err := by.proveNow(ctx, c, &target)
	if err != nil {
		return nil, err
	}
	target.ControlPlane = found.ControlPlane
	v.Checks, v.NotTried = scope.Check(scope.WithMark(ctx, by.operation), key, target)
	v.NotTried = append(v.NotTried, found.notTried...)
	v.CheckedAt = p.clock.Now().UTC().Truncate(time.Microsecond)
	p.audit(ctx, &alias.AuditEntry{
		Actor: actor, Action: "verify", AccessKeyID: c.AccessKeyID(), Alias: name, Credential: c.Name,
		Outcome: string(v.Scope()), Operation: by.operation,
	})
	return v, p.saveVerification(context.WithoutCancel(ctx), a.Location, c.Name, v)
}

// signing makes the key that the checks use of the credential of an alias: of one that has no key
// of its own, the session that serves the alias. session describes that, and is nil for other
// credentials.
func (p *Provisioner) signing(
	ctx context.Context, a *alias.Alias, c *alias.Credential,
) (key scope.Key, session *scope.Session, err error) {
	if kind := c.Provider.Kind(); kind == alias.KindRole || kind == alias.KindDefault {
		return p.session(ctx, alias.Route{Alias: a, Credential: c})
	}
	kp, err := p.cfg.Registry.Reveal(c)
	if err != nil && !errors.Is(err, alias.ErrNoKeyPair) {
		return scope.Key{}, nil, err
	}
	return p.keyOf(a.Location, kp), nil, nil
}

// addGrants adds the locations of the other aliases that use a key which an operator gave: it is
// meant to read them too.
func (p *Provisioner) addGrants(ctx context.Context, t *scope.Target, credential int64) error {
	names, err := p.cfg.Registry.AliasesOf(ctx, credential)
	if err != nil {
		return err
	}
	for _, name := range names {
		a, err := p.cfg.Registry.Alias(ctx, name)
		if errors.Is(err, alias.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		g := alias.Grant{Bucket: a.Bucket, Prefix: a.Prefix}
		if a.Endpoint == t.Location.Endpoint && !slices.Contains(t.Grants, g) {
			t.Grants = append(t.Grants, g)
		}
	}
	return nil
}

// requestOf is the request that provisioned an alias, which holds the object keys for
// the checks. It is empty if the alias's last operation is no provision.
func (p *Provisioner) requestOf(ctx context.Context, name alias.Name) (*policy.Request, error) {
	var req policy.Request
	list, err := p.cfg.Registry.History().Operations(ctx, alias.OperationFilter{Alias: name, Limit: 1})
	if err != nil || len(list) == 0 {
		return &req, err
	}
	if list[0].Kind == alias.OperationProvision {
		err = json.Unmarshal(list[0].Request, &req)
	}
	return &req, err
}

// saveVerification stores a verification of a location of an alias, and its verdict in the
// credential. If the alias has another location now, nothing is known of it.
func (p *Provisioner) saveVerification(
	ctx context.Context, at alias.Location, credential alias.Name, v *alias.Verification,
) error {
	return p.apply(ctx, []alias.Name{credential, v.Alias}, func(tx alias.Tx) ([]alias.Change, error) {
		c, err := tx.Credential(credential)
		if err != nil {
			return nil, err
		}
		if a, err := tx.Alias(v.Alias); err != nil || a.Location != at {
			return nil, err
		}
		if err := tx.PutVerification(v); err != nil {
			return nil, err
		}
		if c.ID != v.CredentialID || c.Version != v.CredentialVersion {
			return nil, nil // the credential was replaced meanwhile
		}
		c.Scope, c.VerifiedAt, c.Revision = string(v.Scope()), v.CheckedAt, c.Revision+1
		c.UpdatedAt = v.CheckedAt
		return []alias.Change{{CredentialPut: c}}, tx.UpdateCredential(c)
	})
}

// whoAmI asks STS for the owner of a key. The call needs no permission, so only a key
// that does not work is refused.
func whoAmI(ctx context.Context, client *sts.Client) *callError {
	_, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err == nil {
		return nil
	}
	return newCallError(actionWhoAmI, "itself", err)
}
