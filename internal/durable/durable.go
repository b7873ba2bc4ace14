// Package durable makes files that are there whole or not at all, also after a
// power cut.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// tempSuffix ends the names of files that a crash may leave behind; the star
// becomes digits. They may be removed while no ixmage runs.
const tempSuffix = ".tmp-*"

// Create makes a file of mode 0600 and returns once it is durable, so that a power
// cut does not lose it. It never changes a file that exists: fs.ErrExist.
func Create(path string, text []byte) error { return Write(path, New, literally(text)) }

// Replace is Create for a path that may have a file, which is there until the new one is
// durable.
func Replace(path string, text []byte) error { return Write(path, Over, literally(text)) }

func literally(text []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}
}

// New gives a finished file its name, which no other file may have: fs.ErrExist. A link
// never replaces an existing file, as a rename would.
func New(temp, path string) error {
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

// Over gives a finished file its name, and replaces a file that has it.
func Over(temp, path string) error { return os.Rename(temp, path) }

// Write makes a file of mode 0600 of what fill writes, if fill succeeds, and gives it its
// name with New or Over. The file is durable when Write returns nil.
func Write(path string, name func(temp, path string) error, fill func(io.Writer) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+tempSuffix) // of mode 0600
	if err != nil {
		return err
	}
	err = fill(f)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = name(f.Name(), path)
	}
	// Where the file was moved and not linked, its old name is gone.
	if gone := os.Remove(f.Name()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		return err
	}
	return SyncDir(dir)
}

// Keep gives the file at path a second name, of path and suffix, so that it stays when
// another file takes its path. If other files have that name, -2 or a higher number follows it.
func Keep(path, suffix string) (kept string, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		kept = path + suffix
		if n > 1 {
			kept = fmt.Sprintf("%s-%d", kept, n)
		}
		switch err := os.Link(path, kept); {
		case err == nil:
			return kept, SyncDir(filepath.Dir(path))
		case !errors.Is(err, fs.ErrExist): // as above
			return kept, Write(kept, New, func(w io.Writer) error { return copyFrom(path, w) })
		}
		// An interrupted call may have made the name.
		if other, err := os.Lstat(kept); err == nil && os.SameFile(info, other) {
			return kept, nil
		}
	}
}

func copyFrom(path string, w io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// SyncDir makes the entries of a folder durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
