package sqlstore

import (
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
)

// TestAuditIsAppendOnly: not even raw SQL changes or deletes an entry of the audit.
func TestAuditIsAppendOnly(t *testing.T) {
	t.Parallel()
	s := openTest(t, filepath.Join(t.TempDir(), "registry.db"))
	err := s.Update(t.Context(), func(tx alias.Tx) error {
		return tx.AddAudit(&alias.AuditEntry{Actor: "admin", Action: "iam:CreateUser", Outcome: "ok"})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{
		`UPDATE audit SET actor = 'nobody'`,
		`UPDATE audit SET id = id + 1`,
		`DELETE FROM audit`,
		`DELETE FROM audit WHERE id = 1`,
		`REPLACE INTO audit SELECT * FROM audit`,
	} {
		_, err := s.writer.ExecContext(t.Context(), query)
		if err == nil || !strings.Contains(err.Error(), "the audit is append-only") {
			t.Errorf("%s: got %v, want a refusal", query, err)
		}
	}
	list, err := s.Audit(t.Context(), 0, 10)
	if err != nil || len(list) != 1 || list[0].Actor != "admin" || list[0].Outcome != "ok" {
		t.Errorf("afterwards: got %+v, %v, want the entry as it was", list, err)
	}
}
