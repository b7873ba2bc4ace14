package alias_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore/sqltest"
)

const theSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

// fixture is a registry on a real database and key set.
type fixture struct {
	*alias.Registry
	store  alias.Store
	sealer alias.Sealer
	dir    string
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	dir := t.TempDir()
	return openFixture(t, dir, sqltest.Open(t, filepath.Join(dir, "registry.db")))
}

func openFixture(t testing.TB, dir string, store alias.Store) *fixture {
	t.Helper()
	sealer, err := seal.Open(t.Context(), seal.Spec{Dir: dir, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := alias.Open(t.Context(), store, sealer, alias.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{Registry: r, store: store, sealer: sealer, dir: dir}
}

// wantAsStored compares memory with the memory of a newly opened registry, for the
// given names.
func (f *fixture) wantAsStored(t *testing.T, names ...alias.Name) {
	t.Helper()
	again, err := alias.Open(t.Context(), f.store, f.sealer, alias.Policy{})
	if err != nil {
		t.Fatalf("Open anew: %v", err)
	}
	for _, name := range names {
		got, gotOK := f.Lookup(string(name))
		want, wantOK := again.Lookup(string(name))
		if gotOK != wantOK {
			t.Errorf("Lookup(%s): got %v, stored %v", name, gotOK, wantOK)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Lookup(%s) (-stored +got):\n%s", name, diff)
		}
		if !wantOK {
			continue
		}
		for who, r := range map[string]*alias.Registry{"memory": f.Registry, "opened anew": again} {
			if byID, ok := r.ByID(want.Alias.ID); !ok || byID.Alias.ID != want.Alias.ID || byID.Alias.Name != name {
				t.Errorf("%s: ByID of %s: got %+v, %t", who, name, byID.Alias, ok)
			}
		}
	}
	if diff := cmp.Diff(again.Count(), f.Count()); diff != "" {
		t.Errorf("Count (-stored +got):\n%s", diff)
	}
}

// draft is an alias as an operator would give it.
func draft(name alias.Name) *alias.Alias {
	a := alias.New()
	a.Name, a.Location = name, alias.Location{Bucket: "acme-media", Prefix: "images", Region: "eu-west-1"}
	return a
}

// pair is a reference to a key pair.
func pair(id string) alias.CredentialRef {
	return alias.CredentialRef{KeyPair: &alias.KeyPair{AccessKeyID: id, SecretAccessKey: alias.NewSecret(theSecret)}}
}

var anonymous = alias.CredentialRef{Anonymous: true}

func (f *fixture) create(t testing.TB, name alias.Name, use alias.CredentialRef) *alias.Alias {
	t.Helper()
	a, err := f.CreateAlias(t.Context(), draft(name), use)
	if err != nil {
		t.Fatalf("CreateAlias(%s): %v", name, err)
	}
	return a
}

// observe collects changes as text.
func (f *fixture) observe() *[]string {
	var seen []string
	f.Observe(func(c alias.Change) {
		switch {
		case c.AliasPut != nil:
			seen = append(seen, fmt.Sprintf("alias %s r%d", c.AliasPut.Name, c.AliasPut.Revision))
		case c.AliasDeleted != nil:
			seen = append(seen, fmt.Sprintf("no alias %s", c.AliasDeleted.Name))
		case c.CredentialPut != nil:
			seen = append(seen, fmt.Sprintf("credential %s v%d", c.CredentialPut.Name, c.CredentialPut.Version))
		case c.CredentialDeleted != nil:
			seen = append(seen, fmt.Sprintf("no credential %s", c.CredentialDeleted.Name))
		}
	})
	return &seen
}

func wantSeen(t *testing.T, seen *[]string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, *seen); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	*seen = nil
}

func wantError(t *testing.T, err, want error, says string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
		t.Errorf("got error %v, want %v that says %q", err, want, says)
	}
}

func wantInvalid(t *testing.T, err error, want ...string) {
	t.Helper()
	var e *alias.ValidationError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *ValidationError", err)
	}
	var got []string
	for _, p := range e.Problems {
		got = append(got, p.Field)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-want +got):\n%s\n%v", diff, err)
	}
}
