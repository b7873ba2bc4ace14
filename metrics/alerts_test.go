package metrics

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The rules of docs/alerts.yaml are well formed and fire when they should, and
// the tests of them find faults.
func TestAlertsPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("PROMTOOL IS ABSENT: the alert rules were not checked (apt-get install prometheus)")
	}
	rules, tests := readDoc(t, "alerts.yaml"), readDoc(t, "alerts_test.yaml")
	for _, tc := range []struct {
		name   string
		rules  string
		failed bool
	}{
		{"as they are", rules, false},
		{"no slack", strings.Replace(rules, "+ 7200", "", 1), true},
		{"keys that are never rotated", strings.Replace(rules, "every_seconds > 0", "every_seconds >= 0", 1), true},
		{"any canary", strings.Replace(rules, "success == 0", "success >= 0", 1), true},
		{"canary at once", strings.Replace(rules, "for: 15m\n        labels: {severity: page}", "labels: {severity: page}", 1), true},
		{"no orphans", strings.Replace(rules, "orphans > 0", "orphans > 5", 1), true},
		{"all fallbacks there ever were", strings.Replace(rules, "increase(ixmage_rotation_fallback_total[15m])", "ixmage_rotation_fallback_total", 1), true},
		{"operations in a hurry", strings.Replace(rules, "seconds > 7200", "seconds > 60", 1), true},
		{"disk at once", strings.Replace(rules, "for: 5m\n        labels: {severity: ticket}\n        annotations:\n          summary: The disk", "labels: {severity: ticket}\n        annotations:\n          summary: The disk", 1), true},
		{"no disk", strings.Replace(rules, "disk_available == 0", "disk_available > 0", 1), true},
		{"not even rules", rules + "garbage", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.failed && tc.rules == rules {
				t.Fatal("the rules have nothing to replace")
			}
			dir := t.TempDir()
			for name, text := range map[string]string{"alerts.yaml": tc.rules, "alerts_test.yaml": tests} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			run := func(args ...string) (string, error) {
				cmd := exec.CommandContext(t.Context(), promtool, args...)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			out, err := run("test", "rules", "alerts_test.yaml")
			if err == nil {
				out, err = run("check", "rules", "alerts.yaml")
			}
			if (err != nil) != tc.failed {
				t.Errorf("promtool: %v\n%s", err, out)
			}
		})
	}
}

// Every metric that an alert is about is one that we show, and every alert is
// tested.
func TestAlertsAreOfOurMetrics(t *testing.T) {
	t.Parallel()
	rules, tests := readDoc(t, "alerts.yaml"), readDoc(t, "alerts_test.yaml")
	golden, err := os.ReadFile(filepath.Join("testdata", "exposition.golden"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bixmage_\w+`).FindAllString(rules, -1)
	if len(names) < 5 {
		t.Fatalf("found only %v in the rules", names)
	}
	for _, name := range names {
		if !strings.Contains(string(golden), "\n# TYPE "+name+" ") {
			t.Errorf("there is no metric %s", name)
		}
	}
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 5 {
		t.Fatalf("found only %v in the rules", alerts)
	}
	for _, alert := range alerts {
		if !strings.Contains(tests, "alertname: "+alert[1]+"\n        exp_alerts:\n") {
			t.Errorf("no test sees %s fire", alert[1])
		}
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
