package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	jsonBlock = regexp.MustCompile("(?s)\n```json\n(.*?)\n```\n")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInID   = regexp.MustCompile("[^a-z0-9_ -]")
)

func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md", "docs/*.json"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			texts[name] = string(text)
		}
	}
	return texts
}

// TestDocsJSON: every document to copy is JSON.
func TestDocsJSON(t *testing.T) {
	t.Parallel()
	blocks := 0
	for name, text := range pages(t) {
		documents := []string{text}
		if !strings.HasSuffix(name, ".json") {
			documents = nil
			for _, m := range jsonBlock.FindAllStringSubmatch(text, -1) {
				documents = append(documents, m[1])
			}
		}
		for _, doc := range documents {
			var value any
			if err := json.Unmarshal([]byte(doc), &value); err != nil {
				t.Errorf("%s: %v in\n%s", name, err, doc)
			}
			blocks++
		}
	}
	if blocks < 10 {
		t.Errorf("only %d documents", blocks)
	}
}

// TestDocsLinks: every link to a file of the repository leads to one, and to a heading of it.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	texts := pages(t)
	links := 0
	for name, text := range texts {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasSuffix(name, ".json") {
				continue
			}
			links++
			path, id, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			} else if id != "" && !slices.Contains(headingIDs(texts[target]), id) {
				t.Errorf("%s links to %s, which has no such heading", name, m[1])
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links", links)
	}
}

// headingIDs are the anchors of a page, as GitHub makes them.
func headingIDs(page string) []string {
	var ids []string
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		ids = append(ids, strings.ReplaceAll(notInID.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return ids
}
