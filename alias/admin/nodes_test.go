package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

// fakeFleet is the view of the node b.
type fakeFleet struct {
	nodes, known  []*alias.Node
	leases        []alias.Lease
	applied, head int64
	since         time.Time
	why, failure  error
	removed       []string
}

func (*fakeFleet) Name() string                                   { return "b" }
func (f *fakeFleet) Nodes(context.Context) ([]*alias.Node, error) { return f.nodes, f.failure }
func (f *fakeFleet) Known() []*alias.Node                         { return f.known }
func (f *fakeFleet) Leases() []alias.Lease                        { return f.leases }
func (f *fakeFleet) Revision() (applied, head int64)              { return f.applied, f.head }
func (f *fakeFleet) Stale() (time.Time, error)                    { return f.since, f.why }

func (f *fakeFleet) Remove(_ context.Context, name string) error {
	switch {
	case f.failure != nil:
		return f.failure
	case name == "b":
		return fmt.Errorf("the node b lives: %w", alias.ErrInUse)
	case name == "none":
		return fmt.Errorf("the node none: %w", alias.ErrNotFound)
	}
	f.removed = append(f.removed, name)
	return nil
}

func withFleet(f *fakeFleet) func(*Config) {
	return func(c *Config) {
		c.Nodes, c.About = f, About{Node: "b", Version: "v2", StartedAt: moment}
	}
}

// threeNodes are a live node with leases, the own one, and one that is silent and behind.
func threeNodes() *fakeFleet {
	list := []*alias.Node{
		{Name: "a", Version: "v1", StartedAt: moment, SeenAt: moment, Revision: 12, Live: true, ClockOffset: -1234567 * time.Microsecond},
		{Name: "b", Version: "v2", StartedAt: moment, SeenAt: moment, Revision: 11, Live: true},
		{Name: "c.example.com", Version: "v1", StartedAt: moment, SeenAt: moment, Revision: 2, ClockOffset: time.Minute},
	}
	return &fakeFleet{
		nodes: list, known: list, applied: 12, head: 14,
		leases: []alias.Lease{{Name: "schedule", Node: "a"}, {Name: "credential:shop", Node: "a"}, {Name: "reconcile", Node: "b"}},
	}
}

const (
	nodeA = `{"name":"a","self":false,"state":"live","version":"v1","started_at":"` + momentText + `","seen_at":"` + momentText +
		`","revision":12,"lag":2,"leases":["credential:shop","schedule"],"clock_offset":"-1.235s"}`
	nodeB = `{"name":"b","self":true,"state":"live","version":"v2","started_at":"` + momentText + `","seen_at":"` + momentText +
		`","revision":12,"lag":2,"leases":["reconcile"],"clock_offset":"0s"}`
	nodeC = `{"name":"c.example.com","self":false,"state":"silent","version":"v1","started_at":"` + momentText + `","seen_at":"` + momentText +
		`","revision":2,"lag":12,"leases":[],"clock_offset":"1m0s"}`
)

