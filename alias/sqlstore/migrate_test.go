package sqlstore

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"ixmage/alias"
)

// TestMigrateFromBefore migrates a database down to the previous schema, and opens it
// again: its rows are unchanged, and the new columns change nothing.
func TestMigrateFromBefore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.db")
	s := openTest(t, path)
	c := someCredential(1, "shop")
	a := &alias.Alias{
		ID: 7, Name: "shop", Location: alias.Location{Bucket: "acme-media"}, CredentialID: 1, Credential: "shop",
		State: alias.StateActive, Epoch: 4, Revision: 3,
	}
	err := s.Update(t.Context(), func(tx alias.Tx) error {
		if err := tx.InsertCredential(c); err != nil {
			return err
		}
		return tx.InsertAlias(a)
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(s.dialect.goose, s.writer, s.dialect.migrations,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := openTest(t, path).Alias(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	a.Transforms, a.Access, a.Widths = alias.TransformsOff, alias.AccessOpen, alias.DefaultWidths()
	if diff := cmp.Diff(a, got); diff != "" {
		t.Errorf("alias (-want +got):\n%s", diff)
	}
}
