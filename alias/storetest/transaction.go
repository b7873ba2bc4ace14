package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

func testLoad(t *testing.T, s alias.Store) {
	one, two := credential(1, "one"), credential(2, "two")
	a, b := anAlias(1, "a", one), anAlias(2, "b", two)
	seed(t, s, []*alias.Credential{one, two}, a, b)
	credentials, aliases := map[alias.Name]*alias.Credential{}, map[alias.Name]*alias.Alias{}
	_, err := s.Load(t.Context(),
		func(c *alias.Credential) error {
			if len(aliases) > 0 {
				t.Errorf("credential %s comes after an alias", c.Name)
			}
			credentials[c.Name] = c
			return nil
		},
		func(a *alias.Alias) error {
			aliases[a.Name] = a
			return nil
		})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	if diff := cmp.Diff(map[alias.Name]*alias.Credential{"one": one, "two": two}, credentials); diff != "" {
		t.Errorf("credentials (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[alias.Name]*alias.Alias{"a": a, "b": b}, aliases); diff != "" {
		t.Errorf("aliases (-want +got):\n%s", diff)
	}
}

// testLoadStops also shows that a stopped Load holds no lock that would block a write.
func testLoadStops(t *testing.T, s alias.Store) {
	c := credential(1, "one")
	seed(t, s, []*alias.Credential{c, credential(2, "two")}, anAlias(1, "a", c), anAlias(2, "b", c))
	stop, calls := errors.New("enough"), 0
	count := func(err error) error { calls++; return err }
	_, err := s.Load(t.Context(),
		func(*alias.Credential) error { return count(stop) },
		func(*alias.Alias) error { return count(nil) })
	wantError(t, "Load stopped by a credential", err, stop)
	if calls != 1 {
		t.Errorf("callbacks after an error: got %d calls, want 1", calls)
	}
	calls = 0
	_, err = s.Load(t.Context(),
		func(*alias.Credential) error { return nil },
		func(*alias.Alias) error { return count(stop) })
	wantError(t, "Load stopped by an alias", err, stop)
	if calls != 1 {
		t.Errorf("callbacks after an error: got %d calls, want 1", calls)
	}
	must(t, s, func(tx alias.Tx) error { return tx.DeleteAlias(1, 1) })
}

// change makes one write of each kind to the seed of testRollback.
func change(tx alias.Tx, c *alias.Credential, a *alias.Alias) error {
	nextAlias, nextCredential := *a, *c
	nextAlias.Revision, nextAlias.Bucket = 2, "changed"
	nextCredential.Revision, nextCredential.Scope = 2, "changed"
	return errors.Join(
		tx.InsertCredential(credential(5, "new")),
		tx.InsertAlias(anAlias(5, "new", credential(5, "new"))),
		tx.UpdateAlias(&nextAlias),
		tx.UpdateCredential(&nextCredential),
		tx.DeleteAlias(2, 1),
		tx.DeleteCredential(2, 1),
		tx.SetMeta("key", []byte("changed")),
		tx.InsertOperation(operation("new", "new", "new")),
		tx.AddAudit(auditEntry("new")),
		tx.PutVerification(verification(1, "a")),
	)
}

// testRollback checks that the writes of a failed Update are rolled back.
func testRollback(t *testing.T, s alias.Store, broken func(change func(alias.Tx) error)) {
	t.Helper()
	one, two := credential(1, "one"), credential(2, "two")
	a, b := anAlias(1, "a", one), anAlias(2, "b", two)
	seed(t, s, []*alias.Credential{one, two}, a, b)
	broken(func(tx alias.Tx) error { return change(tx, one, a) })
	wantAlias(t, s, a)
	wantAlias(t, s, b)
	wantCredential(t, s, one)
	wantCredential(t, s, two)
	_, err := s.Alias(t.Context(), "new")
	wantError(t, "inserted alias", err, alias.ErrNotFound)
	_, err = s.Credential(t.Context(), "new")
	wantError(t, "inserted credential", err, alias.ErrNotFound)
	_, err = s.Meta(t.Context(), "key")
	wantError(t, "meta", err, alias.ErrNotFound)
	_, err = s.Operation(t.Context(), "new")
	wantError(t, "inserted operation", err, alias.ErrNotFound)
	_, err = s.Verification(t.Context(), 1)
	wantError(t, "verification", err, alias.ErrNotFound)
	wantAudit(t, s)
	// The same changes again, to show that they succeed without the failure.
	must(t, s, func(tx alias.Tx) error { return change(tx, one, a) })
}

func testRollbackOnError(t *testing.T, s alias.Store) {
	testRollback(t, s, func(change func(alias.Tx) error) {
		stop := errors.New("stop")
		err := try(t, s, func(tx alias.Tx) error {
			if err := change(tx); err != nil {
				t.Errorf("change: %v", err)
			}
			return stop
		})
		wantError(t, "Update", err, stop)
	})
}

func testRollbackOnPanic(t *testing.T, s alias.Store) {
	testRollback(t, s, func(change func(alias.Tx) error) {
		defer func() {
			if got := recover(); got != "stop" {
				t.Errorf("panic: got %v, want it to go through Update", got)
			}
		}()
		err := try(t, s, func(tx alias.Tx) error {
			if err := change(tx); err != nil {
				t.Errorf("change: %v", err)
			}
			panic("stop")
		})
		t.Errorf("Update returned %v, want a panic", err)
	})
}

func testCancelInsideUpdate(t *testing.T, s alias.Store) {
	testRollback(t, s, func(change func(alias.Tx) error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := s.Update(ctx, func(tx alias.Tx) error {
			if err := change(tx); err != nil {
				t.Errorf("change: %v", err)
			}
			cancel()
			return nil
		})
		wantError(t, "Update", err, context.Canceled)
	})
}

// testFailedWriteEndsTx: if fn ignores the error of a write, Update returns it.
func testFailedWriteEndsTx(t *testing.T, s alias.Store) {
	c := credential(1, "one")
	seed(t, s, []*alias.Credential{c})
	stale := *c
	stale.Revision = 7
	for name, row := range map[string]struct {
		write func(alias.Tx) error
		want  error
	}{
		"insert":    {func(tx alias.Tx) error { return tx.InsertCredential(credential(9, "one")) }, alias.ErrExists},
		"update":    {func(tx alias.Tx) error { return tx.UpdateCredential(&stale) }, alias.ErrStale},
		"epoch":     {func(tx alias.Tx) error { return tx.RaiseEpoch(3) }, alias.ErrNotFound},
		"delete":    {func(tx alias.Tx) error { return tx.DeleteAlias(3, 1) }, alias.ErrStale},
		"operation": {func(tx alias.Tx) error { return tx.UpdateOperation(operation("none", "one", "one")) }, alias.ErrStale},
	} {
		err := try(t, s, func(tx alias.Tx) error {
			wantError(t, name, row.write(tx), row.want)
			if err := tx.SetMeta("after", []byte("x")); err == nil {
				t.Errorf("%s: a write after the failed one: got no error", name)
			}
			return nil
		})
		wantError(t, name+": Update", err, row.want)
		_, err = s.Meta(t.Context(), "after")
		wantError(t, name+": Meta", err, alias.ErrNotFound)
	}
}

func testReadsItsOwnWrites(t *testing.T, s alias.Store) {
	c := credential(1, "one")
	a := anAlias(1, "a", c)
	must(t, s, func(tx alias.Tx) error {
		err := errors.Join(tx.InsertCredential(c), tx.InsertAlias(a))
		gotAlias, errAlias := tx.Alias("a")
		gotCredential, errCredential := tx.Credential("one")
		if diff := cmp.Diff(a, gotAlias); diff != "" {
			t.Errorf("alias (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(c, gotCredential); diff != "" {
			t.Errorf("credential (-want +got):\n%s", diff)
		}
		_, errOutside := s.Alias(t.Context(), "a")
		wantError(t, "Alias outside before the commit", errOutside, alias.ErrNotFound)
		return errors.Join(err, errAlias, errCredential)
	})
}

// testMetaInTx has a transaction read settings and count secrets before and
// after its own writes.
func testMetaInTx(t *testing.T, s alias.Store) {
	seed(t, s, []*alias.Credential{credential(1, "one")})
	want := func(tx alias.Tx, when, value string, sealed int) {
		t.Helper()
		got, err := tx.Meta("key")
		if value == "" {
			wantError(t, when+": Meta", err, alias.ErrNotFound)
		} else if err != nil || string(got) != value {
			t.Errorf("%s: Meta: got %q, %v, want %q", when, got, err, value)
		}
		if n, err := tx.CountSealed(); err != nil || n != sealed {
			t.Errorf("%s: CountSealed: got %d, %v, want %d", when, n, err, sealed)
		}
	}
	must(t, s, func(tx alias.Tx) error {
		want(tx, "at first", "", 1)
		err := errors.Join(
			tx.SetMeta("key", []byte("first")), tx.SetMeta("other", []byte("x")),
			tx.InsertCredential(credential(2, "two")),
			tx.InsertCredential(&alias.Credential{ID: 3, Name: "public", Provider: alias.Anonymous{}, Revision: 1}),
		)
		want(tx, "own writes", "first", 2)
		return errors.Join(err, tx.DeleteCredential(1, 1))
	})
	stop := errors.New("stop")
	wantError(t, "Update", try(t, s, func(tx alias.Tx) error {
		want(tx, "committed", "first", 1)
		err := errors.Join(tx.SetMeta("key", []byte("second")), tx.DeleteCredential(2, 1))
		want(tx, "not committed", "second", 0)
		return errors.Join(err, stop)
	}), stop)
	must(t, s, func(tx alias.Tx) error {
		want(tx, "rolled back", "first", 1)
		return nil
	})
}

func testOneOfManyUpdatesWins(t *testing.T, s alias.Store) {
	c := credential(1, "one")
	a := anAlias(1, "a", c)
	seed(t, s, []*alias.Credential{c}, a)
	const writers = 8
	errs := make([]error, writers)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range writers {
		done.Go(func() {
			next := *a
			next.Revision, next.Epoch = 2, a.Epoch+int64(i)
			start.Wait()
			errs[i] = try(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&next) })
		})
	}
	start.Done()
	done.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("writers %d and %d both won", winner, i)
		case err == nil:
			winner = i
		default:
			wantError(t, "loser", err, alias.ErrStale)
		}
	}
	if winner < 0 {
		t.Fatal("no writer won")
	}
	want := *a
	want.Revision, want.Epoch = 2, a.Epoch+int64(winner)
	wantAlias(t, s, &want)
}

