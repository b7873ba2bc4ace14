package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestOperation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, kind, outcome, want string }{
		{"done", "provision", "done", `{kind="provision",outcome="done"} 1`},
		{"failed", "rotate", "failed", `{kind="rotate",outcome="failed"} 1`},
		{"superseded", "rotate", "superseded", `{kind="rotate",outcome="superseded"} 1`},
		{"kind of nobody", "AKIA", "done", `{kind="other",outcome="done"} 1`},
		{"end of nobody", "remove", "limit-exceeded", `{kind="remove",outcome="failed"} 1`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := New(Config{AliasCap: 1000})
			if !has(t, m, `ixmage_provision_operations_total{kind="provision",outcome="failed"} 0`) {
				t.Error("no line from 0 on")
			}
			m.Operation(tc.kind, tc.outcome)
			if !has(t, m, "ixmage_provision_operations_total"+tc.want+"\n") {
				t.Errorf("no line %s in\n%s", tc.want, scrape(t, m))
			}
		})
	}
}

func TestStep(t *testing.T) {
	t.Parallel()
	const count = "ixmage_provision_step_duration_seconds_count"
	m := New(Config{AliasCap: 1000})
	m.Step("create-user", time.Second)
	m.Step("\xff", time.Second)
	m.Step("", time.Second)
	for i := range 2 * maxSteps {
		m.Step(fmt.Sprintf("step-%d", i), time.Second)
	}
	m.Step("create-user", time.Second)
	if n := strings.Count(scrape(t, m), count+"{"); n != maxSteps+1 {
		t.Errorf("%d steps are shown, want %d and the others", n, maxSteps)
	}
	for _, want := range []string{`{step="create-user"} 2`, fmt.Sprintf(`{step="other"} %d`, maxSteps+3)} {
		if !has(t, m, count+want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
}

func TestOrphans(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1000})
	if has(t, m, "ixmage_provision_orphans") {
		t.Error("there is a number before anybody has looked")
	}
	for _, n := range []int{0, 2, 0} {
		m.Orphans(n)
		if !has(t, m, fmt.Sprintf("ixmage_provision_orphans %d\n", n)) {
			t.Errorf("no line with %d", n)
		}
	}
}

func TestRunning(t *testing.T) {
	t.Parallel()
	const running, oldest = "ixmage_provision_operations_running", "ixmage_provision_oldest_operation_timestamp_seconds"
	m := New(Config{AliasCap: 1000})
	if has(t, m, running) {
		t.Error("there is a number before anybody reports")
	}
	n := 0
	m.Running(func() (int, time.Time) { return n, day })
	if !has(t, m, running+" 0\n") || has(t, m, oldest) {
		t.Errorf("none runs:\n%s", scrape(t, m))
	}
	n = 3
	if !has(t, m, running+" 3\n") || !has(t, m, fmt.Sprintf("%s %v\n", oldest, seconds(day))) {
		t.Errorf("three run:\n%s", scrape(t, m))
	}
}
