package proxy

import (
	"log/slog"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
	"ixmage/cache"
)

// takingClient acknowledges what the test says.
type takingClient struct {
	taken   int64
	dropped bool
}

func (c *takingClient) acknowledged(int64) int64 { return c.taken }
func (c *takingClient) reset()                   { c.dropped = true }

// slowTable is a SlowReaders with answers that wait.
type slowTable struct {
	*SlowReaders

	counts  map[string]int
	answers map[string]*pace
}

func newSlowTable() *slowTable {
	s := &slowTable{counts: map[string]int{}, answers: map[string]*pace{}}
	s.SlowReaders = NewSlowReaders(func(reason string, n int) { s.counts[reason] += n }, slog.New(slog.DiscardHandler))
	return s
}

// wait adds an answer that begins to wait.
func (s *slowTable) wait(name string, holds holding) {
	p := &pace{client: &takingClient{}}
	x := &exchange{proxy: &Proxy{slow: s.SlowReaders}}
	x.route.Alias = &alias.Alias{ID: holds.alias}
	p.begin(x)
	s.enter(p)
	p.holds = holds
	s.answers[name] = p
}

// take lets time pass, in which an answer's client takes a number of bytes each second.
func (s *slowTable) take(d time.Duration, rates map[string]int64) {
	const step = 100 * time.Millisecond
	for range d / step {
		time.Sleep(step) //nolint:forbidigo // in a bubble
		for name, rate := range rates {
			s.answers[name].client.(*takingClient).taken += rate / int64(time.Second/step)
		}
	}
}

// cut names the answers whose clients were cut.
func (s *slowTable) cut() []string {
	var names []string
	for name, p := range s.answers {
		if p.client.(*takingClient).dropped {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func TestCutForMemory(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, tc := range []struct {
		name   string
		after  time.Duration
		pinned int64            // of 120 MiB
		rates  map[string]int64 // of answers that hold 4 MiB
		large  string           // holds 80 MiB
		want   cache.Relief
		cut    []string
	}{
		{"within the share", time.Minute, 40 * mib, map[string]int64{"a": 0}, "", cache.NoRelief, nil},
		{"beyond it, very slow", time.Minute, 50 * mib, map[string]int64{"a": 450, "b": 300, "c": 500}, "", cache.ReliefRequested, []string{"b"}},
		{"beyond it, not very slow", time.Minute, 50 * mib, map[string]int64{"a": 20 << 10}, "", cache.NoRelief, nil},
		{"beyond it, one of each", time.Minute, 50 * mib, map[string]int64{"a": 20 << 10, "b": 450}, "", cache.ReliefRequested, []string{"b"}},
		{"two thirds, not very slow", time.Minute, 90 * mib, map[string]int64{"a": 20 << 10, "b": 30 << 10}, "", cache.ReliefRequested, []string{"a"}},
		{"two thirds, fair", time.Minute, 90 * mib, map[string]int64{"a": 100 << 10}, "", cache.NoRelief, nil},
		{"two thirds, just begun", graceTime - 100*time.Millisecond, 90 * mib, map[string]int64{"a": 0}, "", cache.ReliefLater, nil},
		{"a third, just begun", graceTime - 100*time.Millisecond, 50 * mib, map[string]int64{"a": 0}, "", cache.NoRelief, nil},
		{"five sixths, fair and proven", time.Minute, 110 * mib, map[string]int64{"a": 100 << 10}, "", cache.NoRelief, nil},
		{"five sixths, fair for a moment", time.Second, 110 * mib, map[string]int64{"a": 100 << 10}, "", cache.ReliefRequested, []string{"a"}},
		{"five sixths, good", time.Second, 110 * mib, map[string]int64{"a": 300 << 10}, "", cache.NoRelief, nil},
		{"five sixths, a proven one and a slower one", time.Minute, 110 * mib, map[string]int64{"a": 100 << 10, "b": 60 << 10}, "", cache.ReliefRequested, []string{"b"}},
		{"one body exceeds the share", time.Minute, 85 * mib, map[string]int64{"a": 450}, "a", cache.NoRelief, nil},
		{"one body exceeds it, and others do", time.Minute, 119 * mib, map[string]int64{"a": 450, "b": 300}, "a", cache.NoRelief, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSlowTable()
				for name := range tc.rates {
					holds := holding{bytes: 4 * mib}
					if name == tc.large {
						holds.bytes = 80 * mib
					}
					s.wait(name, holds)
				}
				s.wait("holds nothing", holding{})
				s.take(tc.after, tc.rates)
				if got := s.CutForMemory(tc.pinned, 120*mib); got != tc.want {
					t.Errorf("the result is %d, want %d", got, tc.want)
				}
				if got := s.cut(); !slices.Equal(got, tc.cut) {
					t.Errorf("cut %v, want %v", got, tc.cut)
				}
				if got := s.counts[cutMemory]; got != len(tc.cut) {
					t.Errorf("%d are counted", got)
				}
			})
		})
	}
}

