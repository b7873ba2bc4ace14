package usage_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ixmage/alias"
	"ixmage/alias/usage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("the store is down")

// memory is a store of usage whose calls a test can make fail.
type memory struct {
	mu    sync.Mutex
	usage map[int64]alias.Usage
	// periods has hours only.
	periods map[int64]map[time.Time]alias.Usage
	last    map[string]int64
	sizes   []int        // of the batches that were added
	before  func() error // asked before a batch is added
	after   func() error // and after, when the answer may be lost
	read    func() error // and when usage is read
	wait    func()       // called with nothing held, before a batch is added
}

func newMemory() *memory {
	fine := func() error { return nil }
	return &memory{
		usage: map[int64]alias.Usage{}, periods: map[int64]map[time.Time]alias.Usage{}, last: map[string]int64{},
		before: fine, after: fine, read: fine, wait: func() {},
	}
}

func (m *memory) AddUsage(ctx context.Context, b alias.UsageBatch) error {
	m.wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before(); err != nil {
		return err
	}
	if b.Number > m.last[b.Writer] {
		m.last[b.Writer] = b.Number
		m.sizes = append(m.sizes, len(b.Deltas))
		for _, d := range b.Deltas {
			m.usage[d.AliasID] = m.usage[d.AliasID].Plus(d.Usage)
			if m.periods[d.AliasID] == nil {
				m.periods[d.AliasID] = map[time.Time]alias.Usage{}
			}
			begin := alias.Hourly.Begin(b.At)
			m.periods[d.AliasID][begin] = m.periods[d.AliasID][begin].Plus(d.Usage)
		}
	}
	return m.after()
}

func (m *memory) Usage(_ context.Context, q alias.UsageQuery) (map[int64]alias.UsageHistory, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[int64]alias.UsageHistory{}
	for _, id := range q.AliasIDs {
		if u, ok := m.usage[id]; ok {
			found[id] = alias.UsageHistory{Usage: u, Periods: maps.Clone(m.periods[id])}
		}
	}
	return found, m.read()
}

// total returns all counts of an alias.
func total(t *testing.T, l *usage.Accounts, id int64) (alias.Usage, error) {
	t.Helper()
	all, err := l.Usage(t.Context(), alias.UsageQuery{AliasIDs: []int64{id}})
	return all[id].Usage, err
}

func (m *memory) set(before, after error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.after = func() error { return before }, func() error { return after }
}

// stored returns the content of the store, without times.
func (m *memory) stored() map[int64]alias.Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := maps.Clone(m.usage)
	for id, u := range all {
		u.Since = time.Time{}
		all[id] = u
	}
	return all
}

func newAccounts(m *memory) *usage.Accounts {
	return usage.New(usage.Config{Store: m, Log: slog.New(slog.DiscardHandler)})
}

// count does one of everything, n times over.
func count(a *usage.Account, n int64) {
	a.Spent(n, 2*n)
	a.Saved(usage.Hit, 3*n, 4*n)
	a.Saved(usage.Collapsed, 5*n, 6*n)
	a.Saved(usage.NotModified, 0, 8*n)
	a.Worked(n, time.Duration(n)*9*time.Millisecond, 10*n)
}

// counted returns the usage that count counts.
func counted(n int64) alias.Usage {
	return alias.Usage{
		Spent: alias.Tally{Requests: n, Bytes: 2 * n}, Hit: alias.Tally{Requests: 3 * n, Bytes: 4 * n},
		Collapsed: alias.Tally{Requests: 5 * n, Bytes: 6 * n}, NotModified: alias.Tally{Bytes: 8 * n},
		Transforms: alias.Work{Jobs: n, Milliseconds: 9 * n, SavedBytes: 10 * n},
	}
}

func wantUsage(t *testing.T, l *usage.Accounts, id int64, want alias.Usage) {
	t.Helper()
	got, err := total(t, l, id)
	if err != nil {
		t.Fatalf("Usage(%d): %v", id, err)
	}
	got.Since = want.Since
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Usage(%d) (-want +got):\n%s", id, diff)
	}
}

