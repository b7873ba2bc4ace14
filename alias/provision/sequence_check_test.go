package provision

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// TestRandomSequences plays IXMAGE_SEQUENCES of them, or the one that a failure
// printed and IXMAGE_SEQUENCE gives back, and checks the six invariants after
// each. It is no fuzz test: an execution takes too long for a thousand of them.
func TestRandomSequences(t *testing.T) {
	t.Parallel()
	if text := os.Getenv("IXMAGE_SEQUENCE"); text != "" {
		steps, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		playSequence(t, steps)
		return
	}
	for n := range sequences(t) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			playSequence(t, randomSteps(n))
		})
	}
}

// sequences is the default number of sequences.
func sequences(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("IXMAGE_SEQUENCES")
	if text == "" {
		return 20
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// randomSteps is the nth sequence: the same each time.
func randomSteps(n uint64) []byte {
	r := rand.New(rand.NewPCG(n, 0))
	steps := make([]byte, 3*(1+r.IntN(maxSteps)))
	for i := range steps {
		steps[i] = byte(r.Uint32())
	}
	return steps
}

// mostCalls bounds the calls of IAM in one step: one operation with its undo, or a reconcile of
// all users, with every repetition under lag and faults.
const mostCalls = 200

func playSequence(t *testing.T, steps []byte) {
	w := newEnv(t, iam.Config{})
	foreign := w.addForeign()
	q := &sequence{
		w: w, p: w.start(), steps: steps, opened: map[alias.Name]bool{}, theirs: map[string]string{}, changed: map[alias.Name]bool{},
		copied: map[string]bool{},
	}
	defer func() {
		if t.Failed() {
			t.Log(q)
		}
	}()
	q.play()
	w.iam.OnCall(nil)
	w.iam.SetLag(0)
	w.clock.advance(time.Minute)
	q.p.proc.kill()
	q.p = w.start()
	q.p.quiet()
	q.wantServing()
	q.wantNamed()
	q.withdraw()
	q.p.quiet()
	q.wantQuiet()
	q.wantNoSecrets()
	if q.most > mostCalls {
		t.Errorf("%d calls of IAM in one step, want at most %d", q.most, mostCalls)
	}
	q.wantRepeatable()
	q.wantRemovable()
	if got := w.foreignState(); !cmp.Equal(got, foreign) {
		t.Errorf("a user of another client was changed: %s", cmp.Diff(foreign, got))
	}
}

// wantQuiet checks the invariants that hold when nothing runs: every alias that was
// served still is, every other begun operation has failed, and IAM matches the registry.
func (q *sequence) wantQuiet() {
	q.w.t.Helper()
	running, err := q.w.store.Operations(q.w.t.Context(), alias.OperationFilter{State: alias.OperationRunning, Limit: 1})
	if err != nil || len(running) > 0 {
		q.w.t.Fatalf("still running: %v, %v", running, err)
	}
	q.wantServing()
	q.repeat()
	list, err := q.w.store.Aliases(q.w.t.Context(), "", 100)
	if err != nil {
		q.w.t.Fatal(err)
	}
	var served []alias.Name
	for _, a := range list {
		switch a.State {
		case alias.StateActive:
			served = append(served, a.Name)
			delete(q.opened, a.Name)
		case alias.StateFailed:
		default:
			q.w.t.Errorf("alias %s is %s, and nothing runs", a.Name, a.State)
		}
	}
	if len(q.opened) > 0 {
		q.w.t.Errorf("no longer served: %v", q.opened)
	}
	q.w.wantOwned(q.p, served)
	q.wantOneKeyEach()
}

// repeat does the work of the operator and the schedule: it repeats failed removals and
// failed rotations.
func (q *sequence) repeat() {
	q.w.t.Helper()
	for _, c := range q.credentials() {
		prov, _ := c.Provisioned()
		switch {
		case c.State == alias.CredentialFailed && c.Sealed != nil:
			q.p.mustSucceed(q.p.Remove(q.w.t.Context(), actor, c.Name, 0))
		case c.State == alias.CredentialActive && (prov.Previous != nil || prov.PendingDeletion != nil):
			q.p.mustSucceed(q.p.Rotate(q.w.t.Context(), actor, c.Name, false))
		case c.State != alias.CredentialActive && c.State != alias.CredentialFailed:
			q.w.t.Errorf("credential %s is %s, and nothing runs", c.Name, c.State)
		}
	}
}

func (q *sequence) credentials() []*alias.Credential {
	list, err := q.w.store.Credentials(q.w.t.Context(), "", 100)
	if err != nil {
		q.w.t.Fatal(err)
	}
	return list
}

// wantOneKeyEach wants one active key for each credential, and none without.
func (q *sequence) wantOneKeyEach() {
	q.w.t.Helper()
	want := len(q.w.iam.Keys("alice")) + len(q.w.iam.Keys("bob"))
	for _, c := range q.credentials() {
		prov, _ := c.Provisioned()
		if c.State != alias.CredentialActive {
			if _, ok := q.w.iam.User(prov.User.Name); ok {
				q.w.t.Errorf("the user %s of %s is left, which %s", prov.User.Name, c.Name, c.State)
			}
			continue
		}
		want++
		if drift, err := (caller{p: q.p.Provisioner}).drift(q.w.t.Context(), prov); err != nil || drift != "" || prov.ExtraGrants != nil {
			q.w.t.Errorf("the rights of %s: %s, %v, %+v", c.Name, drift, err, prov.ExtraGrants)
		}
		if prov.Mode == alias.PolicyManaged && len(prov.Policies) != len(prov.Grants) {
			q.w.t.Errorf("credential %s has the grants %+v, and the policies %+v", c.Name, prov.Grants, prov.Policies)
		}
		if keys := q.w.iam.Keys(prov.User.Name); len(keys) != 1 || !keys[0].Active || keys[0].ID != prov.AccessKeyID {
			q.w.t.Errorf("credential %s has the key %s, IAM has %+v", c.Name, prov.AccessKeyID, keys)
		}
	}
	if got := len(q.w.iam.Keys("")); got != want {
		q.w.t.Errorf("%d keys, want %d", got, want)
	}
}

// wantRepeatable wants the requests by which aliases were opened to be answered
// by the operations that opened them, without a call.
func (q *sequence) wantRepeatable() {
	q.w.t.Helper()
	ops, err := q.w.store.Operations(q.w.t.Context(), alias.OperationFilter{State: alias.OperationDone, Limit: 1000})
	if err != nil {
		q.w.t.Fatal(err)
	}
	seen := map[alias.Name]bool{}
	for _, op := range ops {
		a, err := q.p.registry.Alias(q.w.t.Context(), op.Alias)
		if op.Kind != alias.OperationProvision || err != nil || a.State != alias.StateActive || seen[a.Name] {
			continue
		}
		seen[a.Name] = true
		var req policy.Request
		if err := json.Unmarshal(op.Request, &req); err != nil {
			q.w.t.Fatal(err)
		}
		before := q.w.iamCalls()
		again, err := q.p.Provision(q.w.t.Context(), actor, req)
		if err != nil || again.ID != op.ID || q.w.iamCalls() != before {
			q.w.t.Errorf("the request of %s again: %+v, %v and %d calls", a.Name, again, err, q.w.iamCalls()-before)
		}
	}
}

// wantRemovable removes everything, which leaves nothing.
func (q *sequence) wantRemovable() {
	q.w.t.Helper()
	list, err := q.w.store.Aliases(q.w.t.Context(), "", 100)
	if err != nil {
		q.w.t.Fatal(err)
	}
	for _, a := range list {
		q.p.deleteAlias(a.Name)
	}
	for _, c := range q.credentials() {
		q.p.mustSucceed(q.p.Remove(q.w.t.Context(), actor, c.Name, 0))
	}
	for _, u := range q.w.iam.Users() {
		if u.Name != "alice" && u.Name != "bob" {
			q.w.t.Errorf("left: %+v", u)
		}
	}
	if keys := q.w.iam.Keys(""); len(keys) != 2 || len(q.w.iam.Policies()) > 0 {
		q.w.t.Errorf("left: %+v %+v", keys, q.w.iam.Policies())
	}
}
