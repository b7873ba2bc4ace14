package sqlstore

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"ixmage/alias"
	"ixmage/alias/storetest"
)

// TestMain: a store that is closed leaves no connection behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openTest(t *testing.T, path string) *Store {
	t.Helper()
	s, err := OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestSQLiteConforms(t *testing.T) {
	t.Parallel()
	storetest.Test(t, func(t *testing.T) alias.Store {
		return openTest(t, filepath.Join(t.TempDir(), "registry.db"))
	})
}