func TestNodes(t *testing.T) {
	t.Parallel()
	away := fmt.Errorf("%w: connection refused", alias.ErrUnavailable)
	since := `"` + timestamp(moment.Add(time.Hour)) + `"`
	for _, c := range []struct {
		name string
		edit func(*fakeFleet)
		want string
	}{
		{"all", func(*fakeFleet) {}, `{"revision":14,"stale":false,"since":null,"nodes":[` + nodeA + "," + nodeB + "," + nodeC + `]}`},
		{"a node is ahead of the last beat", func(f *fakeFleet) { f.head = 3 },
			`{"revision":12,"stale":false,"since":null,"nodes":[` + strings.NewReplacer(`"lag":2`, `"lag":0`, `"lag":12`, `"lag":10`).Replace(nodeA+","+nodeB+","+nodeC) + `]}`},
		{"the database is away", func(f *fakeFleet) { f.nodes, f.failure, f.why, f.since = nil, away, away, moment.Add(time.Hour) },
			`{"revision":14,"stale":true,"since":` + since + `,"nodes":[` + nodeA + "," + nodeB + "," + nodeC + `]}`},
		{"started while it is away", func(f *fakeFleet) {
			*f = fakeFleet{failure: away, why: away, since: moment.Add(time.Hour), applied: 12}
		}, `{"revision":12,"stale":true,"since":` + since + `,"nodes":[` + strings.NewReplacer(`"lag":2`, `"lag":0`, `["reconcile"]`, "[]", `"seen_at":"`+momentText+`"`, `"seen_at":`+since).Replace(nodeB) + `]}`},
		{"it answers the beats and not this call", func(f *fakeFleet) { f.nodes, f.failure = nil, errors.New("syntax error") },
			`{"revision":14,"stale":true,"since":null,"nodes":[` + nodeA + "," + nodeB + "," + nodeC + `]}`},
		{"the beats fail and this call does not", func(f *fakeFleet) { f.why, f.since = away, moment.Add(time.Hour) },
			`{"revision":14,"stale":true,"since":` + since + `,"nodes":[` + nodeA + "," + nodeB + "," + nodeC + `]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := threeNodes()
			c.edit(f)
			a := newAPI(t, withFleet(f))
			if r := a.do("GET", nodesPath, "").want(200, ""); r.body != c.want+"\n" || r.header.Get("ETag") != "" {
				t.Errorf("got %s\nwant %s", r.body, c.want)
			}
		})
	}
}

// A token with bucket patterns sees the nodes, and no lease that names a credential.
func TestNodesForBuckets(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withFleet(threeNodes()))
	token := a.makeToken("acme", `["admin"]`, `["acme-*"]`)
	r := a.do("GET", nodesPath, "", "Authorization", token).want(200, "")
	if strings.Contains(r.body, "credential:") || !strings.Contains(r.body, `["schedule"]`) {
		t.Errorf("got %s", r.body)
	}
	a.do("DELETE", nodesPath+"/c.example.com", "", "Authorization", token).want(403, "forbidden")
}

func TestRemoveNode(t *testing.T) {
	t.Parallel()
	f := threeNodes()
	a := newAPI(t, withFleet(f))
	for _, c := range []struct {
		name   string
		status int
		code   string
		says   string
	}{
		{"b", 409, "in-use", "stop it first"},
		{"none", 404, "not-found", `there is no node named "none"`},
		{"no%2Fsuch", 404, "not-found", "there is no node named"},
		{strings.Repeat("x", 65), 404, "not-found", "there is no node named"},
		{"c.example.com", 204, "", ""},
		{"Web_1", 204, "", ""},
	} {
		r := a.do("DELETE", nodesPath+"/"+c.name, "").want(c.status, c.code)
		if c.status != 204 && !strings.Contains(r.problem().Detail, c.says) {
			t.Errorf("%s: %s", c.name, r.body)
		}
	}
	if got := fmt.Sprint(f.removed); got != "[c.example.com Web_1]" {
		t.Errorf("removed %s", got)
	}
	audit := a.do("GET", "/api/v1/audit", "").want(200, "").body
	if strings.Count(audit, `"action":"remove-node"`) != 2 || !strings.Contains(audit, "the node Web_1: ") || !strings.Contains(audit, `"actor":"admin@127.0.0.1"`) {
		t.Errorf("audit: %s", audit)
	}
	f.failure = fmt.Errorf("%w: connection refused", alias.ErrUnavailable)
	a.do("DELETE", nodesPath+"/Web_1", "").want(503, "unavailable")
}

// Without --store the node is alone, and cannot be removed.
func TestNodeAlone(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) { c.About = About{Node: "web-1", Version: "v2", StartedAt: moment} })
	var got nodesJSON
	a.do("GET", nodesPath, "").want(200, "").decode(&got)
	if len(got.Nodes) != 1 {
		t.Fatalf("got %+v", got)
	}
	n := got.Nodes[0]
	if seen, err := time.Parse(time.RFC3339, n.SeenAt); err != nil || time.Since(seen) > time.Minute {
		t.Errorf("seen %s", n.SeenAt)
	}
	if n.Name != "web-1" || !n.Self || n.State != nodeLive || n.Version != "v2" || n.StartedAt != momentText || n.Lag != 0 ||
		n.Leases == nil || got.Stale || got.Revision != 0 {
		t.Errorf("got %+v", got)
	}
	if d := a.do("DELETE", nodesPath+"/web-1", "").want(409, "in-use").problem().Detail; !strings.Contains(d, "--store") {
		t.Errorf("got %q", d)
	}
	a.do("DELETE", nodesPath+"/web-2", "").want(404, "not-found")
}

// TestStaleRegistry: readiness stays up and says that the registry is stale, and the answer of
// /api/v1/server says it to programs.
func TestStaleRegistry(t *testing.T) {
	t.Parallel()
	away := fmt.Errorf("%w: dial tcp 10.9.8.7:5432: connection refused", alias.ErrUnavailable)
	const state = `"node":"b","registry":{"revision":12,"lag":2,"stale":`
	for _, c := range []struct {
		name   string
		since  time.Time // zero: not stale
		ready  bool
		status int
		says   []string
		server string
	}{
		{"fresh", time.Time{}, true, 200, nil, state + `false,"since":null,"detail":""}`},
		{"draining", time.Time{}, false, 503, []string{"starting or draining"}, state + `false,`},
		{"lost later", moment.Add(time.Hour), true, 200, []string{"stale since 2024-03-01T00:59:59Z", "Pictures are served, within --max-registry-age; changes are refused"}, state + `true,"since":"2024-03-01T00:59:59.12Z","detail":"the registry is stale`},
		{"from the start", moment.Add(-time.Hour), true, 200, []string{"stale since 2024-02-29T22:59:59Z", "was started from the copy in its data folder"}, state + `true,"since":"2024-02-29T22:59:59.12Z","detail":"the registry is stale`},
		{"too old", moment.Add(-time.Hour), false, 503, []string{"--max-registry-age", "stale since"}, state + `true,`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := threeNodes()
			if f.since = c.since; !c.since.IsZero() {
				f.why = away
			}
			a := newAPI(t, withFleet(f), func(cfg *Config) { cfg.Ready = func() bool { return c.ready } })
			r := a.do("GET", "/-/readyz", "").want(c.status, "")
			if c.status == http.StatusOK && !strings.HasPrefix(r.body, "ok\n") || c.says == nil && r.body != "ok\n" {
				t.Errorf("got %q", r.body)
			}
			for _, text := range c.says {
				if !strings.Contains(r.body, text) {
					t.Errorf("no %q in %s", text, r.body)
				}
			}
			if strings.Contains(r.body, "10.9.8.7") {
				t.Errorf("without a token it shows where the database is: %s", r.body)
			}
			if got := a.do("GET", "/api/v1/server", "").want(200, "").body; !strings.Contains(got, c.server) {
				t.Errorf("got %s\nwant %s in it", got, c.server)
			}
		})
	}
}

