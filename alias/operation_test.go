package alias_test

import (
	"errors"
	"fmt"
	"testing"

	"ixmage/alias"
)

// begin stores an operation under way.
func (f *fixture) begin(t *testing.T, id string, aliasName, credential alias.Name) *alias.Operation {
	t.Helper()
	o := &alias.Operation{
		ID: id, Kind: alias.OperationProvision, Alias: aliasName, Credential: credential, State: alias.OperationRunning, Revision: 1,
	}
	if err := f.store.Update(t.Context(), func(tx alias.Tx) error { return tx.InsertOperation(o) }); err != nil {
		t.Fatal(err)
	}
	return o
}

// end stores the end of an operation.
func (f *fixture) end(t *testing.T, o *alias.Operation, state alias.OperationState) {
	t.Helper()
	o.State, o.Revision = state, o.Revision+1
	if err := f.store.Update(t.Context(), func(tx alias.Tx) error { return tx.UpdateOperation(o) }); err != nil {
		t.Fatal(err)
	}
}

func TestOperationFinished(t *testing.T) {
	t.Parallel()
	for state, want := range map[alias.OperationState]bool{
		alias.OperationRunning: false, alias.OperationDone: true, alias.OperationFailed: true,
	} {
		if got := (&alias.Operation{State: state}).Finished(); got != want {
			t.Errorf("%s: got %v", state, got)
		}
	}
}

// TestBusyAlias: while an operation runs for an alias, no other call changes or
// deletes it.
func TestBusyAlias(t *testing.T) {
	t.Parallel()
	for _, state := range []alias.OperationState{alias.OperationDone, alias.OperationFailed} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			ctx := t.Context()
			f.create(t, "shop", pair("AKIA1"))
			f.create(t, "blog", alias.CredentialRef{Name: "shop"})
			o := f.begin(t, "op-1", "shop", "shop")
			seen := f.observe()
			never := func(*alias.Alias, *alias.CredentialRef) error { t.Error("the callback was called"); return nil }
			touch := func(a *alias.Alias, _ *alias.CredentialRef) error { a.TTL++; return nil }
			_, err := f.UpdateAlias(ctx, "shop", 1, never)
			wantError(t, err, alias.ErrBusy, "alias shop: an operation runs: op-1, of kind provision")
			wantError(t, f.DeleteAlias(ctx, "shop", 0), alias.ErrBusy, "op-1")
			_, err = f.UpdateAlias(ctx, "shop", 9, never)
			wantError(t, err, alias.ErrStale, "alias shop") // who holds an old one learns that first
			wantError(t, f.DeleteAlias(ctx, "shop", 9), alias.ErrStale, "alias shop")
			wantSeen(t, seen)
			// The credential's other aliases are free.
			if _, err := f.UpdateAlias(ctx, "blog", 0, touch); err != nil {
				t.Errorf("another alias of the credential: %v", err)
			}
			if err := f.DeleteAlias(ctx, "blog", 0); err != nil {
				t.Errorf("another alias of the credential: %v", err)
			}
			f.end(t, o, state)
			if _, err := f.UpdateAlias(ctx, "shop", 0, touch); err != nil {
				t.Errorf("after the end: %v", err)
			}
			if err := f.DeleteAlias(ctx, "shop", 0); err != nil {
				t.Errorf("after the end: %v", err)
			}
			f.wantAsStored(t, "shop", "blog")
		})
	}
}

// TestRotatingAlias: an operation for a credential alone does not block calls on its
// aliases.
func TestRotatingAlias(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", anonymous)
	f.begin(t, "op-1", "", "shop")
	if _, err := f.UpdateAlias(t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error { a.TTL++; return nil }); err != nil {
		t.Errorf("UpdateAlias: %v", err)
	}
	if err := f.DeleteAlias(t.Context(), "shop", 0); err != nil {
		t.Errorf("DeleteAlias: %v", err)
	}
}

// TestAttachNeedsWorkingCredential: an alias is not given a credential that
// does not sign.
func TestAttachNeedsWorkingCredential(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.create(t, "shop", anonymous)
	for i, row := range []struct {
		state alias.CredentialState
		works bool
	}{
		{alias.CredentialActive, true}, {alias.CredentialRotating, true},
		{alias.CredentialProvisioning, false}, {alias.CredentialRemoving, false}, {alias.CredentialFailed, false},
	} {
		t.Run(string(row.state), func(t *testing.T) {
			name, other := alias.Name(fmt.Sprint("c", i)), alias.Name(fmt.Sprint("a", i))
			f.addProvisioned(t, name, row.state) //nolint:contextcheck // it has that of the test
			before, _ := f.Lookup("shop")
			_, errCreate := f.CreateAlias(ctx, draft(other), alias.CredentialRef{Name: name})
			_, errUpdate := f.UpdateAlias(ctx, "shop", 0, func(_ *alias.Alias, use *alias.CredentialRef) error { use.Name = name; return nil })
			after, _ := f.Lookup("shop")
			_, made := f.Lookup(string(other))
			if row.works {
				if err := errors.Join(errCreate, errUpdate); err != nil || after.Credential.Name != name || !made {
					t.Errorf("got %v, credential %s", err, after.Credential.Name)
				}
				return
			}
			says := fmt.Sprintf("credential %s is %s", name, row.state)
			wantError(t, errCreate, alias.ErrBusy, says)
			wantError(t, errUpdate, alias.ErrBusy, says)
			if after != before || made {
				t.Error("the refused write left something")
			}
		})
	}
}
