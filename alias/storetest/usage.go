package storetest

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

// usageDelta returns one with a different number in every field, times n.
func usageDelta(aliasID, n int64) alias.UsageDelta {
	return alias.UsageDelta{AliasID: aliasID, Usage: alias.Usage{
		Since: at,
		Spent: alias.Tally{Requests: n, Bytes: 2 * n}, Hit: alias.Tally{Requests: 3 * n, Bytes: 4 * n},
		Collapsed: alias.Tally{Requests: 5 * n, Bytes: 6 * n}, NotModified: alias.Tally{Requests: 7 * n, Bytes: 8 * n},
		Transforms: alias.Work{Jobs: 9 * n, Milliseconds: 10 * n, SavedBytes: 11 * n},
	}}
}

func usageBatch(writer string, number int64, deltas ...alias.UsageDelta) alias.UsageBatch {
	return alias.UsageBatch{Writer: writer, Number: number, At: at, Deltas: deltas}
}

func addUsage(t *testing.T, s alias.Store, b alias.UsageBatch) {
	t.Helper()
	if err := s.AddUsage(t.Context(), b); err != nil {
		t.Errorf("AddUsage(%s %d): %v", b.Writer, b.Number, err)
	}
}

func wantUsage(t *testing.T, s alias.Store, aliasID int64, want alias.Usage) {
	t.Helper()
	all, err := s.Usage(t.Context(), alias.UsageQuery{AliasIDs: []int64{aliasID}})
	if err != nil {
		t.Errorf("Usage(%d): %v", aliasID, err)
	}
	got, found := all[aliasID]
	if diff := cmp.Diff(want, got.Usage); diff != "" || found != (want != alias.Usage{}) || len(got.Periods) > 0 {
		t.Errorf("Usage(%d): found %v, %d periods (-want +got):\n%s", aliasID, found, len(got.Periods), diff)
	}
}

// seedUsers makes the aliases a (1), b (2), … that usage is counted for.
func seedUsers(t *testing.T, s alias.Store, names ...alias.Name) {
	t.Helper()
	c := credential(1, "one")
	list := make([]*alias.Alias, len(names))
	for i, n := range names {
		list[i] = anAlias(int64(i+1), n, c)
	}
	seed(t, s, []*alias.Credential{c}, list...)
}

func testUsage(t *testing.T, s alias.Store) {
	seedUsers(t, s, "a", "b", "c")
	wantUsage(t, s, 1, alias.Usage{})
	wantUsage(t, s, 99, alias.Usage{})
	later := usageDelta(1, 10)
	later.Since = at.Add(time.Hour)
	addUsage(t, s, usageBatch("w", 1, usageDelta(1, 1), usageDelta(2, 100)))
	addUsage(t, s, usageBatch("w", 2, later, usageDelta(99, 1))) // there is no alias 99
	addUsage(t, s, usageBatch("w", 3))
	wantUsage(t, s, 1, usageDelta(1, 11).Usage)
	wantUsage(t, s, 2, usageDelta(2, 100).Usage)
	wantUsage(t, s, 3, alias.Usage{})
	wantUsage(t, s, 99, alias.Usage{})

	big := alias.UsageDelta{AliasID: 3, Usage: alias.Usage{Since: at, Spent: alias.Tally{Bytes: math.MaxInt64}}}
	addUsage(t, s, usageBatch("w", 4, big))
	wantUsage(t, s, 3, big.Usage)
}

// testUsageAddedOnce adds batches again, like a writer that lost the answer.
func testUsageAddedOnce(t *testing.T, s alias.Store) {
	seedUsers(t, s, "a")
	for _, step := range []struct {
		writer string
		number int64
		after  time.Duration
		want   int64
	}{
		{"w", 1, 0, 1},
		{"w", 1, 0, 1},
		{"w", 2, 0, 2},
		{"w", 1, 0, 2},
		{"v", 1, time.Hour, 3}, // another process
		{"w", 2, alias.UsageMemory / 2, 3},
		{"v", 1, alias.UsageMemory - time.Hour, 3},
		{"u", 7, alias.UsageMemory / 2, 4},
		{"w", 7, alias.UsageMemory, 5},
		{"w", 6, alias.UsageMemory, 5},
	} {
		b := usageBatch(step.writer, step.number, usageDelta(1, 1))
		b.At = at.Add(step.after)
		addUsage(t, s, b)
		wantUsage(t, s, 1, usageDelta(1, step.want).Usage)
	}
}

