package sqlstore

import (
	"path/filepath"
	"testing"

	"ixmage/alias"
)

// TestReplicaDeletesCredential: the changes of one part of the log delete a credential before they
// give its alias another one.
func TestReplicaDeletesCredential(t *testing.T) {
	t.Parallel()
	r, err := OpenReplica(t.Context(), filepath.Join(t.TempDir(), "replica.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	one := &alias.Credential{ID: 1, Name: "one", Provider: alias.Anonymous{}, Revision: 1}
	two := &alias.Credential{ID: 2, Name: "two", Provider: alias.Anonymous{}, Revision: 1}
	before := &alias.Alias{ID: 1, Name: "shop", CredentialID: 1, Credential: "one", Revision: 1}
	after := &alias.Alias{ID: 1, Name: "shop", CredentialID: 2, Credential: "two", Revision: 2}
	for i, changes := range [][]alias.Change{
		{{CredentialPut: one}, {AliasPut: before}},
		{{CredentialDeleted: one}, {CredentialPut: two}, {AliasPut: after}},
	} {
		state := ReplicaState{Position: alias.Position{Revision: int64(i + 1), Tag: "a"}}
		if err := r.Apply(t.Context(), changes, state); err != nil {
			t.Fatalf("the changes of revision %d: %v", i+1, err)
		}
	}
	got, err := r.Alias(t.Context(), "shop")
	if err != nil || got.Credential != "two" {
		t.Errorf("the replica has %+v, %v", got, err)
	}
	if _, err := r.Credential(t.Context(), "one"); err == nil {
		t.Error("the replica has the deleted credential")
	}
}
