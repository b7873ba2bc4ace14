package alias

import (
	"context"
	"time"
)

// Node is a process that serves a registry which it shares with others.
type Node struct {
	Name    string
	ID      string // of its data folder
	Process string // random for each start
	Version string
	// StartedAt and SeenAt are times of the database's clock.
	StartedAt, SeenAt time.Time
	// Revision is that of the Position up to which the node has applied every change.
	Revision int64
	// ClockOffset is the clock of the node minus that of the database.
	ClockOffset time.Duration
	// PreviousUses are the times, by the database's clock, at which requests last fell back
	// on the previous key of a credential, by its ID.
	PreviousUses map[int64]time.Time
	// Live reports whether the node was seen within the time of a lease.
	Live bool
}

// Lease is the right of one process to do something alone.
type Lease struct {
	Name      string
	Node      string
	Process   string
	Token     int64     // rises with each owner
	ExpiresAt time.Time // by the database's clock
}

// Beat is what a node tells its Store now and then.
type Beat struct {
	Node // StartedAt, SeenAt, Revision and Live are ignored

	// Joined means that the process has the row already. Then it is an error if another
	// process has it now, and lives.
	Joined bool
	// At is the position up to which the node has applied every change. It is not stored if
	// it is not in the history of the database.
	At Position
	// Held are the leases that are to be extended.
	Held []Lease
	TTL  time.Duration // of leases, and of the node's being live
}

// BeatReply is the answer to a Beat.
type BeatReply struct {
	Now     time.Time // the database's clock
	Head    Position
	Renewed []Lease // those of Held that the process still has
	Nodes   []*Node // all, by name
	Leases  []Lease // of all nodes, that have not expired, by name
}

// What wakes a node that listens.
const (
	WakeLog   = "log"
	WakeNodes = "nodes"
)

// NodeStore keeps the nodes of a fleet and their leases. All of it goes by the clock of the
// database. Methods are safe for concurrent use, do I/O and honour ctx.
type NodeStore interface {
	// Beat stores the row of a node and extends its leases. It returns ErrExists if a live
	// node with another ID has the name, or if another process has taken the place of this one.
	Beat(ctx context.Context, b Beat) (*BeatReply, error)
	// RemoveNode deletes the row of a node, and its leases as far as they have expired or are
	// those of process: ErrNotFound if there is no such node, and ErrInUse while it lives,
	// unless process is its own.
	RemoveNode(ctx context.Context, name, process string, ttl time.Duration) error
	// AcquireLease takes a lease, or returns ErrLeased if another process has it.
	AcquireLease(ctx context.Context, l Lease, ttl time.Duration) (Lease, error)
	// ReleaseLease gives up a lease, if the process still has it.
	ReleaseLease(ctx context.Context, l Lease) error
	// Prune deletes the log before a time, nodes that were last seen before another, and
	// expired leases.
	Prune(ctx context.Context, log, nodes time.Duration) error
	// Listen calls wake with WakeLog after each change of the log, and once when it is
	// connected, and with WakeNodes after each change of the positions that nodes report,
	// until ctx ends or the connection breaks.
	Listen(ctx context.Context, wake func(what string)) error
}