// testUsageAllOrNone lets batches fail, before they begin and in the middle, and adds
// them again.
func testUsageAllOrNone(t *testing.T, s alias.Store) {
	seedUsers(t, s, "a", "b", "c")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := usageBatch("w", 1, usageDelta(1, 1), usageDelta(2, 1))
	wantError(t, "AddUsage", s.AddUsage(ctx, b), context.Canceled)
	wantUsage(t, s, 1, alias.Usage{})
	most := usageDelta(2, 1)
	most.Spent.Bytes = math.MaxInt64
	addUsage(t, s, usageBatch("v", 1, most))
	if err := s.AddUsage(t.Context(), b); err == nil {
		t.Error("more than fits was added")
	}
	wantUsage(t, s, 1, alias.Usage{})
	wantUsage(t, s, 2, most.Usage)
	got, err := s.Usage(t.Context(), alias.UsageQuery{AliasIDs: []int64{1, 2}, By: alias.Hourly, Last: 1, Now: at})
	if err != nil || len(got[2].Periods) != 1 || got[2].Periods[alias.Hourly.Begin(at)].Spent.Bytes != math.MaxInt64 {
		t.Errorf("periods after the failure: got %v, %v", got, err)
	}
	b.Deltas[1] = usageDelta(3, 1)
	addUsage(t, s, b) // the failed batch did not use its number
	wantUsage(t, s, 1, usageDelta(1, 1).Usage)
	wantUsage(t, s, 3, usageDelta(3, 1).Usage)
}

func testUsageGoesWithAlias(t *testing.T, s alias.Store) {
	seedUsers(t, s, "a", "b")
	addUsage(t, s, usageBatch("w", 1, usageDelta(1, 1), usageDelta(2, 2)))
	must(t, s, func(tx alias.Tx) error { return tx.DeleteAlias(1, 1) })
	wantUsage(t, s, 1, alias.Usage{})
	addUsage(t, s, usageBatch("w", 2, usageDelta(1, 1), usageDelta(2, 2))) // counted before, stored after
	wantUsage(t, s, 1, alias.Usage{})
	wantUsage(t, s, 2, usageDelta(2, 4).Usage)
}

func testUsageConcurrent(t *testing.T, s alias.Store) {
	seedUsers(t, s, "a", "b")
	const writers, batches = 4, 5
	var done sync.WaitGroup
	for w := range writers {
		done.Go(func() {
			for n := range batches {
				addUsage(t, s, usageBatch(fmt.Sprint("w", w), int64(n+1), usageDelta(1, 1), usageDelta(2, 2)))
			}
		})
	}
	done.Wait()
	wantUsage(t, s, 1, usageDelta(1, writers*batches).Usage)
	wantUsage(t, s, 2, usageDelta(2, 2*writers*batches).Usage)
}

// periods are the factors of usageDelta by the alias and the begin of the period.
type periods map[int64]map[time.Time]int64

// wantSeries checks the periods that a query gives.
func wantSeries(t *testing.T, s alias.Store, q alias.UsageQuery, want periods) {
	t.Helper()
	all, err := s.Usage(t.Context(), q)
	if err != nil {
		t.Fatalf("Usage by %s: %v", q.By, err)
	}
	got := map[int64]map[time.Time]alias.Usage{}
	for id, h := range all {
		got[id] = h.Periods
	}
	wanted := map[int64]map[time.Time]alias.Usage{}
	for id, periods := range want {
		wanted[id] = map[time.Time]alias.Usage{}
		for begin, n := range periods {
			u := usageDelta(id, n).Usage
			u.Since = time.Time{}
			wanted[id][begin] = u
		}
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("last %d by %s at %s (-want +got):\n%s", q.Last, q.By, q.Now, diff)
	}
}