// testNothingShared changes values after they were passed to the store or returned by
// it, and reads the stored ones again.
func testNothingShared(t *testing.T, s alias.Store) {
	c := credential(1, "one")
	a := anAlias(1, "a", c)
	meta := []byte("meta")
	seed(t, s, []*alias.Credential{c}, a)
	must(t, s, func(tx alias.Tx) error { return tx.SetMeta("key", meta) })
	wantC, wantA := credential(1, "one"), anAlias(1, "a", c)
	spoil := func(c *alias.Credential, a *alias.Alias, meta []byte) {
		clear(c.Sealed)
		clear(meta)
		clear(a.CORSOrigins)
		clear(a.CORSHeaders)
		clear(a.Widths)
		clear(a.Templates)
		clear(a.SigningKeys[0].Sealed)
		clear(a.SigningKeys)
		c.Scope, a.Bucket = "spoiled", "spoiled"
	}
	spoil(c, a, meta)
	for range 2 {
		wantCredential(t, s, wantC)
		wantAlias(t, s, wantA)
		gotC, errC := s.Credential(t.Context(), "one")
		gotA, errA := s.Alias(t.Context(), "a")
		gotMeta, errMeta := s.Meta(t.Context(), "key")
		if err := errors.Join(errC, errA, errMeta); err != nil {
			t.Fatal(err)
		}
		if string(gotMeta) != "meta" {
			t.Errorf("Meta: got %q, want %q", gotMeta, "meta")
		}
		spoil(gotC, gotA, gotMeta)
	}
}

