package alias_test

import (
	"errors"
	"testing"

	"ixmage/alias"
)

func TestCreateCredential(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	c, err := f.CreateCredential(ctx, "key", pair("AKIA1"))
	if err != nil || c.Name != "key" || c.Provider != (alias.Static{AccessKeyID: "AKIA1"}) || c.Revision != 1 || c.Version != 1 {
		t.Errorf("got %+v, %v", c, err)
	}
	_, err = f.CreateCredential(ctx, "key", anonymous)
	wantError(t, err, alias.ErrExists, "credential key")
	both := pair("AKIA1")
	both.Anonymous = true
	for _, use := range []alias.CredentialRef{{}, both, {Name: "key"}, {Name: "key", Anonymous: true}} {
		_, err = f.CreateCredential(ctx, "new", use)
		wantInvalid(t, err, "credential")
	}
	_, err = f.CreateCredential(ctx, "New", alias.CredentialRef{KeyPair: &alias.KeyPair{AccessKeyID: "a", SecretAccessKey: alias.NewSecret(" ")}})
	wantInvalid(t, err, "name", "secret_access_key")
}

func TestReplaceKeyPair(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	before := f.create(t, "shop", pair("AKIA1"))
	f.create(t, "open", anonymous)
	next := *pair("AKIA2").KeyPair
	c, err := f.ReplaceKeyPair(ctx, "shop", 1, next)
	if err != nil || c.Version != 2 || c.Revision != 2 || c.ID != before.CredentialID || c.Provider != (alias.Static{AccessKeyID: "AKIA2"}) {
		t.Errorf("got %+v, %v", c, err)
	}
	route, _ := f.Lookup("shop")
	if kp, err := f.Reveal(route.Credential); err != nil || kp.AccessKeyID != "AKIA2" || route.Alias.Epoch != 1 || route.Alias.Revision != 1 {
		t.Errorf("after: got id %s, epoch %d, %v; want the new key and the old cache", kp.AccessKeyID, route.Alias.Epoch, err)
	}
	_, err = f.ReplaceKeyPair(ctx, "shop", 1, next)
	wantError(t, err, alias.ErrStale, "credential shop")
	_, err = f.ReplaceKeyPair(ctx, "none", 0, next)
	wantError(t, err, alias.ErrNotFound, "credential none")
	_, err = f.ReplaceKeyPair(ctx, "open", 0, next)
	wantError(t, err, alias.ErrNotStatic, "of kind anonymous")
	_, err = f.ReplaceKeyPair(ctx, "shop", 0, alias.KeyPair{})
	wantInvalid(t, err, "access_key_id", "secret_access_key")
	f.wantAsStored(t, "shop", "open")
}

func TestDeleteCredential(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.create(t, "shop", pair("AKIA1"))
	f.create(t, "also", alias.CredentialRef{Name: "shop"})
	err := f.DeleteCredential(ctx, "shop", 0)
	wantError(t, err, alias.ErrInUse, "also, shop")
	var inUse *alias.InUseError
	if !errors.As(err, &inUse) || inUse.Credential != "shop" || len(inUse.Aliases) != 2 {
		t.Errorf("got %+v", inUse)
	}
	if _, err := f.CreateCredential(ctx, "lone", pair("AKIA2")); err != nil {
		t.Fatal(err)
	}
	wantError(t, f.DeleteCredential(ctx, "lone", 2), alias.ErrStale, "credential lone")
	wantError(t, f.DeleteCredential(ctx, "none", 0), alias.ErrNotFound, "credential none")
	if err := f.DeleteCredential(ctx, "lone", 1); err != nil {
		t.Errorf("DeleteCredential: %v", err)
	}
	_, err = f.Credential(ctx, "lone")
	wantError(t, err, alias.ErrNotFound, "credential lone")
}

func TestRegistryReads(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for _, name := range []alias.Name{"a", "b", "c"} {
		f.create(t, name, anonymous)
	}
	aliases, errA := f.Aliases(ctx, "a", 1)
	credentials, errC := f.Credentials(ctx, "b", 9)
	if err := errors.Join(errA, errC); err != nil || len(aliases) != 1 || aliases[0].Name != "b" || len(credentials) != 1 || credentials[0].Name != "c" {
		t.Errorf("got %v, %v, %v", aliases, credentials, err)
	}
	if names, err := f.AliasesOf(ctx, credentials[0].ID); err != nil || len(names) != 1 || names[0] != "c" {
		t.Errorf("AliasesOf: got %v, %v", names, err)
	}
	_, err := f.Alias(ctx, "none")
	wantError(t, err, alias.ErrNotFound, "alias none")
}
