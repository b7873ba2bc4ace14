package alias_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/alias/seal"
)

// TestRegistrySwappedSecrets plays someone who can write to the database.
func TestRegistrySwappedSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "mine", pair("AKIAMINE"))
	f.create(t, "theirs", pair("AKIATHEIRS"))
	before, err := f.Credential(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReplaceKeyPair(t.Context(), "mine", 0, *pair("AKIANEW").KeyPair); err != nil {
		t.Fatal(err)
	}
	theirs, err := f.Credential(t.Context(), "theirs")
	if err != nil {
		t.Fatal(err)
	}
	for name, sealed := range map[string][]byte{"of another row": theirs.Sealed, "of the version before": before.Sealed} {
		c, err := f.Credential(t.Context(), "mine")
		if err != nil {
			t.Fatal(err)
		}
		c.Sealed, c.Revision = sealed, c.Revision+1
		if err := f.store.Update(t.Context(), func(tx alias.Tx) error { return tx.UpdateCredential(c) }); err != nil {
			t.Fatal(err)
		}
		again, err := alias.Open(t.Context(), f.store, f.sealer, alias.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		route, _ := again.Lookup("mine")
		if kp, err := again.Reveal(route.Credential); err == nil || !kp.SecretAccessKey.IsZero() {
			t.Errorf("a sealed value %s opened", name)
		}
	}
}

func TestRegistryWrongKeySet(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other, err := seal.Open(t.Context(), seal.Spec{Dir: t.TempDir(), Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	// Without secrets a new key set loses nothing, and takes over.
	f.create(t, "public", anonymous)
	if _, err := alias.Open(t.Context(), f.store, other, alias.Policy{}); err != nil {
		t.Fatalf("Open with another key set, nothing sealed: %v", err)
	}
	if f.Registry, err = alias.Open(t.Context(), f.store, f.sealer, alias.Policy{}); err != nil {
		t.Fatalf("Open with the first key set, nothing sealed: %v", err)
	}
	f.create(t, "shop", pair("AKIA1"))
	_, err = alias.Open(t.Context(), f.store, other, alias.Policy{})
	wantError(t, err, alias.ErrWrongKey, "1 of them cannot be read")
	if _, err := alias.Open(t.Context(), f.store, f.sealer, alias.Policy{}); err != nil {
		t.Errorf("Open with the right key set, after the wrong one: %v", err)
	}
}

// TestRegistryNoKeyCheck: the secrets themselves speak where the check is lost.
func TestRegistryNoKeyCheck(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "open", anonymous)
	f.create(t, "shop", pair("AKIA1"))
	other, err := seal.Open(t.Context(), seal.Spec{Dir: t.TempDir(), Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	unchecked := &noMeta{Store: f.store}
	_, err = alias.Open(t.Context(), unchecked, other, alias.Policy{})
	wantError(t, err, alias.ErrWrongKey, "1 of them")
	if _, err := alias.Open(t.Context(), unchecked, f.sealer, alias.Policy{}); err != nil {
		t.Errorf("Open with the right key set: %v", err)
	}
}

// noMeta is a store that lost its settings.
type noMeta struct{ alias.Store }

func (noMeta) Meta(context.Context, string) ([]byte, error) { return nil, alias.ErrNotFound }

func TestRegistryNoSecretInTheDatabase(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", pair("AKIA1"))
	if _, err := f.ReplaceKeyPair(t.Context(), "shop", 0, *pair("AKIA2").KeyPair); err != nil {
		t.Fatal(err)
	}
	grep := func(when string) {
		paths, err := filepath.Glob(filepath.Join(f.dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte(theSecret)) {
				t.Errorf("%s: %s holds the secret", when, path)
			}
			found = found || bytes.Contains(text, []byte("AKIA2"))
		}
		if !found { // or the search would prove nothing
			t.Errorf("%s: the key id is in none of %v", when, paths)
		}
	}
	grep("open")
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	grep("closed")
}

func TestRegistryPrintsNoSecret(t *testing.T) {
	t.Parallel()
	use := pair("AKIA1")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if text := fmt.Sprintf(verb, *use.KeyPair); strings.Contains(text, theSecret) || strings.Contains(text, fmt.Sprintf("%x", theSecret)) {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}
