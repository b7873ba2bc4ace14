package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/internal/awstest/iam"
)

// addUnknown makes a user with a key and with the tags of an operation that is in no
// registry.
func (w *env) addUnknown(name string) alias.KeyPair {
	kp := w.iam.AddUser(policy.UserPath(testInstall), name, "")
	w.iam.ChangeUser(name, func(u *iam.User) {
		u.Tags = map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: testInstall, policy.TagOperation: "op-1"}
	})
	return kp
}

// reported finds a user in the last report.
func (p *process) reported(kind, user string) (Orphan, bool) {
	for _, o := range p.report().Orphans {
		if o.Kind == kind && o.User == user {
			return o, true
		}
	}
	return Orphan{}, false
}

// TestReconcileGoesOn: remains that cannot be deleted now must not hide the other
// orphans, and are deleted when they can be.
func TestReconcileGoesOn(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, shop := p.provisioned("shop")
	w.deny("DeleteUser")
	missing := func(r *policy.Request) { r.Inside = "web/missing.png" }
	wantCode(t, p.mustFail(p.Provision(t.Context(), actor, w.request("bad", missing))), codeObjectMissing)
	_, bad := p.provisioned("bad")
	foreign := w.iam.AddKey(shop.User.Name)
	w.clock.advance(2 * time.Hour)
	p.reconcile(t.Context())
	if o, ok := p.reported(orphanUser, bad.User.Name); !ok || o.State != stateReported {
		t.Errorf("the remains of bad: %+v", p.report())
	}
	if o, ok := p.reported(orphanKey, shop.User.Name); !ok || o.AccessKeyID != foreign.AccessKeyID {
		t.Errorf("the foreign key: %+v", p.report())
	}
	w.iam.OnCall(nil)
	p.reconcile(t.Context())
	if o, ok := p.reported(orphanUser, bad.User.Name); !ok || o.State != stateDeleted {
		t.Errorf("the remains of bad, once they can be deleted: %+v", p.report())
	}
	if _, ok := w.iam.User(bad.User.Name); ok {
		t.Error("the remains of bad are still there")
	}
	p.wantServed("shop")
}

// TestQuarantine: the keys of an unknown user are made inactive when they are idle, and
// not before. Nothing is deleted without a command.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		idle   time.Duration
		active bool
		state  string
	}{
		{"idle", unusedFor + time.Hour, false, stateQuarantined},
		{"used within the week", unusedFor - time.Hour, true, stateReported},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			p := w.start()
			for _, name := range []alias.Name{"a", "b", "c", "d"} { // one in five may be unknown
				p.mustSucceed(p.Provision(t.Context(), actor, w.request(name)))
			}
			kp := w.addUnknown("bob")
			at := w.request("bob").Location
			_ = scope.ReadByte(t.Context(), p.cfg.S3(at, kp), at, "web/a.png") // refused, and a use
			w.clock.advance(row.idle)
			p.reconcile(t.Context())
			o, ok := p.reported(orphanUser, "bob")
			if !ok || o.State != row.state {
				t.Errorf("report: %+v, want %s", p.report(), row.state)
			}
			if keys := w.iam.Keys("bob"); len(keys) != 1 || keys[0].Active != row.active {
				t.Errorf("keys: %+v, want one, active %v", keys, row.active)
			}
			p.wantServed("a", "b", "c", "d")
		})
	}
}

// TestQuarantinePartly: of two keys the one that is idle is made inactive, and the
// report says that the other is not.
func TestQuarantinePartly(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	for _, name := range []alias.Name{"a", "b", "c", "d"} {
		p.mustSucceed(p.Provision(t.Context(), actor, w.request(name)))
	}
	idle := w.addUnknown("bob")
	used := w.iam.AddKey("bob")
	w.clock.advance(unusedFor + time.Hour)
	at := w.request("bob").Location
	_ = scope.ReadByte(t.Context(), p.cfg.S3(at, used), at, "web/a.png")
	for range 2 { // the second reconcile reports the same
		p.reconcile(t.Context())
		o, ok := p.reported(orphanUser, "bob")
		if !ok || o.State != statePartly || !strings.Contains(o.Detail, idle.AccessKeyID+" is inactive") ||
			!strings.Contains(o.Detail, used.AccessKeyID+" was used within the week, or its last use is unknown: left active") {
			t.Errorf("report: %+v", o)
		}
	}
	w.iam.SetKey(used.AccessKeyID, false)
	p.reconcile(t.Context())
	if o, _ := p.reported(orphanUser, "bob"); o.State != stateQuarantined {
		t.Errorf("with both inactive: %+v", o)
	}
}