// TestSharedUnavailable: a refusal because of the database of --store says so, with Retry-After,
// and without the text of the driver; the log has that.
func TestSharedUnavailable(t *testing.T) {
	t.Parallel()
	away := fmt.Errorf("%w: dial tcp 10.9.8.7:5432: connection refused", alias.ErrUnavailable)
	f := threeNodes()
	a := newAPI(t, withFleet(f), withPurger(func(context.Context, PurgeRequest) (PurgeResult, error) { return PurgeResult{}, away }))
	a.register("shop")
	for _, says := range []string{"did not answer in time, or refused", "cannot be used since 2024-02-29T23:59:59Z"} {
		r := a.do("POST", purgePath, `{"alias":"shop","hard":true}`).want(503, "unavailable")
		if d := r.problem().Detail; !strings.Contains(d, says) || !strings.Contains(d, "--store") || !strings.Contains(d, "correct it and try again") || strings.Contains(d, "10.9.8.7") {
			t.Errorf("got %q", d)
		}
		if r.header.Get("Retry-After") != retryAfter {
			t.Errorf("Retry-After: got %q", r.header.Get("Retry-After"))
		}
		f.since, f.why = moment, away
	}
	if n := strings.Count(a.logs.String(), "10.9.8.7"); n != 2 {
		t.Errorf("the log has the cause %d times", n)
	}
}
