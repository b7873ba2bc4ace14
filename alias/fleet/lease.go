package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"ixmage/alias"
)

// marginShare is how long before the end of a lease its holder stops: calls that are under way then
// end before another process has the lease.
const marginShare = 3 // of the time of a lease

// Held is a lease that this process has.
type Held struct {
	n     *Node
	lease alias.Lease

	mu    sync.Mutex
	until time.Time     // by the monotonic clock, and by the wall clock
	lost  chan struct{} // closed when the lease may not be used any more
	once  sync.Once     // closes lost
	timer *time.Timer   // calls lose at until
	ended bool
}

// Try takes a lease: alias.ErrLeased if another process has it, or this one.
func (n *Node) Try(ctx context.Context, name string) (*Held, error) {
	if n.away() {
		return nil, n.unavailable()
	}
	n.mu.Lock()
	_, own := n.held[name]
	n.mu.Unlock()
	if own {
		return nil, fmt.Errorf("%s: %w", name, alias.ErrLeased)
	}
	began := time.Now()
	lease, err := n.db.AcquireLease(ctx, alias.Lease{Name: name, Node: n.cfg.Name, Process: n.process}, n.cfg.TTL)
	if err != nil {
		return nil, err
	}
	h := &Held{n: n, lease: lease, lost: make(chan struct{})}
	h.timer = time.AfterFunc(time.Hour, h.lose)
	n.mu.Lock()
	n.held[name] = h
	n.mu.Unlock()
	h.extend(began) // after a pause it ends here, and must be found then
	return h, nil
}

// Lease is what a transaction checks.
func (h *Held) Lease() alias.Lease { return h.lease }

// Valid reports whether the process may act now. A process that was paused finds out here. Once
// a lease is not valid, it never is again.
func (h *Held) Valid() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = h.ended || !before(time.Now(), h.until)
	return !h.ended
}

// before compares by both clocks of a process: the monotonic one stands still while the machine
// is suspended, and the wall clock may be set back.
func before(now, until time.Time) bool {
	return now.Before(until) && now.Round(0).Before(until.Round(0))
}

// heldUntil is when the holder of a lease stops, if it asked for the lease, or for more of it,
// at a time: before any other process can have the lease.
func heldUntil(asked time.Time, ttl time.Duration) time.Time { return asked.Add(ttl - ttl/marginShare) }

// Context returns a context that ends with the lease; its cause is alias.ErrLeaseLost.
func (h *Held) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() {
		select {
		case <-h.lost:
			cancel(alias.ErrLeaseLost)
		case <-stopped:
		}
	}()
	var once sync.Once
	return ctx, func() { once.Do(func() { close(stopped); cancel(nil) }) }
}

// Release gives up the lease. If the database cannot be told, the lease ends by itself.
func (h *Held) Release() {
	h.lose()
	ctx, cancel := context.WithTimeout(context.Background(), h.n.cfg.Every)
	defer cancel()
	if err := h.n.db.ReleaseLease(ctx, h.lease); err != nil {
		h.n.cfg.Log.Debug("a lease is not released; it ends by itself", "lease", h.lease.Name, "error", err)
	}
}

// extend moves the end, counted from the moment before the database was asked.
func (h *Held) extend(asked time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || !h.until.IsZero() && !before(time.Now(), h.until) {
		return // the timer ends it
	}
	h.until = heldUntil(asked, h.n.cfg.TTL)
	h.timer.Reset(time.Until(h.until))
}

// lose ends the lease in this process.
func (h *Held) lose() {
	h.mu.Lock()
	h.ended = true
	h.timer.Stop()
	h.once.Do(func() { close(h.lost) })
	h.mu.Unlock()
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if h.n.held[h.lease.Name] == h {
		delete(h.n.held, h.lease.Name)
	}
}

// leases are the leases that the next beat extends.
func (n *Node) leases() []alias.Lease {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]alias.Lease, 0, len(n.held))
	for _, h := range n.held {
		list = append(list, h.lease)
	}
	return list
}

// settle extends a lease that was renewed, and loses any other.
func (n *Node) settle(l alias.Lease, renewed bool, asked time.Time) {
	n.mu.Lock()
	h := n.held[l.Name]
	n.mu.Unlock()
	switch {
	case h == nil || h.lease != l:
	case renewed:
		h.extend(asked)
	default:
		h.lose()
	}
}

// Leases returns the leases of all nodes as of the last beat, by name.
func (n *Node) Leases() []alias.Lease {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.reply.Leases
}

// Holds returns the names of the leases that this process may act on now.
func (n *Node) Holds() []string {
	n.mu.Lock()
	held := slices.Collect(maps.Values(n.held))
	n.mu.Unlock()
	var names []string
	for _, h := range held {
		if h.Valid() {
			names = append(names, h.lease.Name)
		}
	}
	return names
}

// LeaseHolder is the node that had a lease at the last beat; empty if none had it.
func (n *Node) LeaseHolder(name string) string {
	for _, l := range n.Leases() {
		if l.Name == name {
			return l.Node
		}
	}
	return ""
}
