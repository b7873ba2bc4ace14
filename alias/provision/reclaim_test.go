package provision

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// reclaim wants the registry of a process to get the user of shop back.
func (p *process) reclaim() {
	p.w.t.Helper()
	c, err := p.Reclaim(p.w.t.Context(), actor, "shop")
	if err != nil {
		p.w.t.Fatal(err)
	}
	stored, prov := p.provisioned("shop")
	if c.Revision != stored.Revision {
		p.w.t.Errorf("revision %d, and %d is stored", c.Revision, stored.Revision)
	}
	if u, _ := p.w.iam.User(prov.User.Name); u.Tags[policy.TagGeneration] != prov.Generation || !prov.GenerationSeen {
		p.w.t.Errorf("the user has the tags %v, and the registry %s (seen %v)", u.Tags, prov.Generation, prov.GenerationSeen)
	}
}

// wantCopied wants a registry to change nothing of the user of shop: operations fail and
// name the way out, and reconcile reports it.
func (p *process) wantCopied() {
	p.w.t.Helper()
	_, prov := p.provisioned("shop")
	before, _ := p.w.iam.User(prov.User.Name)
	keys := p.w.iam.Keys(prov.User.Name)
	why := p.mustFail(p.Rotate(p.w.t.Context(), actor, "shop", true))
	wantCode(p.w.t, why, codeCopied)
	if !strings.Contains(why.Detail, "POST /api/v1/credentials/shop/reclaim") {
		p.w.t.Errorf("detail without the way out: %s", why.Detail)
	}
	p.reconcile(p.w.t.Context())
	if !p.reports(orphanCopied) {
		p.w.t.Errorf("orphans: %+v, want one of kind generation", p.report().Orphans)
	}
	after, _ := p.w.iam.User(prov.User.Name)
	if before.Tags[policy.TagGeneration] != after.Tags[policy.TagGeneration] || !slices.Equal(keys, p.w.iam.Keys(prov.User.Name)) {
		p.w.t.Errorf("a registry without the user changed it: %+v", after)
	}
}

func (p *process) reports(kind string) bool {
	return slices.ContainsFunc(p.report().Orphans, func(o Orphan) bool {
		return o.Kind == kind && o.Credential == "shop" && o.State != stateDeleted
	})
}

// copied is an env with a live registry and a copy of it from a backup.
func copied(t *testing.T) (w *env, live, restored *process) {
	t.Helper()
	w = newEnv(t, iam.Config{})
	live = w.start()
	hasShop(alias.PolicyInline)(live)
	restored = w.startOn(w.backup())
	return w, live, restored
}

// TestCopyActsFirst: the copy of a registry rotates the key before the original does
// anything. The original then only reads, until it reclaims the user.
func TestCopyActsFirst(t *testing.T) {
	t.Parallel()
	w, live, restored := copied(t)
	restored.mustSucceed(restored.Rotate(t.Context(), actor, "shop", false))
	live.wantCopied()
	restored.wantServed("shop")
	live.reclaim()
	if live.reports(orphanCopied) {
		t.Errorf("orphans after the reclaim: %+v", live.report().Orphans)
	}
	restored.wantCopied()
	// The key of the copy is unknown here: it is named, and stays.
	why := live.mustFail(live.Rotate(t.Context(), actor, "shop", false))
	_, prov := restored.provisioned("shop")
	wantCode(t, why, codeUnknownKeys)
	if !strings.Contains(why.Detail, prov.AccessKeyID) {
		t.Errorf("detail without %s: %s", prov.AccessKeyID, why.Detail)
	}
	w.iam.RemoveKey(prov.AccessKeyID)
	live.mustSucceed(live.Rotate(t.Context(), actor, "shop", false))
	live.wantServed("shop")
	restored.wantCopied()
}

// TestBothAct: of two registries that reclaim in turn, the last one acts, and the other one
// does not.
func TestBothAct(t *testing.T) {
	t.Parallel()
	_, live, restored := copied(t)
	for range 2 {
		restored.reclaim()
		live.wantCopied()
		live.reclaim()
		restored.wantCopied()
	}
	live.mustSucceed(live.Rotate(t.Context(), actor, "shop", false))
	live.wantServed("shop")
	restored.wantCopied()
}

// TestWantedRestore: a backup is restored on purpose. After a reclaim its registry rotates,
// and an emergency replaces the key of the backup, which may be known elsewhere.
func TestWantedRestore(t *testing.T) {
	t.Parallel()
	for _, emergency := range []bool{false, true} {
		w, live, restored := copied(t)
		live.mustSucceed(live.Rotate(t.Context(), actor, "shop", false))
		_, lost := live.provisioned("shop")
		live.proc.kill()
		restored.wantCopied()
		restored.reclaim()
		restored.reconcile(t.Context())
		if restored.reports(orphanCopied) {
			t.Errorf("orphans after the reclaim: %+v", restored.report().Orphans)
		}
		w.clock.advance(2 * time.Hour)
		restored.reconcile(t.Context())
		if !restored.reports(orphanKey) || len(w.iam.Keys(lost.User.Name)) != 1 {
			t.Errorf("the key that the backup does not know: orphans %+v", restored.report().Orphans)
		}
		w.iam.RemoveKey(lost.AccessKeyID) // by hand, as docs/iam.md says
		restored.mustSucceed(restored.Rotate(t.Context(), actor, "shop", emergency))
		restored.wantServed("shop")
		restored.deleteAlias("shop")
		restored.mustSucceed(restored.Remove(t.Context(), actor, "shop", 0))
	}
}