// TestCutsAreAwaited: while a client that was cut still holds its bytes, no other is cut for
// them.
func TestCutsAreAwaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlowTable()
		s.wait("a", holding{bytes: 6})
		s.wait("b", holding{bytes: 6})
		s.wait("c", holding{bytes: 6})
		s.take(time.Minute, map[string]int64{"b": 100, "c": 200})
		for range 3 {
			if got := s.CutForMemory(38, 90); got != cache.ReliefRequested {
				t.Errorf("the result is %d", got)
			}
		}
		if got := s.cut(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("cut %v, want a alone: its bytes are sufficient", got)
		}
		p := s.answers["a"]
		s.leave(p)
		p.x.releaseClient()
		s.CutForMemory(38, 90)
		if got := s.cut(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("cut %v, want b too", got)
		}
	})
}

func TestCutForSlot(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		after time.Duration
		rates map[string]int64 // those of alias 1 begin with a, those of alias 2 with b
		alias int64
		cut   []string
	}{
		{"the slowest of the alias", time.Minute, map[string]int64{"a1": 450, "a2": 400, "b1": 0}, 1, []string{"a2"}},
		{"the slowest of all", time.Minute, map[string]int64{"a1": 450, "a2": 400, "b1": 0}, 0, []string{"b1"}},
		{"none that is fair", time.Minute, map[string]int64{"a1": 100 << 10, "b1": 0}, 1, nil},
		{"none that has just begun", graceTime / 2, map[string]int64{"a1": 0}, 1, nil},
		{"none of another alias", time.Minute, map[string]int64{"b1": 0}, 1, nil},
		{"one that took much at once and then nothing", 5 * time.Second, map[string]int64{"a0": 0}, 1, []string{"a0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSlowTable()
				for name := range tc.rates {
					s.wait(name, holding{slot: true, alias: int64(name[0]-'a') + 1})
				}
				s.wait("memory", holding{bytes: 1 << 20, alias: 1})
				if p := s.answers["a0"]; p != nil {
					p.client.(*takingClient).taken = 100 << 20
					s.leave(p)
					s.enter(p)
					p.holds = holding{slot: true, alias: 1}
				}
				s.take(tc.after, tc.rates)
				s.CutForSlot(tc.alias)
				if got := s.cut(); !slices.Equal(got, tc.cut) {
					t.Errorf("cut %v, want %v", got, tc.cut)
				}
			})
		})
	}
}

// TestStallRule: a client must take 30 KiB in any 30 s, whatever others need.
func TestStallRule(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		first int64 // bytes each second, for a minute
		rate  int64 // and for two more
		cut   bool
	}{
		{"nothing", 0, 0, true},
		{"450 B/s", 450, 450, true},
		{"1,000 B/s", 1000, 1000, true},
		{"1,050 B/s", 1050, 1050, false},
		{"20 KiB/s", 20 << 10, 20 << 10, false},
		{"quick at first", 1 << 20, 450, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSlowTable()
				s.wait("a", holding{})
				p := s.answers["a"]
				cut := false
				for i := 0; i < 180 && !cut; i++ {
					until := s.nextCheck(p)
					rate := tc.first
					if i >= 60 {
						rate = tc.rate
					}
					s.take(time.Second, map[string]int64{"a": rate})
					if i%5 == 4 { // the answer goes on, and waits again
						s.leave(p)
						s.enter(p)
					}
					if !time.Now().Before(until) {
						cut = s.stalled(p)
					}
				}
				if cut != tc.cut || p.client.(*takingClient).dropped != tc.cut {
					t.Errorf("cut is %t, want %t", cut, tc.cut)
				}
				if want := map[string]int{cutStalled: 0, cutMemory: 0, cutSlot: 0}; !tc.cut && !maps.Equal(s.counts, want) {
					t.Errorf("counted %v", s.counts)
				}
			})
		})
	}
}
