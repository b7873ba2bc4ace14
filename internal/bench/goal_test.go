package main

import (
	"math"
	"strings"
	"testing"
)

func TestGoals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		goal  goal
		value float64
		want  string
	}{
		{name: "none", value: 5},
		{name: "at least, on the line", goal: atLeast(1.15), value: 1.15, want: "met"},
		{name: "at least, below", goal: atLeast(1.15), value: 1.149, want: "**missed**"},
		{name: "at most, on the line", goal: atMost(1.15), value: 1.15, want: "met"},
		{name: "at most, above", goal: atMost(1.15), value: 1.151, want: "**missed**"},
		{name: "below, on the line", goal: belowOne(), value: 1, want: "**missed**"},
		{name: "below", goal: belowOne(), value: 0.999, want: "met"},
		{name: "nothing measured", goal: belowOne(), value: math.NaN(), want: "**missed**"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s goals
			if got := s.judge("figure", tt.value, tt.goal); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			var out strings.Builder
			s.write(&out)
			if got := strings.Contains(out.String(), "missed: figure"); got != (tt.want == "**missed**") {
				t.Errorf("the summary is %q", out.String())
			}
		})
	}
}
