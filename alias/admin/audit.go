package admin

import (
	"context"
	"net/http"
	"strconv"

	"ixmage/alias"
)

// audit is the call that lists the audit.
type audit struct{ registry *alias.Registry }

func (h audit) mount(t *routes) {
	mount(t, endpoint[none, auditJSON]{method: http.MethodGet, path: "/api/v1/audit",
		summary: "List who did what to which user, policy, key and token, the newest first", roles: anyToken,
		query: []parameter{
			{"before", "an id: the list begins behind it"}, {"limit", "the most entries of the answer, 100 by default, 1000 at most"},
		}, do: h.list})
}

type auditJSON struct {
	Audit []auditEntryJSON `json:"audit"`
}

// auditEntryJSON is an entry of the audit as the API shows it.
type auditEntryJSON struct {
	ID          int64      `json:"id"`
	At          string     `json:"at"`
	Actor       string     `json:"actor"`
	Action      string     `json:"action"`
	User        string     `json:"user"`
	Policy      string     `json:"policy"`
	AccessKeyID string     `json:"access_key_id"`
	Alias       alias.Name `json:"alias"`
	Credential  alias.Name `json:"credential"`
	Outcome     string     `json:"outcome"`
	Operation   string     `json:"operation"`
	Detail      string     `json:"detail"`
}

func (h audit) list(ctx context.Context, c *call[none]) (reply[auditJSON], error) {
	limit, problems := parseLimit(c.query, historyPageSize)
	var before int64
	if c.query.Has("before") {
		var err error
		if before, err = strconv.ParseInt(c.query.Get("before"), 10, 64); err != nil || before < 1 {
			problems = append(problems, alias.Problem{
				Field: "before", Detail: "must be the id of an entry, the last one of the page before",
			})
		}
	}
	if len(problems) > 0 {
		return reply[auditJSON]{}, invalid(problems)
	}
	list, err := h.registry.History().Audit(ctx, before, limit)
	if err != nil {
		return reply[auditJSON]{}, err
	}
	out := auditJSON{Audit: make([]auditEntryJSON, len(list))}
	for i, e := range list {
		out.Audit[i] = auditEntryJSON{
			ID: e.ID, At: timestamp(e.At), Actor: e.Actor, Action: e.Action, User: e.User, Policy: e.Policy,
			AccessKeyID: e.AccessKeyID, Alias: e.Alias, Credential: e.Credential, Outcome: e.Outcome,
			Operation: e.Operation, Detail: e.Detail,
		}
	}
	return reply[auditJSON]{body: out}, nil
}
