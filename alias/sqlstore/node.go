package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ixmage/alias"
)

var _ alias.NodeStore = (*Postgres)(nil)

// Beat stores the row of a node and extends its leases, in one transaction.
func (p *Postgres) Beat(ctx context.Context, b alias.Beat) (*alias.BeatReply, error) {
	var out *alias.BeatReply
	err := p.update(ctx, func(t *tx) error {
		reply, err := t.beat(b)
		out = reply
		return err
	})
	return out, err
}

func (t *tx) beat(b alias.Beat) (*alias.BeatReply, error) {
	now, err := one(t.querier, scanValue[int64], `SELECT `+dbNow)
	if err != nil {
		return nil, err
	}
	moved, err := t.putNode(b, now)
	if err != nil {
		return nil, err
	}
	out := &alias.BeatReply{Now: fromMicros(now)}
	for _, l := range b.Held {
		const renew = `UPDATE leases SET expires_at = ? WHERE name = ? AND process = ? AND token = ?`
		n, err := t.exec(renew, now+b.TTL.Microseconds(), l.Name, l.Process, l.Token)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			out.Renewed = append(out.Renewed, l)
		}
	}
	if out.Head, err = t.head(); err != nil {
		return nil, err
	}
	if out.Nodes, err = t.nodes(now, b.TTL); err != nil {
		return nil, err
	}
	const live = `SELECT name, node, process, token, expires_at FROM leases WHERE expires_at > ? ORDER BY name`
	if out.Leases, err = collect(t.querier, scanLease, live, now); err != nil {
		return nil, err
	}
	if moved { // a purge waits for it
		return out, t.wake(alias.WakeNodes)
	}
	return out, nil
}

// putNode stores the row of a node, and reports whether its revision has changed.
func (t *tx) putNode(b alias.Beat, now int64) (moved bool, err error) {
	uses := make(map[int64]int64, len(b.PreviousUses))
	for id, at := range b.PreviousUses {
		uses[id] = micros(at)
	}
	previous, err := json.Marshal(uses)
	if err != nil {
		return false, err
	}
	const known = `SELECT revision FROM changes WHERE revision = ? AND tag = ? LIMIT 1`
	revision, err := one(t.querier, scanValue[int64], known, b.At.Revision, b.At.Tag)
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		return false, err
	}
	was, err := t.lockNode(b, now)
	if err != nil {
		return false, err
	}
	const put = `INSERT INTO nodes (name, id, process, version, started_at, seen_at, revision, clock_offset, previous_uses)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET id = excluded.id, process = excluded.process, version = excluded.version,
		started_at = CASE WHEN nodes.process = excluded.process THEN nodes.started_at ELSE excluded.started_at END,
		seen_at = excluded.seen_at, revision = excluded.revision,
		clock_offset = excluded.clock_offset, previous_uses = excluded.previous_uses
		WHERE nodes.process = ?`
	n, err := t.exec(put, b.Name, b.ID, b.Process, b.Version, now, now, revision, b.ClockOffset.Microseconds(),
		string(previous), was.process)
	if err == nil && n == 0 { // another node has made the row since it was read
		err = taken(b.Name)
	}
	return was.revision != revision, err
}

// nodeState is what the row of a node has of the process before.
type nodeState struct {
	id, process    string
	seen, revision int64
}

// lockNode reads and locks the row with the name of a node, if there is one. It refuses a name that
// another node has and uses.
func (t *tx) lockNode(b alias.Beat, now int64) (nodeState, error) {
	was, err := one(t.querier, func(r row) (s nodeState, err error) {
		err = r.Scan(&s.id, &s.process, &s.seen, &s.revision)
		return s, err
	}, `SELECT id, process, seen_at, revision FROM nodes WHERE name = ? FOR UPDATE`, b.Name)
	if errors.Is(err, alias.ErrNotFound) {
		return nodeState{}, nil
	}
	other := was.id != b.ID || b.Joined && was.process != b.Process
	if err == nil && other && now-was.seen < b.TTL.Microseconds() {
		err = taken(b.Name)
	}
	return was, err
}

func taken(node string) error { return fmt.Errorf("the node %s: %w", node, alias.ErrExists) }

func (q querier) nodes(now int64, ttl time.Duration) ([]*alias.Node, error) {
	const query = `SELECT name, id, process, version, started_at, seen_at, revision, clock_offset, previous_uses
		FROM nodes ORDER BY name`
	return collect(q, func(r row) (*alias.Node, error) {
		var n alias.Node
		var started, seen, offset int64
		var previous string
		err := r.Scan(&n.Name, &n.ID, &n.Process, &n.Version, &started, &seen, &n.Revision, &offset, &previous)
		if err != nil {
			return nil, fmt.Errorf("read a node: %w", err)
		}
		var uses map[int64]int64
		if err := json.Unmarshal([]byte(previous), &uses); err != nil {
			return nil, fmt.Errorf("read the node %s: %w", n.Name, err)
		}
		n.PreviousUses = make(map[int64]time.Time, len(uses))
		for id, at := range uses {
			n.PreviousUses[id] = fromMicros(at)
		}
		n.StartedAt, n.SeenAt = fromMicros(started), fromMicros(seen)
		n.ClockOffset = time.Duration(offset) * time.Microsecond
		n.Live = now-seen < ttl.Microseconds()
		return &n, nil
	}, query)
}

