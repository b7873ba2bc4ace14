package proxy

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestProblemTable keeps the table of problems in docs/http.md whole: a row with
// status and code for each that proxy/errors.go has, and none beside.
func TestProblemTable(t *testing.T) {
	t.Parallel()
	doc, _, found := strings.Cut(string(readFile(t, filepath.Join("..", "docs", "http.md"))), "\n## Admin listener")
	if !found { // it has a table of its own problems
		t.Fatal("docs/http.md has no section on the admin listener")
	}
	source := string(readFile(t, "errors.go"))
	statuses := map[string]int{}
	for code := 400; code < 600; code++ {
		name := strings.NewReplacer(" ", "", "-", "").Replace(http.StatusText(code))
		statuses["Status"+name] = code
	}
	problems := regexp.MustCompile(`problem\{http\.(Status\w+), "([a-z-]+)"`).FindAllStringSubmatch(source, -1)
	if len(problems) < 15 {
		t.Fatalf("only %d problems are found in the source", len(problems))
	}
	for _, p := range problems {
		if row := fmt.Sprintf("\n| %d | %#q | ", statuses[p[1]], p[2]); !strings.Contains(doc, row) {
			t.Errorf("there is no row %q", row)
		}
	}
	if rows := regexp.MustCompile("\n\\| \\d{3} \\| `").FindAllString(doc, -1); len(rows) != len(problems) {
		t.Errorf("%d rows for %d problems", len(rows), len(problems))
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
