package sqlstore

import (
	"errors"
	"testing"
	"time"

	"ixmage/alias"
)

// TestBeatOfNamesake: the data folder of a node that lives was copied. Its first process must notice
// that another one reports positions in its name.
func TestBeatOfNamesake(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, migrated(t))
	beat := func(process string, joined bool) error {
		_, err := p.Beat(t.Context(), alias.Beat{
			Node: alias.Node{Name: "web", ID: "folder", Process: process}, Joined: joined, TTL: time.Hour,
		})
		return err
	}
	for i, step := range []struct {
		process string
		joined  bool
		want    error
	}{
		{"first", false, nil}, {"first", true, nil},
		{"second", false, nil}, // a restart looks like this
		{"first", true, alias.ErrExists},
		{"second", true, nil},
	} {
		if err := beat(step.process, step.joined); !errors.Is(err, step.want) {
			t.Errorf("step %d: got %v, want %v", i, err, step.want)
		}
	}
}

// TestRemoveNodeKeepsLeases: a lease that a node took after its last beat outlives its row.
func TestRemoveNodeKeepsLeases(t *testing.T) {
	t.Parallel()
	p := openPostgres(t, migrated(t))
	_, err := p.Beat(t.Context(), alias.Beat{Node: alias.Node{Name: "web", ID: "folder", Process: "first"}})
	if err != nil {
		t.Fatal(err)
	}
	lease := alias.Lease{Name: "schedule", Node: "web", Process: "first"}
	if _, err := p.AcquireLease(t.Context(), lease, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := p.RemoveNode(t.Context(), "web", "", 0); err != nil {
		t.Fatal(err)
	}
	lease.Node, lease.Process = "other", "second"
	if _, err := p.AcquireLease(t.Context(), lease, time.Hour); !errors.Is(err, alias.ErrLeased) {
		t.Errorf("the lease of a node that was removed: got %v, want %v", err, alias.ErrLeased)
	}
}
