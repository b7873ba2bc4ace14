package provision

import (
	"fmt"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

// TestMistakesInIAM makes the mistakes that IAM shows. The operation ends soon, names the
// reason and the remedy, and leaves nothing behind.
func TestMistakesInIAM(t *testing.T) {
	t.Parallel()
	const (
		all     = `{"Effect":"Allow","Action":"*","Resource":"*"}`
		toAll   = `{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`
		missing = "arn:aws:iam::" + testAccount + ":policy/typo"
		other   = "arn:aws:iam::" + testAccount + ":policy/other-boundary"
	)
	document := func(statements ...string) string {
		return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	}
	deny := func(action string) string {
		return fmt.Sprintf(`{"Effect":"Deny","Action":%q,"Resource":"*"}`, action)
	}
	named := func(r *policy.Request) { r.UserName = "ixmage-s3read" }
	bounded := func(arn string) func(*env) {
		return func(w *env) { w.edit = func(c *Config) { c.Boundary = arn } }
	}
	scp := func(action string) func(*env) {
		return func(w *env) { w.iam.SetServiceControlPolicy(document(all, deny(action))) }
	}
	for _, row := range []struct {
		name      string
		delegated bool // the provisioner has docs/provisioner-policy.json and nothing else
		setUp     func(*env)
		edit      func(*policy.Request)
		code      string
		words     string
		not       string
	}{
		{"no such boundary", false, bounded(missing), nil, codeBoundary, missing + " --iam-boundary docs/boundary-policy.json", ""},
		{"another boundary than in the policy", true, func(w *env) { w.iam.AddPolicy("/", "other-boundary", document(all)); bounded(other)(w) }, nil, codePermission, "iam:CreateUser --iam-boundary BOUNDARY", ""},
		{"name taken at the root", false, func(w *env) { w.iam.AddUser("/", "ixmage-s3read", "") }, named, codeNameTaken, "ixmage-s3read user_name", ""},
		{"name taken where the policy does not reach", true, func(w *env) { w.iam.AddUser("/", "ixmage-s3read", "") }, named, codeNameTaken, "ixmage-s3read path user_name", ""},
		{"scp, user", true, scp("iam:CreateUser"), nil, codePermission, "iam:CreateUser service control policy organization administrators docs/roles.md", "has the required policy"},
		{"scp, key", true, scp("iam:CreateAccessKey"), nil, codePermission, "iam:CreateAccessKey service control policy organization", "has the required policy"},
		{"scp, tags", false, scp("iam:TagUser"), nil, codePermission, "iam:TagUser service control policy", "has the required policy"},
		{"endpoint", false, func(w *env) {
			refuse := `{"Effect":"Deny","Principal":"*","Action":"iam:CreateUser","Resource":"*"}`
			w.iam.SetEndpointPolicy("iam", document(toAll, refuse))
		}, nil, codePermission, "iam:CreateUser VPC endpoint network", "has the required policy"},
		{"a boundary of its own", true, func(w *env) {
			arn := w.iam.AddPolicy("/", "of-servers", document(all, deny("iam:PutUserPolicy")))
			w.iam.ChangeUser("provisioner", func(u *iam.User) { u.Boundary = arn })
		}, nil, codePermission, "iam:PutUserPolicy permissions boundary", "has the required policy"},
		{"no right", false, func(w *env) { w.power = w.iam.AddUser("/", "weak", document(deny("ec2:*"))) }, nil, codePermission, "iam:CreateUser docs/iam.md has the required policy", "organization"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			if row.delegated {
				w = delegate(t, iam.Config{}, readDelegated(t))
			}
			row.setUp(w)
			users, policies := len(w.iam.Users()), len(w.iam.Policies())
			edit := row.edit
			if edit == nil {
				edit = func(*policy.Request) {}
			}
			p := w.start()
			op := p.do(p.Provision(t.Context(), actor, w.request("shop", edit)))
			wantStory(t, op, row.code, strings.Fields(row.words)...)
			if row.not != "" && strings.Contains(op.Error.Detail, row.not) {
				t.Errorf("the detail says %q: %s", row.not, op.Error.Detail)
			}
			if len(w.iam.Users()) != users || len(w.iam.Policies()) != policies {
				t.Errorf("left in IAM: %+v, %+v", w.iam.Users(), w.iam.Policies())
			}
		})
	}
}

// TestEleventhPolicy: a user has at most ten managed policies.
func TestEleventhPolicy(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyManaged)(p)
	_, shop := p.provisioned("shop")
	var others []string
	for i := range 9 {
		others = append(others, w.iam.AddPolicy("/", fmt.Sprint("other-", i), anything))
	}
	w.iam.ChangeUser(shop.User.Name, func(u *iam.User) { u.Attached = append(u.Attached, others...) })
	w.iam.PutObject(testBucket, "blog/a.png", s3.Object{ContentType: "image/png"})
	op := p.do(p.Provision(t.Context(), actor, w.request("blog", reusing("shop"))))
	wantStory(t, op, codeQuota, "managed policies", "10", "inline", "another credential")
	p.wantServed("shop")
}
