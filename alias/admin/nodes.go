package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
)

// Nodes are the nodes that share the registry, as this one sees them.
type Nodes interface {
	// Name is that of this node.
	Name() string
	// Nodes reads all nodes from the database.
	Nodes(ctx context.Context) ([]*alias.Node, error)
	// Known are the nodes as of the last answer of the database, and Leases the leases of all
	// of them.
	Known() []*alias.Node
	Leases() []alias.Lease
	// Revision returns the revision up to which this node has applied every change, and the
	// last one that it knows of.
	Revision() (applied, head int64)
	// Stale returns since when the registry of this node may lack changes, and why; nil if it
	// does not.
	Stale() (since time.Time, why error)
	// Remove deletes a node: alias.ErrNotFound if there is none, alias.ErrInUse while it lives.
	Remove(ctx context.Context, name string) error
}

// nodes are the calls that show and remove nodes.
type nodes struct {
	fleet    Nodes // nil: the registry is not shared
	registry *alias.Registry
	about    About
}

const nodesPath = "/api/v1/nodes"

// resourceNode is a resource whose name is not an alias.Name.
const resourceNode = "node"

func (h nodes) mount(t *routes) {
	mount(t, endpoint[none, nodesJSON]{method: http.MethodGet, path: nodesPath,
		summary: "List the nodes that share the registry", roles: anyToken, do: h.list})
	mount(t, endpoint[none, none]{method: http.MethodDelete, path: nodesPath + "/{name}", resource: resourceNode,
		summary: "Remove a node that is silent", roles: []alias.TokenRole{}, allBuckets: true,
		statuses: []int{http.StatusNoContent}, do: h.remove})
}

// nodesJSON are the nodes of a registry.
type nodesJSON struct {
	Revision int64 `json:"revision" description:"The revision of the registry: it counts the changes that nodes must know. 0 without --store."`
	// Stale is that of the node that answers.
	Stale bool       `json:"stale" description:"Whether the database does not answer: then the list is of the time when it last did."`
	Since *string    `json:"since" description:"Since when the registry of the node that answers may lack changes; null if it is not stale."`
	Nodes []nodeJSON `json:"nodes" description:"The nodes, by their names."`
}

// nodeState is whether a node was seen within the time of a lease.
type nodeState string

const (
	nodeLive   nodeState = "live"
	nodeSilent nodeState = "silent"
)

type nodeJSON struct {
	Name        string    `json:"name" description:"The name of the node (--node)."`
	Self        bool      `json:"self" description:"Whether this is the node that answers."`
	State       nodeState `json:"state" description:"live if the database has heard of the node within 15 seconds, else silent."`
	Version     string    `json:"version" description:"The version of ixmage on the node."`
	StartedAt   string    `json:"started_at" description:"When the node was started."`
	SeenAt      string    `json:"seen_at" description:"When the database last heard of the node, by its clock."`
	Revision    int64     `json:"revision" description:"The revision up to which the node has applied every change."`
	Lag         int64     `json:"lag" description:"How many changes it has not applied yet."`
	Leases      []string  `json:"leases" description:"What the node does alone, by the names of its leases."`
	ClockOffset string    `json:"clock_offset" description:"The clock of the node minus that of the database; negative if it is slow."`
}

func (h nodes) list(ctx context.Context, c *call[none]) (reply[nodesJSON], error) {
	if h.fleet == nil {
		return reply[nodesJSON]{body: nodesJSON{Nodes: []nodeJSON{h.alone()}}}, nil
	}
	out := nodesJSON{Nodes: []nodeJSON{}}
	list, err := h.fleet.Nodes(ctx)
	if err != nil { // the list is of use in an outage more than at any other time
		list, out.Stale, c.rec.err = h.known(), true, err
	}
	if since, why := h.fleet.Stale(); why != nil {
		out.Stale, out.Since = true, timestampOrNull(since)
	}
	applied, head := h.fleet.Revision()
	out.Revision = max(applied, head)
	for _, n := range list {
		out.Revision = max(out.Revision, n.Revision)
	}
	leases := h.leases(c.principal)
	for _, n := range list {
		shown := showNode(n, leases[n.Name])
		if shown.Self = n.Name == h.fleet.Name(); shown.Self {
			shown.Revision, shown.State = applied, nodeLive
		}
		shown.Lag = out.Revision - shown.Revision
		out.Nodes = append(out.Nodes, shown)
	}
	return reply[nodesJSON]{body: out}, nil
}

// alone is the node of a registry that is not shared.
func (h nodes) alone() nodeJSON {
	return nodeJSON{
		Name: h.about.Node, Self: true, State: nodeLive, Version: h.about.Version,
		StartedAt: timestamp(h.about.StartedAt), SeenAt: timestamp(time.Now()), Leases: []string{}, ClockOffset: "0s",
	}
}

// known are the nodes that this one knows of while the database is away. It may have been
// started meanwhile, and then it knows itself alone.
func (h nodes) known() []*alias.Node {
	list := h.fleet.Known()
	own := func(n *alias.Node) bool { return n.Name == h.fleet.Name() }
	if slices.ContainsFunc(list, own) {
		return list
	}
	at := h.about.StartedAt
	self := &alias.Node{Name: h.fleet.Name(), Version: h.about.Version, StartedAt: at, SeenAt: at}
	if since, why := h.fleet.Stale(); why != nil { // the database has not heard of this process
		self.SeenAt = since
	}
	list = append(slices.Clone(list), self)
	slices.SortFunc(list, func(a, b *alias.Node) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// leases are the names of the leases of each node, sorted. A token with bucket patterns does not
// see those that name a credential.
func (h nodes) leases(p *principal) map[string][]string {
	held := map[string][]string{}
	for _, l := range h.fleet.Leases() {
		if !p.restricted() || !strings.Contains(l.Name, ":") {
			held[l.Node] = append(held[l.Node], l.Name)
		}
	}
	for _, names := range held {
		slices.Sort(names)
	}
	return held
}

func showNode(n *alias.Node, leases []string) nodeJSON {
	out := nodeJSON{
		Name: n.Name, State: nodeSilent, Version: n.Version, StartedAt: timestamp(n.StartedAt),
		SeenAt: timestamp(n.SeenAt), Revision: n.Revision, Leases: append([]string{}, leases...),
		ClockOffset: n.ClockOffset.Round(time.Millisecond).String(),
	}
	if n.Live {
		out.State = nodeLive
	}
	return out
}

func (h nodes) remove(ctx context.Context, c *call[none]) (reply[none], error) {
	if h.fleet == nil {
		if c.id == h.about.Node {
			return reply[none]{}, failf(alias.ErrInUse,
				"%s is this node, which is alone: without --store there are no others to remove", c.id)
		}
		return reply[none]{}, alias.ErrNotFound
	}
	err := h.fleet.Remove(ctx, c.id)
	switch {
	case errors.Is(err, alias.ErrInUse):
		return reply[none]{}, failf(alias.ErrInUse, "the node %s lives: stop it first, which removes it by itself; "+
			"one that cannot be stopped can be removed when the database has not heard of it for 15 seconds", c.id)
	case err != nil:
		return reply[none]{}, err
	}
	return reply[none]{status: http.StatusNoContent}, h.registry.AddAudit(ctx, &alias.AuditEntry{
		At: time.Now(), Actor: c.actor, Action: "remove-node", Outcome: "ok",
		Detail: "the node " + c.id + ": previous keys are retired without waiting for it",
	})
}
