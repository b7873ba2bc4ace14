package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// scenario is an operation on an env that setUp prepares. want are the aliases that must
// be served at the end, and may those that may be served.
type scenario struct {
	name  string
	lag   time.Duration
	setUp func(*process)
	begin func(*process, context.Context) (*alias.Operation, error)
	want  []alias.Name
	may   []alias.Name
	// denied means that a call is refused, for good.
	denied bool
}

func provisionWith(name alias.Name, edit ...func(*policy.Request)) func(*process, context.Context) (*alias.Operation, error) {
	return func(p *process, ctx context.Context) (*alias.Operation, error) {
		return p.Provision(ctx, actor, p.w.request(name, edit...))
	}
}

func withPolicy(mode alias.PolicyMode) func(*policy.Request) {
	return func(r *policy.Request) { r.Policy = mode }
}

func reusing(name alias.Name) func(*policy.Request) {
	return func(r *policy.Request) { r.Credential, r.Prefix, r.Inside = name, "blog/", "blog/a.png" }
}

func hasShop(mode alias.PolicyMode) func(*process) {
	return func(p *process) { p.mustSucceed(provisionWith("shop", withPolicy(mode))(p, p.w.t.Context())) }
}

func rotateShop(emergency bool) func(*process, context.Context) (*alias.Operation, error) {
	return func(p *process, ctx context.Context) (*alias.Operation, error) {
		return p.Rotate(ctx, actor, "shop", emergency)
	}
}

func scenarios() []scenario {
	nothing := func(*process) {}
	remove := func(p *process, ctx context.Context) (*alias.Operation, error) {
		return p.Remove(ctx, actor, "shop", 0)
	}
	unused := func(mode alias.PolicyMode) func(*process) {
		return func(p *process) {
			hasShop(mode)(p)
			if err := p.registry.DeleteAlias(p.w.t.Context(), "shop", 0); err != nil {
				p.w.t.Fatal(err)
			}
		}
	}
	return []scenario{
		{name: "provision inline", setUp: nothing, begin: provisionWith("shop"), may: []alias.Name{"shop"}},
		{name: "provision inline with lag", lag: time.Minute, setUp: nothing, begin: provisionWith("shop"), may: []alias.Name{"shop"}},
		{name: "provision managed", setUp: nothing, begin: provisionWith("shop", withPolicy(alias.PolicyManaged)), may: []alias.Name{"shop"}},
		{
			name: "reuse", setUp: hasShop(alias.PolicyInline), begin: provisionWith("blog", reusing("shop")),
			want: []alias.Name{"shop"}, may: []alias.Name{"blog"},
		},
		{
			name: "reuse managed", setUp: hasShop(alias.PolicyManaged), begin: provisionWith("blog", reusing("shop")),
			want: []alias.Name{"shop"}, may: []alias.Name{"blog"},
		},
		{name: "rotate", setUp: hasShop(alias.PolicyInline), begin: rotateShop(false), want: []alias.Name{"shop"}},
		{name: "rotate with lag", lag: time.Minute, setUp: hasShop(alias.PolicyInline), begin: rotateShop(false), want: []alias.Name{"shop"}},
		{name: "rotate in an emergency", setUp: hasShop(alias.PolicyInline), begin: rotateShop(true), want: []alias.Name{"shop"}},
		{
			name: "adopt", setUp: hasByHand(alias.PolicyInline), begin: provisionWith("shop", adopt), may: []alias.Name{"shop"},
			want: []alias.Name{"shop"},
		},
		{
			name: "adopt managed with lag", lag: 20 * time.Second, setUp: hasByHand(alias.PolicyManaged), may: []alias.Name{"shop"},
			begin: provisionWith("shop", adopt, withPolicy(alias.PolicyManaged)), want: []alias.Name{"shop"},
		},
		{
			name: "adopt read-only-access", setUp: hasByHand(alias.PolicyReadOnly), may: []alias.Name{"shop"},
			begin: provisionWith("shop", adopt, withPolicy(alias.PolicyReadOnly)), want: []alias.Name{"shop"},
		},
		{
			name: "remove adopted", setUp: func(p *process) { hasAdopted(alias.PolicyInline)(p); p.deleteAlias("shop") },
			begin: func(p *process, ctx context.Context) (*alias.Operation, error) {
				return p.Remove(ctx, actor, "shop-adopted", 0)
			},
		},
		{name: "remove", setUp: unused(alias.PolicyInline), begin: remove},
		{name: "remove managed with lag", lag: 20 * time.Second, setUp: unused(alias.PolicyManaged), begin: remove},
		{name: "emergency in a soak", setUp: soakingShop, begin: rotateShop(true), want: []alias.Name{"shop"}},
		{name: "emergency over a reuse", setUp: reusingShop, begin: rotateShop(true), want: []alias.Name{"shop"}},
		{
			name: "remove in a soak", begin: remove,
			setUp: func(p *process) {
				soakingShop(p)
				p.deleteAlias("shop")
			},
		},
	}
}

