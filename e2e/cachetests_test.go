package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/e2e/cachetests"
	"ixmage/internal/awstest/s3"
)

// TestCacheSuite runs the public suite for HTTP caches, and our additions to it,
// through the program. docs/cachetests.md must state the results.
func TestCacheSuite(t *testing.T) {
	t.Parallel()
	suite, err := cachetests.Suite()
	if err != nil {
		t.Fatal(err)
	}
	more, err := cachetests.More()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join("..", "docs", "cachetests.md"))
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Split(string(doc), "\n")
	tests := append(cachetests.Applicable(suite), more...)
	count := map[cachetests.Kind]map[cachetests.Outcome]int{}
	for _, kind := range []cachetests.Kind{cachetests.Required, cachetests.Optimal, cachetests.Check} {
		count[kind] = map[cachetests.Outcome]int{}
	}
	for i, r := range suiteRunner(newEnv(t), s3.New(t)).Run(t.Context(), tests) {
		x := tests[i]
		if x.Kind == cachetests.Required && r.Outcome != cachetests.Passed {
			t.Errorf("%s %s: %s\n\t%s", x.ID, r.Outcome, r.Reason, x.Name)
		}
		if line := behaviour(x, r.Outcome); x.Kind != cachetests.Required && !slices.Contains(told, line) {
			t.Errorf("docs/cachetests.md lacks the line %q: %s", line, r.Reason)
		}
		if i < len(tests)-len(more) {
			count[x.Kind][r.Outcome]++
		}
	}
	for _, line := range slices.Concat(suiteNumbers(suite, count), exclusions()) {
		if !slices.Contains(told, line) {
			t.Errorf("docs/cachetests.md lacks the line %q", line)
		}
	}
}

// behaviour is the word of the documentation for the outcome of an optional test.
func behaviour(x *cachetests.Test, o cachetests.Outcome) string {
	name := strings.TrimRight(strings.ReplaceAll(x.Name, "|", `\|`), " ?")
	word := map[cachetests.Outcome]string{cachetests.Passed: "yes", cachetests.Failed: "no", cachetests.Unclear: "unclear"}[o]
	return "| `" + x.ID + "` | " + name + " | " + word + " |"
}

// suiteNumbers returns the lines of the table of numbers.
func suiteNumbers(suite []*cachetests.Test, count map[cachetests.Kind]map[cachetests.Outcome]int) []string {
	all := map[cachetests.Kind]int{}
	for _, x := range suite {
		all[x.Kind]++
	}
	var lines []string
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		c, run := count[kind], 0
		for _, n := range c {
			run += n
		}
		lines = append(lines, fmt.Sprintf("| %s | %d | %d | %d | %d |",
			kind, all[kind], all[kind]-run, c[cachetests.Passed], run-c[cachetests.Passed]))
	}
	return lines
}

// exclusions returns the lines of the table of tests that do not apply.
func exclusions() []string {
	var lines []string
	for _, e := range cachetests.Excluded() {
		lines = append(lines, fmt.Sprintf("| %s | %d | %s |", e.Name, len(e.IDs), e.Why))
	}
	return lines
}

// suiteRunner opens aliases for the suite. Only the origin's headers count on them:
// ttl is 0, and stale objects are served only when the origin fails. For tests of a
// cache's own estimate of a lifetime, the ttl is that estimate. A test in which the
// origin fails has its own alias and key pair, so that the failure does not affect
// the others.
func suiteRunner(s *env, fakeS3 *s3.Server) *cachetests.Runner {
	open := func(name, ttl string) string {
		s.open(name, "suite", "", map[string]any{"endpoint": fakeS3.URL, "ttl": ttl, "stale_while_revalidate": "0s"})
		return "http://" + s.public + "/" + name
	}
	common, heuristic := open("common", "0s"), open("heuristic", "1h")
	return cachetests.New(cachetests.Config{
		S3: fakeS3, Bucket: "suite", Pause: 3 * time.Second,
		URL: func(x *cachetests.Test) string {
			switch {
			case strings.Contains(x.ID, "heuristic"):
				return heuristic
			case x.Faulty():
				return open(strings.NewReplacer("=", "-").Replace(x.ID), "0s")
			}
			return common
		},
	})
}
