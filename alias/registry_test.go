package alias_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
)

func TestRegistryLookupUnknown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", pair("AKIA1"))
	for _, name := range []string{"", "none", "Shop", "shop/", "shop\x00"} {
		if route, ok := f.Lookup(name); ok || route != (alias.Route{}) {
			t.Errorf("Lookup(%q): got %v, %v, want nothing", name, route, ok)
		}
	}
}

func TestRegistryLookupDisabled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", anonymous)
	_, err := f.UpdateAlias(t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.Enabled = false
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if route, ok := f.Lookup("shop"); !ok || route.Alias.Serves() {
		t.Errorf("Lookup: got %v, %v, want an alias that does not serve", route, ok)
	}
}

// An ID is never used again: it names the alias until that is deleted.
func TestRegistryByID(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.create(t, "shop", anonymous)
	if route, ok := f.ByID(first.ID); !ok || route.Alias != first || route.Credential == nil {
		t.Errorf("got %+v, %t", route, ok)
	}
	if err := f.DeleteAlias(t.Context(), "shop", 0); err != nil {
		t.Fatal(err)
	}
	second := f.create(t, "shop", anonymous)
	for _, id := range []int64{first.ID, 0, -1} {
		if route, ok := f.ByID(id); ok {
			t.Errorf("ByID(%d): got %+v", id, route)
		}
	}
	if route, ok := f.ByID(second.ID); !ok || route.Alias != second {
		t.Errorf("the second: got %+v, %t", route, ok)
	}
}

func TestRegistryLookupAllocatesNothing(t *testing.T) { //nolint:paralleltest // allocations are the process's
	f := newFixture(t)
	f.create(t, "shop", pair("AKIA1"))
	f.create(t, "other", alias.CredentialRef{Name: "shop"})
	for _, name := range []string{"shop", "other", "none"} {
		if n := testing.AllocsPerRun(100, func() { f.Lookup(name) }); n != 0 {
			t.Errorf("Lookup(%s): got %v allocations, want none", name, n)
		}
	}
}

func TestRegistryReveal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", pair("AKIA1"))
	f.create(t, "public", anonymous)
	route, _ := f.Lookup("shop")
	kp, err := f.Reveal(route.Credential)
	if err != nil || kp.AccessKeyID != "AKIA1" || kp.SecretAccessKey.Reveal() != theSecret {
		t.Errorf("Reveal: got id %q, error %v", kp.AccessKeyID, err)
	}
	public, _ := f.Lookup("public")
	if kp, err := f.Reveal(public.Credential); !errors.Is(err, alias.ErrNoKeyPair) || kp != (alias.KeyPair{}) {
		t.Errorf("Reveal of an anonymous credential: got %v, want ErrNoKeyPair", err)
	}
	moved := *route.Credential
	moved.Version++
	if kp, err := f.Reveal(&moved); err == nil || kp != (alias.KeyPair{}) {
		t.Error("Reveal of another version: got no error")
	}
}

func TestRegistryObserve(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	seen := f.observe()
	f.Observe(func(c alias.Change) {
		if c.AliasPut == nil {
			return
		}
		if route, ok := f.Lookup(string(c.AliasPut.Name)); !ok || route.Alias != c.AliasPut {
			t.Errorf("%s is observed before Lookup shows it", c.AliasPut.Name)
		}
		if a, err := f.store.Alias(ctx, c.AliasPut.Name); err != nil || a.Revision != c.AliasPut.Revision {
			t.Errorf("%s is observed before it is stored: %v", c.AliasPut.Name, err)
		}
	})
	f.create(t, "shop", pair("AKIA1"))
	wantSeen(t, seen, "credential shop v1", "alias shop r1")
	if _, err := f.ReplaceKeyPair(ctx, "shop", 0, *pair("AKIA2").KeyPair); err != nil {
		t.Fatal(err)
	}
	wantSeen(t, seen, "credential shop v2")
	if _, err := f.CreateAlias(ctx, draft("shop"), anonymous); err == nil {
		t.Error("CreateAlias of a taken name: got no error")
	}
	wantSeen(t, seen)
	if err := f.DeleteAlias(ctx, "shop", 0); err != nil {
		t.Fatal(err)
	}
	wantSeen(t, seen, "no alias shop", "no credential shop")
}

