package alias

import (
	"fmt"
	"slices"
	"strings"
)

// AnyHeader as the only entry of Alias.CORSHeaders means every header but Authorization
// (the Fetch standard, CORS protocol).
const AnyHeader = "*"

// Bounds of Alias.CORSHeaders: the answer to a preflight has all of them in one line.
const (
	maxHeaders    = 32
	maxHeaderName = 64
)

func (a *Alias) headerProblems() []Problem {
	var problems []Problem
	add := func(detail string) { problems = append(problems, Problem{"cors_headers", detail}) }
	if len(a.CORSHeaders) > maxHeaders {
		add(fmt.Sprintf("must have at most %d names", maxHeaders))
		return problems
	}
	for i, s := range a.CORSHeaders {
		if detail := headerProblem(s, len(a.CORSHeaders)); detail != "" {
			add(fmt.Sprintf("entry %d %s", i+1, detail))
		}
		if slices.ContainsFunc(a.CORSHeaders[:i], func(other string) bool { return strings.EqualFold(s, other) }) {
			add(fmt.Sprintf("entry %d is there already", i+1))
		}
	}
	return problems
}

// headerProblem describes the problem of one entry of a list of n, or is empty.
func headerProblem(s string, n int) string {
	switch {
	case s == AnyHeader && n > 1:
		return "must be the only one: * stands for every name but Authorization"
	case s == "" || len(s) > maxHeaderName || strings.ContainsFunc(s, isNotToken):
		return fmt.Sprintf("must be the name of a request header, such as X-Requested-With: 1 to %d letters, digits "+
			"and !#$%%&'*+-.^_`|~", maxHeaderName)
	}
	return ""
}

// isNotToken reports whether a character cannot be in the name of a header (RFC 9110,
// section 5.6.2).
func isNotToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') &&
		!strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
