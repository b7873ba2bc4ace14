package provision

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// delegatedPolicy is docs/provisioner-policy.json, which operators copy.
type delegatedPolicy struct {
	Version   string
	Statement []map[string]any
}

const (
	testAccount  = "123456789012"
	testBoundary = "arn:aws:iam::" + testAccount + ":policy/ixmage-boundary"
)

func readDelegated(t *testing.T) *delegatedPolicy {
	t.Helper()
	var doc delegatedPolicy
	if err := json.Unmarshal([]byte(readCopied(t, "provisioner-policy.json")), &doc); err != nil {
		t.Fatal(err)
	}
	return &doc
}

// readCopied is a document that operators copy, with the placeholders filled in.
func readCopied(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("PARTITION", "aws", "BOUNDARY", testBoundary, "ACCOUNT", testAccount, "INSTALL", testInstall,
		"BUCKETS", testBucket, "TAGS", "team", "ADOPT", "by-hand*", "GIVEN", "given*", "ROLES", "ixmage-*").Replace(string(text))
}

func (d *delegatedPolicy) text(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// statement is the one with a Sid.
func (d *delegatedPolicy) statement(sid string) map[string]any {
	i := slices.IndexFunc(d.Statement, func(st map[string]any) bool { return st["Sid"] == sid })
	return d.Statement[i] // none is a mistake of the test, and panics
}

// without takes an action out of every statement.
func (d *delegatedPolicy) without(action string) {
	for _, st := range d.Statement {
		if list, ok := st["Action"].([]any); ok {
			st["Action"] = slices.DeleteFunc(list, func(have any) bool { return have == action })
		}
		if st["Action"] == action {
			st["Action"] = "iam:ListRoles"
		}
	}
}

// delegate makes an env whose provisioner holds the document and nothing else.
func delegate(t *testing.T, cfg iam.Config, doc *delegatedPolicy) *env {
	t.Helper()
	w := newEnv(t, cfg)
	w.iam.AddPolicy("/", "ixmage-boundary", readCopied(t, "boundary-policy.json"))
	w.power = w.iam.AddUser("/", "provisioner", doc.text(t))
	w.edit = func(c *Config) { c.Boundary = testBoundary }
	w.clock.advance(time.Minute)
	return w
}

// TestDelegatedLife: the document is enough for everything that provisioning does.
func TestDelegatedLife(t *testing.T) {
	t.Parallel()
	for _, cfg := range []iam.Config{
		{}, {Lag: 20 * time.Second}, {ResolveMissing: true}, {Lag: 20 * time.Second, ResolveMissing: true, BoundaryNeedsPut: true},
	} {
		for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged, alias.PolicyReadOnly} {
			t.Run(string(mode)+" lag "+cfg.Lag.String(), func(t *testing.T) {
				t.Parallel()
				w := delegate(t, cfg, readDelegated(t))
				p := w.start()
				hasShop(mode)(p)
				if _, prov := p.provisioned("shop"); prov.User.Boundary != testBoundary {
					t.Errorf("boundary: %q", prov.User.Boundary)
				}
				p.mustSucceed(p.Provision(t.Context(), actor, w.request("blog", reusing("shop"))))
				p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
				p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true))
				if v, err := p.Verify(t.Context(), actor, "blog", policy.Probe{}); err != nil || v.Blocks() {
					t.Errorf("verify: %+v, %v", v, err)
				}
				missing := func(r *policy.Request) { r.Inside = "web/missing.png" }
				wantCode(t, p.mustFail(p.Provision(t.Context(), actor, w.request("bad", missing, withPolicy(mode)))), codeObjectMissing)
				w.wantOrphans(p)
				w.wantDenials()
				p.deleteAlias("shop")
				p.deleteAlias("blog")
				p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
				if users := w.iam.Users(); len(users) != 1 || len(w.iam.Policies()) != 1 {
					t.Errorf("left: %+v, %+v", users, w.iam.Policies())
				}
			})
		}
	}
}

// TestDelegatedPartition: the documents name the partition at each place, or nothing of them
// would hold in another one than aws.
func TestDelegatedPartition(t *testing.T) {
	t.Parallel()
	china := strings.NewReplacer("arn:aws:", "arn:aws-cn:")
	doc := &delegatedPolicy{}
	if err := json.Unmarshal([]byte(china.Replace(readDelegated(t).text(t))), doc); err != nil {
		t.Fatal(err)
	}
	w := delegate(t, iam.Config{Partition: "aws-cn"}, doc)
	boundary := china.Replace(testBoundary)
	w.iam.RemovePolicy(boundary)
	w.iam.AddPolicy("/", "ixmage-boundary", china.Replace(readCopied(t, "boundary-policy.json")))
	w.edit = func(c *Config) { c.Boundary = boundary }
	for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged, alias.PolicyReadOnly} {
		p := w.start()
		hasShop(mode)(p)
		p.deleteAlias("shop")
		p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
	}
}

