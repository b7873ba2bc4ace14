package provision

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/alias/session"
	fakeiam "ixmage/internal/awstest/iam"
)

// quietRecorder counts nothing.
type quietRecorder struct{}

func (quietRecorder) SessionRenewal(string) {}

// sessions gives a process the sessions of roles of the fake. own signs for the kind default.
func (w *env) sessions(own alias.KeyPair, change func(session.Keys) session.Keys) {
	w.edit = func(cfg *Config) {
		all := session.New(session.Config{
			Registry: cfg.Registry, Endpoint: w.iam.URL, InstallID: testInstall, Recorder: quietRecorder{},
			AWS:         aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(own.AccessKeyID, own.SecretAccessKey.Reveal(), "")},
			AssumeRoles: []string{"arn:aws:iam::" + testAccount + ":role/ixmage-*"}, AllowDefault: true, AllowWideScope: true,
		})
		w.t.Cleanup(all.Close)
		cfg.Sessions = changedKeys{all, change}
	}
}

// changedKeys changes the keys of sessions, as a mistake of theirs would.
type changedKeys struct {
	*session.Sessions

	change func(session.Keys) session.Keys
}

func (h changedKeys) Keys(ctx context.Context, r alias.Route) (session.Keys, error) {
	keys, err := h.Sessions.Keys(ctx, r)
	if err == nil && h.change != nil {
		keys = h.change(keys)
	}
	return keys, err
}

// roleAlias registers an alias whose credential is a role, or the default.
func (p *process) roleAlias(name alias.Name, with alias.Provider) {
	p.w.t.Helper()
	a := &alias.Alias{Name: name, Location: p.w.request(name).Location, Canary: "a.png", Enabled: true, State: alias.StateActive}
	if _, err := p.registry.CreateAlias(p.w.t.Context(), a, alias.CredentialRef{Temporary: with}); err != nil {
		p.w.t.Fatal(err)
	}
}

