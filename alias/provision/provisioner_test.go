package provision

import (
	"errors"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/internal/awstest/iam"
)

const actor = "admin@127.0.0.1"

func TestProvisionOpens(t *testing.T) {
	t.Parallel()
	for name, lag := range map[string]time.Duration{"no lag": 0, "10 s": 10 * time.Second, "60 s": time.Minute} {
		for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged, alias.PolicyReadOnly} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				t.Parallel()
				w := newEnv(t, iam.Config{Lag: lag})
				p := w.start()
				req := w.request("shop", func(r *policy.Request) { r.Policy = mode })
				op := p.mustSucceed(p.Provision(t.Context(), actor, req))
				for _, s := range op.Steps {
					t.Logf("%-12s %-5s %s", s.Name, s.State, s.Detail)
				}
				w.wantSound(p, "shop")
				p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
				w.wantSound(p, "shop")
				if err := p.registry.DeleteAlias(t.Context(), "shop", 0); err != nil {
					t.Fatal(err)
				}
				p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
				if users := w.iam.Users(); len(users) != 0 {
					t.Errorf("left: %+v", users)
				}
				if policies := w.iam.Policies(); len(policies) != 0 {
					t.Errorf("policies left: %+v", policies)
				}
			})
		}
	}
}

// wantSound checks what must hold when nothing runs: users, keys and the
// registry agree, and every key works.
func (w *env) wantSound(p *process, names ...alias.Name) {
	w.t.Helper()
	w.clock.advance(time.Minute) // the longest lag
	users := map[string]int{}
	for _, u := range w.iam.Users() {
		if u.Path == policy.UserPath(testInstall) {
			users[u.Name] = len(w.iam.Keys(u.Name))
		}
	}
	for _, name := range names {
		a, err := p.registry.Alias(w.t.Context(), name)
		if err != nil {
			w.t.Fatal(err)
		}
		c, err := p.registry.Credential(w.t.Context(), a.Credential)
		if err != nil {
			w.t.Fatal(err)
		}
		prov, ok := c.Provisioned()
		if !ok || a.State != alias.StateActive || c.State != alias.CredentialActive || prov.Previous != nil {
			w.t.Errorf("alias %s is %s, credential %+v %+v", name, a.State, c, prov)
			continue
		}
		if n, ok := users[prov.User.Name]; !ok || n != 1 {
			w.t.Errorf("user %s: there is %v, with %d keys", prov.User.Name, ok, n)
		}
		w.wantReads(p, a, c)
		delete(users, prov.User.Name)
	}
	if len(users) > 0 {
		w.t.Errorf("users that no alias has: %v", users)
	}
}

// wantReads reads with the key that the registry has.
func (w *env) wantReads(p *process, a *alias.Alias, c *alias.Credential) {
	w.t.Helper()
	kp, err := p.registry.Reveal(c)
	if err != nil {
		w.t.Error(err)
		return
	}
	if err := scope.ReadByte(w.t.Context(), p.cfg.S3(a.Location, kp), a.Location, a.Prefix+"a.png"); err != nil {
		w.t.Errorf("the key of %s reads %s: %v", a.Name, a.Prefix, err)
	}
}

func TestProvisionSameRequest(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	first, err := p.Provision(t.Context(), actor, w.request("shop"))
	if err != nil {
		t.Fatal(err)
	}
	other := w.request("shop", func(r *policy.Request) { r.Prefix, r.Inside = "blog/", "blog/a.png" })
	again, err := p.Provision(t.Context(), actor, w.request("shop"))
	if err != nil || again.ID != first.ID {
		t.Errorf("while it runs: %v, %v; want %s", again, err, first.ID)
	}
	if _, err := p.Provision(t.Context(), actor, other); !errors.Is(err, alias.ErrBusy) {
		t.Errorf("another body while it runs: %v", err)
	}
	p.mustSucceed(first, nil)
	before := len(w.iam.Calls())
	again, err = p.Provision(t.Context(), actor, w.request("shop"))
	if err != nil || again.ID != first.ID || len(w.iam.Calls()) != before {
		t.Errorf("after it is done: %v, %v, %d calls", again, err, len(w.iam.Calls())-before)
	}
	if _, err := p.Provision(t.Context(), actor, other); !errors.Is(err, alias.ErrExists) {
		t.Errorf("another body after it is done: %v", err)
	}
}
