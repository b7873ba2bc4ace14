package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/sqlstore"
	"ixmage/internal/awstest/iam"
)

// backup opens a copy of the current database.
func (w *env) backup() alias.Store { //nolint:ireturn // as env.store is
	w.t.Helper()
	dir := quickDir(w.t)
	for _, name := range []string{"registry.db", "registry.db-wal"} {
		text, err := os.ReadFile(filepath.Join(w.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	store, err := sqlstore.OpenSQLite(w.t.Context(), filepath.Join(dir, "registry.db"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = store.Close() })
	return store
}

// startOn starts a process with another database.
func (w *env) startOn(store alias.Store) *process {
	live := w.store
	defer func() { w.store = live }()
	w.store = store
	return w.start()
}

// wantServed wants the aliases to be read with the keys that a process has.
func (p *process) wantServed(names ...alias.Name) {
	p.w.t.Helper()
	for _, name := range names {
		a, err := p.registry.Alias(p.w.t.Context(), name)
		if err != nil {
			p.w.t.Error(err)
			continue
		}
		c, _ := p.provisioned(name)
		if a.State != alias.StateActive || c.State != alias.CredentialActive {
			p.w.t.Errorf("alias %s is %s, its credential %s", name, a.State, c.State)
		}
		p.w.wantReads(p, a, c)
	}
}

// TestRestoredBeforeRotation: a copy from before the rotations does not know the current
// keys. It sees that another registry wrote the generation of the users, says so, and changes
// nothing, however often it reconciles.
func TestRestoredBeforeRotation(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	names := []alias.Name{"shop", "web", "blog"}
	for _, name := range names {
		p.mustSucceed(p.Provision(t.Context(), actor, w.request(name)))
	}
	old := w.backup()
	for _, name := range names {
		p.mustSucceed(p.Rotate(t.Context(), actor, name, false))
	}
	w.clock.advance(2 * time.Hour)
	q := w.startOn(old)
	q.quiet()
	p.wantServed(names...)
	reported := 0
	for _, o := range q.report().Orphans {
		if o.Kind == orphanCopied && o.State == stateReported {
			reported++
		}
	}
	if reported != len(names) {
		t.Errorf("report: %+v, want the %d users", q.report(), len(names))
	}
}

// TestRestoredMakesUserAgain: a copy from the time of a provisioning makes the user again that the
// original has removed since. The original makes its key inactive, which was used, and names the
// user. Only an operator deletes it.
func TestRestoredMakesUserAgain(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	op, err := p.Provision(t.Context(), actor, w.request("shop"))
	if err != nil {
		t.Fatal(err)
	}
	old := w.backup()
	p.mustSucceed(op, nil)
	p.deleteAlias("shop")
	p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
	w.clock.advance(2 * time.Minute)
	q := w.startOn(old)
	q.drive()
	_, made := q.provisioned("shop")
	q.proc.kill()
	p.quiet()
	keys := w.iam.Keys(made.User.Name)
	if len(keys) != 1 || keys[0].Active || keys[0].LastUsed.IsZero() {
		t.Errorf("keys %+v, want one that was used and is inactive", keys)
	}
	if o, ok := p.reported(orphanUser, made.User.Name); !ok || o.State != stateReported {
		t.Errorf("report: %+v, want the user %s", p.report(), made.User.Name)
	}
	if err := p.RemoveOrphan(t.Context(), actor, "", made.User.Name); err != nil {
		t.Error(err)
	}
	if users := w.iam.Users(); len(users) > 0 {
		t.Errorf("left: %+v", users)
	}
}

// interrupted is a database in which the provisioning of shop has died at its nth
// write, and a process that has finished it since.
func (w *env) interrupted(n int) (old alias.Store, live *process) { //nolint:ireturn // likewise
	w.t.Helper()
	p := w.start()
	p.store.at = n
	if _, err := p.Provision(p.proc.ctx, actor, w.request("shop")); err != nil {
		w.t.Fatal(err)
	}
	p.drive()
	old = w.backup()
	live = w.start()
	live.drive()
	w.clock.advance(24 * time.Hour)
	live.wantServed("shop")
	return old, live
}

// TestRestoredWhileProvisioning: a copy in which a provisioning still runs continues it.
// Whatever the outcome, the key that is in use must stay.
func TestRestoredWhileProvisioning(t *testing.T) {
	t.Parallel()
	for n := 5; n < 16; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			old, live := w.interrupted(n)
			w.startOn(old).drive()
			live.wantServed("shop")
		})
	}
}

// TestRestoredUndoes: a copy whose provisioning fails now must not delete the user of the
// live database, where the provisioning has finished.
func TestRestoredUndoes(t *testing.T) {
	t.Parallel()
	for n := 5; n < 16; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			old, live := w.interrupted(n)
			w.deny("PutUserPolicy", "GetUserPolicy", "CreateAccessKey")
			w.startOn(old).drive()
			w.iam.OnCall(nil)
			live.wantServed("shop")
		})
	}
}

// TestRestoredFromBeforeAll: a registry without users reports all users as unknown and
// changes none, however long they have not been used.
func TestRestoredFromBeforeAll(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	old := w.backup()
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	w.clock.advance(8 * 24 * time.Hour)
	q := w.startOn(old)
	q.reconcile(t.Context())
	p.wantServed("shop")
	if r := q.report(); r.Skipped == "" || len(r.Orphans) != 1 || r.Orphans[0].State != stateReported {
		t.Errorf("report: %+v", r)
	}
}

// TestRestoredWhileRunning: a copy in which a rotation or a reuse still runs continues it after the
// live registry has finished it. Whatever the copy then meets, what the live registry serves
// is served on.
func TestRestoredWhileRunning(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*process) (*alias.Operation, error){
		"rotation": func(p *process) (*alias.Operation, error) { return p.Rotate(p.proc.ctx, actor, "shop", false) },
		"reuse": func(p *process) (*alias.Operation, error) {
			return p.Provision(p.proc.ctx, actor, p.w.request("blog", reusing("shop")))
		},
	} {
		for n := 2; n < 16; n++ {
			for _, fails := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/%v", name, n, fails), func(t *testing.T) {
					t.Parallel()
					w := newEnv(t, iam.Config{LastUsedValueLag: 4 * time.Hour})
					hasShop(alias.PolicyInline)(w.start())
					w.clock.advance(time.Hour)
					p := w.start()
					p.store.at = n
					if op, err := begin(p); err != nil || op == nil {
						t.Skip("the operation has not begun")
					}
					p.drive()
					if p.proc.ctx.Err() == nil {
						t.Skip("the operation has ended before")
					}
					old := w.backup()
					live := w.start()
					live.drive()
					served := []alias.Name{"shop"}
					if a, err := live.registry.Alias(t.Context(), "blog"); err == nil && a.State == alias.StateActive {
						served = append(served, "blog")
					}
					if fails {
						w.iam.OnCall(func(c iam.Call) *iam.Fault {
							if c.Service == "s3" {
								return iam.Fail("InvalidAccessKeyId")
							}
							return nil
						})
					}
					restored := w.startOn(old)
					restored.drive()
					restored.reconcile(t.Context())
					w.iam.OnCall(nil)
					for _, name := range served {
						a, err := live.registry.Alias(t.Context(), name)
						if err != nil {
							t.Fatal(err)
						}
						c, _ := live.provisioned("shop")
						w.wantReads(live, a, c)
					}
				})
			}
		}
	}
}
