package origin

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
)

// Ends of calls, as in the tables below.
var (
	errFails = &Error{Outcome: OutcomeError, Operation: opGet, Status: 500}
	errLeft  = &Error{Outcome: OutcomeAborted, Operation: opGet}
)

const (
	breakerLimit = 3
	breakerPause = 2 * time.Second
)

func newTestBreaker() (*breaker, *recorder) {
	rec := &recorder{}
	return newBreaker(Config{BreakerFailures: breakerLimit, BreakerOpen: breakerPause}, rec), rec
}

func routeOf(credential int64, endpoint string) alias.Route {
	return alias.Route{
		Alias:      &alias.Alias{Location: alias.Location{Endpoint: endpoint}},
		Credential: &alias.Credential{ID: credential, Name: alias.Name(fmt.Sprintf("cred-%d", credential))},
	}
}

// out is a call for an object that is out: it must be let.
func (b *breaker) out(t *testing.T, r alias.Route, key string) *permit {
	t.Helper()
	p := b.permit(r, key)
	if err := p.enter(); err != nil {
		t.Fatalf("%s is not let out: %v", key, err)
	}
	return &p
}

// callOf is a call for an object that goes out and ends.
func (b *breaker) callOf(t *testing.T, r alias.Route, key string, end error) {
	t.Helper()
	b.out(t, r, key).done(end)
}

// call is a call for an object that no other call is for.
func (b *breaker) call(t *testing.T, r alias.Route, end error) {
	t.Helper()
	b.callOf(t, r, rand.Text(), end)
}

// openUp has so many calls fail as it takes.
func (b *breaker) openUp(t *testing.T, r alias.Route) {
	t.Helper()
	for range breakerLimit {
		b.call(t, r, errFails)
	}
	b.want(t, r, CircuitOpen)
}

func (b *breaker) refuses(r alias.Route, key string) bool {
	p := b.permit(r, key)
	return p.enter() != nil
}

func (b *breaker) want(t *testing.T, r alias.Route, want CircuitState) CircuitInfo {
	t.Helper()
	info := b.info(r)
	if info.State != want {
		t.Fatalf("the circuit is %s, want %s (%+v)", info.State, want, info)
	}
	if (want == CircuitOpen) == info.Probe.IsZero() {
		t.Errorf("%s, and the next probe is at %s", want, info.Probe)
	}
	return info
}

func (b *breaker) wantRefused(t *testing.T, r alias.Route) *Error {
	t.Helper()
	p := b.permit(r, "a.png")
	return wantOutcome(t, p.enter(), OutcomeCircuitOpen)
}

// sleepToProbe waits for as long as the refusal of a call asks for.
func (b *breaker) sleepToProbe(t *testing.T, r alias.Route) {
	t.Helper()
	pass(b.wantRefused(t, r).RetryAfter)
}

func TestResultOf(t *testing.T) {
	t.Parallel()
	with := func(o Outcome, status int) error { return &Error{Outcome: o, Operation: opGet, Status: status} }
	for _, tc := range []struct {
		name string
		err  error
		want result
	}{
		{"success", nil, success},
		{"not modified", with(OutcomeNotModified, 304), success},
		{"not found", with(OutcomeNotFound, 404), success},
		{"denied", with(OutcomeDenied, 403), success},
		{"key refused", with(OutcomeBadCredential, 403), success},
		{"range", with(OutcomeRange, 416), success},
		{"precondition", with(OutcomePrecondition, 412), success},
		{"bucket gone", with(OutcomeError, 404), success},
		{"another region", with(OutcomeError, 301), success},
		{"archived", with(OutcomeError, 403), success},
		{"wrong checksum", with(OutcomeError, 200), success},

		{"500", with(OutcomeError, 500), failure},
		{"503", with(OutcomeError, 503), failure},
		{"throttled", with(OutcomeThrottled, 503), failure},
		{"timeout", with(OutcomeTimeout, 0), failure},
		{"network", with(OutcomeNetwork, 0), failure},
		{"wrapped", fmt.Errorf("once: %w", with(OutcomeNetwork, 0)), failure},

		{"no HTTP", with(OutcomeError, 0), unknown},
		{"caller left", with(OutcomeAborted, 0), unknown},
		{"no descriptor", with(OutcomeOverloaded, 0), unknown},
		{"circuit open", with(OutcomeCircuitOpen, 0), unknown},
		{"queue full", overloaded(errQueueFull), unknown},
		{"time was up in the queue", &Error{Outcome: OutcomeTimeout}, unknown},
		{"secret does not open", &Error{Outcome: OutcomeBadCredential}, unknown},
		{"address forbidden", &Error{Outcome: OutcomeNetwork, Operation: opGet, err: &addressError{error: errPlainHTTP}}, unknown},
		{"no error of ours", errors.New("x"), unknown},
	} {
		if got := resultOf(tc.err); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
		}
	}
}

