package provision

import (
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	fileaccounts "ixmage/alias/accounts"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/accounts"
	"ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
)

const (
	prodID       = "111122223333"
	prodRole     = "arn:aws:iam::" + prodID + ":role/ixmage"
	prodExternal = "4b3c-prod"
	prodBucket   = "prod-media"
)

// twoAccounts is an environment with a second account, prod, behind the same endpoint.
type twoAccounts struct {
	*env

	prod *accounts.Account
	file string // of --accounts; empty: there is none
	more func(*Config)
}

func newTwoAccounts(t *testing.T) *twoAccounts {
	t.Helper()
	w := &twoAccounts{env: newEnv(t, iam.Config{}), file: "{id: \"" + prodID + "\", name: prod, role: " + prodRole +
		", external_id: " + prodExternal + ", no_boundary: true, buckets: [prod-*]}"}
	w.power = w.iam.AddUser("/", "server", anything)
	w.prod = &accounts.Account{ID: prodID, Server: iam.New(t, iam.Config{Account: prodID, Now: w.clock.Now})}
	endpoint := accounts.New(t, w.iam, w.prod)
	w.prod.AddRole(iam.Role{Name: "ixmage", Trust: w.prod.Trust(prodExternal), Inline: map[string]string{"all": anything}})
	w.prod.CreateBucket(prodBucket)
	for _, key := range []string{"web/a.png", "blog/a.png"} {
		w.prod.PutObject(prodBucket, key, fakes3.Object{Body: []byte("picture of prod"), ContentType: "image/png"})
	}
	w.prod.PutObject(prodBucket, "private/p.png", fakes3.Object{Body: []byte("private")})
	t.Cleanup(func() { called.add(&env{iam: w.prod.Server}) })
	w.edit = func(cfg *Config) {
		clients := *cfg.AWS
		clients.endpoints.IAM = endpoint.URL
		cfg.AWS, cfg.Probes = &clients, &clients
		if w.file != "" {
			list, problems := fileaccounts.Parse("accounts.yaml", []byte("accounts:\n- "+w.file+"\n"))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			cfg.Accounts = list
		}
		if w.more != nil {
			w.more(cfg)
		}
	}
	return w
}

// inProd is a request for an alias in prod.
func (w *twoAccounts) inProd(name alias.Name, edit ...func(*policy.Request)) policy.Request {
	return w.request(name, append([]func(*policy.Request){func(r *policy.Request) {
		r.Account, r.Bucket, r.Endpoint = "prod", prodBucket, w.prod.S3URL
	}}, edit...)...)
}

// users are those of prod but the one that assumes the role for the server.
func (w *twoAccounts) users() []iam.User {
	return slices.DeleteFunc(w.prod.Users(), func(u iam.User) bool { return u.Name == "visitor" })
}

// checkCalls wants each session of the role in one operation, for 15 minutes.
func (w *twoAccounts) checkCalls() {
	w.t.Helper()
	for _, misuse := range w.prod.Misused(testInstall, "ixmage") {
		w.t.Error(misuse)
	}
}

// checkHome wants no call about a user of ours in the account of the server.
func (w *twoAccounts) checkHome() {
	w.t.Helper()
	for _, c := range w.iam.Calls() {
		if c.Service == "iam" && strings.HasPrefix(c.Params.Get("UserName"), "ixmage-") {
			w.t.Errorf("in the account of the server: %s %s", c.Action, c.Params.Get("UserName"))
		}
	}
}

