package sqlstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
)

// usageCounts are the columns of counts, in the order of numbers.
var usageCounts = []string{
	"spent_requests", "spent_bytes", "hit_requests", "hit_bytes",
	"collapsed_requests", "collapsed_bytes", "not_modified_requests", "not_modified_bytes",
	"transform_jobs", "transform_ms", "transform_saved_bytes",
}

func numbers(u *alias.Usage) []*int64 {
	list := make([]*int64, 0, len(usageCounts))
	for _, c := range []*alias.Tally{&u.Spent, &u.Hit, &u.Collapsed, &u.NotModified} {
		list = append(list, &c.Requests, &c.Bytes)
	}
	return append(list, &u.Transforms.Jobs, &u.Transforms.Milliseconds, &u.Transforms.SavedBytes)
}

// counts returns the values of usageCounts.
func counts(u *alias.Usage) []any {
	args := make([]any, 0, len(usageCounts))
	for _, n := range numbers(u) {
		args = append(args, *n)
	}
	return args
}

// addUsage adds to the row of an alias, if the alias exists. It does not change the
// since of an existing row.
var addUsage = `INSERT INTO usage (since, ` + strings.Join(usageCounts, ", ") + `, alias_id)
	SELECT ?` + strings.Repeat(", ?", len(usageCounts)) + `, id FROM aliases WHERE id = ?
	ON CONFLICT (alias_id) DO UPDATE SET ` + plusExcluded("usage")

// addHistory adds to the row of an alias and a period.
var addHistory = insertInto("usage_history", append([]string{"hours", "at", "alias_id"}, usageCounts...)) +
	` ON CONFLICT (hours, at, alias_id) DO UPDATE SET ` + plusExcluded("usage_history")

// plusExcluded adds the counts of a row that exists already.
func plusExcluded(table string) string {
	set := make([]string, len(usageCounts))
	for i, c := range usageCounts {
		set[i] = c + " = " + table + "." + c + " + excluded." + c
	}
	return strings.Join(set, ", ")
}

// AddUsage adds a batch unless it was added before.
func (s *Store) AddUsage(ctx context.Context, b alias.UsageBatch) error {
	return s.update(ctx, func(t *tx) error { return t.addUsage(b) })
}

func (t *tx) addUsage(b alias.UsageBatch) error {
	const note = `INSERT INTO usage_writers (writer, number, at) VALUES (?, ?, ?)
		ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at = excluded.at
		WHERE usage_writers.number < excluded.number`
	fresh, err := t.exec(note, b.Writer, b.Number, micros(b.At))
	if err != nil || fresh == 0 {
		return err
	}
	const forget = `DELETE FROM usage_writers WHERE at < ?`
	if _, err := t.exec(forget, micros(b.At.Add(-alias.UsageMemory))); err != nil {
		return err
	}
	if err := t.addDeltas(b); err != nil {
		return err
	}
	for _, p := range alias.Periods() {
		const prune = `DELETE FROM usage_history WHERE hours = ? AND at < ?`
		if _, err := t.exec(prune, hours(p), micros(p.Oldest(b.At))); err != nil {
			return err
		}
	}
	return nil
}

// addDeltas prepares its statements once, because that takes most of the time of a write.
func (t *tx) addDeltas(b alias.UsageBatch) error {
	sum, err := t.prepare(addUsage)
	if err != nil {
		return err
	}
	defer sum.Close()
	period, err := t.prepare(addHistory)
	if err != nil {
		return err
	}
	defer period.Close()
	for _, d := range b.Deltas {
		values := counts(&d.Usage)
		known, err := t.run(sum, slices.Concat([]any{micros(d.Since)}, values, []any{d.AliasID})...)
		for _, p := range alias.Periods() {
			if err != nil || known == 0 {
				break
			}
			_, err = t.run(period, append([]any{hours(p), micros(p.Begin(b.At)), d.AliasID}, values...)...)
		}
		if err != nil {
			return fmt.Errorf("add the usage of alias %d: %w", d.AliasID, err)
		}
	}
	return nil
}

func hours(p alias.Period) int64 { return int64(p.Length() / time.Hour) }

// deleteHistory deletes the periods of an alias. It finds the periods of all aliases first,
// each with one step into the key.
func (t *tx) deleteHistory(aliasID int64) error {
	const query = `WITH RECURSIVE periods (at) AS (
			SELECT min(at) FROM usage_history WHERE hours = ?
			UNION ALL
			SELECT (SELECT min(h.at) FROM usage_history h WHERE h.hours = ? AND h.at > periods.at)
			FROM periods WHERE periods.at IS NOT NULL
		)
		DELETE FROM usage_history WHERE hours = ? AND alias_id = ? AND at IN (SELECT at FROM periods WHERE at IS NOT NULL)`
	for _, p := range alias.Periods() {
		if _, err := t.exec(query, hours(p), hours(p), hours(p), aliasID); err != nil {
			return err
		}
	}
	return nil
}

// usageRow is a row of usage, or of its history.
type usageRow struct {
	aliasID int64
	time    time.Time
	counts  alias.Usage
}

func scanUsage(r row) (usageRow, error) {
	var u usageRow
	var at int64
	dest := append(make([]any, 0, 2+len(usageCounts)), &u.aliasID, &at)
	for _, n := range numbers(&u.counts) {
		dest = append(dest, n)
	}
	if err := r.Scan(dest...); err != nil {
		return u, fmt.Errorf("read the usage of an alias: %w", err)
	}
	u.time = fromMicros(at)
	return u, nil
}

// Usage returns the sums and the periods that were added for aliases.
func (s *Store) Usage(ctx context.Context, uq alias.UsageQuery) (map[int64]alias.UsageHistory, error) {
	found := make(map[int64]alias.UsageHistory, len(uq.AliasIDs))
	ids, idArgs := among(uq.AliasIDs, func(id int64) any { return id })
	q, columns := s.read(ctx), strings.Join(usageCounts, ", ")
	sums := `SELECT alias_id, since, ` + columns + ` FROM usage WHERE alias_id IN ` + ids
	for r, err := range each(q, scanUsage, sums, idArgs...) {
		if err != nil {
			return nil, err
		}
		r.counts.Since = r.time
		found[r.aliasID] = alias.UsageHistory{Usage: r.counts, Periods: map[time.Time]alias.Usage{}}
	}
	times, timeArgs := among(uq.Times(), func(t time.Time) any { return micros(t) })
	series := `SELECT alias_id, at, ` + columns + ` FROM usage_history
		WHERE hours = ? AND at IN ` + times + ` AND alias_id IN ` + ids
	args := append(append([]any{hours(uq.By)}, timeArgs...), idArgs...)
	for r, err := range each(q, scanUsage, series, args...) {
		if err != nil {
			return nil, err
		}
		if h, ok := found[r.aliasID]; ok {
			h.Periods[r.time] = r.counts
		}
	}
	return found, nil
}

// among returns the list of IN and its arguments. PostgreSQL refuses an empty list.
func among[T any](list []T, arg func(T) any) (in string, args []any) {
	if len(list) == 0 {
		return "(NULL)", nil
	}
	for _, v := range list {
		args = append(args, arg(v))
	}
	return "(" + strings.TrimPrefix(strings.Repeat(", ?", len(list)), ", ") + ")", args
}