// Only failures in a row open a circuit. F fails, S succeeds, N finds nothing, L is
// left by its caller.
func TestBreakerOpens(t *testing.T) {
	t.Parallel()
	ends := map[rune]error{'F': errFails, 'S': nil, 'N': &Error{Outcome: OutcomeNotFound, Operation: opGet, Status: 404}, 'L': errLeft}
	for calls, want := range map[string]CircuitState{
		"": CircuitClosed, "S": CircuitClosed, "FF": CircuitClosed, "FFSFF": CircuitClosed, "FFNFFNFF": CircuitClosed,
		"LLLLLL": CircuitClosed, "FLFL": CircuitClosed, "NNNN": CircuitClosed,
		"FFF": CircuitOpen, "SFFF": CircuitOpen, "FFSFFF": CircuitOpen, "FLFLF": CircuitOpen,
	} {
		synctest.Test(t, func(t *testing.T) {
			b, rec := newTestBreaker()
			r := routeOf(1, "")
			for _, c := range calls {
				b.call(t, r, ends[c])
			}
			b.want(t, r, want)
			if told := rec.circuits["cred-1"]; (want == CircuitOpen) != slices.Equal(told, []CircuitState{CircuitOpen}) {
				t.Errorf("%s: told %v", calls, told)
			}
			if want == CircuitOpen {
				e := b.wantRefused(t, r)
				if text := e.Error(); !strings.Contains(text, "3 in a row, the last one error") || e.RetryAfter < breakerPause*9/10 {
					t.Errorf("%s: refused with %q and RetryAfter %s", calls, text, e.RetryAfter)
				}
			}
		})
	}
}

func TestBreakerOff(t *testing.T) {
	t.Parallel()
	rec := &recorder{}
	b := newBreaker(Config{BreakerOpen: time.Second}, rec)
	for range 1000 {
		b.call(t, routeOf(1, ""), errFails)
	}
	if b.want(t, routeOf(1, ""), CircuitClosed); len(rec.circuits) != 0 || b.circuits.Len() != 0 {
		t.Errorf("told %v, %d kept", rec.circuits, b.circuits.Len())
	}
}

// A circuit is one credential's in one place.
func TestBreakerKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, rec := newTestBreaker()
		r := routeOf(1, "https://a.example")
		b.openUp(t, r)
		other := routeOf(1, "https://b.example")
		for _, r := range []alias.Route{other, routeOf(2, "https://a.example")} {
			b.call(t, r, nil)
			b.want(t, r, CircuitClosed)
		}
		if rec.circuits["cred-2"] != nil {
			t.Errorf("told %v of a credential that works", rec.circuits["cred-2"])
		}
		again := routeOf(1, "https://a.example")
		again.Alias.Bucket, again.Credential.Version = "another", 7
		b.wantRefused(t, again)
		b.openUp(t, other)
		if told := rec.circuits["cred-1"]; !slices.Equal(told, []CircuitState{CircuitOpen, CircuitOpen}) {
			t.Errorf("told %v", told)
		}
	})
}

// The worst circuit of a credential is told, and one that is not asked any more is
// dropped and tells no more.
func TestBreakerMoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, rec := newTestBreaker()
		old, now := routeOf(1, "https://old.example"), routeOf(1, "https://new.example")
		b.openUp(t, old)
		b.call(t, now, nil)
		pass(circuitIdle)
		b.call(t, now, nil)
		b.want(t, old, CircuitOpen)
		pass(time.Second)
		b.call(t, now, nil)
		b.want(t, old, CircuitClosed)
		if told := rec.circuits["cred-1"]; !slices.Equal(told, []CircuitState{CircuitOpen, CircuitClosed}) || b.circuits.Len() != 0 {
			t.Errorf("told %v, %d credentials kept", told, b.circuits.Len())
		}
	})
}

func TestBreakerForget(t *testing.T) {
	t.Parallel()
	b, rec := newTestBreaker()
	r := routeOf(1, "")
	p := b.out(t, r, "a.png")
	b.openUp(t, r)
	b.forget(2)
	b.want(t, r, CircuitOpen)
	b.forget(1)
	b.forget(1)
	b.want(t, r, CircuitClosed)
	if told := rec.circuits["cred-1"]; !slices.Equal(told, []CircuitState{CircuitOpen, CircuitClosed}) {
		t.Errorf("told %v", told)
	}
	p.done(nil)
	if b.circuits.Len() != 0 {
		t.Errorf("%d circuits are left", b.circuits.Len())
	}
}

