package provision

import (
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

// TestServerDropsTags: a server that keeps no tags is told so, and the user that it made is
// taken back: its id, which CreateUser answered, proves whose it is. If that answer was lost
// as well, nothing proves it, and the user is named instead.
func TestServerDropsTags(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		w := newEnv(t, iam.Config{})
		p := w.start()
		again := false
		w.iam.OnCall(func(c iam.Call) *iam.Fault {
			switch {
			case c.Action == "CreateUser" && lost && !again:
				again = true
				fault := iam.DropTags()
				fault.LoseAfter = true
				return fault
			case c.Action == "CreateUser", c.Action == "TagUser":
				return iam.DropTags()
			}
			return nil
		})
		why := p.mustFail(p.Provision(t.Context(), actor, w.request("shop")))
		_, prov := p.provisioned("shop")
		_, left := w.iam.User(prov.User.Name)
		if !lost {
			if wantCode(t, why, codeIAM); left || !strings.Contains(why.Detail, "keeps tags") {
				t.Errorf("left %v: %s", left, why.Detail)
			}
			continue
		}
		wantCode(t, why, codeNameTaken)
		w.clock.advance(2 * time.Hour)
		p.reconcile(t.Context())
		if o, ok := p.reported(orphanUser, prov.User.Name); !left || !ok || o.State != stateReported {
			t.Errorf("left %v, report %+v", left, p.report())
		}
	}
}

// TestQuarantinedUser: AWS attaches a policy to the user of a key that it found in public. The
// report says that the key leaked, an emergency works, and a removal takes the policy off.
func TestQuarantinedUser(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	w.iam.Quarantine(prov.User.Name)
	w.clock.advance(2 * time.Hour)
	p.reconcile(t.Context())
	if o, ok := p.reported(orphanLeaked, prov.User.Name); !ok || !strings.Contains(o.Detail, "emergency") {
		t.Errorf("report: %+v", p.report())
	}
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true))
	w.wantSound(p, "shop")
	p.deleteAlias("shop")
	p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
	p.wantForgotten("shop", prov.User.Name)
}
