package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/postgres"
	"ixmage/internal/awstest/s3"
)

// The parts of TestFleetChaos that run at the same time. Each plays a sequence of its own, which
// depends on the seed alone.
const (
	chaosWriters   = 3 // each changes aliases on the real S3 server
	chaosOperators = 2 // each has a user in IAM made, rotated and removed
)

// chaosLease is short, so that many leases end. The model takes a live node that is silent for one that
// does not live.
const chaosLease = 4 * time.Second

// TestFleetChaos has three nodes do random alias changes, purges, provisionings, rotations,
// emergencies and removals, while nodes and PostgreSQL are killed, paused and separated at random
// moments and clients request pictures of every node. A model outside the program says what may be
// seen: see chaosPlace, chaosUser and watchOwners. IXMAGE_CHAOS is the number of actions and
// IXMAGE_CHAOS_SEED the seed.
func TestFleetChaos(t *testing.T) {
	t.Parallel()
	skipShort(t)
	actions, seed := 24, uint64(time.Now().UnixNano())
	if n, err := strconv.Atoi(os.Getenv("IXMAGE_CHAOS")); err == nil {
		actions = n
	}
	if n, err := strconv.ParseUint(os.Getenv("IXMAGE_CHAOS_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("seed %d: IXMAGE_CHAOS=%d IXMAGE_CHAOS_SEED=%d", seed, actions, seed)
	c := newChaos(t)
	var workers, others sync.WaitGroup
	stop := make(chan struct{})
	for i, w := range c.writers {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		workers.Go(func() {
			for range actions * 4 / 5 / chaosWriters {
				w.act(rng)
			}
		})
	}
	for i, u := range c.users {
		rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
		workers.Go(func() {
			for range actions / 5 / chaosOperators {
				u.act(rng)
			}
		})
	}
	for _, n := range c.nodes {
		others.Go(func() { c.read(n, stop) })
	}
	others.Go(func() { c.disturb(rand.New(rand.NewPCG(seed, 200)), stop) })
	workers.Wait()
	close(stop)
	others.Wait()
	c.calm()
	c.end()
	t.Logf("%d actions (%d refused or lost), %d disturbances, %d pictures (%d from disk), %d purges of %d confirmations, %d operations with %d changes of users",
		c.acts.Load(), c.lost.Load(), c.disturbances, c.pictures.Load(), c.fromDisk.Load(), c.purges.Load(), c.confirmations.Load(), c.operations.Load(), c.changes.Load())
}

// chaos is a fleet with the model of what it has been told.
type chaos struct {
	*fleetEnv

	db      *postgres.Server
	iam     *iam.Server
	keys    map[string]string // of nodes in IAM: their names
	writers []*chaosPlace
	users   []*chaosUser

	disturbances                                                               int
	acts, lost, pictures, fromDisk, purges, confirmations, operations, changes atomic.Int64
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	gw := realS3(t)
	c := &chaos{db: postgres.Start(t, postgres.Options{}), iam: iam.New(t, iam.Config{}), keys: map[string]string{}}
	c.fleetEnv = newFleet(t, c.db.Database(t), nil, slices.Concat(quickWaits, fleetDisk, []string{
		"--provision", "--iam-endpoint", c.iam.URL, "--provision-buckets", "prov-*", "--log-level", "info",
		"--reconcile-interval", "3s", "--node-lease", chaosLease.String(),
	})...)
	for _, name := range abc {
		n, pair := c.add(name), c.iam.AddUser("/", "node-"+name, everything)
		n.env = []string{"AWS_ACCESS_KEY_ID=" + pair.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + pair.SecretAccessKey.Reveal()}
		c.keys[pair.AccessKeyID] = name
		n.start()
	}
	c.each((*node).filled)
	c.watchOwners()
	bucket := unique("chaos")
	if err := gw.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	pair, err := gw.ReadOnlyUser(t.Context(), bucket, bucket, "")
	if err != nil {
		t.Fatal(err)
	}
	for i := range chaosWriters {
		w := &chaosPlace{c: c, gw: gw, bucket: bucket, name: fmt.Sprintf("place%d", i), pair: pair}
		w.begin()
		c.writers = append(c.writers, w)
	}
	c.iam.CreateBucket("prov-chaos")
	for i := range chaosOperators {
		u := &chaosUser{c: c, name: fmt.Sprintf("user%d", i), sure: map[string]bool{}}
		u.body = png(4000, u.name)
		for _, key := range []string{u.name + "/a.png", "private/p.png"} {
			c.iam.PutObject("prov-chaos", key, s3.Object{Body: u.body, ContentType: "image/png"})
		}
		c.users = append(c.users, u)
	}
	return c
}

// any is a node by a number of the sequence.
func (c *chaos) any(rng *rand.Rand) *node { return c.nodes[rng.IntN(len(c.nodes))] }

// impatient gives up on a node that is paused.
var impatient = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// call calls the admin API of a node, and reports an answer that a fleet in trouble does not give.
func (c *chaos) call(n *node, method, path string, body map[string]any) (int, string) {
	c.acts.Add(1)
	var in any
	if body != nil {
		in = body
	}
	status, text := n.tryWith(impatient, method, path, in)
	if status == 0 || status == http.StatusServiceUnavailable {
		c.lost.Add(1)
	}
	if status == http.StatusInternalServerError {
		c.t.Errorf("%s %s at %s: %d %s", method, path, n.name, status, text)
	}
	return status, string(text)
}

// read requests every picture of a node until stop.
func (c *chaos) read(n *node, stop <-chan struct{}) {
	for {
		for _, w := range c.writers {
			w.read(n)
		}
		for _, u := range c.users {
			u.read(n)
		}
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// disturb breaks one thing after the other until stop.
func (c *chaos) disturb(rng *rand.Rand, stop <-chan struct{}) {
	for {
		gap := time.Duration(rng.IntN(3000)) * time.Millisecond
		kind, n := rng.IntN(10), c.any(rng)
		length := time.Duration(rng.IntN(3000)) * time.Millisecond
		if rng.IntN(4) == 0 {
			length += chaosLease
		}
		select {
		case <-stop:
			return
		case <-time.After(gap):
		}
		c.disturbances++
		c.break1(kind, n, length)
	}
}

// break1 breaks a node or the database for a time.
func (c *chaos) break1(kind int, n *node, length time.Duration) {
	wait := func() { time.Sleep(length) } //nolint:forbidigo // the length of the disturbance is the test's input
	switch kind {
	case 0, 1, 2:
		c.t.Logf("%s kill %s for %s", stamp(), n.name, length)
		n.kill()
		for _, u := range c.users {
			u.unsure(n)
		}
		if kind > 0 {
			wait()
		}
		n.start()
	case 3, 4:
		c.t.Logf("%s pause %s for %s", stamp(), n.name, length)
		n.pause()
		wait()
		n.resume()
	case 5:
		c.t.Logf("%s partition %s for %s", stamp(), n.name, length)
		n.partition()
		wait()
		n.heal()
	case 6:
		c.t.Logf("%s silence %s for %s", stamp(), n.name, length)
		n.silence()
		wait()
		n.heal()
	case 7:
		c.t.Logf("%s kill PostgreSQL for %s", stamp(), length)
		c.db.Kill()
		if length > 2*time.Second { // a node starts from its replica
			n.restart()
			for _, u := range c.users {
				u.unsure(n)
			}
		}
		wait()
		c.db.Restart(c.t)
	case 8:
		c.t.Logf("%s pause PostgreSQL for %s", stamp(), length)
		c.db.Pause()
		wait()
		c.db.Resume()
	default:
		c.t.Logf("%s restart PostgreSQL", stamp())
		if err := c.db.Stop(); err != nil {
			c.t.Error(err)
		}
		c.db.Restart(c.t)
	}
}

func stamp() string { return time.Now().UTC().Format("15:04:05.000") }

// calm waits until every node has every change and no operation runs.
func (c *chaos) calm() {
	c.t.Helper()
	c.caughtUp(c.nodes...)
	eventually(c.t, "all operations end", func() bool {
		status, text := c.nodes[0].try(http.MethodGet, "/api/v1/operations?state=running", nil)
		return status == http.StatusOK && !strings.Contains(string(text), `"state":"running"`)
	})
	c.caughtUp(c.nodes...)
}

// end checks the final state of the model, and removes what was made.
func (c *chaos) end() {
	c.t.Helper()
	for _, w := range c.writers {
		w.compare()
	}
	for _, u := range c.users {
		u.remove()
	}
	users := slices.DeleteFunc(c.iam.Users(), func(u iam.User) bool { return strings.HasPrefix(u.Name, "node-") })
	policies := c.iam.Policies()
	if len(users)+len(policies) > 0 || len(c.iam.Keys("")) != len(c.nodes) {
		c.t.Errorf("left in IAM: users %+v, policies %+v, keys %+v", users, policies, c.iam.Keys(""))
	}
	rows := c.db.Exec(c.t, postgres.Name(c.t, c.url), `SELECT name, kind, state FROM credentials WHERE kind = 'provisioned'`)
	if len(rows) > 0 {
		c.t.Errorf("left in the database: %v", rows)
	}
	for _, n := range c.nodes {
		if bad := lineOf(n.history(), "panic"); bad != "" {
			c.t.Errorf("node %s: %s", n.name, bad)
		}
	}
}

// watchOwners checks the calls to IAM: while a call that changes a user runs, no other node makes
// one for the same user.
func (c *chaos) watchOwners() {
	var mu sync.Mutex
	running := map[string][]string{} // by user: nodes with a call under way
	c.iam.OnCall(func(call iam.Call) *iam.Fault {
		user, node := call.Params.Get("UserName"), c.keys[call.AccessKeyID]
		reads := strings.HasPrefix(call.Action, "Get") || strings.HasPrefix(call.Action, "List") || strings.HasPrefix(call.Action, "Simulate")
		if call.Service != "iam" || node == "" || user == "" || reads {
			return nil
		}
		c.changes.Add(1)
		enter := func() {
			mu.Lock()
			defer mu.Unlock()
			for _, other := range running[user] {
				if other != node {
					c.t.Errorf("%s node %s calls %s for %s while a call of node %s runs", stamp(), node, call.Action, user, other)
				}
			}
			running[user] = append(running[user], node)
		}
		leave := func() {
			mu.Lock()
			defer mu.Unlock()
			running[user] = slices.Delete(running[user], 0, 1)
		}
		return &iam.Fault{Before: enter, After: func() {
			<-time.After(20 * time.Millisecond) // as long as a real call takes
			leave()
		}}
	})
}
