package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestFlagTable keeps the table of flags in docs/operations.md true to the
// program: the same flags in the same order, with their variables, defaults and
// words.
func TestFlagTable(t *testing.T) {
	t.Parallel()
	doc := string(readFile(t, filepath.Join("docs", "operations.md")))
	_, rest, ok := strings.Cut(doc, "| flag | variable | default | |\n|---|---|---|---|\n")
	if !ok {
		t.Fatal("there is no table of flags")
	}
	got, _, _ := strings.Cut(rest, "\n\n")
	if want := strings.TrimSuffix(flagTable(), "\n"); got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
}

func flagTable() string {
	var b strings.Builder
	for f := range settings(reflect.ValueOf(&serveCmd{}).Elem()) {
		standard := ""
		if d := f.Tag.Get("default"); d != "" {
			standard = "`" + d + "`"
		} else if f.Type == reflect.TypeFor[toggle]() {
			standard = "off"
		}
		flag := flagName(f)
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", flag, envName(flag), standard, strings.ReplaceAll(f.Tag.Get("help"), "<", `\<`))
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
