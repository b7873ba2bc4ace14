package alias_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

// provisioned has every field set.
func provisioned() *alias.Provisioned {
	return &alias.Provisioned{
		AccessKeyID: "AKIA1", Mode: alias.PolicyManaged, Operation: "op-1", RotateEvery: time.Hour,
		User:     alias.IAMUser{Name: "u", Path: "/ixmage/i/", ARN: "arn:aws:iam::1:user/u", ID: "AIDA1", Boundary: "arn:b"},
		Grants:   []alias.Grant{{Bucket: "acme-media", Prefix: "a/", Region: "eu-west-1", Endpoint: "https://h", PathStyle: true}},
		Policies: []alias.PolicyRef{{ARN: "arn:p", Ours: true}},
		Tags:     map[string]string{"team": "web"},
		Previous: &alias.PreviousKey{
			SealedKey: alias.SealedKey{AccessKeyID: "AKIA0", Sealed: []byte{1, 2}, Version: 1}, Until: time.Unix(7, 0).UTC(),
		},
	}
}

// addProvisioned makes a credential as an operation does, with its own sealed
// key.
func (f *fixture) addProvisioned(t *testing.T, name alias.Name, state alias.CredentialState) *alias.Credential {
	t.Helper()
	c := &alias.Credential{
		ID: alias.NewID(), Name: name, Version: 2, State: state, Scope: "proven",
		Revision: 1, CreatedAt: time.Unix(7, 0).UTC(), UpdatedAt: time.Unix(7, 0).UTC(),
	}
	sealed, err := f.SealKey(c, alias.KeyPair{AccessKeyID: "AKIA1", SecretAccessKey: alias.NewSecret(theSecret)}, c.Version)
	if err != nil {
		t.Fatal(err)
	}
	c.Provider, c.Sealed = provisioned(), sealed.Sealed
	err = f.Apply(t.Context(), []alias.Name{name}, func(tx alias.Tx) ([]alias.Change, error) {
		return []alias.Change{{CredentialPut: c}}, tx.InsertCredential(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestProvisionedRoundTrip(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.addProvisioned(t, "media", alias.CredentialActive)
	f.create(t, "shop", alias.CredentialRef{Name: "media"})
	f.wantAsStored(t, "shop")
	again := openFixture(t, f.dir, f.store)
	route, ok := again.Lookup("shop")
	if !ok {
		t.Fatal("the alias is gone")
	}
	if diff := cmp.Diff(c, route.Credential); diff != "" {
		t.Errorf("credential (-want +got):\n%s", diff)
	}
	p, ok := route.Credential.Provisioned()
	if !ok || p.Kind() != alias.KindProvisioned || route.Credential.AccessKeyID() != "AKIA1" {
		t.Errorf("got %+v, %v", p, ok)
	}
	kp, err := again.Reveal(route.Credential)
	if err != nil || kp.AccessKeyID != "AKIA1" || kp.SecretAccessKey.Reveal() != theSecret {
		t.Errorf("Reveal: got %v, %v", kp.AccessKeyID, err)
	}
}

func TestProvisionedClone(t *testing.T) {
	t.Parallel()
	p := provisioned()
	c := p.Clone()
	if diff := cmp.Diff(p, c); diff != "" {
		t.Errorf("clone (-want +got):\n%s", diff)
	}
	c.User.Name, c.Grants[0].Bucket, c.Policies[0].Ours, c.Tags["team"] = "x", "x", false, "x"
	c.Previous.AccessKeyID, c.Previous.Sealed[0] = "x", 9
	if diff := cmp.Diff(provisioned(), p); diff != "" {
		t.Errorf("the original, after its clone was changed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&alias.Provisioned{}, (&alias.Provisioned{}).Clone()); diff != "" {
		t.Errorf("clone of nothing (-want +got):\n%s", diff)
	}
}

func TestCredentialAccessKeyID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		provider    alias.Provider
		id          string
		provisioned bool
	}{
		{alias.Static{AccessKeyID: "AKIA1"}, "AKIA1", false}, {alias.Anonymous{}, "", false},
		{provisioned(), "AKIA1", true}, {&alias.Provisioned{}, "", true}, {nil, "", false},
	} {
		credential := &alias.Credential{Provider: c.provider}
		p, ok := credential.Provisioned()
		if credential.AccessKeyID() != c.id || ok != c.provisioned || (p != nil) != c.provisioned {
			t.Errorf("%T: got %q, %v, %v", c.provider, credential.AccessKeyID(), p, ok)
		}
	}
}

func TestGrantLocation(t *testing.T) {
	t.Parallel()
	want := alias.Location{Bucket: "acme-media", Prefix: "a/", Region: "eu-west-1", Endpoint: "https://h", PathStyle: true}
	if got := provisioned().Grants[0].Location(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestProvisionedIsNotTheOperators: neither the key nor the user of a
// provisioned credential can be lost by the calls for static ones.
func TestProvisionedIsNotTheOperators(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.addProvisioned(t, "shop", alias.CredentialActive)
	f.create(t, "shop", alias.CredentialRef{Name: "shop"})
	_, err := f.ReplaceKeyPair(ctx, "shop", 0, *pair("AKIA2").KeyPair)
	wantError(t, err, alias.ErrNotStatic, "of kind provisioned")
	wantError(t, f.DeleteCredential(ctx, "shop", 0), alias.ErrProvisioned, "credential shop")
	if err := f.DeleteAlias(ctx, "shop", 0); err != nil {
		t.Fatal(err)
	}
	wantError(t, f.DeleteCredential(ctx, "shop", 0), alias.ErrProvisioned, "credential shop")
	wantError(t, f.DeleteCredential(ctx, "shop", 2), alias.ErrStale, "credential shop")
	c, err := f.Credential(ctx, "shop") // although it bore the alias's name
	if err != nil || c.AccessKeyID() != "AKIA1" || c.Revision != 1 {
		t.Errorf("the credential: got %+v, %v", c, err)
	}
	_, err = f.CreateAlias(ctx, draft("shop"), pair("AKIA2"))
	wantError(t, err, alias.ErrExists, "credential shop")
	a, err := f.CreateAlias(ctx, draft("shop"), anonymous)
	if err != nil || a.Credential != alias.SharedAnonymous {
		t.Errorf("a public bucket by the name of a provisioned credential: got %+v, %v", a, err)
	}
	f.wantAsStored(t, "shop")
}

func TestRevealWithoutKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, c := range map[string]*alias.Credential{
		"no key yet":    {Name: "media", Provider: &alias.Provisioned{}},
		"no secret yet": {Name: "media", Provider: provisioned()},
		"no id":         {Name: "media", Provider: &alias.Provisioned{}, Sealed: []byte{1}},
	} {
		if _, err := f.Reveal(c); !errors.Is(err, alias.ErrNoKeyPair) || !strings.Contains(err.Error(), "media of kind provisioned") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestSealKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := &alias.Credential{ID: 7, Name: "media", Provider: &alias.Provisioned{}, Version: 1}
	kp := alias.KeyPair{AccessKeyID: "AKIA2", SecretAccessKey: alias.NewSecret(theSecret)}
	sealed, err := f.SealKey(c, kp, 2)
	if err != nil || sealed.AccessKeyID != "AKIA2" || sealed.Version != 2 {
		t.Fatalf("got %+v, %v", sealed, err)
	}
	got, err := f.RevealSealed(c, sealed)
	if err != nil || got != kp {
		t.Errorf("RevealSealed: got %s, %v", got.AccessKeyID, err)
	}
	text, err := json.Marshal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	var back alias.SealedKey
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if got, err := f.RevealSealed(c, back); err != nil || got != kp {
		t.Errorf("RevealSealed after a crash: got %s, %v", got.AccessKeyID, err)
	}
	for what, printed := range map[string]string{"JSON": string(text), "%+v": fmt.Sprintf("%+v", sealed)} {
		if strings.Contains(printed, theSecret) {
			t.Errorf("%s holds the secret: %s", what, printed)
		}
	}

	moved, cut := sealed, sealed
	moved.Version, cut.Sealed = 1, sealed.Sealed[:len(sealed.Sealed)-1]
	for name, row := range map[string]struct {
		c *alias.Credential
		k alias.SealedKey
	}{
		"another version":    {c, moved},
		"another credential": {&alias.Credential{ID: 8, Name: "media"}, sealed},
		"damaged":            {c, cut},
		"nothing":            {c, alias.SealedKey{}},
	} {
		got, err := f.RevealSealed(row.c, row.k)
		if err == nil || !got.SecretAccessKey.IsZero() || strings.Contains(err.Error(), theSecret) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "credential media") {
			t.Errorf("%s: the error does not name the credential: %v", name, err)
		}
	}
}

// TestRotationKeepsBothKeys: after the swap the credential signs with the new
// key, and the old one can still be opened, by the version that it was sealed
// for.
func TestRotationKeepsBothKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := f.addProvisioned(t, "media", alias.CredentialActive)
	f.create(t, "shop", alias.CredentialRef{Name: "media"})
	const newSecret = theSecret + "2"
	fresh, err := f.SealKey(old, alias.KeyPair{AccessKeyID: "AKIA2", SecretAccessKey: alias.NewSecret(newSecret)}, old.Version+1)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := old.Provisioned()
	swapped, next := *old, p.Clone()
	next.Previous = &alias.PreviousKey{SealedKey: alias.SealedKey{AccessKeyID: p.AccessKeyID, Sealed: old.Sealed, Version: old.Version}}
	next.AccessKeyID = fresh.AccessKeyID
	swapped.Provider, swapped.Sealed, swapped.Version, swapped.Revision = next, fresh.Sealed, fresh.Version, old.Revision+1
	err = f.Apply(t.Context(), []alias.Name{"media"}, func(tx alias.Tx) ([]alias.Change, error) {
		return []alias.Change{{CredentialPut: &swapped}}, tx.UpdateCredential(&swapped)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*fixture{f, openFixture(t, f.dir, f.store)} {
		route, _ := r.Lookup("shop")
		p, _ := route.Credential.Provisioned()
		now, errNow := r.Reveal(route.Credential)
		before, errBefore := r.RevealSealed(route.Credential, p.Previous.SealedKey)
		if err := errors.Join(errNow, errBefore); err != nil {
			t.Fatal(err)
		}
		if now.AccessKeyID != "AKIA2" || now.SecretAccessKey.Reveal() != newSecret || before.AccessKeyID != "AKIA1" || before.SecretAccessKey.Reveal() != theSecret {
			t.Errorf("got %s and, before it, %s", now.AccessKeyID, before.AccessKeyID)
		}
	}
}
