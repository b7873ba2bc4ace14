package provision

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestCodesInDocs: docs/iam.md explains every code of an operation that failed.
func TestCodesInDocs(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/iam.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\tcode[A-Za-z0-9]+ += "([a-z0-9-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(found) < 15 {
		t.Fatalf("only %d codes", len(found))
	}
	for _, code := range found {
		if !strings.Contains(string(docs), "`"+code[1]+"`") {
			t.Errorf("docs/iam.md does not explain %s", code[1])
		}
	}
}
