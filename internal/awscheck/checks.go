package main

import (
	"context"
	"slices"
)

// checks is everything that is tried, in the order of the report.
func checks() []check {
	return slices.Concat(keyChecks(), rightChecks(), roleChecks(), sessionChecks(), programChecks(), otherChecks())
}

// untried are what a run in one account of AWS cannot try.
func untried(why string) func(context.Context, *env) (answer, error) {
	return func(context.Context, *env) (answer, error) { return answer{}, notTriedError(why) }
}
