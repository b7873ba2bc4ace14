package provision

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

const (
	testTTL    = 15 * time.Second // of a lease, after the node that has it stopped
	testMargin = 5 * time.Second  // how much earlier the node itself takes it for lost
)

// testFleet has the nodes of a test and their leases, on the clock of the test.
type testFleet struct {
	clock *fakeClock

	mu     sync.Mutex // guards the fields below
	token  int64
	nodes  []*testNode
	leases map[string]*testLease
	behind func() []string
}

// testNode is a node that renews its leases as long as it was not stopped.
type testNode struct {
	*testFleet

	name, process string
	stopped       time.Time // zero while it runs
	used          map[int64]time.Time
}

type testLease struct {
	alias.Lease

	node  *testNode
	ended bool
	lost  []context.CancelCauseFunc
}

func (f *testFleet) join() *testNode {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := &testNode{testFleet: f, name: fmt.Sprintf("node%d", len(f.nodes)+1), used: map[int64]time.Time{}}
	n.process = n.name + "-process"
	f.nodes = append(f.nodes, n)
	return n
}

// stop makes a node renew no lease any more: it died, or is paused.
func (n *testNode) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped.IsZero() {
		n.stopped = n.clock.Now()
	}
}

// resume continues a paused node, which finds what it has lost.
func (n *testNode) resume() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.leases {
		if l.node == n && !l.validLocked() {
			l.endLocked()
		}
	}
	n.stopped = time.Time{}
}

func (n *testNode) silentFor(d time.Duration) bool {
	return !n.stopped.IsZero() && n.clock.Now().Sub(n.stopped) >= d
}

func (n *testNode) Name() string { return n.name }

func (n *testNode) Try(_ context.Context, name string) (Lease, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.leases[name]; l != nil && !l.ended && !l.node.silentFor(testTTL) {
		return nil, alias.ErrLeased
	} else if l != nil {
		l.endLocked()
	}
	n.token++
	l := &testLease{node: n, Lease: alias.Lease{Name: name, Node: n.name, Process: n.process, Token: n.token}}
	n.leases[name] = l
	return heldLease{l}, nil
}

func (n *testNode) LeaseHolder(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.leases[name]; l != nil && !l.ended && !l.node.silentFor(testTTL) {
		return l.node.name
	}
	return ""
}

func (n *testNode) Behind(context.Context, int64) ([]string, error) {
	n.mu.Lock()
	behind := n.behind
	n.mu.Unlock()
	if behind == nil {
		return nil, nil
	}
	return behind(), nil
}

func (n *testNode) PreviousUsed(id int64) (last time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range n.nodes {
		if other != n {
			last = later(last, other.used[id])
		}
	}
	return last
}

func (n *testNode) UsedPrevious(id int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used[id] = n.clock.Now()
}

func (l *testLease) validLocked() bool { return !l.ended && !l.node.silentFor(testTTL-testMargin) }

func (l *testLease) endLocked() {
	l.ended = true
	for _, cancel := range l.lost {
		cancel(alias.ErrLeaseLost)
	}
}

// heldLease is a testLease for its node.
type heldLease struct{ l *testLease }

func (h heldLease) Lease() alias.Lease { return h.l.Lease }

func (h heldLease) Valid() bool {
	h.l.node.mu.Lock()
	defer h.l.node.mu.Unlock()
	return h.l.validLocked()
}

func (h heldLease) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	h.l.node.mu.Lock()
	defer h.l.node.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	h.l.lost = append(h.l.lost, cancel)
	return ctx, func() { cancel(nil) }
}

func (h heldLease) Release() {
	h.l.node.mu.Lock()
	defer h.l.node.mu.Unlock()
	h.l.ended = true
}

// leasedTx checks leases as a database of a fleet does.
type leasedTx struct {
	alias.Tx

	fleet *testFleet
}

func (t leasedTx) CheckLease(l alias.Lease) error {
	t.fleet.mu.Lock()
	defer t.fleet.mu.Unlock()
	if now := t.fleet.leases[l.Name]; now == nil || now.Token != l.Token || now.ended {
		return fmt.Errorf("%s: %w", l.Name, alias.ErrLeaseLost)
	}
	return nil
}

// withFleet makes the processes that the env starts nodes of a fleet.
func (w *env) withFleet() *testFleet {
	w.fleet = &testFleet{clock: w.clock, leases: map[string]*testLease{}}
	return w.fleet
}

// writesOf are the actions that IAM was asked for by a process and that change something.
func (l *procState) writesOf() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent)
}

// note records a write of IAM that is being sent.
func (l *procState) note(r *http.Request) {
	if r.GetBody == nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return
	}
	body, err := r.GetBody()
	if err != nil {
		return
	}
	text := make([]byte, 1<<16)
	n, _ := body.Read(text)
	values, _ := url.ParseQuery(string(text[:n]))
	action := values.Get("Action")
	if action == "" || strings.HasPrefix(action, "Get") || strings.HasPrefix(action, "List") || strings.HasPrefix(action, "Simulate") {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, action+" "+values.Get("UserName"))
}

