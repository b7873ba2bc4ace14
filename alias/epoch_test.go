package alias_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

func TestRaiseEpoch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before := f.create(t, "shop", pair("AKIA1"))
	var told []*alias.Alias
	f.Observe(func(c alias.Change) {
		if c.AliasPut == nil {
			t.Errorf("observed %+v", c)
		}
		if route, _ := f.Lookup("shop"); route.Alias != c.AliasPut {
			t.Error("told before Lookup shows it")
		}
		told = append(told, c.AliasPut)
	})
	want := *before
	for range 2 {
		want.Epoch++
		got, err := f.RaiseEpoch(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("alias (-want +got):\n%s", diff)
		}
		if route, ok := f.Lookup("shop"); !ok || route.Alias.Epoch != want.Epoch {
			t.Errorf("Lookup: got %+v, want the epoch %d", route.Alias, want.Epoch)
		}
	}
	if len(told) != 2 || told[1].Epoch != want.Epoch {
		t.Errorf("observers were told of %v", told)
	}
	f.wantAsStored(t, "shop") // and so it is after a crash
	_, err := f.RaiseEpoch(t.Context(), "none")
	wantError(t, err, alias.ErrNotFound, "alias none")
}

// A revision that was read before a purge is still the current one.
func TestRaiseEpochKeepsRevision(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.create(t, "shop", pair("AKIA1"))
	if _, err := f.RaiseEpoch(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	got, err := f.UpdateAlias(t.Context(), "shop", a.Revision, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.TTL++
		return nil
	})
	if err != nil || got.Epoch != a.Epoch+1 || got.Revision != a.Revision+1 {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := f.DeleteAlias(t.Context(), "shop", got.Revision); err != nil {
		t.Error(err)
	}
}

// An operation under way does not keep anyone from purging.
func TestRaiseEpochWhileBusy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", pair("AKIA1"))
	err := f.store.Update(t.Context(), func(tx alias.Tx) error {
		return tx.InsertOperation(&alias.Operation{
			ID: "op-1", Kind: alias.OperationProvision, Alias: "shop", State: alias.OperationRunning, Revision: 1,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.RaiseEpoch(t.Context(), "shop"); err != nil {
		t.Error(err)
	}
}

// TestRaiseEpochFails: before the commit nothing is dropped; after it, when only
// the answer is lost, memory follows the store.
func TestRaiseEpochFails(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before the commit": false, "after the commit": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := newFixture(t)
			was := base.create(t, "shop", pair("AKIA1")).Epoch
			f := openFixture(t, base.dir, &lossy{Store: base.store, fail: func() (bool, bool) { return !after, after }})
			_, err := f.RaiseEpoch(t.Context(), "shop")
			wantError(t, err, errLost, "")
			want := was
			if after {
				want++
			}
			if route, _ := f.Lookup("shop"); route.Alias.Epoch != want {
				t.Errorf("got the epoch %d, want %d", route.Alias.Epoch, want)
			}
			f.wantAsStored(t, "shop")
		})
	}
}

// A write that fails in the transaction leaves everything as it was.
func TestRaiseEpochCancelled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", pair("AKIA1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.RaiseEpoch(ctx, "shop"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if route, _ := f.Lookup("shop"); route.Alias.Epoch != 1 {
		t.Errorf("got the epoch %d, want 1", route.Alias.Epoch)
	}
	f.wantAsStored(t, "shop")
}

// TestRaiseEpochBesideUpdates: of purges, changes and moves at the same time
// none is lost.
func TestRaiseEpochBesideUpdates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", pair("AKIA1"))
	const each = 8
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range each {
		done.Go(func() {
			start.Wait()
			if _, err := f.RaiseEpoch(t.Context(), "shop"); err != nil {
				t.Errorf("RaiseEpoch: %v", err)
			}
		})
		done.Go(func() {
			start.Wait()
			_, err := f.UpdateAlias(t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
				a.TTL++
				if i%2 == 0 {
					a.Region = string(rune('a' + i))
				}
				return nil
			})
			if err != nil {
				t.Errorf("UpdateAlias: %v", err)
			}
		})
	}
	start.Done()
	done.Wait()
	route, _ := f.Lookup("shop")
	if got, want := route.Alias.Epoch, int64(1+each+each/2); got != want {
		t.Errorf("epoch: got %d, want %d", got, want)
	}
	if got, want := route.Alias.Revision, int64(1+each); got != want {
		t.Errorf("revision: got %d, want %d", got, want)
	}
	f.wantAsStored(t, "shop")
}
