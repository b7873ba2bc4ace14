package provision

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/internal/awstest/iam"
)

// byHand is the user that an operator made.
const byHand = "ixmage-s3read"

const readWebOnly = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::media/web/*"}]}`

// adopting is an env with a user that an operator made, with a key and a policy for a mode.
func adopting(t *testing.T, mode alias.PolicyMode) (*env, alias.KeyPair) {
	t.Helper()
	w := newEnv(t, iam.Config{})
	pair := w.addByHand(mode)
	return w, pair
}

func (w *env) addByHand(mode alias.PolicyMode) alias.KeyPair {
	w.t.Helper()
	w.edit = func(cfg *Config) { cfg.Adopt = []string{"ixmage-s3*"} }
	document := ""
	if mode == alias.PolicyInline {
		document = readWebOnly
	}
	pair := w.iam.AddUser("/", byHand, document)
	switch mode {
	case alias.PolicyReadOnly:
		w.iam.AttachPolicy(byHand, policy.ReadOnlyARN("aws"))
	case alias.PolicyManaged:
		w.iam.AttachPolicy(byHand, w.iam.AddPolicy("/", "my-own-name", readWebOnly))
	case alias.PolicyInline:
	}
	w.iam.ChangeUser(byHand, func(u *iam.User) { u.Tags = map[string]string{"team": "web"} })
	w.clock.advance(time.Hour)
	return pair
}

// hasByHand is a user that an operator made, whose key serves shop.
func hasByHand(mode alias.PolicyMode) func(*process) {
	return func(p *process) {
		p.pasteShop(p.w.addByHand(mode))
		p.w.iam.ChangeUser(byHand, func(u *iam.User) { // less than ours, which is put
			u.Inline, u.Attached = map[string]string{"test": strings.ReplaceAll(readWebOnly, "web/*", "web/a.png")}, nil
		})
		boundary := p.w.iam.AddPolicy("/", "ixmage-boundary", strings.ReplaceAll(readWebOnly, "media/web/", ""))
		edit := p.w.edit
		p.w.edit = func(cfg *Config) { edit(cfg); cfg.Boundary = boundary }
		p.w.edit(&p.cfg)
	}
}

func hasAdopted(mode alias.PolicyMode) func(*process) {
	return func(p *process) {
		hasByHand(mode)(p)
		p.mustSucceed(provisionWith("shop", adopt, withPolicy(mode))(p, p.w.t.Context()))
	}
}

func adopt(r *policy.Request) { r.Adopt = byHand }

// paste registers the alias shop with a key pair.
func (p *process) pasteShop(pair alias.KeyPair) {
	p.w.t.Helper()
	at := alias.New()
	at.Name, at.State, at.Location, at.Canary = "shop", alias.StateActive, p.w.request("shop").Location, "a.png"
	if _, err := p.registry.CreateAlias(p.w.t.Context(), at, alias.CredentialRef{KeyPair: &pair}); err != nil {
		p.w.t.Fatal(err)
	}
}

// userState is all that IAM has of a user.
func (w *env) userText(name string) string {
	w.t.Helper()
	user, _ := w.iam.User(name)
	if len(user.Attached) == 0 {
		user.Attached = nil
	}
	text, err := json.MarshalIndent([]any{user, w.iam.Keys(name)}, "", " ")
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func (w *env) wantAsBefore(before string) {
	w.t.Helper()
	if diff := cmp.Diff(before, w.userText(byHand)); diff != "" {
		w.t.Errorf("the user is not as it was (-before +now):\n%s", diff)
	}
}

// TestAdopt adopts a user in each mode, with and without an alias that its key serves.
// Removal leaves the user as it was.
func TestAdopt(t *testing.T) {
	t.Parallel()
	for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged, alias.PolicyReadOnly} {
		for _, serving := range []bool{false, true} {
			for _, plain := range []bool{false, true} { // without any policy
				t.Run(string(mode), func(t *testing.T) {
					t.Parallel()
					w, pair := adopting(t, mode)
					if plain {
						w.iam.ChangeUser(byHand, func(u *iam.User) { u.Inline, u.Attached = map[string]string{}, nil })
					}
					before, policies := w.userText(byHand), len(w.iam.Policies())
					p := w.start()
					name := alias.Name("shop")
					if serving {
						p.pasteShop(pair)
						name = "shop-adopted"
					}
					begin := provisionWith("shop", adopt, withPolicy(mode))
					op := p.mustSucceed(begin(p, t.Context()))
					c, prov := p.provisioned(name)
					a, err := p.registry.Alias(t.Context(), "shop")
					if err != nil || a.Credential != name || a.CredentialID != c.ID || a.State != alias.StateActive {
						t.Fatalf("alias %+v, %v", a, err)
					}
					w.wantReads(p, a, c)
					if _, err := p.registry.Credential(t.Context(), "shop"); serving && !errors.Is(err, alias.ErrNotFound) {
						t.Errorf("the key pair that nothing uses is still registered: %v", err)
					}
					if prov.User.Path != "/" || prov.User.ID == "" || prov.Adopted.AccessKeyID != pair.AccessKeyID || prov.Adopted.Since.IsZero() {
						t.Errorf("provider %+v, %+v", prov, prov.Adopted)
					}
					user, _ := w.iam.User(byHand)
					for key, value := range prov.Tags {
						if user.Tags[key] != value {
							t.Errorf("tag %s: %q, want %q", key, user.Tags[key], value)
						}
					}
					if user.Tags["team"] != "web" || user.Tags[policy.TagGeneration] != prov.Generation {
						t.Errorf("tags %v, generation %s", user.Tags, prov.Generation)
					}
					if again, err := begin(p, t.Context()); err != nil || again.ID != op.ID {
						t.Errorf("the same request again: %+v, %v, want %s", again, err, op.ID)
					}
					p.quiet()
					if len(p.report().Orphans) > 0 || p.report().Skipped != "" {
						t.Errorf("orphans: %+v", p.report())
					}
					p.deleteAlias("shop")
					p.mustSucceed(p.Remove(t.Context(), actor, name, 0))
					w.wantAsBefore(before)
					if n := len(w.iam.Policies()); n != policies {
						t.Errorf("%d policies, and %d before", n, policies)
					}
				})
			}
		}
	}
}

// TestAdoptRefused: a user that has what is not ours to own is not changed, and the error says
// what it is.
func TestAdoptRefused(t *testing.T) {
	t.Parallel()
	change := func(fn func(*iam.User)) func(*env) { return func(w *env) { w.iam.ChangeUser(byHand, fn) } }
	tags := func(install, operation string) func(*env) {
		return change(func(u *iam.User) {
			u.Tags = map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: install, policy.TagOperation: operation}
		})
	}
	for _, tt := range []struct {
		name   string
		spoil  func(*env)
		edit   func(*policy.Request)
		code   string
		detail string
	}{
		{"no user", func(w *env) { w.iam.RemoveUser(byHand) }, nil, codeUserMissing, byHand},
		{"password", func(w *env) { w.iam.AddLoginProfile(byHand) }, nil, codeNotAdoptable, "password"},
		{"group", func(w *env) { w.iam.AddToGroup(byHand, "admins") }, nil, codeNotAdoptable, "admins"},
		{"MFA device", change(func(u *iam.User) { u.MFADevices = []string{"arn:aws:iam::1:mfa/x"} }), nil, codeNotAdoptable, "MFA"},
		{"two keys", func(w *env) { w.iam.AddKey(byHand) }, nil, codeNotAdoptable, "two access keys"},
		{"another installation", tags("elsewhere", "op-1"), nil, codeNotAdoptable, "elsewhere"},
		{"another registry", tags(testInstall, "op-1"), nil, codeNotAdoptable, "op-1"},
		{"another boundary", func(w *env) {
			arn := w.iam.AddPolicy("/", "their-boundary", readWebOnly)
			w.iam.ChangeUser(byHand, func(u *iam.User) { u.Boundary = arn })
		}, nil, codeNotAdoptable, "their-boundary"},
		{"wider inline", func(w *env) {
			w.iam.PutPolicy(byHand, "more", strings.ReplaceAll(readWebOnly, "media/web", "media"))
		}, nil, codeScope, "more"},
		{"wider managed", func(w *env) { w.iam.AttachPolicy(byHand, policy.ReadOnlyARN("aws")) }, nil, codeScope, "AmazonS3ReadOnlyAccess"},
		{"our inline, another document", func(w *env) {
			w.iam.PutPolicy(byHand, policy.InlineName, strings.ReplaceAll(readWebOnly, "web/*", "web/a*"))
		}, nil, codeNotAdoptable, policy.InlineName},
		{"leaked", func(w *env) {
			w.iam.AttachPolicy(byHand, "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3")
		}, nil, codeScope, "in public"},
		{"another tag", func(*env) {}, func(r *policy.Request) { r.Tags = map[string]string{"Team": "shop"} }, codeNotAdoptable, "team"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := adopting(t, alias.PolicyInline)
			edit := w.edit
			w.edit = func(cfg *Config) { edit(cfg); cfg.TagKeys = []string{"Team"} }
			tt.spoil(w)
			before := w.userText(byHand)
			p := w.start()
			edits := []func(*policy.Request){adopt}
			if tt.edit != nil {
				edits = append(edits, tt.edit)
			}
			why := p.mustFail(p.Provision(t.Context(), actor, w.request("shop", edits...)))
			if why.Code != tt.code || why.Step != stepAdoptUser || !strings.Contains(why.Detail, tt.detail) {
				t.Errorf("got %+v, want %s with %q", why, tt.code, tt.detail)
			}
			w.wantAsBefore(before)
			for _, c := range w.iam.Calls() {
				if c.AccessKeyID == w.power.AccessKeyID && c.Service == "iam" && !strings.HasPrefix(c.Action, "Get") && !strings.HasPrefix(c.Action, "List") {
					t.Errorf("%s was called", c.Action)
				}
			}
		})
	}
}

// TestAdoptOfAnotherKey: the alias is served with a key of another user, or has another place,
// so that it is not the one to go on.
func TestAdoptOfAnotherKey(t *testing.T) {
	t.Parallel()
	w, pair := adopting(t, alias.PolicyInline)
	p := w.start()
	p.pasteShop(w.iam.AddUser("/", "other", readWebOnly))
	why := p.mustFail(p.Provision(t.Context(), actor, w.request("shop", adopt)))
	if why.Code != codeNotAdoptable || !strings.Contains(why.Detail, "no key of this user") {
		t.Errorf("got %+v", why)
	}
	p.deleteAlias("shop")
	p.pasteShop(pair)
	_, err := p.Provision(t.Context(), actor, w.request("shop", adopt, func(r *policy.Request) { r.Prefix, r.Inside = "blog/", "blog/a.png" }))
	if !errors.Is(err, alias.ErrExists) || !strings.Contains(err.Error(), "another location") {
		t.Errorf("another location: %v", err)
	}
	if _, err := p.Provision(t.Context(), actor, w.request("shop")); !errors.Is(err, alias.ErrExists) {
		t.Errorf("without adopt: %v", err)
	}
}

// TestAdoptBoundary: a user without a boundary gets the one of this server, and loses it with
// the credential, unless this server may not remove it.
func TestAdoptBoundary(t *testing.T) {
	t.Parallel()
	for _, denied := range []bool{false, true} {
		w, pair := adopting(t, alias.PolicyInline)
		edit := w.edit
		arn := w.iam.AddPolicy("/", "ixmage-boundary", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}`)
		w.edit = func(cfg *Config) { edit(cfg); cfg.Boundary = arn }
		before := w.userText(byHand)
		p := w.start()
		p.pasteShop(pair)
		p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", adopt)))
		if user, _ := w.iam.User(byHand); user.Boundary != arn {
			t.Errorf("boundary %q, want %s", user.Boundary, arn)
		}
		p.reconcile(t.Context())
		if len(p.report().Orphans) > 0 {
			t.Errorf("orphans: %+v", p.report().Orphans)
		}
		p.deleteAlias("shop")
		if !denied {
			p.mustSucceed(p.Remove(t.Context(), actor, "shop-adopted", 0))
			w.wantAsBefore(before)
			continue
		}
		w.deny("DeleteUserPermissionsBoundary")
		op := p.mustSucceed(p.Remove(t.Context(), actor, "shop-adopted", 0))
		if detail := op.Steps[len(op.Steps)-1].Detail; !strings.Contains(detail, "iam:DeleteUserPermissionsBoundary") {
			t.Errorf("detail %q", detail)
		}
		w.iam.ChangeUser(byHand, func(u *iam.User) { u.Boundary = "" })
		w.wantAsBefore(before)
	}
}

// TestAdoptedRotation: the key that the user had takes the place of a new one, so a rotation
// names it and stops. When an operator has deleted it, rotation and emergency work.
func TestAdoptedRotation(t *testing.T) {
	t.Parallel()
	w, pair := adopting(t, alias.PolicyInline)
	p := w.start()
	p.pasteShop(pair)
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", adopt)))
	for _, emergency := range []bool{false, true} {
		before := w.iam.Keys(byHand)
		why := p.mustFail(p.Rotate(t.Context(), actor, "shop-adopted", emergency))
		wantCode(t, why, codeUnknownKeys)
		if !strings.Contains(why.Detail, pair.AccessKeyID) || !strings.Contains(why.Detail, "before it was adopted") {
			t.Errorf("detail %q", why.Detail)
		}
		if emergency != strings.Contains(why.Detail, "update-access-key") {
			t.Errorf("emergency %v: detail %q", emergency, why.Detail)
		}
		if !slices.Equal(before, w.iam.Keys(byHand)) {
			t.Errorf("keys %+v, before %+v", w.iam.Keys(byHand), before)
		}
	}
	w.iam.RemoveKey(pair.AccessKeyID)
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop-adopted", false))
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop-adopted", true))
	a, err := p.registry.Alias(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	c, _ := p.provisioned("shop-adopted")
	w.wantReads(p, a, c)
	p.quiet()
	if len(p.report().Orphans) > 0 {
		t.Errorf("orphans: %+v", p.report().Orphans)
	}
}

// TestEmergencyBesideKeptKey: if our key is gone and the key of before is not, an emergency
// replaces ours, and says that the other one stays.
func TestEmergencyBesideKeptKey(t *testing.T) {
	t.Parallel()
	w, pair := adopting(t, alias.PolicyInline)
	p := w.start()
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", adopt)))
	_, prov := p.provisioned("shop")
	w.iam.RemoveKey(prov.AccessKeyID)
	op := p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true))
	said := slices.ContainsFunc(op.Steps, func(s alias.Step) bool {
		return strings.Contains(s.Detail, pair.AccessKeyID) && strings.Contains(s.Detail, "stays")
	})
	if !said {
		t.Errorf("no step says that %s stays: %+v", pair.AccessKeyID, op.Steps)
	}
	keys := w.iam.Keys(byHand)
	if !slices.ContainsFunc(keys, func(k iam.Key) bool { return k.ID == pair.AccessKeyID && k.Active }) || len(keys) != 2 {
		t.Errorf("keys %+v", keys)
	}
}

// TestRetire: with retire the key that the user had becomes inactive a day after the swap, if
// IAM shows no use of it since. It is never deleted.
func TestRetire(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		retire bool
		used   bool // after the swap
		again  bool // by another alias
		active bool
	}{
		{"retire", true, false, false, false},
		{"not asked for", false, false, false, true},
		{"used since", true, true, false, true},
		{"another alias", true, false, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, pair := adopting(t, alias.PolicyInline)
			p := w.start()
			p.pasteShop(pair)
			if tt.again {
				at := alias.New()
				at.Name, at.State, at.Location = "more", alias.StateActive, w.request("more").Location
				if _, err := p.registry.CreateAlias(t.Context(), at, alias.CredentialRef{Name: "shop"}); err != nil {
					t.Fatal(err)
				}
			}
			p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", adopt, func(r *policy.Request) { r.Retire = tt.retire })))
			active := func() bool {
				return slices.ContainsFunc(w.iam.Keys(byHand), func(k iam.Key) bool { return k.ID == pair.AccessKeyID && k.Active })
			}
			if tt.used {
				w.clock.advance(time.Hour)
				if err := scope.ReadByte(t.Context(), w.iam.S3Client(pair), w.request("shop").Location, "web/a.png"); err != nil {
					t.Fatal(err)
				}
			}
			w.clock.advance(23 * time.Hour)
			p.reconcile(t.Context())
			if !active() {
				t.Fatal("inactive within a day")
			}
			w.clock.advance(26 * time.Hour)
			p.reconcile(t.Context())
			if active() != tt.active {
				t.Errorf("active %v, want %v", active(), tt.active)
			}
			w.clock.advance(100 * 24 * time.Hour)
			p.reconcile(t.Context())
			if len(w.iam.Keys(byHand)) != 2 || len(p.report().Orphans) > 0 {
				t.Errorf("keys %+v, orphans %+v", w.iam.Keys(byHand), p.report().Orphans)
			}
			list, err := w.store.Audit(t.Context(), 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			named := slices.ContainsFunc(list, func(e *alias.AuditEntry) bool {
				return e.Action == "iam:UpdateAccessKey" && e.AccessKeyID == pair.AccessKeyID && e.Actor == reconciler
			})
			if named == tt.active {
				t.Errorf("in the audit: %v", named)
			}
		})
	}
}

// TestAdoptUndone: an adoption that fails takes back all that it did, at once or by reconcile.
func TestAdoptUndone(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"TagUser", "PutUserPolicy", "CreateAccessKey"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			w, pair := adopting(t, alias.PolicyReadOnly)
			w.iam.ChangeUser(byHand, func(u *iam.User) { u.Attached = nil })
			before := w.userText(byHand)
			p := w.start()
			p.pasteShop(pair)
			w.deny(action)
			p.mustFail(p.Provision(t.Context(), actor, w.request("shop", adopt)))
			w.wantAsBefore(before)
			a, err := p.registry.Alias(t.Context(), "shop")
			if err != nil || a.Credential != "shop" || a.State != alias.StateActive {
				t.Errorf("alias %+v, %v", a, err)
			}
			w.iam.OnCall(nil)
			p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", adopt)))
		})
	}
	// The undo fails too.
	w, _ := adopting(t, alias.PolicyInline)
	before := w.userText(byHand)
	p := w.start()
	w.deny("CreateAccessKey", "UntagUser")
	p.mustFail(p.Provision(t.Context(), actor, w.request("shop", adopt)))
	if _, err := p.Provision(t.Context(), actor, w.request("shop", adopt)); !errors.Is(err, alias.ErrBusy) {
		t.Errorf("before the user is given back: %v", err)
	}
	p.reconcile(t.Context())
	if len(p.report().Orphans) != 1 || p.report().Orphans[0].User != byHand {
		t.Errorf("orphans %+v", p.report().Orphans)
	}
	w.iam.OnCall(nil)
	p.reconcile(t.Context())
	w.wantAsBefore(before)
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", adopt)))
}

// TestReleaseWithoutUntag: a server that cannot remove tags keeps no user from being given back.
func TestReleaseWithoutUntag(t *testing.T) {
	t.Parallel()
	w, pair := adopting(t, alias.PolicyInline)
	p := w.start()
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", adopt)))
	p.deleteAlias("shop")
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "UntagUser" {
			return iam.NotImplemented()
		}
		return nil
	})
	op := p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
	if detail := op.Steps[len(op.Steps)-1].Detail; !strings.Contains(detail, "its tags stay") {
		t.Errorf("detail %q", detail)
	}
	if keys := w.iam.Keys(byHand); len(keys) != 1 || keys[0].ID != pair.AccessKeyID {
		t.Errorf("keys %+v, want %s alone", keys, pair.AccessKeyID)
	}
	p.quiet()
	if len(p.report().Orphans) > 0 {
		t.Errorf("orphans: %+v", p.report())
	}
}
