package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

func (n *testNode) Try(_ context.Context, name string) (Lease, error) { //nolint:ireturn // as Fleet has it
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

// noteSteps adds what the steps of the last operation on a credential say now, as "step: detail".
func (w *env) noteSteps(credential alias.Name, details map[string]bool) {
	filter := alias.OperationFilter{Credential: credential, Limit: 1}
	if list, err := w.store.Operations(w.t.Context(), filter); err == nil {
		for _, s := range list[0].Steps {
			details[s.Name+": "+s.Detail] = true
		}
	}
}

// writesOf are the actions that IAM was asked for by a process and that change something.
func (l *procState) writesOf() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent)
}

func (l *procState) setSending(fn func(action string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sending = fn
}

// iamVersion is that of the API of IAM; STS has another one.
const iamVersion = "Version=2010-05-08"

// note records a write of IAM that is being sent.
func (l *procState) note(r *http.Request) {
	if r.Body == nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return
	}
	text, err := io.ReadAll(r.Body)
	r.Body.Close()
	r.Body = io.NopCloser(bytes.NewReader(text))
	values, badQuery := url.ParseQuery(string(text))
	action := values.Get("Action")
	if err != nil || badQuery != nil || !strings.Contains(string(text), iamVersion) || strings.HasPrefix(action, "Get") || strings.HasPrefix(action, "List") || strings.HasPrefix(action, "Simulate") {
		return
	}
	l.mu.Lock()
	l.sent = append(l.sent, action+" "+values.Get("UserName"))
	if held := leasesOf(r.Context()); l.acted != nil && len(held) > 0 {
		l.acted(values.Get("UserName"), held[0].Lease())
	}
	sending := l.sending
	l.mu.Unlock()
	if sending != nil {
		sending(action)
	}
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
			stride := crashStride(t)
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

// pending begins the provisioning of an alias at a process, and has nothing run it.
func (p *process) pending(name alias.Name) *alias.Operation {
	p.w.t.Helper()
	op, err := p.Provision(p.w.t.Context(), actor, p.w.request(name))
	if err != nil {
		p.w.t.Fatal(err)
	}
	return op
}

// startRunning runs startAll once, and waits for what it has started.
func (p *process) startRunning() {
	p.w.t.Helper()
	var tasks sync.WaitGroup
	if err := p.startAll(p.proc.ctx, &tasks); err != nil && p.proc.ctx.Err() == nil {
		p.w.t.Error(err)
	}
	tasks.Wait()
}

// TestTakeOver: the operation of a node that dies is run by another one within 30 seconds, and first
// raises the generation of the user. Before that the other one does not touch it.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.withFleet()
	a := w.start()
	hasShop(alias.PolicyInline)(a)
	held := &heldWrite{nth: 3, reached: make(chan struct{}), arrive: make(chan struct{}), arrived: make(chan struct{})}
	w.iam.OnCall(held.hold(w.power.AccessKeyID))
	op, err := a.Provision(t.Context(), actor, w.request("blog"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.startRunning()
	}()
	<-held.reached
	w.iam.OnCall(nil)
	b := w.start()
	for range 5 {
		w.clock.advance(b.cfg.Timing.Look)
		b.startRunning()
	}
	if sent := b.proc.writesOf(); len(sent) > 0 {
		t.Fatalf("the node sent %v while another one has the operation", sent)
	}
	a.proc.kill()
	died, first := w.clock.Now(), time.Time{}
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if first.IsZero() && isWrite(c) {
			first = w.clock.Now()
		}
		return nil
	})
	for range 7 {
		w.clock.advance(b.cfg.Timing.Look)
		b.startRunning()
	}
	close(held.arrive)
	<-ended
	if first.IsZero() || first.Sub(died) > 30*time.Second {
		t.Errorf("taken over %s after the death, want at most 30s", first.Sub(died))
	}
	if sent := b.proc.writesOf(); len(sent) == 0 || !strings.HasPrefix(sent[0], "TagUser ") {
		t.Errorf("the node sent %v, want a new generation first", sent)
	}
	done, err := w.store.Operation(t.Context(), op.ID)
	if err != nil || done.State != alias.OperationDone {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestFirstTry: the node that was asked for an operation begins it at once, and the others leave
// that to it for a moment.
func TestFirstTry(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.withFleet()
	a := w.start()
	a.pending("shop")
	b := w.start()
	if b.startRunning(); len(b.proc.writesOf()) > 0 {
		t.Error("another node began the operation at once")
	}
	if a.startRunning(); len(a.proc.writesOf()) == 0 {
		t.Error("the node did not begin the operation that it was asked for")
	}
	a.pending("blog")
	w.clock.advance(b.cfg.Timing.Look)
	if b.startRunning(); len(b.proc.writesOf()) == 0 {
		t.Error("another node did not begin an operation that nobody runs")
	}
}

// TestOneOwner: two nodes that look for operations at the same time never work on one user at once.
func TestOneOwner(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.withFleet()
	a := w.start()
	for _, name := range sequenceNames {
		a.pending(name)
	}
	b := w.start()
	w.clock.advance(time.Minute)
	var both sync.WaitGroup
	for _, p := range []*process{a, b} {
		both.Go(p.startRunning)
	}
	both.Wait()
	owner := map[string]string{}
	for _, p := range []*process{a, b} {
		for _, sent := range p.proc.writesOf() {
			_, user, _ := strings.Cut(sent, " ")
			if owner[user] == "" {
				owner[user] = p.proc.node.name
			}
			if owner[user] != p.proc.node.name {
				t.Errorf("both nodes sent calls about %s", user)
			}
		}
	}
	if len(owner) != len(sequenceNames) {
		t.Errorf("users %v, want one for each of %v", owner, sequenceNames)
	}
	w.wantSound(w.start(), sequenceNames...)
}

// TestRetirementWaits: a rotation keeps the previous key active until every node has applied the
// swap, and says for which it waits. Neither the wait nor its length makes it fail.
func TestRetirementWaits(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	f := w.withFleet()
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, before := p.provisioned("shop")
	began, details := w.clock.Now(), map[string]bool{}
	const away = 4 * time.Hour
	f.behind = func() []string {
		for _, k := range w.iam.Keys(before.User.Name) {
			if k.ID == before.AccessKeyID && !k.Active {
				t.Error("the previous key is inactive while a node may sign with it")
			}
		}
		w.noteSteps("shop", details)
		switch since := w.clock.Now().Sub(began); {
		case since < away/2:
			return []string{"b", "c", p.proc.node.name}
		case since < away:
			return []string{"b"}
		}
		return nil
	}
	op := p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	if took := op.FinishedAt.Sub(op.CreatedAt); took < away {
		t.Errorf("the rotation took %s, want more than the %s that a node was away", took, away)
	}
	for _, want := range []string{"soak: " + awaitNodes([]string{"b", "c"}, "the new key", "the previous one"), "soak: " + awaitNodes([]string{"b"}, "the new key", "the previous one")} {
		if !details[want] {
			t.Errorf("no step said %q", want)
		}
	}
	if _, now := p.provisioned("shop"); now.AccessKeyID == before.AccessKeyID || now.Previous != nil {
		t.Errorf("keys after the rotation: %+v", now)
	}
}

// TestRetirementCountsOtherNodes: a use of the previous key on another node prolongs the soak.
func TestRetirementCountsOtherNodes(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.withFleet()
	p, other := w.start(), w.start()
	hasShop(alias.PolicyInline)(p)
	c, _ := p.provisioned("shop")
	w.clock.advance(time.Hour)
	w.edit = nil
	used := false
	w.iam.OnCall(func(iam.Call) *iam.Fault {
		if _, prov := p.provisioned("shop"); prov.Previous != nil && !used {
			used = true
			w.clock.advance(awsTiming().Soak - time.Second)
			other.PreviousKeyUsed(c.ID)
		}
		return nil
	})
	op := p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	if took := op.FinishedAt.Sub(op.CreatedAt); !used || took < awsTiming().Soak+awsTiming().Quiet+awsTiming().SoakInactive-time.Second {
		t.Errorf("the rotation took %s; a use on another node was not counted", took)
	}
}

// TestEmergencyDoesNotWait: an emergency makes the leaked key inactive at once.
func TestEmergencyDoesNotWait(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	f := w.withFleet()
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, before := p.provisioned("shop")
	f.behind = func() []string { t.Error("an emergency asked for the nodes"); return []string{"b"} }
	w.wantEmergency(p, p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true)), before.AccessKeyID)
}

