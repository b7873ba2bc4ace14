package metrics

import (
	"strings"
	"testing"
)

// TestFleet: a server that shares its registry with no other has no series of nodes; a node has
// one for each lease, held or not.
func TestFleet(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1})
	for _, name := range []string{"ixmage_registry_", "ixmage_lease_held", "ixmage_nodes", "ixmage_node_"} {
		if strings.Contains(scrape(t, m), name) {
			t.Errorf("there are series of %s", name)
		}
	}
	state := Fleet{Live: 1, Leases: []string{"reconcile"}}
	m.Fleet(func() Fleet { return state })
	for _, want := range []string{
		"ixmage_registry_revision 0", "ixmage_registry_lag 0", "ixmage_registry_stale_seconds 0", "ixmage_node_clock_offset_seconds 0",
		`ixmage_nodes{state="live"} 1`, `ixmage_nodes{state="silent"} 0`,
		`ixmage_lease_held{name="reconcile"} 1`, `ixmage_lease_held{name="schedule"} 0`, `ixmage_lease_held{name="other"} 0`,
	} {
		if !has(t, m, want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
	state.Leases = []string{"credential", "credential"}
	if !has(t, m, `ixmage_lease_held{name="credential"} 2`+"\n") {
		t.Error("the second scrape shows the leases of the first")
	}
}
