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

// tempSuffix marks what a crash may leave behind; the star becomes digits. It
// may be removed when no ixmage runs.
const tempSuffix = ".tmp-*"

// Create makes a file of mode 0600 and returns when it will be there after a
// power cut. One that is there already is left as it is: fs.ErrExist.
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

// place gives a finished file its name. A link never replaces what bears the
// name, as moving the file would.
func place(temp, path string) error {
	err := os.Link(temp, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// Some file systems, of network shares above all, have no links. Who comes
	// between the look and the move is no ixmage: those lock the data folder.
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
