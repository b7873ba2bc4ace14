package provision

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"ixmage/alias"
	"ixmage/alias/accounts"
	"ixmage/alias/policy"
)

// newOperation makes an operation without steps, which is not stored yet.
func (p *Provisioner) newOperation(kind alias.OperationKind, actor string) *alias.Operation {
	at := p.clock.Now().UTC().Truncate(time.Microsecond)
	return &alias.Operation{
		ID: "op-" + rand.Text(), Kind: kind, State: alias.OperationRunning, Actor: actor,
		Request: []byte("{}"), Revision: 1, CreatedAt: at, UpdatedAt: at,
	}
}

// Provision starts the operation that makes an alias with its IAM user, policy and
// key. The same request again returns the same operation, while it runs and after it
// is done. Errors: a *alias.ValidationError with all problems, alias.ErrForbidden for a
// bucket or policy that the configuration does not allow, alias.ErrBusy if another
// operation has the name, and alias.ErrExists if the name is taken.
func (p *Provisioner) Provision(
	ctx context.Context, actor string, req policy.Request,
) (*alias.Operation, error) {
	if err := policy.Prepare(&req, p.cfg.Registry.Policy()); err != nil {
		return nil, err
	}
	if err := p.enabled(); err != nil {
		return nil, err
	}
	account, err := p.accountFor(ctx, &req)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(p.boundaryAsked(account), p.allowed(&req, account)); err != nil {
		return nil, err
	}
	if req.Credential == "" {
		if err := p.checkPartition(req.Location, account); err != nil {
			return nil, err
		}
	}
	request, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	op := p.newOperation(alias.OperationProvision, actor)
	op.Alias, op.Request = req.Alias, request
	b := intent{p: p, op: op, req: req, account: account}
	names := []alias.Name{cmp.Or(req.Credential, req.Alias), req.Alias, adoptedName(req.Alias)}
	err = p.apply(ctx, names, b.write)
	if err != nil || b.same != nil {
		return b.same, err
	}
	p.audit(ctx, &alias.AuditEntry{
		Actor: actor, Action: "provision", Alias: op.Alias, Credential: op.Credential, Outcome: "begun", Operation: op.ID,
	})
	p.begun(op.Credential)
	return op, nil
}

// intent stores the operation, the alias and the credential in one transaction, before
// the first call of IAM.
type intent struct {
	p       *Provisioner
	op      *alias.Operation
	req     policy.Request
	account *accounts.Account // nil: that of the server
	same    *alias.Operation  // the existing operation of the same request
	name    alias.Name        // of the new credential
	// takes is the existing alias of which an adoption replaces the credential; nil for a new one.
	takes *alias.Alias
}

func (b *intent) write(tx alias.Tx) ([]alias.Change, error) {
	changes, err := b.clear(tx)
	if err != nil || b.same != nil {
		return changes, err
	}
	data := progress{Request: &b.req, Raised: true, Format: progressFormat}
	var c *alias.Credential
	if b.req.Credential != "" {
		c, err = b.reused(tx, &data)
	} else {
		c, err = b.insertCredential(tx)
	}
	if err != nil {
		return nil, err
	}
	changes = append(changes, alias.Change{CredentialPut: c})
	if b.takes != nil {
		data.Static = b.takes.CredentialID
		return changes, insertOperation(tx, b.op, &data, c)
	}
	a := policy.NewAlias(&b.req)
	a.ID, a.Epoch, a.Revision, a.State = alias.NewID(), 1, 1, alias.StateProvisioning
	a.CredentialID, a.Credential = c.ID, c.Name
	a.CreatedAt, a.UpdatedAt = b.op.CreatedAt, b.op.CreatedAt
	if err := tx.InsertAlias(a); err != nil {
		return nil, fmt.Errorf("alias %s: %w", a.Name, err)
	}
	return append(changes, alias.Change{AliasPut: a}), insertOperation(tx, b.op, &data, c)
}

// insertOperation stores a new operation on a credential.
func insertOperation(tx alias.Tx, op *alias.Operation, data *progress, c *alias.Credential) (err error) {
	if op.Data, err = json.Marshal(data); err != nil {
		return err
	}
	op.Credential, op.CredentialID, op.Steps = c.Name, c.ID, newSteps(op, data)
	return tx.InsertOperation(op)
}

