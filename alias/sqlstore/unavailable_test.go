package sqlstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
)

// TestUnavailable: an error that is temporary, or that an operator can fix, is
// distinguished from a bug.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		spoil func(t *testing.T, s *Store, path string) (mend func())
		says  string
	}{
		{"locked by another process", lockedByAnother, "another process holds the lock"},
		{"full", full, "no space is left"},
		{"read-only", readOnly, "cannot be written"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			path := makeDatabase(t, 1)
			s := openTest(t, path)
			write := func() error {
				return s.Update(t.Context(), func(tx alias.Tx) error { return tx.SetMeta("key", make([]byte, 1<<20)) })
			}
			mend := row.spoil(t, s, path)
			err := write()
			if !errors.Is(err, alias.ErrUnavailable) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("Update: got %v, want %v that says %q", err, alias.ErrUnavailable, row.says)
			}
			if list, err := s.Credentials(t.Context(), "", 10); err != nil || len(list) != 1 {
				t.Errorf("reading meanwhile: got %d credentials, %v", len(list), err)
			}
			mend()
			if err := write(); err != nil {
				t.Errorf("Update afterwards: %v", err)
			}
		})
	}
}

// pragma sets something on the one connection that writes.
func pragma(t *testing.T, s *Store, text string) {
	t.Helper()
	if _, err := s.writer.ExecContext(t.Context(), "PRAGMA "+text); err != nil {
		t.Fatal(err)
	}
}

func lockedByAnother(t *testing.T, s *Store, path string) (mend func()) {
	t.Helper()
	pragma(t, s, "busy_timeout(0)")
	other := openTest(t, path)
	locked, unlock, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- other.Update(t.Context(), func(alias.Tx) error {
			close(locked)
			<-unlock
			return nil
		})
	}()
	<-locked
	return func() {
		close(unlock)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func full(t *testing.T, s *Store, _ string) (mend func()) {
	t.Helper()
	pragma(t, s, "max_page_count(1)") // it becomes what there is
	return func() { pragma(t, s, "max_page_count(1000000)") }
}

// readOnly makes writes fail as they do in a file system that was mounted
// read-only: root may write to any file whatever its mode.
func readOnly(t *testing.T, s *Store, _ string) (mend func()) {
	t.Helper()
	pragma(t, s, "query_only(1)")
	return func() { pragma(t, s, "query_only(0)") }
}

// TestUnavailableToRead: a connection that cannot be opened now may be opened
// later.
func TestUnavailableToRead(t *testing.T) {
	t.Parallel()
	path := makeDatabase(t, 1)
	s := openTest(t, path)
	dir := filepath.Dir(path)
	wantUnavailableToRead(t, s, func() (mend func()) {
		move(t, dir, dir+"-away")
		return func() { move(t, dir+"-away", dir) }
	})
}

// wantUnavailableToRead spoils the opening of connections. The store must have no
// open connection for reads.
func wantUnavailableToRead(t *testing.T, s *Store, spoil func() (mend func())) {
	t.Helper()
	mend := spoil()
	if _, err := s.Credentials(t.Context(), "", 10); !errors.Is(err, alias.ErrUnavailable) {
		t.Errorf("reading: got %v, want %v", err, alias.ErrUnavailable)
	}
	mend()
	if list, err := s.Credentials(t.Context(), "", 10); err != nil || len(list) != 1 {
		t.Errorf("reading afterwards: got %d credentials, %v", len(list), err)
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestErrorOfUseIsNotUnavailable(t *testing.T) {
	t.Parallel()
	s := openTest(t, makeDatabase(t, 1))
	for name, write := range map[string]func(alias.Tx) error{
		"taken name": func(tx alias.Tx) error { return tx.InsertCredential(someCredential(9, "a")) },
		"stale":      func(tx alias.Tx) error { return tx.DeleteCredential(9, 9) },
	} {
		insert := func(tx alias.Tx) error { return tx.InsertCredential(someCredential(7, "a")) }
		_ = s.Update(t.Context(), insert) // taken from now on
		if err := s.Update(t.Context(), write); err == nil || errors.Is(err, alias.ErrUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Meta(t.Context(), "key"); err == nil || errors.Is(err, alias.ErrUnavailable) {
		t.Errorf("closed: got %v", err)
	}
}