// Nodes reads all nodes, by name.
func (p *Postgres) Nodes(ctx context.Context, ttl time.Duration) ([]*alias.Node, error) {
	q, end, err := p.view(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	now, err := one(q, scanValue[int64], `SELECT `+dbNow)
	if err != nil {
		return nil, err
	}
	return q.nodes(now, ttl)
}

// RemoveNode deletes the row of a node. The leases of another process end by themselves: it may
// have taken one since it was seen, and act under it.
func (p *Postgres) RemoveNode(ctx context.Context, name, process string, ttl time.Duration) error {
	return p.update(ctx, func(t *tx) error {
		const remove = `DELETE FROM nodes WHERE name = ? AND (process = ? OR ? = '' AND seen_at <= ` + dbNow + ` - ?)`
		n, err := t.exec(remove, name, process, process, ttl.Microseconds())
		if err != nil {
			return err
		}
		if n == 0 {
			there, err := one(t.querier, scanValue[int], `SELECT count(*) FROM nodes WHERE name = ?`, name)
			switch {
			case err != nil:
				return err
			case there > 0:
				return fmt.Errorf("the node %s lives: %w", name, alias.ErrInUse)
			}
			return fmt.Errorf("the node %s: %w", name, alias.ErrNotFound)
		}
		const release = `DELETE FROM leases WHERE node = ? AND (process = ? OR expires_at <= ` + dbNow + `)`
		if _, err = t.exec(release, name, process); err != nil {
			return err
		}
		return t.wake(alias.WakeNodes)
	})
}

func scanLease(r row) (alias.Lease, error) {
	var l alias.Lease
	var expires int64
	err := r.Scan(&l.Name, &l.Node, &l.Process, &l.Token, &expires)
	l.ExpiresAt = fromMicros(expires)
	return l, err
}

// AcquireLease takes a lease that no other process has.
func (p *Postgres) AcquireLease(ctx context.Context, l alias.Lease, ttl time.Duration) (alias.Lease, error) {
	var got alias.Lease
	err := p.update(ctx, func(t *tx) error {
		const acquire = `INSERT INTO leases (name, node, process, token, expires_at)
			VALUES (?, ?, ?, nextval('lease_tokens'), ` + dbNow + ` + ?)
			ON CONFLICT (name) DO UPDATE SET node = excluded.node, process = excluded.process,
			token = excluded.token, expires_at = excluded.expires_at
			WHERE leases.expires_at <= ` + dbNow + ` RETURNING name, node, process, token, expires_at`
		var err error
		got, err = one(t.querier, scanLease, acquire, l.Name, l.Node, l.Process, ttl.Microseconds())
		if errors.Is(err, alias.ErrNotFound) {
			return fmt.Errorf("%s: %w", l.Name, alias.ErrLeased)
		}
		return err
	})
	return got, err
}

// ReleaseLease gives up a lease.
func (p *Postgres) ReleaseLease(ctx context.Context, l alias.Lease) error {
	return p.update(ctx, func(t *tx) error {
		_, err := t.exec(`DELETE FROM leases WHERE name = ? AND process = ? AND token = ?`, l.Name, l.Process, l.Token)
		return err
	})
}

// CheckLease returns alias.ErrLeaseLost if the process does not have the lease any more. It
// locks the row, so that no other process takes the lease before the transaction ends.
func (t *tx) CheckLease(l alias.Lease) error {
	if t.dialect.shared == nil {
		return nil
	}
	const query = `SELECT 1 FROM leases WHERE name = ? AND process = ? AND token = ? FOR SHARE`
	_, err := one(t.querier, scanValue[int], query, l.Name, l.Process, l.Token)
	if errors.Is(err, alias.ErrNotFound) {
		err = fmt.Errorf("%s: %w", l.Name, alias.ErrLeaseLost)
	}
	return t.fail(err)
}

// Prune deletes the log that is older than a time, nodes that were not seen for another, and
// expired leases. The last change stays, so that a node at the head finds its position.
func (p *Postgres) Prune(ctx context.Context, log, nodes time.Duration) error {
	return p.update(ctx, func(t *tx) error {
		for query, age := range map[string]time.Duration{
			`DELETE FROM changes WHERE at < ` + dbNow + ` - ? AND revision < (SELECT revision FROM registry_head)`: log,
			`DELETE FROM nodes WHERE seen_at < ` + dbNow + ` - ?`:                                                  nodes,
			`DELETE FROM leases WHERE expires_at < ` + dbNow + ` - ?`:                                              time.Minute,
		} {
			if _, err := t.exec(query, age.Microseconds()); err != nil {
				return err
			}
		}
		return nil
	})
}
