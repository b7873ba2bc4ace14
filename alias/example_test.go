package alias_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
)

// A registry is opened in three steps: the store, the key set, their content.
func Example() {
	if err := openAndLookUp(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// true acme-media website-images/ static
	// AKIAIOSFODNN7EXAMPLE [redacted] <nil>
}

func openAndLookUp(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "ixmage")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store, err := sqlstore.OpenSQLite(ctx, filepath.Join(dir, "registry.db"))
	if err != nil {
		return err
	}
	defer store.Close()
	sealed, err := store.CountSealed(ctx)
	if err != nil {
		return err
	}
	keys, err := seal.Open(ctx, seal.Spec{Dir: dir, Fresh: sealed == 0, Sealed: sealed})
	if err != nil {
		return err
	}
	registry, err := alias.Open(ctx, store, keys, alias.Policy{})
	if err != nil {
		return err
	}
	a := alias.New()
	a.Name, a.Location = "shop", alias.Location{Bucket: "acme-media", Prefix: "website-images", Region: "eu-west-1"}
	_, err = registry.CreateAlias(ctx, a, alias.CredentialRef{KeyPair: &alias.KeyPair{
		AccessKeyID:     "AKIAIOSFODNN7EXAMPLE",
		SecretAccessKey: alias.NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
	}})
	if err != nil {
		return err
	}
	route, ok := registry.Lookup("shop")
	fmt.Println(ok, route.Alias.Bucket, route.Alias.Prefix, route.Credential.Provider.Kind())
	keyPair, err := registry.Reveal(route.Credential)
	fmt.Println(keyPair.AccessKeyID, keyPair.SecretAccessKey, err)
	return nil
}
