package alias_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

// keysOf are the signing keys of an alias in memory.
func keysOf(t *testing.T, r *alias.Registry, name string) []alias.SigningKey {
	t.Helper()
	route, ok := r.Lookup(name)
	if !ok {
		t.Fatalf("there is no alias %s", name)
	}
	return route.Alias.SigningKeys
}

func addKey(t *testing.T, r *alias.Registry, name alias.Name) alias.SigningKey {
	t.Helper()
	key, err := r.AddSigningKey(t.Context(), name, "tester")
	if err != nil {
		t.Fatalf("AddSigningKey(%s): %v", name, err)
	}
	return key
}

func TestSigningKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", pair("AKIA1"))
	if _, ok := (&alias.Alias{}).NewestKey(); ok {
		t.Error("an alias without keys has a newest one")
	}
	first := addKey(t, f.Registry, "shop")
	before := keysOf(t, f.Registry, "shop")
	second := addKey(t, f.Registry, "shop")
	for _, k := range []alias.SigningKey{first, second} {
		if !alias.IsKID(k.KID) || len(k.Secret.Reveal()) != 32 || time.Since(k.CreatedAt) > time.Hour || len(k.Sealed) < 32 {
			t.Errorf("got %+v", k)
		}
	}
	if first.KID == second.KID || first.Secret == second.Secret {
		t.Error("two keys are equal")
	}
	got := keysOf(t, f.Registry, "shop")
	if len(before) != 1 || len(got) != 2 || got[0].Secret != first.Secret || got[1].Secret != second.Secret {
		t.Fatalf("got %+v after %+v", got, before)
	}
	a, err := f.Alias(t.Context(), "shop")
	newest, ok := a.NewestKey()
	if err != nil || !ok || newest.KID != second.KID || newest.Secret != second.Secret || a.Revision != 3 {
		t.Errorf("got %+v of %+v, %v", newest, a, err)
	}
	f.wantAsStored(t, "shop")

	// An edit of the alias does not touch them, and shares nothing.
	if _, err := f.UpdateAlias(t.Context(), "shop", 3, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.SigningKeys, a.Enabled = nil, false
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(t, f.Registry, "shop"); len(got) != 2 {
		t.Errorf("after an edit: %+v", got)
	}

	if err := f.DeleteSigningKey(t.Context(), "shop", first.KID, "tester"); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(t, f.Registry, "shop"); len(got) != 1 || got[0].Secret != second.Secret || len(before) != 1 || before[0].KID != first.KID {
		t.Errorf("after the deletion: %+v, of before %+v", got, before)
	}
	f.wantAsStored(t, "shop")
	for what, err := range map[string]error{
		"key that is gone": f.DeleteSigningKey(t.Context(), "shop", first.KID, "tester"),
		"unknown alias":    f.DeleteSigningKey(t.Context(), "none", second.KID, "tester"),
		"add, unknown":     errOf(f.AddSigningKey(t.Context(), "none", "tester")),
	} {
		if !errors.Is(err, alias.ErrNotFound) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func errOf(_ alias.SigningKey, err error) error { return err }

// TestMostSigningKeys: the seventeenth is refused, with a remedy.
func TestMostSigningKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", anonymous)
	for range alias.MaxSigningKeys {
		addKey(t, f.Registry, "shop")
	}
	_, err := f.AddSigningKey(t.Context(), "shop", "tester")
	if !errors.Is(err, alias.ErrTooManyKeys) || !strings.Contains(err.Error(), "it has 16, the most; delete one") {
		t.Errorf("got %v", err)
	}
	oldest := keysOf(t, f.Registry, "shop")[0]
	if err := f.DeleteSigningKey(t.Context(), "shop", oldest.KID, "tester"); err != nil {
		t.Fatal(err)
	}
	addKey(t, f.Registry, "shop")
	f.wantAsStored(t, "shop")
}

// TestSigningKeysAreNotShared: a list that Lookup has returned never changes, even where lists of
// two snapshots have one array.
func TestSigningKeysAreNotShared(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", anonymous)
	addKey(t, f.Registry, "shop")
	for range 10 {
		addKey(t, f.Registry, "shop")
		held := keysOf(t, f.Registry, "shop")
		want := slices.Clone(held)
		addKey(t, f.Registry, "shop")
		if err := f.DeleteSigningKey(t.Context(), "shop", held[0].KID, "tester"); err != nil {
			t.Fatal(err)
		}
		addKey(t, f.Registry, "shop")
		if err := f.DeleteSigningKey(t.Context(), "shop", held[1].KID, "tester"); err != nil {
			t.Fatal(err)
		}
		for i, k := range held {
			if k.KID != want[i].KID || k.Secret != want[i].Secret {
				t.Fatalf("a list that a request holds has changed: %+v, was %+v", held, want)
			}
		}
	}
}

// TestSigningKeyOfAnotherRow: a sealed key is bound to its alias and kid. With a key that cannot
// be opened, its alias is not served: with an empty secret everybody could sign.
func TestSigningKeyOfAnotherRow(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(shop, blog *alias.Alias){
		"of another alias": func(shop, blog *alias.Alias) { shop.SigningKeys = blog.SigningKeys },
		"of another kid":   func(shop, _ *alias.Alias) { shop.SigningKeys[0].KID = shop.SigningKeys[1].KID },
		"damaged":          func(shop, _ *alias.Alias) { shop.SigningKeys[0].Sealed[20] ^= 1 },
		"gone":             func(shop, _ *alias.Alias) { shop.SigningKeys[0].Sealed = nil },
		"sealed as the secret of a credential": func(shop, _ *alias.Alias) {
			shop.SigningKeys[0].Sealed = slices.Clone(sealedAs(t, shop.ID))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.create(t, "shop", anonymous)
			f.create(t, "blog", anonymous)
			for _, n := range []alias.Name{"shop", "shop", "blog"} {
				addKey(t, f.Registry, n)
			}
			err := f.store.Update(t.Context(), func(tx alias.Tx) error {
				shop, err := tx.Alias("shop")
				if err != nil {
					return err
				}
				blog, err := tx.Alias("blog")
				if err != nil {
					return err
				}
				spoil(shop, blog)
				shop.Revision++
				return tx.UpdateAlias(shop)
			})
			if err != nil {
				t.Fatal(err)
			}
			r, err := alias.Open(t.Context(), f.store, f.sealer, alias.Policy{})
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := r.Lookup("shop"); ok {
				t.Error("the alias is served")
			}
			if _, ok := r.Lookup("blog"); !ok {
				t.Error("the other alias is not served")
			}
			damaged := r.Damaged()
			if len(damaged) != 1 || damaged[0].Row() != "the alias shop" || !strings.Contains(damaged[0].Error(), "open its signing key") {
				t.Errorf("got %v", damaged)
			}
			if _, err := r.Alias(t.Context(), "shop"); !errors.Is(err, alias.ErrDamaged) {
				t.Errorf("Alias: got %v", err)
			}
			if list, err := r.Aliases(t.Context(), "", 10); err != nil || len(list) != 1 {
				t.Errorf("Aliases: got %d, %v", len(list), err)
			}
		})
	}
}

