package storetest

import (
	"slices"
	"testing"

	"ixmage/alias"
)

func testCountSealed(t *testing.T, s alias.Store) {
	want := func(n int) {
		t.Helper()
		if got, err := s.CountSealed(t.Context()); err != nil || got != n {
			t.Errorf("CountSealed: got %d, %v, want %d", got, err, n)
		}
	}
	want(0)
	seed(t, s, []*alias.Credential{
		credential(1, "one"), credential(2, "two"),
		{ID: 3, Name: "public", Provider: alias.Anonymous{}, Revision: 1},
	})
	want(2)
}

func testMeta(t *testing.T, s alias.Store) {
	_, err := s.Meta(t.Context(), "key")
	wantError(t, "Meta", err, alias.ErrNotFound)
	for _, value := range [][]byte{{0, 0xff, 1}, []byte("second"), {}, nil} {
		must(t, s, func(tx alias.Tx) error { return tx.SetMeta("key", value) })
		if got, err := s.Meta(t.Context(), "key"); err != nil || !slices.Equal(got, value) {
			t.Errorf("Meta: got %q, %v, want %q", got, err, value)
		}
	}
	_, err = s.Meta(t.Context(), "other")
	wantError(t, "Meta of another key", err, alias.ErrNotFound)
}
