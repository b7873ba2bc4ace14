package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
)

// plotModule draws the charts. It is a module of its own.
const plotModule = "internal/bench/plot"

// chart is a figure as plotModule reads it.
type chart struct {
	File   string    `json:"file"`
	Title  string    `json:"title"`
	X      string    `json:"x"`
	Y      string    `json:"y"`
	LogX   bool      `json:"log_x,omitempty"`
	LogY   bool      `json:"log_y,omitempty"`
	Groups []string  `json:"groups,omitempty"` // of bars; lines have none
	Series []series  `json:"series"`
	Goals  []float64 `json:"goals,omitempty"`
}

type series struct {
	Name   string  `json:"name"`
	Dashed bool    `json:"dashed,omitempty"` // not measured
	Points []point `json:"points"`
}

type point struct {
	X    float64 `json:"x"`
	Y    float64 `json:"y"`
	Low  float64 `json:"low,omitempty"`
	High float64 `json:"high,omitempty"`
}

// bar is the bar of a group: the median with its quartiles.
func bar(group int, s spread) point {
	return point{X: float64(group), Y: s.median, Low: s.low, High: s.high}
}

// charts collects those of a report. A nil pointer collects nothing.
type charts struct{ list []chart }

// add drops series without points, and charts without series.
func (cs *charts) add(c chart) {
	if cs == nil {
		return
	}
	full := c.Series[:0:0]
	for _, s := range c.Series {
		if len(s.Points) > 0 {
			full = append(full, s)
		}
	}
	c.Series = full
	if len(full) > 0 {
		cs.list = append(cs.list, c)
	}
}

// draw writes the charts into a folder as SVG.
func (cs *charts) draw(ctx context.Context, dir string) error {
	if len(cs.list) == 0 || dir == "" {
		return nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	text, err := json.Marshal(cs.list)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "-C", plotModule, "run", ".", dir)
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("draw the charts with %s (start the benchmark in the root of the repository): %w: %s",
			plotModule, err, out)
	}
	return nil
}

// sizeNames are the groups of bars by size.
func sizeNames(sizes []int) []string {
	names := make([]string, 0, len(sizes))
	for _, n := range sizes {
		names = append(names, sizeName(n))
	}
	return names
}

// ratioChart has the ratios of one figure of a server to others by size.
func (ss samples) ratioChart(c config, file string, list []comparison) chart {
	var out chart
	goals := make(map[float64]bool)
	for _, cmp := range list {
		if cmp.over != c.binaries[0].name {
			continue
		}
		s := series{Name: cmp.under}
		for i, n := range c.sizes {
			ratios := pairedRatios(ss.series(cmp.over, n, cmp.figure), ss.series(cmp.under, n, cmp.figure))
			if len(ratios) > 0 {
				s.Points = append(s.Points, bar(i, spreadOf(ratios)))
			}
			if g := cmp.goal(n); g.sign != "" && !goals[g.bound] && len(s.Points) > 0 {
				goals[g.bound] = true
				out.Goals = append(out.Goals, g.bound)
			}
		}
		out.Series = append(out.Series, s)
	}
	out.File, out.Groups = file, sizeNames(c.sizes)
	return out
}

// ofFigure are the comparisons with one title.
func ofFigure(list []comparison, what string) []comparison {
	var some []comparison
	for _, cmp := range list {
		if cmp.what == what {
			some = append(some, cmp)
		}
	}
	return some
}

// addRatios adds charts of requests a second and of processor time.
func (ss samples) addRatios(c config, name string, list []comparison) {
	rates := ss.ratioChart(c, name+"-rate.svg", ofFigure(list, "requests/s"))
	rates.Title, rates.Y = "Requests a second of ixmage to those of …", "ratio, higher is better"
	c.charts.add(rates)
	costs := ss.ratioChart(c, name+"-cpu.svg", ofFigure(list, "CPU/request"))
	costs.Title, costs.Y = "Processor time per request of ixmage to that of …", "ratio, lower is better"
	c.charts.add(costs)
}

