package provision

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"sync"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

// rotationWithPendingKey is a rotation whose process was killed when the rotation had made a
// key and not verified it. It returns both keys of the user.
func (w *env) rotationWithPendingKey() (keys []string) {
	w.t.Helper()
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	c, prov := p.provisioned("shop")
	w.iam.OnCall(func(call iam.Call) *iam.Fault {
		if call.Service == "s3" && call.AccessKeyID != prov.AccessKeyID {
			p.proc.kill()
		}
		return nil
	})
	if _, err := p.Rotate(w.t.Context(), actor, c.Name, false); err != nil {
		w.t.Fatal(err)
	}
	p.drive()
	w.iam.OnCall(nil)
	for _, k := range w.iam.Keys(prov.User.Name) {
		keys = append(keys, k.ID)
	}
	if len(keys) != 2 {
		w.t.Fatalf("keys: %v", keys)
	}
	return keys
}

// TestEmergencyReplacesPendingKey: the key that the superseded rotation made may have leaked too.
func TestEmergencyReplacesPendingKey(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	keys := w.rotationWithPendingKey()
	p := w.start()
	op, err := p.Rotate(t.Context(), actor, "shop", true)
	w.wantEmergency(p, p.mustSucceed(op, err), keys...)
}

// TestRemovalKnowsPendingKey: a removal that took the place of a rotation and failed still knows
// the key which the rotation made, so that the next removal deletes it.
func TestRemovalKnowsPendingKey(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.rotationWithPendingKey()
	p := w.start()
	_, prov := p.provisioned("shop")
	p.deleteAlias("shop")
	w.iam.AddToGroup(prov.User.Name, "staff")
	wantCode(t, p.mustFail(p.Remove(t.Context(), actor, "shop", 0)), codeChanged)
	w.iam.ChangeUser(prov.User.Name, func(u *iam.User) { u.Groups = nil })
	p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
	p.wantForgotten("shop", prov.User.Name)
}

// TestSupersededRequest: the request of a reuse that an emergency took the place of can be
// repeated.
func TestSupersededRequest(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	reuse, err := p.Provision(t.Context(), actor, w.request("blog", reusing("shop")))
	if err != nil {
		t.Fatal(err)
	}
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true))
	again, err := p.Provision(t.Context(), actor, w.request("blog", reusing("shop")))
	if err != nil || again.ID == reuse.ID {
		t.Fatalf("got %+v, %v, want another operation than %s", again, err, reuse.ID)
	}
	p.mustSucceed(again, nil)
	w.wantSound(p, "shop")
	if a, err := p.registry.Alias(t.Context(), "blog"); err != nil || a.State != alias.StateActive {
		t.Errorf("alias blog: %+v, %v", a, err)
	}
}

// TestReuseKeepsNoSecret: an operation that reuses a credential does not keep the secrets of its
// keys, which it would do after they are deleted.
func TestReuseKeepsNoSecret(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	w.deny("UpdateAccessKey")
	p.mustFail(p.Rotate(t.Context(), actor, "shop", false))
	w.iam.OnCall(nil)
	_, prov := p.provisioned("shop")
	op := p.mustSucceed(p.Provision(t.Context(), actor, w.request("blog", reusing("shop"))))
	sealed := base64.StdEncoding.EncodeToString(prov.Previous.Sealed)
	if len(sealed) == 0 || bytes.Contains(op.Data, []byte(sealed)) {
		t.Errorf("the operation keeps the previous key %q: %s", sealed, op.Data)
	}
}

// TestSearchEnds: a server that denies the existence of a user whom it shows does not keep a
// removal going for ever.
func TestSearchEnds(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	p.deleteAlias("shop")
	asked := 0
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action != "ListMFADevices" {
			return nil
		}
		if asked++; asked > 100 {
			p.proc.kill()
		}
		return iam.Fail("NoSuchEntity")
	})
	op := p.do(p.Remove(t.Context(), actor, "shop", 0))
	if op.State != alias.OperationFailed || op.Error.Code != codeNotSeen {
		t.Errorf("%s with %+v after %d calls", op.State, op.Error, asked)
	}
}

// TestPanicOfSuperseded: an operation that panics when an emergency has taken its place does
// not make the emergency fail.
func TestPanicOfSuperseded(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	hasShop(alias.PolicyInline)(w.start())
	p, log := w.trapped()
	if _, err := p.Rotate(t.Context(), actor, "shop", false); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	var emergency *alias.Operation
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "TagUser" {
			log.set("")
			once.Do(func() {
				var err error
				if emergency, err = p.Rotate(t.Context(), actor, "shop", true); err != nil {
					t.Error(err)
				}
				log.set("action=iam:TagUser")
			})
		}
		return nil
	})
	p.drive()
	p.mustSucceed(emergency, nil)
	w.wantSound(p, "shop")
}

// TestEmergencyWithoutAnswer: an emergency in a soak replaces the current key, though nothing
// answers whether the key of the soak is refused.
func TestEmergencyWithoutAnswer(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p, _, keys := w.soaking()
	_, prov := p.provisioned("shop")
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.AccessKeyID == prov.Previous.AccessKeyID {
			return iam.Fail("ServiceFailure")
		}
		return nil
	})
	op, err := p.Rotate(t.Context(), actor, "shop", true)
	w.wantEmergency(p, p.ended(op, err), keys...)
}

// TestSupersededIsLogged: the end of a superseded operation is in the log and in the metrics.
func TestSupersededIsLogged(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	hasShop(alias.PolicyInline)(w.start())
	p, log := w.trapped()
	op, err := p.Rotate(t.Context(), actor, "shop", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rotate(t.Context(), actor, "shop", true); err != nil {
		t.Fatal(err)
	}
	if !log.has(`msg="operation ended" operation=`+op.ID) || !slices.Contains(p.rec.operations, "rotate superseded") {
		t.Errorf("operations %v, log: %s", p.rec.operations, &log.lines)
	}
}

// TestKeyQuotaOfOne: a server that gives a user one key only is named as the reason, and not a
// server that does not answer.
func TestKeyQuotaOfOne(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	w.iam.SetFault(iam.Fail("LimitExceeded"), "CreateAccessKey")
	wantCode(t, p.mustFail(p.Rotate(t.Context(), actor, "shop", false)), codeQuota)
}

// TestSupersededTooEarly: an operation that an earlier version began is not superseded before it
// is continued, because only its own data has the key that it made.
func TestSupersededTooEarly(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	op, err := p.Rotate(t.Context(), actor, "shop", false)
	if err != nil {
		t.Fatal(err)
	}
	p.setProvisioned("shop", func(prov *alias.Provisioned) { prov.Pending = nil })
	err = w.store.Update(t.Context(), func(tx alias.Tx) error {
		op.Data, op.Revision = []byte(`{"key_since":"2026-01-02T03:04:05Z"}`), op.Revision+1
		return tx.UpdateOperation(op)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rotate(t.Context(), actor, "shop", true); !errors.Is(err, alias.ErrBusy) {
		t.Errorf("an emergency: %v, want %v", err, alias.ErrBusy)
	}
	p.mustSucceed(op, nil)
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true))
	w.wantSound(p, "shop")
}
