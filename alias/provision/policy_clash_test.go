package provision

import (
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// TestPolicyClash: two aliases of one location with different keys cannot share a
// managed policy. The error of the second says why and what to do.
func TestPolicyClash(t *testing.T) {
	t.Parallel()
	const key, other = "arn:aws:kms:us-east-1:123456789012:key/abc", "arn:aws:kms:us-east-1:123456789012:key/def"
	withKey := func(arn string) func(*policy.Request) {
		return func(r *policy.Request) { r.KMSKeyARN = arn }
	}
	for _, row := range []struct {
		name          string
		first, second string
		byHand        string // document
		want          []string
	}{
		{"a key and none", key, "", "", []string{"it is for objects under the KMS key " + key, "needs objects without a KMS key", "same kms_key_arn", "inline"}},
		{"none and a key", "", key, "", []string{"it is for objects without a KMS key", "needs objects under the KMS key " + key, "same kms_key_arn"}},
		{"two keys", key, other, "", []string{"for objects under the KMS key " + key, "needs objects under the KMS key " + other}},
		{"by hand, with a key", "", "", strings.ReplaceAll(anything, `"Resource":"*"`, `"Resource":"`+key+`"`), []string{"for objects under the KMS key " + key, "give the alias the kms_key_arn", "delete or rename"}},
		{"by hand, another document", "", "", anything, []string{"its document allows something else", "delete or rename it"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			p := w.start()
			if row.byHand != "" {
				w.iam.AddPolicy("/", "bucket-specific-media-web", row.byHand)
			} else {
				p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", withPolicy(alias.PolicyManaged), withKey(row.first))))
			}
			why := p.mustFail(p.Provision(t.Context(), actor, w.request("blog", withPolicy(alias.PolicyManaged), withKey(row.second))))
			wantCode(t, why, codeNameTaken)
			for _, want := range row.want {
				if !strings.Contains(why.Detail, want) {
					t.Errorf("got %q, want it to say: %s", why.Detail, want)
				}
			}
		})
	}
}

// TestManagedPolicySerial: no other operation deletes a policy between its creation and
// its attachment, or attaches it between its last detachment and its deletion.
func TestManagedPolicySerial(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyManaged)(p)
	arn := w.iam.Policies()[0].ARN
	var mu sync.Mutex
	seen := map[string]bool{}
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.AccessKeyID != w.power.AccessKeyID {
			return nil // a probe
		}
		switch c.Action {
		case "CreatePolicy", "AttachUserPolicy", "DetachUserPolicy", "DeletePolicy":
			if release, free := p.locks.try(policyLock(arn)); free {
				release()
				t.Errorf("%s without the lock of the policy", c.Action)
			}
			mu.Lock()
			seen[c.Action] = true
			mu.Unlock()
		}
		return nil
	})
	for range 5 { // one goes as the other comes
		p.deleteAlias("shop")
		remove, err := p.Remove(t.Context(), actor, "shop", 0)
		if err != nil {
			t.Fatal(err)
		}
		provision, err := p.Provision(t.Context(), actor, w.request("blog", withPolicy(alias.PolicyManaged)))
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() { p.run(t.Context(), remove.Credential) })
		both.Go(func() { p.run(t.Context(), provision.Credential) })
		both.Wait()
		p.mustSucceed(remove, nil)
		p.mustSucceed(provision, nil)
		w.wantSound(p, "blog")
		p.deleteAlias("blog")
		p.mustSucceed(p.Remove(t.Context(), actor, "blog", 0))
		hasShop(alias.PolicyManaged)(p)
	}
	if len(seen) != 4 {
		t.Errorf("calls: %v, want all four", seen)
	}
}

// TestManagedPolicyOfTwoThatGo: the policy goes with the last of its users, also when
// they go at the same time.
func TestManagedPolicyOfTwoThatGo(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	var ops []*alias.Operation
	both := []alias.Name{"shop", "blog"}
	for _, name := range both {
		p.mustSucceed(p.Provision(t.Context(), actor, w.request(name, withPolicy(alias.PolicyManaged))))
		p.deleteAlias(name)
	}
	for _, name := range both {
		op, err := p.Remove(t.Context(), actor, name, 0)
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op)
	}
	var once sync.Once
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action != "DeleteUser" {
			return nil
		}
		fault := &iam.Fault{} // the second goes while the first is not forgotten yet
		once.Do(func() { fault.Before = func() { p.run(t.Context(), ops[1].Credential) } })
		return fault
	})
	p.run(t.Context(), ops[0].Credential)
	for _, op := range ops {
		p.mustSucceed(op, nil)
	}
	if len(w.iam.Users()) > 0 || len(w.iam.Policies()) > 0 {
		t.Errorf("left: %+v %+v", w.iam.Users(), w.iam.Policies())
	}
}

