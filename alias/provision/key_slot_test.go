package provision

import (
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

// TestLostKeyIsReplaced: a rotation whose CreateAccessKey got no answer names the key that is
// probably ours and stops, since it could be somebody's. The next request deletes it, if it was
// not used, and succeeds. One that was used is left.
func TestLostKeyIsReplaced(t *testing.T) {
	t.Parallel()
	for name, used := range map[string]bool{"unused": false, "used": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			p := w.start()
			hasShop(alias.PolicyInline)(p)
			w.clock.advance(time.Hour)
			_, prov := p.provisioned("shop")
			lost := false
			w.iam.OnCall(func(c iam.Call) *iam.Fault {
				if c.Action != "CreateAccessKey" || lost || c.AccessKeyID != w.power.AccessKeyID {
					return nil
				}
				lost = true
				return iam.LostAfter()
			})
			wantCode(t, p.mustFail(p.Rotate(t.Context(), actor, "shop", false)), codeUnknownKeys)
			report, err := p.Orphans(t.Context())
			if err != nil || len(report.Orphans) != 1 || report.Orphans[0].State != stateQuarantined {
				t.Fatalf("report: %+v, %v", report, err)
			}
			id := report.Orphans[0].AccessKeyID
			p.wantServed("shop")
			w.clock.advance(time.Minute)
			if used {
				w.iam.RecordUse(id, w.clock.Now())
				wantCode(t, p.mustFail(p.Rotate(t.Context(), actor, "shop", false)), codeUnknownKeys)
			} else {
				p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
			}
			left := false
			for _, k := range w.iam.Keys(prov.User.Name) {
				left = left || k.ID == id
			}
			if left != used {
				t.Errorf("the key %s is left: %v", id, left)
			}
		})
	}
}
