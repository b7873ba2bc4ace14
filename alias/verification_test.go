package alias_test

import (
	"testing"

	"ixmage/alias"
)

func TestVerification(t *testing.T) {
	t.Parallel()
	const (
		proven, weak, notProven, violated = alias.VerdictProven, alias.VerdictWeak, alias.VerdictNotProven, alias.VerdictViolated
	)
	checks := func(verdicts ...alias.Verdict) []alias.Check {
		list := make([]alias.Check, len(verdicts))
		for i, v := range verdicts {
			list[i].Verdict = v
		}
		return list
	}
	for _, c := range []struct {
		name   string
		checks []alias.Check
		scope  alias.Verdict
		blocks bool
	}{
		{"nothing was checked", nil, notProven, false},
		{"all proven", checks(proven, proven), proven, false},
		{"one weak", checks(proven, weak, proven), weak, false},
		{"one not proven", checks(notProven, weak, proven), notProven, false},
		{"one violated", checks(proven, violated, notProven, weak), violated, true},
		{"violated last", checks(proven, violated), violated, true},
		{"positive and proven", []alias.Check{{Positive: true, Verdict: proven}}, proven, false},
		{"positive and not answered", []alias.Check{{Positive: true, Verdict: notProven}}, notProven, false},
		{"positive and refused", []alias.Check{{Verdict: proven}, {Positive: true, Failed: true, Verdict: notProven}}, notProven, true},
		{"positive and refused, whatever its verdict", []alias.Check{{Positive: true, Failed: true, Verdict: proven}}, proven, true},
		{"negative and failed", []alias.Check{{Failed: true, Verdict: notProven}}, notProven, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := &alias.Verification{Checks: c.checks}
			if scope, blocks := v.Scope(), v.Blocks(); scope != c.scope || blocks != c.blocks {
				t.Errorf("got %s, blocks %v; want %s, %v", scope, blocks, c.scope, c.blocks)
			}
		})
	}
}
