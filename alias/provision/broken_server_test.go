package provision

import (
	"context"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

// TestEmptyAnswer: a server that answers 200 without the element that the call is
// for fails the operation, and the error names the call and the element.
func TestEmptyAnswer(t *testing.T) {
	t.Parallel()
	managed := provisionWith("shop", withPolicy(alias.PolicyManaged))
	for _, row := range []struct {
		action, element string
		begin           func(*process, context.Context) (*alias.Operation, error)
		again           bool // the alias exists, and the operation is done once before
	}{
		{"CreateUser", "User", provisionWith("shop"), false},
		{"GetUser", "User", provisionWith("shop"), false},
		{"CreateAccessKey", "AccessKey", provisionWith("shop"), false},
		{"GetPolicy", "Policy", managed, false},
		{"GetPolicyVersion", "PolicyVersion", managed, false},
		{"CreateAccessKey", "AccessKey", rotateShop(false), true},
		{"GetUser", "User", rotateShop(false), true},
	} {
		t.Run(row.action, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			p := w.start()
			if row.again {
				hasShop(alias.PolicyInline)(p)
			}
			w.iam.OnCall(func(c iam.Call) *iam.Fault {
				if c.Action == row.action && c.AccessKeyID == w.power.AccessKeyID {
					return iam.Empty()
				}
				return nil
			})
			why := p.mustFail(row.begin(p, t.Context()))
			if want := "iam:" + row.action; !strings.Contains(why.Detail, want) || !strings.Contains(why.Detail, "no "+row.element) {
				t.Errorf("got %+v, want it to name %s and %s", why, want, row.element)
			}
			wantCode(t, why, codeIAM)
			// The operation is undone or finished when the server answers correctly again.
			w.iam.OnCall(nil)
			p.quiet()
			if row.again {
				p.wantServed("shop")
				return
			}
			p.mustSucceed(row.begin(p, t.Context()))
			w.wantOwned(p, []alias.Name{"shop"})
		})
	}
}