// TestAccount: the life of a user in another account.
func TestAccount(t *testing.T) {
	t.Parallel()
	for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			w := newTwoAccounts(t)
			p := w.start()
			op := p.mustSucceed(p.Provision(t.Context(), actor, w.inProd("shop", withPolicy(mode))))
			if again, err := p.Provision(t.Context(), actor, w.inProd("shop", withPolicy(mode), func(r *policy.Request) { r.Account = prodID })); err != nil || again.ID != op.ID {
				t.Errorf("the same request by id: %+v, %v", again, err)
			}
			c, prov := p.provisioned("shop")
			if prov.Account != prodID || !strings.HasPrefix(prov.User.ARN, "arn:aws:iam::"+prodID+":user/ixmage/"+testInstall+"/") {
				t.Errorf("the user is %s in %q", prov.User.ARN, prov.Account)
			}
			if s := w.prod.Sessions("ixmage"); len(s) != 1 || s[0].Name != "ixmage-"+testInstall+"-"+op.ID {
				t.Errorf("sessions of a provision: %+v", s)
			}
			v, err := p.Verify(t.Context(), actor, "shop", policy.Probe{})
			if err != nil || v.Scope() != alias.VerdictProven && v.Scope() != alias.VerdictWeak {
				t.Errorf("verify: %+v, %v", v, err)
			}
			before := len(w.prod.Sessions("ixmage"))
			p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
			if made := len(w.prod.Sessions("ixmage")) - before; made != 3 {
				t.Errorf("a rotation with a soak of 25 minutes took %d sessions", made)
			}
			if rotated, _ := p.provisioned("shop"); rotated.Version != c.Version+1 {
				t.Errorf("version %d after %d", rotated.Version, c.Version)
			}
			p.quiet()
			if report, _ := p.Orphans(t.Context()); len(report.Orphans) > 0 || report.Skipped != "" {
				t.Errorf("orphans %+v", report)
			}
			if _, err := p.Reclaim(t.Context(), actor, "shop"); err != nil {
				t.Error(err)
			}
			p.deleteAlias("shop")
			p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
			if left := w.users(); len(left) > 0 {
				t.Errorf("left: %+v", left)
			}
			if left := w.prod.Policies(); len(left) > 0 {
				t.Errorf("left: %+v", left)
			}
			w.checkCalls()
			w.checkHome()
		})
	}
}

// TestTwoAccounts: users of one name in two accounts are two users, and the operations of one do
// not touch the other.
func TestTwoAccounts(t *testing.T) {
	t.Parallel()
	w := newTwoAccounts(t)
	p := w.start()
	named := func(r *policy.Request) { r.UserName = "shared" }
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("home", named)))
	p.mustSucceed(p.Provision(t.Context(), actor, w.inProd("away", named)))
	if op, err := p.Provision(t.Context(), actor, w.inProd("third", named)); !errors.Is(err, alias.ErrExists) {
		t.Errorf("a third: %+v, %v", op, err)
	}
	home, _ := w.iam.User("shared")
	p.mustSucceed(p.Rotate(t.Context(), actor, "away", true))
	p.deleteAlias("away")
	p.mustSucceed(p.Remove(t.Context(), actor, "away", 0))
	p.quiet()
	if report, _ := p.Orphans(t.Context()); len(report.Orphans) > 0 || report.Skipped != "" {
		t.Errorf("orphans %+v", report)
	}
	if now, ok := w.iam.User("shared"); !ok || now.ID != home.ID || len(w.iam.Keys("shared")) != 1 || len(w.users()) > 0 {
		t.Errorf("home %+v, away %+v", now, w.users())
	}
}

// TestAccountRules: a request outside the rules of its account is refused before any call.
func TestAccountRules(t *testing.T) {
	t.Parallel()
	const of = " of the account prod (" + prodID + ") in accounts.yaml (--accounts)"
	w := newTwoAccounts(t)
	p := w.start()
	p.mustSucceed(p.Provision(t.Context(), actor, w.inProd("shop")))
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("home")))
	onAWS := func(cfg *Config) { cfg.IAMEndpoint, cfg.NoBoundary = "", true }
	for _, row := range []struct {
		name, file string
		more       func(*Config)
		req        policy.Request
		want       error
		says       string
	}{
		{name: "another bucket", req: w.inProd("b", func(r *policy.Request) { r.Bucket = testBucket }), want: alias.ErrForbidden,
			says: "the bucket " + testBucket + " is not among buckets" + of},
		{name: "the bucket of the account without it", req: w.request("b", func(r *policy.Request) { r.Bucket = prodBucket }),
			want: alias.ErrForbidden, says: "is not among --provision-buckets"},
		{name: "adopt", req: w.inProd("b", func(r *policy.Request) { r.Adopt = "by-hand" }), more: func(cfg *Config) { cfg.Adopt = []string{"*"} },
			want: alias.ErrForbidden, says: "the IAM user by-hand is not among adopt_users" + of},
		{name: "unknown", req: w.inProd("b", func(r *policy.Request) { r.Account = "test" }),
			says: "account: name one of accounts.yaml (--accounts): prod (" + prodID + ")"},
		{name: "no boundary", file: strings.Replace(w.file, "no_boundary: true", "no_boundary: false", 1), more: onAWS, req: w.inProd("b"),
			want: alias.ErrNoBoundary, says: "the role " + prodRole + " is administrator of the account prod (" + prodID + ")"},
		{name: "another partition", more: onAWS, req: w.inProd("b", func(r *policy.Request) { r.Endpoint, r.PathStyle, r.Region = "", false, "cn-north-1" }),
			says: "region: must be in aws, the partition of the account prod (" + prodID + "); cn-north-1 is in the partition aws-cn"},
		{name: "reuse in another account", req: w.inProd("b", reusing("home")),
			says: "account: must be empty, or the account of the credential home, which is that of this server's credentials"},
		{name: "reuse outside its buckets", req: w.request("b", reusing("shop")), want: alias.ErrForbidden, says: "is not among buckets" + of},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := w.file
			defer func() { w.file, w.more = file, nil }()
			w.more = row.more
			if row.file != "" {
				w.file = row.file
			}
			p, calls := w.start(), len(w.prod.Calls())+len(w.iam.Calls())
			op, err := p.Provision(t.Context(), actor, row.req)
			if err == nil || row.want != nil && !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%+v, %v, want %s", op, err, row.says)
			}
			if n := len(w.prod.Calls()) + len(w.iam.Calls()) - calls; n > 0 {
				t.Errorf("%d calls", n)
			}
		})
	}
	p = w.start()
	p.mustSucceed(p.Provision(t.Context(), actor, w.inProd("second", reusing("shop"), func(r *policy.Request) { r.Account = "" })))
	w.checkCalls()
}

