package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"ixmage/alias"
)

// Name is the name of this node.
func (n *Node) Name() string { return n.cfg.Name }

// Now is the time by the clock of the database, as far as it is known.
func (n *Node) Now() time.Time { return time.Now().Add(n.clockOffset()) }

func (n *Node) clockOffset() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.offset
}

// ClockOffset is the clock of this machine minus that of the database.
func (n *Node) ClockOffset() time.Duration { return -n.clockOffset() }

// Head is the position of the last change of the registry, as of the last beat.
func (n *Node) Head() alias.Position {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.reply.Head
}

// Revision returns the revision up to which this node has applied every change, and that of
// the last change.
func (n *Node) Revision() (applied, head int64) {
	applied = n.registry.Position().Revision
	return applied, max(applied, n.Head().Revision)
}

// away reports whether the last attempt to reach the database has failed.
func (n *Node) away() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.trouble != nil
}

// Age is the time since the registry was last known to have every change.
func (n *Node) Age() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return max(0, time.Since(n.contact))
}

// Stale reports whether this node may lack changes, because the database did not answer the
// last attempt or for longer than a lease, since when, and why.
func (n *Node) Stale() (since time.Time, why error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.trouble != nil:
		return n.contact, n.trouble
	case time.Since(n.contact) > n.cfg.TTL:
		return n.contact, fmt.Errorf("%w: it does not answer", alias.ErrUnavailable)
	}
	return time.Time{}, nil
}

// Known returns all nodes as of the last beat, by name.
func (n *Node) Known() []*alias.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.reply.Nodes
}

// Nodes reads all nodes from the database, by name.
func (n *Node) Nodes(ctx context.Context) ([]*alias.Node, error) {
	if n.away() {
		return nil, n.unavailable()
	}
	if err := n.beat(ctx); err != nil {
		return nil, err
	}
	return n.Known(), nil
}

// read is Nodes without a beat.
func (n *Node) read(ctx context.Context) ([]*alias.Node, error) {
	if n.away() {
		return nil, n.unavailable()
	}
	return n.db.Nodes(ctx, n.cfg.TTL)
}

// Live returns the names of the live nodes as of the last beat, and this one, sorted.
func (n *Node) Live() []string {
	live := map[string]bool{n.cfg.Name: true}
	for _, node := range n.Known() {
		if node.Live {
			live[node.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(live))
}

// Remove makes a silent node unknown, so that nothing waits for it any more: alias.ErrNotFound if
// there is none, and alias.ErrInUse while it lives.
func (n *Node) Remove(ctx context.Context, name string) error {
	if n.away() {
		return n.unavailable()
	}
	return n.db.RemoveNode(ctx, name, "", n.cfg.TTL)
}

// Behind returns the nodes that have not reported a revision or a later one. A node that was
// silent for longer than the grace does not count.
func (n *Node) Behind(ctx context.Context, revision int64) ([]string, error) {
	nodes, err := n.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	return behind(nodes, revision, n.replyTime(), n.cfg.Grace), nil
}

// behind is Behind at a time of the database's clock.
func behind(nodes []*alias.Node, revision int64, now time.Time, grace time.Duration) []string {
	var names []string
	for _, node := range nodes {
		if node.Revision < revision && (node.Live || now.Sub(node.SeenAt) < grace) {
			names = append(names, node.Name)
		}
	}
	return names
}

// replyTime is when, by the database's clock, it answered the last beat.
func (n *Node) replyTime() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.reply.Now
}

const (
	// pollEvery is how often Confirmed looks without a notification.
	pollEvery = 250 * time.Millisecond
	// confirmRead bounds one look of it: a database that does not answer ends the wait.
	confirmRead = 5 * time.Second
)

// Confirmed waits until every live node has reported a revision, or until ctx ends, and returns
// the nodes that have and those that have not.
func (n *Node) Confirmed(ctx context.Context, revision int64) (confirmed, pending []string) {
	for {
		n.mu.Lock()
		reported := n.reported
		n.mu.Unlock()
		read, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmRead) // once also when ctx has ended
		nodes, err := n.read(read)
		cancel()
		if err != nil {
			nodes = n.Known()
		}
		var waiting bool
		confirmed, pending, waiting = n.divide(nodes, revision)
		if !waiting || ctx.Err() != nil || err != nil {
			return confirmed, pending
		}
		poll := time.NewTimer(pollEvery)
		select {
		case <-reported:
		case <-poll.C:
		case <-ctx.Done():
		}
		poll.Stop()
	}
}

// divide names the nodes that have a revision and those that have not, and reports whether one of
// the latter lives. The database may not have been told of the revision of this node yet.
func (n *Node) divide(nodes []*alias.Node, revision int64) (confirmed, pending []string, waiting bool) {
	own := n.registry.Position().Revision
	for _, node := range nodes {
		if node.Revision >= revision || node.Name == n.cfg.Name && own >= revision {
			confirmed = append(confirmed, node.Name)
			continue
		}
		pending = append(pending, node.Name)
		waiting = waiting || node.Live
	}
	return confirmed, pending, waiting
}

// usesKept is how long a use of a previous key is told.
const usesKept = 24 * time.Hour

// UsedPrevious notes that a request of this node was signed with the previous key of a
// credential. The other nodes learn of it with the next beat.
func (n *Node) UsedPrevious(credentialID int64) {
	now := n.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.uses[credentialID] = now
}

func (n *Node) previousUses() map[int64]time.Time {
	now := n.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.uses, func(_ int64, at time.Time) bool { return now.Sub(at) > usesKept })
	return maps.Clone(n.uses)
}

// PreviousUsed is the last time at which any node told that it used the previous key of a
// credential.
func (n *Node) PreviousUsed(credentialID int64) time.Time {
	var last time.Time
	for _, node := range n.Known() {
		if at := node.PreviousUses[credentialID]; at.After(last) {
			last = at
		}
	}
	return last
}

func (n *Node) unavailable() error {
	_, why := n.Stale()
	if why == nil || errors.Is(why, alias.ErrUnavailable) {
		return cmp.Or(why, alias.ErrUnavailable)
	}
	return fmt.Errorf("%w: %v", alias.ErrUnavailable, why) //nolint:errorlint // what it wraps would choose the status
}
