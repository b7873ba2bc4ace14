package origin

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// newBreakerEnv is an env with a breaker that opens after breakerLimit failures and
// for longer than any test.
func newBreakerEnv(t testing.TB, change func(*Config)) *env {
	t.Helper()
	return newEnv(t, func(c *Config) {
		c.BreakerFailures, c.BreakerOpen = breakerLimit, time.Hour
		if change != nil {
			change(c)
		}
	})
}

// probeNow lets the time of the probe come.
func (k *env) probeNow(r alias.Route) {
	k.breaker.mu.Lock()
	defer k.breaker.mu.Unlock()
	c, _ := k.breaker.circuits.Peek(circuitKeyOf(r))
	c.probeAt = time.Now()
}

// another is a request like r for an object that no other request is for.
func another(r Request) Request {
	r.Key = rand.Text() + ".png"
	return r
}

// fail has calls for several objects fail until the circuit is open.
func (k *env) fail(t *testing.T, r Request) {
	t.Helper()
	k.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InternalError") })
	for range breakerLimit {
		_, err := k.Get(t.Context(), another(r))
		wantOutcome(t, err, OutcomeError)
	}
	k.breaker.want(t, r.Route, CircuitOpen)
}

// A dead origin is left alone: no request, no connection, no slot, no place in the
// queue, and nothing counted.
func TestCircuitOpen(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]*s3.Fault{
		"500": s3.Fail("InternalError"), "SlowDown": s3.Fail("SlowDown"), "reset": s3.ResetAfter(s3.BeforeHeaders),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newBreakerEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			k.s3.Hook(func(*s3.Request) *s3.Fault { return fault })
			for range breakerLimit {
				if _, err := k.Get(t.Context(), another(r)); outcomeOf(err) == OutcomeCircuitOpen {
					t.Fatal("open too early")
				}
			}
			asked, connected := k.s3.Total(), k.s3.Accepted()
			k.rec.mu.Lock()
			clear(k.rec.outcomes)
			k.rec.mu.Unlock()
			var wg sync.WaitGroup
			for i := range 100 {
				wg.Go(func() {
					call := k.Get
					if i%2 == 0 {
						call = k.Head
					}
					_, err := call(t.Context(), r)
					if e := wantOutcome(t, err, OutcomeCircuitOpen); e.RetryAfter < 50*time.Minute || e.RetryAfter > 70*time.Minute {
						t.Errorf("RetryAfter is %s", e.RetryAfter)
					}
				})
			}
			wg.Wait()
			if k.s3.Total() != asked || k.s3.Accepted() != connected {
				t.Errorf("%d requests and %d connections went out", k.s3.Total()-asked, k.s3.Accepted()-connected)
			}
			k.rec.wantCounts(t, map[string]int{})
			if info := k.Circuit(r.Route); info.State != CircuitOpen || info.Failures != breakerLimit || info.Last == "" {
				t.Errorf("got %+v", info)
			}
			// It does not affect another alias.
			k.s3.Hook(nil)
			if _, err := k.read(t, k.put("press", "a.png", s3.Object{Body: noise(100)})); err != nil {
				t.Error(err)
			}
		})
	}
}

// Of a hundred callers at once one goes out to see, and when S3 is well again all do.
func TestCircuitHalfOpen(t *testing.T) {
	t.Parallel()
	k := newBreakerEnv(t, nil)
	want := noise(bodySize)
	r := k.put("shop", "a.png", s3.Object{Body: want})
	k.fail(t, r)
	before := k.s3.Total()
	release := make(chan struct{})
	k.s3.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(s3.BeforeHeaders, release) })
	k.probeNow(r.Route)
	var wg sync.WaitGroup
	ends := make(chan error, 100)
	for range 100 {
		wg.Go(func() {
			got, err := k.read(t, r)
			if err == nil && !bytes.Equal(got, want) {
				t.Error("wrong bytes")
			}
			ends <- err
		})
	}
	for range 99 {
		wantOutcome(t, <-ends, OutcomeCircuitOpen)
	}
	k.breaker.want(t, r.Route, CircuitHalfOpen)
	close(release)
	if err := <-ends; err != nil {
		t.Errorf("the probe: %v", err)
	}
	wg.Wait()
	if n := k.s3.Total() - before; n != 1 {
		t.Errorf("%d requests went out to see, want 1", n)
	}
	k.breaker.want(t, r.Route, CircuitClosed)
	if _, err := k.read(t, r); err != nil {
		t.Error(err)
	}
}