const (
	roleARN   = "arn:aws:iam::" + testAccount + ":role/ixmage-read"
	ownTrust  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + testAccount + `:root"},"Action":"sts:AssumeRole"}]}`
	openTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}`
)

// sessionRow is an alias with a role, and what verify finds of it.
type sessionRow struct {
	name   string
	role   []string // statements of the policy of the role
	trust  string
	with   func(*alias.Role)
	setUp  func(*env)
	change func(session.Keys) session.Keys
	blind  bool // the server may not read roles
	scope  alias.Verdict
	want   map[string]string // verdicts that a row is about
	detail string            // in some check
}

func sessionRows() []sessionRow {
	none := func(r *alias.Role) { r.SessionPolicy = alias.SessionPolicyNone }
	wide := []string{allowing("s3:*", "*"), allowing("iam:*", "*"), allowing("sts:AssumeRole", "*")}
	another := func(p func(*env) fakeiam.Session) (func(*env), func(session.Keys) session.Keys) {
		var x fakeiam.Session
		return func(w *env) { x = p(w) }, func(k session.Keys) session.Keys {
			k.Credentials, _ = x.Retrieve(context.Background())
			return k
		}
	}
	ofAnother, useAnother := another(func(w *env) fakeiam.Session {
		w.iam.AddRole(fakeiam.Role{Name: "other", Trust: ownTrust, Inline: map[string]string{"p": doc(readWeb)}})
		return w.iam.NewRoleSession("other", "ixmage-here-shop", 3600e9)
	})
	ofName, useName := another(func(w *env) fakeiam.Session { return w.iam.NewRoleSession("ixmage-read", "somebody", 3600e9) })
	all := map[string]string{scope.NameSessionPolicy: proves, scope.NameRolePolicy: proves, scope.NameRoleTrust: proves, scope.NameIdentity: proves}
	return []sessionRow{
		{name: "narrow role, narrow session", role: []string{readWeb}, scope: "proven", want: all, detail: "its role allows what the alias needs"},
		{name: "wide role, narrow session", role: wide, scope: "proven", want: all, detail: "s3:* on *"},
		{
			name: "wide role that cannot be read", role: wide, blind: true, scope: "weak", detail: "iam:GetRole",
			want: map[string]string{scope.NameSessionPolicy: proves, scope.NameRolePolicy: "weak", scope.NameRoleTrust: "weak"},
		},
		{
			name: "a role that anybody may assume", role: []string{readWeb}, trust: openTrust, scope: "weak", detail: "lets anybody assume it",
			want: map[string]string{scope.NameRoleTrust: "weak"},
		},
		{
			name: "a server that ignores session policies", role: wide, scope: violates, detail: "read objects outside",
			setUp: func(w *env) { w.iam.SetFault(fakeiam.DropPolicy(), "AssumeRole") },
			want: map[string]string{
				scope.NameSessionPolicy: proves, scope.NameReadOutside: violates, scope.NameIAMCreateKey: violates, scope.NameIAMOwnRights: violates,
				scope.NameAssumeRole: violates,
			},
		},
		{name: "a session of another role", role: []string{readWeb}, setUp: ofAnother, change: useAnother, scope: violates, want: map[string]string{scope.NameIdentity: violates}},
		{name: "a session of another name", role: []string{readWeb}, setUp: ofName, change: useName, scope: violates, want: map[string]string{scope.NameIdentity: violates}},
		{
			name: "a wider policy was sent", role: wide, scope: violates, want: map[string]string{scope.NameSessionPolicy: violates},
			change: func(k session.Keys) session.Keys {
				k.Policy = doc(readWeb, allowing("s3:GetObject", "arn:aws:s3:::"+testBucket+"/*"))
				return k
			},
		},
		{
			name: "the policy of another location was sent", role: wide, scope: "weak", want: map[string]string{scope.NameSessionPolicy: "weak"},
			change: func(k session.Keys) session.Keys {
				k.Policy = doc(allowing("s3:GetObject", "arn:aws:s3:::"+testBucket+"/web/old/*"))
				return k
			},
		},
		{
			name: "no session policy, wide role", role: wide, with: none, scope: violates, detail: "no session policy takes that away",
			want: map[string]string{scope.NameSessionPolicy: "weak", scope.NameRolePolicy: violates, scope.NameReadOutside: violates},
		},
		{
			name: "no session policy, another service", role: []string{readWeb, allowing("sqs:*", "*")}, with: none, scope: violates,
			want: map[string]string{scope.NameRolePolicy: violates},
		},
		{name: "no session policy, narrow role", role: []string{readWeb}, with: none, scope: "weak", want: map[string]string{scope.NameSessionPolicy: "weak", scope.NameRolePolicy: proves}},
		{name: "no session policy, unread role", role: []string{readWeb}, with: none, blind: true, scope: unproven, want: map[string]string{scope.NameRolePolicy: unproven}},
	}
}

// TestVerifySessions: verify signs with the session of the alias, and finds what that may do: from
// what STS was sent, from the role in IAM, and from probes, without which a server that ignores
// session policies would not be found.
func TestVerifySessions(t *testing.T) {
	t.Parallel()
	for _, row := range sessionRows() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, fakeiam.Config{PageLimit: 1})
			trust := ownTrust
			if row.trust != "" {
				trust = row.trust
			}
			w.iam.AddRole(fakeiam.Role{Name: "ixmage-read", Trust: trust, Inline: map[string]string{"p": doc(row.role...)}})
			if row.setUp != nil {
				row.setUp(w)
			}
			w.sessions(w.iam.AddUser("/", "server", doc(allowing("sts:AssumeRole", "*"))), row.change)
			if row.blind {
				w.power = w.iam.AddUser("/", "blind", doc(allowing("iam:ListUsers", "*")))
			}
			p := w.start()
			role := alias.NewRole(roleARN)
			if row.with != nil {
				row.with(&role)
			}
			p.roleAlias("shop", role)
			v, got := p.verified("shop")
			if v.Scope() != row.scope {
				t.Errorf("scope %s, want %s", v.Scope(), row.scope)
			}
			for name, want := range row.want {
				if have, _, _ := strings.Cut(got[name], " "); have != want {
					t.Errorf("%s: %q, want %q", name, got[name], want)
				}
			}
			if !slices.ContainsFunc(v.Checks, func(c alias.Check) bool { return strings.Contains(c.Detail, row.detail) }) {
				t.Errorf("%q is in no detail", row.detail)
			}
			for _, c := range w.iam.Calls() {
				if c.Service == "s3" && c.AccessKeyID == "" {
					t.Errorf("%s is not signed", c.Action)
				}
			}
			if c, err := p.registry.Credential(t.Context(), "shop"); err != nil || c.Scope != string(row.scope) {
				t.Errorf("the credential has the scope %q: %v", c.Scope, err)
			}
			if t.Failed() {
				for _, c := range v.Checks {
					t.Logf("%s: %s, %s, %s: %s", c.Name, c.Verdict, c.Evidence, c.Got, c.Detail)
				}
				t.Log(v.NotTried)
			}
		})
	}
}

// TestVerifyDefault: the server's own credentials are broader than an alias needs, which verify says.
func TestVerifyDefault(t *testing.T) {
	t.Parallel()
	w := newEnv(t, fakeiam.Config{})
	w.sessions(w.iam.AddUser("/", "server", doc(allowing("s3:*", "*"))), nil)
	p := w.start()
	p.roleAlias("shop", alias.Default{})
	v, got := p.verified("shop")
	if v.Scope() != alias.VerdictViolated || got[scope.NamePolicies] != "violated control-plane" || got[scope.NameReadOutside] != "violated probe" {
		t.Errorf("scope %s: %v", v.Scope(), got)
	}
	if !slices.ContainsFunc(v.Checks, func(c alias.Check) bool { return strings.Contains(c.Detail, "use a role") }) {
		t.Errorf("no check advises to use a role: %+v", v.Checks)
	}
}

// TestVerifyNoSession: where there is no session, or none may be made, verify proves nothing and
// stores nothing.
func TestVerifyNoSession(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		role string
		want error
	}{
		{roleARN, alias.ErrSTS}, // there is no such role
		{"arn:aws:iam::" + testAccount + ":role/outside", alias.ErrForbidden},
	} {
		w := newEnv(t, fakeiam.Config{})
		w.sessions(w.iam.AddUser("/", "server", doc(allowing("sts:AssumeRole", "*"))), nil)
		p := w.start()
		p.roleAlias("shop", alias.NewRole(row.role))
		_, err := p.Verify(t.Context(), actor, "shop", policy.Probe{})
		if !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.role, err, row.want)
		}
		if c, err := p.registry.Credential(t.Context(), "shop"); err != nil || c.Scope != "" {
			t.Errorf("%s: scope %q: %v", row.role, c.Scope, err)
		}
	}
}

// TestVerifyMoved: what was proven of an alias with a role does not count after a change of its
// location. A key that an operator gave keeps it, and so does an alias that did not move.
func TestVerifyMoved(t *testing.T) {
	t.Parallel()
	w := newEnv(t, fakeiam.Config{})
	w.iam.AddRole(fakeiam.Role{Name: "ixmage-read", Trust: ownTrust, Inline: map[string]string{"p": doc(allowing("s3:*", "*"))}})
	w.sessions(w.iam.AddUser("/", "server", doc(allowing("sts:AssumeRole", "*"))), nil)
	p := w.start()
	p.roleAlias("shop", alias.NewRole(roleARN))
	p.paste("given", w.iam.AddUser("/", "given", doc(readWeb)))
	for _, row := range []struct {
		name   alias.Name
		prefix string
		keeps  bool
	}{{"shop", "web/", true}, {"given", "blog/", true}, {"shop", "blog/", false}} {
		v, _ := p.verified(row.name)
		a, err := p.registry.UpdateAlias(t.Context(), row.name, 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
			a.Prefix, a.TTL = row.prefix, a.TTL+1e9
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_, missing := w.store.Verification(t.Context(), a.ID)
		c, err := p.registry.Credential(t.Context(), row.name)
		if err != nil || (missing == nil) != row.keeps || (c.Scope == string(v.Scope())) != row.keeps || c.VerifiedAt.IsZero() == row.keeps {
			t.Errorf("%s in %s: scope %q, verification %v: %v", row.name, row.prefix, c.Scope, missing, err)
		}
		if mem, ok := p.registry.CredentialInMemory(row.name); !ok || mem.Scope != c.Scope {
			t.Errorf("%s in memory: %q, want %q", row.name, mem.Scope, c.Scope)
		}
	}
	if v, _ := p.verified("shop"); v.Scope() != alias.VerdictProven {
		t.Errorf("in its new location: %s %+v", v.Scope(), v.Checks)
	}
}
