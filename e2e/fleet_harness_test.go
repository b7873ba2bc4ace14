package e2e

import (
	"cmp"
	"database/sql" //nolint:depguard // the replica of a running node is read, not opened
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/sqlstore"
	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/postgres"
)

// The intervals of a fleet in a test. The lease is the default: a node that a busy machine keeps from its
// beats for some seconds must not be silent, or a purge does not wait for it.
const (
	nodeBeat  = 300 * time.Millisecond
	nodeLease = 15 * time.Second
)

// fleetEnv is a registry in PostgreSQL with the nodes that share it.
type fleetEnv struct {
	t     testing.TB
	url   string // of the database
	dir   string
	args  []string // of every node
	nodes []*node
}

// node is a node of a fleet. Its name, addresses, data folder and way to the database stay when
// its process is started again.
type node struct {
	*server

	f    *fleetEnv
	name string
	db   *netfault.Proxy // between the node and the database
	env  []string
	args []string // beside those of every node
	logs strings.Builder
}

// newFleet starts nodes with these names, which share an empty registry in a database. args are
// of every node.
func newFleet(t testing.TB, database string, names []string, args ...string) *fleetEnv {
	t.Helper()
	f := &fleetEnv{t: t, url: database, dir: t.TempDir(), args: args}
	for _, name := range names {
		f.add(name).start()
	}
	f.each((*node).filled)
	return f
}

// sharedDatabase is an empty database on the server of all tests.
func sharedDatabase(t testing.TB) string {
	t.Helper()
	return postgres.Database(t)
}

// abc are the names of a fleet of three.
var abc = []string{"a", "b", "c"}

// add makes a node that does not run yet.
func (f *fleetEnv) add(name string) *node {
	f.t.Helper()
	n := &node{
		f: f, name: name, db: netfault.New(f.t, f.address()),
		server: &server{t: f.t, data: filepath.Join(f.dir, fmt.Sprintf("%s-%d", name, len(f.nodes))), public: freeAddr(f.t), admin: freeAddr(f.t)},
	}
	f.nodes = append(f.nodes, n)
	f.t.Cleanup(func() {
		n.kill()
		if f.t.Failed() {
			f.t.Logf("end of the log of node %s:\n%s", n.name, tail(withoutDebug(n.history()), 6<<10))
		}
		if dir := os.Getenv("IXMAGE_FLEET_LOGS"); dir != "" {
			writeFile(f.t, filepath.Join(dir, strings.ReplaceAll(f.t.Name(), "/", "-")+"-"+n.name+".log"), n.history(), 0o600)
		}
	})
	return n
}

// withoutDebug leaves out what polling adds to a log.
func withoutDebug(log string) string {
	return strings.Join(slices.DeleteFunc(strings.SplitAfter(log, "\n"), func(line string) bool {
		return strings.Contains(line, " level=DEBUG ")
	}), "")
}

// address is the host and port of the database.
func (f *fleetEnv) address() string {
	_, rest, _ := strings.Cut(f.url, "@")
	addr, _, _ := strings.Cut(rest, "/")
	return addr
}

// command is `ixmage serve` of a node.
func (n *node) command() *exec.Cmd {
	n.f.t.Helper()
	args := slices.Concat([]string{
		"--node", n.name, "--listen", n.public, "--admin-listen", n.admin,
		"--node-beat", nodeBeat.String(), "--node-lease", nodeLease.String(),
		"--master-key", "file:" + filepath.Join(n.f.dir, "keyset"),
	}, n.f.args, n.args)
	cmd := exec.Command(program(), serveArgs(n.data, args...)...)
	cmd.Env = append(plainEnv(), awsAlone...)
	cmd.Env = append(cmd.Env, "IXMAGE_STORE="+postgres.Through(n.f.t, n.db.Addr, n.f.url))
	cmd.Env = append(cmd.Env, n.env...)
	return cmd
}

// tryStart starts the process of a node and waits until it listens.
func (n *node) tryStart() error {
	n.f.t.Helper()
	n.logs.WriteString(n.output())
	s, err := launch(n.f.t, n.data, n.command())
	if s != nil {
		s.public, s.admin = n.public, n.admin
		n.server = s
	}
	return err
}

func (n *node) start() {
	n.f.t.Helper()
	if err := n.tryStart(); err != nil {
		n.f.t.Fatalf("node %s: %v", n.name, err)
	}
}

// output is the log of the last process.
func (n *node) output() string {
	if n.log == nil {
		return ""
	}
	return n.server.output()
}

// history is the log of all processes.
func (n *node) history() string { return n.logs.String() + n.output() }

func (n *node) kill() {
	if n.process != nil {
		n.process.Kill()
	}
}

// restart kills a node and starts it again.
func (n *node) restart() {
	n.f.t.Helper()
	n.kill()
	n.start()
}

// pause stops the process of a node until resume: its connections stay open and silent.
func (n *node) pause() { _ = n.process.Signal(syscall.SIGSTOP) }

func (n *node) resume() { _ = n.process.Signal(syscall.SIGCONT) }

// partition takes the database away from a node, until heal.
func (n *node) partition() { n.f.set(n, netfault.Refuse()) }

// silence has the network lose all packets between a node and the database, until heal.
func (n *node) silence() { n.f.set(n, netfault.Hang()) }