// TestManagedPolicyOfReuseThatFails: the policy goes with the last user that has it, although a
// user that was to get it waits for that. If that user gets it after all, the policy is made again.
func TestManagedPolicyOfReuseThatFails(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]bool{"fails": true, "succeeds": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			p := w.start()
			hasShop(alias.PolicyManaged)(p)
			p.mustSucceed(p.Provision(t.Context(), actor, w.request("blog", withPolicy(alias.PolicyManaged), inBlog)))
			_, blog := p.provisioned("blog")
			reuse, err := p.Provision(t.Context(), actor, w.request("team", func(r *policy.Request) { r.Credential = "blog" }))
			if err != nil {
				t.Fatal(err)
			}
			p.deleteAlias("shop")
			remove, err := p.Remove(t.Context(), actor, "shop", 0)
			if err != nil {
				t.Fatal(err)
			}
			p.run(t.Context(), remove.Credential) // the reuse waits
			if done, err := w.store.Operation(t.Context(), remove.ID); err != nil || done.State != alias.OperationDone {
				t.Fatalf("the removal: %+v, %v", done, err)
			}
			served := []alias.Name{"blog"}
			if fails {
				w.iam.ChangeUser(blog.User.Name, func(u *iam.User) { u.Tags = nil })
				wantCode(t, p.mustFail(reuse, nil), codeCopied)
			} else {
				p.mustSucceed(reuse, nil)
				served = append(served, "team")
			}
			w.wantOwned(p, served)
		})
	}
}

func inBlog(r *policy.Request) { r.Prefix, r.Inside = "blog/", "blog/a.png" }

// TestAttachedNotRecorded: a process that dies after AttachUserPolicy, and before it records that,
// leaves a policy that the next process records. It is not taken for one of another client.
func TestAttachedNotRecorded(t *testing.T) {
	t.Parallel()
	for _, mode := range []alias.PolicyMode{alias.PolicyManaged, alias.PolicyReadOnly} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			p := w.start()
			p.dieAfter("AttachUserPolicy")
			w.mustRun(p, provisionWith("shop", withPolicy(mode)))
			w.iam.OnCall(nil)
			p = w.start()
			p.drive()
			p.reconcile(t.Context())
			if _, prov := p.provisioned("shop"); len(prov.Policies) != 1 || len(p.report().Orphans) > 0 {
				t.Errorf("recorded %+v, reported %+v", prov.Policies, p.report().Orphans)
			}
			w.wantOwned(p, []alias.Name{"shop"})
			p.deleteAlias("shop")
			p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
			if len(w.iam.Users())+len(w.iam.Policies()) > 0 {
				t.Errorf("left: %+v %+v", w.iam.Users(), w.iam.Policies())
			}
		})
	}
}

// TestAttachedUnanswered: the undo of a provisioning that got no answer to AttachUserPolicy deletes
// the user with the policy that IAM may have attached.
func TestAttachedUnanswered(t *testing.T) {
	t.Parallel()
	for _, mode := range []alias.PolicyMode{alias.PolicyManaged, alias.PolicyReadOnly} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			w.iam.OnCall(func(c iam.Call) *iam.Fault {
				if c.Action != "AttachUserPolicy" {
					return nil
				}
				return iam.LostAfter()
			})
			p := w.start()
			why := p.mustFail(p.Provision(t.Context(), actor, w.request("shop", withPolicy(mode))))
			if why.Step != stepPutPolicy || strings.Contains(why.Detail, "another client") {
				t.Errorf("failed with %+v", why)
			}
			if len(w.iam.Users())+len(w.iam.Policies()) > 0 {
				t.Errorf("left: %+v %+v", w.iam.Users(), w.iam.Policies())
			}
		})
	}
}

// TestReuseAfterRevocation: a location that was revoked a moment ago is granted again, although IAM
// shows the policy of before the revocation still.
func TestReuseAfterRevocation(t *testing.T) {
	t.Parallel()
	for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			hasShop(mode)(w.start())
			p := w.start()
			p.dieAfter(map[alias.PolicyMode]string{alias.PolicyInline: "PutUserPolicy", alias.PolicyManaged: "AttachUserPolicy"}[mode])
			w.mustRun(p, provisionWith("blog", reusing("shop")))
			w.iam.OnCall(nil)
			w.clock.advance(time.Hour)
			p = w.start()
			p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true)) // takes the place of the reuse
			w.clock.advance(time.Hour)
			w.iam.SetLag(time.Minute)
			p.reconcile(t.Context()) // revokes its location
			p.mustSucceed(p.Provision(t.Context(), actor, w.request("team", reusing("shop"))))
			w.iam.SetLag(0)
			w.clock.advance(time.Hour)
			w.wantOwned(p, []alias.Name{"shop", "team"})
		})
	}
}
