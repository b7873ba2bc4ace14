package doctor

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOwnCredentials: whose the server's credentials are, and whether they end by themselves.
func TestOwnCredentials(t *testing.T) {
	t.Parallel()
	t.Run("none, and none needed", func(t *testing.T) {
		t.Parallel()
		r := newEnv(t).examine()
		want(t, r, OwnCredentials, Good, "nothing needs them")
		if len(r.of(LongTermKey))+len(r.of(Endpoint)) > 0 || r.State != Good {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("none, and a role may come", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.cfg.AssumeRoles = []string{"arn:aws:iam::" + testAccount + ":role/pictures*"}
		want(t, e.examine(), OwnCredentials, Good, "static as its source")
	})
	t.Run("none, and needed", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.cfg.Provision = true
		r := e.examine()
		want(t, r, OwnCredentials, Bad, "--provision", "instance profile")
		want(t, r, Endpoint, Good, e.iam.URL)
	})
	t.Run("a role", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.provisioner(examining)
		r := e.examine()
		want(t, r, OwnCredentials, Good, "assumed-role/server")
		want(t, r, LongTermKey, Good)
		want(t, r, RightsMissing, Good)
		want(t, r, RightsTooBroad, Good)
		want(t, r, Boundary, Good, testBoundary)
		want(t, r, Clock, Good)
		if r.State != Good {
			t.Errorf("the report is %s: %+v", r.State, r.Findings)
		}
		inTable(t, e.iam)
		for _, action := range []string{"SimulatePrincipalPolicy", "GetCallerIdentity"} { // only the doctor makes them
			if !slices.ContainsFunc(e.iam.Calls(), func(c iam.Call) bool { return c.Action == action }) {
				t.Errorf("%s was not called", action)
			}
		}
	})
	t.Run("the key of a user", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		kp := e.iam.AddUser("/", "server", "")
		e.signAs(kp)
		want(t, e.examine(), LongTermKey, Warning, kp.AccessKeyID, "user/server", "instead")
	})
	t.Run("the key of root", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.signAs(e.iam.Root)
		want(t, e.examine(), LongTermKey, Warning, "root")
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.signAs(alias.KeyPair{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: alias.NewSecret(strings.Repeat("s", 40))})
		want(t, e.examine(), OwnCredentials, Bad, "InvalidClientTokenId", "active")
	})
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.signAs(e.iam.Root)
		e.iam.SetFault(&iam.Fault{Code: "ExpiredToken", Status: 403}, "GetCallerIdentity")
		want(t, e.examine(), OwnCredentials, Bad, "expired")
	})
	t.Run("of another account than the boundary", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.provisioner(examining)
		e.cfg.Boundary = "arn:aws-cn:iam::999999999999:policy/b"
		want(t, e.examine(), OwnCredentials, Bad, "aws-cn", "999999999999")
	})
}

// inTable checks that every call is in the table of permissions, and none changes anything.
func inTable(t *testing.T, s *iam.Server) {
	t.Helper()
	allowed := map[string]bool{}
	for _, p := range policy.Permissions() {
		for _, a := range p.Actions {
			allowed[a] = true
		}
	}
	reads := regexp.MustCompile("^((Get|List|Head|Simulate).*|AssumeRole)$")
	for _, c := range s.Calls() {
		if !allowed[c.Service+":"+c.Action] || !reads.MatchString(c.Action) {
			t.Errorf("called %s:%s", c.Service, c.Action)
		}
	}
}