// clear finds an existing operation of the same request, or reports that the name is
// taken. It deletes an alias and a credential that a failed operation left in the
// registry.
func (b *intent) clear(tx alias.Tx) ([]alias.Change, error) {
	a, err := tx.Alias(b.req.Alias)
	if errors.Is(err, alias.ErrNotFound) {
		return b.clearCredential(tx)
	}
	if err != nil {
		return nil, err
	}
	last, err := tx.LastOperation(alias.OperationProvision, b.req.Alias)
	if errors.Is(err, alias.ErrNotFound) {
		return b.takeOver(tx, a)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case b.isSame(last, a):
		b.same = last
		return nil, nil
	case last.State == alias.OperationRunning:
		return nil, fmt.Errorf("alias %s: %w: %s provisions it by another request", a.Name, alias.ErrBusy, last.ID)
	case last.State == alias.OperationDone, a.State != alias.StateFailed:
		return b.takeOver(tx, a)
	}
	if err := tx.DeleteAlias(a.ID, a.Revision); err != nil {
		return nil, err
	}
	more, err := b.clearCredential(tx)
	return append([]alias.Change{{AliasDeleted: a}}, more...), err
}

// isSame reports whether the last operation of an alias did, or does, what is asked for.
func (b *intent) isSame(last *alias.Operation, a *alias.Alias) bool {
	adopting := b.req.Adopt != "" && last.State == alias.OperationRunning
	return (last.State == alias.OperationRunning || last.State == alias.OperationDone) &&
		bytes.Equal(last.Request, b.op.Request) && (last.CredentialID == a.CredentialID || adopting)
}

// takeOver lets an adoption replace the key pair of an alias that exists, which an operator
// gave. Whether it is that of the user, only IAM can tell.
func (b *intent) takeOver(tx alias.Tx, a *alias.Alias) ([]alias.Change, error) {
	if b.req.Adopt == "" {
		return nil, fmt.Errorf("alias %s: %w", a.Name, alias.ErrExists)
	}
	c, err := tx.Credential(a.Credential)
	if err != nil {
		return nil, err
	}
	if c.Provider.Kind() != alias.KindStatic {
		return nil, fmt.Errorf("alias %s: %w, and its credential %s is of kind %s: only the key pair that an operator gave "+
			"can be replaced by that of an adopted user", a.Name, alias.ErrExists, c.Name, c.Provider.Kind())
	}
	wanted := b.req.Location
	if wanted.BucketOwner == "" {
		wanted.BucketOwner = a.BucketOwner
	}
	if wanted != a.Location {
		return nil, fmt.Errorf("alias %s: %w, with another location: to adopt the user of its key, send bucket, prefix, "+
			"region, endpoint and path_style as it has them", a.Name, alias.ErrExists)
	}
	b.takes = a
	return b.clearCredential(tx)
}

// adoptedName is the name of the credential of an adopted user if the alias has a key pair
// with its own name until then.
func adoptedName(name alias.Name) alias.Name {
	const end, longest = "-adopted", 63
	return name[:min(len(name), longest-len(end))] + end
}

// clearCredential deletes a credential with the name of the new one if a failed operation
// left it.
func (b *intent) clearCredential(tx alias.Tx) ([]alias.Change, error) {
	if b.req.Credential != "" {
		return nil, nil
	}
	if b.name = b.req.Alias; b.takes != nil && b.takes.Credential == b.name {
		b.name = adoptedName(b.name)
	}
	c, err := tx.Credential(b.name)
	if errors.Is(err, alias.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	users, err := tx.AliasesOf(c.ID)
	if err != nil {
		return nil, err
	}
	if _, ok := c.Provisioned(); !ok || c.State != alias.CredentialFailed || c.Sealed != nil || len(users) > 0 {
		return nil, fmt.Errorf("credential %s: %w: name it in the field credential to reuse it, or delete it",
			c.Name, alias.ErrExists)
	}
	if isAbandoned(c) {
		return nil, fmt.Errorf("credential %s: %w: a failed operation left something on its IAM user, which reconcile takes "+
			"off (GET /api/v1/orphans names it); repeat the request then", c.Name, alias.ErrBusy)
	}
	return []alias.Change{{CredentialDeleted: c}}, tx.DeleteCredential(c.ID, c.Revision)
}

// insertCredential stores the new credential with the name of its user.
func (b *intent) insertCredential(tx alias.Tx) (*alias.Credential, error) {
	boundary, _ := b.p.boundaryOf(b.account)
	user := alias.IAMUser{Name: b.req.UserName, Path: policy.UserPath(b.p.cfg.InstallID), Boundary: boundary}
	var adopted *alias.Adopted
	switch {
	case b.req.Adopt != "":
		user.Name, user.Path, adopted = b.req.Adopt, "", &alias.Adopted{Retire: b.req.Retire}
	case user.Name == "":
		user.Name = policy.UserName(b.req.Alias, policy.NewSuffix())
	}
	if b.p.userHeld(idOf(b.account), user.Name, b.name) {
		return nil, fmt.Errorf("the IAM user %s belongs to another credential: %w: choose another user_name, or reuse that "+
			"credential (field credential)", user.Name, alias.ErrExists)
	}
	c := &alias.Credential{
		ID: alias.NewID(), Name: b.name, Version: 1, Revision: 1, State: alias.CredentialProvisioning,
		CreatedAt: b.op.CreatedAt, UpdatedAt: b.op.CreatedAt,
		Provider: &alias.Provisioned{
			Account: idOf(b.account), User: user, Adopted: adopted,
			Mode: b.req.Policy, Grants: []alias.Grant{policy.GrantOf(&b.req)}, Operation: b.op.ID,
			Tags: policy.UserTags(b.p.cfg.InstallID, b.op.ID, b.req), RotateEvery: b.req.RotateEvery,
			Pending: &alias.PendingKey{SealedKey: alias.SealedKey{Version: 1}},
		},
	}
	prov, _ := c.Provisioned()
	raiseGeneration(prov)
	return c, tx.InsertCredential(c)
}

// userHeld reports whether a credential of another name has a user of this name in an account.
func (p *Provisioner) userHeld(account, user string, but alias.Name) bool {
	held := false
	p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		given := ok && prov.Adopted != nil && prov.User.ID == "" && c.State == alias.CredentialFailed // back, or never taken
		held = ok && prov.Account == account && prov.User.Name == user && c.Name != but && !given
		return !held
	})
	return held
}

