package origin

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"

	"ixmage/alias"
	"ixmage/internal/awstest"
)

// callOf is call for an object of one's choice.
func (b *breaker) callOf(t *testing.T, r alias.Route, key string, end error) {
	t.Helper()
	b.out(t, r, key).done(end)
}

func (b *breaker) refuses(r alias.Route, key string) bool { return b.permit(r, key).enter() != nil }

// One object that S3 cannot read keeps no other away, until another fails too.
func TestBreakerOneObject(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		then func(t *testing.T, b *breaker, r alias.Route)
		// who is kept back after that
		same, other bool
	}{
		{"nothing more", func(*testing.T, *breaker, alias.Route) {}, true, false},
		{"another succeeds", func(t *testing.T, b *breaker, r alias.Route) { b.callOf(t, r, "b.png", nil) }, false, false},
		{"another is missing", func(t *testing.T, b *breaker, r alias.Route) {
			b.callOf(t, r, "b.png", &Error{Outcome: OutcomeNotFound, Operation: opGet, Status: 404})
		}, false, false},
		{"another fails", func(t *testing.T, b *breaker, r alias.Route) { b.callOf(t, r, "b.png", errSick) }, true, true},
		{"another's caller leaves", func(t *testing.T, b *breaker, r alias.Route) { b.callOf(t, r, "b.png", errLeft) }, true, false},
		{"another insists and succeeds", func(t *testing.T, b *breaker, r alias.Route) {
			p := b.permit(r, "b.png")
			p.insists = true
			if err := p.enter(); err != nil {
				t.Fatal(err)
			}
			p.done(nil)
		}, true, false},
		{"the probe fails", func(t *testing.T, b *breaker, r alias.Route) {
			b.sleepToProbe(t, r)
			b.call(t, r, errSick)
		}, true, false},
		{"the probe succeeds", func(t *testing.T, b *breaker, r alias.Route) {
			b.sleepToProbe(t, r)
			b.call(t, r, nil)
		}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, _ := newTestBreaker()
				r := routeOf(1, "")
				b.openUp(t, r)
				tc.then(t, b, r)
				if got := b.refuses(r, "a.png"); got != tc.same {
					t.Errorf("the object is kept back: %t, want %t", got, tc.same)
				}
				if got := b.refuses(r, "b.png"); got != tc.other {
					t.Errorf("another is kept back: %t, want %t", got, tc.other)
				}
				if info := b.info(r, "b.png"); (info.State == CircuitOpen) != tc.other {
					t.Errorf("told of another: %+v", info)
				}
			})
		})
	}
}

// What is known of another object from before the circuit opened says nothing.
func TestBreakerOneObjectLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBreaker()
		r := routeOf(1, "")
		late := []*permit{b.permit(r, "b.png"), b.permit(r, "c.png")}
		for _, p := range late {
			if err := p.enter(); err != nil {
				t.Fatal(err)
			}
		}
		pass(1)
		b.openUp(t, r)
		late[0].done(nil)
		b.want(t, r, CircuitOpen)
		late[1].done(errSick)
		if b.refuses(r, "b.png") {
			t.Error("a failure of before has the others kept back")
		}
	})
}

// Failures of several objects open the circuit for all, and so do those of one where
// no connection comes about.
func TestBreakerAllObjects(t *testing.T) {
	t.Parallel()
	dial := &Error{Outcome: OutcomeNetwork, Operation: opGet, err: &net.OpError{Op: "dial", Err: net.UnknownNetworkError("x")}}
	for _, tc := range []struct {
		name string
		ends map[string]error
		all  bool
	}{
		{"one object", map[string]error{"a.png": errSick}, false},
		{"two objects", map[string]error{"a.png": errSick, "b.png": errSick}, true},
		{"no connection", map[string]error{"a.png": dial}, true},
		{"no such host", map[string]error{"a.png": &Error{Outcome: OutcomeNetwork, Operation: opGet, err: &net.DNSError{}}}, true},
		{"no trust", map[string]error{"a.png": &Error{
			Outcome: OutcomeNetwork, Operation: opGet, err: &tls.CertificateVerificationError{},
		}}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b, _ := newTestBreaker()
			r := routeOf(1, "")
			for n := 0; n < breakerLimit; {
				for key, end := range tc.ends {
					if n++; n <= breakerLimit {
						b.callOf(t, r, key, end)
					}
				}
			}
			if got := b.refuses(r, "other.png"); got != tc.all {
				t.Errorf("others are kept back: %t, want %t", got, tc.all)
			}
		})
	}
}

// A key of the same name in another bucket is another object.
func TestBreakerOneObjectOfBucket(t *testing.T) {
	t.Parallel()
	b, _ := newTestBreaker()
	r := routeOf(1, "")
	one, two := b.permit(r, "a.png"), b.permit(alias.Route{
		Alias: &alias.Alias{Location: alias.Location{Bucket: "other"}}, Credential: r.Credential,
	}, "a.png")
	if one.object == two.object {
		t.Error("taken for the same object")
	}
}

// An object that S3 cannot read is left alone, and the others of its alias come.
func TestCircuitOfOneObject(t *testing.T) {
	t.Parallel()
	k := newBreakerKit(t, nil)
	want := noise(bodySize)
	bad, good := k.put("shop", "bad.png", awstest.Object{Body: want}), k.put("shop", "good.png", awstest.Object{Body: want})
	fault := func(r *awstest.Recorded) *awstest.Fault {
		if r.Key == bad.Key {
			return awstest.Fail("InternalError")
		}
		return nil
	}
	k.s3.Hook(fault)
	for range breakerLimit {
		_, err := k.Get(t.Context(), bad)
		wantOutcome(t, err, OutcomeError)
	}
	_, err := k.Get(t.Context(), bad)
	wantOutcome(t, err, OutcomeCircuitOpen)
	if info := k.Circuit(good.Route, good.Key); info.State != CircuitClosed {
		t.Errorf("told of another object: %+v", info)
	}
	if _, err := k.read(t, good); err != nil {
		t.Error(err)
	}
	if info := k.Circuit(bad.Route, bad.Key); info.State != CircuitClosed {
		t.Errorf("S3 is well, and %+v", info)
	}
}
