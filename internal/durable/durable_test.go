package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// wantFile checks that a file is the only thing in its folder, and what it holds.
func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v, want one file", entries, err)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	for _, size := range []int{0, 1, 1 << 20} {
		text := strings.Repeat("k", size)
		if err := Create(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, text)
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("got %v, %v, want mode 0600", info.Mode(), err)
		}
		if err := Create(path, []byte("another")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("over a file: got %v, want %v", err, fs.ErrExist)
		}
		wantFile(t, path, text)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := Create(filepath.Join(path, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got %v, want %v", err, fs.ErrNotExist)
	}
}

// TestCreateLeavesLink: a name that is taken by a link to nowhere is taken.
func TestCreateLeavesLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, []byte("text")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want %v", err, fs.ErrExist)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v, want the link alone", entries, err)
	}
}

// TestCreateTogether: one of many wins, and nobody ever sees a part of a file.
func TestCreateTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	const size = 1 << 16
	var made, whole sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		made.Go(func() { errs[i] = Create(path, []byte(strings.Repeat(fmt.Sprint(i), size))) })
	}
	done := make(chan struct{})
	whole.Go(func() {
		for {
			if text, err := os.ReadFile(path); err == nil && len(text) != size {
				t.Errorf("a part of %d bytes is to be seen", len(text))
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	made.Wait()
	close(done)
	whole.Wait()
	won := 0
	for i, err := range errs {
		switch {
		case err == nil:
			won++
			wantFile(t, path, strings.Repeat(fmt.Sprint(i), size))
		case !errors.Is(err, fs.ErrExist):
			t.Errorf("got %v, want %v", err, fs.ErrExist)
		}
	}
	if won != 1 {
		t.Errorf("%d files were made, want 1", won)
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	for _, text := range []string{"first", "second", ""} {
		if err := Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, text)
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("got %v, %v, want mode 0600", info.Mode(), err)
		}
	}
}

// TestWriteFails: a file that could not be filled is not there, and the one before it is.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if err := Create(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space")
	err := Write(path, Over, func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, full)
	})
	if !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	wantFile(t, path, "first")
	if err := Write(path, New, literally([]byte("second"))); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want %v", err, fs.ErrExist)
	}
	wantFile(t, path, "first")
}

func TestKeep(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := Keep(path, ".old"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no file: got %v", err)
	}
	for n, want := range []string{path + ".old", path + ".old-2", path + ".old-3"} {
		text := fmt.Sprint("text ", n)
		if err := Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it is kept once
			if kept, err := Keep(path, ".old"); err != nil || kept != want {
				t.Errorf("got %s, %v, want %s", kept, err, want)
			}
		}
		if got, err := os.ReadFile(want); err != nil || string(got) != text {
			t.Errorf("kept %q, %v, want %q", got, err, text)
		}
	}
}
