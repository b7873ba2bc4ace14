package metrics

import (
	"strings"
	"testing"
	"time"
)

// ofTransforms returns the lines of transforms and signatures with a value that is not zero, without buckets.
func ofTransforms(t *testing.T, m *Metrics) string {
	t.Helper()
	var list strings.Builder
	for line := range strings.Lines(scrape(t, m)) {
		name, found := strings.CutPrefix(line, "ixmage_transform_")
		if !found {
			name, found = strings.CutPrefix(line, "ixmage_signature_")
		}
		if found && !strings.HasSuffix(line, " 0\n") && !strings.Contains(line, "_bucket{") {
			list.WriteString(name)
		}
	}
	return list.String()
}

// offLine is shown as long as nobody sets the state.
const offLine = "off{reason=\"not_configured\"} 1\n"

func TestTransformJob(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, row := range []struct {
		name, alias string
		job         TransformJob
		want        string
	}{
		{
			"ok", "shop", TransformJob{"ok", "webp", 250 * ms, 500 * ms, 125 * ms, 375 * ms, 4096},
			"decode_seconds_sum 0.125\ndecode_seconds_count 1\nencode_seconds_sum{format=\"webp\"} 0.375\nencode_seconds_count{format=\"webp\"} 1\n" +
				"jobs_total{alias=\"shop\",outcome=\"ok\"} 1\n" + offLine + "queue_seconds_sum 0.25\nqueue_seconds_count 1\n" +
				"saved_bytes_total{alias=\"shop\"} 4096\nworker_seconds_total{alias=\"shop\"} 0.5\n",
		},
		{"never ran", "shop", TransformJob{Outcome: "overloaded"}, "jobs_total{alias=\"shop\",outcome=\"overloaded\"} 1\n" + offLine},
		{
			"a killed one costs time", "shop", TransformJob{Outcome: "timeout", Worker: 5 * time.Second},
			"jobs_total{alias=\"shop\",outcome=\"timeout\"} 1\n" + offLine + "worker_seconds_total{alias=\"shop\"} 5\n",
		},
		{"unknown words", "shop", TransformJob{Outcome: "on fire", Format: "bmp", Encode: ms}, "jobs_total{alias=\"shop\",outcome=\"failed\"} 1\n" + offLine},
		{"past the cap", "third", TransformJob{Outcome: "ok"}, "jobs_total{alias=\"_other\",outcome=\"ok\"} 1\n" + offLine},
		{"negative", "shop", TransformJob{"ok", "jpeg", -ms, -ms, -ms, -ms, -5}, "jobs_total{alias=\"shop\",outcome=\"ok\"} 1\n" + offLine},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := New(Config{AliasCap: 1})
			m.Series("shop")
			m.TransformJob(row.alias, row.job)
			if got := ofTransforms(t, m); got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
}

func TestSignatureCheck(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1})
	shop, second := m.Series("shop"), m.Series("second")
	for _, outcome := range []string{"ok", "ok", "missing", "unknown_kid", "bad", "expired", "a1"} {
		shop.SignatureCheck(outcome)
	}
	second.SignatureCheck("ok")
	want := "checks_total{alias=\"_other\",outcome=\"ok\"} 1\n" +
		"checks_total{alias=\"shop\",outcome=\"bad\"} 2\n" +
		"checks_total{alias=\"shop\",outcome=\"expired\"} 1\n" +
		"checks_total{alias=\"shop\",outcome=\"missing\"} 1\n" +
		"checks_total{alias=\"shop\",outcome=\"ok\"} 2\n" +
		"checks_total{alias=\"shop\",outcome=\"unknown_kid\"} 1\n" + offLine
	if got := ofTransforms(t, m); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTransformForget: the series go with their alias, and a job that ends later does not make them again.
func TestTransformForget(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1})
	shop := m.Series("shop")
	c := shop.cells.Load()
	all := func() {
		shop.SignatureCheck("ok")
		m.TransformJob("shop", TransformJob{Outcome: "ok", Worker: time.Second, Saved: 7})
	}
	all()
	if got := strings.Count(ofTransforms(t, m), `alias="shop"`); got != 4 {
		t.Errorf("%d series, want 4", got)
	}
	m.Forget("shop")
	all()
	m.jobCell(c, 1).Inc() // by one that loaded its cells before
	m.signatureCell(c, 1).Inc()
	got := ofTransforms(t, m)
	if strings.Contains(got, `"shop"`) || !strings.Contains(got, "saved_bytes_total{alias=\"_other\"} 7\n") {
		t.Errorf("after the deletion:\n%s", got)
	}
}

func TestTransformState(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		state *TransformState // nil: nobody sets it
		want  string
	}{
		{"no worker is configured", nil, offLine},
		{"none can be started", &TransformState{Off: "worker"}, "off{reason=\"worker\"} 1\n"},
		{
			"on", &TransformState{Busy: 1, Idle: 3, QueueLength: 2},
			"available 1\nqueue_length 2\nworkers{state=\"busy\"} 1\nworkers{state=\"idle\"} 3\n",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := New(Config{})
			if row.state != nil {
				m.Transforms(func() TransformState { return *row.state })
			}
			if got := ofTransforms(t, m); got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
			if row.state == nil && !has(t, m, "ixmage_transform_available 0\n") {
				t.Error("transform_available is absent")
			}
		})
	}
}

func TestWorkers(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	m.WorkerStarted(true)
	m.WorkerStarted(false)
	m.WorkerEnded("deadline")
	m.WorkerEnded("bored")
	want := offLine + "worker_kills_total{reason=\"deadline\"} 1\nworker_kills_total{reason=\"other\"} 1\n" +
		"worker_start_failures_total 1\nworker_starts_total 1\n"
	if got := ofTransforms(t, m); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

//nolint:paralleltest // AllocsPerRun counts what other goroutines allocate too.
func TestSignatureCheckDoesNotAllocate(t *testing.T) {
	s := New(Config{AliasCap: 1000}).Series("shop")
	s.SignatureCheck("ok")
	if n := testing.AllocsPerRun(100, func() { s.SignatureCheck("ok") }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}
