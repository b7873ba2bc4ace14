package provision

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/fleet"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/postgres"
)

// realFleet are nodes that share a real database, by the clock of the machine.
type realFleet struct {
	*env

	db *postgres.Server
	at string // URL of the database

	mu   sync.Mutex             // guards the fields below
	last map[string]alias.Lease // with which a call about a user was sent last
}

// realNode is a node of a real fleet, which runs operations until its test ends.
type realNode struct {
	*process

	node *fleet.Node
	line *netfault.Proxy // to the database
	stop func()
}

// fleetLease adapts a node as the program does.
type fleetLease struct{ *fleet.Node }

func (f fleetLease) Try(ctx context.Context, name string) (Lease, error) { //nolint:ireturn // as Fleet has it
	held, err := f.Node.Try(ctx, name)
	if err != nil {
		return nil, err
	}
	return held, nil
}

func newRealFleet(t *testing.T) *realFleet {
	t.Helper()
	f := &realFleet{db: postgres.Shared(t), last: map[string]alias.Lease{}}
	f.at = f.db.Database(t)
	f.env = newEnv(t, iam.Config{})
	f.clock.real = true
	return f
}

// start starts a node.
func (f *realFleet) start(name string) *realNode {
	f.t.Helper()
	at, err := url.Parse(f.at)
	if err != nil {
		f.t.Fatal(err)
	}
	n := &realNode{line: netfault.New(f.t, at.Host)}
	at.Host = n.line.Addr
	// Leases last as long as those of the program: the machine may be busy.
	n.node, err = fleet.Open(f.t.Context(), fleet.Config{URL: at.String(), Dir: f.t.TempDir(), Name: name, Every: 500 * time.Millisecond})
	if err != nil {
		f.t.Fatal(err)
	}
	registry, err := alias.OpenReplica(f.t.Context(), n.node.Store(), n.node.Replica(),
		alias.Options{Sealer: f.seal, Policy: alias.Policy{AllowPrivateEndpoints: true}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.store, f.edit = n.node.Store(), func(cfg *Config) {
		cfg.Registry, cfg.Clock, cfg.Fleet = registry, SystemClock{}, fleetLease{n.node}
		cfg.Timing = Timing{
			Visible: time.Minute, VerifyBudget: time.Minute, VerifyEvery: time.Millisecond,
			PreviousKey: 300 * time.Millisecond, Soak: 300 * time.Millisecond, Quiet: 100 * time.Millisecond,
			SoakInactive: 100 * time.Millisecond, Refused: time.Minute, RefusedEvery: time.Millisecond,
			ConfirmGap: 10 * time.Millisecond, Reconcile: time.Hour, OrphanAge: time.Hour, KeyAge: 24 * time.Hour,
			RotateGap: time.Millisecond, Look: 100 * time.Millisecond,
		}
	}
	n.process = f.env.start()
	n.registry, n.proc.acted = registry, f.act
	if err := n.node.Start(f.t.Context(), registry, nil); err != nil {
		f.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := n.Run(n.proc.ctx); err != nil {
			f.t.Error(err)
		}
	}()
	n.stop = sync.OnceFunc(func() {
		n.proc.cancel()
		<-ended
		n.node.Close(context.WithoutCancel(f.t.Context()))
	})
	f.t.Cleanup(n.stop)
	return n
}

func (n *realNode) wait(id string) *alias.Operation {
	n.w.t.Helper()
	o, err := n.Wait(n.w.t.Context(), id)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return o
}

// TestRealFleet: three nodes on one database. Each is asked for an operation, and answers for that of
// another; a node that is cut off from the database in the middle of a rotation sends nothing more,
// and another one ends the rotation, but keeps the previous key until the node is back.
func TestRealFleet(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("SKIPPED with -short: it takes a minute")
	}
	f := newRealFleet(t)
	a, b, c := f.start("a"), f.start("b"), f.start("c")
	var ids []string
	for name, n := range map[alias.Name]*realNode{"shop": a, "blog": b, "docs": c} {
		op, err := n.Provision(t.Context(), actor, f.request(name))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, op.ID)
	}
	for _, id := range ids {
		if o := b.wait(id); o.State != alias.OperationDone {
			t.Fatalf("%+v", o.Error)
		}
	}
	if len(f.last) < len(ids) {
		t.Errorf("calls about %d users, want %d", len(f.last), len(ids))
	}

	// The call that makes the key is on its way when a is cut off, and arrives late.
	reached, arrive := a.holdKey()
	op, err := a.Rotate(t.Context(), actor, "shop", false)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan *alias.Operation, 1)
	go func() { ended <- c.wait(op.ID) }()
	select {
	case <-reached:
	case <-ended:
		close(arrive)
		t.Skip("the machine is so busy that another node has taken the rotation over")
	}
	before := len(a.proc.writesOf())
	if err := a.line.Set(netfault.Refuse()); err != nil {
		t.Fatal(err)
	}
	for after := op.Revision; ; { // until it waits for a
		o, err := b.Watch(t.Context(), op.ID, after)
		if err != nil || o.Finished() {
			t.Fatalf("%+v, %v", o, err)
		}
		if after = o.Revision; o.Steps[4].Name == stepSoak && strings.Contains(o.Steps[4].Detail, "the node a has not") {
			break
		}
	}
	close(arrive)
	_, prov := b.provisioned("shop")
	if !isActiveKey(f.iam.Keys(prov.User.Name), prov.Previous.AccessKeyID) {
		t.Errorf("the previous key %s is not active while a node may sign with it", prov.Previous.AccessKeyID)
	}
	if err := a.line.Set(netfault.Pass()); err != nil {
		t.Fatal(err)
	}
	if o := <-ended; o.State != alias.OperationDone {
		t.Errorf("%+v", o.Error)
	}
	if sent := a.proc.writesOf(); len(sent) != before {
		t.Errorf("the node that was cut off sent %v after the call that was on its way", sent[before:])
	}

	// A node that is gone for good is removed by an operator.
	a.line.Close()
	if op, err = b.Rotate(t.Context(), actor, "blog", false); err != nil {
		t.Fatal(err)
	}
	for after := op.Revision; ; {
		o, err := c.Watch(t.Context(), op.ID, after)
		if err != nil || o.Finished() {
			t.Fatalf("%+v, %v", o, err)
		}
		if after = o.Revision; strings.Contains(o.Steps[4].Detail, "ixmage node rm a") {
			break
		}
	}
	for b.node.Remove(t.Context(), "a") != nil { // it counts as live for a moment
		if err := (SystemClock{}).Sleep(t.Context(), 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if o := c.wait(op.ID); o.State != alias.OperationDone {
		t.Errorf("%+v", o.Error)
	}
}

// holdKey holds the first call of a node that makes a key, until arrive is closed.
func (n *realNode) holdKey() (reached <-chan struct{}, arrive chan<- struct{}) {
	in, out := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(in) })
	n.proc.setSending(func(action string) {
		if action == "CreateAccessKey" {
			once()
			<-out
		}
	})
	return in, out
}

func isActiveKey(keys []iam.Key, id string) bool {
	for _, k := range keys {
		if k.ID == id {
			return k.Active
		}
	}
	return false
}

// act wants no call about a user to be sent under a lease when one was sent under a newer one.
func (f *realFleet) act(user string, l alias.Lease) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := f.last[user]; l.Token < last.Token {
		f.t.Errorf("%s acted on %s with the lease %d after %s with the lease %d", l.Node, user, l.Token, last.Node, last.Token)
	}
	f.last[user] = l
}
