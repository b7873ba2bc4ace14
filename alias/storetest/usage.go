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
	got, err := s.Usage(t.Context(), aliasID)
	if err != nil {
		t.Errorf("Usage(%d): %v", aliasID, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Usage(%d) (-want +got):\n%s", aliasID, diff)
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
