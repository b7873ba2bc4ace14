package admin

import (
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/alias/sqlstore"
)

// TestDatabaseLocked has another process hold the database's lock.
func TestDatabaseLocked(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	other, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(a.dir, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	locked, unlock, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- other.Update(t.Context(), func(alias.Tx) error {
			close(locked)
			<-unlock
			return nil
		})
	}()
	<-locked
	r := a.do("PATCH", aliasesPath+"/shop", `{"enabled":false}`).want(503, "unavailable")
	if got := r.header.Get("Retry-After"); got != retryAfter {
		t.Errorf("Retry-After: got %q, want %q", got, retryAfter)
	}
	if !strings.Contains(r.problem().Detail, "locked by another process") {
		t.Errorf("detail: %q", r.problem().Detail)
	}
	lines := a.logs.lines(t)
	if cause, _ := lines[len(lines)-1]["error"].(string); !strings.Contains(cause, "another process holds the lock") {
		t.Errorf("log line: %v", lines[len(lines)-1])
	}
	a.do("GET", aliasesPath+"/shop", "").want(200, "")
	close(unlock)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	a.do("PATCH", aliasesPath+"/shop", `{"enabled":false}`).want(200, "")
}
