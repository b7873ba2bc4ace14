package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"ixmage/alias"
)

// PurgeRequest selects the objects to purge: one by Key, all whose paths begin with
// Prefix, or, with neither, all objects of the alias.
type PurgeRequest struct {
	Alias *alias.Alias
	// Key and Prefix are decoded paths after the alias, without its own prefix.
	Key, Prefix string
	// Hard drops entries at once. Without it they become stale, and may be served
	// while they are revalidated.
	Hard bool
	// Wait ends when the answer must be sent although some nodes have not confirmed. The
	// purge itself does not depend on it.
	Wait context.Context //nolint:containedctx // a second context, which ends before that of the purge
}

// PurgeResult counts the entries that were dropped, or marked as stale.
type PurgeResult struct {
	Entries int
	Bytes   int64
	// Fetches is the number of running fetches that will not become entries.
	Fetches int
	// Negative is the number of negative entries that were dropped.
	Negative int
	// Confirmed are the nodes that have purged, this one among them, and Pending those
	// that will when they read the log. Both are nil if the registry is not shared.
	Confirmed, Pending []string
}

// shared reports whether other nodes share the registry.
func (r PurgeResult) shared() bool { return r.Confirmed != nil || r.Pending != nil }

// none reports whether nothing was purged.
func (r PurgeResult) none() bool {
	return r.Entries == 0 && r.Bytes == 0 && r.Fetches == 0 && r.Negative == 0
}

// ErrNotDurable is the error of a purge that was done, and that a crash may undo, because
// it could be written nowhere.
var ErrNotDurable = errors.New("the purge is not durable")

// Purger purges the cache. After an error some entries may be left.
type Purger interface {
	Purge(ctx context.Context, r PurgeRequest) (PurgeResult, error)
	// Stored reports whether an object is cached, or known to be missing.
	Stored(a *alias.Alias, path string) bool
	// Search calls visit with the path of each cached object of an alias, until it returns
	// false. It looks at limit entries of the cache at most.
	Search(a *alias.Alias, limit int, visit func(path string) bool)
}

// purges is the call that empties the cache.
type purges struct {
	registry *alias.Registry
	purger   Purger
	ops      operations // that hold answers
	log      *slog.Logger
}

// purgeWait is how long an answer waits for other nodes without Prefer. Nodes that are well
// need less.
const purgeWait = 2 * time.Second

func (h purges) mount(t *routes) {
	mount(t, endpoint[purgeInput, purgeJSON]{method: http.MethodPost, path: "/api/v1/purge",
		summary: "Drop an object, the objects under a prefix, or all objects of an alias from the cache",
		roles:   []alias.TokenRole{alias.RolePurge}, fails: []error{errNotImplemented}, fields: purgeFields,
		headers: []parameter{{"Prefer", "wait=N waits for nodes that have not purged yet, for N seconds at most " +
			"(RFC 7240); " + seconds(purgeWait) + " without it, " + seconds(maxWait) + " at most"}},
		sends: []parameter{{"Preference-Applied", "the wait of Prefer that was honoured"}},
		check: func(_ context.Context, c *call[purgeInput]) []alias.Problem { return c.in.problems() },
		do:    h.purge})
}

// purgeInput is the body of a purge. A pointer is nil if the body does not have the
// member. null is refused: it may come from an unset variable of a script, and must not
// purge a whole alias.
type purgeInput struct {
	alias       alias.Name
	key, prefix *string
	hard        bool
}

func purgeFields(in *purgeInput) []field {
	given := func(dst **string) reader {
		return reader{decode: func(path string, raw json.RawMessage) []alias.Problem {
			*dst = new(string)
			return into(*dst, asString).decode(path, raw)
		}, forms: []form{formOf[string]()}}
	}
	return []field{
		{name: "alias", read: into(&in.alias, asName), required: true, doc: "The alias to purge."},
		{name: "key", read: given(&in.key),
			doc: "The decoded path of one object after the alias. It must not be combined with prefix."},
		{name: "prefix", read: given(&in.prefix), doc: "The text with which the decoded paths of the objects begin, " +
			"1 to 1024 bytes. Without key and prefix the whole alias is purged."},
		{name: "hard", read: into(&in.hard, asBool), doc: "Drop the objects at once. Without it they become stale, " +
			"and may be served once more while they are fetched again."},
	}
}

