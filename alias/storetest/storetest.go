// Package storetest checks that a Store keeps what the contract of alias.Store
// says. Every implementation runs it.
package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

// Test runs the suite. open gives a new, empty store for each call, and closes
// it when its test ends.
func Test(t *testing.T, open func(*testing.T) alias.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, alias.Store){
		"OperationRoundTrip":        testOperationRoundTrip,
		"OperationMissing":          testOperationMissing,
		"OperationTaken":            testOperationTaken,
		"OperationStale":            testOperationStale,
		"OneOfManyOperationsRuns":   testOneOfManyOperationsRuns,
		"Operations":                testOperations,
		"RunningOperation":          testRunningOperation,
		"LastOperation":             testLastOperation,
		"OperationsNothingShared":   testOperationsNothingShared,
		"Audit":                     testAudit,
		"AuditCount":                testAuditCount,
		"VerificationRoundTrip":     testVerificationRoundTrip,
		"VerificationGoesWithAlias": testVerificationGoesWithAlias,

		"AliasRoundTrip":       testAliasRoundTrip,
		"CredentialRoundTrip":  testCredentialRoundTrip,
		"ProvisionedRoundTrip": testProvisionedRoundTrip,
		"Missing":              testMissing,
		"InsertTakenName":      testInsertTakenName,
		"InsertNoCredential":   testInsertNoCredential,
		"UpdateStale":          testUpdateStale,
		"RaiseEpoch":           testRaiseEpoch,
		"Usage":                testUsage,
		"UsageAddedOnce":       testUsageAddedOnce,
		"UsageAllOrNone":       testUsageAllOrNone,
		"UsageGoesWithAlias":   testUsageGoesWithAlias,
		"UsageConcurrent":      testUsageConcurrent,
		"UpdateNoCredential":   testUpdateNoCredential,
		"DeleteStale":          testDeleteStale,
		"DeleteInUse":          testDeleteInUse,
		"AliasesOf":            testAliasesOf,
		"Paging":               testPaging,
		"CountSealed":          testCountSealed,
		"Load":                 testLoad,
		"LoadStops":            testLoadStops,
		"Meta":                 testMeta,
		"RollbackOnError":      testRollbackOnError,
		"RollbackOnPanic":      testRollbackOnPanic,
		"FailedWriteEndsTx":    testFailedWriteEndsTx,
		"ReadsItsOwnWrites":    testReadsItsOwnWrites,
		"MetaInTx":             testMetaInTx,
		"OneOfManyUpdatesWins": testOneOfManyUpdatesWins,
		"NothingShared":        testNothingShared,
		"CancelledContext":     testCancelledContext,
		"CancelInsideUpdate":   testCancelInsideUpdate,
		"Closed":               testClosed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// at is a moment with all the digits that a store must keep.
var at = time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)

// credential is one with every field set.
func credential(id int64, name alias.Name) *alias.Credential {
	return &alias.Credential{
		ID: id, Name: name, Provider: alias.Static{AccessKeyID: "AKIA" + string(name)},
		Sealed: []byte{0, 1, 2, 0xff, byte(id)}, Version: 3, State: alias.CredentialActive, Scope: "proven",
		VerifiedAt: at.Add(time.Hour), Revision: 1,
		CreatedAt: at, RotatedAt: at.Add(time.Minute), UpdatedAt: at.Add(time.Second),
	}
}

// anAlias is one with every field set.
func anAlias(id int64, name alias.Name, c *alias.Credential) *alias.Alias {
	return &alias.Alias{
		ID: id, Name: name,
		Location: alias.Location{
			Bucket: "acme-media", BucketOwner: "012345678901", Prefix: "a'b/(c)/", Region: "eu-west-1",
			Endpoint: "https://s3.example.com", PathStyle: true,
		},
		CredentialID: c.ID, Credential: c.Name, Canary: "süß/\u2028.jpg", Enabled: true,
		TTL: time.Hour + time.Nanosecond, NegativeTTL: 2 * time.Second,
		StaleWhileRevalidate: 3 * time.Minute, StaleIfError: 87600 * time.Hour,
		CacheControl: "public, max-age=60", CORSOrigins: []string{"https://b.example", "http://[::1]:8080"},
		Fallback: alias.Fallback{Missing: "none/ü .png", Broken: "down.png"},
		State:    alias.StateProvisioning, Epoch: 1 << 62, Revision: 1, CreatedAt: at, UpdatedAt: at.Add(time.Second),
	}
}

