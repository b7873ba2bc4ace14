package alias_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

// TestDryRun makes every write of the registry twice: as a dry run, which returns the same
// and leaves store, memory and observers alone, and then for good.
func TestDryRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", pair("AKIA1"))
	f.create(t, "gone", pair("AKIA2"))
	dry := alias.DryRun(t.Context())
	seen := f.observe()

	change := func(a *alias.Alias, _ *alias.CredentialRef) error { a.Prefix = "other"; return nil }
	would, err := f.UpdateAlias(dry, "shop", 1, change)
	if err != nil || would.Revision != 2 || would.Prefix != "other/" {
		t.Errorf("UpdateAlias: %+v, %v", would, err)
	}
	same, err := f.UpdateAlias(dry, "shop", 1, func(*alias.Alias, *alias.CredentialRef) error { return nil })
	if err != nil || same.Revision != 1 {
		t.Errorf("UpdateAlias without a change: %+v, %v", same, err)
	}
	if _, err := f.CreateAlias(dry, draft("new"), pair("AKIA3")); err != nil {
		t.Errorf("CreateAlias: %v", err)
	}
	if err := f.DeleteAlias(dry, "gone", 1); err != nil {
		t.Errorf("DeleteAlias: %v", err)
	}
	if c, err := f.CreateCredential(dry, "media", pair("AKIA4")); err != nil || c.AccessKeyID() != "AKIA4" {
		t.Errorf("CreateCredential: %+v, %v", c, err)
	}
	if c, err := f.ReplaceKeyPair(dry, "shop", 1, *pair("AKIA5").KeyPair); err != nil || c.AccessKeyID() != "AKIA5" || c.Revision != 2 {
		t.Errorf("ReplaceKeyPair: %+v, %v", c, err)
	}
	wantSeen(t, seen)
	f.wantAsStored(t, "shop", "gone", "new")
	for name, want := range map[alias.Name]string{"shop": "AKIA1", "gone": "AKIA2"} {
		if c, err := f.Credential(t.Context(), name); err != nil || c.AccessKeyID() != want || c.Revision != 1 {
			t.Errorf("credential %s: %+v, %v", name, c, err)
		}
	}
	for _, name := range []alias.Name{"media", "new"} {
		_, err := f.Credential(t.Context(), name)
		wantError(t, err, alias.ErrNotFound, string(name))
	}

	_, err = f.UpdateAlias(dry, "shop", 7, change)
	wantError(t, err, alias.ErrStale, "shop")
	_, err = f.CreateAlias(dry, draft("shop"), anonymous)
	wantError(t, err, alias.ErrExists, "shop")
	_, err = f.CreateAlias(dry, draft("new"), alias.CredentialRef{Name: "media"})
	wantInvalid(t, err, "credential")

	got, err := f.UpdateAlias(t.Context(), "shop", 1, change)
	if err != nil {
		t.Fatal(err)
	}
	would.UpdatedAt = got.UpdatedAt
	if diff := cmp.Diff(would, got); diff != "" {
		t.Errorf("the change (-dry run +real):\n%s", diff)
	}
}