// TestDroppedTags: somebody took tags off the user, so that nothing proves whose it is. A
// reclaim writes them again.
func TestDroppedTags(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", policy.TagGeneration, policy.TagManagedBy, policy.TagOperation} {
		w := newEnv(t, iam.Config{})
		p := w.start()
		hasShop(alias.PolicyInline)(p)
		_, prov := p.provisioned("shop")
		made, _ := w.iam.User(prov.User.Name)
		w.iam.ChangeUser(prov.User.Name, func(u *iam.User) {
			if delete(u.Tags, key); key == "" {
				u.Tags = map[string]string{}
			}
		})
		why := p.mustFail(p.Rotate(t.Context(), actor, "shop", false))
		if key != policy.TagGeneration && !strings.Contains(why.Detail, key) {
			t.Errorf("without %s: %s", key, why.Detail)
		}
		p.wantCopied()
		p.reclaim()
		now, _ := w.iam.User(prov.User.Name)
		for tag, value := range made.Tags {
			if tag != policy.TagGeneration && now.Tags[tag] != value {
				t.Errorf("without %q: the tag %s is %q after the reclaim, was %q", key, tag, now.Tags[tag], value)
			}
		}
		p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
		p.wantServed("shop")
	}
}

// TestNoTagUser: on a server without TagUser the generation stays, and a reclaim is content
// with tags that are still those of the making.
func TestNoTagUser(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "TagUser" {
			return iam.NotImplemented()
		}
		return nil
	})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, made := p.provisioned("shop")
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	p.reclaim()
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true))
	p.wantServed("shop")
	_, prov := p.provisioned("shop")
	if prov.Generation != made.Generation {
		t.Errorf("generation %s, was %s", prov.Generation, made.Generation)
	}
	w.iam.ChangeUser(prov.User.Name, func(u *iam.User) { delete(u.Tags, policy.TagManagedBy) })
	if _, err := p.Reclaim(t.Context(), actor, "shop"); !errors.Is(err, alias.ErrIAM) || !strings.Contains(err.Error(), "iam:TagUser") {
		t.Errorf("without the tags: %v", err)
	}
}

// TestReclaimRefused: nothing is written for a user that is not the one of the credential,
// nor while an operation runs.
func TestReclaimRefused(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	want := func(what string, name alias.Name, sentinel error) {
		t.Helper()
		tagged := func() (n int) {
			for _, c := range w.iam.Calls() {
				if c.Action == "TagUser" {
					n++
				}
			}
			return n
		}
		before := tagged()
		if _, err := p.Reclaim(t.Context(), actor, name); !errors.Is(err, sentinel) {
			t.Errorf("%s: %v, want %v", what, err, sentinel)
		}
		if n := tagged(); n != before {
			t.Errorf("%s: tagged %d times", what, n-before)
		}
	}
	want("unknown", "shop", alias.ErrNotFound)
	hasShop(alias.PolicyInline)(p)
	pair := alias.KeyPair{AccessKeyID: "AKIAOTHER", SecretAccessKey: alias.NewSecret("x")}
	if _, err := p.registry.CreateCredential(t.Context(), "pasted", alias.CredentialRef{KeyPair: &pair}); err != nil {
		t.Fatal(err)
	}
	want("static", "pasted", alias.ErrNotProvisioned)
	op, err := p.Rotate(t.Context(), actor, "shop", false)
	if err != nil {
		t.Fatal(err)
	}
	want("while it rotates", "shop", alias.ErrBusy)
	p.mustSucceed(op, nil)
	_, prov := p.provisioned("shop")
	user, _ := w.iam.User(prov.User.Name)
	w.iam.ChangeUser(user.Name, func(u *iam.User) { u.Path = "/team/" })
	want("a user that was moved", "shop", alias.ErrOtherUser)
	w.iam.RemoveUser(user.Name)
	want("no user", "shop", alias.ErrOtherUser)
	w.iam.AddUser(user.Path, user.Name, "")
	w.iam.ChangeUser(user.Name, func(u *iam.User) { u.Tags = user.Tags })
	want("a user made again", "shop", alias.ErrOtherUser)
}

// TestReclaimCrash kills the process at each write of a reclaim. The request can be repeated.
func TestReclaimCrash(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 4; n++ {
		for _, after := range []bool{false, true} {
			_, live, restored := copied(t)
			restored.reclaim()
			live.store.writes, live.store.at, live.store.after = 0, n, after
			_, _ = live.Reclaim(live.proc.ctx, actor, "shop")
			again := live.w.start()
			again.reclaim()
			restored.wantCopied()
			again.mustSucceed(again.Rotate(t.Context(), actor, "shop", false))
			again.wantServed("shop")
		}
	}
}

// TestReclaimMeanwhile: an operation that begins while a reclaim waits for IAM does not make the
// reclaim fail, which has written the tags.
func TestReclaimMeanwhile(t *testing.T) {
	t.Parallel()
	w, live, restored := copied(t)
	restored.reclaim()
	var once sync.Once
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action != "TagUser" {
			return nil
		}
		return &iam.Fault{After: func() {
			once.Do(func() {
				if _, err := live.Rotate(t.Context(), actor, "shop", false); err != nil {
					t.Error(err)
				}
			})
		}}
	})
	if _, err := live.Reclaim(t.Context(), actor, "shop"); err != nil {
		t.Error(err)
	}
	live.drive()
	live.wantServed("shop")
}