// sealedAs seals 32 bytes as the secret of a credential with an id.
func sealedAs(t *testing.T, id int64) []byte {
	t.Helper()
	f := newFixture(t)
	sealed, err := f.sealer.Seal(alias.NewSecret(strings.Repeat("x", 32)), id, 1)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// TestSigningKeyIsNotShown: no format of a key or of its alias shows the secret.
func TestSigningKeyIsNotShown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", anonymous)
	key := addKey(t, f.Registry, "shop")
	route, _ := f.Lookup("shop")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{key, &key, route, *route.Alias, route.Alias.SigningKeys} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, key.Secret.Reveal()) ||
				strings.Contains(text, fmt.Sprintf("%x", key.Secret.Reveal())) {
				t.Errorf("%s shows the secret", verb)
			}
		}
	}
}

// TestSigningKeysOfAnotherNode: another node has a new key, template and mode with the change,
// and loses a deleted key with it.
func TestSigningKeysOfAnotherNode(t *testing.T) {
	t.Parallel()
	one, other := shared(t)
	ctx := t.Context()
	if _, err := one.CreateAlias(ctx, draft("shop"), anonymous); err != nil {
		t.Fatal(err)
	}
	key := addKey(t, one, "shop")
	if _, err := one.UpdateAlias(ctx, "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.Transforms, a.Access, a.Widths = alias.TransformsSigned, alias.AccessSigned, []int{1, 2}
		a.Templates = map[string]string{"thumb": "w=240"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	sync := func() *alias.Alias {
		t.Helper()
		if err := other.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		route, _ := other.Lookup("shop")
		return route.Alias
	}
	a := sync()
	if len(a.SigningKeys) != 1 || a.SigningKeys[0].Secret != key.Secret || a.SigningKeys[0].KID != key.KID {
		t.Errorf("got %+v", a.SigningKeys)
	}
	if a.Transforms != alias.TransformsSigned || a.Access != alias.AccessSigned || !slices.Equal(a.Widths, []int{1, 2}) || a.Templates["thumb"] != "w=240" {
		t.Errorf("got %+v", a)
	}
	if a.Epoch != 1 {
		t.Errorf("the cache was emptied: epoch %d", a.Epoch)
	}
	third := addKey(t, other, "shop")
	if err := one.DeleteSigningKey(ctx, "shop", key.KID, "tester"); err != nil {
		t.Fatal(err)
	}
	if a = sync(); len(a.SigningKeys) != 1 || a.SigningKeys[0].Secret != third.Secret {
		t.Errorf("after the deletion: %+v", a.SigningKeys)
	}
}

// TestKeySetOfSigningKeysAlone: a registry whose only secrets are signing keys refuses another
// key set.
func TestKeySetOfSigningKeysAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", anonymous)
	addKey(t, f.Registry, "shop")
	if n, err := f.store.CountSealed(t.Context()); err != nil || n != 1 {
		t.Errorf("got %d sealed values, %v", n, err)
	}
	other := newFixture(t).sealer
	if _, err := alias.Open(t.Context(), f.store, other, alias.Policy{}); !errors.Is(err, alias.ErrWrongKey) {
		t.Errorf("got %v", err)
	}
	if err := f.store.Update(t.Context(), func(tx alias.Tx) error { return tx.SetMeta(alias.MetaKeyCheck, []byte("damaged")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := alias.Open(context.Background(), f.store, f.sealer, alias.Policy{}); err != nil {
		t.Errorf("with the right key set, and a damaged check: %v", err)
	}
}
