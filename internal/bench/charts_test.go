package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRatioChart: a chart has what was measured, and nothing else.
func TestRatioChart(t *testing.T) {
	t.Parallel()
	c := config{binaries: []binary{{name: nameOurs}}, sizes: []int{4096, 65536}, charts: new(charts)}
	all := samples{
		{server: nameOurs, size: 65536, round: 1, rate: 30}, {server: nameNginx, size: 65536, round: 1, rate: 20},
	}
	all.addRatios(c, "hit", ofFigure(comparisons(c.binaries), "requests/s"))
	want := []chart{{
		File: "hit-rate.svg", Title: "Requests a second of ixmage to those of …", Y: "ratio, higher is better",
		Groups: []string{"4 KiB", "64 KiB"}, Goals: []float64{1.15},
		Series: []series{{Name: nameNginx, Points: []point{{X: 1, Y: 1.5, Low: 1.5, High: 1.5}}}},
	}}
	if !cmp.Equal(want, c.charts.list) {
		t.Error(cmp.Diff(want, c.charts.list))
	}
}
