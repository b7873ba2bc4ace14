package main

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		values []float64
		q      float64
		want   float64
	}{
		{name: "median of odd", values: []float64{3, 1, 2}, q: 0.5, want: 2},
		{name: "median of even", values: []float64{4, 1, 3, 2}, q: 0.5, want: 2.5},
		{name: "quartile between", values: []float64{10, 20, 30, 40}, q: 0.25, want: 17.5},
		{name: "lowest", values: []float64{3, 1, 2}, q: 0, want: 1},
		{name: "highest", values: []float64{3, 1, 2}, q: 1, want: 3},
		{name: "one", values: []float64{7}, q: 0.99, want: 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := slices.Clone(tt.values)
			if got := quantile(tt.values, tt.q); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if !slices.Equal(before, tt.values) {
				t.Errorf("the values were reordered: %v", tt.values)
			}
		})
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("got %v for no values, want NaN", got)
	}
}

func TestPairedRatios(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		over, under map[int]float64
		want        []float64
	}{
		{
			// Unpaired medians would give 20/20.
			name: "a disturbed round cancels out",
			over: map[int]float64{1: 10, 2: 20, 3: 90}, under: map[int]float64{1: 20, 2: 40, 3: 180},
			want: []float64{0.5, 0.5, 0.5},
		},
		{name: "round missing", over: map[int]float64{1: 3, 2: 4}, under: map[int]float64{2: 2}, want: []float64{2}},
		{name: "nothing below", over: map[int]float64{1: 3}, under: map[int]float64{1: 0}},
		{name: "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := pairedRatios(tt.over, tt.under); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSizeName(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{100: "100 B", 4 << 10: "4 KiB", 5000: "5000 B", 1 << 20: "1 MiB", 1536 << 10: "1536 KiB"} {
		if got := sizeName(n); got != want {
			t.Errorf("sizeName(%d) is %q, want %q", n, got, want)
		}
	}
}

func TestWriteHits(t *testing.T) {
	t.Parallel()
	var all samples
	for round := 1; round <= 3; round++ {
		slow := float64(round) // a machine that slows down for everybody
		all = append(all,
			sample{server: nameOurs, size: 4096, round: round, rate: 60000 / slow, cost: cost{cpu: 12, calls: 2}, busy: 0.9},
			sample{server: nameNginx, size: 4096, round: round, rate: 40000 / slow, cost: cost{cpu: 18}, busy: 1},
			sample{server: nameBare, size: 4096, round: round, rate: 70000 / slow, cost: cost{cpu: 10}, busy: 0.9})
	}
	var out strings.Builder
	all.writeHits(&out, config{
		binaries: []binary{{name: nameOurs}}, servers: []string{nameOurs, nameBare, nameNginx}, sizes: []int{4096},
	})
	for _, want := range []string{
		"| 4 KiB | ixmage | 30000 (25000–45000) |",
		"| 12.0 (12.0–12.0) | 2.00 (2.00–2.00) |",
		"| requests/s, ixmage / nginx | 4 KiB | 1.500 (1.500–1.500) | ≥ 1.15 | met |",
		"| CPU/request, ixmage / bare | 4 KiB | 1.200 (1.200–1.200) | ≤ 1.08 | **missed** |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "ixmage / varnish") {
		t.Errorf("the report has a ratio to a server that was not measured:\n%s", out.String())
	}
}

func TestFirstMatch(t *testing.T) {
	t.Parallel()
	if got := firstMatch("nginx version: nginx/1.22.1\n", `nginx/(\S+)`); got != "1.22.1" {
		t.Errorf("got %q, want the version", got)
	}
	if got := firstMatch("sh: nginx: not found\n", `nginx/(\S+)`); got != "unknown" {
		t.Errorf("got %q, want unknown", got)
	}
}

// TestWriteBinaries: each binary is compared with the first, for hits and for
// misses.
func TestWriteBinaries(t *testing.T) {
	t.Parallel()
	c := config{
		binaries: []binary{{name: "old"}, {name: "new"}}, servers: []string{"old", "new"}, sizes: []int{4096},
		states: missStates[1:2],
	}
	var hits samples
	var misses []missSample
	for round := 1; round <= 3; round++ {
		slow := float64(round)
		hits = append(hits,
			sample{server: "old", size: 4096, round: round, rate: 40000 / slow, cost: cost{cpu: 10}},
			sample{server: "new", size: 4096, round: round, rate: 50000 / slow, cost: cost{cpu: 9}})
		misses = append(misses,
			missSample{way: waySDK, state: "cold", size: 4096, round: round, first: []float64{slow}, cost: cost{cpu: 50}},
			missSample{way: "old", state: "cold", size: 4096, round: round, first: []float64{2 * slow}, cost: cost{cpu: 100}},
			missSample{way: "new", state: "cold", size: 4096, round: round, first: []float64{3 * slow}, cost: cost{cpu: 80}})
	}
	var out strings.Builder
	hits.writeHits(&out, c)
	writeMisses(&out, misses, c)
	for _, want := range []string{
		"| requests/s, new / old | 4 KiB | 1.250 (1.250–1.250) |  |  |",
		"| CPU/request, new / old | 4 KiB | 0.900 (0.900–0.900) |  |",
		"| first byte, old / SDK | 4 KiB | 2.000 (2.000–2.000) | ≤ 1.15 |",
		"| CPU/request, old / SDK | 4 KiB | 2.000 (2.000–2.000) | ≤ 1.25 |",
		"| first byte, new / old | 4 KiB | 1.500 (1.500–1.500) |  |",
		"| CPU/request, new / old | 4 KiB | 0.800 (0.800–0.800) |  |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}