// testUsageHistory adds at times around the begins of hours and days.
func testUsageHistory(t *testing.T, s alias.Store) {
	seedUsers(t, s, "a", "b", "c")
	day := time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	east := time.FixedZone("", 5*3600+1800) // hours begin in UTC, also where the offset is half an hour
	number := int64(0)
	add := func(at time.Time, deltas ...alias.UsageDelta) {
		number++
		b := usageBatch("w", number, deltas...)
		b.At = at
		addUsage(t, s, b)
		addUsage(t, s, b) // it is added once
	}
	add(day, usageDelta(1, 1), usageDelta(2, 100), usageDelta(99, 1)) // there is no alias 99
	add(day.Add(time.Hour-time.Microsecond), usageDelta(1, 2))
	add(day.Add(time.Hour).In(east), usageDelta(1, 4))
	add(day.Add(23*time.Hour+30*time.Minute), usageDelta(1, 8))
	now := day.Add(25 * time.Hour)
	add(now, usageDelta(1, 16))
	at := func(hours int) time.Time { return day.Add(time.Duration(hours) * time.Hour) }
	ids := []int64{1, 2, 3, 99}
	for _, row := range []struct {
		name string
		q    alias.UsageQuery
		want periods
	}{
		{"all hours", alias.UsageQuery{AliasIDs: ids, By: alias.Hourly, Last: 72, Now: now}, periods{
			1: {at(0): 3, at(1): 4, at(23): 8, at(25): 16}, 2: {at(0): 100},
		}},
		{"all days", alias.UsageQuery{AliasIDs: ids, By: alias.Daily, Last: 90, Now: now.In(east)}, periods{
			1: {at(0): 15, at(24): 16}, 2: {at(0): 100},
		}},
		{"last hour", alias.UsageQuery{AliasIDs: ids, By: alias.Hourly, Last: 1, Now: now.Add(time.Hour - 1)}, periods{
			1: {at(25): 16}, 2: {},
		}},
		{"hours before the last", alias.UsageQuery{AliasIDs: []int64{1}, By: alias.Hourly, Last: 2, Now: at(24)}, periods{
			1: {at(23): 8},
		}},
		{"no series", alias.UsageQuery{AliasIDs: []int64{2}, Last: 72, Now: now}, periods{2: {}}},
		{"nobody", alias.UsageQuery{By: alias.Daily, Last: 90, Now: now}, periods{}},
	} {
		t.Run(row.name, func(t *testing.T) { wantSeries(t, s, row.q, row.want) })
	}
}

// testUsageHistoryPruned: hours are kept for 3 days, days for 90, and the sum for ever.
func testUsageHistoryPruned(t *testing.T, s alias.Store) {
	seedUsers(t, s, "a", "b")
	first := time.Date(2024, 2, 29, 23, 59, 59, 0, time.UTC)
	for number, step := range []struct {
		after       time.Duration
		hours, days int
	}{
		{0, 1, 1},
		{time.Hour, 2, 2},
		{71 * time.Hour, 3, 3},
		{72 * time.Hour, 3, 3}, // the first hour is gone
		{89 * 24 * time.Hour, 1, 4},
		{90 * 24 * time.Hour, 2, 4}, // the first day is gone
		{time.Hour, 3, 4},           // a clock that was set back deletes nothing
	} {
		b := usageBatch("w", int64(number+1), usageDelta(1, 1))
		b.At = first.Add(step.after)
		addUsage(t, s, b)
		wantUsage(t, s, 1, usageDelta(1, int64(number+1)).Usage)
		for by, want := range map[alias.Period]int{alias.Hourly: step.hours, alias.Daily: step.days} {
			// More periods than are kept, to see what is there.
			q := alias.UsageQuery{AliasIDs: []int64{1}, By: by, Last: 2200, Now: first.Add(90 * 24 * time.Hour)}
			got, err := s.Usage(t.Context(), q)
			if err != nil || len(got[1].Periods) != want {
				t.Errorf("step %d: got %d by %s, %v, want %d", number, len(got[1].Periods), by, err, want)
			}
		}
	}
}

// testUsageHistoryGoesWithAlias: a deleted alias takes all of its periods along, and no one
// else's.
func testUsageHistoryGoesWithAlias(t *testing.T, s alias.Store) {
	seedUsers(t, s, "a", "b")
	for n := range int64(4) {
		b := usageBatch("w", n+1, usageDelta(1, 1), usageDelta(2, 1))
		b.At = at.Add(time.Duration(n) * time.Hour)
		addUsage(t, s, b)
	}
	must(t, s, func(tx alias.Tx) error { return tx.DeleteAlias(1, 1) })
	must(t, s, func(tx alias.Tx) error { // the id again, to see what is left of it
		a := anAlias(1, "a", credential(1, "one"))
		return tx.InsertAlias(a)
	})
	b := usageBatch("w", 5, usageDelta(1, 7))
	b.At = at.Add(24 * time.Hour)
	addUsage(t, s, b)
	for by, want := range map[alias.Period]int{alias.Hourly: 4, alias.Daily: 2} {
		got, err := s.Usage(t.Context(), alias.UsageQuery{AliasIDs: []int64{1, 2}, By: by, Last: by.Kept(), Now: b.At})
		if err != nil || len(got[1].Periods) != 1 || len(got[2].Periods) != want {
			t.Errorf("by %s: got %d and %d, %v, want 1 and %d", by, len(got[1].Periods), len(got[2].Periods), err, want)
		}
	}
}