// reused adds the location to the grants of the credential that the request names, if it
// can be reused.
func (b *intent) reused(tx alias.Tx, data *progress) (*alias.Credential, error) {
	c, err := tx.Credential(b.req.Credential)
	if errors.Is(err, alias.ErrNotFound) {
		return nil, policy.Invalid("credential", fmt.Sprintf("there is no credential named %q", b.req.Credential))
	}
	if err != nil {
		return nil, err
	}
	running, err := tx.RunningOperation("", c.Name)
	switch {
	case err == nil:
		return nil, fmt.Errorf("credential %s: %w: %s, of kind %s; wait for its end", c.Name, alias.ErrBusy,
			running.ID, running.Kind)
	case !errors.Is(err, alias.ErrNotFound):
		return nil, err
	}
	if err := b.reusable(c); err != nil {
		return nil, err
	}
	p, _ := c.Provisioned()
	data.Before, p = &granted{p.Grants, p.Policies, p.ExtraGrants}, p.Clone()
	withGrant(p, policy.GrantOf(&b.req))
	data.Raised = raiseGeneration(p)
	c.Provider, c.Revision, c.UpdatedAt = p, c.Revision+1, b.op.CreatedAt
	return c, tx.UpdateCredential(c)
}

// reusable returns an error if the request cannot reuse a credential.
func (b *intent) reusable(c *alias.Credential) error {
	p, ok := c.Provisioned()
	switch {
	case !ok:
		return policy.Invalid("credential",
			"must be a provisioned credential; a key pair of your own is used by POST /api/v1/aliases")
	case c.State != alias.CredentialActive:
		return fmt.Errorf("credential %s is %s: %w", c.Name, c.State, alias.ErrBusy)
	case p.Account != idOf(b.account): // it was made again since
		return fmt.Errorf("credential %s: %w: its account has changed; repeat the request", c.Name, alias.ErrBusy)
	case p.Mode == alias.PolicyReadOnly && !b.p.cfg.AllowWideScope:
		return policy.ErrWideScope
	case b.req.Policy != "" && b.req.Policy != p.Mode:
		return policy.Invalid("policy", fmt.Sprintf("must be %s, as the credential %s has it", p.Mode, c.Name))
	}
	return cmp.Or(policy.CheckAttached(p.Mode, append(slices.Clone(p.Grants), policy.GrantOf(&b.req))),
		policy.CheckPartition(b.req.Location, p.User.ARN, ""))
}