func wantStored(t *testing.T, m *memory, want map[int64]alias.Usage) {
	t.Helper()
	if diff := cmp.Diff(want, m.stored()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func flush(t *testing.T, l *usage.Accounts, want error) {
	t.Helper()
	if err := l.Flush(t.Context()); !errors.Is(err, want) {
		t.Errorf("Flush: got %v, want %v", err, want)
	}
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	m := newMemory()
	l := newAccounts(m)
	if one := l.Of(1); one != l.Of(1) || one == l.Of(2) {
		t.Fatal("one alias, one account")
	}
	wantUsage(t, l, 1, alias.Usage{})
	count(l.Of(1), 1)
	count(l.Of(1), 10)
	count(l.Of(2), 100)
	l.Of(3) // of which nothing is counted
	wantUsage(t, l, 1, counted(11))
	wantStored(t, m, map[int64]alias.Usage{})
	flush(t, l, nil)
	wantStored(t, m, map[int64]alias.Usage{1: counted(11), 2: counted(100)})
	wantUsage(t, l, 1, counted(11))
	count(l.Of(1), 1)
	wantUsage(t, l, 1, counted(12))
	flush(t, l, nil)
	flush(t, l, nil) // with nothing to do
	wantStored(t, m, map[int64]alias.Usage{1: counted(12), 2: counted(100)})
	if diff := cmp.Diff([]int{2, 1}, m.sizes); diff != "" {
		t.Errorf("sizes of the batches (-want +got):\n%s", diff)
	}
}

// A new process continues with the stored counts.
func TestAccountsRestart(t *testing.T) {
	t.Parallel()
	m := newMemory()
	for range 3 {
		l := newAccounts(m)
		count(l.Of(1), 1)
		flush(t, l, nil)
	}
	wantUsage(t, newAccounts(m), 1, counted(3))
}

// TestFailingStore: whether the store failed before the commit or only its answer
// was lost, everything is stored once, and the sum that is shown is right all the
// time that it can be.
func TestFailingStore(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]bool{"before the commit": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory()
			l := newAccounts(m)
			count(l.Of(1), 1)
			flush(t, l, nil)
			if lost {
				m.set(nil, errDown)
			} else {
				m.set(errDown, nil)
			}
			for range 3 {
				count(l.Of(1), 10)
				flush(t, l, errDown)
			}
			if !lost {
				wantUsage(t, l, 1, counted(31))
			}
			m.set(nil, nil)
			wantUsage(t, l, 1, counted(31))
			flush(t, l, nil)
			wantUsage(t, l, 1, counted(31))
			wantStored(t, m, map[int64]alias.Usage{1: counted(31)})
		})
	}
}

// After a failed batch, later counts are still readable.
func TestUsageFails(t *testing.T) {
	t.Parallel()
	m := newMemory()
	l := newAccounts(m)
	count(l.Of(1), 1)
	m.read = func() error { return errDown }
	if _, err := total(t, l, 1); !errors.Is(err, errDown) {
		t.Errorf("got %v, want %v", err, errDown)
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	m := newMemory()
	l := newAccounts(m)
	held := l.Of(1)
	count(held, 1)
	l.Forget(1)
	l.Forget(2)
	count(held, 1) // by a request that is still under way
	flush(t, l, nil)
	wantStored(t, m, map[int64]alias.Usage{})
	wantUsage(t, l, 1, alias.Usage{})
}

// No transaction grows with the number of aliases.
func TestFlushInBatches(t *testing.T) {
	t.Parallel()
	m := newMemory()
	l := newAccounts(m)
	want := map[int64]alias.Usage{}
	for id := range int64(1201) {
		count(l.Of(id), 1)
		want[id] = counted(1)
	}
	fail := true
	m.before = func() error { // the second batch fails, once
		if len(m.sizes) == 1 && fail {
			fail = false
			return errDown
		}
		return nil
	}
	flush(t, l, errDown)
	if got := len(m.stored()); got != 500 {
		t.Errorf("got %d aliases stored, want those of the first batch", got)
	}
	flush(t, l, nil)
	wantStored(t, m, want)
	for _, n := range m.sizes {
		if n > 500 {
			t.Errorf("got batches of %v", m.sizes)
		}
	}
}

// TestCountWhileFlushing loses nothing between counting and flushing.
func TestCountWhileFlushing(t *testing.T) {
	t.Parallel()
	m := newMemory()
	fails := 0
	m.before = func() error {
		if fails++; fails%5 == 1 {
			return errDown
		}
		return nil
	}
	m.after = func() error {
		if fails%5 == 2 {
			return errDown
		}
		return nil
	}
	l := newAccounts(m)
	const counters, each = 4, 2000
	var counting, flushing sync.WaitGroup
	stop := make(chan struct{})
	flushing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = l.Flush(t.Context()) // it fails now and then
			}
		}
	})
	for range counters {
		counting.Go(func() {
			for i := range int64(each) {
				count(l.Of(i%3), 1)
			}
		})
	}
	counting.Wait()
	close(stop)
	flushing.Wait()
	m.before, m.after = func() error { return nil }, func() error { return nil }
	flush(t, l, nil)
	total := alias.Usage{}
	for _, u := range m.stored() {
		total = total.Plus(u)
	}
	if diff := cmp.Diff(counted(counters*each), total); diff != "" {
		t.Errorf("total (-want +got):\n%s", diff)
	}
}