// However many credentials fail, so many circuits are kept: those used last.
func TestBreakerBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, rec := newTestBreaker()
		for id := range int64(maxCircuits + 100) {
			for range breakerLimit {
				b.call(t, routeOf(id, ""), errFails)
			}
		}
		if b.circuits.Len() != maxCircuits {
			t.Errorf("%d are kept, want %d", b.circuits.Len(), maxCircuits)
		}
		b.want(t, routeOf(99, ""), CircuitClosed)
		b.want(t, routeOf(100, ""), CircuitOpen)
		pass(circuitIdle + 1)
		b.openUp(t, routeOf(99, ""))
		if b.circuits.Len() != 1 {
			t.Errorf("%d are kept that nobody asks", b.circuits.Len())
		}
		for _, name := range []string{"cred-7", "cred-700"} {
			if told := rec.circuits[name]; !slices.Equal(told, []CircuitState{CircuitOpen, CircuitClosed}) {
				t.Errorf("told %v of one that was dropped", told)
			}
		}
	})
}

// A failure counts once for each object, and for each call where no connection is made.
func TestBreakerDistinctObjects(t *testing.T) {
	t.Parallel()
	failed := func(cause error) error { return &Error{Outcome: OutcomeNetwork, Operation: opGet, err: cause} }
	refused := failed(&net.OpError{Op: "dial", Err: net.UnknownNetworkError("x")})
	for _, tc := range []struct {
		name    string
		objects string // asked for one after another
		end     error
		want    CircuitState
	}{
		{"one object", "aaaaaaaaa", errFails, CircuitClosed},
		{"two objects", "aaabbbaabb", errFails, CircuitClosed},
		{"as many objects as it takes", "aaabbbc", errFails, CircuitOpen},
		{"one object is throttled", "aaaaaaaaa", &Error{Outcome: OutcomeThrottled, Operation: opGet, Status: 503}, CircuitClosed},
		{"one object's body breaks", "aaaaaaaaa", failed(io.ErrUnexpectedEOF), CircuitClosed},
		{"no connection", "aaa", refused, CircuitOpen},
		{"no such host", "aaa", failed(&net.DNSError{}), CircuitOpen},
		{"no trust", "aaa", failed(&tls.CertificateVerificationError{}), CircuitOpen},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, _ := newTestBreaker()
				r := routeOf(1, "")
				for _, object := range tc.objects {
					b.callOf(t, r, string(object), tc.end)
				}
				b.want(t, r, tc.want)
				if got := b.refuses(r, "other"); got != (tc.want == CircuitOpen) {
					t.Errorf("another object is kept back: %t", got)
				}
			})
		})
	}
}

// One object that fails does not count again after a success of another either.
func TestBreakerOneObjectAmongOthers(t *testing.T) {
	t.Parallel()
	b, _ := newTestBreaker()
	r := routeOf(1, "")
	for range 10 * breakerLimit {
		b.callOf(t, r, "a.png", errFails)
		b.callOf(t, r, "b.png", errFails)
		b.callOf(t, r, "c.png", nil)
	}
	if info := b.want(t, r, CircuitClosed); info.Failures != 0 {
		t.Errorf("%d failures are left after a success", info.Failures)
	}
}

// However long an outage is, the objects that failed in it do not fill the memory.
func TestBreakerObjectsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBreaker()
		r := routeOf(1, "")
		b.openUp(t, r)
		for range 100 {
			b.sleepToProbe(t, r)
			b.call(t, r, errFails)
		}
		c, _ := b.circuits.Peek(circuitKeyOf(r))
		if len(c.objects) != breakerLimit || c.failures != breakerLimit {
			t.Errorf("%d objects and %d failures are kept", len(c.objects), c.failures)
		}
	})
}

// A key of the same name in another bucket is another object.
func TestBreakerObjectOfBucket(t *testing.T) {
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

// One call goes out to see. While it fails the pauses grow, up to a bound; when it
// succeeds all go out.
func TestBreakerProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, rec := newTestBreaker()
		r := routeOf(1, "")
		b.openUp(t, r)
		for _, seconds := range []int{2, 4, 8, 8, 8} {
			pause := time.Duration(seconds) * time.Second
			info := b.want(t, r, CircuitOpen)
			if d := info.Probe.Sub(info.Since); d < pause*9/10 || d > pause*11/10 {
				t.Errorf("the pause is %s, want %s or nearly so", d, pause)
			}
			pass(time.Until(info.Probe) - 1)
			b.wantRefused(t, r)
			pass(1)
			probe := b.out(t, r, "a.png")
			b.want(t, r, CircuitHalfOpen)
			for range 100 {
				if e := b.wantRefused(t, r); e.RetryAfter != time.Second {
					t.Errorf("while one is out, RetryAfter is %s", e.RetryAfter)
				}
			}
			if err := probe.enter(); err != nil {
				t.Errorf("the probe itself is refused when it has a slot: %v", err)
			}
			probe.done(errFails)
		}
		b.sleepToProbe(t, r)
		b.call(t, r, nil)
		if info := b.want(t, r, CircuitClosed); info.Failures != 0 {
			t.Errorf("closed with %d failures", info.Failures)
		}
		for range breakerLimit - 1 {
			b.call(t, r, errFails)
		}
		b.want(t, r, CircuitClosed)
		b.call(t, r, errFails)
		if info := b.want(t, r, CircuitOpen); info.Probe.Sub(info.Since) > breakerPause*11/10 {
			t.Errorf("the pauses go on where they were: %s", info.Probe.Sub(info.Since))
		}
		want := []CircuitState{2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 0, 2}
		if !slices.Equal(rec.circuits["cred-1"], want) {
			t.Errorf("told %v, want %v", rec.circuits["cred-1"], want)
		}
	})
}

