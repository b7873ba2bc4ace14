package provision

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/alias/awstest"
)

// TestUserNameOfAnother: a user belongs to one credential. A second request for its
// name is refused before IAM is asked, and the user stays.
func TestUserNameOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, awstest.IAMConfig{})
	p := w.start()
	named := func(r *alias.ProvisionRequest) { r.UserName = "pictures" }
	p.well(p.Provision(t.Context(), actor, w.request("shop", named)))
	before := w.iamCalls()
	op, err := p.Provision(t.Context(), actor, w.request("blog", named))
	if !errors.Is(err, alias.ErrExists) || w.iamCalls() != before {
		t.Errorf("got %+v, %v and %d calls, want %v and none", op, err, w.iamCalls()-before, alias.ErrExists)
	}
	w.clock.advance(2 * time.Hour)
	p.reconcile(t.Context())
	w.wantSound(p, "shop")
	if len(p.orphans.Orphans) > 0 {
		t.Errorf("report: %+v", p.orphans)
	}
}

// TestReuseWhileReusing: one operation at a time changes a credential; the second is
// told which it waits for.
func TestReuseWhileReusing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, awstest.IAMConfig{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	first, err := p.Provision(t.Context(), actor, w.request("blog", reusing("shop")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Provision(t.Context(), actor, w.request("news", reusing("shop")))
	if !errors.Is(err, alias.ErrBusy) || !strings.Contains(err.Error(), first.ID) {
		t.Errorf("got %v, want %v that names %s", err, alias.ErrBusy, first.ID)
	}
}

// TestReuseManagedSamePlace: the managed policy of a place is one document. A second
// alias of it that needs another one is refused, which leaves the policy as it is and
// keeps no later alias from being made.
func TestReuseManagedSamePlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, awstest.IAMConfig{})
	p := w.start()
	hasShop(alias.PolicyManaged)(p)
	_, prov := p.provisioned("shop")
	_, account := arnParts(prov.User.ARN)
	encrypted := func(r *alias.ProvisionRequest) {
		r.Credential, r.KMSKeyARN = "shop", "arn:aws:kms:us-east-1:"+account+":key/abc"
	}
	before := w.iam.Policies()
	wantCode(t, p.ill(p.Provision(t.Context(), actor, w.request("two", encrypted))), codeNameTaken)
	if diff := cmp.Diff(before, w.iam.Policies()); diff != "" {
		t.Errorf("policies changed: %s", diff)
	}
	p.well(p.Provision(t.Context(), actor, w.request("blog", reusing("shop"))))
	p.reconcile(t.Context())
	if len(p.orphans.Orphans) > 0 {
		t.Errorf("report: %+v", p.orphans)
	}
	for _, name := range []alias.Name{"shop", "blog"} {
		a, err := p.registry.Alias(t.Context(), name)
		if err != nil || a.State != alias.StateActive {
			t.Errorf("alias %s: %+v, %v", name, a, err)
			continue
		}
		c, _ := p.provisioned("shop")
		w.wantReads(p, a, c)
	}
}
