package provision

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore/sqltest"
	"ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
)

// fakeClock advances only by calls of Sleep and advance.
type fakeClock struct {
	mu  sync.Mutex // guards now
	now time.Time

	real bool // it is the clock of the machine
}

func (c *fakeClock) Now() time.Time {
	if c.real {
		return time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	c.advance(d)
	return ctx.Err()
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(max(d, 0))
}

var errCrash = errors.New("crashed")

// procState is the state of a process, which kill ends: no later call or write has an
// effect.
type procState struct {
	ctx    context.Context //nolint:containedctx // the process's own
	cancel context.CancelFunc
	killed atomic.Bool
	node   *testNode // nil without a fleet

	mu   sync.Mutex // guards sent
	sent []string   // writes of IAM
	// acted, if set, is called with the user and the lease of each.
	acted func(user string, l alias.Lease)
	// sending, if set, is called with the action of each before it is sent.
	sending func(action string)
}

func newProcState(t *testing.T) *procState {
	l := &procState{}
	l.ctx, l.cancel = context.WithCancel(t.Context())
	t.Cleanup(l.cancel)
	return l
}

func (l *procState) kill() {
	l.killed.Store(true)
	if l.node != nil {
		l.node.stop()
	}
	l.cancel()
}

// RoundTrip keeps a killed process from sending.
func (l *procState) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.killed.Load() {
		return nil, errCrash
	}
	l.note(r)
	return http.DefaultTransport.RoundTrip(r)
}

// killableStore is a store that can kill its process at a write: before the write, or
// after it and before the process learns the result.
type killableStore struct {
	alias.Store
	proc   *procState
	mu     sync.Mutex // guards writes
	writes int
	at     int // number of the write; 0: never
	after  bool
}

func (m *killableStore) Update(ctx context.Context, fn func(alias.Tx) error) error {
	if m.proc.killed.Load() {
		return errCrash
	}
	if node := m.proc.node; node != nil {
		own := fn
		fn = func(tx alias.Tx) error { return own(leasedTx{tx, node.testFleet}) }
	}
	if !m.due() {
		return m.Store.Update(ctx, fn)
	}
	if m.after {
		_ = m.Store.Update(context.WithoutCancel(ctx), fn)
	}
	m.proc.kill()
	return errCrash
}

// due counts a write and reports whether it kills the process.
func (m *killableStore) due() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	return m.writes == m.at
}

// env is an account and a database, with a provisioner that can be restarted.
type env struct {
	dir   string
	t     *testing.T
	clock *fakeClock
	iam   *iam.Server
	store alias.Store
	seal  alias.Sealer
	power alias.KeyPair // the key of the provisioner
	edit  func(*Config)
	fleet *testFleet // nil: each process is alone
}

const (
	testInstall = "here"
	testBucket  = "media"
)

func newEnv(t *testing.T, cfg iam.Config) *env {
	t.Helper()
	dir := quickDir(t)
	store := sqltest.Open(t, filepath.Join(dir, "registry.db"))
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: dir, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &env{dir: dir, t: t, clock: &fakeClock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, store: store, seal: keys}
	cfg.Now = w.clock.Now
	w.iam = iam.New(t, cfg)
	w.power = w.iam.Root
	t.Cleanup(func() { called.add(w) })
	w.iam.CreateBucket(testBucket)
	for _, key := range []string{"web/a.png", "web/b.png", "blog/a.png", "private/p.png"} {
		w.iam.PutObject(testBucket, key, fakes3.Object{Body: []byte("picture " + key), ContentType: "image/png"})
	}
	return w
}

// quickDir is a folder in memory if the machine has one. These tests write much and do
// not need durability.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ixmage-test-") //nolint:usetesting // t.TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// process is a provisioner that was started.
type process struct {
	*Provisioner
	w        *env
	proc     *procState
	store    *killableStore
	registry *alias.Registry
	rec      *recorder
}

// report is the report of orphans in the registry, without the keys that were found since.
func (p *process) report() OrphanReport {
	p.w.t.Helper()
	text, err := p.store.Meta(context.WithoutCancel(p.w.t.Context()), metaOrphans)
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		p.w.t.Fatal(err)
	}
	report, err := readReport(text)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return report
}

// provisioned is a credential as the registry has it.
func (p *process) provisioned(name alias.Name) (*alias.Credential, *alias.Provisioned) {
	p.w.t.Helper()
	c, err := p.registry.Credential(p.w.t.Context(), name)
	if err != nil {
		p.w.t.Fatal(err)
	}
	prov, ok := c.Provisioned()
	if !ok {
		p.w.t.Fatalf("credential %s is of kind %s", name, c.Provider.Kind())
	}
	return c, prov
}

func (p *process) deleteAlias(name alias.Name) {
	p.w.t.Helper()
	if err := p.registry.DeleteAlias(p.w.t.Context(), name, 0); err != nil {
		p.w.t.Fatal(err)
	}
}

// mustFail begins an operation that must fail, and returns why it did.
func (p *process) mustFail(op *alias.Operation, err error) *alias.OperationError {
	p.w.t.Helper()
	done := p.do(op, err)
	if done.State != alias.OperationFailed {
		p.w.t.Fatalf("%s: %s, want failed", done.Kind, done.State)
	}
	return done.Error
}

