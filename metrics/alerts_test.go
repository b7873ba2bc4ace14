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
		name  string
		rules string
		fails string // the test that must fail; without one, none may
	}{
		{"as they are", rules, ""},
		{"no slack", strings.Replace(rules, "+ 7200", "", 1), "a key older than its rotation, with slack"},
		{"keys that are never rotated", strings.Replace(rules, "every_seconds > 0", "every_seconds >= 0", 1), "a key older than its rotation, with slack"},
		{"any canary", strings.Replace(rules, "success == 0", "success >= 0", 1), "a canary that stays red"},
		{"canary at once", strings.Replace(rules, "for: 15m\n        labels: {severity: page}", "labels: {severity: page}", 1), "a canary that stays red"},
		{"no orphans", strings.Replace(rules, "orphans > 0", "orphans > 5", 1), "orphans that stay"},
		{"all fallbacks there ever were", strings.Replace(rules, "increase(ixmage_rotation_fallback_total[15m])", "ixmage_rotation_fallback_total", 1), "a new key that is refused"},
		{"operations in a hurry", strings.Replace(rules, "seconds > 7200", "seconds > 60", 1), "an operation that does not end"},
		{"disk at once", strings.Replace(rules, "for: 5m\n        labels: {severity: ticket}\n        annotations:\n          runbook: docs/operations.md#ixmagediskcacheoff", "labels: {severity: ticket}\n        annotations:\n          runbook: docs/operations.md#ixmagediskcacheoff", 1), "a disk that fails"},
		{"no disk", strings.Replace(rules, "disk_available == 0", "disk_available > 0", 1), "a disk that fails"},
		{"errors without a limit", strings.Replace(rules, "ratio_rate5m > 0.05", "ratio_rate5m > 0.01", 1), "answers that fail"},
		{"404 as an error", strings.ReplaceAll(rules, `code=~"5.."`, `code=~"5..|404"`), "answers that fail"},
		{"errors of a single request", strings.Replace(rules, "[5m])) > 10", "[5m])) > 0", 1), "answers that fail"},
		{"circuits that open for a moment", strings.Replace(rules, "min_over_time(ixmage_origin_circuit[5m])", "max_over_time(ixmage_origin_circuit[5m])", 1), "a circuit that does not close"},
		{"a limit reached once", strings.Replace(rules, "for: 10m\n        labels: {severity: ticket}", "labels: {severity: ticket}", 1), "a limit that is reached all the time"},
		{"any call to S3", strings.Replace(rules, `outcome="bad_credential"`, `outcome!=""`, 1), "a key that S3 refuses"},
		{"a key refused once", strings.Replace(rules, "for: 5m\n        labels: {severity: page}\n        annotations:\n          runbook: docs/operations.md#ixmagekeyrefused", "labels: {severity: page}\n        annotations:\n          runbook: docs/operations.md#ixmagekeyrefused", 1), "a key that S3 refuses"},
		{"any scope", strings.Replace(rules, `{scope="violated"} == 1`, `{scope="violated"} >= 0`, 1), "a key that can do too much"},
		{"no hits", strings.Replace(rules, `cache=~"hit|collapsed|stale"`, `cache="hit"`, 1), "the recording rules"},
		{"no zero of errors", strings.Replace(rules, "or\n          0 * instance:ixmage_http_requests:rate5m", "", 1), "the recording rules"},
		{"no zero of hits", strings.Replace(rules, "or\n          0 * instance:ixmage_cache_requests:rate5m", "", 1), "the recording rules"},
		{"one bucket for all", strings.Replace(rules, "cache, le) (rate", "cache) (rate", 1), "the recording rules"},
		{"stale for a moment", strings.Replace(rules, "stale_seconds > 60", "stale_seconds > 20", 1), "a registry that stays stale"},
		{"stale at once", strings.Replace(rules, "for: 1m\n", "for: 0m\n", 1), "a registry that stays stale"},
		{"live nodes too", strings.Replace(rules, `{state="silent"}`, "", 1), "a node that stays silent"},
		{"an alert of every node", strings.Replace(rules, "max by (job) (ixmage_nodes", "(ixmage_nodes", 1), "a node that stays silent"},
		{"silent at once", strings.Replace(rules, "for: 10m\n        labels: {severity: ticket}\n        annotations:\n          runbook: docs/operations.md#ixmagenodesilent", "labels: {severity: ticket}\n        annotations:\n          runbook: docs/operations.md#ixmagenodesilent", 1), "a node that stays silent"},
		{"any lag", strings.Replace(rules, "min_over_time(ixmage_registry_lag[5m])", "max_over_time(ixmage_registry_lag[5m])", 1), "a node that lags"},
		{"fast clocks only", strings.Replace(rules, "abs(ixmage_node_clock_offset_seconds)", "ixmage_node_clock_offset_seconds", 1), "a clock that is off"},
		{"a clock at once", strings.Replace(rules, "for: 10m\n        labels: {severity: ticket}\n        annotations:\n          runbook: docs/operations.md#ixmageclockoffset", "labels: {severity: ticket}\n        annotations:\n          runbook: docs/operations.md#ixmageclockoffset", 1), "a clock that is off"},
		{"transforms that nobody configured", strings.Replace(rules, `{reason!="not_configured"}`, "", 1), "transforms that are off although they are configured"},
		{"transforms off for a moment", strings.Replace(rules, "for: 5m\n        labels: {severity: page}\n        annotations:\n          runbook: docs/operations.md#ixmagetransformsoff", "labels: {severity: page}\n        annotations:\n          runbook: docs/operations.md#ixmagetransformsoff", 1), "transforms that are off although they are configured"},
		{"any kill", strings.Replace(rules, "[15m])) > 10", "[15m])) > 0", 1), "workers that are killed"},
		{"workers that are recycled", strings.Replace(rules, `{reason=~"deadline|crash|answer|internal"}`, "", 1), "workers that are killed"},
		{"all kills there ever were", strings.Replace(rules, `increase(ixmage_transform_worker_kills_total{reason=~"deadline|crash|answer|internal"}[15m])`, "ixmage_transform_worker_kills_total", 1), "workers that are killed"},
		{"any job", strings.Replace(rules, `{outcome="overloaded"}[5m]`, "[5m]", 1), "a queue of transforms that is full all the time"},
		{"a queue full at once", strings.Replace(rules, "for: 10m\n        labels: {severity: ticket}\n        annotations:\n          runbook: docs/operations.md#ixmagetransformqueuefull", "labels: {severity: ticket}\n        annotations:\n          runbook: docs/operations.md#ixmagetransformqueuefull", 1), "a queue of transforms that is full all the time"},
		{"not even rules", rules + "garbage", "orphans that stay"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.fails != "" && tc.rules == rules {
				t.Fatal("the rules have nothing to replace")
			}
			dir := t.TempDir()
			for name, text := range map[string]string{"alerts.yaml": tc.rules, "alerts_test.yaml": onlyTest(t, tests, tc.fails)} {
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
			if (err != nil) != (tc.fails != "") {
				t.Errorf("promtool: %v\n%s", err, out)
			}
		})
	}
}