// dyingClock ends its process in a long wait.
type dyingClock struct {
	*fakeClock
	die func()
}

func (c *dyingClock) Sleep(ctx context.Context, d time.Duration) error {
	if d < time.Minute {
		return c.fakeClock.Sleep(ctx, d)
	}
	c.die()
	return context.Canceled
}

// soakingShop has the process die in the soak of a rotation.
func soakingShop(p *process) {
	p.w.t.Helper()
	hasShop(alias.PolicyInline)(p)
	clock := &dyingClock{fakeClock: p.w.clock}
	p.w.edit = func(cfg *Config) { cfg.Clock = clock }
	q := p.w.start()
	p.w.edit = nil
	clock.die = q.proc.kill
	p.w.mustRun(q, rotateShop(false))
}

// reusingShop has the process die when a reuse has put its policy.
func reusingShop(p *process) {
	p.w.t.Helper()
	hasShop(alias.PolicyInline)(p)
	q := p.w.start()
	q.dieAfter("PutUserPolicy")
	p.w.mustRun(q, provisionWith("blog", reusing("shop")))
	p.w.iam.OnCall(nil)
}

// mustRun begins an operation that is running when its process dies.
func (w *env) mustRun(p *process, begin func(*process, context.Context) (*alias.Operation, error)) {
	w.t.Helper()
	op, err := begin(p, p.proc.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	p.drive()
	if op, err = w.store.Operation(w.t.Context(), op.ID); err != nil || op.Finished() {
		w.t.Fatalf("%+v, %v: want a running operation", op, err)
	}
}

// fault is a failure of the nth write, or of the nth call of IAM.
type fault struct {
	name  string
	write bool
	after bool                          // of a write: it is durable, but the process does not learn that
	call  func(l *procState) *iam.Fault // of a call
	again bool                          // the process dies once more while it recovers
}

func faults() []fault {
	dying := func(before bool) func(l *procState) *iam.Fault {
		return func(l *procState) *iam.Fault {
			if before {
				return &iam.Fault{Before: l.kill, LoseBefore: true}
			}
			return &iam.Fault{After: l.kill, LoseAfter: true}
		}
	}
	coded := func(code string) func(*procState) *iam.Fault {
		return func(*procState) *iam.Fault { return iam.Fail(code) }
	}
	list := []fault{
		{name: "killed before a write", write: true},
		{name: "killed after a write", write: true, after: true},
		{name: "killed before a call", call: dying(true)},
		{name: "killed after a call", call: dying(false)},
	}
	for _, f := range slices.Clone(list) {
		f.name, f.again = f.name+", and again", true
		list = append(list, f)
	}
	return append(list,
		fault{name: "answer lost", call: func(*procState) *iam.Fault { return iam.LostAfter() }},
		fault{name: "question lost", call: func(*procState) *iam.Fault { return iam.LostBefore() }},
		fault{name: "throttled", call: coded("Throttling")},
		fault{name: "failed", call: coded("ServiceFailure")},
		fault{name: "modified by another", call: coded("ConcurrentModification")},
		fault{name: "denied", call: coded("AccessDenied")},
		fault{name: "limit", call: coded("LimitExceeded")},
	)
}

// TestCrashMatrix breaks every write and every call of every operation in every way,
// once and again during recovery, and restarts the process. wantConverged then checks
// the invariants.
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			stride := crashStride(t)
			writes, calls := s.measure(t)
			if writes < 5 || calls < 2 {
				t.Fatalf("%d writes and %d calls: nothing to break", writes, calls)
			}
			for i, f := range faults() {
				places := calls
				if f.write {
					places = writes
				}
				t.Run(f.name, func(t *testing.T) {
					for n := 1 + i%stride; n <= places; n += stride {
						if ok := t.Run(fmt.Sprint(n), func(t *testing.T) { s.breakAt(t, f, n) }); !ok {
							return // one failure is enough
						}
					}
				})
			}
		})
	}
}

// crashStride n breaks every nth write or call; IXMAGE_CRASHES is n. All of them take minutes, in
// make test-long.
func crashStride(t *testing.T) int {
	t.Helper()
	text := os.Getenv("IXMAGE_CRASHES")
	if text == "" {
		return 29
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("IXMAGE_CRASHES=%s: want a number from 1 on", text)
	}
	return n
}

