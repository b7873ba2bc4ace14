package main

import (
	"encoding/json"
	"maps"
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

var goFile = regexp.MustCompile("`((?:[a-z0-9_]+/)*)([a-z0-9_]+\\.go)`")

// TestArchitectureFiles: every source file that docs/architecture.md names exists. A name without
// a folder is in one of the folders named before it, or in the root.
func TestArchitectureFiles(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]bool{".": true}
	files := 0
	for _, m := range goFile.FindAllStringSubmatch(string(text), -1) {
		files++
		in := folders
		if m[1] != "" {
			folders[m[1]] = true
			in = map[string]bool{m[1]: true}
		}
		exists := func(folder string) bool {
			_, err := os.Stat(filepath.Join(folder, m[2]))
			return err == nil
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(in)), exists) {
			t.Errorf("there is no file %s%s", m[1], m[2])
		}
	}
	if files < 50 {
		t.Errorf("only %d files", files)
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
