package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ixmage/internal/awstest/postgres"
	"ixmage/internal/awstest/s3"
)

// sightOf starts a node with a data folder in dir, whose times are short.
func sightOf(t testing.TB, dir, database, name string, args ...string) *server {
	t.Helper()
	return startIn(t, filepath.Join(dir, name), append([]string{
		"--store", database, "--node", name, "--node-beat", nodeBeat.String(), "--node-lease", nodeLease.String(),
		"--master-key", "file:" + filepath.Join(dir, "keyset"),
	}, args...)...)
}

// nodesAnswer is the answer of GET /api/v1/nodes, as far as these tests look at it.
type nodesAnswer struct {
	Revision int64
	Stale    bool
	Since    *string
	Nodes    []struct {
		Name, State, Version string
		Self                 bool
		Revision, Lag        int64
	}
}

func (s *server) nodes() (out nodesAnswer) {
	s.t.Helper()
	s.read("/api/v1/nodes", &out)
	return out
}

// states are name=state of all nodes.
func (a nodesAnswer) states() string {
	var list []string
	for _, n := range a.Nodes {
		list = append(list, n.Name+"="+n.State)
	}
	return strings.Join(list, " ")
}

// lag is that of all nodes together.
func (a nodesAnswer) lag() (all int64) {
	for _, n := range a.Nodes {
		all += n.Lag
	}
	return all
}

// TestNodes: the nodes of a registry in the API and on the command line, a purge that two
// confirm and that one does not, and the removal of a node that was killed.
func TestNodes(t *testing.T) {
	t.Parallel()
	database, dir := postgres.Database(t), t.TempDir()
	a := newEnvOn(t, sightOf(t, dir, database, "a"))
	b := sightOf(t, dir, database, "b")
	got := a.nodes()
	if got.states() != "a=live b=live" || !got.Nodes[0].Self || got.Nodes[1].Self || got.Stale || got.Revision == 0 {
		t.Errorf("got %+v", got)
	}
	eventually(t, "no node lags", func() bool { return b.nodes().lag() == 0 })
	command := func(args ...string) outcome {
		return runProgram(t, []string{"IXMAGE_ADMIN_URL=http://" + a.admin, "IXMAGE_ADMIN_TOKEN=" + a.token}, args...)
	}
	if out := command("node", "ls"); out.code != 0 || !strings.HasPrefix(out.stdout, "NAME  STATE  VERSION") || !strings.Contains(out.stdout, "\nb     live   ") {
		t.Errorf("node ls: %+v", out)
	}
	purge := func(args ...string) string {
		out := command(append([]string{"purge", "shop", "-o", "json"}, args...)...)
		var answer struct{ Nodes json.RawMessage }
		if err := json.Unmarshal([]byte(out.stdout), &answer); err != nil {
			t.Fatalf("purge: %+v", out)
		}
		return strings.Join(strings.Fields(string(answer.Nodes)), "")
	}
	if nodes := purge("a.png", "--wait", "60s"); nodes != `{"confirmed":["a","b"],"pending":[]}` {
		t.Errorf("the purge has the nodes %s", nodes)
	}
	if out := command("node", "rm", "b", "--yes"); out.code != 5 || !strings.Contains(out.stderr, "stop it first") {
		t.Errorf("removal of a live node: %+v", out)
	}
	b.kill()
	if nodes := purge("--hard", "--wait", "1s"); nodes != `{"confirmed":["a"],"pending":["b"]}` {
		t.Errorf("without b the purge has the nodes %s", nodes)
	}
	eventually(t, "b is silent", func() bool { return a.nodes().states() == "a=live b=silent" })
	if n := a.metric(`ixmage_nodes{state="silent"}`); n != 1 {
		t.Errorf("the metric has %v silent nodes", n)
	}
	if out := command("node", "rm", "b", "--yes"); out.code != 0 || a.nodes().states() != "a=live" {
		t.Errorf("removal of b: %+v, %s", out, a.nodes().states())
	}
	var audit struct {
		Audit []struct{ Action, Detail string }
	}
	a.read("/api/v1/audit", &audit)
	if len(audit.Audit) == 0 || audit.Audit[0].Action != "remove-node" || !strings.Contains(audit.Audit[0].Detail, "the node b") {
		t.Errorf("audit: %+v", audit)
	}
	// A node that stops leaves the list.
	c := sightOf(t, dir, database, "c")
	if states := a.nodes().states(); states != "a=live c=live" {
		t.Errorf("with c: %s", states)
	}
	if code := c.stop(); code != 0 || a.nodes().states() != "a=live" {
		t.Errorf("c ended with %d: %s", code, a.nodes().states())
	}
}

