package alias

import (
	"context"
	"strings"
	"testing"
)

// TestRouteNeedsIdentity: an alias whose credential was made anew under the same
// name, which no sequence of writes leads to, must not be signed with it.
func TestRouteNeedsIdentity(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		uses       Name
		credential *Credential
		found      bool
	}{
		"its own":                    {"key", &Credential{ID: 1, Name: "key"}, true},
		"of another id":              {"key", &Credential{ID: 2, Name: "key"}, false},
		"none":                       {"key", &Credential{ID: 1, Name: "other"}, false},
		"of its name":                {"shop", &Credential{ID: 1, Name: "shop"}, true},
		"of its name and another id": {"shop", &Credential{ID: 2, Name: "shop"}, false},
		"of its name, not used":      {"key", &Credential{ID: 1, Name: "shop"}, false},
		"of its name, none":          {"shop", &Credential{ID: 1, Name: "other"}, false},
	} {
		a := &Alias{Name: "shop", CredentialID: 1, Credential: row.uses}
		s := (&snapshot{names: newTable(), states: map[State]int{}}).
			with([]Change{{AliasPut: a}, {CredentialPut: row.credential}})
		route, ok := s.route("shop")
		if ok != row.found || (route != Route{}) != row.found {
			t.Errorf("%s: got %v, %v, want found %v", name, route, ok, row.found)
		}
		_, err := load(t.Context(), fixedStore{credential: row.credential, alias: a})
		if (err == nil) != row.found || err != nil && !strings.Contains(err.Error(), "alias shop names the credential "+string(row.uses)) {
			t.Errorf("%s: load: got %v, want it to work: %v", name, err, row.found)
		}
	}
}

// fixedStore loads one alias and one credential, as no real store would.
type fixedStore struct {
	Store

	credential *Credential
	alias      *Alias
}

func (f fixedStore) Load(_ context.Context, credential func(*Credential) error, alias func(*Alias) error) error {
	if err := credential(f.credential); err != nil {
		return err
	}
	return alias(f.alias)
}
