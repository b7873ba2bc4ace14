package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const scrape = `# HELP ixmage_cache_bytes Bytes held.
# TYPE ixmage_cache_bytes gauge
ixmage_cache_bytes{tier="memory"} 1.5e+06
ixmage_cache_evictions_total{alias="a",by="b",reason="capacity",tier="memory"} 3
ixmage_cache_evictions_total{alias="c",by="b",reason="capacity",tier="memory"} 4
ixmage_cache_evictions_total{alias="c",by="b",reason="capacity",tier="disk"} 50
ixmage_cache_evictions_total{alias="c",by="b",reason="purged",tier="memory"} 60
ixmage_cache_evictions_totals{reason="capacity",tier="memory"} 70
go_goroutines 12
`

func TestParseMetrics(t *testing.T) {
	t.Parallel()
	m := parseMetrics(scrape + "no number\n\nlast")
	got := []float64{m[`ixmage_cache_bytes{tier="memory"}`], m["go_goroutines"], m["no"], float64(len(m))}
	if want := []float64{1.5e6, 12, 0, 7}; !cmp.Equal(want, got) {
		t.Error(cmp.Diff(want, got))
	}
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{name: "ixmage_cache_evictions_total", labels: []string{`tier="memory"`, `reason="capacity"`}, want: 7},
		{name: "ixmage_cache_evictions_total", labels: []string{`reason="capacity"`}, want: 57},
		{name: "ixmage_cache_evictions_total", want: 117},
		{name: "go_goroutines"},
	} {
		if got := sumOf(m, tt.name, tt.labels...); got != tt.want {
			t.Errorf("%s %v is %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
}

func TestKibibytes(t *testing.T) {
	t.Parallel()
	n, err := sumFields(kibibytes("Name:\tixmage\nVmHWM:\t  359012 kB\nVmRSS:\t     100 kB\n"), "VmHWM", "VmRSS")
	if err != nil || n != 359112 {
		t.Errorf("got %d and error %v, want the sum", n, err)
	}
}

// TestSoakLimits has a row that is broken for each limit.
func TestSoakLimits(t *testing.T) {
	t.Parallel()
	before := soakSample{goroutines: 20, files: 10}
	most := soakSample{peak: 371, goroutines: 28, files: 500}
	tests := []struct {
		name          string
		after, purged soakSample
		missed        string
	}{
		{name: "all on the line", after: most, purged: soakSample{goroutines: 28, files: 18}},
		{name: "memory", after: soakSample{peak: 372}, missed: "peak resident memory"},
		{name: "goroutines", after: soakSample{goroutines: 29}, missed: "goroutines more than before the load"},
		{name: "files", purged: soakSample{files: 19}, missed: "open files"},
		{name: "requests", after: soakSample{inFlight: 1}, missed: "in flight"},
		{name: "bodies of S3", after: soakSample{openBodies: 1}, missed: "open bodies"},
		{name: "pinned", after: soakSample{pinned: 1}, missed: "pinned"},
		{name: "held", purged: soakSample{held: 0.01}, missed: "held in memory"},
		{name: "disk", purged: soakSample{disk: 1.01}, missed: "held on disk"},
		{name: "connections", purged: soakSample{goroutines: 29}, missed: "goroutines more than before, after that purge"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			s := soak{config: config{goals: new(goals)}, report: &out}
			s.limits(before, tt.after, tt.purged)
			missed := strings.Join(s.goals.missed, "; ")
			if tt.missed == "" && missed != "" || !strings.Contains(missed, tt.missed) || strings.Contains(missed, ";") {
				t.Errorf("missed %q, want %q alone", missed, tt.missed)
			}
		})
	}
}

func TestSoakWrite(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := soak{report: &out, samples: []soakSample{{goroutines: 5, evicted: 7}, {goroutines: 3, files: 9, evicted: 8}}}
	s.write(traceResult{Complete: 100, Aborted: 4, Elapsed: time.Minute})
	for _, want := range []string{"1m0s of", "disk tier off", "100 complete", "4 aborted", "8 evictions", "5 goroutines and 9 files"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q: %s", want, out.String())
		}
	}
}
