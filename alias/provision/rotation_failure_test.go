package provision

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// wantKeys wants a user to have these keys and no others, all active.
func (w *env) wantKeys(user string, want ...string) {
	w.t.Helper()
	var got []string
	for _, k := range w.iam.Keys(user) {
		got = append(got, k.ID)
		if !k.Active {
			w.t.Errorf("user %s: the key %s is inactive", user, k.ID)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("user %s: keys %v, want %v", user, got, want)
	}
}

// addAlias makes an alias by hand that is read with the credential of shop.
func (p *process) addAlias(name alias.Name, prefix, canary string) error {
	a := &alias.Alias{
		Name: name, Enabled: true, Canary: canary, Location: alias.Location{
			Bucket: testBucket, Prefix: prefix, Region: "us-east-1", Endpoint: p.w.iam.S3URL, PathStyle: true,
		},
	}
	_, err := p.registry.CreateAlias(p.w.t.Context(), a, alias.CredentialRef{Name: "shop"})
	return err
}

// TestRotationReverts: if the new key is refused after the old one became inactive,
// the old one is the current key again, under a version of its own, and the only key.
// A later rotation works, and one that fails keeps it.
func TestRotationReverts(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	before, prov := p.provisioned("shop")
	user, k1 := prov.User.Name, prov.AccessKeyID
	w.clock.advance(time.Hour)
	var inactive atomic.Bool
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "UpdateAccessKey" && c.AccessKeyID == w.power.AccessKeyID { // and no probe
			inactive.Store(true)
		}
		if inactive.Load() && c.Service == "s3" && c.AccessKeyID != k1 && c.AccessKeyID != w.power.AccessKeyID {
			return iam.Fail("InvalidAccessKeyId")
		}
		return nil
	})
	why := p.mustFail(p.Rotate(t.Context(), actor, "shop", false))
	wantCode(t, why, codeNotVerified)
	if why.Step != "soak-inactive" {
		t.Errorf("failed at %s: %s", why.Step, why.Detail)
	}
	after, prov := p.provisioned("shop")
	if swapped := before.Version + 1; prov.AccessKeyID != k1 || after.Version <= swapped {
		t.Errorf("%s signs with version %d, want %s above %d", prov.AccessKeyID, after.Version, k1, swapped)
	}
	if !after.RotatedAt.Equal(before.RotatedAt) || before.RotatedAt.IsZero() {
		t.Errorf("rotated at %s, want %s as before: it is the old key that signs", after.RotatedAt, before.RotatedAt)
	}
	w.wantKeys(user, k1)
	w.wantSound(p, "shop")

	w.deny("CreateAccessKey")
	wantCode(t, p.mustFail(p.Rotate(t.Context(), actor, "shop", false)), codePermission)
	w.wantKeys(user, k1)
	w.wantSound(p, "shop")

	w.iam.OnCall(nil)
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	w.wantSound(p, "shop")
	if _, prov = p.provisioned("shop"); prov.AccessKeyID == k1 {
		t.Error("the old key still signs")
	}
}

// TestRotationRevertsToNoDeletedKey: if the old key does not exist any more, it does not
// become the current key again: the new one, which S3 refuses for a while, is the only one.
func TestRotationRevertsToNoDeletedKey(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	k1 := prov.AccessKeyID
	var deleted atomic.Bool
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "UpdateAccessKey" && c.AccessKeyID == w.power.AccessKeyID && !deleted.Load() {
			return &iam.Fault{After: func() { w.iam.RemoveKey(k1); deleted.Store(true) }}
		}
		if deleted.Load() && c.Service == "s3" {
			return iam.Fail("InvalidAccessKeyId")
		}
		return nil
	})
	wantCode(t, p.mustFail(p.Rotate(t.Context(), actor, "shop", false)), codeNotVerified)
	w.iam.OnCall(nil)
	_, prov = p.provisioned("shop")
	if prov.AccessKeyID == k1 {
		t.Errorf("the key %s signs, which does not exist", k1)
	}
	w.wantKeys(prov.User.Name, prov.AccessKeyID)
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	w.wantSound(p, "shop")
}

// TestRotationWithBadAlias: an alias that the old key does not read either says
// nothing about the new one, and must not keep a leaked key alive.
func TestRotationWithBadAlias(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		spoil func(p *process) error
	}{
		{"canary gone", func(p *process) error {
			_, err := p.registry.UpdateAlias(p.w.t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
				a.Canary = "gone.png"
				return nil
			})
			return err
		}},
		{"one of two", func(p *process) error { return p.addAlias("extra", "web/", "gone.png") }},
		{"outside of the grants", func(p *process) error { return p.addAlias("extra", "blog/", "a.png") }},
		{"no alias", func(p *process) error { return p.registry.DeleteAlias(p.w.t.Context(), "shop", 0) }},
	} {
		for name, emergency := range map[string]bool{"by schedule": false, "in an emergency": true} {
			t.Run(row.name+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newEnv(t, iam.Config{})
				p := w.start()
				hasShop(alias.PolicyInline)(p)
				_, before := p.provisioned("shop")
				if err := row.spoil(p); err != nil {
					t.Fatal(err)
				}
				p.mustSucceed(p.Rotate(t.Context(), actor, "shop", emergency))
				c, after := p.provisioned("shop")
				if after.AccessKeyID == before.AccessKeyID || c.State != alias.CredentialActive {
					t.Errorf("%s signs as before, or the credential is %s", after.AccessKeyID, c.State)
				}
				w.wantKeys(after.User.Name, after.AccessKeyID)
			})
		}
	}
}