// measure counts the writes and the calls of IAM of a run without a fault.
func (s scenario) measure(t *testing.T) (writes, calls int) {
	t.Helper()
	w := newEnv(t, iam.Config{Lag: s.lag})
	s.setUp(w.start())
	w.clock.advance(time.Hour)
	p := w.start()
	before := w.iamCalls()
	p.mustSucceed(s.begin(p, t.Context()))
	return p.store.writes, w.iamCalls() - before
}

func (w *env) iamCalls() int {
	n := 0
	for _, c := range w.iam.Calls() {
		if c.Service == "iam" && c.AccessKeyID == w.power.AccessKeyID {
			n++
		}
	}
	return n
}

// breakAt breaks the nth write or call.
func (s scenario) breakAt(t *testing.T, f fault, n int) {
	w := newEnv(t, iam.Config{Lag: s.lag})
	foreign := w.addForeign()
	first := w.start()
	s.setUp(first)
	w.clock.advance(time.Hour)

	p := w.start()
	if f.write {
		p.store.at, p.store.after = n, f.after
	} else {
		w.breakCall(p.proc, f, n)
	}
	if _, err := s.begin(p, p.proc.ctx); err == nil {
		p.drive()
	}
	w.iam.OnCall(nil)
	if f.again {
		p = w.start()
		p.store.at, p.store.after = 1+n%3, n%2 == 0
		p.drive()
	}
	p = w.start()
	p.quiet()
	s.denied = f.name == "denied"
	w.wantConverged(p, s)
	if got := w.foreignState(); !cmp.Equal(got, foreign) {
		t.Errorf("a user of another client was changed: %s", cmp.Diff(foreign, got))
	}
}

// breakCall breaks the nth call of IAM that the provisioner makes.
func (w *env) breakCall(l *procState, f fault, n int) {
	seen := 0
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Service != "iam" || c.AccessKeyID != w.power.AccessKeyID {
			return nil
		}
		if seen++; seen != n {
			return nil
		}
		return f.call(l)
	})
}

// addForeign makes users that are not ours: outside our path, and under it with the tags
// of another installation.
func (w *env) addForeign() string {
	w.iam.AddUser("/", "alice", "")
	w.iam.AddUser(policy.UserPath(testInstall), "bob", "")
	w.iam.ChangeUser("bob", func(u *iam.User) {
		u.Tags = map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: "elsewhere", policy.TagOperation: "op-1"}
	})
	w.clock.advance(time.Hour)
	return w.foreignState()
}