// What S3 refuses is an answer: it closes the circuit, and does not open it.
func TestCircuitAnswers(t *testing.T) {
	t.Parallel()
	k := newBreakerEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(100), ETag: `"e"`})
	known, gone := r, r
	known.IfNoneMatch, gone.IfMatch = `"e"`, `"f"`
	for _, code := range []string{"NoSuchKey", "AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "PermanentRedirect", "InvalidObjectState"} {
		k.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail(code) })
		for range 2 * breakerLimit {
			if _, err := k.Get(t.Context(), another(r)); outcomeOf(err) == OutcomeCircuitOpen {
				t.Fatalf("%s opens the circuit", code)
			}
		}
	}
	for name, ask := range map[string]func() error{
		"404":  func() error { _, err := k.Get(t.Context(), Request{Route: r.Route, Key: "none"}); return err },
		"412":  func() error { _, err := k.Get(t.Context(), gone); return err },
		"304":  func() error { _, err := k.Get(t.Context(), known); return err },
		"HEAD": func() error { _, err := k.Head(t.Context(), r); return err },
		"GET":  func() error { _, err := k.read(t, r); return err },
	} {
		k.fail(t, r)
		k.s3.Hook(nil)
		k.probeNow(r.Route)
		if err := ask(); outcomeOf(err) == OutcomeCircuitOpen {
			t.Fatalf("%s: the probe is not let out", name)
		}
		if info := k.breaker.want(t, r.Route, CircuitClosed); info.Failures != 0 {
			t.Errorf("%s: closed with %d failures", name, info.Failures)
		}
	}
}

// Bodies that break open a circuit, although their headers come.
func TestCircuitBodies(t *testing.T) {
	t.Parallel()
	k := newBreakerEnv(t, nil)
	broken := func() *s3.Fault { return s3.ResetAfter(bodySize / 2) }
	var r Request
	for i := range breakerLimit {
		r = k.put("shop", fmt.Sprint(i), s3.Object{Body: noise(bodySize)})
		k.breaker.want(t, r.Route, CircuitClosed)
		k.next(r, broken(), s3.ResetAfter(0))
		if _, err := k.read(t, r); err == nil {
			t.Fatal("the body is whole")
		}
	}
	k.breaker.want(t, r.Route, CircuitOpen)
	// The headers of the probe are enough to close it, and its body to open it again.
	k.probeNow(r.Route)
	k.next(r, broken(), s3.ResetAfter(0))
	obj, err := k.Get(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	k.breaker.want(t, r.Route, CircuitClosed)
	if _, err := readAll(t, obj); err == nil {
		t.Fatal("the body is whole")
	}
	k.breaker.want(t, r.Route, CircuitOpen)
}

// Those who have been waiting for a slot when the circuit opens do not go out when
// they have it.
func TestCircuitOpensOnQueue(t *testing.T) {
	t.Parallel()
	k := newBreakerEnv(t, func(c *Config) { c.BreakerFailures, c.Concurrency, c.AliasConcurrency = 1, 1, 1 })
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	release := make(chan struct{})
	k.s3.Hook(func(*s3.Request) *s3.Fault {
		return &s3.Fault{Code: "InternalError", Stall: &s3.Stall{After: s3.BeforeHeaders, Release: release}}
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := k.Get(t.Context(), r)
		wantOutcome(t, err, OutcomeError)
	})
	if err := k.s3.Wait(t.Context(), func() bool { return k.s3.InFlight() == 1 }); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		wg.Go(func() {
			_, err := k.Get(t.Context(), r)
			wantOutcome(t, err, OutcomeCircuitOpen)
		})
	}
	for k.queued() < 20 {
		runtime.Gosched()
	}
	close(release)
	wg.Wait()
	if n := k.s3.Total(); n != attempts {
		t.Errorf("%d requests went out, want %d", n, attempts)
	}
}

