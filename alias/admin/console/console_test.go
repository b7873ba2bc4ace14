package console

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ixmage/alias/signature"
)

// TestFiles: every file has a type and its own entity tag, and modules import files that
// exist.
func TestFiles(t *testing.T) {
	t.Parallel()
	paths := make(map[string]File)
	for _, f := range Files() {
		paths[f.Path] = f
	}
	for _, want := range []string{"/", "/console/main.js", "/console/app.js", "/console/style.css", "/console/vendor/LICENSE-htm.txt"} {
		if _, ok := paths[want]; !ok {
			t.Errorf("%s is missing", want)
		}
	}
	tags := make(map[string]string)
	imports := regexp.MustCompile(`(?:from ?|import\(|import )['"]([^'"]+)['"]`)
	links := regexp.MustCompile(`(?:src|href)="(/[^"#]*)"`)
	for at, f := range paths {
		if f.kind == "" || len(f.body) == 0 {
			t.Errorf("%s: type %q, %d bytes", at, f.kind, len(f.body))
		}
		if other := tags[f.etag]; other != "" {
			t.Errorf("%s and %s have one entity tag", at, other)
		}
		tags[f.etag] = at
		if strings.HasPrefix(f.kind, "text/javascript") {
			for _, m := range imports.FindAllStringSubmatch(string(f.body), -1) {
				if _, ok := paths[path.Join(path.Dir(at), m[1])]; !ok {
					t.Errorf("%s imports %s, which is not served", at, m[1])
				}
			}
		}
		for _, m := range links.FindAllStringSubmatch(string(f.body), -1) {
			if _, ok := paths[m[1]]; !ok {
				t.Errorf("%s names %s, which is not served", at, m[1])
			}
		}
	}
}

// TestNoInlineCode: the policy of the page would stop inline code, and no string may
// become HTML.
func TestNoInlineCode(t *testing.T) {
	t.Parallel()
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|\beval\(|new Function|[ "]on[a-z]+="|<style|<script>| style="|javascript:`)
	for _, f := range Files() {
		if strings.Contains(f.Path, "/vendor/") {
			continue
		}
		if m := forbidden.FindString(string(f.body)); m != "" {
			t.Errorf("%s has %q", f.Path, m)
		}
	}
	for _, bad := range []string{`<p onclick="x()">`, `<div style="color:red">`, `a.innerHTML = b`} {
		if !forbidden.MatchString(bad) {
			t.Errorf("%q is not found", bad)
		}
	}
}

// TestOptionNames: the console knows the options that a signature covers.
func TestOptionNames(t *testing.T) {
	t.Parallel()
	node := exec.CommandContext(t.Context(), "node", "--input-type=module", "-e",
		"import { names } from './options.js'; console.log([...names.keys(), 'exp', 'kid', 'sig'].sort().join(' '))")
	if node.Err != nil {
		t.Skip("!!!!! NO node: the names of options are NOT CHECKED !!!!!")
	}
	out, err := node.CombinedOutput()
	if want := strings.Join(signature.Names, " ") + "\n"; err != nil || string(out) != want {
		t.Errorf("options.js: %v\n got %s want %s", err, out, want)
	}
}

func TestConditional(t *testing.T) {
	t.Parallel()
	f := Files()[0]
	for _, c := range []struct {
		lines  []string
		status int
	}{
		{nil, 200},
		{[]string{""}, 200},
		{[]string{f.etag}, 304},
		{[]string{"W/" + f.etag}, 304},
		{[]string{`"a", ` + f.etag}, 304},
		{[]string{`"a"`, f.etag}, 304},
		{[]string{"*"}, 304},
		{[]string{`"a"`}, 200},
		{[]string{strings.Trim(f.etag, `"`)}, 200},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, f.Path, http.NoBody)
		r.Header["If-None-Match"] = c.lines
		f.ServeHTTP(w, r)
		if w.Code != c.status || (w.Body.Len() == 0) != (c.status == 304) {
			t.Errorf("If-None-Match %q: got %d with %d bytes, want %d", c.lines, w.Code, w.Body.Len(), c.status)
		}
	}
}

// TestVendor: the foreign files are those that vendor/README.md names.
func TestVendor(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("vendor/README.md")
	if err != nil {
		t.Fatal(err)
	}
	table := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+\\.mjs)` .* `([0-9a-f]{64})` \\|$").FindAllStringSubmatch(string(readme), -1) {
		table[m[1]] = m[2]
	}
	found := 0
	for _, f := range Files() {
		name := path.Base(f.Path)
		if path.Ext(name) != ".mjs" {
			continue
		}
		found++
		published := f.body
		if name == "hooks.mjs" { // undo the one change
			published = []byte(strings.Replace(string(f.body), `from"./preact.mjs"`, `from"preact"`, 1))
		}
		digest := sha256.Sum256(published)
		if got := hex.EncodeToString(digest[:]); got != table[name] {
			t.Errorf("%s: SHA-256 %s, vendor/README.md has %q", name, got, table[name])
		}
	}
	if found != len(table) || found == 0 {
		t.Errorf("%d files, vendor/README.md has %d", found, len(table))
	}
}

// TestModules runs the tests of the modules, in tests/, which also load every module.
func TestModules(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("!!!!! NO node: the modules of the console are NOT CHECKED !!!!!")
	}
	files, err := filepath.Glob("tests/*.mjs")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of modules: %v", err)
	}
	// Releases of Node differ in what a folder means here, and in the report by default.
	args := append([]string{"--test", "--test-reporter=tap"}, files...)
	out, err := exec.CommandContext(t.Context(), node, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
	if !regexp.MustCompile(`(?m)^# pass [1-9]`).Match(out) {
		t.Errorf("node ran no test:\n%s", out)
	}
}