// TestRegistryObserverPanics: a bug in an observer must not stop later writes.
func TestRegistryObserverPanics(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Observe(func(alias.Change) { panic("bug") })
	for _, name := range []alias.Name{"a", "b"} {
		func() {
			defer func() {
				if recover() != "bug" {
					t.Error("the panic did not reach the writer")
				}
			}()
			_, _ = f.CreateAlias(t.Context(), draft(name), anonymous)
		}()
	}
	f.wantAsStored(t, "a", "b")
}

func TestRegistryWaitingWriterGivesUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", anonymous)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.UpdateAlias(t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
		// The turn is ours, so that another writer can only wait.
		second := make(chan error)
		go func() { second <- f.DeleteAlias(ctx, "shop", 0) }()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("DeleteAlias behind another write: got %v, want context.Canceled", err)
		}
		a.Bucket = "other"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.wantAsStored(t, "shop")
}

// TestRegistryReadersSeeWholeRoutes reads while keys are replaced. Under the
// race detector it also shows that snapshots are never written to.
func TestRegistryReadersSeeWholeRoutes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", pair("AKIA1"))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			var version int64
			for {
				select {
				case <-stop:
					return
				default:
				}
				route, ok := f.Lookup("shop")
				if !ok {
					t.Error("the alias was gone for a moment")
					return
				}
				if route.Credential.Version < version {
					t.Errorf("version %d came after %d", route.Credential.Version, version)
				}
				version = route.Credential.Version
				if kp, err := f.Reveal(route.Credential); err != nil || kp.AccessKeyID != fmt.Sprint("AKIA", version) {
					t.Errorf("version %d: got id %s, %v", version, kp.AccessKeyID, err)
				}
			}
		})
	}
	for i := 2; i < 12; i++ {
		if _, err := f.ReplaceKeyPair(t.Context(), "shop", 0, *pair(fmt.Sprint("AKIA", i)).KeyPair); err != nil {
			t.Error(err)
		}
		f.create(t, alias.Name(fmt.Sprint("a", i)), anonymous)
	}
	close(stop)
	readers.Wait()
}

func TestRegistryTimes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before := time.Now().Truncate(time.Microsecond)
	a := f.create(t, "shop", pair("AKIA1"))
	if a.CreatedAt.Before(before) || a.CreatedAt.After(time.Now()) || a.CreatedAt.Location() != time.UTC || a.UpdatedAt != a.CreatedAt {
		t.Errorf("created at %v, updated at %v", a.CreatedAt, a.UpdatedAt)
	}
	b, err := f.UpdateAlias(t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error { a.TTL++; return nil })
	if err != nil || b.CreatedAt != a.CreatedAt || b.UpdatedAt.Before(a.UpdatedAt) {
		t.Errorf("after update: %v, %v, %v", b.CreatedAt, b.UpdatedAt, err)
	}
	c, err := f.Credential(t.Context(), "shop")
	if err != nil || !c.RotatedAt.IsZero() {
		t.Errorf("rotated at %v, %v, want never", c.RotatedAt, err)
	}
	c, err = f.ReplaceKeyPair(t.Context(), "shop", 0, *pair("AKIA2").KeyPair)
	if err != nil || c.RotatedAt.Before(before) || c.UpdatedAt != c.RotatedAt {
		t.Errorf("rotated at %v, %v", c.RotatedAt, err)
	}
}

// TestChangeAliasWas: observers are told what an alias was, as Lookup had it.
func TestChangeAliasWas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var told []alias.Change
	f.Observe(func(c alias.Change) {
		if c.CredentialPut == nil {
			told = append(told, c)
		}
	})
	first := f.create(t, "shop", anonymous)
	second, err := f.UpdateAlias(t.Context(), "shop", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.TTL++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	third, err := f.RaiseEpoch(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteAlias(t.Context(), "shop", 0); err != nil {
		t.Fatal(err)
	}
	again := f.create(t, "shop", anonymous)
	for i, want := range []struct{ put, was *alias.Alias }{{first, nil}, {second, first}, {third, second}, {nil, nil}, {again, nil}} {
		if i >= len(told) || told[i].AliasPut != want.put || told[i].AliasWas != want.was {
			t.Fatalf("change %d of %+v; want %+v", i, told, want)
		}
	}
}
