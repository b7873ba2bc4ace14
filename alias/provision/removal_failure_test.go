package provision

import (
	"errors"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// wantForgotten wants a credential and its user to be gone.
func (p *process) wantForgotten(name alias.Name, user string) {
	p.w.t.Helper()
	if c, err := p.registry.Credential(p.w.t.Context(), name); !errors.Is(err, alias.ErrNotFound) {
		p.w.t.Errorf("credential %s: %+v, %v", name, c, err)
	}
	if u, ok := p.w.iam.User(user); ok {
		p.w.t.Errorf("left: %+v", u)
	}
}

// TestRemovalKeepsForeignKey: a key of another client stops the removal, and reconcile
// must not finish the removal that was reported as stopped.
func TestRemovalKeepsForeignKey(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	foreign := w.iam.AddKey(prov.User.Name)
	w.clock.advance(time.Hour)
	p.deleteAlias("shop")
	wantCode(t, p.mustFail(p.Remove(t.Context(), actor, "shop", 0)), codeUnknownKeys)
	w.clock.advance(2 * time.Hour)
	p.reconcile(t.Context())
	w.wantKeys(prov.User.Name, prov.AccessKeyID, foreign.AccessKeyID)
	w.iam.RemoveKey(foreign.AccessKeyID)
	p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
	p.wantForgotten("shop", prov.User.Name)
}

// TestRemovalOfNameTaken: a credential that never had a user, because another client's
// user has the name, can be removed, and that user is not changed.
func TestRemovalOfNameTaken(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	foreign := w.addForeign()
	p := w.start()
	named := func(r *policy.Request) { r.UserName = "alice" }
	wantCode(t, p.mustFail(p.Provision(t.Context(), actor, w.request("shop", named))), codeNameTaken)
	p.deleteAlias("shop")
	p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
	p.wantForgotten("shop", "shop")
	if w.foreignState() != foreign {
		t.Error("a user of another client was changed")
	}
}

// TestRemovalWithoutEndpoint: an S3 server that no longer exists must not prevent the
// deletion of a key that STS refuses.
func TestRemovalWithoutEndpoint(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	p.deleteAlias("shop")
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Service == "s3" {
			return iam.LostBefore()
		}
		return nil
	})
	p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
	p.wantForgotten("shop", prov.User.Name)
}