// onlyTest returns a file of rule tests with one of them, because each takes time; with "",
// all of them.
func onlyTest(t *testing.T, tests, name string) string {
	t.Helper()
	if name == "" {
		return tests
	}
	const item = "\n  - name: "
	parts := strings.Split(tests, item)
	for _, part := range parts[1:] {
		if strings.HasPrefix(part, name+"\n") {
			return parts[0] + item + part + "\n"
		}
	}
	t.Fatalf("there is no test %q", name)
	return ""
}

// Every metric that a rule is about is one that we show, every rule is tested, and every
// alert has a section in docs/operations.md.
func TestAlertsAreOfOurMetrics(t *testing.T) {
	t.Parallel()
	rules, tests := readDoc(t, "alerts.yaml"), readDoc(t, "alerts_test.yaml")
	golden, err := os.ReadFile(filepath.Join("testdata", "exposition.golden"))
	if err != nil {
		t.Fatal(err)
	}
	expressions := rules
	records := regexp.MustCompile(`record: (\S+)`).FindAllStringSubmatch(rules, -1)
	if len(records) < 5 {
		t.Fatalf("found only %v in the rules", records)
	}
	for _, record := range records {
		expressions = strings.ReplaceAll(expressions, record[1], "")
		if !strings.Contains(tests, "expr: "+record[1]+"\n") {
			t.Errorf("no test sees a value of %s", record[1])
		}
	}
	names := regexp.MustCompile(`\bixmage_\w+`).FindAllString(expressions, -1)
	if len(names) < 10 {
		t.Fatalf("found only %v in the rules", names)
	}
	for _, name := range names {
		if !strings.Contains(string(golden), "\n# TYPE "+strings.TrimSuffix(name, "_bucket")+" ") {
			t.Errorf("there is no metric %s", name)
		}
	}
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 5 {
		t.Fatalf("found only %v in the rules", alerts)
	}
	headings := "\n" + strings.ToLower(readDoc(t, "operations.md"))
	for _, alert := range alerts {
		section := strings.ToLower(alert[1])
		if !strings.Contains(rules, "runbook: docs/operations.md#"+section+"\n") || !strings.Contains(headings, "\n### "+section+"\n") {
			t.Errorf("%s has no runbook in docs/operations.md", alert[1])
		}
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
