package admin

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ixmage/alias"
)

// parseQuery reads a query string and refuses unknown parameters.
func parseQuery(raw string, known []parameter) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, failf(errBadRequest, "the query string is not valid: it has a bad escape or a semicolon")
	}
	var problems []alias.Problem
	for _, name := range slices.Sorted(maps.Keys(q)) {
		at := fieldPath("", strings.ToValidUTF8(name, "?"))
		switch {
		case !slices.ContainsFunc(known, func(p parameter) bool { return p.name == name }):
			problems = append(problems, alias.Problem{Field: at, Detail: "unknown query parameter"})
		case len(q[name]) > 1:
			problems = append(problems, alias.Problem{Field: at, Detail: "appears more than once"})
		}
	}
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	return q, nil
}

// dryRun is a parameter of calls that write to the registry and nowhere else.
var dryRun = []parameter{
	{"dry_run", "true checks the request like any other, answers 200 with what would be stored " +
		"(204 for a removal), and stores nothing"},
}

func isDryRun(q url.Values) (bool, error) {
	switch text := q.Get(dryRun[0].name); {
	case !q.Has(dryRun[0].name) || text == "false":
		return false, nil
	case text == "true":
		return true, nil
	}
	return false, invalid(problemAt(dryRun[0].name, "must be true, to store nothing, or false"))
}

// page is the part of a sorted list that a client asked for.
type page struct {
	after alias.Name
	limit int
}

// maxPageSize is the largest limit of a list, and its default.
const maxPageSize = 1000

var pageQuery = []parameter{
	{"after", "a name: the list begins behind it"},
	{"limit", "the most entries of the answer, 1000 at most and by default"},
}

func parsePage(q url.Values) (page, error) {
	var p page
	var problems []alias.Problem
	p.limit, problems = parseLimit(q, maxPageSize)
	if after := q.Get("after"); after != "" {
		var err error
		if p.after, err = alias.ParseName(after); err != nil {
			problems = append(problems, alias.Problem{Field: "after", Detail: "must be a name, the last one of the page before"})
		}
	}
	if len(problems) > 0 {
		return p, invalid(problems)
	}
	return p, nil
}

// parseLimit reads the parameter limit; byDefault is its value if it is missing.
func parseLimit(q url.Values, byDefault int) (int, []alias.Problem) {
	if !q.Has("limit") {
		return byDefault, nil
	}
	n, err := strconv.Atoi(q.Get("limit"))
	if errors.Is(err, strconv.ErrRange) && n > 0 {
		err = nil // it is above maxPageSize like other large numbers
	}
	if err != nil || n < 1 {
		return 0, problemAt("limit", "must be a whole number from 1 on; a page has at most "+strconv.Itoa(maxPageSize))
	}
	return min(n, maxPageSize), nil
}
