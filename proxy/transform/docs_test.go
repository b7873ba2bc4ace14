package transform

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocs: docs/transforms.md has every name of every option in its table, its examples are good queries,
// and the sizes that it promises are those of the tasks.
func TestDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/transforms.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Options\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for name, s := range names {
		row := regexp.MustCompile("(?m)^\\| `" + nameOf(min(s.option, optTemplate)) + "` \\|.*`" + name + "[`=].*$|^\\| `" + name + "` \\|.*$")
		if s.option != optSignature && !row.MatchString(table) {
			t.Errorf("the row of %s has no %s", nameOf(s.option), name)
		}
	}
	examples := regexp.MustCompile("`((?:[a-z]+=[^`…]+))`").FindAllStringSubmatch(string(page), -1)
	for _, m := range examples {
		if _, info, err := Parse([]byte(m[1])); err != nil || info.Unknown > 0 && m[1] != "v=2" && !strings.HasPrefix(m[1], "thumb=") {
			t.Errorf("%s: %v, %d unknown", m[1], err, info.Unknown)
		}
	}
	sizes := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\d+ x \\d+) \\|").FindAllStringSubmatch(string(page), -1)
	for _, m := range sizes {
		w, h := mustParse(t, m[1]).size(Header{JPEG, 1200, 900, 1, false, Colours{}})
		if got := fmt.Sprintf("%d x %d", w, h); got != m[2] {
			t.Errorf("%s is %s, and the page says %s", m[1], got, m[2])
		}
	}
	if len(examples) < 30 || len(sizes) < 10 {
		t.Errorf("%d examples, %d sizes", len(examples), len(sizes))
	}
}
