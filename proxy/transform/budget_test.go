package transform

import (
	"errors"
	"math"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestBudget: time is taken after a job, comes back with the clock, and is kept up to the burst.
func TestBudget(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	type step struct {
		after, charge, wait time.Duration // wait is what is left to wait after the charge
	}
	for _, tc := range []struct {
		name  string
		rate  Rate
		steps []step
	}{
		{"off", Rate{}, []step{{0, time.Hour, 0}}},
		{"some is left", Rate{100 * ms, time.Second}, []step{{0, 999 * ms, 0}}},
		{"nothing is left", Rate{100 * ms, time.Second}, []step{{0, time.Second, 10 * time.Nanosecond}}},
		{"debt", Rate{100 * ms, time.Second}, []step{{0, 5 * time.Second, 40*time.Second + 10}, {40 * time.Second, 0, 10}, {10, 0, 0}}},
		{"comes back", Rate{100 * ms, time.Second}, []step{{0, time.Second, 10}, {time.Second, 99 * ms, 0}, {0, 1 * ms, 10}}},
		{"not above the burst", Rate{100 * ms, time.Second}, []step{{0, 1, 0}, {time.Hour, time.Second, 10}}},
		{"an idle century", Rate{time.Hour, time.Hour}, []step{{0, 1, 0}, {math.MaxInt64, time.Hour, 1}}},
		{"burst below a second's time", Rate{time.Second, 0}, []step{{0, 999 * ms, 0}}},
		{"a clock that goes back", Rate{100 * ms, time.Second}, []step{{0, time.Second, 10}, {-time.Hour, 0, 10}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBudget[int](tc.rate)
			now := time.Unix(1, 0)
			for i, s := range tc.steps {
				now = now.Add(s.after)
				b.charge(7, s.charge, now)
				if got := b.wait(7, now); got != s.wait {
					t.Errorf("step %d: wait %d ns, want %d", i, got, s.wait)
				}
				if got := b.wait(8, now); got != 0 {
					t.Errorf("step %d: another key waits %s", i, got)
				}
			}
		})
	}
}

// TestBounded: keys that come from outside take a bounded table.
func TestBounded(t *testing.T) {
	t.Parallel()
	b, k := newBudget[string](Rate{1, 1}), newKillers()
	now := time.Now()
	for i := range bucketCount + 10 {
		b.charge(strconv.Itoa(i), time.Second, now)
		k.add(killer{source: strconv.Itoa(i + 1)}, now)
	}
	if b.buckets.Len() != bucketCount || k.until.Len() != killerCount {
		t.Errorf("%d buckets, %d killers", b.buckets.Len(), k.until.Len())
	}
	if b.wait("0", now) != 0 || b.wait("20", now) == 0 {
		t.Error("the key that was quiet for the longest time is not the one that was forgotten")
	}
}

// TestKillers: a killer is remembered for its time, for its owner, and with its watermark.
func TestKillers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKillers()
		k.add(killer{1, "etag", ""}, time.Now())
		k.add(killer{owner: 1}, time.Now())
		time.Sleep(killerTime - 1) //nolint:forbidigo // the clock of synctest
		for _, tc := range []struct {
			id   killer
			want bool
		}{
			{killer{1, "etag", ""}, true},
			{killer{1, "etag", "mark"}, false},
			{killer{2, "etag", ""}, false},
			{killer{1, "", ""}, false}, // no ID, not remembered
		} {
			if got := k.has(tc.id, time.Now()); got != tc.want {
				t.Errorf("%+v: %v, want %v", tc.id, got, tc.want)
			}
		}
		time.Sleep(time.Nanosecond) //nolint:forbidigo // the clock of synctest
		if k.has(killer{1, "etag", ""}, time.Now()) {
			t.Error("it is remembered after its time")
		}
	})
}

// TestLimited: an alias or a client without worker time is told when to come back, and others
// are served. The time of a job that was killed counts.
func TestLimited(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	cfg.AliasTime = Rate{1, 1}
	cfg.ClientTime = Rate{2, 2}
	p := startFakes(t, cfg)
	_, err := p.Do(t.Context(), command(1, "exit 1", 0))
	wantError(t, err, ErrCrashed)
	_, err = p.Do(t.Context(), command(1, "ok -", 0))
	var limited *LimitedError
	if !errors.As(err, &limited) || limited.Client || limited.RetryAfter <= 0 || !errors.Is(err, ErrLimited) {
		t.Fatalf("an alias without time: %#v", err)
	}
	j := command(2, "ok -", 0)
	j.Client = "192.0.2.1"
	if _, err = p.Do(t.Context(), j); err != nil {
		t.Fatalf("another alias: %v", err)
	}
	j = command(3, "ok -", 0)
	j.Client = "192.0.2.1"
	_, err = p.Do(t.Context(), j)
	if !errors.As(err, &limited) || !limited.Client || limited.RetryAfter <= 0 {
		t.Fatalf("a client without time: %#v", err)
	}
	j.Client, j.Source.Reader = "192.0.2.2", command(3, "ok -", 0).Source.Reader
	if _, err = p.Do(t.Context(), j); err != nil {
		t.Fatalf("another client: %v", err)
	}
	if got := e.outcomes(); got != "map[crashed:1 limited:2 ok:2]" {
		t.Error(got)
	}
}