// Plan returns what Provision would do, or what a person does for a role. It calls no server,
// and works while provisioning is off.
func (p *Provisioner) Plan(ctx context.Context, req policy.PlanRequest) (*policy.Plan, error) {
	if err := policy.PreparePlan(&req, p.cfg.Registry.Policy()); err != nil {
		return nil, err
	}
	account, err := p.accountFor(ctx, &req.Request)
	if err != nil {
		return nil, err
	}
	env := policy.Env{
		InstallID: p.cfg.InstallID, Account: idOf(account), IAMEndpoint: p.cfg.IAMEndpoint,
		Suffix: policy.NewSuffix(), AllowWideScope: p.cfg.AllowWideScope,
	}
	if env.Boundary, _ = p.boundaryOf(account); account != nil {
		if err := p.checkPartition(req.Location, account); err != nil {
			return nil, err
		}
		env.Partition = account.Partition
	}
	if req.Credential != "" {
		c, err := p.cfg.Registry.Credential(ctx, req.Credential)
		if err != nil && !errors.Is(err, alias.ErrNotFound) {
			return nil, err
		}
		if err != nil {
			return nil, policy.Invalid("credential", fmt.Sprintf("there is no credential named %q", req.Credential))
		}
		prov, ok := c.Provisioned()
		if !ok {
			return nil, policy.Invalid("credential", "must be a provisioned credential")
		}
		env.Existing, env.User, env.Mode = prov.Grants, prov.User, prov.Mode
	}
	return policy.MakePlan(req, env)
}

// Rotate starts the rotation of the key of a provisioned credential. In an emergency no key
// that the user has now works any more when it ends, nor a session that was made with one,
// and the operation takes the place of an ordinary rotation or a reuse that runs. If a
// rotation of the same kind runs already, Rotate returns that one. It returns
// alias.ErrNotProvisioned for a credential of another kind.
func (p *Provisioner) Rotate(
	ctx context.Context, actor string, name alias.Name, emergency bool,
) (*alias.Operation, error) {
	if err := p.enabled(); err != nil {
		return nil, err
	}
	account, err := p.accountOfName(ctx, name)
	if err != nil {
		return nil, err
	}
	if !emergency {
		if err := p.boundaryAsked(account); err != nil {
			return nil, err
		}
	}
	op := p.newOperation(alias.OperationRotate, actor)
	op.Credential = name
	return p.begin(ctx, op, progress{Emergency: emergency}, func(c *alias.Credential) error {
		if c.State != alias.CredentialActive && c.State != alias.CredentialRotating {
			return fmt.Errorf("credential %s is %s: %w", name, c.State, alias.ErrBusy)
		}
		prov, _ := c.Provisioned()
		if emergency { // the key that a superseded rotation made may have leaked too
			dropPending(prov)
		}
		if prov.Pending == nil {
			prov.Pending = &alias.PendingKey{SealedKey: alias.SealedKey{Version: c.Version + 1}}
		}
		if prov.Previous != nil && emergency {
			prov.Previous.Until = earlier(prov.Previous.Until, op.CreatedAt)
		}
		c.State = alias.CredentialRotating
		return nil
	})
}

// Remove starts the removal of a provisioned credential and its IAM user. It takes the
// place of an operation that runs on the credential. Errors: *alias.InUseError while
// aliases use it, alias.ErrStale unless ifRevision is 0 or the current revision.
func (p *Provisioner) Remove(
	ctx context.Context, actor string, name alias.Name, ifRevision int64,
) (*alias.Operation, error) {
	if err := p.enabled(); err != nil {
		return nil, err
	}
	if _, err := p.accountOfName(ctx, name); err != nil {
		return nil, err
	}
	op := p.newOperation(alias.OperationRemove, actor)
	op.Credential = name
	return p.begin(ctx, op, progress{}, func(c *alias.Credential) error {
		if ifRevision != 0 && ifRevision != c.Revision {
			return fmt.Errorf("credential %s: %w", name, alias.ErrStale)
		}
		c.State = alias.CredentialRemoving
		return nil
	})
}

// begin stores a new operation on a credential, together with the desired state that want
// writes into it. If the same is under way already, it returns that operation instead.
func (p *Provisioner) begin(
	ctx context.Context, op *alias.Operation, data progress, want func(*alias.Credential) error,
) (*alias.Operation, error) {
	b := beginning{op: op, data: data, want: want}
	err := p.apply(ctx, p.affected(ctx, op), b.write)
	if err != nil || b.same != nil {
		return b.same, err
	}
	if b.superseded != nil {
		p.ended(b.superseded)
		p.interrupt(op.Credential)
	}
	p.audit(ctx, &alias.AuditEntry{
		Actor: op.Actor, Action: string(op.Kind), Credential: op.Credential, Outcome: "begun", Operation: op.ID,
	})
	p.begun(op.Credential)
	return op, nil
}

// beginning is the transaction with which an operation on a credential begins.
type beginning struct {
	op   *alias.Operation
	data progress
	want func(*alias.Credential) error

	same       *alias.Operation // does what is asked for already
	superseded *alias.Operation // op takes its place
}

