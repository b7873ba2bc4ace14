package main

import (
	"fmt"
	"io"
)

// goal is a bound of a figure. The zero value is none.
type goal struct {
	sign  string // ≥, ≤ or <
	bound float64
}

func atLeast(bound float64) goal { return goal{"≥", bound} }
func atMost(bound float64) goal  { return goal{"≤", bound} }
func belowOne() goal             { return goal{"<", 1} }

func (g goal) String() string {
	if g.sign == "" {
		return ""
	}
	return fmt.Sprintf("%s %.2f", g.sign, g.bound)
}

// met is false for NaN.
func (g goal) met(value float64) bool {
	switch g.sign {
	case "≥":
		return value >= g.bound
	case "≤":
		return value <= g.bound
	}
	return value < g.bound
}

// goals collects how a report fares. A nil pointer collects nothing.
type goals struct {
	met    int
	missed []string
}

// judge returns "met", "missed" or, without a goal, nothing.
func (s *goals) judge(what string, value float64, g goal) string {
	switch {
	case g.sign == "":
		return ""
	case g.met(value):
		if s != nil {
			s.met++
		}
		return "met"
	}
	if s != nil {
		s.missed = append(s.missed, fmt.Sprintf("%s: %.3f, want %s", what, value, g))
	}
	return "**missed**"
}

const ratioHeader = "| ratio (median of paired rounds) | object | value | goal | |\n|---|---|---|---|---|"

// ratio prints a row of a table with ratioHeader.
func (s *goals) ratio(w io.Writer, what, object string, r ratio) {
	sp := spreadOf(r.values)
	fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", what, object, sp.format("%.3f"), r.goal,
		s.judge(what+", "+object, sp.median, r.goal))
}

// ratio has the values of all rounds.
type ratio struct {
	values []float64
	goal   goal
}

// write prints the summary.
func (s *goals) write(w io.Writer) {
	fmt.Fprintf(w, "## Goals\n\n%d of %d met.\n\n", s.met, s.met+len(s.missed))
	for _, line := range s.missed {
		fmt.Fprintf(w, "- missed: %s\n", line)
	}
}
