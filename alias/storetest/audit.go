package storetest

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ixmage/alias"
)

// auditEntry returns an entry with every field set except its ID.
func auditEntry(detail string) *alias.AuditEntry {
	return &alias.AuditEntry{
		At: at, Actor: "admin@::1", Action: "iam:CreateUser", User: "u", Policy: "p", AccessKeyID: "AKIA1",
		Alias: "shop", Credential: "media", Outcome: "ok", Operation: "op-1", Detail: detail,
	}
}

// page has the arguments that select a part of the audit.
type page struct {
	before int64
	limit  int
}

// wantAudit checks the details of the whole audit, the newest first.
func wantAudit(t *testing.T, s alias.Store, want ...string) []*alias.AuditEntry {
	t.Helper()
	list, got := readAudit(t, s, page{limit: 1000})
	if !slices.Equal(got, want) {
		t.Errorf("audit: got %q, want %q", got, want)
	}
	return list
}

// readAudit returns the entries of a page, and their details.
func readAudit(t *testing.T, s alias.Store, p page) ([]*alias.AuditEntry, []string) {
	t.Helper()
	list, err := s.Audit(t.Context(), p.before, p.limit)
	if err != nil {
		t.Fatalf("Audit: %v", err)
	}
	details := make([]string, len(list))
	for i, e := range list {
		details[i] = e.Detail
	}
	return list, details
}

// testAudit also shows that entries never change: there is no method to change one, and
// no other write changes them.
func testAudit(t *testing.T, s alias.Store) {
	bare := &alias.AuditEntry{ID: 1 << 40, At: at.Add(-time.Hour)} // the ID is not the caller's to choose
	must(t, s, func(tx alias.Tx) error { return tx.AddAudit(auditEntry("sü\"ß'\n\u2028")) })
	must(t, s, func(tx alias.Tx) error { return tx.AddAudit(bare) })
	first := wantAudit(t, s, "", "sü\"ß'\n\u2028")
	if first[0].ID <= first[1].ID || first[1].ID < 1 || first[0].ID >= 1<<40 {
		t.Errorf("ids: got %d and %d, want them to rise", first[1].ID, first[0].ID)
	}
	ignoreID := cmpopts.IgnoreFields(alias.AuditEntry{}, "ID")
	if diff := cmp.Diff([]*alias.AuditEntry{bare, auditEntry("sü\"ß'\n\u2028")}, first, ignoreID); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}

	c := credential(1, "media")
	a := anAlias(1, "shop", c)
	seed(t, s, []*alias.Credential{c}, a)
	o := operation("op-1", "shop", "media")
	insert(t, s, o)
	must(t, s, func(tx alias.Tx) error {
		for i := range 3 {
			if err := tx.AddAudit(auditEntry(strconv.Itoa(i))); err != nil {
				return err
			}
		}
		return tx.UpdateOperation(next(o, alias.OperationDone))
	})
	must(t, s, func(tx alias.Tx) error { return tx.DeleteAlias(1, 1) })
	must(t, s, func(tx alias.Tx) error { return tx.DeleteCredential(1, 1) })
	list := wantAudit(t, s, "2", "1", "0", "", "sü\"ß'\n\u2028")
	if diff := cmp.Diff(first, list[3:]); diff != "" {
		t.Errorf("entries after others were added (-before +after):\n%s", diff)
	}
	for p, want := range map[page][]string{
		{0, 2}: {"2", "1"}, {list[1].ID, 2}: {"0", ""}, {list[4].ID, 2}: nil, {1 << 62, 1}: {"2"},
		{-1, 9}: nil, {0, 0}: nil, {0, -1}: nil,
	} {
		if _, got := readAudit(t, s, p); !slices.Equal(got, want) {
			t.Errorf("page %+v: got %q, want %q", p, got, want)
		}
	}
}

// testAuditCount also has an entry for each reason not to be counted.
func testAuditCount(t *testing.T, s alias.Store) {
	edit := func(fn func(*alias.AuditEntry)) {
		e := auditEntry("")
		fn(e)
		must(t, s, func(tx alias.Tx) error { return tx.AddAudit(e) })
	}
	f := alias.AuditFilter{Actor: "admin@::1", Action: "iam:CreateUser", Outcome: "ok", Since: at}
	wantCount(t, s, f, 0)
	edit(func(*alias.AuditEntry) {})
	edit(func(e *alias.AuditEntry) { e.At = at.Add(time.Hour) })
	edit(func(e *alias.AuditEntry) { e.At = at.Add(-time.Microsecond) })
	edit(func(e *alias.AuditEntry) { e.Actor = "schedule" })
	edit(func(e *alias.AuditEntry) { e.Action = "iam:DeleteUser" })
	edit(func(e *alias.AuditEntry) { e.Outcome = "AccessDenied" })
	wantCount(t, s, f, 2)
	f.Since = at.Add(time.Microsecond)
	wantCount(t, s, f, 1)
}