// TestAccountPlan: a plan has the boundary and the partition of the account.
func TestAccountPlan(t *testing.T) {
	t.Parallel()
	w := newTwoAccounts(t)
	w.file = `{id: "` + prodID + `", role: arn:aws-cn:iam::` + prodID + `:role/ixmage, boundary: arn:aws-cn:iam::` + prodID + `:policy/b}`
	p := w.start()
	plan, err := p.Plan(t.Context(), policy.PlanRequest{Request: w.inProd("shop", func(r *policy.Request) { r.Account = prodID })})
	if err != nil || plan.User.Boundary != "arn:aws-cn:iam::"+prodID+":policy/b" ||
		!strings.Contains(string(plan.Document), "arn:aws-cn:s3:::"+prodBucket+"/web/*") {
		t.Errorf("%+v, %v", plan, err)
	}
	if _, err := p.Plan(t.Context(), policy.PlanRequest{Request: w.inProd("shop")}); err == nil || !strings.Contains(err.Error(), "account: name one of") {
		t.Errorf("unknown: %v", err)
	}
	if n := len(w.prod.Calls()); n > 0 {
		t.Errorf("%d calls", n)
	}
}

// TestAccountGone: what an account that is not in the file any more has is served and not
// changed, and goes on when the account is back.
func TestAccountGone(t *testing.T) {
	t.Parallel()
	w := newTwoAccounts(t)
	p := w.start()
	p.mustSucceed(p.Provision(t.Context(), actor, w.inProd("shop")))
	begun, err := p.Provision(t.Context(), actor, w.inProd("begun"))
	if err != nil {
		t.Fatal(err)
	}
	file, calls := w.file, len(w.prod.Calls())
	w.file = ""
	var log strings.Builder
	w.more = func(cfg *Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) }
	gone := w.start()
	for _, want := range []string{"credential=shop", "credential=begun", "account=" + prodID} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s: %s", want, &log)
		}
	}
	const says = "the AWS account " + prodID + " is not in --accounts"
	for name, call := range map[string]func() error{
		"rotate":    func() error { _, err := gone.Rotate(t.Context(), actor, "shop", false); return err },
		"emergency": func() error { _, err := gone.Rotate(t.Context(), actor, "shop", true); return err },
		"remove":    func() error { _, err := gone.Remove(t.Context(), actor, "shop", 0); return err },
		"reclaim":   func() error { _, err := gone.Reclaim(t.Context(), actor, "shop"); return err },
		"reuse": func() error {
			_, err := gone.Provision(t.Context(), actor, w.request("b", reusing("shop")))
			return err
		},
	} {
		if err := call(); !errors.Is(err, alias.ErrForbidden) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", name, err, says)
		}
	}
	var running sync.WaitGroup
	if err := gone.startAll(t.Context(), &running); err != nil {
		t.Error(err)
	}
	running.Wait()
	gone.reconcile(t.Context())
	if v, err := gone.Verify(t.Context(), actor, "shop", policy.Probe{}); err != nil || v.Blocks() || v.Scope() == alias.VerdictProven {
		t.Errorf("verify: %+v, %v", v, err)
	}
	if n := slices.IndexFunc(w.prod.Calls()[calls:], func(c iam.Call) bool { return c.Service == "iam" && !strings.Contains(c.UserAgent, "ixmage-probe/") }); n >= 0 {
		t.Errorf("a call without a role: %+v", w.prod.Calls()[calls+n])
	}
	w.file, w.more = file, nil
	back := w.start()
	back.drive()
	if op, err := back.registry.History().Operation(t.Context(), begun.ID); err != nil || op.State != alias.OperationDone {
		t.Errorf("the operation: %+v, %v", op, err)
	}
}