// TestDeletionCap: no more than five users are deleted in an hour, whatever else the
// audit contains.
func TestDeletionCap(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	w.deny("DeleteUser")
	missing := func(r *policy.Request) { r.Inside = "web/missing.png" }
	for i := range maxDeletions + 2 {
		p.mustFail(p.Provision(t.Context(), actor, w.request(alias.Name(fmt.Sprintf("bad-%d", i)), missing)))
	}
	w.iam.OnCall(nil)
	w.clock.advance(2 * time.Hour)
	for range 2 {
		p.reconcile(t.Context())
		if left := len(w.iam.Users()); left != 2 {
			t.Errorf("%d users are left, want 2", left)
		}
		err := w.store.Update(t.Context(), func(tx alias.Tx) error {
			for range 1100 {
				if err := tx.AddAudit(&alias.AuditEntry{At: w.clock.Now(), Actor: actor, Action: "verify"}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.clock.advance(2 * time.Hour)
	p.reconcile(t.Context())
	if left := w.iam.Users(); len(left) > 0 {
		t.Errorf("left an hour later: %d", len(left))
	}
}

// TestRemoveOrphan: a user that cannot be removed is not changed, and the error wraps a
// sentinel.
func TestRemoveOrphan(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		user string // empty for that of shop
		code string // what IAM says to DeleteUser
		want error
	}{
		{name: "removed", user: "carol"},
		{name: "not there", user: "nobody", want: alias.ErrNotFound},
		{name: "of another installation", user: "bob", want: alias.ErrForbidden},
		{name: "of a credential", want: alias.ErrInUse},
		{name: "denied", user: "carol", code: "AccessDenied", want: alias.ErrForbidden},
		{name: "failed", user: "carol", code: "ServiceFailure", want: alias.ErrIAM},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			foreign := w.addForeign()
			p := w.start()
			hasShop(alias.PolicyInline)(p)
			w.addUnknown("carol")
			user := row.user
			if user == "" {
				_, prov := p.provisioned("shop")
				user = prov.User.Name
			}
			w.iam.OnCall(func(c iam.Call) *iam.Fault {
				if row.code != "" && c.Action == "DeleteUser" {
					return iam.Fail(row.code)
				}
				return nil
			})
			if err := p.RemoveOrphan(t.Context(), actor, "", user); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
			if _, ok := w.iam.User("carol"); ok != (row.want != nil) {
				t.Errorf("carol is there: %v", ok)
			}
			if w.foreignState() != foreign {
				t.Error("a user of another client was changed")
			}
			p.wantServed("shop")
		})
	}
}

// TestRemoveOrphanInterrupted: the error of an interrupted deletion says what may remain,
// and the same command again continues.
func TestRemoveOrphanInterrupted(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	w.addUnknown("carol")
	ctx, cancel := context.WithCancel(t.Context())
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "DeleteUser" {
			cancel()
			return iam.Fail("DeleteConflict")
		}
		return nil
	})
	err := p.RemoveOrphan(ctx, actor, "", "carol")
	if !errors.Is(err, alias.ErrIAM) || !strings.Contains(err.Error(), "repeat the request") {
		t.Errorf("got %v, want it to say that it is not done", err)
	}
	lines, err := w.store.Audit(t.Context(), 0, 1)
	if err != nil || len(lines) != 1 || lines[0].Outcome != "interrupted" || lines[0].User != "carol" {
		t.Errorf("audit: %+v, %v", lines, err)
	}
	w.iam.OnCall(nil)
	if err := p.RemoveOrphan(t.Context(), actor, "", "carol"); err != nil {
		t.Error(err)
	}
	if _, ok := w.iam.User("carol"); ok {
		t.Error("carol is still there")
	}
}