// addChart adds a chart of the misses: a figure by size, to that of the SDK alone.
func (ss missSamples) addChart(c config, file, title string, r missComparison) {
	out := chart{File: file, Title: title, Y: "ratio", Groups: sizeNames(c.sizes), Goals: []float64{r.goal.bound}}
	for _, state := range c.states {
		s := series{Name: "cache " + state.name}
		for i, n := range c.sizes {
			over, under := ss.of(r.over, state.name, n), ss.of(r.under, state.name, n)
			if ratios := pairedRatios(over.series(r.figure), under.series(r.figure)); len(ratios) > 0 {
				s.Points = append(s.Points, bar(i, spreadOf(ratios)))
			}
		}
		out.Series = append(out.Series, s)
	}
	c.charts.add(out)
}

// addCharts adds a chart for each goal of the misses.
func (ss missSamples) addCharts(c config) {
	for _, r := range missComparisons(c.binaries) {
		if r.over != c.binaries[0].name || r.under != waySDK {
			continue
		}
		switch r.what {
		case "CPU/request":
			ss.addChart(c, "miss-cpu.svg", "Processor time of a miss to that of the SDK alone", r)
		case "first byte":
			ss.addChart(c, "miss-first-byte.svg", "First byte of a miss to that of the SDK alone", r)
		case "requests/s":
			ss.addChart(c, "miss-rate.svg", "Misses a second to those of the SDK alone", r)
		}
	}
}

// addMixed adds charts of the origin's bytes and of the times of answers.
func (c config) addMixed(all []mixedSample, budgets []int64) {
	origin := chart{File: "mixed-origin.svg", Title: "Mixed load: bytes from the origin", Y: "MiB"}
	for _, budget := range budgets {
		origin.Groups = append(origin.Groups, fmt.Sprintf("budget %.0f MiB", mib(budget)))
	}
	quantiles := []float64{0.5, 0.9, 0.99, 0.999}
	times := chart{
		File: "mixed-times.svg", Title: fmt.Sprintf("Mixed load: time of an answer, budget %.0f MiB", mib(budgets[0])),
		Y: "ms", LogY: true, Groups: []string{"p50", "p90", "p99", "p99.9"},
	}
	for _, name := range c.mixedNames() {
		bytes, ms := series{Name: name}, series{Name: name}
		for i, budget := range budgets {
			m := mixedOf(all, name, budget)
			bytes.Points = append(bytes.Points, point{X: float64(i), Y: m.bytes})
			for k, q := range quantiles {
				if i == 0 {
					ms.Points = append(ms.Points, point{X: float64(k), Y: m.total.quantile(q)})
				}
			}
		}
		origin.Series, times.Series = append(origin.Series, bytes), append(times.Series, ms)
	}
	c.charts.add(origin)
	c.charts.add(times)
}

// addChart adds a chart of the memory over time.
func (s *soak) addChart() {
	file := "soak.svg"
	if s.cacheDisk != "" {
		file = "soak-disk.svg"
	}
	resident, held, heap := series{Name: "resident"}, series{Name: "memory tier"}, series{Name: "Go heap"}
	every := max(1, len(s.samples)/150)
	for i := 0; i < len(s.samples); i += every {
		one := s.samples[i]
		at := one.at.Minutes()
		resident.Points = append(resident.Points, point{X: at, Y: one.resident})
		held.Points = append(held.Points, point{X: at, Y: one.held})
		heap.Points = append(heap.Points, point{X: at, Y: one.heap})
	}
	s.charts.add(chart{
		File: file, Title: "Soak: memory, disk tier " + orOff(s.cacheDisk), X: "minutes", Y: "MiB",
		Series: []series{resident, held, heap}, Goals: []float64{peakLimit},
	})
}
