package provision

import (
	"slices"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	fakeiam "ixmage/internal/awstest/iam"
)

// doc is a policy document of statements.
func doc(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func allowing(action, resource string) string {
	return `{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}`
}

var readWeb = allowing("s3:GetObject", "arn:aws:s3:::"+testBucket+"/web/*")

// paste registers a key pair under an alias, as an operator does.
func (p *process) paste(name alias.Name, kp alias.KeyPair) {
	p.w.t.Helper()
	a := &alias.Alias{Name: name, Location: p.w.request(name).Location, Canary: "a.png", Enabled: true, State: alias.StateActive}
	if _, err := p.registry.CreateAlias(p.w.t.Context(), a, alias.CredentialRef{KeyPair: &kp}); err != nil {
		p.w.t.Fatal(err)
	}
}

func (p *process) verified(name alias.Name) (v *alias.Verification, verdicts map[string]string) {
	p.w.t.Helper()
	v, err := p.Verify(p.w.t.Context(), "operator", name, policy.Probe{Outside: "private/p.png"})
	if err != nil {
		p.w.t.Fatal(err)
	}
	verdicts = map[string]string{}
	for _, c := range v.Checks {
		verdicts[c.Name] = string(c.Verdict) + " " + string(c.Evidence)
	}
	return v, verdicts
}

// givenKey is a key that an operator gave, and what is found of it: with and without the right of
// the server to read IAM.
type givenKey struct {
	name  string
	setUp func(*env) // of the user given
	// policies is the verdict on its policies, and scope that of the whole, if the server may
	// read IAM. blind is the scope if it may not.
	policies, scope, blind string
	detail                 string // of the check that is not proven
}

func inlined(statements ...string) func(*env) {
	return func(w *env) { w.iam.PutPolicy("given", "p", doc(statements...)) }
}

func all(fns ...func(*env)) func(*env) {
	return func(w *env) {
		for _, fn := range fns {
			fn(w)
		}
	}
}

const (
	violates = "violated"
	proves   = "proven"
	unproven = "not-proven"
)

func givenKeys() []givenKey {
	const self = "arn:aws:iam::" + testAccount + ":user/${aws:username}"
	change := func(fn func(*fakeiam.User)) func(*env) {
		return func(w *env) { w.iam.ChangeUser("given", fn) }
	}
	bounded := func(statements ...string) func(*env) {
		return func(w *env) {
			arn := w.iam.AddPolicy("/", "limit", doc(statements...))
			w.iam.ChangeUser("given", func(u *fakeiam.User) { u.Boundary = arn })
		}
	}
	return []givenKey{
		{"what the alias needs", inlined(readWeb), proves, proves, unproven, ""},

		// The keys that the probes alone called proven.
		{"may make itself administrator", inlined(readWeb, allowing("iam:PutUserPolicy", self), allowing("iam:AttachUserPolicy", self)), violates, violates, violates, "iam:putuserpolicy on " + self},
		{"may make itself a second key", inlined(readWeb, allowing("iam:CreateAccessKey", self)), violates, violates, unproven, "iam:createaccesskey on " + self},
		{"other services", inlined(readWeb, allowing("dynamodb:*", "*"), allowing("ec2:*", "*"), allowing("sts:AssumeRole", "*")), violates, violates, unproven, "dynamodb:* on *"},
		{"administrator", inlined(allowing("*", "*")), violates, violates, violates, "* on *"},
		{"held by an endpoint policy only", all(inlined(allowing("s3:*", "*")), func(w *env) {
			w.iam.SetEndpointPolicy("s3", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::`+testBucket+`/web/*"}]}`)
		}), violates, violates, unproven, "s3:* on *"},

		{"a wildcard, and a denial of the rest", inlined(allowing("s3:*", "*"), `{"Effect":"Deny","NotAction":"s3:GetObject","Resource":"*"}`, `{"Effect":"Deny","Action":"*","NotResource":"arn:aws:s3:::`+testBucket+`/web/*"}`), proves, proves, unproven, ""},
		{"a wildcard, and a denial elsewhere", inlined(allowing("s3:*", "*"), `{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:PrincipalAccount":"`+testAccount+`"}}}`), violates, violates, violates, "s3:* on *"},
		{"held by its boundary only", all(inlined(allowing("*", "*")), bounded(readWeb)), proves, "weak", unproven, "the proof rests on the boundary"},
		{"a boundary that leaves more", all(inlined(allowing("*", "*")), bounded(readWeb, allowing("sqs:*", "*"))), violates, violates, unproven, "* on *"},
		{"the rights of a group", all(inlined(readWeb), func(w *env) {
			w.iam.SetGroupPolicy("staff", doc(allowing("s3:PutObject", "*")))
			w.iam.AddToGroup("given", "staff")
		}), violates, violates, violates, "s3:putobject on * (statement 1 of the inline policy group of its group staff)"},
		{"the managed policy of a group", all(inlined(readWeb), func(w *env) {
			w.iam.AttachGroupPolicy("staff", w.iam.AddPolicy("/", "queues", doc(allowing("sqs:*", "*"))))
			w.iam.AddToGroup("given", "staff")
		}), violates, violates, unproven, "policy/queues of its group staff"},
		{"the grant of the bucket", all(inlined(readWeb), func(w *env) {
			w.iam.SetBucketPolicy(testBucket, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+testAccount+`:user/given"},"Action":"s3:*","Resource":["arn:aws:s3:::`+testBucket+`","arn:aws:s3:::`+testBucket+`/*"]}]}`)
		}), proves, violates, violates, ""},
		{"everything but IAM", inlined(`{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}`), violates, violates, violates, "everything but iam:*"},
		{"the whole bucket", inlined(allowing("s3:GetObject", "arn:aws:s3:::"+testBucket+"/*")), violates, violates, violates, "s3:getobject"},
		{"under a condition that does not hold", inlined(readWeb, `{"Effect":"Allow","Action":"s3:PutObject","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}`), violates, violates, unproven, "under conditions"},
		{"a managed policy", all(inlined(readWeb), func(w *env) {
			w.iam.AttachPolicy("given", w.iam.AddPolicy("/", "queues", doc(allowing("sqs:*", "*"))))
		}), violates, violates, unproven, "sqs:* on * (statement 1 of the policy arn:aws:iam::" + testAccount + ":policy/queues)"},
		{"every bucket", all(func(w *env) { w.iam.AttachPolicy("given", w.iam.ReadOnlyARN()) }), violates, violates, violates, "s3:get* on *"},
		{"a person", all(inlined(readWeb), change(func(u *fakeiam.User) { u.LoginProfile = true })), proves, violates, unproven, "console password"},
		{"two keys", all(inlined(readWeb), func(w *env) { w.iam.AddKey("given") }), proves, "weak", unproven, "other keys"},
		{"an API key of a service", all(inlined(readWeb), change(func(u *fakeiam.User) { u.ServiceCredentials = []string{"ACCA1"} })), proves, "weak", unproven, "a service-specific credential (ACCA1)"},
		{"found in public by AWS", all(inlined(readWeb), func(w *env) { w.iam.Quarantine("given") }), proves, violates, unproven, "AWS found a key"},
	}
}

// TestGivenKeys: a table of keys that operators gave, and of what IAM shows of them.
func TestGivenKeys(t *testing.T) {
	t.Parallel()
	for _, key := range givenKeys() {
		t.Run(key.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, fakeiam.Config{PageLimit: 1})
			kp := w.iam.AddUser("/", "given", "")
			key.setUp(w)
			p := w.start()
			p.paste("shop", kp)
			v, got := p.verified("shop")
			if got[scope.NamePolicies] != key.policies+" control-plane" || string(v.Scope()) != key.scope {
				t.Errorf("policies %q, scope %s; want %s, %s\n%+v", got[scope.NamePolicies], v.Scope(), key.policies, key.scope, v.Checks)
			}
			if !slices.ContainsFunc(v.Checks, func(c alias.Check) bool { return strings.Contains(c.Got+c.Detail, key.detail) }) {
				t.Errorf("%q is in no detail of %+v", key.detail, v.Checks)
			}
			if !w.rested("given") {
				t.Error("the key was probed with calls of IAM or STS")
			}

			w.power = w.iam.AddUser("/", "provisioner", doc(allowing("iam:GetAccessKeyLastUsed", "*"), allowing("iam:GetUser", "*")))
			v, got = w.start().verified("shop")
			if got[scope.NamePolicies] != "not-proven control-plane" || string(v.Scope()) != key.blind {
				t.Errorf("blind: policies %q, scope %s; want %s\n%+v", got[scope.NamePolicies], v.Scope(), key.blind, v.Checks)
			}
			for _, c := range v.Checks {
				if c.Name == scope.NamePolicies && !strings.Contains(c.Detail, "may not iam:ListUserPolicies on user given") {
					t.Errorf("%q does not name the permission", c.Detail)
				}
			}
		})
	}
}

// rested reports whether the keys of a user were used for no call of IAM and STS, but for
// GetCallerIdentity, which needs no permission.
func (w *env) rested(user string) bool {
	ids := map[string]bool{}
	for _, k := range w.iam.Keys(user) {
		ids[k.ID] = true
	}
	return !slices.ContainsFunc(w.iam.Calls(), func(c fakeiam.Call) bool {
		return ids[c.AccessKeyID] && (c.Service != "s3" && c.Action != "GetCallerIdentity" || c.Action == "ListBuckets" || c.Action == "GetBucketPolicy")
	})
}

// deniedManagement are the denied calls of users' keys that AWS records as management events.
func (w *env) deniedManagement() (actions []string) {
	for _, c := range w.iam.Calls() {
		management := c.Service != "s3" || c.Action == "ListBuckets" || c.Action == "GetBucketPolicy"
		if management && c.Code == "AccessDenied" {
			actions = append(actions, c.Action)
		}
	}
	return actions
}

// TestQuiet: no denied management event is recorded for a user of ours, from its provisioning to
// its removal, whatever its mode, because IAM itself is asked.
func TestQuiet(t *testing.T) {
	t.Parallel()
	for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged, alias.PolicyReadOnly} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, fakeiam.Config{})
			p := w.start()
			hasShop(mode)(p)
			if reads := w.readsOfIdentity(); reads > 7 {
				t.Errorf("the proof made %d calls of IAM", reads)
			}
			if v, _ := p.verified("shop"); v.Scope() != alias.VerdictProven {
				t.Errorf("scope %s: %+v", v.Scope(), v.Checks)
			}
			p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
			p.deleteAlias("shop")
			p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
			if denied := w.deniedManagement(); len(denied) > 0 {
				t.Errorf("denied: %q", denied)
			}
		})
	}
}

// readsOfIdentity counts the calls that prove the rights of a user: one round of five lists, and one
// or two for its policy, which is read before too, when it is put.
func (w *env) readsOfIdentity() (n int) {
	calls := w.iam.Calls()
	for _, c := range calls[slices.IndexFunc(calls, func(c fakeiam.Call) bool { return c.Action == "CreateAccessKey" }):] {
		switch c.Action {
		case "GetUser", "GetLoginProfile", "ListGroupsForUser", "ListUserPolicies", "ListAttachedUserPolicies", "GetUserPolicy", "GetPolicy", "GetPolicyVersion":
			n++
		}
	}
	return n
}

// TestProbesWithoutControlPlane: where the server may not read what proves a right, the key itself
// is tried.
func TestProbesWithoutControlPlane(t *testing.T) {
	t.Parallel()
	w := newEnv(t, fakeiam.Config{})
	p := w.start()
	w.deny("ListGroupsForUser")
	hasShop(alias.PolicyInline)(p)
	if denied := w.deniedManagement(); !slices.Contains(denied, "CreateAccessKey") {
		t.Errorf("denied: %q", denied)
	}
	v, got := p.verified("shop")
	if got[scope.NameGroups] != "not-proven control-plane" || !strings.HasSuffix(got[scope.NameIAMCreateKey], " probe") || v.Scope() != alias.VerdictNotProven {
		t.Errorf("scope %s: %v", v.Scope(), got)
	}
}

// TestDriftedUser: what others changed of a user of ours violates its scope, and the check names it.
func TestDriftedUser(t *testing.T) {
	t.Parallel()
	change := func(fn func(*fakeiam.User)) func(*env, string) {
		return func(w *env, user string) { w.iam.ChangeUser(user, fn) }
	}
	for _, row := range []struct {
		name   string
		change func(w *env, user string)
		check  string
		want   string
	}{
		{"nothing", func(*env, string) {}, scope.NamePolicies, proves},
		{"another inline policy", func(w *env, user string) { w.iam.PutPolicy(user, "x", doc(allowing("sqs:*", "*"))) }, scope.NamePolicies, violates},
		{"another policy that allows nothing more", func(w *env, user string) { w.iam.PutPolicy(user, "x", doc(readWeb)) }, scope.NamePolicies, violates},
		{"a managed policy", func(w *env, user string) { w.iam.AttachPolicy(user, "arn:aws:iam::aws:policy/AdministratorAccess") }, scope.NameIAMOwnRights, violates},
		{"a wider document", func(w *env, user string) { w.iam.PutPolicy(user, policy.InlineName, doc(allowing("s3:*", "*"))) }, scope.NamePolicies, violates},
		{"a narrower document", func(w *env, user string) {
			w.iam.PutPolicy(user, policy.InlineName, doc(allowing("s3:GetObject", "arn:aws:s3:::"+testBucket+"/web/a*")))
		}, scope.NamePolicies, "weak"},
		{"sessions that are denied", func(w *env, user string) { w.iam.PutPolicy(user, policy.RevokeName, policy.Revoke) }, scope.NamePolicies, proves},
		{"a group", func(w *env, user string) { w.iam.AddToGroup(user, "staff") }, scope.NameGroups, violates},
		{"another boundary", change(func(u *fakeiam.User) { u.Boundary = "arn:aws:iam::aws:policy/AdministratorAccess" }), scope.NameBoundary, violates},
		{"a password", change(func(u *fakeiam.User) { u.LoginProfile = true }), scope.NamePassword, violates},
		{"another key", func(w *env, user string) { w.iam.AddKey(user) }, scope.NameOtherKeys, violates},
		{"an API key", change(func(u *fakeiam.User) { u.ServiceCredentials = []string{"ACCA1"} }), scope.NameServiceCredentials, violates},
		{"a public key", func(w *env, user string) { w.iam.Quarantine(user) }, scope.NameLeaked, violates},
		{"made again", change(func(u *fakeiam.User) { u.ID = "AIDAANOTHER" }), scope.NamePolicies, violates},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, fakeiam.Config{})
			p := w.start()
			hasShop(alias.PolicyInline)(p)
			_, prov := p.provisioned("shop")
			row.change(w, prov.User.Name)
			v, got := p.verified("shop")
			if got[row.check] != row.want+" control-plane" || string(v.Scope()) != row.want {
				t.Errorf("%s %q, scope %s, want %s\n%+v", row.check, got[row.check], v.Scope(), row.want, v.Checks)
			}
		})
	}
}

// TestRotationOfDriftedUser: what others gave the user does not keep its key from being replaced,
// and the verification of the new key tells it. A new alias is not opened with it.
func TestRotationOfDriftedUser(t *testing.T) {
	t.Parallel()
	for _, emergency := range []bool{false, true} {
		w := newEnv(t, fakeiam.Config{})
		p := w.start()
		hasShop(alias.PolicyInline)(p)
		_, before := p.provisioned("shop")
		w.iam.PutPolicy(before.User.Name, "x", doc(allowing("sqs:*", "*")))
		w.iam.Quarantine(before.User.Name)
		p.mustSucceed(p.Rotate(t.Context(), actor, "shop", emergency))
		c, after := p.provisioned("shop")
		if after.AccessKeyID == before.AccessKeyID || c.Scope != violates {
			t.Errorf("emergency %t: key %s, before %s, scope %s", emergency, after.AccessKeyID, before.AccessKeyID, c.Scope)
		}
		wantCode(t, p.mustFail(p.Provision(t.Context(), actor, w.request("blog", func(r *policy.Request) {
			r.Credential, r.Prefix, r.Inside = "shop", "blog/", "blog/a.png"
		}))), codeScope)
	}
}

// TestDelegatedProof: the documented permissions are enough to prove the rights of a user of ours,
// and of a pasted key whose user they name.
func TestDelegatedProof(t *testing.T) {
	t.Parallel()
	w := delegate(t, fakeiam.Config{}, readDelegated(t))
	p := w.start()
	for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged, alias.PolicyReadOnly} {
		name := alias.Name("shop-" + string(mode))
		p.mustSucceed(p.Provision(t.Context(), actor, w.request(name, func(r *policy.Request) { r.Policy = mode })))
		v, got := p.verified(name)
		if v.Scope() != alias.VerdictProven || got[scope.NameBoundary] != "proven control-plane" {
			t.Errorf("%s: scope %s: %+v", mode, v.Scope(), v.Checks)
		}
	}
	kp := w.iam.AddUser("/", "given", doc(readWeb))
	w.iam.AttachGroupPolicy("staff", "arn:aws:iam::aws:policy/AdministratorAccess")
	w.iam.AddToGroup("given", "staff")
	p.paste("pasted", kp)
	if _, got := p.verified("pasted"); got[scope.NamePolicies] != "violated control-plane" || got[scope.NameGroups] != "proven control-plane" {
		t.Errorf("%v", got)
	}
	p.paste("stranger", w.iam.AddUser("/", "stranger", doc(readWeb)))
	if v, got := p.verified("stranger"); got[scope.NamePolicies] != "not-proven control-plane" || got[scope.NameIAMCreateKey] != "proven probe" {
		t.Errorf("%+v", v.Checks)
	}
	if denied := w.deniedManagement(); !slices.Contains(denied, "CreateAccessKey") {
		t.Errorf("denied: %q", denied)
	}
}

// TestGivenKeyOfTwoAliases: what one alias of a key needs is not beyond what the other one needs,
// until it is gone.
func TestGivenKeyOfTwoAliases(t *testing.T) {
	t.Parallel()
	w := newEnv(t, fakeiam.Config{})
	p := w.start()
	p.paste("web", w.iam.AddUser("/", "given", doc(readWeb, allowing("s3:GetObject", "arn:aws:s3:::"+testBucket+"/blog/*"))))
	blog := &alias.Alias{Name: "blog", Location: w.request("blog").Location, Canary: "a.png", Enabled: true, State: alias.StateActive}
	blog.Prefix = "blog/"
	if _, err := p.registry.CreateAlias(t.Context(), blog, alias.CredentialRef{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []alias.Name{"web", "blog"} {
		if v, got := p.verified(name); got[scope.NamePolicies] != "proven control-plane" {
			t.Errorf("%s: %+v", name, v.Checks)
		}
	}
	p.deleteAlias("blog")
	if v, got := p.verified("web"); got[scope.NamePolicies] != "violated control-plane" {
		t.Errorf("%+v", v.Checks)
	}
}
