package provision

import (
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/internal/awstest/iam"
)

// dieAfter has the process die when IAM has done an action for the first time.
func (p *process) dieAfter(action string) {
	done := false
	p.w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action != action || done || c.AccessKeyID != p.w.power.AccessKeyID {
			return nil
		}
		done = true
		return &iam.Fault{After: p.proc.kill, LoseAfter: true}
	})
}

// TestKeyIntentOutlivesOutage: a process that restarts after a long time knows that it
// was making a key. The key whose secret was lost does not stop it, and is deleted when
// nobody has used it for a day.
func TestKeyIntentOutlivesOutage(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	p.dieAfter("CreateAccessKey")
	op, err := p.Provision(p.proc.ctx, actor, w.request("shop"))
	if err != nil {
		t.Fatal(err)
	}
	p.drive()
	w.iam.OnCall(nil)
	w.clock.advance(10 * clockSkew)
	p = w.start()
	p.mustSucceed(op, nil)
	p.quiet()
	w.wantOwned(p, []alias.Name{"shop"})
}

// TestKeyMadeByHand: a key that an operator makes just after ixmage made one is not taken for
// one whose secret was lost, because none was lost. Nor is one after a CreateAccessKey that IAM
// denied.
func TestKeyMadeByHand(t *testing.T) {
	t.Parallel()
	for _, denied := range []bool{false, true} {
		w := newEnv(t, iam.Config{})
		p := w.start()
		hasShop(alias.PolicyInline)(p)
		_, prov := p.provisioned("shop")
		if denied {
			w.deny("CreateAccessKey")
			wantCode(t, p.mustFail(p.Rotate(t.Context(), actor, "shop", false)), codePermission)
			w.iam.OnCall(nil)
		}
		byHand := w.iam.AddKey(prov.User.Name).AccessKeyID
		w.clock.advance(2 * time.Hour)
		p.reconcile(t.Context())
		wantCode(t, p.mustFail(p.Rotate(t.Context(), actor, "shop", false)), codeUnknownKeys)
		w.wantKeys(prov.User.Name, prov.AccessKeyID, byHand)
		p.quiet()
		p.quiet()
		if keys := w.iam.Keys(prov.User.Name); len(keys) != 2 {
			t.Errorf("denied %v: keys %+v after days, want that of the operator among them", denied, keys)
		}
	}
}

// TestReuseIntentIsUndone: a reuse that fails just after it extended the policy, by a
// crash from which it cannot recover or by a panic, revokes the new location.
func TestReuseIntentIsUndone(t *testing.T) {
	t.Parallel()
	for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged} {
		widens := map[alias.PolicyMode]string{alias.PolicyInline: "PutUserPolicy", alias.PolicyManaged: "AttachUserPolicy"}[mode]
		for name, end := range map[string]func(*env, policy.Request){
			"crash": func(w *env, req policy.Request) {
				p := w.start()
				p.dieAfter(widens)
				op, err := p.Provision(p.proc.ctx, actor, req)
				if err != nil {
					t.Fatal(err)
				}
				p.drive()
				w.deny(widens, "GetUserPolicy", "ListAttachedUserPolicies")
				wantCode(t, w.start().mustFail(op, nil), codePermission)
			},
			"panic": func(w *env, req policy.Request) {
				p, log := w.trapped()
				log.set("action=iam:" + widens)
				wantCode(t, p.mustFail(p.Provision(t.Context(), actor, req)), codeInternal)
			},
		} {
			t.Run(string(mode)+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newEnv(t, iam.Config{})
				hasShop(mode)(w.start())
				end(w, w.request("blog", reusing("shop"), withPolicy(mode)))
				w.iam.OnCall(nil)
				w.edit = nil
				w.clock.advance(2 * time.Hour)
				p := w.start()
				p.reconcile(t.Context())
				_, prov := p.provisioned("shop")
				user, _ := w.iam.User(prov.User.Name)
				if drift, err := (caller{p: p.Provisioner, actor: actor}).drift(t.Context(), prov); drift != "" || err != nil ||
					len(prov.ExtraGrants) > 0 || len(user.Attached) > 1 {
					t.Errorf("drift %q, %v; extra grants %v; attached %v", drift, err, prov.ExtraGrants, user.Attached)
				}
				w.wantOwned(p, []alias.Name{"shop"})
			})
		}
	}
}

