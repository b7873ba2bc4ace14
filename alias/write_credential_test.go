package alias_test

import (
	"errors"
	"testing"
	"time"

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

// TestChangeStatic: what a key is meant to be outlives its replacement, and the last verdict
// does not outlive a change of either.
func TestChangeStatic(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	use := pair("AKIA1")
	use.Expect = alias.PolicyReadOnly
	f.create(t, "shop", use)
	none, wide := alias.PolicyMode(""), alias.PolicyReadOnly
	for i, step := range []struct {
		name    string
		change  alias.StaticChange
		want    alias.Static
		version int64
		scope   string
	}{
		{"nothing", alias.StaticChange{}, alias.Static{AccessKeyID: "AKIA1", Expect: wide}, 1, "weak"},
		{"the same", alias.StaticChange{Expect: &wide}, alias.Static{AccessKeyID: "AKIA1", Expect: wide}, 1, "weak"},
		{"key", alias.StaticChange{KeyPair: pair("AKIA2").KeyPair}, alias.Static{AccessKeyID: "AKIA2", Expect: wide}, 2, ""},
		{"expectation", alias.StaticChange{Expect: &none}, alias.Static{AccessKeyID: "AKIA2"}, 2, ""},
		{"both", alias.StaticChange{KeyPair: pair("AKIA3").KeyPair, Expect: &wide}, alias.Static{AccessKeyID: "AKIA3", Expect: wide}, 3, ""},
	} {
		err := f.Apply(ctx, []alias.Name{"shop"}, func(tx alias.Tx) ([]alias.Change, error) {
			c, err := tx.Credential("shop")
			if err != nil {
				return nil, err
			}
			c.Scope, c.VerifiedAt, c.Revision = "weak", time.Unix(1, 0).UTC(), c.Revision+1
			return []alias.Change{{CredentialPut: c}}, tx.UpdateCredential(c)
		})
		if err != nil {
			t.Fatal(err)
		}
		c, err := f.ChangeStatic(ctx, "shop", 0, step.change)
		if err != nil || c.Provider != step.want || c.Version != step.version || c.Scope != step.scope || c.Revision != int64(2*i+3) {
			t.Errorf("%s: got %+v, %v", step.name, c, err)
		}
	}
	bad := alias.PolicyInline
	_, err := f.ChangeStatic(ctx, "shop", 0, alias.StaticChange{KeyPair: &alias.KeyPair{}, Expect: &bad})
	wantInvalid(t, err, "access_key_id", "secret_access_key", "expect")
	f.wantAsStored(t, "shop")
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