func (b *beginning) write(tx alias.Tx) ([]alias.Change, error) {
	b.same, b.superseded = nil, nil
	c, err := provisionedIn(tx, b.op.Credential)
	if err != nil {
		return nil, err
	}
	running, err := tx.RunningOperation("", b.op.Credential)
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		return nil, err
	}
	if err == nil && b.isSame(running) {
		b.same = running
		return nil, nil
	}
	if err := inUse(tx, b.op, c); err != nil {
		return nil, err
	}
	changes := []alias.Change{{CredentialPut: c}}
	if running != nil {
		more, err := b.supersede(tx, running, c)
		if err != nil {
			return nil, err
		}
		changes = append(changes, more...)
	}
	if err := b.want(c); err != nil {
		return nil, err
	}
	prov, _ := c.Provisioned()
	b.data.Format, b.data.Raised, b.data.Adopted = progressFormat, raiseGeneration(prov), prov.Adopted != nil
	c.Revision, c.UpdatedAt = c.Revision+1, b.op.CreatedAt
	if err := tx.UpdateCredential(c); err != nil {
		return nil, err
	}
	return changes, insertOperation(tx, b.op, &b.data, c)
}

// affected are the names of the credential and of the alias whose provisioning the
// operation may supersede.
func (p *Provisioner) affected(ctx context.Context, op *alias.Operation) []alias.Name {
	names := []alias.Name{op.Credential}
	list, err := p.cfg.Registry.History().Operations(ctx, alias.OperationFilter{
		Credential: op.Credential, State: alias.OperationRunning, Limit: 1,
	})
	if err == nil && len(list) == 1 && list[0].Alias != "" && list[0].Alias != op.Credential {
		names = append(names, list[0].Alias)
	}
	return names
}

// isSame reports whether a running operation does what is asked for. An ordinary rotation
// is content with an emergency.
func (b *beginning) isSame(running *alias.Operation) bool {
	if running.Kind != b.op.Kind {
		return false
	}
	var under progress
	return !b.data.Emergency || json.Unmarshal(running.Data, &under) == nil && under.Emergency
}

// supersede ends a running operation in favour of the new one, and makes the desired state of
// the credential that of before it. A removal may take the place of every operation, an
// emergency that of all but a removal, which ends all access by itself, and the making of
// the user, whose key nobody has yet.
func (b *beginning) supersede(tx alias.Tx, running *alias.Operation, c *alias.Credential) ([]alias.Change, error) {
	var under progress
	if err := json.Unmarshal(running.Data, &under); err != nil {
		return nil, err
	}
	if b.op.Kind != alias.OperationRemove && (!b.data.Emergency || !yields(running, &under)) {
		return nil, fmt.Errorf("credential %s: %w: %s, of kind %s", c.Name, alias.ErrBusy, running.ID, running.Kind)
	}
	if under.Format != progressFormat { // what it made is in its own data until then: see upgrade
		return nil, fmt.Errorf("credential %s: %w: %s, which an earlier version began, is being continued; "+
			"repeat the request", c.Name, alias.ErrBusy, running.ID)
	}
	prov, _ := c.Provisioned()
	setBackGrants(prov, &under)
	b.conclude(running, under.Undo)
	b.superseded = running
	if err := tx.UpdateOperation(running); err != nil || running.Kind != alias.OperationProvision {
		return nil, err
	}
	return failAlias(tx, running)
}

// yields reports whether a running operation gives way to an emergency.
func yields(running *alias.Operation, under *progress) bool {
	return running.Kind != alias.OperationRemove && !creates(running, under) && !adopts(running, under)
}

// conclude marks a running operation, which may have failed and be undone, as superseded.
func (b *beginning) conclude(running *alias.Operation, failed *alias.OperationError) {
	failure := &alias.OperationError{
		Code: codeSuperseded, SupersededBy: b.op.ID,
		Detail: "superseded by " + b.op.ID + ", of kind " + string(b.op.Kind),
	}
	if failed != nil {
		failure.Detail += "; it had failed before: " + failed.Detail
	}
	at := b.op.CreatedAt
	for i := range running.Steps {
		if s := &running.Steps[i]; s.State == alias.StepRunning {
			s.State, s.FinishedAt, s.Detail, failure.Step = alias.StepFailed, at, failure.Detail, s.Name
		}
	}
	running.State, running.Error, running.FinishedAt, running.UpdatedAt = alias.OperationSuperseded, failure, at, at
	running.Revision++
}

// provisionedIn reads a provisioned credential.
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

// inUse prevents the removal of a credential that aliases use.
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