// TestRotationWithoutAlias: a key that no alias uses is proven once on its first
// location, and not for another whole budget when that fails.
func TestRotationWithoutAlias(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	p.deleteAlias("shop")
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Service == "s3" && c.Action == "GetObject" {
			return iam.Fail("SlowDown")
		}
		return nil
	})
	began := w.clock.Now()
	wantCode(t, p.mustFail(p.Rotate(t.Context(), actor, "shop", false)), codeNotVerified)
	if took, budget := w.clock.Now().Sub(began), awsTiming().VerifyBudget; took < budget || took > budget*3/2 {
		t.Errorf("took %s, want one budget of %s", took, budget)
	}
}

// TestRotationWithoutLocation: a credential with no location to prove a key on is not
// rotated.
func TestRotationWithoutLocation(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	p.deleteAlias("shop")
	p.setProvisioned("shop", func(prov *alias.Provisioned) { prov.Grants = nil })
	why := p.mustFail(p.Rotate(t.Context(), actor, "shop", false))
	wantCode(t, why, codeNotVerified)
	_, prov := p.provisioned("shop")
	w.wantKeys(prov.User.Name, prov.AccessKeyID)
}

// TestAliasMadeWhileRotating: an alias that comes after the new key was proven, and
// that neither key reads, must not undo a rotation.
func TestAliasMadeWhileRotating(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	var made atomic.Bool
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "UpdateAccessKey" && made.CompareAndSwap(false, true) {
			if err := p.addAlias("extra", "blog/", "a.png"); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	if !made.Load() {
		t.Error("no alias was made meanwhile")
	}
	w.wantSound(p, "shop")
}

// TestDiscardedKey: a new key that failed and could not be deleted is remembered as
// ours, so that the next rotation or the next scan deletes it.
func TestDiscardedKey(t *testing.T) {
	t.Parallel()
	for name, reconciled := range map[string]bool{"next rotation": false, "reconcile": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			p := w.start()
			hasShop(alias.PolicyInline)(p)
			_, prov := p.provisioned("shop")
			k1 := prov.AccessKeyID
			w.iam.OnCall(func(c iam.Call) *iam.Fault {
				if c.Service == "s3" && c.AccessKeyID != k1 || c.Action == "DeleteAccessKey" {
					return iam.Fail("AccessDenied")
				}
				return nil
			})
			p.mustFail(p.Rotate(t.Context(), actor, "shop", false))
			if keys := w.iam.Keys(prov.User.Name); len(keys) != 2 {
				t.Fatalf("keys: %+v, want the new one left behind", keys)
			}
			w.iam.OnCall(nil)
			w.clock.advance(2 * time.Hour)
			if reconciled {
				p.reconcile(t.Context())
				w.wantKeys(prov.User.Name, k1)
			}
			p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
			w.wantSound(p, "shop")
			if _, prov = p.provisioned("shop"); prov.PendingDeletion != nil {
				t.Errorf("still to be deleted: %v", prov.PendingDeletion)
			}
		})
	}
}

// TestRotationAfterFailedReuse: a reuse that failed leaves nothing that keeps the
// credential from being rotated.
func TestRotationAfterFailedReuse(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	missing := func(r *policy.Request) { r.Inside = "blog/missing.png" }
	wantCode(t, p.mustFail(p.Provision(t.Context(), actor, w.request("blog", reusing("shop"), missing))), codeObjectMissing)
	for _, emergency := range []bool{false, true} {
		p.mustSucceed(p.Rotate(t.Context(), actor, "shop", emergency))
		w.wantSound(p, "shop")
	}
}

// TestRotationIsVerification: a rotation has proven the new key, and says when.
func TestRotationIsVerification(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	before, _ := p.provisioned("shop")
	w.clock.advance(time.Hour)
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	after, _ := p.provisioned("shop")
	if after.VerifiedAt.Sub(before.VerifiedAt) < time.Hour {
		t.Errorf("verified at %s, before the rotation at %s", after.VerifiedAt, after.RotatedAt)
	}
	a, err := p.registry.Alias(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	v, err := w.store.Verification(t.Context(), a.ID)
	if err != nil || v.CredentialVersion != after.Version {
		t.Errorf("verification: %+v, %v, want one of version %d", v, err, after.Version)
	}
}

// TestRotateRefusesBusy: a credential that is being widened is not rotated by schedule.
func TestRotateRefusesBusy(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	if _, err := p.Provision(t.Context(), actor, w.request("blog", reusing("shop"))); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rotate(t.Context(), actor, "shop", false); !errors.Is(err, alias.ErrBusy) {
		t.Errorf("got %v, want %v", err, alias.ErrBusy)
	}
}
