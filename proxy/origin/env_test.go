package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is an Origin before a scripted S3. When the test ends it checks that
// nothing is left: slots, bodies, connections.
type env struct {
	*Origin
	s3      *s3.Server
	rec     *recorder
	secrets *secrets
}

// testConfig is generous where a test does not wait for a timeout, since the
// machine may be busy.
func testConfig() Config {
	return Config{
		CallTimeout: time.Minute, FirstByteTimeout: 30 * time.Second, ConnectTimeout: 30 * time.Second,
		IdleTimeout: 30 * time.Second, QueueTimeout: 30 * time.Second,
		Concurrency: 256, AliasConcurrency: 64, Queue: 1024,
		BreakerFailures:       0, // what many calls in a row come to has tests of its own
		BreakerOpen:           5 * time.Second,
		AllowPrivateEndpoints: true,
	}
}

func newEnv(t testing.TB, change func(*Config)) *env {
	t.Helper()
	return newEnvResolving(t, nil, change)
}

func newEnvResolving(t testing.TB, resolver *net.Resolver, change func(*Config)) *env {
	t.Helper()
	return newEnvBefore(t, s3.New(t), resolver, change)
}

func newEnvBefore(t testing.TB, server *s3.Server, resolver *net.Resolver, change func(*Config)) *env {
	t.Helper()
	cfg := testConfig()
	if change != nil {
		change(&cfg)
	}
	k := &env{s3: server, rec: &recorder{outcomes: map[string]int{}, fallbacks: map[string]int{}}, secrets: &secrets{pairs: map[string]alias.KeyPair{}}}
	o, err := newOrigin(cfg, k.secrets, k.rec, resolver)
	if err != nil {
		t.Fatal(err)
	}
	k.Origin = o
	t.Cleanup(func() { k.checkNothingLeft(t) })
	return k
}

func (k *env) checkNothingLeft(t testing.TB) {
	t.Helper()
	k.limit.mu.Lock()
	if k.limit.active != 0 || k.limit.waiting != 0 || len(k.limit.lanes) != 0 || k.limit.ready.Len() != 0 {
		t.Errorf("limiter is left with %d slots taken, %d waiting, %d lanes", k.limit.active, k.limit.waiting, len(k.limit.lanes))
	}
	k.limit.mu.Unlock()
	if n := k.rec.openBodies(); n != 0 {
		t.Errorf("%d bodies are left open", n)
	}
	k.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := k.s3.Wait(ctx, func() bool { return k.s3.Conns() == 0 && k.s3.InFlight() == 0 }); err != nil {
		t.Errorf("%d connections are left open: %v", k.s3.Conns(), err)
	}
}

// route is an alias on a bucket of the scripted S3, with a credential of its own.
func (k *env) route(name string) alias.Route {
	id := int64(len(name))*1000 + int64(name[len(name)-1])
	return alias.Route{
		Alias: &alias.Alias{
			ID: id, Name: alias.Name(name), CredentialID: id,
			Location: alias.Location{Bucket: "bucket-" + name, Region: "eu-west-1", Endpoint: k.s3.URL, PathStyle: true},
		},
		Credential: k.credential(id, 1),
	}
}

func (k *env) credential(id, version int64) *alias.Credential {
	kp := alias.KeyPair{
		AccessKeyID:     fmt.Sprintf("AKIA%04dV%dEXAMPLE", id, version),
		SecretAccessKey: alias.NewSecret(fmt.Sprintf("secret-%d-%d", id, version)),
	}
	k.secrets.put(id, version, kp)
	return &alias.Credential{
		ID: id, Version: version, Name: alias.Name(fmt.Sprintf("cred-%d", id)), Provider: alias.Static{AccessKeyID: kp.AccessKeyID},
	}
}

// provisioned is a credential whose user we made. From version 2 on, requests
// may fall back on the key of the version before for an hour.
func (k *env) provisioned(id, version int64) *alias.Credential {
	c := k.credential(id, version)
	p := &alias.Provisioned{AccessKeyID: c.AccessKeyID()}
	if version > 1 {
		p.Previous = &alias.PreviousKey{Until: time.Now().Add(time.Hour), SealedKey: alias.SealedKey{
			AccessKeyID: k.credential(id, version-1).AccessKeyID(), Version: version - 1,
		}}
	}
	c.Provider = p
	return c
}