func wantCount(t *testing.T, s alias.Store, f alias.AuditFilter, want int) {
	t.Helper()
	if n, err := s.CountAudit(t.Context(), f); err != nil || n != want {
		t.Errorf("CountAudit(%+v): got %d, %v, want %d", f, n, err, want)
	}
}

// verification returns one with every field set.
func verification(aliasID int64, name alias.Name) *alias.Verification {
	return &alias.Verification{
		AliasID: aliasID, Alias: name, CredentialID: 1<<63 - 1, CredentialVersion: 3, CheckedAt: at,
		Checks: []alias.Check{
			{
				Name: "get-inside", Expected: "200", Got: "403 AccessDenied", Verdict: alias.VerdictNotProven,
				Positive: true, Failed: true, Detail: `sü"ß`, At: at.Add(time.Second), Evidence: alias.EvidenceControlPlane,
			},
			{Name: "put", Verdict: alias.VerdictProven},
		},
		NotTried: []alias.NotTried{{Name: "other-services", Why: alias.WhyNoProbe}},
	}
}

func wantVerification(t *testing.T, s alias.Store, want *alias.Verification) {
	t.Helper()
	got, err := s.Verification(t.Context(), want.AliasID)
	if err != nil {
		t.Fatalf("Verification(%d): %v", want.AliasID, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Verification(%d) (-want +got):\n%s", want.AliasID, diff)
	}
}

func put(t *testing.T, s alias.Store, v *alias.Verification) {
	t.Helper()
	must(t, s, func(tx alias.Tx) error { return tx.PutVerification(v) })
}

func testVerificationRoundTrip(t *testing.T, s alias.Store) {
	c := credential(1, "media")
	seed(t, s, []*alias.Credential{c}, anAlias(1, "shop", c), anAlias(2, "blog", c))
	full, bare := verification(1, "shop"), &alias.Verification{AliasID: 2}
	put(t, s, full)
	put(t, s, bare)
	wantVerification(t, s, full)
	wantVerification(t, s, bare)
	// The last one counts.
	put(t, s, &alias.Verification{
		AliasID: 1, Alias: "x", CredentialID: 2, CredentialVersion: 4, CheckedAt: at.Add(-time.Hour), Checks: full.Checks[1:],
	})
	wantVerification(t, s, &alias.Verification{
		AliasID: 1, Alias: "x", CredentialID: 2, CredentialVersion: 4, CheckedAt: at.Add(-time.Hour),
		Checks: []alias.Check{{Name: "put", Verdict: alias.VerdictProven}},
	})
	wantVerification(t, s, bare)
	err := try(t, s, func(tx alias.Tx) error { return tx.PutVerification(verification(3, "shop")) })
	wantError(t, "PutVerification of no alias", err, alias.ErrNotFound)
	_, err = s.Verification(t.Context(), 3)
	wantError(t, "Verification of no alias", err, alias.ErrNotFound)
	for range 2 { // there may be none
		must(t, s, func(tx alias.Tx) error { return tx.DeleteVerification(1) })
	}
	_, err = s.Verification(t.Context(), 1)
	wantError(t, "Verification that was deleted", err, alias.ErrNotFound)
	wantVerification(t, s, bare)
}

func testVerificationGoesWithAlias(t *testing.T, s alias.Store) {
	c := credential(1, "media")
	a := anAlias(1, "shop", c)
	seed(t, s, []*alias.Credential{c}, a, anAlias(2, "blog", c))
	put(t, s, verification(1, "shop"))
	put(t, s, verification(2, "blog"))
	insert(t, s, operation("op-1", "shop", "media"))
	changed := *a
	changed.Revision, changed.Bucket = 2, "changed"
	must(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&changed) })
	wantVerification(t, s, verification(1, "shop"))
	must(t, s, func(tx alias.Tx) error { return tx.DeleteAlias(1, 2) })
	_, err := s.Verification(t.Context(), 1)
	wantError(t, "Verification after the alias is deleted", err, alias.ErrNotFound)
	wantVerification(t, s, verification(2, "blog"))
	wantOperation(t, s, operation("op-1", "shop", "media")) // it is history
	// One of the same name is another alias.
	seed(t, s, nil, anAlias(3, "shop", c))
	_, err = s.Verification(t.Context(), 3)
	wantError(t, "Verification of the new alias", err, alias.ErrNotFound)
}