// blockingClock does not let a wait of a minute end before its context.
type blockingClock struct {
	*fakeClock
	waiting chan struct{}
}

func (c *blockingClock) Sleep(ctx context.Context, d time.Duration) error {
	if d < time.Minute {
		return c.fakeClock.Sleep(ctx, d)
	}
	c.waiting <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// TestSupersededByAnotherNode: an emergency that another node was asked for ends the wait of a
// rotation at once.
func TestSupersededByAnotherNode(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.withFleet()
	hasShop(alias.PolicyInline)(w.start())
	clock := &blockingClock{w.clock, make(chan struct{})}
	w.edit = func(cfg *Config) { cfg.Clock = clock }
	a := w.start()
	w.edit = nil
	rotation, err := a.Rotate(t.Context(), actor, "shop", false)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.startRunning()
	}()
	<-clock.waiting // in the soak
	b := w.start()
	_, before := b.provisioned("shop")
	op, err := b.Rotate(t.Context(), actor, "shop", true)
	if err != nil {
		t.Fatal(err)
	}
	b.startRunning() // another node has the lease
	a.follow(alias.Change{Operation: "shop"})
	<-ended
	done, err := w.store.Operation(t.Context(), op.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.wantEmergency(w.start(), done, before.AccessKeyID, before.Previous.AccessKeyID)
	w.wantSuperseded(rotation.ID, op.ID)
	if sent := b.proc.writesOf(); len(sent) > 0 {
		t.Errorf("the other node sent %v", sent)
	}
}

// TestWaitOnAnotherNode: a client that waits at another node learns of each step and of the end.
func TestWaitOnAnotherNode(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.withFleet()
	a := w.start()
	op := a.pending("shop")
	b := w.start()
	woken := make(chan *alias.Operation)
	go func() {
		o, err := b.Watch(t.Context(), op.ID, op.Revision)
		if err != nil {
			t.Error(err)
		}
		woken <- o
		if o, err = b.Wait(t.Context(), op.ID); err != nil {
			t.Error(err)
		}
		woken <- o
	}()
	a.drive()
	for {
		select {
		case o := <-woken:
			if o.Revision <= op.Revision {
				t.Errorf("revision %d, want more than %d", o.Revision, op.Revision)
			}
			if o = <-woken; o.State != alias.OperationDone {
				t.Errorf("%+v", o)
			}
			return
		default:
			b.follow(alias.Change{Operation: "shop"})
		}
	}
}

// TestAlone: a background task runs on one node, and on another one when that has died.
func TestAlone(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.withFleet()
	a, b := w.start(), w.start()
	began := make(chan string)
	run := func(p *process) {
		p.alone(p.proc.ctx, leaseSchedule, func(ctx context.Context) {
			began <- p.proc.node.name
			<-ctx.Done()
		})
	}
	var both sync.WaitGroup
	both.Go(func() { run(a) })
	first, second := a, b
	if name := <-began; name != "node1" {
		t.Fatalf("%s runs the task", name)
	}
	if b.hasOther(leaseSchedule) != true || a.hasOther(leaseSchedule) {
		t.Error("the nodes do not know which of them has the lease")
	}
	both.Go(func() { run(b) }) // the clock runs while it waits
	first.proc.kill()
	if name := <-began; name != second.proc.node.name {
		t.Fatalf("%s runs the task", name)
	}
	b.proc.kill()
	both.Wait()
}

// TestReportOfOrphans: the report is the same on every node and after a restart, and an edit by any of
// them is seen by all.
func TestReportOfOrphans(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.withFleet()
	a, b := w.start(), w.start()
	w.addForeign()
	ctx := t.Context()
	a.alone(a.proc.ctx, leaseReconcile, func(ctx context.Context) { a.reconcile(ctx); a.proc.kill() })
	for name, p := range map[string]*process{"another node": b, "restarted": w.start()} {
		report, err := p.Orphans(ctx)
		if err != nil || report.ScannedAt.IsZero() || len(report.Orphans) != 1 || report.Orphans[0].User != "bob" {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
	}
	b.editReport(ctx, func(r *OrphanReport) { r.removed("", "bob") })
	if report, err := w.start().Orphans(ctx); err != nil || report.Orphans[0].State != stateDeleted {
		t.Errorf("after an edit: %+v, %v", report, err)
	}
}