func (w *env) foreignState() string {
	var state []any
	for _, name := range []string{"alice", "bob"} {
		user, ok := w.iam.User(name)
		state = append(state, user, ok, w.iam.Keys(name))
	}
	text, err := json.Marshal(state)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// wantConverged checks the six invariants.
func (w *env) wantConverged(p *process, s scenario) {
	w.t.Helper()
	running, err := w.store.Operations(w.t.Context(), alias.OperationFilter{State: alias.OperationRunning, Limit: 10})
	if err != nil || len(running) > 0 {
		w.t.Fatalf("still running: %v, %v", running, err)
	}
	if last, err := w.store.Operations(w.t.Context(), alias.OperationFilter{Limit: 1}); err == nil &&
		len(last) == 1 && last[0].Kind == alias.OperationRemove && last[0].State == alias.OperationFailed {
		p.mustSucceed(s.begin(p, w.t.Context())) // a removal that failed is for the operator to repeat
	}
	served := slices.Clone(s.want)
	for _, name := range s.may {
		a, err := p.registry.Alias(w.t.Context(), name)
		if err == nil && a.State == alias.StateActive {
			served = append(served, name)
		}
		if route, ok := p.registry.Lookup(string(name)); ok && route.Alias.Serves() != slices.Contains(served, name) {
			w.t.Errorf("alias %s: served %v, state %s", name, route.Alias.Serves(), a.State)
		}
	}
	w.wantOwned(p, served)
	w.wantByHand(p, s)
	w.wantRepeatable(p, s)
}

// wantOwned checks that users and keys in IAM are those of the aliases that are
// served, and that every key works.
func (w *env) wantOwned(p *process, served []alias.Name) {
	w.t.Helper()
	left := map[string]bool{}
	for _, u := range w.iam.Users() {
		left[u.Name] = true
	}
	keys := 0
	for _, name := range []string{"alice", "bob", byHand} {
		delete(left, name)
		keys += len(w.iam.Keys(name))
	}
	seen := map[int64]bool{}
	p.registry.CredentialsInMemory(func(c *alias.Credential) bool {
		if prov, ok := c.Provisioned(); ok && c.State == alias.CredentialActive {
			w.wantOneKey(c, prov)
			delete(left, prov.User.Name)
			seen[c.ID] = true
			if prov.Adopted == nil {
				keys++
			}
		} else if !ok && c.State == alias.CredentialActive {
			seen[c.ID] = true // a key pair that an operator gave
		}
		return true
	})
	for _, name := range served {
		a, err := p.registry.Alias(w.t.Context(), name)
		if err != nil {
			w.t.Errorf("alias %s is lost: %v", name, err)
			continue
		}
		c, err := p.registry.Credential(w.t.Context(), a.Credential)
		if err != nil || !seen[c.ID] || a.State != alias.StateActive {
			w.t.Errorf("alias %s is %s with credential %+v: %v", name, a.State, c, err)
			continue
		}
		w.wantReads(p, a, c)
	}
	if len(left) > 0 || len(w.iam.Keys("")) < keys {
		w.t.Errorf("users left behind: %v; %d keys, want %d", left, len(w.iam.Keys("")), keys)
	}
	attached := map[string]bool{}
	for _, u := range w.iam.Users() {
		for _, arn := range u.Attached {
			attached[arn] = true
		}
	}
	for _, policy := range w.iam.Policies() {
		if !attached[policy.ARN] && policy.Name != "ixmage-boundary" && policy.Name != "my-own-name" {
			w.t.Errorf("policy left behind: %s", policy.ARN)
		}
	}
}

// wantOneKey wants the key of the registry to be active. A second key may exist only if
// it is inactive and reported.
func (w *env) wantOneKey(c *alias.Credential, prov *alias.Provisioned) {
	w.t.Helper()
	active := 0
	for _, k := range w.iam.Keys(prov.User.Name) {
		if prov.Adopted != nil && k.ID == prov.Adopted.AccessKeyID {
			if !k.Active {
				w.t.Errorf("the key %s of before is inactive", k.ID)
			}
			continue
		}
		if k.Active {
			active++
		}
		if k.ID != prov.AccessKeyID && (prov.Previous == nil || k.ID != prov.Previous.AccessKeyID) {
			w.t.Errorf("user %s has the unknown key %s, active %v", prov.User.Name, k.ID, k.Active)
		}
	}
	if active != 1 && prov.Previous == nil {
		w.t.Errorf("user %s of %s has %d active keys, want 1", prov.User.Name, c.Name, active)
	}
}

// wantByHand wants a user that an operator made to be there with its key, and nothing of
// ours unless a credential has it.
func (w *env) wantByHand(p *process, s scenario) {
	w.t.Helper()
	user, ok := w.iam.User(byHand)
	if !ok {
		return // another scenario
	}
	adopted := false
	p.registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		adopted = ok && prov.User.Name == byHand && c.State == alias.CredentialActive
		return !adopted
	})
	keys := w.iam.Keys(byHand)
	if len(keys) == 0 || !slices.ContainsFunc(keys, func(k iam.Key) bool { return k.Active && k.Created.Equal(user.Created) }) {
		w.t.Errorf("the key of before is gone or inactive: %+v", keys)
	}
	if !adopted && (len(keys) != 1 || len(user.Inline) != 1 || len(user.Attached) > 0 || len(user.Tags) != 1 || user.Boundary != "") {
		if user.Boundary != "" && len(user.Tags) == 1 && s.denied {
			return // it may not be removed, which the operation says
		}
		ops, _ := w.store.Operations(w.t.Context(), alias.OperationFilter{Credential: "shop-adopted", Limit: 1})
		w.t.Errorf("left on the user: %+v, %+v, by %+v; orphans %+v", user, keys, ops[0].Error, p.report().Orphans)
	}
}

// wantRepeatable repeats the request: a finished operation is not repeated, and a failed
// one succeeds.
func (w *env) wantRepeatable(p *process, s scenario) {
	w.t.Helper()
	for _, name := range s.may {
		last, err := w.store.Operations(w.t.Context(), alias.OperationFilter{Alias: name, Limit: 1})
		if err != nil {
			w.t.Fatal(err)
		}
		before := w.iamCalls()
		op, err := s.begin(p, w.t.Context())
		if err != nil {
			w.t.Errorf("the same request again: %v", err)
			continue
		}
		if len(last) == 1 && last[0].State == alias.OperationDone {
			if op.ID != last[0].ID || w.iamCalls() != before || !bytes.Equal(op.Request, last[0].Request) {
				w.t.Errorf("the same request again is %s and made %d calls, want %s and none", op.ID, w.iamCalls()-before, last[0].ID)
			}
			continue
		}
		p.mustSucceed(op, nil)
	}
}
