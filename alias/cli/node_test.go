package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/admin"
)

// testFleet is the view of the node web-1.
type testFleet struct{ why error }

var testTime = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

func (testFleet) Name() string { return "web-1" }

func (f testFleet) Nodes(context.Context) ([]*alias.Node, error) { return f.Known(), nil }

func (testFleet) Known() []*alias.Node {
	return []*alias.Node{
		{Name: "web-1", Version: "v2", StartedAt: testTime, SeenAt: testTime, Revision: 9, Live: true},
		{Name: "web-2", Version: "v1", StartedAt: testTime, SeenAt: testTime, Revision: 7},
	}
}

func (testFleet) Leases() []alias.Lease {
	return []alias.Lease{{Name: "schedule", Node: "web-1"}, {Name: "reconcile", Node: "web-1"}}
}

func (testFleet) Revision() (applied, head int64) { return 9, 9 }

func (f testFleet) Stale() (time.Time, error) { return testTime, f.why }

func (testFleet) Remove(_ context.Context, name string) error {
	return map[string]error{"web-1": alias.ErrInUse, "web-2": nil, "web-22": alias.ErrNotFound}[name]
}

func TestNodeCommands(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(c *admin.Config) { c.Nodes = testFleet{} })
	for _, tt := range []struct {
		command command
		format  string
		code    int
		want    string // a part of the output
	}{
		{&nodeLsCmd{}, formatTable, exitOK, "NAME   STATE   VERSION  SEEN                  REVISION  LAG  CLOCK  LEASES\n" +
			"web-1  live    v2       2026-02-03 04:05:06Z  9         0    0s     reconcile,schedule\n" +
			"web-2  silent  v1       2026-02-03 04:05:06Z  7         2    0s     -\n"},
		{&nodeLsCmd{}, formatJSON, exitOK, "\"clock_offset\": \"0s\""},
		{&nodeLsCmd{}, formatYAML, exitOK, "  - name: web-2\n"},
		{&nodeRmCmd{Name: "web-2", confirmed: confirmed{Yes: true}}, formatTable, exitOK, "web-2 is removed."},
		{&nodeRmCmd{Name: "web-1", confirmed: confirmed{Yes: true}}, formatTable, exitConflict, "stop it first"},
		{&nodeRmCmd{Name: "web-22", confirmed: confirmed{Yes: true}}, formatTable, exitNotFound, "Did you mean web-2?"},
		{&nodeRmCmd{Name: "web-2"}, formatTable, exitUsage, "--yes"},
	} {
		got := e.run(tt.command, tt.format, "")
		if got.code != tt.code || !strings.Contains(got.out+got.err, tt.want) {
			t.Errorf("%T: %d, want %d:\n%s%s\nwant %s", tt.command, got.code, tt.code, got.out, got.err, tt.want)
		}
	}
	stale := newEnv(t, func(c *admin.Config) { c.Nodes = testFleet{errors.New("connection refused")} })
	if got := stale.run(&nodeLsCmd{}, formatTable, ""); !strings.Contains(got.err, "The database cannot be used: this is the list of its last answer (2026-02-03 04:05:06Z).") {
		t.Errorf("got %+v", got)
	}
}