// must runs fn in a transaction that has to work.
func must(t *testing.T, s alias.Store, fn func(alias.Tx) error) {
	t.Helper()
	if err := try(t, s, fn); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

// try runs fn in a transaction that may fail.
func try(t *testing.T, s alias.Store, fn func(alias.Tx) error) error {
	t.Helper()
	return s.Update(t.Context(), fn)
}

// seed stores values that the test starts from.
func seed(t *testing.T, s alias.Store, credentials []*alias.Credential, aliases ...*alias.Alias) {
	t.Helper()
	must(t, s, func(tx alias.Tx) error {
		errs := make([]error, 0, len(credentials)+len(aliases))
		for _, c := range credentials {
			errs = append(errs, tx.InsertCredential(c))
		}
		for _, a := range aliases {
			errs = append(errs, tx.InsertAlias(a))
		}
		return errors.Join(errs...)
	})
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func wantAlias(t *testing.T, s alias.Store, want *alias.Alias) {
	t.Helper()
	got, err := s.Alias(t.Context(), want.Name)
	if err != nil {
		t.Fatalf("Alias(%s): %v", want.Name, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Alias(%s) (-want +got):\n%s", want.Name, diff)
	}
}

func wantCredential(t *testing.T, s alias.Store, want *alias.Credential) {
	t.Helper()
	got, err := s.Credential(t.Context(), want.Name)
	if err != nil {
		t.Fatalf("Credential(%s): %v", want.Name, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Credential(%s) (-want +got):\n%s", want.Name, diff)
	}
}

func testAliasRoundTrip(t *testing.T, s alias.Store) {
	one, two := credential(1, "one"), credential(2, "two")
	full := anAlias(1<<63-1, "shop", one)
	bare := &alias.Alias{
		ID: 7, Name: "bare", Location: alias.Location{Bucket: "b-b"}, CredentialID: 2, Credential: "two", Revision: 1,
	}
	seed(t, s, []*alias.Credential{one, two}, full, bare)
	wantAlias(t, s, full)
	wantAlias(t, s, bare)

	next := *full
	next.Location = alias.Location{Bucket: "other", Region: "us-east-1"}
	next.CredentialID, next.Credential, next.Canary, next.Enabled = 2, "two", "", false
	next.TTL, next.NegativeTTL, next.StaleWhileRevalidate, next.StaleIfError = 0, 0, 0, 0
	next.CacheControl, next.CORSOrigins, next.Fallback = "", nil, alias.Fallback{Missing: "a"}
	next.State, next.Epoch, next.Revision, next.UpdatedAt = alias.StateFailed, 1<<62+1, 2, at.Add(time.Hour)
	must(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&next) })
	wantAlias(t, s, &next)
	wantAlias(t, s, bare)

	must(t, s, func(tx alias.Tx) error { return tx.DeleteAlias(next.ID, 2) })
	_, err := s.Alias(t.Context(), "shop")
	wantError(t, "Alias after delete", err, alias.ErrNotFound)
	wantAlias(t, s, bare)
}

func testCredentialRoundTrip(t *testing.T, s alias.Store) {
	full := credential(1<<63-1, "shop")
	bare := &alias.Credential{
		ID: 2, Name: "public", Provider: alias.Anonymous{}, Version: 1, State: alias.CredentialActive, Revision: 1,
	}
	seed(t, s, []*alias.Credential{full, bare})
	wantCredential(t, s, full)
	wantCredential(t, s, bare)

	next := *full
	next.Provider, next.Sealed = alias.Static{AccessKeyID: `quote"and\back`}, []byte("sealed anew")
	next.Version, next.Revision, next.State, next.Scope = 4, 2, "rotating", ""
	next.VerifiedAt, next.RotatedAt, next.UpdatedAt = time.Time{}, time.Time{}, at.Add(time.Hour)
	must(t, s, func(tx alias.Tx) error { return tx.UpdateCredential(&next) })
	wantCredential(t, s, &next)
	wantCredential(t, s, bare)

	must(t, s, func(tx alias.Tx) error { return tx.DeleteCredential(next.ID, 2) })
	_, err := s.Credential(t.Context(), "shop")
	wantError(t, "Credential after delete", err, alias.ErrNotFound)
	wantCredential(t, s, bare)
}

func testMissing(t *testing.T, s alias.Store) {
	_, err := s.Alias(t.Context(), "none")
	wantError(t, "Alias", err, alias.ErrNotFound)
	_, err = s.Credential(t.Context(), "none")
	wantError(t, "Credential", err, alias.ErrNotFound)
	must(t, s, func(tx alias.Tx) error {
		_, err := tx.Alias("none")
		wantError(t, "Tx.Alias", err, alias.ErrNotFound)
		_, err = tx.Credential("none")
		wantError(t, "Tx.Credential", err, alias.ErrNotFound)
		return nil // a lookup in vain is no failure of the transaction
	})
	if users, err := s.AliasesOf(t.Context(), 1); err != nil || len(users) != 0 {
		t.Errorf("AliasesOf: got %v, %v, want none", users, err)
	}
}

func testInsertTakenName(t *testing.T, s alias.Store) {
	c := credential(1, "shop")
	seed(t, s, []*alias.Credential{c}, anAlias(1, "shop", c))
	for what, fn := range map[string]func(alias.Tx) error{
		"alias name":      func(tx alias.Tx) error { return tx.InsertAlias(anAlias(2, "shop", c)) },
		"alias id":        func(tx alias.Tx) error { return tx.InsertAlias(anAlias(1, "other", c)) },
		"credential name": func(tx alias.Tx) error { return tx.InsertCredential(credential(2, "shop")) },
		"credential id":   func(tx alias.Tx) error { return tx.InsertCredential(credential(1, "other")) },
	} {
		wantError(t, what, try(t, s, fn), alias.ErrExists)
	}
}

func testInsertNoCredential(t *testing.T, s alias.Store) {
	orphan := anAlias(1, "shop", credential(9, "none"))
	err := try(t, s, func(tx alias.Tx) error { return tx.InsertAlias(orphan) })
	wantError(t, "InsertAlias", err, alias.ErrNotFound)
	_, err = s.Alias(t.Context(), "shop")
	wantError(t, "Alias", err, alias.ErrNotFound)
}

func testUpdateStale(t *testing.T, s alias.Store) {
	c := credential(1, "shop")
	a := anAlias(1, "shop", c)
	seed(t, s, []*alias.Credential{c}, a)
	for name, revision := range map[string]int64{"same": 1, "skipped": 3, "back": 0} {
		nextAlias, nextCredential := *a, *c
		nextAlias.Revision, nextCredential.Revision = revision, revision
		nextAlias.Bucket, nextCredential.Scope = "changed", "changed"
		err := try(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&nextAlias) })
		wantError(t, name+" alias", err, alias.ErrStale)
		err = try(t, s, func(tx alias.Tx) error { return tx.UpdateCredential(&nextCredential) })
		wantError(t, name+" credential", err, alias.ErrStale)
	}
	other := *a
	other.ID, other.Revision = 2, 2
	err := try(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&other) })
	wantError(t, "other id", err, alias.ErrStale)
	wantAlias(t, s, a)
	wantCredential(t, s, c)
}

