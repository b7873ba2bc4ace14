// Package spelling finds the name that a misspelt one was meant to be.
package spelling

import "strings"

// Closest returns the name with the fewest changes to wrong, at most a third of its
// letters, or nothing. Case, hyphens and underscores do not count.
func Closest(wrong string, names []string) string {
	const longest = 64 // of names that are compared
	if len(wrong) > longest {
		return ""
	}
	wrong = fold(wrong)
	best, limit := "", max(1, len(wrong)/3)
	for _, n := range names {
		if d := distance(wrong, fold(n)); d <= limit {
			best, limit = n, d-1
		}
	}
	return best
}

func fold(s string) string { return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s)) }

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
