package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func lines() chart {
	return chart{
		File: "a.svg", Title: "T & U", X: "entries", Y: "requests/s", LogX: true, Goals: []float64{1.15},
		Series: []series{
			{Name: "measured", Points: []point{{X: 1000, Y: 2, Low: 1.5, High: 2.5}, {X: 1e6, Y: 1}}},
			{Name: "paper", Dashed: true, Points: []point{{X: 1000, Y: 2}, {X: 1e6, Y: 3}}},
		},
	}
}

func bars() chart {
	return chart{
		File: "b.svg", Title: "Bars", Groups: []string{"4 KiB", "64 KiB"},
		Series: []series{{Name: "nginx", Points: []point{{X: 0, Y: 1}, {X: 1, Y: 2, Low: 1, High: 3}}}},
	}
}

func TestDraw(t *testing.T) {
	t.Parallel()
	onLog := bars()
	onLog.File, onLog.LogY = "c.svg", true
	for _, c := range []chart{lines(), bars(), onLog} {
		svg, err := c.draw()
		if err != nil {
			t.Fatal(err)
		}
		dec := xml.NewDecoder(bytes.NewReader(svg))
		for err == nil {
			_, err = dec.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s is no XML: %v", c.File, err)
		}
		for _, want := range []string{"<svg ", c.Series[0].Name, strings.ReplaceAll(c.Title, "&", "&amp;")} {
			if !bytes.Contains(svg, []byte(want)) {
				t.Errorf("%s lacks %q", c.File, want)
			}
		}
		again, _ := c.draw()
		if !bytes.Equal(svg, again) {
			t.Errorf("%s is another drawing the second time", c.File)
		}
		if len(svg) > 60<<10 {
			t.Errorf("%s has %d bytes", c.File, len(svg))
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(c *chart)
		want   string
	}{
		{name: "nothing is wrong", change: func(*chart) {}},
		{name: "another folder", change: func(c *chart) { c.File = "../a.svg" }, want: ".svg"},
		{name: "another kind", change: func(c *chart) { c.File = "a.png" }, want: ".svg"},
		{name: "no points", change: func(c *chart) { c.Series = nil }, want: "no points"},
		{name: "no number", change: func(c *chart) { c.Series[0].Points[0].Y = math.NaN() }, want: "no number"},
		{name: "infinite", change: func(c *chart) { c.Series[0].Points[0].High = math.Inf(1) }, want: "no number"},
		{name: "zero on a logarithmic axis", change: func(c *chart) { c.Series[0].Points[0].X = 0 }, want: "not above 0"},
		{name: "bar between groups", change: func(c *chart) { *c = bars(); c.Series[0].Points[0].X = 0.5 }, want: "group 0.5"},
		{name: "bar beyond the groups", change: func(c *chart) { *c = bars(); c.Series[0].Points[0].X = 2 }, want: "group 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := lines()
			tt.change(&c)
			_, err := c.draw()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal([]chart{lines(), bars()})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := run([]string{dir}, bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.svg", "b.svg"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if err := run([]string{dir}, strings.NewReader(`[{"colour":1}]`)); err == nil {
		t.Error("an unknown field is accepted")
	}
	if err := run(nil, strings.NewReader(`[]`)); err == nil {
		t.Error("no folder is accepted")
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 0.25: "0.25", 999: "999", 1000: "1 k", 2500: "2.5 k", 1e6: "1 M"} {
		if got := short(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}