// TestCurrentKeyIsNotDeleted: no action deletes the current key, even if the registry names it
// as one to delete.
func TestCurrentKeyIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	p.setProvisioned("shop", func(prov *alias.Provisioned) { prov.PendingDeletion = []string{prov.AccessKeyID} })
	wantCode(t, p.mustFail(p.Rotate(t.Context(), actor, "shop", false)), codeInternal)
	p.quiet()
	w.wantKeys(prov.User.Name, prov.AccessKeyID)
}

// setProvisioned edits a credential in the registry.
func (p *process) setProvisioned(name alias.Name, edit func(*alias.Provisioned)) {
	p.w.t.Helper()
	err := p.registry.Apply(p.w.t.Context(), []alias.Name{name}, func(tx alias.Tx) ([]alias.Change, error) {
		c, err := tx.Credential(name)
		if err != nil {
			return nil, err
		}
		prov, _ := c.Provisioned()
		prov = prov.Clone()
		edit(prov)
		c.Provider, c.Revision = prov, c.Revision+1
		return []alias.Change{{CredentialPut: c}}, tx.UpdateCredential(c)
	})
	if err != nil {
		p.w.t.Fatal(err)
	}
}

// TestRemainsInUse: the user of a failed operation is not deleted while it has a key that the
// operation did not make: one that was used is left, one that was not is made inactive, and
// deleted with the user when nobody missed it for a day.
func TestRemainsInUse(t *testing.T) {
	t.Parallel()
	for name, used := range map[string]bool{"used": true, "not used": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			p := w.start()
			w.deny("DeleteAccessKey", "DeleteUserPolicy", "DeleteUser")
			missing := func(r *policy.Request) { r.Inside = "web/missing.png" }
			wantCode(t, p.mustFail(p.Provision(t.Context(), actor, w.request("shop", missing))), codeObjectMissing)
			w.iam.OnCall(nil)
			_, prov := p.provisioned("shop")
			w.clock.advance(time.Hour)
			kp := w.iam.AddKey(prov.User.Name)
			if used {
				at := w.request("shop").Location
				if err := scope.ReadByte(t.Context(), p.cfg.S3(at, kp), at, "web/a.png"); err != nil {
					t.Fatal(err)
				}
			}
			w.clock.advance(time.Hour)
			p.reconcile(t.Context())
			keys := w.iam.Keys(prov.User.Name)
			if o, ok := p.reported(orphanUser, prov.User.Name); !ok || o.State != stateReported || len(keys) != 2 {
				t.Errorf("after an hour: %+v, keys %+v", p.report(), keys)
			}
			for _, k := range keys {
				if k.ID == kp.AccessKeyID && k.Active != used {
					t.Errorf("the other client's key: %+v", k)
				}
			}
			w.clock.advance(25 * time.Hour)
			p.reconcile(t.Context())
			o, reported := p.reported(orphanUser, prov.User.Name)
			_, left := w.iam.User(prov.User.Name)
			if left != used || !reported || used != (o.State == stateReported) {
				t.Errorf("left %v, report %+v", left, p.report())
			}
		})
	}
}

// TestInactiveKeyIsProbedThrice: a key is deleted only after three refusals in a row,
// because not all servers know at once that it is inactive.
func TestInactiveKeyIsProbedThrice(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	p.deleteAlias("shop")
	p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
	refused := 0
	for _, c := range w.iam.Calls() {
		if c.Action == "GetCallerIdentity" && c.AccessKeyID == prov.AccessKeyID && c.Code != "" {
			refused++
		}
	}
	if refused != 3 {
		t.Errorf("refused %d times before it was deleted, want 3", refused)
	}
}