// outageCalls are calls of the API while the database of --store is away, with their statuses.
var outageCalls = []struct {
	call, body string
	status     int
}{
	{"GET aliases", "", 200},
	{"GET aliases/shop", "", 200},
	{"GET aliases/none", "", 404},
	{"GET credentials", "", 200},
	{"GET credentials/shop", "", 200},
	{"GET nodes", "", 200},
	{"GET server", "", 200},
	{"GET cache", "", 200},
	{"GET tokens", "", 200},
	{"GET session", "", 200},
	{"GET openapi.json", "", 200},
	{"GET explain?path=/shop/a.png", "", 200},
	{"GET aliases/shop/picture?key=a.png", "", 200},
	{"GET operations", "", 503},
	{"GET operations/none", "", 503},
	{"GET audit", "", 503},
	{"GET usage", "", 503},
	{"GET aliases/shop/usage", "", 503},
	{"GET aliases/shop/verification", "", 503},
	{"POST aliases", `{"name":"new","bucket":"media","region":"eu-west-1","credential":null}`, 503},
	{"PATCH aliases/shop", `{"ttl":"2h"}`, 503},
	{"DELETE aliases/shop", "", 503},
	{"POST aliases/shop/verify", "", 503},
	{"POST credentials", `{"name":"new","access_key_id":"AKIAIOSFODNN7EXAMPLE","secret_access_key":"not-a-real-secret"}`, 503},
	{"PUT credentials/shop", `{"access_key_id":"AKIAIOSFODNN7EXAMPLE","secret_access_key":"not-a-real-secret"}`, 503},
	{"PATCH credentials/shop", `{"expect":"read-only-access"}`, 503},
	{"DELETE credentials/shop", "", 503},
	{"POST credentials/made/rotate", "", 503},
	{"POST credentials/made/reclaim", "", 503},
	{"DELETE credentials/made", "", 503},
	{"POST provision", "PROVISION", 503},
	{"POST tokens", `{"name":"new","roles":["read"],"buckets":[]}`, 503},
	{"DELETE tokens/reader", "", 503},
	{"DELETE nodes/b", "", 503},
	{"POST purge", `{"alias":"shop","key":"a.png"}`, 503},
	{"POST purge", `{"alias":"shop","prefix":"a","hard":true}`, 503},
	{"POST purge", `{"alias":"shop","hard":true}`, 503},
}

// TestOutage: while the database of --store is away, a node serves and shows what it has,
// refuses changes with what to do, says so everywhere, and catches up by itself; also a node
// that was started meanwhile.
func TestOutage(t *testing.T) {
	t.Parallel()
	g, db, dir := realS3(t), postgres.Start(t, postgres.Options{}), t.TempDir()
	database := db.Database(t)
	bucket := media(t, g)
	args := provisionArgs(g, g.IAMURL, append(slices.Clone(quickWaits), "--store", database, "--node", "a",
		"--node-beat", nodeBeat.String(), "--node-lease", nodeLease.String(), "--master-key", "file:"+filepath.Join(dir, "keyset"))...)
	node := func() *server { return startProvisioningIn(t, filepath.Join(dir, "a"), args...) }
	a := newEnvOn(t, node())
	a.put("a.png", s3.Object{Body: bytesOf(1000, "outage")})
	a.get("/shop/a.png")
	a.adminCall(http.MethodPost, "/api/v1/tokens", map[string]any{"name": "reader", "roles": []string{"read"}}, http.StatusCreated)
	a.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "made", bucket)) // the replica has the token before it ends
	ready := func() string { return string(single(a.admin, http.MethodGet, "/-/readyz").body) }
	const good = "ok\ntransforms are off: --transform-worker is not set\n"
	if got := ready(); got != good {
		t.Errorf("readiness: %q", got)
	}
	if err := db.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, started := range []bool{false, true} {
		if started {
			a.kill()
			a.server = node()
		}
		eventually(t, "the node has noticed", func() bool { return a.nodes().Stale })
		provision, err := json.Marshal(provisionBody(g, "new", bucket))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range outageCalls {
			method, path, _ := strings.Cut(c.call, " ")
			r := a.api(method, "/api/v1/"+path, any(strings.Replace(c.body, "PROVISION", string(provision), 1)))
			if r.StatusCode != c.status {
				t.Errorf("started=%t: %s: %s: %s", started, c.call, r.Status, r.body)
				continue
			}
			if c.status != http.StatusServiceUnavailable {
				continue
			}
			var problem struct{ Type, Detail string }
			if err := json.Unmarshal(r.body, &problem); err != nil || !strings.HasSuffix(problem.Type, "/unavailable") ||
				!strings.Contains(problem.Detail, "--store") || r.Header.Get("Retry-After") == "" {
				t.Errorf("started=%t: %s: %s", started, c.call, r.body)
			}
		}
		if r := a.get("/shop/a.png"); r.StatusCode != http.StatusOK {
			t.Errorf("started=%t: the picture: %s", started, summary(r))
		}
		if got := ready(); !strings.HasPrefix(got, "ok\nthe registry is stale since ") || strings.Contains(got, "was started from the copy") != started {
			t.Errorf("started=%t: readiness: %q", started, got)
		}
		var info struct{ Registry struct{ Stale bool } }
		if a.read("/api/v1/server", &info); !info.Registry.Stale {
			t.Errorf("started=%t: the server is not stale", started)
		}
		if got := a.nodes(); got.states() != "a=live" || got.Since == nil {
			t.Errorf("started=%t: the nodes are %+v", started, got)
		}
		if v := a.metric("ixmage_registry_stale_seconds"); v == 0 {
			t.Errorf("started=%t: it is stale for 0 seconds", started)
		}
	}
	db.Restart(t)
	eventually(t, "the node has caught up", func() bool { return !a.nodes().Stale && ready() == good })
	if r := a.api(http.MethodPatch, "/api/v1/aliases/shop", `{"ttl":"2h"}`); r.StatusCode != http.StatusOK {
		t.Errorf("a change afterwards: %s: %s", r.Status, r.body)
	}
	if v := a.metric("ixmage_registry_stale_seconds"); v != 0 {
		t.Errorf("it is stale for %v seconds afterwards", v)
	}
}