// TestRights: what is missing and what is too much, by the policies of the server's role.
func TestRights(t *testing.T) {
	t.Parallel()
	deny := func(action string) string {
		return `{"Effect":"Deny","Action":"` + action + `","Resource":"*"}`
	}
	allow := func(action string) string {
		return `{"Effect":"Allow","Action":"` + action + `","Resource":"*"}`
	}
	for _, tt := range []struct {
		name           string
		more           []string
		missing, broad FindingState
		says           string
	}{
		{"as documented", []string{examining}, Good, Good, ""},
		{"a right is denied", []string{examining, deny("iam:CreateAccessKey")}, Bad, Good, "iam:CreateAccessKey"},
		{"it may not list users", []string{examining, deny("iam:ListUsers")}, Bad, NotTried, "iam:ListUsers"},
		{"other users too", []string{examining, allow("iam:CreateAccessKey")}, Good, Bad, "iam:CreateAccessKey on users outside /ixmage/test/"},
		{"all pictures", []string{examining, allow("s3:GetObject")}, Good, Warning, "s3:GetObject"},
		{"every role", []string{examining, allow("sts:AssumeRole")}, Good, Warning, "sts:AssumeRole"},
		{"may not simulate", nil, NotTried, NotTried, "iam:SimulatePrincipalPolicy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.provisioner(tt.more...)
			r := e.examine()
			want(t, r, RightsMissing, tt.missing)
			want(t, r, RightsTooBroad, tt.broad)
			text := fmt.Sprint(r.of(RightsMissing), r.of(RightsTooBroad))
			if !strings.Contains(text, tt.says) {
				t.Errorf("%s does not say %q", text, tt.says)
			}
		})
	}
	t.Run("a role with a path", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.provisioner(examining)
		e.signAsRole("other", "/team/", provisionerPolicy(t, examining))
		want(t, e.examine(), RightsMissing, Good)
	})
	t.Run("no such call", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.provisioner(examining)
		e.iam.SetFault(&iam.Fault{Code: "InvalidAction", Status: 400}, "SimulatePrincipalPolicy")
		r := e.examine()
		want(t, r, RightsMissing, NotTried, "SimulatePrincipalPolicy")
		want(t, r, RightsTooBroad, NotTried)
	})
}

