package origin

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

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
			probe.done(errSick)
		}
		b.sleepToProbe(t, r)
		b.call(t, r, nil)
		if info := b.want(t, r, CircuitClosed); info.Failures != 0 {
			t.Errorf("closed with %d failures", info.Failures)
		}
		for range breakerLimit - 1 {
			b.call(t, r, errSick)
		}
		b.want(t, r, CircuitClosed)
		b.call(t, r, errSick)
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
			b.call(t, r, errSick)
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
		"read whole": {nil, 1, CircuitClosed}, "broken": {errSick, 0, CircuitOpen},
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
					b.call(t, r, errSick)
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
			late[i] = b.out(t, r, "a.png")
		}
		pass(time.Second)
		b.openUp(t, r)
		late[0].done(nil)
		late[1].done(errSick)
		before := b.want(t, r, CircuitOpen)
		b.sleepToProbe(t, r)
		probe := b.out(t, r, "a.png")
		late[2].done(nil)
		late[3].done(errSick)
		b.want(t, r, CircuitHalfOpen)
		probe.done(nil)
		for _, p := range late[4:] {
			p.done(errSick)
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
			b.want(t, r, CircuitHalfOpen)
		}
		b.call(t, r, nil)
		b.want(t, r, CircuitClosed)
	})
}

// A probe that hangs has no say any more once another object's call has closed the
// circuit, and keeps no later probe away.
func TestBreakerProbeOvertaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBreaker()
		r := routeOf(1, "")
		b.openUp(t, r)
		b.sleepToProbe(t, r)
		hangs := b.out(t, r, "a.png")
		b.callOf(t, r, "b.png", nil)
		b.want(t, r, CircuitClosed)
		pass(1)
		b.openUp(t, r)
		before := b.want(t, r, CircuitOpen)
		hangs.done(errSick)
		if info := b.want(t, r, CircuitOpen); info != before {
			t.Errorf("the probe of before made %+v of %+v", info, before)
		}
		b.sleepToProbe(t, r)
		b.call(t, r, nil)
		b.want(t, r, CircuitClosed)
	})
}