func testUpdateNoCredential(t *testing.T, s alias.Store) {
	c := credential(1, "shop")
	a := anAlias(1, "shop", c)
	seed(t, s, []*alias.Credential{c}, a)
	next := *a
	next.CredentialID, next.Revision = 9, 2
	err := try(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&next) })
	wantError(t, "UpdateAlias", err, alias.ErrNotFound)
	wantAlias(t, s, a)
}

func testDeleteStale(t *testing.T, s alias.Store) {
	c, lone := credential(1, "shop"), credential(2, "lone")
	a := anAlias(1, "shop", c)
	seed(t, s, []*alias.Credential{c, lone}, a)
	for name, fn := range map[string]func(alias.Tx) error{
		"alias revision":      func(tx alias.Tx) error { return tx.DeleteAlias(1, 2) },
		"alias id":            func(tx alias.Tx) error { return tx.DeleteAlias(3, 1) },
		"credential revision": func(tx alias.Tx) error { return tx.DeleteCredential(2, 2) },
		"credential id":       func(tx alias.Tx) error { return tx.DeleteCredential(3, 1) },
	} {
		wantError(t, name, try(t, s, fn), alias.ErrStale)
	}
	wantAlias(t, s, a)
	wantCredential(t, s, lone)
}

func testDeleteInUse(t *testing.T, s alias.Store) {
	c := credential(1, "shared")
	a := anAlias(1, "shop", c)
	seed(t, s, []*alias.Credential{c}, a)
	remove := func(tx alias.Tx) error { return tx.DeleteCredential(1, 1) }
	wantError(t, "DeleteCredential", try(t, s, remove), alias.ErrInUse)
	wantCredential(t, s, c)
	must(t, s, func(tx alias.Tx) error { return errors.Join(tx.DeleteAlias(1, 1), remove(tx)) })
}