// TestAssumeRefused: what STS says is in the error of the operation, with the account and the
// remedy, and nothing is made.
func TestAssumeRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		spoil func(*twoAccounts)
		code  string
		says  []string
	}{
		{"a wrong external id", func(w *twoAccounts) { w.file = strings.Replace(w.file, prodExternal, "another", 1) }, codePermission,
			[]string{"may not sts:AssumeRole on the role " + prodRole + " of the account prod (" + prodID + "): AccessDenied", "external_id", "docs/iam.md"}},
		{"no right", func(w *twoAccounts) { w.power = w.iam.AddUser("/", "weak", iamOnly) }, codePermission,
			[]string{"the role " + prodRole, "their own policy must allow sts:AssumeRole"}},
		{"an SCP", func(w *twoAccounts) {
			w.prod.SetFault(iam.Deny("with an explicit deny in a service control policy"), "AssumeRole")
		},
			codePermission, []string{"a service control policy (SCP) of the AWS organization forbids it", "allow sts:AssumeRole"}},
		{"a key that STS does not know", func(w *twoAccounts) { w.prod.SetFault(iam.Fail("InvalidClientTokenId"), "AssumeRole") }, codePermission,
			[]string{"STS does not accept the credentials of this server (sts:AssumeRole on the role " + prodRole}},
		{"no AssumeRole", func(w *twoAccounts) { w.prod.SetFault(iam.NotImplemented(), "AssumeRole") }, codeIAM,
			[]string{"sts:AssumeRole on the role " + prodRole}},
		{"an empty answer", func(w *twoAccounts) { w.prod.SetFault(iam.Empty(), "AssumeRole") }, codeIAM,
			[]string{"the STS server answered 200 with no Credentials"}},
		{"no answer", func(w *twoAccounts) { w.prod.SetFault(iam.LostBefore(), "AssumeRole") }, codeIAMUnreachable,
			[]string{"sts:AssumeRole on the role " + prodRole + " of the account prod (" + prodID + ") got no answer"}},
		{"a role without a right", func(w *twoAccounts) {
			w.prod.ChangeRole("ixmage", func(r *iam.Role) { r.Inline = map[string]string{"reads": readsIAM} })
		}, codePermission, []string{"the role " + prodRole + " may not iam:CreateUser on user "}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newTwoAccounts(t)
			row.spoil(w)
			p := w.start()
			why := p.mustFail(p.Provision(t.Context(), actor, w.inProd("shop")))
			wantCode(t, why, row.code)
			for _, says := range row.says {
				if !strings.Contains(why.Detail, says) {
					t.Errorf("%s\nhas no %q", why.Detail, says)
				}
			}
			if strings.Contains(why.Detail, w.power.SecretAccessKey.Reveal()) || len(w.users()) > 0 {
				t.Errorf("%s; users %+v", why.Detail, w.users())
			}
		})
	}
}

const (
	iamOnly  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}`
	readsIAM = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:Get*","iam:List*"],"Resource":"*"}]}`
)

// TestAssumeRecovers: STS that fails for a while delays an operation and does not fail it.
func TestAssumeRecovers(t *testing.T) {
	t.Parallel()
	w := newTwoAccounts(t)
	p := w.start()
	p.mustSucceed(p.Provision(t.Context(), actor, w.inProd("shop")))
	refused := 0
	w.prod.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "AssumeRole" && refused < 9 {
			refused++
			return iam.Fail("Throttling")
		}
		return nil
	})
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	if refused < 9 {
		t.Errorf("STS refused %d times", refused)
	}
	w.checkCalls()
}

