package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// TestUserNameOfAnother: a user belongs to one credential. A second request for its
// name is refused before IAM is asked, and the user stays.
func TestUserNameOfAnother(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	named := func(r *policy.Request) { r.UserName = "pictures" }
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", named)))
	before := w.iamCalls()
	op, err := p.Provision(t.Context(), actor, w.request("blog", named))
	if !errors.Is(err, alias.ErrExists) || w.iamCalls() != before {
		t.Errorf("got %+v, %v and %d calls, want %v and none", op, err, w.iamCalls()-before, alias.ErrExists)
	}
	w.clock.advance(2 * time.Hour)
	p.reconcile(t.Context())
	w.wantSound(p, "shop")
	if len(p.report().Orphans) > 0 {
		t.Errorf("report: %+v", p.report())
	}
}

// TestReuseWhileReusing: one operation at a time changes a credential; the second is
// told which it waits for.
func TestReuseWhileReusing(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
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
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyManaged)(p)
	_, prov := p.provisioned("shop")
	_, account := policy.ARNParts(prov.User.ARN)
	encrypted := func(r *policy.Request) {
		r.Credential, r.KMSKeyARN = "shop", "arn:aws:kms:us-east-1:"+account+":key/abc"
	}
	before := w.iam.Policies()
	wantCode(t, p.mustFail(p.Provision(t.Context(), actor, w.request("two", encrypted))), codeNameTaken)
	if diff := cmp.Diff(before, w.iam.Policies()); diff != "" {
		t.Errorf("policies changed: %s", diff)
	}
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("blog", reusing("shop"))))
	p.reconcile(t.Context())
	if len(p.report().Orphans) > 0 {
		t.Errorf("report: %+v", p.report())
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

// TestReuseTakenBackLater: a location that a reuse which failed gave the user, and
// that could not be taken back at once, is taken back by the next look, and keeps
// no removal from going well before it.
func TestReuseTakenBackLater(t *testing.T) {
	t.Parallel()
	for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged} {
		for _, look := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, looked at %v", mode, look), func(t *testing.T) {
				t.Parallel()
				w := newEnv(t, iam.Config{})
				p := w.start()
				hasShop(mode)(p)
				puts := 0
				w.iam.OnCall(func(c iam.Call) *iam.Fault {
					if c.Action == "PutUserPolicy" {
						puts++
					}
					if puts > 1 || c.Action == "DetachUserPolicy" {
						return iam.Fail("AccessDenied")
					}
					return nil
				})
				missing := func(r *policy.Request) { r.Inside = "blog/missing.png" }
				why := p.mustFail(p.Provision(t.Context(), actor, w.request("blog", reusing("shop"), missing)))
				wantCode(t, why, codeObjectMissing)
				_, prov := p.provisioned("shop")
				if !strings.Contains(why.Detail, "still covers the new location") || len(prov.ExtraGrants) != 1 {
					t.Errorf("got %q and %+v, want it to say what is left", why.Detail, prov.ExtraGrants)
				}
				w.iam.OnCall(nil)
				if look {
					p.reconcile(t.Context())
					_, prov = p.provisioned("shop")
					if drift, err := (caller{p: p.Provisioner}).drift(t.Context(), prov); drift != "" || err != nil || prov.ExtraGrants != nil {
						t.Errorf("after the look: %s, %v, %+v", drift, err, prov.ExtraGrants)
					}
					if user, _ := w.iam.User(prov.User.Name); mode == alias.PolicyManaged && len(user.Attached) != 1 {
						t.Errorf("attached: %v", user.Attached)
					}
					w.wantSound(p, "shop")
				}
				p.deleteAlias("blog")
				p.deleteAlias("shop")
				p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
				if left := w.iam.Policies(); len(left) > 0 {
					t.Errorf("left: %+v", left)
				}
			})
		}
	}
}

// unreadable is a store whose transactions cannot read running operations.
type unreadable struct{ alias.Store }

func (s unreadable) Update(ctx context.Context, fn func(alias.Tx) error) error {
	return s.Store.Update(ctx, func(tx alias.Tx) error { return fn(unreadableTx{tx}) })
}

type unreadableTx struct{ alias.Tx }

var errDisk = errors.New("disk I/O error")

func (unreadableTx) RunningOperation(alias.Name, alias.Name) (*alias.Operation, error) {
	return nil, errDisk
}

// TestReuseUnreadable: a registry that cannot tell whether an operation runs is no
// registry in which none runs.
func TestReuseUnreadable(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	hasShop(alias.PolicyInline)(w.start())
	p := w.startOn(unreadable{w.store})
	if op, err := p.Provision(t.Context(), actor, w.request("blog", reusing("shop"))); !errors.Is(err, errDisk) {
		t.Errorf("got %+v, %v, want %v", op, err, errDisk)
	}
}

// TestExtraGrantsAreKept: a location that a failed reuse could not revoke is not forgotten when
// another reuse fails before it has put a policy, also one for the same location.
func TestExtraGrantsAreKept(t *testing.T) {
	t.Parallel()
	for _, denied := range []string{"GetUserPolicy", "GetUser"} {
		for _, prefix := range []string{"blog/", "private/"} {
			t.Run(denied+" "+prefix, func(t *testing.T) {
				t.Parallel()
				w := newEnv(t, iam.Config{})
				p := w.start()
				hasShop(alias.PolicyInline)(p)
				puts := 0
				w.iam.OnCall(func(c iam.Call) *iam.Fault {
					if c.Action == "PutUserPolicy" {
						puts++
					}
					if c.Action == "PutUserPolicy" && puts > 1 || c.Service == "s3" && puts > 0 {
						return iam.Fail("AccessDenied")
					}
					return nil
				})
				p.mustFail(p.Provision(t.Context(), actor, w.request("blog", reusing("shop"))))
				if _, prov := p.provisioned("shop"); len(prov.ExtraGrants) != 1 {
					t.Fatalf("extra grants: %+v", prov.ExtraGrants)
				}
				w.deny(denied)
				other := func(r *policy.Request) { r.Prefix, r.Inside, r.Outside = prefix, prefix+"a.png", "web/a.png" }
				p.mustFail(p.Provision(t.Context(), actor, w.request("docs", reusing("shop"), other)))
				w.iam.OnCall(nil)
				p.reconcile(t.Context())
				_, prov := p.provisioned("shop")
				drift, err := (caller{p: p.Provisioner, actor: actor}).drift(t.Context(), prov)
				if drift != "" || err != nil || len(prov.ExtraGrants) > 0 {
					t.Errorf("drift %q, %v, extra grants %+v", drift, err, prov.ExtraGrants)
				}
			})
		}
	}
}
