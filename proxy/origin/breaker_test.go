package origin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
)

// Ends of calls, as in the tables below.
var (
	errSick = &Error{Outcome: OutcomeError, Operation: opGet, Status: 500}
	errLeft = &Error{Outcome: OutcomeAborted, Operation: opGet}
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
	return p
}

// call goes out and ends.
func (b *breaker) call(t *testing.T, r alias.Route, end error) {
	t.Helper()
	b.out(t, r, "a.png").done(end)
}

// openUp has so many calls fail as it takes.
func (b *breaker) openUp(t *testing.T, r alias.Route) {
	t.Helper()
	for range breakerLimit {
		b.call(t, r, errSick)
	}
	b.want(t, r, CircuitOpen)
}

func (b *breaker) want(t *testing.T, r alias.Route, want CircuitState) CircuitInfo {
	t.Helper()
	info := b.info(r, "a.png")
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
	return wantOutcome(t, b.permit(r, "a.png").enter(), OutcomeCircuitOpen)
}

// sleepToProbe waits for as long as the refusal of a call asks for.
func (b *breaker) sleepToProbe(t *testing.T, r alias.Route) {
	t.Helper()
	pass(b.wantRefused(t, r).RetryAfter)
}

func TestHealthOf(t *testing.T) {
	t.Parallel()
	with := func(o Outcome, status int) error { return &Error{Outcome: o, Operation: opGet, Status: status} }
	for _, tc := range []struct {
		name string
		err  error
		want health
	}{
		{"success", nil, well},
		{"not modified", with(OutcomeNotModified, 304), well},
		{"not found", with(OutcomeNotFound, 404), well},
		{"denied", with(OutcomeDenied, 403), well},
		{"key refused", with(OutcomeBadCredential, 403), well},
		{"range", with(OutcomeRange, 416), well},
		{"precondition", with(OutcomePrecondition, 412), well},
		{"bucket gone", with(OutcomeError, 404), well},
		{"another region", with(OutcomeError, 301), well},
		{"archived", with(OutcomeError, 403), well},
		{"wrong checksum", with(OutcomeError, 200), well},

		{"500", with(OutcomeError, 500), sick},
		{"503", with(OutcomeError, 503), sick},
		{"throttled", with(OutcomeThrottled, 503), sick},
		{"timeout", with(OutcomeTimeout, 0), sick},
		{"network", with(OutcomeNetwork, 0), sick},
		{"wrapped", fmt.Errorf("once: %w", with(OutcomeNetwork, 0)), sick},

		{"no HTTP", with(OutcomeError, 0), unknown},
		{"caller left", with(OutcomeAborted, 0), unknown},
		{"no descriptor", with(OutcomeOverloaded, 0), unknown},
		{"circuit open", with(OutcomeCircuitOpen, 0), unknown},
		{"queue full", overloaded(errQueueFull), unknown},
		{"time was up in the queue", &Error{Outcome: OutcomeTimeout}, unknown},
		{"secret does not open", &Error{Outcome: OutcomeBadCredential}, unknown},
		{"address forbidden", &Error{Outcome: OutcomeNetwork, Operation: opGet, err: &addressError{errPlain}}, unknown},
		{"no error of ours", errors.New("x"), unknown},
	} {
		if got := healthOf(tc.err); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
		}
	}
}

// Only failures in a row open a circuit. F fails, S succeeds, N finds nothing, L is
// left by its caller.
func TestBreakerOpens(t *testing.T) {
	t.Parallel()
	ends := map[rune]error{'F': errSick, 'S': nil, 'N': &Error{Outcome: OutcomeNotFound, Operation: opGet, Status: 404}, 'L': errLeft}
	for calls, want := range map[string]CircuitState{
		"": CircuitClosed, "S": CircuitClosed, "FF": CircuitClosed, "FFSFF": CircuitClosed, "FFNFFNFF": CircuitClosed,
		"LLLLLL": CircuitClosed, "FLFL": CircuitClosed, "NNNN": CircuitClosed,
		"FFF": CircuitOpen, "SFFF": CircuitOpen, "FFSFFF": CircuitOpen, "FLFLF": CircuitOpen,
	} {
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
			if text := e.Error(); !strings.Contains(text, "3 in a row, the last one error") || e.RetryAfter < breakerPause*9/10-time.Second {
				t.Errorf("%s: refused with %q and RetryAfter %s", calls, text, e.RetryAfter)
			}
		}
	}
}

func TestBreakerOff(t *testing.T) {
	t.Parallel()
	rec := &recorder{}
	b := newBreaker(Config{BreakerOpen: time.Second}, rec)
	for range 1000 {
		b.call(t, routeOf(1, ""), errSick)
	}
	if b.want(t, routeOf(1, ""), CircuitClosed); len(rec.circuits) != 0 || len(b.byID) != 0 {
		t.Errorf("told %v, %d kept", rec.circuits, len(b.byID))
	}
}

// A circuit is one credential's in one place.
func TestBreakerKeys(t *testing.T) {
	t.Parallel()
	b, rec := newTestBreaker()
	r := routeOf(1, "https://a.example")
	b.openUp(t, r)
	b.callOf(t, r, "b.png", errSick) // it is not for one object's sake
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
		if told := rec.circuits["cred-1"]; !slices.Equal(told, []CircuitState{CircuitOpen, CircuitClosed}) || len(b.byID) != 0 {
			t.Errorf("told %v, %d credentials kept", told, len(b.byID))
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
	if len(b.byID) != 0 || len(b.news) != 0 {
		t.Errorf("left with %v and %v", b.byID, b.news)
	}
}

// However many credentials fail, so many circuits are kept.
func TestBreakerBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, rec := newTestBreaker()
		for id := range int64(maxCircuits + 100) {
			for range breakerLimit {
				b.call(t, routeOf(id, ""), errSick)
			}
		}
		if len(b.byID) != maxCircuits {
			t.Errorf("%d are kept, want %d", len(b.byID), maxCircuits)
		}
		b.want(t, routeOf(maxCircuits, ""), CircuitClosed)
		pass(circuitIdle + 1)
		b.openUp(t, routeOf(maxCircuits, ""))
		if len(b.byID) != 1 {
			t.Errorf("%d are kept that nobody asks", len(b.byID))
		}
		if told := rec.circuits["cred-7"]; !slices.Equal(told, []CircuitState{CircuitOpen, CircuitClosed}) {
			t.Errorf("told %v of one that was dropped", told)
		}
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
