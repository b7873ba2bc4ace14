package provision

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

// refusesNewKeys makes S3 refuse every key but k1, once k1 was made inactive.
func (w *env) refusesNewKeys(k1 string) {
	var inactive atomic.Bool
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "UpdateAccessKey" && c.AccessKeyID == w.power.AccessKeyID {
			inactive.Store(true)
		}
		if inactive.Load() && c.Service == "s3" && c.AccessKeyID != k1 && c.AccessKeyID != w.power.AccessKeyID {
			return iam.Fail("InvalidAccessKeyId")
		}
		return nil
	})
}

// TestRevertWaits: a rotation that is undone after its swap keeps the refused key active until no
// node may sign with it, and says for which it waits.
func TestRevertWaits(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	f := w.withFleet()
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, before := p.provisioned("shop")
	user, k1 := before.User.Name, before.AccessKeyID
	w.refusesNewKeys(k1)
	const away = 3 * time.Hour
	var undone time.Time
	details := map[string]bool{}
	f.behind = func() []string {
		_, now := p.provisioned("shop")
		if now.Reverted == nil {
			return nil // of the swap every node knows
		}
		if undone.IsZero() {
			undone = w.clock.Now()
		}
		w.wantKeys(user, k1, now.PendingDeletion[0])
		w.noteSteps("shop", details)
		if w.clock.Now().Sub(undone) < away {
			return []string{"b"}
		}
		return nil
	}
	began := w.clock.Now()
	why := p.mustFail(p.Rotate(t.Context(), actor, "shop", false))
	wantCode(t, why, codeNotVerified)
	if took := w.clock.Now().Sub(began); took < away {
		t.Errorf("the rotation ended after %s, want more than the %s that a node was away", took, away)
	}
	said := func(d string) bool {
		return strings.Contains(d, "the node b has not applied that the previous key signs again")
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(details)), said) || said(why.Detail) {
		t.Errorf("steps said %v, and the error %q", details, why.Detail)
	}
	w.wantKeys(user, k1)
	if _, now := p.provisioned("shop"); now.AccessKeyID != k1 || now.Reverted != nil || now.PendingDeletion != nil {
		t.Errorf("keys after the rotation: %+v", now)
	}
	w.wantSound(p, "shop")
}

// TestRevertAndEmergency: an emergency deletes the key of an undone rotation without waiting.
func TestRevertAndEmergency(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	f := w.withFleet()
	hasShop(alias.PolicyInline)(w.start())
	p := w.start()
	_, before := p.provisioned("shop")
	w.refusesNewKeys(before.AccessKeyID)
	f.behind = func() []string {
		if _, now := p.provisioned("shop"); now.Reverted != nil {
			w.iam.OnCall(nil)
			p.proc.kill() // while it waits
			return []string{"b"}
		}
		return nil
	}
	rotation, err := p.Rotate(t.Context(), actor, "shop", false)
	if err != nil {
		t.Fatal(err)
	}
	p.drive()
	w.clock.advance(testTTL)
	f.behind = func() []string { return []string{"b"} }
	b := w.start()
	_, now := b.provisioned("shop")
	op := b.mustSucceed(b.Rotate(t.Context(), actor, "shop", true))
	w.wantEmergency(b, op, append(now.PendingDeletion, before.AccessKeyID)...)
	w.wantSuperseded(rotation.ID, op.ID)
}