// problems validates the body without the alias.
func (in *purgeInput) problems() []alias.Problem {
	var problems []alias.Problem
	if in.alias == "" {
		problems = problemAt("alias", "is required: the name of the alias to purge")
	}
	if in.key != nil && in.prefix != nil {
		return append(problems, alias.Problem{
			Field: "prefix", Detail: "must not be combined with key: " +
				"a purge is of one key, of all paths with a prefix, or of the whole alias",
		})
	}
	switch p := in.prefix; {
	case p == nil:
	case *p == "":
		problems = append(problems, problemAt("prefix", "must not be empty: leave it out to purge the whole alias")...)
	case len(*p) > alias.MaxKey:
		problems = append(problems, problemAt("prefix", fmt.Sprintf("must have at most %d bytes", alias.MaxKey))...)
	case strings.ContainsFunc(*p, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		problems = append(problems, problemAt("prefix", "must not have a control character")...)
	}
	return problems
}

// purgeJSON is the answer to a purge.
type purgeJSON struct {
	Alias    alias.Name `json:"alias" description:"The purged alias."`
	Key      *string    `json:"key" description:"The key of the request; null if it had none."`
	Prefix   *string    `json:"prefix" description:"The prefix of the request; null if it had none."`
	Hard     bool       `json:"hard" description:"Whether the objects were dropped at once."`
	Entries  int        `json:"entries" description:"How many objects were dropped or marked as stale."`
	Bytes    int64      `json:"bytes" description:"What they take in the cache, overhead included."`
	Fetches  int        `json:"flights" description:"How many running fetches will not be stored."`
	Negative int        `json:"negative" description:"How many remembered missing objects were forgotten."`
	Hint     string     `json:"hint,omitempty" description:"Which key or prefix would have matched; absent if something was purged or nothing is known."`
	// Nodes is nil if the registry is not shared.
	Nodes *purgedNodesJSON `json:"nodes,omitempty" description:"The nodes that share the registry, and whether they have purged; absent without --store. The counts are of the node that answers."`
}

type purgedNodesJSON struct {
	Confirmed []string `json:"confirmed" description:"The nodes that have purged."`
	Pending   []string `json:"pending" description:"The nodes that have not confirmed it. Each purges when it reads the log: one that is down before it serves again, one that is cut off or hangs when it is back."`
}

func (h purges) purge(ctx context.Context, c *call[purgeInput]) (reply[purgeJSON], error) {
	if problems := c.in.problems(); len(problems) > 0 {
		return reply[purgeJSON]{}, invalid(problems)
	}
	// A node that was paused does not know that the alias was deleted and made anew, say.
	if err := h.registry.Sync(ctx); err != nil {
		return reply[purgeJSON]{}, err
	}
	req, err := h.request(c)
	if err != nil {
		return reply[purgeJSON]{}, err
	}
	if h.purger == nil {
		return reply[purgeJSON]{}, errNotImplemented
	}
	got, applied, err := h.await(ctx, c, req)
	if err != nil {
		return reply[purgeJSON]{}, err
	}
	h.record(ctx, c, got)
	out := reply[purgeJSON]{body: purgeJSON{
		Alias: req.Alias.Name, Key: c.in.key, Prefix: c.in.prefix, Hard: req.Hard,
		Entries: got.Entries, Bytes: got.Bytes, Fetches: got.Fetches, Negative: got.Negative,
	}}
	if got.none() {
		out.body.Hint = h.hint(req)
	}
	if got.shared() {
		out.body.Nodes = &purgedNodesJSON{append([]string{}, got.Confirmed...), append([]string{}, got.Pending...)}
		out.applied = applied
	}
	return out, nil
}

// await purges, and holds the answer as long as the client prefers. When too many answers are
// held, the preference is not honoured. applied is empty then.
func (h purges) await(
	ctx context.Context, c *call[purgeInput], req PurgeRequest,
) (got PurgeResult, applied string, err error) {
	limit := purgeWait
	if c.wait.sent && h.ops.enter() {
		defer h.ops.leave()
		limit, applied = c.wait.limit, c.wait.applied()
	}
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout+limit)
	defer cancel()
	h.ops.hold(c.ctx, limit, func(wait context.Context) { //nolint:contextcheck // the purge outlives the client
		req.Wait = wait //nolint:fatcontext // one level
		got, err = h.purger.Purge(whole, req)
	})
	return got, applied, err
}

// request looks up the alias in memory: without --store, a purge works while the database is down.
func (h purges) request(c *call[purgeInput]) (PurgeRequest, error) {
	route, ok := h.registry.Lookup(string(c.in.alias))
	if !ok || !c.access.alias(c.principal, route.Alias) {
		return PurgeRequest{}, endpoint[none, none]{resource: "alias"}.notFound(string(c.in.alias))
	}
	c.rec.about("alias", route.Alias.Name)
	req := PurgeRequest{Alias: route.Alias, Hard: c.in.hard}
	if c.in.key != nil {
		req.Key = *c.in.key
		if problems := route.Alias.PathProblems("key", req.Key); len(problems) > 0 {
			problems[len(problems)-1].Detail += meant(route.Alias, req.Key)
			return PurgeRequest{}, invalid(problems)
		}
	}
	if c.in.prefix != nil {
		req.Prefix = *c.in.prefix
	}
	return req, nil
}

// record logs a purge, at debug level with the path.
func (h purges) record(ctx context.Context, c *call[purgeInput], got PurgeResult) {
	scope, what := "alias", ""
	switch in := c.in; {
	case in.key != nil:
		scope, what = "key", *in.key
	case in.prefix != nil:
		scope, what = "prefix", *in.prefix
	}
	attrs := []slog.Attr{
		slog.String("alias", string(c.in.alias)), slog.String("scope", scope), slog.Bool("hard", c.in.hard),
		slog.Int("entries", got.Entries), slog.Int64("bytes", got.Bytes),
		slog.Int("flights", got.Fetches), slog.Int("negative", got.Negative),
		slog.String("actor", c.actor), slog.String("request_id", c.rec.id),
	}
	if got.shared() {
		attrs = append(attrs, slog.Any("confirmed", got.Confirmed), slog.Any("pending", got.Pending))
	}
	if what != "" && h.log.Enabled(ctx, slog.LevelDebug) {
		attrs = append(attrs, slog.String(scope, what))
	}
	h.log.LogAttrs(ctx, slog.LevelInfo, "purged", attrs...)
}
