// Package storetest tests the contract of alias.Store. Every implementation runs it.
package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

// Test runs the suite. Each call of open returns a new, empty store, which open closes
// at the end of the test.
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

		"Tokens": testTokens,

		"AliasRoundTrip":            testAliasRoundTrip,
		"CredentialRoundTrip":       testCredentialRoundTrip,
		"ProvisionedRoundTrip":      testProvisionedRoundTrip,
		"Missing":                   testMissing,
		"InsertTakenName":           testInsertTakenName,
		"InsertNoCredential":        testInsertNoCredential,
		"UpdateStale":               testUpdateStale,
		"RaiseEpoch":                testRaiseEpoch,
		"Usage":                     testUsage,
		"UsageAddedOnce":            testUsageAddedOnce,
		"UsageAllOrNone":            testUsageAllOrNone,
		"UsageGoesWithAlias":        testUsageGoesWithAlias,
		"UsageConcurrent":           testUsageConcurrent,
		"UsageHistory":              testUsageHistory,
		"UsageHistoryPruned":        testUsageHistoryPruned,
		"UsageHistoryGoesWithAlias": testUsageHistoryGoesWithAlias,
		"UpdateNoCredential":        testUpdateNoCredential,
		"DeleteStale":               testDeleteStale,
		"DeleteInUse":               testDeleteInUse,
		"AliasesOf":                 testAliasesOf,
		"Paging":                    testPaging,
		"CountSealed":               testCountSealed,
		"Load":                      testLoad,
		"LoadStops":                 testLoadStops,
		"Meta":                      testMeta,
		"RollbackOnError":           testRollbackOnError,
		"RollbackOnPanic":           testRollbackOnPanic,
		"FailedWriteEndsTx":         testFailedWriteEndsTx,
		"ReadsItsOwnWrites":         testReadsItsOwnWrites,
		"MetaInTx":                  testMetaInTx,
		"OneOfManyUpdatesWins":      testOneOfManyUpdatesWins,
		"NothingShared":             testNothingShared,
		"CancelledContext":          testCancelledContext,
		"CancelInsideUpdate":        testCancelInsideUpdate,
		"Closed":                    testClosed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// at is a time with all the digits that a store must keep.
var at = time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)

// credential returns one with every field set.
func credential(id int64, name alias.Name) *alias.Credential {
	return &alias.Credential{
		ID: id, Name: name, Provider: alias.Static{AccessKeyID: "AKIA" + string(name)},
		Sealed: []byte{0, 1, 2, 0xff, byte(id)}, Version: 3, State: alias.CredentialActive, Scope: "proven",
		VerifiedAt: at.Add(time.Hour), Revision: 1,
		CreatedAt: at, RotatedAt: at.Add(time.Minute), UpdatedAt: at.Add(time.Second),
	}
}

// anAlias returns one with every field set.
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
		CORSHeaders: []string{"X-Requested-With", "!#$%&'*+-.^_`|~"},
		Fallback:    alias.Fallback{Missing: "none/ü .png", Broken: "down.png"},
		CacheMin:    1, CacheMax: alias.MaxSize,
		Transforms: alias.TransformsSigned, Access: alias.AccessSigned, Widths: []int{1, 400, 8192},
		Templates: map[string]string{"thumb": "w=240&h=240", "a": `q=<"'\\>`},
		SigningKeys: []alias.SigningKey{
			{KID: "a1b2", Sealed: []byte{0, 0xff, byte(id)}, CreatedAt: at},
			{KID: "zzzz", Sealed: []byte{1}, CreatedAt: at.Add(time.Second)},
		},
		State: alias.StateProvisioning, Epoch: 1 << 62, Revision: 1, CreatedAt: at, UpdatedAt: at.Add(time.Second),
	}
}

// must runs fn in a transaction that must succeed.
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

// seed stores the initial values of a test.
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
