package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"ixmage/alias/sqlstore"
)

// Place is where a registry is: a database in PostgreSQL, or a path.
type Place struct {
	url  string // of PostgreSQL; empty for a path
	path string // of a data folder, or of a file
}

const placeForms = "postgres://USER@HOST/DATABASE, a data folder, the path of a registry.db, or sqlite:PATH"

// ParsePlace reads a postgres:// URL, the path of a data folder or of a file, or sqlite:PATH. The
// error does not have a password.
func ParsePlace(text string) (Place, error) {
	scheme, rest, isURL := strings.Cut(text, "://")
	if isURL && (scheme == "postgres" || scheme == "postgresql") {
		if err := sqlstore.ValidateURL(text); err != nil {
			return Place{}, err
		}
		return Place{url: text}, nil
	}
	path := strings.TrimPrefix(text, "sqlite:")
	switch {
	case isURL && scheme == "sqlite" && strings.HasPrefix(rest, "/"): // as other programs write it
		path = rest
	case isURL:
		return Place{}, fmt.Errorf("%s:// is not supported: give %s", url.PathEscape(scheme), placeForms)
	case path == "" || path == "-" || strings.ContainsRune(path, 0):
		return Place{}, fmt.Errorf("%q is not a path: give %s", text, placeForms)
	}
	return Place{path: filepath.Clean(path)}, nil
}

// HasPassword reports whether the URL has one, so that other users of the machine see it.
func (p Place) HasPassword() bool {
	u, err := url.Parse(p.url)
	if err != nil {
		return p.url != ""
	}
	_, given := u.User.Password()
	return given || u.Query().Has("password") || u.Query().Has("sslpassword")
}

// shown is the URL without the password.
func (p Place) shown() string {
	u, err := url.Parse(p.url)
	if err != nil {
		return "the database" // ParsePlace has refused it
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	query := u.Query()
	query.Del("password")
	query.Del("sslpassword")
	u.RawQuery = query.Encode()
	return u.String()
}

// fileNames are the ends of paths that are those of files, if there is nothing yet.
var fileNames = map[string]bool{".db": true, ".sqlite": true, ".sqlite3": true}

// file returns the path of the registry, and the data folder that it is in, empty if it is no
// server's.
func (p Place) file() (path, dir string, err error) {
	path = p.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	info, err := os.Stat(path)
	folder := err == nil && info.IsDir()
	if errors.Is(err, fs.ErrNotExist) { // a new one
		folder, err = !fileNames[filepath.Ext(path)], nil
	}
	if err != nil {
		return "", "", err
	}
	if folder {
		path = RegistryPath(path)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", "", err
	}
	if filepath.Base(path) == filepath.Base(RegistryPath("")) {
		dir = filepath.Dir(path)
	}
	return path, dir, nil
}
