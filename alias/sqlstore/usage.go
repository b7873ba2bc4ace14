package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"ixmage/alias"
)

// usageCounts are the columns of counts, in the order of tallies.
var usageCounts = []string{
	"spent_requests", "spent_bytes", "hit_requests", "hit_bytes",
	"collapsed_requests", "collapsed_bytes", "not_modified_requests", "not_modified_bytes",
}

func tallies(u *alias.Usage) []*alias.Tally {
	return []*alias.Tally{&u.Spent, &u.Hit, &u.Collapsed, &u.NotModified}
}

// addUsage adds to the row of an alias, if the alias exists. It does not change the
// since of an existing row.
var addUsage = func() string {
	set := make([]string, len(usageCounts))
	for i, c := range usageCounts {
		set[i] = c + " = usage." + c + " + excluded." + c
	}
	values := strings.Repeat(", ?", 1+len(usageCounts))
	return `INSERT INTO usage (alias_id, since, ` + strings.Join(usageCounts, ", ") + `)
		SELECT id` + values + ` FROM aliases WHERE id = ?
		ON CONFLICT (alias_id) DO UPDATE SET ` + strings.Join(set, ", ")
}()

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
	for _, d := range b.Deltas {
		args := []any{micros(d.Since)}
		for _, c := range tallies(&d.Usage) {
			args = append(args, c.Requests, c.Bytes)
		}
		if _, err := t.exec(addUsage, append(args, d.AliasID)...); err != nil {
			return fmt.Errorf("add the usage of alias %d: %w", d.AliasID, err)
		}
	}
	return nil
}

func scanUsage(r row) (alias.Usage, error) {
	var u alias.Usage
	var since int64
	dest := append(make([]any, 0, 1+len(usageCounts)), &since)
	for _, c := range tallies(&u) {
		dest = append(dest, &c.Requests, &c.Bytes)
	}
	if err := r.Scan(dest...); err != nil {
		return u, fmt.Errorf("read the usage of an alias: %w", err)
	}
	u.Since = fromMicros(since)
	return u, nil
}

// Usage returns the sum that was added for an alias.
func (s *Store) Usage(ctx context.Context, aliasID int64) (alias.Usage, error) {
	query := `SELECT since, ` + strings.Join(usageCounts, ", ") + ` FROM usage WHERE alias_id = ?`
	u, err := one(s.read(ctx), scanUsage, query, aliasID)
	if errors.Is(err, alias.ErrNotFound) {
		err = nil
	}
	return u, err
}
