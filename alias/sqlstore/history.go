package sqlstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ixmage/alias"
)

// history is the place of a transaction in the history of the registry, and what the
// transaction adds to the log. It stays zero in a database of one process.
type history struct {
	at      alias.TxPosition
	entries []alias.LogEntry
}

// Limits of a transaction, in the database: a process that is paused while it holds the lock
// of the head must not keep others waiting for long.
const (
	idleInTransaction = 5 * time.Second
	lockWait          = 8 * time.Second
)

// setTimeouts sets the limits. They are of the transaction and not of the session, which a pool
// between may share.
func (t *tx) setTimeouts() error {
	if t.dialect.shared == nil {
		return nil
	}
	const query = `SELECT set_config('idle_in_transaction_session_timeout', ?, true), set_config('lock_timeout', ?, true)`
	_, err := t.exec(query, ms(idleInTransaction), ms(lockWait))
	return err
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// lockHead waits for every other writer, and reads the position that they have left.
func (t *tx) lockHead() error {
	if t.dialect.shared == nil {
		return nil
	}
	head, err := one(t.querier, scanPosition, selectHead+` FOR UPDATE`)
	if err != nil {
		return t.fail(fmt.Errorf("lock the registry: %w", err))
	}
	t.at = alias.TxPosition{Before: head, After: alias.Position{Revision: head.Revision + 1, Tag: rand.Text()}}
	return nil
}

const selectHead = `SELECT revision, tag FROM registry_head`

func scanPosition(r row) (alias.Position, error) {
	var p alias.Position
	err := r.Scan(&p.Revision, &p.Tag)
	return p, err
}

// head reads the position of the last change.
func (q querier) head() (alias.Position, error) {
	if q.dialect.shared == nil {
		return alias.Position{}, nil
	}
	return one(q, scanPosition, selectHead)
}

// Position returns the place of the transaction in the history.
func (t *tx) Position() alias.TxPosition {
	at := t.at
	at.Logged = len(t.entries) > 0
	return at
}

// log notes a change that other processes must know.
func (t *tx) log(kind alias.LogKind, name alias.Name) {
	if t.dialect.shared != nil {
		t.entries = append(t.entries, alias.LogEntry{Kind: kind, Name: name})
	}
}

// LogPurge adds a purge to the log.
func (t *tx) LogPurge(p alias.Purge) error {
	if t.dialect.shared != nil {
		t.entries = append(t.entries, alias.LogEntry{Kind: alias.LogPurge, Purge: &p})
	}
	return nil
}

// writeLog writes the log of the transaction, and wakes the other nodes when it commits.
func (t *tx) writeLog() error {
	if len(t.entries) == 0 {
		return nil
	}
	const raise = `UPDATE registry_head SET revision = ?, tag = ?`
	if _, err := t.exec(raise, t.at.After.Revision, t.at.After.Tag); err != nil {
		return err
	}
	// A change often touches a row more than once.
	seen := make(map[alias.LogEntry]bool, len(t.entries))
	for i, e := range t.entries {
		if seen[e] {
			continue
		}
		seen[e] = true
		purge, err := json.Marshal(e.Purge)
		if err != nil {
			return t.fail(fmt.Errorf("write the log: %w", err))
		}
		const add = `INSERT INTO changes (revision, part, tag, at, kind, name, purge)
			VALUES (?, ?, ?, ` + dbNow + `, ?, ?, ?)`
		_, err = t.exec(add, t.at.After.Revision, int64(i), t.at.After.Tag, string(e.Kind), string(e.Name), string(purge))
		if err != nil {
			return err
		}
	}
	return t.wake(alias.WakeLog)
}

// dbNow is the time of the database in microseconds.
const dbNow = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`

// channel is that of NOTIFY.
const channel = "ixmage"

// wake notifies every node that listens when the transaction commits.
func (t *tx) wake(what string) error {
	_, err := t.exec(`SELECT pg_notify(?, ?)`, channel, what)
	return err
}

// Log reads the changes after a position.
func (s *Store) Log(ctx context.Context, after alias.Position, limit int) ([]alias.LogEntry, alias.Position, error) {
	if s.dialect.shared == nil {
		return nil, after, nil
	}
	q, end, err := s.view(ctx)
	if err != nil {
		return nil, after, err
	}
	defer end()
	head, err := q.head()
	if err != nil || head == after {
		return nil, after, err
	}
	if err := q.has(after, head); err != nil {
		return nil, after, err
	}
	const query = `SELECT revision, tag, kind, name, purge FROM changes
		WHERE revision > ? AND revision <= ? ORDER BY revision, part`
	to := after
	entries, err := collect(q, func(r row) (alias.LogEntry, error) { return scanEntry(r, &to) },
		query, after.Revision, after.Revision+int64(limit))
	if err == nil && to == after {
		err = fmt.Errorf("%w: it ends at revision %d, and the database is at %d",
			alias.ErrHistory, to.Revision, head.Revision)
	}
	return entries, to, err
}

// has returns alias.ErrHistory unless the log continues a position.
func (q querier) has(p, head alias.Position) error {
	if p.Revision >= head.Revision {
		return fmt.Errorf("%w: the database is at revision %d, before %d", alias.ErrHistory, head.Revision, p.Revision)
	}
	tag, err := one(q, scanValue[string], `SELECT tag FROM changes WHERE revision = ? LIMIT 1`, p.Revision)
	switch {
	case errors.Is(err, alias.ErrNotFound):
		return fmt.Errorf("%w: revision %d is not in it any more", alias.ErrHistory, p.Revision)
	case err == nil && tag != p.Tag:
		return fmt.Errorf("%w: revision %d is another change", alias.ErrHistory, p.Revision)
	}
	return err
}

func scanEntry(r row, to *alias.Position) (alias.LogEntry, error) {
	var e alias.LogEntry
	var purge string
	if err := r.Scan(&to.Revision, &to.Tag, &e.Kind, &e.Name, &purge); err != nil {
		return e, fmt.Errorf("read the log: %w", err)
	}
	if err := json.Unmarshal([]byte(purge), &e.Purge); err != nil {
		return e, fmt.Errorf("read the log at revision %d: %w", to.Revision, err)
	}
	return e, nil
}

// text makes a text from outside storable: PostgreSQL refuses invalid UTF-8 and NUL.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}
