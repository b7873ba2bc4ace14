package usage_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
	"ixmage/alias/usage"
)

func TestSince(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		l := newAccounts(m)
		if u, err := total(t, l, 1); err != nil || !u.Since.IsZero() {
			t.Errorf("before the first count: got %v, %v", u.Since, err)
		}
		l.Of(1)
		<-time.After(time.Hour)
		first := time.Now().UTC()
		count(l.Of(1), 1)
		for range 3 {
			<-time.After(time.Hour)
			if u, err := total(t, l, 1); err != nil || !u.Since.Equal(first) || u.Since.Location() != time.UTC {
				t.Errorf("got %v, %v, want %v", u.Since, err, first)
			}
			flush(t, l, nil)
			count(l.Of(1), 1)
		}
	})
}

func TestSavedByNothingKnown(t *testing.T) {
	t.Parallel()
	l := newAccounts(newMemory())
	for _, by := range []usage.By{-1, 3, 1 << 40} {
		l.Of(1).Saved(by, 1, 1)
		if by.String() != "unknown" {
			t.Errorf("%d is called %s", by, by)
		}
	}
	u, err := total(t, l, 1)
	if err != nil || u != (alias.Usage{}) {
		t.Errorf("got %+v, %v", u, err)
	}
	for by, want := range map[usage.By]string{usage.Hit: "hit", usage.Collapsed: "collapsed", usage.NotModified: "not_modified"} {
		if by.String() != want {
			t.Errorf("%d is called %s, want %s", by, by, want)
		}
	}
}

// TestCountingAllocatesNothing: every cache hit counts, so counting must be cheap.
//
//nolint:paralleltest // AllocsPerRun counts what other goroutines allocate too.
func TestCountingAllocatesNothing(t *testing.T) {
	l := newAccounts(newMemory())
	a := l.Of(1 << 62)
	if n := testing.AllocsPerRun(100, func() { count(a, 1) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

func BenchmarkSaved(b *testing.B) {
	a := newAccounts(newMemory()).Of(1 << 62)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			a.Saved(usage.Hit, 1, 4096)
		}
	})
}

func BenchmarkOfSaved(b *testing.B) {
	l := newAccounts(newMemory())
	for id := range int64(1000) {
		l.Of(1<<62 + id)
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			l.Of(1<<62+7).Saved(usage.Hit, 1, 4096)
		}
	})
}

// TestWorked: times are rounded up, and a result that is larger than its source saves nothing.
func TestWorked(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		busy  time.Duration
		saved int64
		want  alias.Work
	}{
		{"exact", 2 * time.Millisecond, 10, alias.Work{Jobs: 1, Milliseconds: 2, SavedBytes: 10}},
		{"a part of a millisecond", 2*time.Millisecond + 1, 10, alias.Work{Jobs: 1, Milliseconds: 3, SavedBytes: 10}},
		{"it never ran", 0, 0, alias.Work{Jobs: 1}},
		{"a larger result", time.Millisecond, -1, alias.Work{Jobs: 1, Milliseconds: 1}},
		{"negative", -time.Hour, 0, alias.Work{Jobs: 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			l := newAccounts(newMemory())
			l.Of(1).Worked(1, row.busy, row.saved)
			if u, err := total(t, l, 1); err != nil || u.Transforms != row.want {
				t.Errorf("got %+v, %v, want %+v", u.Transforms, err, row.want)
			}
		})
	}
}