// wantOrphans has the provisioner find an orphan and delete it on command.
func (w *env) wantOrphans(p *process) {
	w.t.Helper()
	w.addUnknown("carol")
	w.iam.AttachPolicy("carol", w.iam.ReadOnlyARN())
	w.clock.advance(48 * time.Hour)
	p.reconcile(w.t.Context())
	if len(p.report().Orphans) != 1 || p.report().Orphans[0].User != "carol" {
		w.t.Errorf("orphans: %+v", p.report())
	}
	if err := p.RemoveOrphan(w.t.Context(), actor, "", "carol"); err != nil {
		w.t.Error(err)
	}
}

// wantDenials wants none but of users that IAM cannot resolve, which have no path.
func (w *env) wantDenials() {
	w.t.Helper()
	for _, c := range w.iam.Calls() {
		if c.AccessKeyID != w.power.AccessKeyID || c.Code != "AccessDenied" {
			continue
		}
		if c.Params.Get("UserName") == "" || c.Params.Get("PolicyArn") != "" && c.Action != "AttachUserPolicy" {
			w.t.Errorf("%s was denied: %v", c.Action, c.Params)
		}
	}
}

// TestMissingPermission: an operation says which right is missing, and on what.
func TestMissingPermission(t *testing.T) {
	t.Parallel()
	shop := func(p *process) (*alias.Operation, error) {
		return p.Provision(p.w.t.Context(), actor, p.w.request("shop"))
	}
	managed := func(p *process) (*alias.Operation, error) {
		return p.Provision(p.w.t.Context(), actor, p.w.request("shop", withPolicy(alias.PolicyManaged)))
	}
	rotate := func(p *process) (*alias.Operation, error) { return p.Rotate(p.w.t.Context(), actor, "shop", false) }
	remove := func(p *process) (*alias.Operation, error) {
		p.deleteAlias("shop")
		return p.Remove(p.w.t.Context(), actor, "shop", 0)
	}
	for _, row := range []struct {
		action string
		begin  func(*process) (*alias.Operation, error)
		after  bool // an alias is there
		on     string
	}{
		{"iam:CreateUser", shop, false, "user ixmage-s3read-shop-"},
		{"iam:TagUser", shop, false, "user ixmage-s3read-shop-"},
		{"iam:GetUser", shop, false, "user ixmage-s3read-shop-"},
		{"iam:PutUserPolicy", shop, false, "user ixmage-s3read-shop-"},
		{"iam:GetUserPolicy", shop, false, "user ixmage-s3read-shop-"},
		{"iam:ListAccessKeys", shop, false, "user ixmage-s3read-shop-"},
		{"iam:CreateAccessKey", shop, false, "user ixmage-s3read-shop-"},
		{"iam:CreatePolicy", managed, false, "policy bucket-specific-media-web"},
		{"iam:TagPolicy", managed, false, "policy bucket-specific-media-web"},
		{"iam:AttachUserPolicy", managed, false, "user ixmage-s3read-shop-"},
		{"iam:GetPolicy", managed, false, "policy " + policyARN("ixmage/here/bucket-specific-media-web")},
		{"iam:GetPolicyVersion", managed, false, "policy " + policyARN("ixmage/here/bucket-specific-media-web")},
		{"iam:UpdateAccessKey", rotate, true, "user ixmage-s3read-shop-"},
		{"iam:DeleteAccessKey", rotate, true, "user ixmage-s3read-shop-"},
		{"iam:ListGroupsForUser", remove, true, "user ixmage-s3read-shop-"},
		{"iam:GetLoginProfile", remove, true, "user ixmage-s3read-shop-"},
		{"iam:DeleteUserPolicy", remove, true, "user ixmage-s3read-shop-"},
		{"iam:DeleteUser", remove, true, "user ixmage-s3read-shop-"},
	} {
		t.Run(row.action, func(t *testing.T) {
			t.Parallel()
			doc := readDelegated(t)
			w := delegate(t, iam.Config{}, doc)
			p := w.start()
			if row.after {
				hasShop(alias.PolicyInline)(p)
			}
			doc.without(row.action)
			w.iam.PutPolicy("provisioner", "test", doc.text(t))
			why := p.mustFail(row.begin(p))
			if want := "may not " + row.action + " on " + row.on; why.Code != codePermission || !strings.Contains(why.Detail, want) {
				t.Errorf("got %+v, want it to say: %s", why, want)
			}
		})
	}
}
