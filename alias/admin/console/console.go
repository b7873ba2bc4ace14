// Package console has the files of the operator's console: a page and the ES modules
// that it loads. The program serves them as they lie here, without a build step. The
// modules use the HTTP API of package admin and nothing else.
package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
)

//go:embed index.html *.js style.css icon.svg screens/*.js vendor/*.mjs vendor/*.txt
var files embed.FS

// types are the media types of the files, by the end of their name.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".mjs":  "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// policy allows the page its own files, the API and pictures of the API, and no inline
// code. A page of another origin cannot frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// headers of every answer. The browser asks each time whether a file has changed, so
// that all modules are of one version after an upgrade.
var headers = map[string]string{
	"Cache-Control":                "no-cache",
	"Content-Security-Policy":      policy,
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Frame-Options":              "DENY",
}

// File is one file of the console. It answers GET and HEAD alike: the server drops the
// body of an answer to HEAD.
type File struct {
	Path string // of its URL: "/" is the page, the others are under /console/
	kind string
	etag string
	body []byte
}

// Files returns all files, sorted by name.
func Files() []File {
	var list []File
	// Reading cannot fail: the files are in the program.
	_ = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		digest := sha256.Sum256(body)
		f := File{
			Path: "/console/" + name, kind: types[path.Ext(name)],
			etag: `"` + hex.EncodeToString(digest[:16]) + `"`, body: body,
		}
		if name == "index.html" {
			f.Path = "/"
		}
		list = append(list, f)
		return err
	})
	return list
}

// ServeHTTP answers with the file, or 304 if the browser has it.
func (f File) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	w.Header().Set("ETag", f.etag)
	if f.matches(r.Header["If-None-Match"]) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	_, _ = w.Write(f.body) // it fails if the client has left
}

// matches reports whether a list of entity tags has that of the file (RFC 9110, 13.1.2:
// the comparison is weak).
func (f File) matches(lines []string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(lines, ","), ","), func(tag string) bool {
		tag = strings.TrimSpace(tag)
		return tag == "*" || strings.TrimPrefix(tag, "W/") == f.etag
	})
}
