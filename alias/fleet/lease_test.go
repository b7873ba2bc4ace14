package fleet

import (
	"errors"
	"testing"
	"time"

	"ixmage/alias"
)

// check is CheckLease in a transaction of its own.
func (m *member) check(t *testing.T, h *Held) error {
	t.Helper()
	return m.db.Update(t.Context(), func(tx alias.Tx) error { return tx.CheckLease(h.Lease()) })
}

// TestLeases: a lease is given away at its end by the clock of the database, and the holder
// learns that with its next beat.
func TestLeases(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	a, b := e.node("a"), e.node("b")
	ctx := t.Context()
	held, err := a.Try(ctx, "x")
	if err != nil || !held.Valid() || a.check(t, held) != nil {
		t.Fatalf("a free lease: %v", err)
	}
	for _, m := range []*member{a, b} {
		if _, err := m.Try(ctx, "x"); !errors.Is(err, alias.ErrLeased) {
			t.Errorf("%s, while it lasts: got %v, want ErrLeased", m.Name(), err)
		}
	}
	e.exec(`UPDATE nodes SET seen_at = 0 WHERE name = 'a'`)
	if err := b.Remove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Try(ctx, "x"); !errors.Is(err, alias.ErrLeased) {
		t.Errorf("after the node is removed: got %v, want ErrLeased", err)
	}
	e.exec(`UPDATE leases SET expires_at = 0`)
	taken, err := b.Try(ctx, "x")
	if err != nil || taken.Lease().Token <= held.Lease().Token {
		t.Fatalf("after its end: %v", err)
	}
	if err := a.check(t, held); !errors.Is(err, alias.ErrLeaseLost) {
		t.Errorf("a transaction of the holder before: got %v, want ErrLeaseLost", err)
	}
	act, cancel := held.Context(ctx)
	defer cancel()
	if err := a.beat(ctx); err != nil {
		t.Fatal(err)
	}
	<-act.Done()
	if held.Valid() || len(a.leases()) > 0 {
		t.Error("the holder before may act")
	}
	taken.Release()
	if _, err := a.Try(ctx, "x"); err != nil {
		t.Errorf("after the release: %v", err)
	}
}

// TestLeaseOfSlowAnswer: a lease that has ended when the answer arrives is not kept.
func TestLeaseOfSlowAnswer(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	cfg := e.config("a")
	cfg.TTL = time.Microsecond
	a := e.open(cfg)
	held, err := a.Try(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	<-held.lost
	if held.Valid() || len(a.leases()) > 0 {
		t.Error("it is kept")
	}
}
