package metrics

import (
	"bytes"
	"flag"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// scrape returns the lines of the exposition that are ours, without those of
// the Go and process collectors, whose values are the machine's.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	var ours strings.Builder
	for line := range strings.Lines(scrapeAll(t, m)) {
		if strings.Contains(line, "ixmage_") {
			ours.WriteString(line)
		}
	}
	return ours.String()
}

func scrapeAll(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape: status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// has reports whether the exposition has a sample line that begins with want.
func has(t *testing.T, m *Metrics, want string) bool {
	t.Helper()
	return strings.Contains("\n"+scrape(t, m), "\n"+want)
}

func hit(bytes int64) Request {
	return Request{
		Method: "GET", Code: 200, Cache: "hit",
		Duration: 400 * time.Microsecond, FirstByte: 90 * time.Microsecond, Bytes: bytes,
	}
}

// busy returns Metrics in which every family has a series.
func busy() *Metrics {
	m := New(Config{Version: "v0.0.0-test", AliasCap: 2})
	m.CacheStats("memory", func() (int64, int64, int64) { return 1 << 20, 1 << 28, 12 })
	m.Aliases(func() map[string]int { return map[string]int{"active": 3, "failed": 0} })
	m.Sessions(func() (int, time.Duration) { return 2, 40 * time.Minute })
	m.Evicted("memory", "capacity", 4)
	m.Evicted("memory", "capacity", 0)
	m.Evicted("memory", "capacity", -1)
	m.Evicted("memory", "expired", 0)
	m.Rejected("memory", 3)
	m.Rejected("memory", 0)
	m.Rejected("memory", -1)
	m.DiskTier()
	m.CacheStats("disk", func() (int64, int64, int64) { return 1 << 30, 1 << 34, 1200 })
	m.DiskAvailable(func() bool { return true })
	m.DiskHits(func() int64 { return 77 })
	m.Evicted("disk", "corrupt", 1)
	m.DiskError("read", 2)
	m.DiskError("read", -1)
	m.DiskWrite("written", 2, 8192)
	m.DiskWrite("dropped", -1, -1)
	m.Promoted(1)
	m.Promoted(-1)
	m.Resident(func() int64 { return 1 << 21 })
	m.Pinned(func() int64 { return 1 << 16 })
	m.OpenConnections(func() int { return 5 })
	m.Shed("idle", 3)
	m.Shed("descriptors", 0)
	m.Shed("busy", -1)
	m.ClientCut("memory", 2)
	m.ClientCut("stalled", 0)
	m.ClientCut("slot", -1)

	shop, blog, third := m.Series("shop"), m.Series("blog"), m.Series("third")
	shop.Request(hit(4096))
	shop.Request(hit(4096))
	shop.Request(Request{Method: "HEAD", Code: 304, Cache: "revalidated", Duration: time.Millisecond})
	blog.Request(Request{
		Method: "GET", Code: 200, Cache: "miss", Aborted: true,
		Duration: 3 * time.Second, FirstByte: 20 * time.Millisecond, Bytes: 65536,
	})
	third.Request(Request{Method: "GET", Code: 418, Cache: "negative", Duration: time.Millisecond})
	m.Pushed("shop", "blog", 3)
	m.Pushed("shop", "shop", 2)
	m.Pushed("", "blog", 1)
	m.Pushed("gone", "", 4)
	m.Pushed("shop", "blog", 0)
	m.Series("").Request(Request{Method: "BREW", Code: 405, Cache: "none", Duration: time.Millisecond})

	shop.Saved("hit", 2, 8192)
	blog.Saved("not_modified", 0, 65536)
	third.Saved("collapsed", 1, 512)
	third.Saved("luck", 1, 1)

	m.OriginRequest("blog", "ok", 25*time.Millisecond)
	m.OriginRequest("blog", "on_fire", time.Minute)
	m.OriginBytes("blog", 65536)
	m.OriginRetries("blog", 1)
	m.OriginRequest("never-seen", "denied", time.Millisecond)
	transforms(m)
	provisioned(m)
	m.Fleet(func() Fleet {
		return Fleet{
			Revision: 214, Lag: 3, Stale: 90 * time.Second, ClockOffset: -1500 * time.Millisecond, Live: 2, Silent: 1,
			Leases: []string{"credential", "schedule", "credential", "nonsense"},
		}
	})
	m.InFlight(2)
	m.InFlight(-1)
	m.OriginOpenBodies(1)
	return m
}

// transforms gives the families of transforms their series.
func transforms(m *Metrics) {
	m.Transforms(func() TransformState { return TransformState{Busy: 2, Idle: 1, QueueLength: 4} })
	m.WorkerStarted(true)
	m.WorkerEnded("deadline")
	m.TransformJob("shop", TransformJob{
		Outcome: "ok", Format: "webp", Queue: 3 * time.Millisecond,
		Worker: 40 * time.Millisecond, Decode: 20 * time.Millisecond, Encode: 15 * time.Millisecond, Saved: 4096,
	})
	m.TransformJob("third", TransformJob{Outcome: "timeout", Worker: 5 * time.Second})
	m.Series("shop").SignatureCheck("ok")
	m.Series("third").SignatureCheck("expired")
}

// provisioned gives the families of provisioning their series; two aliases and
// two credentials have a place of their own.
func provisioned(m *Metrics) {
	made := time.Date(2026, 2, 3, 4, 5, 6, 789e6, time.UTC)
	m.Credential("shop", CredentialInfo{Created: made, RotateEvery: 90 * 24 * time.Hour, Scope: "proven"})
	m.Credential("pasted", CredentialInfo{Created: made, Scope: "violated"})
	m.Credential("third", CredentialInfo{Created: made, RotateEvery: time.Hour, Scope: "weak"})
	m.Credential("fourth", CredentialInfo{Scope: "weak"})
	m.RotationFallback("shop")
	m.OriginCircuit("shop", 2)
	m.RotationFallback("third")
	m.CanaryResult("shop", true)
	m.CanaryResult("blog", false)
	m.CanaryResult("third", false)
	m.CanaryResult("fourth", true)
	m.Operation("provision", "done")
	m.Operation("rotate", "failed")
	m.Step("create-user", 70*time.Millisecond)
	m.Step("soak", 15*time.Minute)
	m.Propagation(1200 * time.Millisecond)
	m.Orphans(3)
	m.Orphans(2)
	m.Running(func() (int, time.Time) { return 2, made })
	m.LogLines(func() int64 { return 4 }, func() int64 { return 5 })
}

func TestExpositionGolden(t *testing.T) {
	t.Parallel()
	got := regexp.MustCompile(`goversion="[^"]*"`).ReplaceAllString(scrape(t, busy()), `goversion="*"`)
	path := filepath.Join("testdata", "exposition.golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("exposition changed (-want +got); if on purpose, run with -update:\n%s", diff)
	}
}

func TestExpositionHasRuntimeCollectors(t *testing.T) {
	t.Parallel()
	all := scrapeAll(t, New(Config{AliasCap: 1000}))
	for _, want := range []string{"\ngo_goroutines ", "\nprocess_start_time_seconds "} {
		if !strings.Contains(all, want) {
			t.Errorf("no line %q", want)
		}
	}
}

func TestExpositionPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("PROMTOOL IS ABSENT: the exposition was not checked (apt-get install prometheus)")
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrapeAll(t, busy()))
	out, err := cmd.CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestPromtoolFindsFaults(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("PROMTOOL IS ABSENT: the exposition was not checked (apt-get install prometheus)")
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader("# TYPE requests counter\nrequests 1\n")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("promtool found nothing wrong with a counter without _total: %s", out)
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1000})
	for _, family := range []string{"ixmage_cache_bytes", "ixmage_aliases"} {
		if has(t, m, family+"{") {
			t.Errorf("%s has a series before anybody reports", family)
		}
	}
	entries := int64(1)
	m.CacheStats("memory", func() (int64, int64, int64) { return 10, 20, entries })
	m.Aliases(func() map[string]int { return map[string]int{"active": 7} })
	for _, want := range []string{
		`ixmage_cache_bytes{tier="memory"} 10`, `ixmage_cache_capacity_bytes{tier="memory"} 20`,
		`ixmage_cache_entries{tier="memory"} 1`, `ixmage_aliases{state="active"} 7`,
	} {
		if !has(t, m, want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
	entries = 2
	if !has(t, m, `ixmage_cache_entries{tier="memory"} 2`+"\n") {
		t.Error("the second scrape shows the number of the first")
	}
	m.CacheStats("memory", func() (int64, int64, int64) { return 0, 0, 0 })
	if !has(t, m, `ixmage_cache_capacity_bytes{tier="memory"} 0`+"\n") {
		t.Error("a second reader did not replace the first")
	}
}

// A reader may call back into Metrics, so no lock is held while it runs.
func TestLevelsReaderMayRegister(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1000})
	m.CacheStats("memory", func() (int64, int64, int64) {
		m.CacheStats("disk", func() (int64, int64, int64) { return 0, 0, 0 })
		m.Series("shop")
		return 1, 1, 1
	})
	if !has(t, m, `ixmage_cache_bytes{tier="memory"} 1`) {
		t.Error("no series of the tier")
	}
}
