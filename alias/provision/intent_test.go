package provision

import (
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
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
		return &iam.Fault{After: p.life.crash, LoseAfter: true}
	})
}

// TestKeyIntentOutlivesOutage: that a key was about to be made is known also when the
// process comes back after long. The key whose secret was lost is then deleted, and not
// taken for somebody else's.
func TestKeyIntentOutlivesOutage(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	p.dieAfter("CreateAccessKey")
	op, err := p.Provision(p.life.ctx, actor, w.request("shop"))
	if err != nil {
		t.Fatal(err)
	}
	p.drive()
	w.iam.OnCall(nil)
	w.clock.advance(10 * clockSkew)
	p = w.start()
	p.mustSucceed(op, nil)
	w.wantOwned(p, []alias.Name{"shop"})
}

// TestReuseIntentIsUndone: a reuse that ends as soon as it has widened the policy, by a
// crash after which it cannot go on or by a panic, takes the new location back.
func TestReuseIntentIsUndone(t *testing.T) {
	t.Parallel()
	for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged} {
		widens := map[alias.PolicyMode]string{alias.PolicyInline: "PutUserPolicy", alias.PolicyManaged: "AttachUserPolicy"}[mode]
		for name, end := range map[string]func(*env, policy.Request){
			"crash": func(w *env, req policy.Request) {
				p := w.start()
				p.dieAfter(widens)
				op, err := p.Provision(p.life.ctx, actor, req)
				if err != nil {
					t.Fatal(err)
				}
				p.drive()
				w.deny(widens)
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
