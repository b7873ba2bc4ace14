package alias

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Fallback names the objects of an alias that are served instead of an error,
// as paths after the prefix; "" means none.
type Fallback struct {
	Missing string // for 404: there is no such picture
	Broken  string // for 502, 503 and 504: S3 cannot be asked
}

// fallbackProblems name the field as it may be written: one path for both.
func (a *Alias) fallbackProblems() []Problem {
	f := a.Fallback
	if f.Missing == f.Broken {
		return a.optionalPathProblems("fallback", f.Missing)
	}
	return append(a.optionalPathProblems("fallback.missing", f.Missing),
		a.optionalPathProblems("fallback.broken", f.Broken)...)
}

func (a *Alias) optionalPathProblems(field, path string) []Problem {
	if path == "" {
		return nil
	}
	return a.PathProblems(field, path)
}

// PathProblems is what is wrong with a decoded path after the alias, by the
// rules of a path in a request; field is what the problems call it.
func (a *Alias) PathProblems(field, path string) []Problem {
	var problems []Problem
	add := func(detail string) { problems = append(problems, Problem{field, detail}) }
	if len(a.Prefix)+len(path) > MaxKey {
		add(fmt.Sprintf("must fit in %d bytes together with the prefix", MaxKey))
	}
	if !utf8.ValidString(path) {
		add("must be valid UTF-8")
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' }) {
		add("must not have a control character or a backslash")
	}
	if hasOddSegment(path) {
		add("must be the path of an object after the prefix, without a slash at either end " +
			`and without empty, "." or ".." segments`)
	}
	return problems
}

// hasOddSegment reports whether a slash-separated path has a segment that some
// server or client would take for something else than a name.
func hasOddSegment(path string) bool {
	for s := range strings.SplitSeq(path, "/") {
		if s == "" || s == "." || s == ".." {
			return true
		}
	}
	return false
}