func (n *node) heal() { n.f.set(n, netfault.Pass()) }

func (f *fleetEnv) set(n *node, mode netfault.Mode) {
	f.t.Helper()
	if err := n.db.Set(mode); err != nil {
		f.t.Fatal(err)
	}
}

// each calls do for every node.
func (f *fleetEnv) each(do func(n *node)) {
	for _, n := range f.nodes {
		do(n)
	}
}

// try calls the admin API of a node. The status is 0 if there is no answer.
func (n *node) try(method, path string, body any, headers ...string) (int, []byte) {
	return n.tryWith(quick, method, path, body, headers...)
}

// quick is a client for nodes that may be paused, killed and started again.
var quick = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (n *node) tryWith(c *http.Client, method, path string, body any, headers ...string) (int, []byte) {
	req := n.request(method, path, body)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return resp.StatusCode, text
}

// picture requests an object from a node. The status is 0 if there is no whole answer.
func (n *node) picture(path string) (status int, body []byte, cacheStatus string) {
	resp, err := quick.Get("http://" + n.public + path)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	return resp.StatusCode, body, resp.Header.Get("Cache-Status")
}

// nodeRow is a node in GET /api/v1/nodes.
type nodeRow struct {
	Name, State string
	Self        bool
	Revision    int64
	Lag         int64
	Leases      []string
}

// list are the nodes of the registry, as this one tells.
func (n *node) list() (nodes []nodeRow, stale bool) {
	n.f.t.Helper()
	status, text := n.try(http.MethodGet, "/api/v1/nodes", nil)
	var out struct {
		Stale bool
		Nodes []nodeRow
	}
	if err := json.Unmarshal(text, &out); status != http.StatusOK || err != nil {
		n.f.t.Fatalf("the nodes, asked of %s: %d: %s", n.name, status, text)
	}
	slices.SortFunc(out.Nodes, func(a, b nodeRow) int { return cmp.Compare(a.Name, b.Name) })
	return out.Nodes, out.Stale
}

// names are the names of the nodes that this one knows.
func (n *node) names() (names []string) {
	n.f.t.Helper()
	nodes, _ := n.list()
	for _, row := range nodes {
		names = append(names, row.Name)
	}
	return names
}

// caughtUp waits until each of these nodes has applied every change that was answered before. The lag
// in a node's own row is from the head of the database, which the call reads; the other rows are what
// those nodes reported, up to a beat ago.
func (f *fleetEnv) caughtUp(nodes ...*node) {
	f.t.Helper()
	for _, n := range nodes {
		eventually(f.t, "node "+n.name+" has every change", func() bool {
			rows, stale := n.list()
			own := slices.IndexFunc(rows, func(row nodeRow) bool { return row.Self })
			return !stale && own >= 0 && rows[own].Lag == 0
		})
	}
}

// reported waits until every node has reported every change that was answered before. Then the changes
// are in the replicas that were filled.
func (f *fleetEnv) reported() {
	f.t.Helper()
	eventually(f.t, "every node has reported every change", func() bool {
		rows, stale := f.nodes[0].list()
		return !stale && !slices.ContainsFunc(rows, func(row nodeRow) bool { return row.Lag > 0 })
	})
}

// filled waits until a node has a replica, with which it starts while the database is away. It is filled in
// the background after the start; from then on the node writes a change to it before it reports the change.
func (n *node) filled() {
	n.f.t.Helper()
	n.replicated("is filled", func(at alias.Position) bool { return at != alias.Position{} })
}

// replicated waits until the replica of a node is at a position that is ok. The size of the file tells
// nothing: what was written last is in the log beside it.
func (n *node) replicated(what string, ok func(at alias.Position) bool) {
	n.f.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(n.data, "replica.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		n.f.t.Fatal(err)
	}
	defer db.Close()
	eventually(n.f.t, "the replica of "+n.name+" "+what, func() bool {
		var text []byte
		var state sqlstore.ReplicaState
		err := db.QueryRowContext(n.f.t.Context(), `SELECT value FROM meta WHERE key = 'replica'`).Scan(&text)
		return err == nil && json.Unmarshal(text, &state) == nil && ok(state.Position)
	})
}

// purgeAnswer is the answer to a purge.
type purgeAnswer struct {
	Entries int
	Nodes   struct{ Confirmed, Pending []string }
}

// purge purges at this node. ok is false if it is not known to be done.
func (n *node) purge(call map[string]any, headers ...string) (out purgeAnswer, ok bool) {
	n.f.t.Helper()
	status, text := n.try(http.MethodPost, "/api/v1/purge", call, headers...)
	if status != http.StatusOK {
		return out, false
	}
	if err := json.Unmarshal(text, &out); err != nil {
		n.f.t.Fatalf("purge: %s", text)
	}
	return out, true
}

// wantNodes checks which nodes have confirmed a purge and which have not.
func wantNodes(t testing.TB, got purgeAnswer, confirmed, pending []string) {
	t.Helper()
	if !slices.Equal(got.Nodes.Confirmed, confirmed) || !slices.Equal(got.Nodes.Pending, pending) {
		t.Errorf("confirmed %v, pending %v; want %v, %v", got.Nodes.Confirmed, got.Nodes.Pending, confirmed, pending)
	}
}