// wantCode wants an operation to have failed for a reason.
func wantCode(t *testing.T, why *alias.OperationError, code string) {
	t.Helper()
	if why.Code != code {
		t.Errorf("failed with %+v, want %s", why, code)
	}
}

// deny refuses actions of IAM to every caller.
func (w *env) deny(actions ...string) {
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if slices.Contains(actions, c.Action) {
			return iam.Fail("AccessDenied")
		}
		return nil
	})
}

func (w *env) start() *process {
	w.t.Helper()
	l := newProcState(w.t)
	store := &killableStore{Store: w.store, proc: l}
	registry, err := alias.Open(w.t.Context(), store, w.seal, alias.Policy{AllowPrivateEndpoints: true})
	if err != nil {
		w.t.Fatal(err)
	}
	store.writes = 0
	client := &http.Client{Transport: l}
	base := aws.Config{
		Region: "us-east-1", HTTPClient: client,
		Credentials: credentials.NewStaticCredentialsProvider(w.power.AccessKeyID, w.power.SecretAccessKey.Reveal(), ""),
	}
	clients := newAWS(base, Endpoints{IAM: w.iam.URL}, time.Millisecond)
	rec := &recorder{}
	cfg := Config{
		Registry: registry, AWS: clients, Probes: clients, InstallID: testInstall, Buckets: []string{testBucket},
		IAMEndpoint: w.iam.URL, Timing: awsTiming(), Clock: w.clock, Recorder: rec, AllowWideScope: true,
		S3: func(at alias.Location, kp alias.KeyPair) *s3.Client {
			return s3.New(s3.Options{
				Region: at.Region, BaseEndpoint: aws.String(at.Endpoint), UsePathStyle: at.PathStyle, HTTPClient: client,
				Retryer:     aws.NopRetryer{},
				Credentials: credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), ""),
			})
		},
	}
	cfg.S3With = func(at alias.Location, keys aws.CredentialsProvider) *s3.Client {
		return s3.New(s3.Options{
			Region: at.Region, BaseEndpoint: aws.String(at.Endpoint), UsePathStyle: at.PathStyle, HTTPClient: client,
			Retryer: aws.NopRetryer{}, Credentials: keys,
		})
	}
	if w.fleet != nil {
		l.node = w.fleet.join()
		cfg.Fleet = l.node
	}
	if w.edit != nil {
		w.edit(&cfg)
	}
	return &process{Provisioner: New(cfg), w: w, proc: l, store: store, registry: registry, rec: rec}
}

// recorder stores the counted operations.
type recorder struct {
	mu         sync.Mutex // guards operations
	operations []string
}

func (r *recorder) Operation(kind, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operations = append(r.operations, kind+" "+outcome)
}

func (*recorder) Step(string, time.Duration) {}

func (*recorder) Propagation(time.Duration) {}

func (*recorder) Orphans(int) {}

// request is the default request.
func (w *env) request(name alias.Name, edit ...func(*policy.Request)) policy.Request {
	req := policy.Request{
		Alias: name, Inside: "web/a.png", Outside: "private/p.png",
		Location: alias.Location{
			Bucket: testBucket, Prefix: "web/", Region: "us-east-1", Endpoint: w.iam.S3URL, PathStyle: true,
		},
	}
	for _, fn := range edit {
		fn(&req)
	}
	return req
}

// drive performs the running operations, until none is left or the process is killed.
func (p *process) drive() {
	p.w.t.Helper()
	for p.proc.ctx.Err() == nil {
		list, err := p.store.Operations(p.proc.ctx, alias.OperationFilter{State: alias.OperationRunning, Limit: 100})
		if err != nil || len(list) == 0 {
			return
		}
		for _, o := range list {
			p.run(p.proc.ctx, o.Credential)
		}
	}
}

// do starts an operation and drives it to its end.
func (p *process) do(op *alias.Operation, err error) *alias.Operation {
	p.w.t.Helper()
	if err != nil {
		p.w.t.Fatal(err)
	}
	p.drive()
	done, err := p.store.Operation(p.w.t.Context(), op.ID)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return done
}

func (p *process) mustSucceed(op *alias.Operation, err error) *alias.Operation {
	p.w.t.Helper()
	done := p.do(op, err)
	if done.State != alias.OperationDone {
		p.w.t.Fatalf("%s: %s: %+v\nsteps %+v", done.Kind, done.State, done.Error, done.Steps)
	}
	return done
}

// quiet drives and reconciles until every orphan is old enough to be handled.
func (p *process) quiet() {
	p.w.t.Helper()
	for range 3 {
		p.drive()
		p.w.clock.advance(13 * time.Hour)
		p.reconcile(p.proc.ctx)
	}
}

// awsTiming is long enough for AWS, as the defaults of the flags are.
func awsTiming() Timing {
	return Timing{
		Visible:      90 * time.Second,
		VerifyBudget: 2 * time.Minute,
		VerifyEvery:  2500 * time.Millisecond,
		PreviousKey:  15 * time.Minute,
		Soak:         15 * time.Minute,
		Quiet:        5 * time.Minute,
		SoakInactive: 10 * time.Minute,
		Refused:      2 * time.Minute,
		RefusedEvery: time.Second,
		ConfirmGap:   10 * time.Second,
		Reconcile:    time.Hour,
		OrphanAge:    time.Hour,
		KeyAge:       24 * time.Hour,
		RotateGap:    10 * time.Second,
		Look:         5 * time.Second,
	}
}