// TestOrphansOfAccounts: orphans are found in every account, with its id, and removed there. An
// account that cannot be read, or has too many unknown users, does not stop the others.
func TestOrphansOfAccounts(t *testing.T) {
	t.Parallel()
	w := newTwoAccounts(t)
	p := w.start()
	for _, name := range []alias.Name{"a", "b", "c", "d"} {
		p.mustSucceed(p.Provision(t.Context(), actor, w.inProd(name)))
		p.mustSucceed(p.Provision(t.Context(), actor, w.request("home-"+name)))
	}
	orphan := func(s *iam.Server, name string) {
		s.AddUser(policy.UserPath(testInstall), name, "")
		s.ChangeUser(name, func(u *iam.User) {
			u.Tags = map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: testInstall, policy.TagOperation: "op-" + name}
		})
	}
	orphan(w.prod.Server, "lost")
	orphan(w.iam, "lost-home-1")
	orphan(w.iam, "lost-home-2") // more than a fifth
	w.clock.advance(30 * 24 * time.Hour)
	p.reconcile(t.Context())
	report, err := p.Orphans(t.Context())
	if err != nil || len(report.Orphans) != 3 || !strings.Contains(report.Skipped, "2 of 6 users") || strings.Contains(report.Skipped, prodID) {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, o := range report.Orphans {
		lost := o.User == "lost"
		if lost != (o.Account == prodID) || lost != (o.State == stateQuarantined) || lost != strings.Contains(o.Detail, "/api/v1/orphans/lost?account="+prodID) {
			t.Errorf("%+v", o)
		}
	}
	if err := p.RemoveOrphan(t.Context(), actor, "", "lost"); !errors.Is(err, alias.ErrNotFound) {
		t.Errorf("in the account of the server: %v", err)
	}
	if err := p.RemoveOrphan(t.Context(), actor, "test", "lost"); err == nil || !strings.Contains(err.Error(), "account: name one of") {
		t.Errorf("in an unknown account: %v", err)
	}
	if err := p.RemoveOrphan(t.Context(), actor, "prod", "lost"); err != nil {
		t.Errorf("in its account: %v", err)
	}
	if _, ok := w.prod.User("lost"); ok {
		t.Error("the user is there")
	}
	w.checkCalls()
	w.prod.SetFault(iam.Fail("AccessDenied"), "AssumeRole")
	p.reconcile(t.Context())
	report, _ = p.Orphans(t.Context())
	if len(report.Orphans) != 2 || !strings.Contains(report.Skipped, "account prod ("+prodID+"): the credentials of this server may not sts:AssumeRole") {
		t.Errorf("%+v", report)
	}
	if err := p.RemoveOrphan(t.Context(), actor, "prod", "lost"); !errors.Is(err, alias.ErrForbidden) {
		t.Errorf("without a role: %v", err)
	}
}

// TestStoredAccount: a credential from before accounts is that of the server's account, and one
// of today has the member.
func TestStoredAccount(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(&alias.Provisioned{})
	if err != nil || strings.Contains(string(text), "account") {
		t.Errorf("%s, %v", text, err)
	}
	var prov alias.Provisioned
	if err := json.Unmarshal([]byte(`{"account":"`+prodID+`"}`), &prov); err != nil || prov.Account != prodID || prov.Clone().Account != prodID {
		t.Errorf("%+v, %v", prov, err)
	}
}

// TestPowerIsRenewed: a session is used for less than its 15 minutes, by one operation, and after
// that or after it was dropped another is made.
func TestPowerIsRenewed(t *testing.T) {
	t.Parallel()
	w := newTwoAccounts(t)
	p := w.start()
	role := p.roleIn(prodID, "op-long")
	for _, step := range []struct {
		after    time.Duration
		drop     bool
		sessions int
	}{{0, false, 1}, {13 * time.Minute, false, 1}, {time.Minute, false, 2}, {time.Minute, false, 2}, {0, true, 3}} {
		w.clock.advance(step.after)
		if step.drop {
			role.drop()
		}
		if _, err := (caller{p: p.Provisioner, operation: "op-long", accountRole: role}).getUser(t.Context(), "visitor"); err != nil {
			t.Fatal(err)
		}
		if n := len(w.prod.Sessions("ixmage")); n != step.sessions {
			t.Errorf("%d sessions after %s, want %d", n, step.after, step.sessions)
		}
	}
	w.checkCalls()
}
