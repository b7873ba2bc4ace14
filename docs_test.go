package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFlagTable keeps the tables of flags in docs/operations.md true to the
// program: the same flags in the same order, with their variables, defaults and
// words. The second table has the hidden flags.
func TestFlagTable(t *testing.T) {
	t.Parallel()
	doc := string(readFile(t, filepath.Join("docs", "operations.md")))
	const head = "| flag | variable | default | |\n|---|---|---|---|\n"
	tables := strings.Split(doc, head)
	if len(tables) != 3 {
		t.Fatalf("there are %d tables of flags, want 2", len(tables)-1)
	}
	for i, hidden := range []bool{false, true} {
		got, _, _ := strings.Cut(tables[i+1], "\n\n")
		if want := strings.TrimSuffix(flagTable(t, hidden), "\n"); got != want {
			t.Errorf("the table is\n%s\nwant\n%s", got, want)
		}
	}
}

func flagTable(t *testing.T, hidden bool) string {
	t.Helper()
	var b strings.Builder
	for _, f := range serveFlags(t) {
		if f.Hidden != hidden {
			continue
		}
		standard := ""
		if f.HasDefault {
			standard = "`" + f.Default + "`"
		} else if f.IsBool() {
			standard = "off"
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", f.Name, envName(f.Name), standard, strings.ReplaceAll(f.Help, "<", `\<`))
	}
	return b.String()
}

// TestProblemTable keeps the table of problems in docs/http.md whole: a row with
// status and code for each that proxy/errors.go has, and none beside.
func TestProblemTable(t *testing.T) {
	t.Parallel()
	doc := string(readFile(t, filepath.Join("docs", "http.md")))
	source := string(readFile(t, filepath.Join("proxy", "errors.go")))
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