func isWrite(c iam.Call) bool {
	reads := strings.HasPrefix(c.Action, "Get") || strings.HasPrefix(c.Action, "List") || strings.HasPrefix(c.Action, "Simulate")
	return c.Service == "iam" && !reads
}

// TestPausedOwner pauses the node that runs an operation in each of its writes of IAM, so that the
// write arrives when another node has taken the operation over: after that has made the same call,
// and after it has ended the operation. The paused node then sends and writes nothing more.
func TestPausedOwner(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			stride := crashStride()
			for i, late := range []bool{false, true} {
				for n := 1 + i%stride; ; n += stride {
					paused := false
					ok := t.Run(fmt.Sprintf("%d late %v", n, late), func(t *testing.T) { paused = s.pauseAt(t, n, late) })
					if !ok || !paused {
						break
					}
				}
			}
		})
	}
}

// pauseAt pauses the owner in its nth write, and reports whether there is one.
func (s scenario) pauseAt(t *testing.T, n int, late bool) (paused bool) {
	w := newEnv(t, iam.Config{Lag: s.lag})
	w.withFleet()
	s.setUp(w.start())
	w.clock.advance(time.Hour)
	a := w.start()
	held := &heldWrite{nth: n, reached: make(chan struct{}), arrive: make(chan struct{}), arrived: make(chan struct{})}
	w.iam.OnCall(held.hold(w.power.AccessKeyID))
	ended := make(chan struct{})
	op, err := s.begin(a, a.proc.ctx)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		a.drive()
	}()
	select {
	case <-held.reached:
	case <-ended:
		return false
	}
	a.proc.node.stop()
	w.clock.advance(testTTL)
	b, before := w.start(), a.proc.writesOf()
	resume := sync.OnceFunc(func() {
		a.proc.node.resume()
		close(held.arrive)
		<-held.arrived
	})
	if !late {
		w.iam.OnCall(held.passBehind(w.power.AccessKeyID, resume))
	}
	b.drive()
	resume()
	<-ended
	w.iam.OnCall(nil)
	done, err := w.store.Operation(t.Context(), op.ID)
	if err != nil || !done.Finished() {
		t.Fatalf("the other node left %+v, %v", done, err)
	}
	if done.Error != nil && done.Error.Code != codeUnknownKeys {
		t.Errorf("the operation failed: %+v", done.Error)
	}
	if sent := a.proc.writesOf(); len(sent) != len(before) {
		t.Errorf("the paused node sent %v after %v", sent[len(before):], before)
	}
	a.look(t.Context())
	if late && s.name == "remove adopted" && held.call.Action == "TagUser" {
		return true // it gives its tags back to a user that ixmage knows nothing of any more
	}
	c := w.start()
	c.quiet()
	w.wantConverged(c, s)
	return true
}

// heldWrite is a write of IAM that a paused node has sent, and that has not arrived.
type heldWrite struct {
	nth                      int
	call                     iam.Call
	reached, arrive, arrived chan struct{}
}

// hold holds the nth write from now on.
func (h *heldWrite) hold(keyID string) func(iam.Call) *iam.Fault {
	var mu sync.Mutex
	seen := 0
	return func(c iam.Call) *iam.Fault {
		if !isWrite(c) || c.AccessKeyID != keyID {
			return nil
		}
		mu.Lock()
		seen++
		n := seen
		mu.Unlock()
		if n != h.nth {
			return nil
		}
		h.call = c
		close(h.reached)
		<-h.arrive
		return &iam.Fault{After: func() { close(h.arrived) }}
	}
}

// passBehind calls resume after the next call that is the same.
func (h *heldWrite) passBehind(keyID string, resume func()) func(iam.Call) *iam.Fault {
	return func(c iam.Call) *iam.Fault {
		if c.AccessKeyID != keyID || c.Action != h.call.Action {
			return nil
		}
		return &iam.Fault{After: resume}
	}
}

// TestNoWriteWithoutLease: no call that changes IAM is sent without a lease.
func TestNoWriteWithoutLease(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.withFleet()
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	before := p.proc.writesOf()
	by := caller{p: p.Provisioner, actor: actor, credential: "shop"}
	for name, ctx := range map[string]func(context.Context, func(context.Context) error) error{
		"none": func(ctx context.Context, fn func(context.Context) error) error { return fn(ctx) },
		"lost": func(ctx context.Context, fn func(context.Context) error) error {
			return p.locked(ctx, credentialLock("shop"), func(ctx context.Context) error {
				p.proc.node.stop()
				w.clock.advance(testTTL - testMargin)
				return fn(ctx)
			})
		},
	} {
		err := ctx(t.Context(), func(ctx context.Context) error { return by.deleteKey(ctx, prov.User.Name, prov.AccessKeyID) })
		if !errors.Is(err, alias.ErrLeaseLost) {
			t.Errorf("%s: got %v, want ErrLeaseLost", name, err)
		}
	}
	if sent := p.proc.writesOf(); len(sent) != len(before) {
		t.Errorf("sent %v", sent[len(before):])
	}
}
