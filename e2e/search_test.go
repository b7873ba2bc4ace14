package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// places are where something may be found that must not be seen: the name of a
// place, and what lies there.
type places map[string][]byte

func (p places) add(name string, text []byte) { p[fmt.Sprintf("%s (%d)", name, len(p))] = text }

// folder adds the files of a data folder as they are now.
func (p places) folder(t *testing.T, dir string) {
	t.Helper()
	for _, path := range filesIn(t, dir) {
		p.add("file "+filepath.Base(path), readFile(t, path))
	}
}

func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		files = append(files, filepath.Join(dir, e.Name()))
	}
	return files
}

// find names the places that hold a text, in any form.
func (p places) find(text string) []string {
	var found []string
	for name, content := range p {
		for form, needle := range formsOf(text) {
			if bytes.Contains(content, []byte(needle)) {
				found = append(found, name+", "+form)
			}
		}
	}
	slices.Sort(found)
	return found
}

// formsOf are the ways in which programs write a text.
func formsOf(text string) map[string]string {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string
	}
	forms := map[string]string{
		"as it is": text, "in JSON": string(quoted[1 : len(quoted)-1]), "quoted": strings.Trim(fmt.Sprintf("%q", text), `"`),
		"in a query": url.QueryEscape(text), "in a path": url.PathEscape(text),
		"in hexadecimal": hex.EncodeToString([]byte(text)), "in HEXADECIMAL": strings.ToUpper(hex.EncodeToString([]byte(text))),
	}
	// Three bytes become four letters, so what a text becomes depends on where
	// it begins. Letters that its neighbours have a share in are left out.
	for shift := range 3 {
		code := base64.StdEncoding.EncodeToString(append(make([]byte, shift), text...))
		code = code[(shift*8+5)/6 : (shift+len(text))*8/6]
		forms[fmt.Sprintf("in base64, shifted by %d", shift)] = code
		forms[fmt.Sprintf("in base64 of URLs, shifted by %d", shift)] = strings.NewReplacer("+", "-", "/", "_").Replace(code)
	}
	return forms
}

// TestSearch: the search finds what it is to find.
func TestSearch(t *testing.T) {
	t.Parallel()
	const secret = `wJa"r/XUtn+EMI\K7`
	long := []byte("x" + secret + "yz")
	for name, text := range map[string]string{
		"plain":   "a " + secret + " b",
		"JSON":    fmt.Sprintf(`{"a":%s}`, jsonOf(secret)),
		"query":   "?a=" + url.QueryEscape(secret),
		"path":    "/a/" + url.PathEscape(secret),
		"hex":     hex.EncodeToString(long),
		"base64":  base64.StdEncoding.EncodeToString(long[1:]),
		"shifted": base64.URLEncoding.EncodeToString(long),
		"twice":   base64.RawStdEncoding.EncodeToString(append([]byte("z"), long...)),
	} {
		p := places{}
		p.add(name, []byte(text))
		if len(p.find(secret)) == 0 {
			t.Errorf("not found in %s: %s", name, text)
		}
		if found := p.find("another-secret"); len(found) > 0 {
			t.Errorf("found what is not there: %v", found)
		}
	}
}

func jsonOf(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}
