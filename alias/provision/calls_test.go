package provision

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

// callCount is what an operation asks of AWS.
type callCount struct {
	read, write int // calls of IAM and STS that the server signs
	denied      int // management events that were denied, by any key, of which CloudTrail tells without being asked to
}

// TestCallsPerOperation holds the number of calls of each operation that meets no fault and
// no lag. docs/iam.md says to a security team what it will see.
func TestCallsPerOperation(t *testing.T) {
	t.Parallel()
	remove := func(p *process) (*alias.Operation, error) {
		p.deleteAlias("shop")
		return p.Remove(p.w.t.Context(), actor, "shop", 0)
	}
	provision := func(mode alias.PolicyMode) func(*process) (*alias.Operation, error) {
		return func(p *process) (*alias.Operation, error) {
			return provisionWith("shop", withPolicy(mode))(p, p.w.t.Context())
		}
	}
	reuse := func(p *process) (*alias.Operation, error) {
		return provisionWith("blog", reusing("shop"))(p, p.w.t.Context())
	}
	rotate := func(emergency bool) func(*process) (*alias.Operation, error) {
		return func(p *process) (*alias.Operation, error) { return rotateShop(emergency)(p, p.w.t.Context()) }
	}
	inline, managed, readOnly := hasShop(alias.PolicyInline), hasShop(alias.PolicyManaged), hasShop(alias.PolicyReadOnly)
	for _, row := range []struct {
		name  string
		setUp func(*process)
		begin func(*process) (*alias.Operation, error)
		want  callCount
	}{
		{"provision inline", func(*process) {}, provision(alias.PolicyInline), callCount{9, 4, 0}},
		{"provision managed", func(*process) {}, provision(alias.PolicyManaged), callCount{12, 5, 0}},
		{"provision read-only-access", func(*process) {}, provision(alias.PolicyReadOnly), callCount{8, 4, 0}},
		{"reuse inline", inline, reuse, callCount{9, 3, 0}},
		{"reuse managed", managed, reuse, callCount{21, 6, 0}},
		{"rotate", inline, rotate(false), callCount{10, 5, 0}},
		{"rotate in an emergency", inline, rotate(true), callCount{10, 6, 0}},
		{"remove inline", inline, remove, callCount{15, 6, 0}},
		{"remove managed", managed, remove, callCount{17, 8, 0}},
		{"remove read-only-access", readOnly, remove, callCount{15, 7, 0}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			p := w.start()
			row.setUp(p)
			w.clock.advance(time.Hour)
			before := len(w.iam.Calls())
			p.mustSucceed(row.begin(p))
			calls := w.iam.Calls()[before:]
			if got := w.countCalls(calls); got != row.want {
				t.Errorf("got %+v, want %+v: %v", got, row.want, actionsOf(calls))
			}
		})
	}
}

func (w *env) countCalls(calls []iam.Call) (n callCount) {
	for _, c := range calls {
		signed := c.AccessKeyID == w.power.AccessKeyID && c.Service != "s3"
		switch reads := strings.HasPrefix(c.Action, "Get") || strings.HasPrefix(c.Action, "List"); {
		case signed && reads:
			n.read++
		case signed:
			n.write++
		}
		if c.Code == "AccessDenied" && (c.Service != "s3" || c.Action == "ListBuckets" || strings.HasPrefix(c.Action, "GetBucket")) {
			n.denied++
		}
	}
	return n
}

// actionsOf are the actions of calls, with their numbers.
func actionsOf(calls []iam.Call) []string {
	count := map[string]int{}
	for _, c := range calls {
		count[strings.TrimSpace(c.Service+":"+c.Action+" "+c.Code)]++
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		list = append(list, name+strings.Repeat("+", count[name]-1))
	}
	return list
}