func testAliasesOf(t *testing.T, s alias.Store) {
	one, two := credential(1, "one"), credential(2, "two")
	seed(t, s, []*alias.Credential{one, two}, anAlias(1, "b", one), anAlias(2, "a", one), anAlias(3, "c", two))
	want := []alias.Name{"a", "b"}
	if got, err := s.AliasesOf(t.Context(), 1); err != nil || !slices.Equal(got, want) {
		t.Errorf("AliasesOf: got %v, %v, want %v", got, err, want)
	}
	must(t, s, func(tx alias.Tx) error {
		got, err := tx.AliasesOf(1)
		if !slices.Equal(got, want) {
			t.Errorf("Tx.AliasesOf: got %v, want %v", got, want)
		}
		return err
	})
}

func testPaging(t *testing.T, s alias.Store) {
	// In the order of bytes. A collation of a language would put hyphens last
	// or leave them out.
	names := []alias.Name{"0", "9z", "a", "a-", "a-b", "a0", "aa", "ab", "b"}
	credentials, aliases := make([]*alias.Credential, len(names)), make([]*alias.Alias, len(names))
	for i, n := range names {
		id := int64(len(names) - i) // the order of ids must not matter
		credentials[i] = credential(id, n)
		aliases[i] = anAlias(id, n, credentials[i])
	}
	seed(t, s, credentials, aliases...)
	for _, page := range []struct {
		after alias.Name
		limit int
		want  []alias.Name
	}{
		{"", 100, names},
		{"", 3, names[:3]},
		{"a", 3, names[3:6]},
		{"a-a", 2, names[4:6]}, // need not exist
		{"ab", 10, names[8:]},
		{"b", 10, nil},
		{"", 0, nil},
		{"", -1, nil},
	} {
		t.Run(fmt.Sprintf("after %q limit %d", page.after, page.limit), func(t *testing.T) {
			gotAliases, err := s.Aliases(t.Context(), page.after, page.limit)
			if err != nil {
				t.Fatal(err)
			}
			gotCredentials, err := s.Credentials(t.Context(), page.after, page.limit)
			if err != nil {
				t.Fatal(err)
			}
			var got []alias.Name
			for _, a := range gotAliases {
				got = append(got, a.Name)
			}
			if !slices.Equal(got, page.want) {
				t.Errorf("Aliases: got %v, want %v", got, page.want)
			}
			got = nil
			for _, c := range gotCredentials {
				got = append(got, c.Name)
			}
			if !slices.Equal(got, page.want) {
				t.Errorf("Credentials: got %v, want %v", got, page.want)
			}
		})
	}
}
