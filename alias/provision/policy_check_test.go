package provision

import (
	"fmt"
	"testing"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
)

// TestPolicyNotSeenYet: what check-policy reads may not be seen yet, whatever the
// policy's mode. It is read again.
func TestPolicyNotSeenYet(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		mode   alias.PolicyMode
		action string
	}{
		{alias.PolicyInline, "GetUserPolicy"},
		{alias.PolicyManaged, "ListAttachedUserPolicies"},
		{alias.PolicyManaged, "GetPolicy"},
		{alias.PolicyManaged, "GetPolicyVersion"},
		{alias.PolicyReadOnly, "ListAttachedUserPolicies"},
	} {
		t.Run(string(row.mode)+" "+row.action, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			p := w.start()
			attached, unseen := row.mode == alias.PolicyInline, 0
			w.iam.OnCall(func(c iam.Call) *iam.Fault {
				attached = attached || c.Action == "AttachUserPolicy"
				if c.Action == row.action && attached && unseen < 3 {
					unseen++
					return iam.Fail("NoSuchEntity")
				}
				return nil
			})
			p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", withPolicy(row.mode))))
			if unseen != 3 {
				t.Errorf("read %d times, want 3 before it was seen", unseen)
			}
			w.wantOwned(p, []alias.Name{"shop"})
		})
	}
}

// TestPolicyGone: reconcile reports a policy that another client deleted.
func TestPolicyGone(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyManaged)(p)
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "GetPolicy" {
			return iam.Fail("NoSuchEntity")
		}
		return nil
	})
	p.reconcile(t.Context())
	_, prov := p.provisioned("shop")
	if o, ok := p.reported(orphanPolicy, prov.User.Name); !ok || o.State != stateReported {
		t.Errorf("report: %+v", p.report())
	}
}

// TestPolicyOfOddPrefix: the document of a folder with any name is stored, and is
// recognised when it is read back, from servers that encode documents in other ways too. A
// plus is a plus, as RFC 3986 has it.
func TestPolicyOfOddPrefix(t *testing.T) {
	t.Parallel()
	for i, cfg := range []iam.Config{{}, {PlainPlus: true}, {PlainDocuments: true}} {
		for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged} {
			t.Run(fmt.Sprint(mode, " ", i), func(t *testing.T) {
				t.Parallel()
				w := newEnv(t, cfg)
				p := w.start()
				for n, prefix := range []string{"a+b/", "100%/", "50%25/", "%7B/", "Größe & Co/💥/", `"q" 'r' {x}/`} {
					w.iam.PutObject(testBucket, prefix+"ö 1+2.png", fakes3.Object{Body: []byte("picture"), ContentType: "image/png"})
					odd := func(r *policy.Request) { r.Policy, r.Prefix, r.Inside = mode, prefix, prefix+"ö 1+2.png" }
					p.mustSucceed(p.Provision(t.Context(), actor, w.request(alias.Name(fmt.Sprint("shop", n)), odd)))
				}
			})
		}
	}
}
