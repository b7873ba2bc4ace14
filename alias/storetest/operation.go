package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

// operation returns a running operation with every field set.
func operation(id string, aliasName, credential alias.Name) *alias.Operation {
	return &alias.Operation{
		ID: id, Kind: alias.OperationProvision, Alias: aliasName, Credential: credential, CredentialID: 1<<63 - 1,
		State: alias.OperationRunning,
		Steps: []alias.Step{
			{
				Name: "create-user", State: alias.StepDone, StartedAt: at, FinishedAt: at.Add(time.Second),
				Detail: `sü"ß` + "\u2028\n",
			},
			{Name: "verify", State: alias.StepPending},
		},
		Request: []byte(`{"alias": "shop",  "b":1}`), Data: json.RawMessage(`{"pending": {"sealed":"AAEC"}}`),
		Actor: "admin@127.0.0.1", Revision: 1, CreatedAt: at, UpdatedAt: at.Add(time.Second),
	}
}

// bareOperation has no optional field set.
func bareOperation(id string, credential alias.Name) *alias.Operation {
	return &alias.Operation{
		ID: id, Kind: alias.OperationRotate, Credential: credential, State: alias.OperationRunning,
		Request: []byte("{}"), Data: json.RawMessage("{}"), Revision: 1,
	}
}

// next returns the operation after another write.
func next(o *alias.Operation, state alias.OperationState) *alias.Operation {
	n := *o
	n.State, n.Revision = state, o.Revision+1
	return &n
}

func insert(t *testing.T, s alias.Store, list ...*alias.Operation) {
	t.Helper()
	must(t, s, func(tx alias.Tx) error {
		errs := make([]error, len(list))
		for i, o := range list {
			errs[i] = tx.InsertOperation(o)
		}
		return errors.Join(errs...)
	})
}

func update(t *testing.T, s alias.Store, o *alias.Operation) {
	t.Helper()
	must(t, s, func(tx alias.Tx) error { return tx.UpdateOperation(o) })
}

