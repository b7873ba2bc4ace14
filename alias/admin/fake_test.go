package admin

import (
	"context"
	"errors"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/provision"
)

// fake is a Provisioner made of functions. A call that a test has not set panics
// and so is answered with 500.
type fake struct {
	provision    func(context.Context, string, policy.Request) (*alias.Operation, error)
	plan         func(context.Context, policy.PlanRequest) (*policy.Plan, error)
	rotate       func(context.Context, string, alias.Name, bool) (*alias.Operation, error)
	reclaim      func(context.Context, string, alias.Name) (*alias.Credential, error)
	remove       func(context.Context, string, alias.Name, int64) (*alias.Operation, error)
	verify       func(context.Context, string, alias.Name, policy.Probe) (*alias.Verification, error)
	wait         func(context.Context, string) (*alias.Operation, error)
	watch        func(context.Context, string, int64) (*alias.Operation, error)
	orphans      func(context.Context) (provision.OrphanReport, error)
	removeOrphan func(context.Context, string, string, string) error
}

func (f *fake) Provision(ctx context.Context, actor string, req policy.Request) (*alias.Operation, error) {
	return f.provision(ctx, actor, req)
}

func (f *fake) Plan(ctx context.Context, req policy.PlanRequest) (*policy.Plan, error) {
	return f.plan(ctx, req)
}

func (f *fake) Rotate(ctx context.Context, actor string, name alias.Name, emergency bool) (*alias.Operation, error) {
	return f.rotate(ctx, actor, name, emergency)
}

func (f *fake) Reclaim(ctx context.Context, actor string, name alias.Name) (*alias.Credential, error) {
	return f.reclaim(ctx, actor, name)
}

func (f *fake) Remove(ctx context.Context, actor string, name alias.Name, revision int64) (*alias.Operation, error) {
	return f.remove(ctx, actor, name, revision)
}

func (f *fake) Verify(
	ctx context.Context, actor string, name alias.Name, probe policy.Probe,
) (*alias.Verification, error) {
	return f.verify(ctx, actor, name, probe)
}

func (f *fake) Wait(ctx context.Context, id string) (*alias.Operation, error) { return f.wait(ctx, id) }

func (f *fake) Watch(ctx context.Context, id string, after int64) (*alias.Operation, error) {
	return f.watch(ctx, id, after)
}

func (f *fake) Orphans(ctx context.Context) (provision.OrphanReport, error) { return f.orphans(ctx) }

func (f *fake) RemoveOrphan(ctx context.Context, actor, account, user string) error {
	return f.removeOrphan(ctx, actor, account, user)
}

func with(f *fake) func(*Config) { return func(c *Config) { c.Provisioner = f } }

// moment is when things happen in these tests.
var moment = time.Date(2024, 2, 29, 23, 59, 59, 120000000, time.UTC)

const momentText = "2024-02-29T23:59:59.12Z"

// running is an operation under way, and ended the same later.
func running(id string) *alias.Operation {
	return &alias.Operation{
		ID: id, Kind: alias.OperationProvision, Alias: "shop", Credential: "shop", CredentialID: 5, State: alias.OperationRunning,
		Steps: []alias.Step{
			{Name: "create-user", State: alias.StepDone, StartedAt: moment, FinishedAt: moment.Add(time.Second), Detail: "it is there"},
			{Name: "create-key", State: alias.StepRunning, StartedAt: moment},
			{Name: "verify", State: alias.StepPending},
		},
		Request: []byte(`{"user_name":"` + testSecret + `"}`), Data: []byte(`{"pending":"` + testSecret + `"}`),
		Actor: "admin@127.0.0.1", Revision: 1, CreatedAt: moment, UpdatedAt: moment,
	}
}

func ended(id string, failure *alias.OperationError) *alias.Operation {
	o := running(id)
	o.State, o.Error, o.FinishedAt = alias.OperationDone, failure, moment.Add(time.Minute)
	if failure != nil {
		o.State = alias.OperationFailed
	}
	return o
}

const runningText = `{"id":"op-1","kind":"provision","alias":"shop","credential":"shop","state":"running","error":null,` +
	`"created_at":"` + momentText + `","finished_at":null,"steps":[` +
	`{"name":"create-user","state":"done","started_at":"` + momentText + `","finished_at":"2024-03-01T00:00:00.12Z","detail":"it is there"},` +
	`{"name":"create-key","state":"running","started_at":"` + momentText + `","finished_at":null,"detail":""},` +
	`{"name":"verify","state":"pending","started_at":null,"finished_at":null,"detail":""}]}` + "\n"

// put writes to the store, past the registry: what is read from there only is
// seen at once.
func (a *api) put(fn func(alias.Tx) error) {
	a.t.Helper()
	if err := a.store.Update(a.t.Context(), fn); err != nil {
		a.t.Fatal(err)
	}
}

// provisioned is a credential whose IAM user we made.
func provisioned(id int64, name alias.Name) *alias.Credential {
	return &alias.Credential{
		ID: id, Name: name, Version: 2, State: alias.CredentialRotating, Scope: "weak", Sealed: []byte(testSecret),
		Provider: &alias.Provisioned{
			AccessKeyID: testKeyID, User: alias.IAMUser{Name: "ixmage-s3read-shop-ab12", Path: "/ixmage/i/", ARN: "arn:aws:iam::1:user/x", ID: "AIDA1"},
			Mode: alias.PolicyInline, Operation: "op-1",
			Previous: &alias.PreviousKey{SealedKey: alias.SealedKey{AccessKeyID: "AKIAOLD", Sealed: []byte(testSecret), Version: 1}},
		},
		VerifiedAt: moment, Revision: 3, CreatedAt: moment, RotatedAt: moment.Add(time.Second), UpdatedAt: moment,
	}
}

// addProvisioned stores a provisioned credential and an alias that uses it.
func (a *api) addProvisioned(name alias.Name) {
	a.t.Helper()
	c := provisioned(77, name)
	a.put(func(tx alias.Tx) error {
		return errors.Join(tx.InsertCredential(c), tx.InsertAlias(&alias.Alias{
			ID: 78, Name: "user-of-it", CredentialID: c.ID, Credential: c.Name, State: alias.StateFailed, Revision: 1,
			Transforms: alias.TransformsOff, Access: alias.AccessOpen,
		}))
	})
}

// checkActor checks the actor for the audit.
func checkActor(t *testing.T, actor string) {
	t.Helper()
	if actor != "admin@127.0.0.1" {
		t.Errorf("actor: got %q", actor)
	}
}
