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
			{"before", "an id: the list begins behind it"},
			{"limit", "the most entries of the answer, 100 by default, 1000 at most"},
		}, do: h.list})
}

type auditJSON struct {
	Audit []auditEntryJSON `json:"audit" description:"The entries, the newest first."`
}

// auditEntryJSON is an entry of the audit as the API shows it.
type auditEntryJSON struct {
	ID          int64      `json:"id" description:"It grows with every entry."`
	At          string     `json:"at" description:"When it happened."`
	Actor       string     `json:"actor" description:"Who did it: the name of the token and the address of the client, or a part of the server."`
	Action      string     `json:"action" description:"What was done: a call of IAM like iam:CreateUser, or a call of this API."`
	User        string     `json:"user" description:"The IAM user that it was done to; may be empty."`
	Policy      string     `json:"policy" description:"The policy that it was done to; may be empty."`
	AccessKeyID string     `json:"access_key_id" description:"The id of the key that it was done to; may be empty."`
	Alias       alias.Name `json:"alias" description:"The alias that it was done for; may be empty."`
	Credential  alias.Name `json:"credential" description:"The credential that it was done for; may be empty."`
	Outcome     string     `json:"outcome" description:"ok, begun, a verdict, or the code of an error."`
	Operation   string     `json:"operation" description:"The id of the operation of which it was a part; may be empty."`
	Detail      string     `json:"detail" description:"More in words; may be empty."`
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
	list, err := seen(limit, func(last **alias.AuditEntry, limit int) ([]*alias.AuditEntry, error) {
		from := before
		if last != nil {
			from = (*last).ID
		}
		return h.registry.History().Audit(ctx, from, limit)
	}, func(e *alias.AuditEntry) (bool, error) {
		return c.access.past(ctx, c.principal, pastEvent{e.At, e.Actor, e.Alias, e.Credential})
	})
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