func wantOperation(t *testing.T, s alias.Store, want *alias.Operation) {
	t.Helper()
	got, err := s.Operation(t.Context(), want.ID)
	if err != nil {
		t.Fatalf("Operation(%s): %v", want.ID, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Operation(%s) (-want +got):\n%s", want.ID, diff)
	}
}

func testOperationRoundTrip(t *testing.T, s alias.Store) {
	full, bare := operation("op-1", "shop", "media"), bareOperation("op-2", "blog")
	must(t, s, func(tx alias.Tx) error {
		err := errors.Join(tx.InsertOperation(full), tx.InsertOperation(bare))
		got, errInside := tx.Operation("op-1")
		if diff := cmp.Diff(full, got); diff != "" {
			t.Errorf("Tx.Operation (-want +got):\n%s", diff)
		}
		_, errOutside := s.Operation(t.Context(), "op-1")
		wantError(t, "Operation outside before the commit", errOutside, alias.ErrNotFound)
		return errors.Join(err, errInside)
	})
	wantOperation(t, s, full)
	wantOperation(t, s, bare)

	failed := next(full, alias.OperationFailed)
	failed.Kind, failed.Alias, failed.Credential, failed.CredentialID = alias.OperationRemove, "", "other", 7
	failed.Error = &alias.OperationError{Code: "quota", Step: "create-user", Detail: "iam:CreateUser on u"}
	failed.Steps = failed.Steps[:1]
	failed.Request, failed.Data, failed.Actor = []byte("[]"), json.RawMessage(`{"a":2}`), "schedule"
	failed.CreatedAt, failed.UpdatedAt, failed.FinishedAt = at.Add(1e9), at.Add(2e9), at.Add(3e9)
	update(t, s, failed)
	wantOperation(t, s, failed)
	wantOperation(t, s, bare)

	done := next(failed, alias.OperationDone)
	done.Error, done.Steps = nil, nil
	update(t, s, done)
	wantOperation(t, s, done)
}

func testOperationMissing(t *testing.T, s alias.Store) {
	_, err := s.Operation(t.Context(), "none")
	wantError(t, "Operation", err, alias.ErrNotFound)
	_, err = s.Verification(t.Context(), 9)
	wantError(t, "Verification", err, alias.ErrNotFound)
	if list, err := s.Operations(t.Context(), alias.OperationFilter{Limit: 9}); err != nil || len(list) != 0 {
		t.Errorf("Operations: got %v, %v, want none", list, err)
	}
	wantAudit(t, s)
	must(t, s, func(tx alias.Tx) error {
		_, err := tx.Operation("none")
		wantError(t, "Tx.Operation", err, alias.ErrNotFound)
		_, err = tx.RunningOperation("none", "none")
		wantError(t, "Tx.RunningOperation", err, alias.ErrNotFound)
		_, err = tx.LastOperation(alias.OperationProvision, "none")
		wantError(t, "Tx.LastOperation", err, alias.ErrNotFound)
		return nil // ErrNotFound does not fail the transaction
	})
}

// testOperationTaken checks that an id is unique, and that one operation at a time runs
// for an alias, and for a credential.
func testOperationTaken(t *testing.T, s alias.Store) {
	first, ended := operation("op-1", "shop", "media"), operation("op-2", "old", "older")
	ended.State = alias.OperationFailed
	insert(t, s, first, ended)
	again := bareOperation("op-4", "lone")
	insert(t, s, again, operation("op-5", "old", "older")) // an operation that has ended blocks no other
	second := operation("op-6", "shop", "media")
	second.State = alias.OperationDone
	insert(t, s, second) // also not one of another alias
	for what, o := range map[string]*alias.Operation{
		"id": operation("op-2", "free", "free"), "alias": operation("op-9", "shop", "free"),
		"credential": operation("op-9", "free", "media"), "credential of one without an alias": bareOperation("op-9", "lone"),
	} {
		wantError(t, what, try(t, s, func(tx alias.Tx) error { return tx.InsertOperation(o) }), alias.ErrExists)
	}
	revived := next(second, alias.OperationRunning)
	wantError(t, "update", try(t, s, func(tx alias.Tx) error { return tx.UpdateOperation(revived) }), alias.ErrExists)
	// Several without an alias may run, and an alias may have the name of a credential
	// for which one runs.
	insert(t, s, bareOperation("op-7", "lone2"), operation("op-8", "media", "shop"))
	wantOperation(t, s, first)
	wantOperation(t, s, second)
	update(t, s, next(first, alias.OperationDone))
	insert(t, s, operation("op-9", "shop", "media"))
}

func testOperationStale(t *testing.T, s alias.Store) {
	o := operation("op-1", "shop", "media")
	insert(t, s, o)
	for name, revision := range map[string]int64{"same": 1, "skipped": 3, "back": 0} {
		n := next(o, alias.OperationDone)
		n.Revision = revision
		wantError(t, name, try(t, s, func(tx alias.Tx) error { return tx.UpdateOperation(n) }), alias.ErrStale)
	}
	other := next(o, alias.OperationDone)
	other.ID = "op-2"
	wantError(t, "other id", try(t, s, func(tx alias.Tx) error { return tx.UpdateOperation(other) }), alias.ErrStale)
	wantOperation(t, s, o)
}

// testOneOfManyOperationsRuns has many callers begin one for the same alias.
func testOneOfManyOperationsRuns(t *testing.T, s alias.Store) {
	const callers = 8
	errs := make([]error, callers)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range callers {
		done.Go(func() {
			o := operation(fmt.Sprint("op-", i), "shop", alias.Name(fmt.Sprint("c", i)))
			start.Wait()
			errs[i] = try(t, s, func(tx alias.Tx) error {
				if _, err := tx.RunningOperation("shop", ""); !errors.Is(err, alias.ErrNotFound) {
					return errors.Join(alias.ErrExists, err)
				}
				return tx.InsertOperation(o)
			})
		})
	}
	start.Done()
	done.Wait()
	began := 0
	for _, err := range errs {
		if err == nil {
			began++
			continue
		}
		wantError(t, "loser", err, alias.ErrExists)
	}
	list, err := s.Operations(t.Context(), alias.OperationFilter{Limit: callers})
	if err != nil || began != 1 || len(list) != 1 {
		t.Errorf("%d began and %d are there (%v), want 1", began, len(list), err)
	}
}

func testOperations(t *testing.T, s alias.Store) {
	// The order is that of the inserts, and not that of ids or times.
	for _, o := range []*alias.Operation{
		{ID: "m", Alias: "shop", Credential: "media", State: alias.OperationFailed, CreatedAt: at.Add(time.Hour)},
		{ID: "z", Alias: "shop", Credential: "shop", State: alias.OperationDone, CreatedAt: at},
		{ID: "a", Alias: "blog", Credential: "media", State: alias.OperationDone, CreatedAt: at.Add(time.Minute)},
		{ID: "k", Credential: "media", State: alias.OperationRunning, CreatedAt: at},
	} {
		o.Kind, o.Revision = alias.OperationProvision, 1
		insert(t, s, o)
	}
	for _, c := range []struct {
		name   string
		filter alias.OperationFilter
		want   []string
	}{
		{"all", alias.OperationFilter{Limit: 9}, []string{"k", "a", "z", "m"}},
		{"alias", alias.OperationFilter{Alias: "shop", Limit: 9}, []string{"z", "m"}},
		{"credential", alias.OperationFilter{Credential: "media", Limit: 9}, []string{"k", "a", "m"}},
		{"state", alias.OperationFilter{State: alias.OperationDone, Limit: 9}, []string{"a", "z"}},
		{"everything", alias.OperationFilter{
			Alias: "blog", Credential: "media", State: alias.OperationDone, Before: "k", Limit: 9,
		}, []string{"a"}},
		{"contradiction", alias.OperationFilter{Alias: "blog", Credential: "shop", Limit: 9}, nil},
		{"unknown alias", alias.OperationFilter{Alias: "none", Limit: 9}, nil},
		{"first page", alias.OperationFilter{Limit: 2}, []string{"k", "a"}},
		{"second page", alias.OperationFilter{Before: "a", Limit: 2}, []string{"z", "m"}},
		{"filtered second page", alias.OperationFilter{Before: "a", Credential: "media", Limit: 1}, []string{"m"}},
		{"page after one left out", alias.OperationFilter{Before: "a", Alias: "shop", Limit: 1}, []string{"z"}},
		{"after the last", alias.OperationFilter{Before: "m", Limit: 2}, nil},
		{"after an unknown one", alias.OperationFilter{Before: "none", Limit: 2}, nil},
		{"limit 0", alias.OperationFilter{}, nil},
		{"limit -1", alias.OperationFilter{Limit: -1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := s.Operations(t.Context(), c.filter)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]string, len(list))
			for i, o := range list {
				got[i] = o.ID
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	// An update of an old one does not make it the newest.
	o, err := s.Operation(t.Context(), "z")
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, next(o, alias.OperationFailed))
	if list, err := s.Operations(t.Context(), alias.OperationFilter{Limit: 1}); err != nil || list[0].ID != "k" {
		t.Errorf("newest after a write of another: got %v, %v", list, err)
	}
}

// found returns the id of the operation that a lookup in a transaction finds, "" if it
// finds none.
func found(o *alias.Operation, err error) string {
	switch {
	case errors.Is(err, alias.ErrNotFound):
		return ""
	case err != nil:
		return err.Error()
	}
	return o.ID
}

func testRunningOperation(t *testing.T, s alias.Store) {
	ended := operation("op-0", "blog", "blog")
	ended.State = alias.OperationDone
	insert(t, s, ended, operation("op-1", "shop", "media"), bareOperation("op-2", "lone"))
	must(t, s, func(tx alias.Tx) error {
		for _, c := range []struct {
			alias, credential alias.Name
			want              string
		}{
			{"shop", "", "op-1"}, {"", "media", "op-1"}, {"shop", "media", "op-1"}, {"none", "media", "op-1"},
			{"shop", "none", "op-1"}, {"", "lone", "op-2"}, {"none", "lone", "op-2"}, {"shop", "lone", "op-1"},
			{"", "", ""}, {"lone", "", ""}, {"media", "", ""}, {"", "shop", ""}, {"media", "shop", ""}, {"blog", "blog", ""},
		} {
			if got := found(tx.RunningOperation(c.alias, c.credential)); got != c.want {
				t.Errorf("alias %q, credential %q: got %q, want %q", c.alias, c.credential, got, c.want)
			}
		}
		return nil
	})
}

func testLastOperation(t *testing.T, s alias.Store) {
	for i, kind := range []alias.OperationKind{alias.OperationProvision, alias.OperationProvision, alias.OperationRotate} {
		o := operation(fmt.Sprint("op-", i), "shop", "media")
		o.Kind, o.State = kind, alias.OperationFailed
		insert(t, s, o)
	}
	insert(t, s, operation("op-9", "blog", "blog"), bareOperation("op-8", "lone"))
	must(t, s, func(tx alias.Tx) error {
		for _, c := range []struct {
			kind  alias.OperationKind
			alias alias.Name
			want  string
		}{
			{alias.OperationProvision, "shop", "op-1"}, {alias.OperationRotate, "shop", "op-2"},
			{alias.OperationRemove, "shop", ""}, {alias.OperationProvision, "blog", "op-9"},
			{alias.OperationProvision, "media", ""}, {alias.OperationProvision, "none", ""},
		} {
			if got := found(tx.LastOperation(c.kind, c.alias)); got != c.want {
				t.Errorf("%s of %q: got %q, want %q", c.kind, c.alias, got, c.want)
			}
		}
		return nil
	})
}

// testOperationsNothingShared changes values after they were passed to the store or
// returned by it, and reads the stored ones again.
func testOperationsNothingShared(t *testing.T, s alias.Store) {
	o := operation("op-1", "shop", "media")
	insert(t, s, o)
	spoil := func(o *alias.Operation) {
		clear(o.Steps)
		clear(o.Request)
		clear(o.Data)
		o.Alias = "spoiled"
	}
	spoil(o)
	for range 2 {
		wantOperation(t, s, operation("op-1", "shop", "media"))
		got, err := s.Operation(t.Context(), "op-1")
		if err != nil {
			t.Fatal(err)
		}
		spoil(got)
	}
}