// keyOf is the key pair that a credential had in a version.
func (k *env) keyOf(c *alias.Credential, version int64) alias.KeyPair {
	return k.secrets.pair(&alias.Credential{ID: c.ID, Version: version})
}

// put stores an object for an alias and returns the request for it.
func (k *env) put(name, key string, obj s3.Object) Request {
	r := k.route(name)
	k.s3.Put(r.Alias.Bucket, key, obj)
	return Request{Route: r, Key: key}
}

// next queues faults for a request's object.
func (k *env) next(r Request, faults ...*s3.Fault) {
	k.s3.Next(r.Route.Alias.Bucket, r.Key, faults...)
}

// read gets an object whole.
func (k *env) read(t testing.TB, r Request) ([]byte, error) {
	t.Helper()
	obj, err := k.Get(t.Context(), r)
	if err != nil {
		return nil, err
	}
	return readAll(t, obj)
}

func readAll(t testing.TB, obj *Object) ([]byte, error) {
	t.Helper()
	got, err := io.ReadAll(obj.Body)
	if err := obj.Body.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	return got, err
}

func wantOutcome(t testing.TB, err error, want Outcome) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got error %v, want an *Error of outcome %s", err, want)
	}
	if e.Outcome != want {
		t.Fatalf("got outcome %s (%v), want %s", e.Outcome, e, want)
	}
	if errors.Is(err, io.EOF) {
		t.Errorf("%v counts as io.EOF, which means a complete body", err)
	}
	return e
}

// noise is n bytes that are the same in each run.
func noise(n int) []byte {
	var seed [32]byte
	out := make([]byte, n)
	r := rand.NewChaCha8(seed)
	_, _ = r.Read(out)
	return out
}

type recorder struct {
	mu        sync.Mutex
	circuits  map[string][]CircuitState // by credential, in order
	outcomes  map[string]int
	bytes     int64
	retries   int
	open      int
	fallbacks map[string]int // by credential
}

func (r *recorder) RotationFallback(credential string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fallbacks[credential]++
}

func (r *recorder) OriginCircuit(credential string, state int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.circuits == nil {
		r.circuits = map[string][]CircuitState{}
	}
	r.circuits[credential] = append(r.circuits[credential], CircuitState(state))
}

func (r *recorder) fellBack() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, of := range r.fallbacks {
		n += of
	}
	return n
}

func (r *recorder) OriginRequest(_, outcome string, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes[outcome]++
}

func (r *recorder) OriginBytes(_ string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes += n
}

func (r *recorder) OriginRetries(_ string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retries += n
}

func (r *recorder) OriginOpenBodies(delta int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open += delta
}

func (r *recorder) openBodies() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

func (r *recorder) retried() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.retries
}

// wantCounts checks that these outcomes were recorded and no others.
func (r *recorder) wantCounts(t testing.TB, want map[string]int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !maps.Equal(r.outcomes, want) {
		t.Errorf("recorded %v, want %v", r.outcomes, want)
	}
}

type secrets struct {
	mu      sync.Mutex
	pairs   map[string]alias.KeyPair
	reveals int
}

func (s *secrets) put(id, version int64, kp alias.KeyPair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pairs[fmt.Sprint(id, "/", version)] = kp
}

func (s *secrets) pair(c *alias.Credential) alias.KeyPair {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pairs[fmt.Sprint(c.ID, "/", c.Version)]
}

func (s *secrets) Reveal(c *alias.Credential) (alias.KeyPair, error) {
	kp := s.pair(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reveals++
	if kp.AccessKeyID == "" {
		return kp, errors.New("sealed value does not open")
	}
	return kp, nil
}

func (s *secrets) RevealSealed(c *alias.Credential, sealed alias.SealedKey) (alias.KeyPair, error) {
	kp, err := s.Reveal(&alias.Credential{ID: c.ID, Version: sealed.Version})
	if err == nil && kp.AccessKeyID != sealed.AccessKeyID {
		return alias.KeyPair{}, errors.New("sealed value is of another key")
	}
	return kp, err
}

func (s *secrets) revealed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reveals
}

// deadline is a context whose time is up when the test says so.
type deadline struct {
	context.Context //nolint:containedctx // it is one
	passed          chan struct{}
}

func (d *deadline) Done() <-chan struct{} { return d.passed }

func (d *deadline) Err() error {
	select {
	case <-d.passed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}