// A pause that is longer than the bound stays as it is.
func TestBreakerLongPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBreaker()
		b.pause = time.Minute
		r := routeOf(1, "")
		b.openUp(t, r)
		for range 3 {
			info := b.want(t, r, CircuitOpen)
			if d := info.Probe.Sub(info.Since); d < 54*time.Second || d > 66*time.Second {
				t.Errorf("the pause is %s", d)
			}
			b.sleepToProbe(t, r)
			b.call(t, r, errFails)
		}
	})
}

// A probe with a body closes the circuit when its headers are here, on trial.
func TestBreakerTrial(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end  error
		more int // failures after it
		then CircuitState
	}{
		"read whole": {nil, 1, CircuitClosed}, "broken": {errFails, 0, CircuitOpen},
		"left": {errLeft, 0, CircuitClosed}, "left, then broken": {errLeft, 1, CircuitOpen},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, _ := newTestBreaker()
				r := routeOf(1, "")
				b.openUp(t, r)
				b.sleepToProbe(t, r)
				p := b.out(t, r, "a.png")
				p.answered()
				b.want(t, r, CircuitClosed)
				p.answered() // of no more effect
				p.done(tc.end)
				for range tc.more {
					b.call(t, r, errFails)
				}
				info := b.want(t, r, tc.then)
				if tc.then == CircuitOpen && info.Probe.Sub(info.Since) < 2*breakerPause*9/10 {
					t.Errorf("the pause has not grown: %s", info.Probe.Sub(info.Since))
				}
			})
		})
	}
}

// Calls that went out before tell how things were then: not that an origin is well
// which has failed since, nor the other way round.
func TestBreakerLateEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBreaker()
		r := routeOf(1, "")
		late := make([]*permit, 20)
		for i := range late {
			late[i] = b.out(t, r, rand.Text())
		}
		pass(time.Second)
		b.openUp(t, r)
		late[0].done(nil)
		late[1].done(errFails)
		before := b.want(t, r, CircuitOpen)
		b.sleepToProbe(t, r)
		probe := b.out(t, r, "a.png")
		late[2].done(nil)
		late[3].done(errFails)
		b.want(t, r, CircuitHalfOpen)
		probe.done(nil)
		for _, p := range late[4:] {
			p.done(errFails)
		}
		if info := b.want(t, r, CircuitClosed); info.Failures != 0 || before.Failures != breakerLimit {
			t.Errorf("%d failures when it opened, %d when it closed", before.Failures, info.Failures)
		}
		// Those that go out now count.
		b.openUp(t, r)
	})
}

// A probe that tells nothing leaves it to the next call.
func TestBreakerProbeLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBreaker()
		r := routeOf(1, "")
		b.openUp(t, r)
		b.sleepToProbe(t, r)
		for _, end := range []error{errLeft, overloaded(errQueueFull), errLeft} {
			b.call(t, r, end)
			b.want(t, r, CircuitOpen)
		}
		b.call(t, r, nil)
		b.want(t, r, CircuitClosed)
	})
}

// A probe that hangs has no say any more in a circuit that is new since.
func TestBreakerProbeForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBreaker()
		r := routeOf(1, "")
		b.openUp(t, r)
		b.sleepToProbe(t, r)
		hangs := b.out(t, r, "a.png")
		b.forget(1)
		b.want(t, r, CircuitClosed)
		b.openUp(t, r)
		before := b.want(t, r, CircuitOpen)
		for _, end := range []error{errFails, errLeft, nil} {
			hangs.done(end)
			if info := b.want(t, r, CircuitOpen); info != before {
				t.Errorf("the probe of before made %+v of %+v", info, before)
			}
		}
		b.sleepToProbe(t, r)
		b.call(t, r, nil)
		b.want(t, r, CircuitClosed)
	})
}

func TestCircuitStateString(t *testing.T) {
	t.Parallel()
	for state, want := range map[CircuitState]string{CircuitClosed: "closed", CircuitHalfOpen: "half-open", CircuitOpen: "open", 7: "unknown"} {
		if got := state.String(); got != want {
			t.Errorf("%d: got %s, want %s", state, got, want)
		}
	}
}
