// Package durable makes files that are there whole or not at all, also after a
// power cut.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// tempSuffix ends the names of files that a crash may leave behind; the star
// becomes digits. They may be removed while no ixmage runs.
const tempSuffix = ".tmp-*"

// Create makes a file of mode 0600 and returns once it is durable, so that a power
// cut does not lose it. It never changes a file that exists: fs.ErrExist.
func Create(path string, text []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+tempSuffix) // of mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = place(f.Name(), path)
	}
	// Where the file was moved and not linked, its old name is gone.
	if gone := os.Remove(f.Name()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// place gives a finished file its name. A link never replaces an existing file, as
// a rename would.
func place(temp, path string) error {
	err := os.Link(temp, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// Some file systems, mostly network shares, have no links. No other ixmage can
	// write between the check and the rename: each locks its data folder.
	if _, seen := os.Lstat(path); !errors.Is(seen, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	return os.Rename(temp, path)
}

// syncDir makes the entries of a folder durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