// TestBoundary: whether there is one, and whether it allows more than is needed.
func TestBoundary(t *testing.T) {
	t.Parallel()
	narrow := copied(t, "boundary-policy.json")
	for _, tt := range []struct {
		name, document string
		edit           func(*env)
		state          FindingState
		says           string
	}{
		{"as documented", narrow, nil, Good, "no more"},
		{"everything", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`, nil, Bad, "* on *"},
		{"it may write", strings.Replace(narrow, `"s3:GetObject"`, `["s3:GetObject","s3:PutObject"]`, 1), nil, Bad, "s3:putobject"},
		{"other buckets", strings.ReplaceAll(narrow, "acme-*", "*"), nil, Warning, "s3:getobject on arn:aws:s3:::*/*"},
		{"sessions", strings.Replace(narrow, `"aws:TokenIssueTime": "true"`, `"aws:TokenIssueTime": "false"`, 1), nil, Warning, "TokenIssueTime"},
		{"another ARN", narrow, func(e *env) { e.cfg.Boundary = testBoundary + "-2" }, Bad, "no such policy"},
		{"unreadable", narrow, func(e *env) { e.iam.SetFault(&iam.Fault{Code: "AccessDenied"}, "GetPolicy") }, NotTried, "iam:GetPolicy"},
		{"none", narrow, func(e *env) { e.cfg.Boundary = "" }, Warning, "--iam-boundary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.provisioner(examining)
			e.iam.AddPolicy("/", "ixmage-boundary", tt.document)
			if tt.edit != nil {
				tt.edit(e)
			}
			want(t, e.examine(), Boundary, tt.state, tt.says)
		})
	}
	// AWS itself cannot be asked here: no credentials, and only what needs no call.
	for meant, state := range map[bool]FindingState{true: Warning, false: Bad} {
		e := &examination{cfg: &Config{NoBoundary: meant}}
		e.noBoundary("--iam-boundary", meant, "--iam-boundary", "--iam-no-boundary")
		want(t, newReport(time.Now(), e.findings), Boundary, state, "administrator")
	}
}

// TestBuckets: each bucket of an alias, and each server.
func TestBuckets(t *testing.T) {
	t.Parallel()
	anonymous := alias.CredentialRef{Anonymous: true}
	e := newEnv(t)
	e.iam.CreateBucket("acme-media")
	e.iam.CreateBucket("acme-far")
	e.iam.SetBucketRegion("acme-far", "eu-west-1")
	e.open("shop", "acme-media", anonymous)
	e.open("blog", "acme-media", anonymous, func(a *alias.Alias) { a.Prefix = "blog/" })
	e.open("far", "acme-far", anonymous)
	e.open("gone", "acme-gone", anonymous)
	dead := refusedURL(t)
	for _, name := range []string{"dead-1", "dead-2"} {
		e.open(name, "acme-"+name, anonymous, func(a *alias.Alias) { a.Endpoint = dead })
	}
	r := e.examine()
	got := map[string]Finding{}
	for _, f := range append(r.of(Bucket), r.of(Endpoint)...) {
		got[f.Subject] = f
	}
	for subject, w := range map[string]struct {
		state FindingState
		says  []string
	}{
		"acme-media in us-east-1":  {Good, []string{"blog, shop"}},
		"acme-far in us-east-1":    {Bad, []string{"eu-west-1", "set region"}},
		"acme-gone in us-east-1":   {Bad, []string{"the alias gone", "create the bucket"}},
		"acme-dead-1 in us-east-1": {NotTried, []string{"endpoint"}},
		"acme-dead-2 in us-east-1": {NotTried, []string{"endpoint"}},
		"S3 at " + e.iam.S3URL:     {Good, nil},
		"S3 at " + dead:            {Bad, []string{"check the endpoint"}},
	} {
		if got[subject].State != w.state {
			t.Errorf("%s: %+v, want %s", subject, got[subject], w.state)
		}
		wantText(t, got[subject], w.says...)
	}
	if len(got) != 7 || r.State != Bad {
		t.Errorf("%d findings, the report is %s", len(got), r.State)
	}
}

// TestClock: how far the clock of this host is off.
func TestClock(t *testing.T) {
	t.Parallel()
	for off, state := range map[time.Duration]FindingState{
		0: Good, 50 * time.Second: Good, 70 * time.Second: Warning, -200 * time.Second: Warning, 250 * time.Second: Bad, -time.Hour: Bad,
	} {
		e := newEnv(t)
		e.signAs(e.iam.Root)
		e.cfg.Now = func() time.Time { return time.Now().Add(off) }
		way := map[bool]string{true: "behind", false: "ahead"}[off < 0]
		if off == 0 {
			way = ""
		}
		want(t, e.examine(), Clock, state, way)
	}
}

// TestEndpoints: servers of IAM and STS that do not answer.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.provisioner(examining)
	e.cfg.STS = refusedURL(t)
	r := e.examine()
	for _, f := range r.of(Endpoint) {
		if state := map[bool]FindingState{true: Bad, false: Good}[strings.HasPrefix(f.Subject, "STS")]; f.State != state {
			t.Errorf("got %+v, want %s", f, state)
		}
	}
	want(t, r, OwnCredentials, NotTried, "endpoint")
	if len(r.of(Endpoint)) != 2 {
		t.Errorf("got %+v", r.of(Endpoint))
	}
}

// TestRoles: roles of credentials, with their external ids and without.
func TestRoles(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:iam::" + testAccount + ":role/"
	e := newEnv(t)
	kp := e.iam.AddUser("/", "server", "")
	e.signAs(kp)
	me := "arn:aws:iam::" + testAccount + ":user/server"
	e.iam.AddRole(iam.Role{Name: "pictures", Trust: iam.Trust("right-id", me)})
	e.iam.AddRole(iam.Role{Name: "pictures-open", Trust: iam.Trust("", me)})
	e.iam.AddRole(iam.Role{Name: "not-allowed", Trust: iam.Trust("", me)})
	e.iam.CreateBucket("acme-media")
	for name, r := range map[string][2]string{
		"right": {"pictures", "right-id"}, "wrong": {"pictures", "wrong-id"}, "open": {"pictures-open", "any-id"},
		"plain": {"pictures-open", ""}, "not-allowed": {"not-allowed", ""},
	} {
		role := alias.NewRole(arn + r[0])
		role.ExternalID = r[1]
		e.open(name, "acme-media", alias.CredentialRef{Temporary: role})
	}
	r := e.examine()
	states := map[string]string{}
	for _, f := range r.Findings {
		if f.Name == Role || f.Name == ExternalID {
			name, _, _ := strings.Cut(strings.TrimPrefix(f.Subject, "the credential "), ":")
			states[name] += string(f.Name) + " " + string(f.State) + " "
			wantText(t, f)
		}
		if strings.Contains(fmt.Sprint(f), "right-id") {
			t.Errorf("an external id is printed: %+v", f)
		}
	}
	for name, w := range map[string]string{
		"right": "role good external-id good ", "wrong": "role bad ", "open": "role good external-id warning ",
		"plain": "role good ", "not-allowed": "role bad ",
	} {
		if states[name] != w {
			t.Errorf("%s: %q, want %q", name, states[name], w)
		}
	}
	inTable(t, e.iam)
}

// nodes is a fleet.
type nodes struct {
	known []*alias.Node
	why   error
}

func (n *nodes) Stale() (time.Time, error) {
	return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), n.why
}
func (n *nodes) Known() []*alias.Node { return n.known }

// TestConfiguration: what flags allow, and what aliases use of it.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	const pictures = "arn:aws:iam::" + testAccount + ":role/pictures"
	for _, tt := range []struct {
		name  FindingName
		edit  func(*env)
		state FindingState
		says  string
	}{
		{AssumeRoles, nil, Good, "pictures*"},
		{AssumeRoles, func(e *env) { e.cfg.AssumeRoles = []string{"arn:aws:iam::123456789012:role/*"} }, Warning, "every role"},
		{AssumeRoles, func(e *env) { e.cfg.AssumeRoles = []string{"arn:aws:iam::*:role/pictures"} }, Warning, "every"},
		{AllowDefault, nil, Good, "off"},
		{AllowDefault, func(e *env) { e.cfg.AllowDefault = true }, Warning, "--allow-default-credential"},
		{AllowWideScope, nil, Good, "off"},
		{AllowWideScope, func(e *env) { e.cfg.AllowWideScope = true }, Warning, "--allow-wide-scope"},
		{AllowPrivate, nil, Good, "off"},
		{AllowPrivate, func(e *env) { e.cfg.AllowPrivate = true }, Warning, "private"},
		{AllowPrivate, func(e *env) {
			e.cfg.AllowPrivate = true
			e.open("shop", "acme-media", alias.CredentialRef{Anonymous: true})
		}, Good, "on"},
		{MasterKey, nil, Good, ""},
		{MasterKey, func(e *env) { e.cfg.KeysetBesideData = "/data/master.keyset" }, Warning, "/data/master.keyset"},
		{MasterKey, func(e *env) { e.cfg.KeysetBesideData, e.cfg.Fleet = "/data/master.keyset", &nodes{} }, Warning, "move the file"},
		{Store, func(e *env) { e.cfg.Fleet = &nodes{known: []*alias.Node{{Name: "a", Live: true}}} }, Good, "a"},
		{Store, func(e *env) {
			e.cfg.Fleet = &nodes{known: []*alias.Node{{Name: "a", Live: true}, {Name: "web-2"}}}
		}, Warning, "web-2"},
		{Store, func(e *env) { e.cfg.Fleet = &nodes{why: alias.ErrUnavailable} }, Bad, "since 2026-11-29T12:00:00Z"},
		{SessionPolicy, nil, Good, ""},
		{SessionPolicy, func(e *env) {
			e.cfg.AllowWideScope = true
			role := alias.NewRole(pictures)
			role.SessionPolicy = alias.SessionPolicyNone
			e.open("wide", "acme-media", alias.CredentialRef{Temporary: role})
		}, Warning, "wide"},
		{DefaultCredential, func(e *env) {
			e.cfg.AllowDefault = true
			e.open("own", "acme-media", alias.CredentialRef{Temporary: alias.Default{}})
		}, Warning, "own"},
	} {
		e := newEnv(t)
		if tt.edit != nil {
			tt.edit(e)
		}
		want(t, e.examine(), tt.name, tt.state, tt.says)
	}
}

// TestDocumented: docs/operations.md has a row for each name, and no other.
func TestDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Doctor\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []FindingName
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(section, -1) {
		rows = append(rows, FindingName(m[1]))
	}
	if !slices.Equal(rows, Names()) {
		t.Errorf("the table has %q, the code %q", rows, Names())
	}
}
