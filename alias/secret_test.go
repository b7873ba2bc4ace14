package alias_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
)

// TestRegistrySwappedSecrets is an attacker who can write to the database.
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

// TestRegistryNoKeyCheck: if the key check is lost, the secrets are tried instead.
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

func (n noMeta) Update(ctx context.Context, fn func(alias.Tx) error) error {
	return n.Store.Update(ctx, func(tx alias.Tx) error { return fn(noMetaTx{tx}) })
}

type noMetaTx struct{ alias.Tx }

func (noMetaTx) Meta(string) ([]byte, error) { return nil, alias.ErrNotFound }

// TestRegistryKeyCheckRace has another node start, and store a secret, between a
// node's first look at the key check and its transaction.
func TestRegistryKeyCheckRace(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		same   bool // both nodes have one key set
		secret bool // the other one stores a secret
		want   error
	}{
		{"one key set", true, true, nil},
		{"one key set, no secret", true, false, nil},
		{"two key sets", false, true, alias.ErrWrongKey},
		{"two key sets, no secret", false, false, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(dir, "registry.db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
			sealer, err := seal.Open(t.Context(), seal.Spec{Dir: dir, Fresh: true})
			if err != nil {
				t.Fatal(err)
			}
			raced := &racedStore{Store: store, first: func() {
				first := openFixture(t, map[bool]string{true: dir, false: t.TempDir()}[row.same], store)
				if row.secret {
					first.create(t, "shop", pair("AKIA1"))
				}
			}}
			if _, err = alias.Open(t.Context(), raced, sealer, alias.Policy{}); !errors.Is(err, row.want) {
				t.Errorf("Open: got %v, want %v", err, row.want)
			}
			if raced.first != nil {
				t.Error("nobody came between")
			}
		})
	}
}

// racedStore lets another be first once.
type racedStore struct {
	alias.Store
	first func()
}

func (r *racedStore) Update(ctx context.Context, fn func(alias.Tx) error) error {
	if first := r.first; first != nil {
		r.first = nil
		first()
	}
	return r.Store.Update(ctx, fn)
}

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

func TestSecretPrintsAsPlaceholder(t *testing.T) {
	t.Parallel()
	secret := alias.NewSecret(theSecret)
	kp := *pair("AKIA1").KeyPair
	for name, value := range map[string]any{
		"itself": secret, "pointer": &secret, "exported field": kp, "pointer to its struct": &kp,
		"field": struct{ token alias.Secret }{secret}, "pointer to a struct with a field": &struct{ token alias.Secret }{secret},
		"field of a field":     struct{ pair struct{ kp alias.KeyPair } }{struct{ kp alias.KeyPair }{kp}},
		"interface in a field": struct{ any any }{secret}, "slice in a field": struct{ list []alias.Secret }{[]alias.Secret{secret}},
		"key in a field": struct{ set map[alias.Secret]bool }{map[alias.Secret]bool{secret: true}},
		"slice":          []alias.Secret{secret}, "map": map[alias.Secret]alias.Secret{secret: secret},
	} {
		for verb := range strings.SplitSeq("%v,%+v,%#v,%s,%q,%x,%X,% x,%#x,%d,%t,%T,%p,%c,%U,%e,%g,%b,%o,%10s,%-10q,%.3s,%+q,%#q,%w,%z", ",") {
			wantNoSecret(t, name+" with "+verb, fmt.Sprintf(verb, value))
		}
		var text, logs bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&logs, nil), slog.NewJSONHandler(&logs, nil)} {
			slog.New(h).Info("m", "value", value, slog.Group("g", slog.Any("value", value)))
		}
		wantNoSecret(t, name+" in the log", logs.String())
		if err := json.NewEncoder(&text).Encode(value); err == nil {
			wantNoSecret(t, name+" as JSON", text.String())
		}
	}
}

func wantNoSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range []string{"%s", "%x", "%X", "% x", "% X"} {
		if strings.Contains(text, fmt.Sprintf(form, theSecret)) {
			t.Errorf("%s prints the secret: %s", where, text)
			return
		}
	}
	if strings.Contains(text, strings.Trim(fmt.Sprintf("%d", []byte(theSecret)), "[]")) {
		t.Errorf("%s prints the bytes of the secret: %s", where, text)
	}
}

func TestSecretCompares(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		a, b alias.Secret
		same bool
	}{
		{"equal texts", alias.NewSecret("a" + theSecret), alias.NewSecret("a" + theSecret), true},
		{"other texts", alias.NewSecret("a"), alias.NewSecret("b"), false},
		{"no text", alias.NewSecret(""), alias.Secret{}, true},
		{"some text and none", alias.NewSecret("a"), alias.Secret{}, false},
	} {
		if got := row.a == row.b; got != row.same {
			t.Errorf("%s: got equal %v", row.name, got)
		}
		if got := row.a.Reveal() == row.b.Reveal(); got != row.same {
			t.Errorf("%s: got equal texts %v", row.name, got)
		}
		if row.b.IsZero() != (row.b.Reveal() == "") {
			t.Errorf("%s: IsZero is %v", row.name, row.b.IsZero())
		}
	}
}
