package cli

import (
	"errors"
	"net/http"

	"ixmage/alias/client"
)

// suggest adds a name to the error that a thing does not exist, if there is one that is
// spelt alike. noun is the plural in the path of the API.
func (s *session) suggest(err error, noun, name string) error {
	p, ok := errors.AsType[*client.Problem](err)
	if !ok || p.Status != http.StatusNotFound {
		return err
	}
	names, listErr := s.names(noun)
	if listErr != nil {
		return err
	}
	if best := closest(name, names); best != "" {
		said := *p
		said.Detail += ". Did you mean " + best + "?"
		return &said
	}
	return err
}

// names lists the names of things.
func (s *session) names(noun string) ([]string, error) {
	v, err := s.list(namesOf(noun))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range v.Get(noun).List() {
		names = append(names, e.Get("name").Text())
	}
	return names, nil
}

// closest returns the name with the fewest changes to name, at most a third of its
// letters, or nothing.
func closest(name string, names []string) string {
	best, limit := "", max(1, len(name)/3)
	for _, n := range names {
		if d := distance(name, n); d <= limit {
			best, limit = n, d-1
		}
	}
	return best
}

// distance is the Levenshtein distance, with a swap of neighbours as one change.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
		for j := 1; j <= len(b); j++ {
			if i == 0 {
				rows[0][j] = j
				continue
			}
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