func (k *env) queued() int {
	k.limit.mu.Lock()
	defer k.limit.mu.Unlock()
	return k.limit.waiting
}

// That we do not let ourselves connect says nothing about the origin.
func TestCircuitForbiddenAddress(t *testing.T) {
	t.Parallel()
	k := newBreakerEnv(t, func(c *Config) { c.AllowPrivateEndpoints = false })
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	tls := r
	tls.Route.Alias = new(*r.Route.Alias)
	tls.Route.Alias.Endpoint = "https://127.0.0.1:1"
	for range 2 * breakerLimit {
		for _, r := range []Request{r, tls} {
			_, err := k.Get(t.Context(), another(r))
			wantOutcome(t, err, OutcomeNetwork)
		}
	}
}

// An object that S3 cannot read is asked for each time, and the others of its alias come.
func TestCircuitOneObject(t *testing.T) {
	t.Parallel()
	k := newBreakerEnv(t, nil)
	want := noise(bodySize)
	bad, good := k.put("shop", "bad.png", s3.Object{Body: want}), k.put("shop", "good.png", s3.Object{Body: want})
	k.s3.Hook(func(r *s3.Request) *s3.Fault {
		if r.Key == bad.Key {
			return s3.Fail("InternalError")
		}
		return nil
	})
	for range 3 * breakerLimit {
		_, err := k.Get(t.Context(), bad)
		wantOutcome(t, err, OutcomeError)
		_, err = k.Head(t.Context(), bad)
		wantOutcome(t, err, OutcomeError)
	}
	if info := k.Circuit(bad.Route); info.State != CircuitClosed || info.Failures != 1 {
		t.Errorf("got %+v", info)
	}
	if got, err := k.read(t, good); err != nil || !bytes.Equal(got, want) {
		t.Errorf("another object: %d bytes, %v", len(got), err)
	}
}

// A forced call goes out whatever the circuit, and leaves it as it is.
func TestCircuitForce(t *testing.T) {
	t.Parallel()
	k := newBreakerEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	k.fail(t, r)
	before := k.Circuit(r.Route)
	forced := func() {
		t.Helper()
		for _, call := range []func(Request) error{
			func(r Request) error { _, err := k.read(t, r); return err },
			func(r Request) error { _, err := k.Head(t.Context(), r); return err },
		} {
			r := another(r)
			r.Force = true
			if err := call(r); outcomeOf(err) == OutcomeCircuitOpen {
				t.Error("it is kept back")
			}
			if info := k.Circuit(r.Route); info != before {
				t.Errorf("it made %+v of %+v", info, before)
			}
		}
	}
	forced()
	k.s3.Hook(nil)
	forced()
	k.probeNow(r.Route)
	if _, err := k.read(t, r); err != nil {
		t.Fatal(err)
	}
	before = k.breaker.want(t, r.Route, CircuitClosed)
	k.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InternalError") })
	for range breakerLimit {
		forced()
	}
}

// torn panics when a secret is asked for, in the middle of a call.
type torn struct{ Secrets }

func (torn) Reveal(*alias.Credential) (alias.KeyPair, error) {
	panic("a secret that panics")
}

// A call that panics keeps neither its slot, nor its circuit if it was the probe.
func TestCallThatPanics(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*Origin, context.Context, Request) (*Object, error){
		opGet: (*Origin).Get, opHead: (*Origin).Head,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newBreakerEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			k.fail(t, r)
			k.s3.Hook(nil)
			k.probeNow(r.Route)
			good := k.clients.secrets
			k.clients.clear()
			k.clients.secrets = torn{good}
			func() {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				_, _ = call(k.Origin, t.Context(), r)
			}()
			k.clients.secrets = good
			if _, err := k.read(t, r); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}
