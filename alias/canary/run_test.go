package canary

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
)

func TestCanaryRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newEnv(t, Config{Every: 5 * time.Minute, Concurrency: 3})
		a.takes = 100 * time.Millisecond
		for id := range int64(200) {
			a.add(id, func(al *alias.Alias, _ *alias.Credential) { al.Bucket = "b" + al.CreatedAt.String()[:1] })
		}
		a.add(1000, func(al *alias.Alias, _ *alias.Credential) { al.Canary, al.Bucket = "", "none" })
		a.add(1001, func(al *alias.Alias, _ *alias.Credential) { al.Enabled, al.Bucket = false, "off" })
		a.add(1002, func(al *alias.Alias, _ *alias.Credential) { al.State, al.Bucket = alias.StateProvisioning, "soon" })
		stop := a.run()
		const hour = time.Hour
		pass(t, hour)
		// Twelve times each, one more or less for the ends.
		if got := a.total(); got < 200*11 || got > 200*13 {
			t.Errorf("%d reads, want about %d", got, 200*12)
		}
		if a.most > 3 {
			t.Errorf("%d reads at a time, want at most 3", a.most)
		}
		for _, path := range []string{"/none/shop/", "/off/shop/canary.png", "/soon/shop/canary.png"} {
			if a.reads[path] != 0 {
				t.Errorf("%s was read", path)
			}
		}
		stop()
		if a.running != 0 {
			t.Errorf("%d reads are left", a.running)
		}
		// Nothing begins after the end.
		before := a.total()
		a.Refused(t.Context(), a.add(5000, nil))
		if a.total() != before {
			t.Error("a reading began after Run had ended")
		}
	})
}

// TestCanarySpread counts when readings begin: over the interval, and not at
// once.
func TestCanarySpread(t *testing.T) {
	t.Parallel()
	c := New(Config{Every: 5 * time.Minute})
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tenths := map[int]int{}
	for id := range int64(1000) {
		at := c.next(id, now)
		if wait := at.Sub(now); wait <= 0 || wait > 5*time.Minute+30*time.Second {
			t.Fatalf("alias %d waits %s", id, wait)
		}
		tenths[int(at.Sub(now)/(30*time.Second))]++
		// After that reading: one interval later, give or take the jitter.
		if wait := c.next(id, at).Sub(at); wait < 4*time.Minute+30*time.Second || wait > 5*time.Minute+30*time.Second {
			t.Fatalf("alias %d waits %s for the second time", id, wait)
		}
	}
	for i := 1; i < 10; i++ {
		if tenths[i] < 50 || tenths[i] > 160 {
			t.Errorf("%d readings in tenth %d of the interval", tenths[i], i)
		}
	}
}

func TestCanaryAliasesComeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newEnv(t, Config{Every: time.Minute})
		stop := a.run()
		pass(t, time.Hour)
		a.add(1, nil)
		pass(t, 2*time.Minute)
		if ok, at, known := a.State(1); !ok || !known || time.Since(at) > 2*time.Minute {
			t.Errorf("a new alias: %t %t", ok, known)
		}
		a.drop(1)
		pass(t, time.Minute)
		before := a.total()
		pass(t, time.Hour)
		if a.total() != before {
			t.Error("an alias that has gone is read")
		}
		if len(a.states) != 0 {
			t.Errorf("%d states are kept", len(a.states))
		}
		stop()
	})
}

// TestCanaryEndsWhileSilent ends Run while S3 does not answer: readings are
// cut off, and do not count.
func TestCanaryEndsWhileSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newEnv(t, Config{Timeout: time.Hour, Concurrency: 1})
		a.answer = ""
		stop := a.run()
		var asking sync.WaitGroup
		for id := range int64(3) { // two of them wait for their turn
			r := a.add(id, nil)
			asking.Go(func() { a.Refused(t.Context(), r) })
		}
		pass(t, 20*time.Minute)
		start := time.Now()
		stop()
		asking.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("took %s to end", took)
		}
		if len(a.recorded) != 0 {
			t.Errorf("recorded %v", a.recorded)
		}
	})
}

// TestCanaryPanics: a reading that panics has no answer, and the readings after it go
// on.
func TestCanaryPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newEnv(t, Config{Every: time.Minute, Concurrency: 1})
		r := a.add(1, nil)
		var well atomic.Bool
		read := a.cfg.Read
		a.cfg.Read = func(ctx context.Context, r alias.Route) error {
			if !well.Load() {
				panic("no client")
			}
			return read(ctx, r)
		}
		stop := a.run()
		pass(t, 5*time.Minute)
		if a.Refused(t.Context(), r) {
			t.Error("refused without an answer")
		}
		a.mu.Lock()
		text := a.log.String()
		a.mu.Unlock()
		if _, _, known := a.State(1); known || !strings.Contains(text, "no client") {
			t.Errorf("known %t, log %s", known, text)
		}
		well.Store(true)
		pass(t, 5*time.Minute)
		if ok, _, known := a.State(1); !ok || !known {
			t.Errorf("ok %t, known %t after the panics", ok, known)
		}
		stop()
	})
}

// TestCanaryRoutesPanic: Run continues after a panic of Routes.
func TestCanaryRoutesPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newEnv(t, Config{Every: time.Minute})
		a.add(1, nil)
		routes, times := a.cfg.Routes, 0
		a.cfg.Routes = func(fn func(alias.Route) bool) {
			if times++; times < 4 {
				panic("no routes")
			}
			routes(fn)
		}
		stop := a.run()
		pass(t, 5*time.Minute)
		stop()
		if ok, _, known := a.State(1); !ok || !known {
			t.Errorf("ok %t, known %t after the panics", ok, known)
		}
	})
}