// TestUsageDuringFlush: a batch that is on its way is neither missed nor counted
// twice.
func TestUsageDuringFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		l := newAccounts(m)
		count(l.Of(1), 1)
		release := make(chan struct{})
		m.wait = func() { <-release }
		var both sync.WaitGroup
		both.Go(func() { flush(t, l, nil) })
		synctest.Wait()
		both.Go(func() { wantUsage(t, l, 1, counted(1)) })
		ctx, cancel := context.WithCancel(t.Context())
		both.Go(func() {
			if _, err := l.Usage(ctx, alias.UsageQuery{AliasIDs: []int64{1}}); !errors.Is(err, context.Canceled) {
				t.Errorf("who does not want to wait: got %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		both.Wait()
	})
}

// TestSeries: stored counts are in the period in which they were stored, the others in the
// current one, and a batch that is pending in that of its collection.
func TestSeries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		l := newAccounts(m)
		want := func(step string, periods map[time.Time]int64) {
			t.Helper()
			q := alias.UsageQuery{AliasIDs: []int64{1, 2}, By: alias.Hourly, Last: 72, Now: time.Now()}
			all, err := l.Usage(t.Context(), q)
			if err != nil {
				t.Fatalf("%s: %v", step, err)
			}
			got := map[time.Time]alias.Usage{}
			for begin, u := range all[1].Periods {
				u.Since = time.Time{}
				got[begin] = u
			}
			wanted := map[time.Time]alias.Usage{}
			for begin, n := range periods {
				wanted[begin] = counted(n)
			}
			if diff := cmp.Diff(wanted, got); diff != "" || len(all) != min(1, len(periods)) {
				t.Errorf("%s: %d aliases, of one (-want +got):\n%s", step, len(all), diff)
			}
		}
		hour := alias.Hourly.Begin(time.Now())
		want("nothing", nil)
		count(l.Of(1), 1)
		want("not stored", map[time.Time]int64{hour: 1})
		flush(t, l, nil)
		want("stored", map[time.Time]int64{hour: 1})
		count(l.Of(1), 2)
		m.set(errDown, nil)
		flush(t, l, errDown)
		<-time.After(time.Hour)
		want("pending", map[time.Time]int64{hour: 3})
		count(l.Of(1), 4)
		want("pending, and not collected", map[time.Time]int64{hour: 3, hour.Add(time.Hour): 4})
		m.set(nil, nil)
		flush(t, l, nil)
		want("all stored", map[time.Time]int64{hour: 3, hour.Add(time.Hour): 4})
		if all, err := l.Usage(t.Context(), alias.UsageQuery{AliasIDs: []int64{3}, By: alias.Hourly, Now: time.Now()}); len(all) > 0 {
			t.Errorf("of another alias: got %v, %v", all, err)
		}
	})
}