func testCancelledContext(t *testing.T, s alias.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"Alias":        func() error { _, err := s.Alias(ctx, "a"); return err },
		"Credential":   func() error { _, err := s.Credential(ctx, "a"); return err },
		"Aliases":      func() error { _, err := s.Aliases(ctx, "", 1); return err },
		"Credentials":  func() error { _, err := s.Credentials(ctx, "", 1); return err },
		"AliasesOf":    func() error { _, err := s.AliasesOf(ctx, 1); return err },
		"CountSealed":  func() error { _, err := s.CountSealed(ctx); return err },
		"Meta":         func() error { _, err := s.Meta(ctx, "key"); return err },
		"Operation":    func() error { _, err := s.Operation(ctx, "x"); return err },
		"Operations":   func() error { _, err := s.Operations(ctx, alias.OperationFilter{Limit: 1}); return err },
		"Audit":        func() error { _, err := s.Audit(ctx, 0, 1); return err },
		"Verification": func() error { _, err := s.Verification(ctx, 1); return err },
		"Usage":        func() error { _, err := s.Usage(ctx, alias.UsageQuery{AliasIDs: []int64{1}}); return err },
		"AddUsage":     func() error { return s.AddUsage(ctx, usageBatch("w", 1, usageDelta(1, 1))) },
		"Update": func() error {
			return s.Update(ctx, func(alias.Tx) error { t.Error("Update ran fn"); return nil })
		},
		"Load": func() error {
			_, err := s.Load(ctx, func(*alias.Credential) error { return nil }, func(*alias.Alias) error { return nil })
			return err
		},
	} {
		wantError(t, name, call(), context.Canceled)
	}
}

func testClosed(t *testing.T, s alias.Store) {
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	ctx := context.WithoutCancel(t.Context())
	for name, call := range map[string]func() error{
		"Alias":        func() error { _, err := s.Alias(ctx, "shop"); return err },
		"Operation":    func() error { _, err := s.Operation(ctx, "x"); return err },
		"Operations":   func() error { _, err := s.Operations(ctx, alias.OperationFilter{Limit: 1}); return err },
		"Audit":        func() error { _, err := s.Audit(ctx, 0, 1); return err },
		"Verification": func() error { _, err := s.Verification(ctx, 1); return err },
		"Usage":        func() error { _, err := s.Usage(ctx, alias.UsageQuery{AliasIDs: []int64{1}}); return err },
		"AddUsage":     func() error { return s.AddUsage(ctx, usageBatch("w", 1, usageDelta(1, 1))) },
		"Update":       func() error { return s.Update(ctx, func(alias.Tx) error { return nil }) },
		"Load": func() error {
			_, err := s.Load(ctx, func(*alias.Credential) error { return nil }, func(*alias.Alias) error { return nil })
			return err
		},
	} {
		if err := call(); err == nil || errors.Is(err, alias.ErrNotFound) {
			t.Errorf("%s on a closed store: got %v, want an error that is not ErrNotFound", name, err)
		}
	}
}
