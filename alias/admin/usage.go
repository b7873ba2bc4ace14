package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"ixmage/alias"
)

// UsageReader reads the usage of aliases.
type UsageReader interface {
	// Usage returns the usage of aliases by their ids, without those that have none.
	Usage(ctx context.Context, q alias.UsageQuery) (map[int64]alias.UsageHistory, error)
}

// usage are the calls that show the usage of aliases.
type usage struct {
	registry *alias.Registry
	reader   UsageReader
}

var seriesQuery = []parameter{
	{"by", "hour or day: adds a series, of the last 72 hours or the last 90 days, in UTC"},
	{"last", "the number of hours or days in a series, if fewer are wanted"},
}

func (h usage) mount(t *routes) {
	mount(t, endpoint[none, usageJSON]{method: http.MethodGet, path: aliasesPath + "/{name}/usage", resource: "alias",
		summary: "Read what an alias has cost and saved", roles: anyToken, query: seriesQuery,
		fails: []error{errNotImplemented}, do: h.read})
	mount(t, endpoint[none, usagesJSON]{method: http.MethodGet, path: "/api/v1/usage",
		summary: "List what aliases have cost and saved", roles: anyToken,
		query: slices.Concat(seriesQuery, pageQuery), fails: []error{errNotImplemented}, do: h.list})
}

// usageJSON is the usage of an alias as the API shows it.
type usageJSON struct {
	Alias      alias.Name `json:"alias" description:"The name of the alias."`
	Since      *string    `json:"since" description:"When the first request was counted; null before."`
	Spent      countJSON  `json:"spent" description:"Requests to S3 and bytes from S3."`
	Saved      savedJSON  `json:"saved" description:"Requests and bytes that S3 was spared."`
	Transforms workJSON   `json:"transforms" description:"Transformations that were not in the cache."`
	// Series is nil unless the request has by.
	Series []usagePointJSON `json:"series,omitzero" description:"With by: every hour or day, the oldest first; empty if none has usage."`
}

// usagePointJSON is the usage in one hour or day.
type usagePointJSON struct {
	At         string    `json:"at" description:"The start of the hour or day."`
	Spent      countJSON `json:"spent" description:"Requests to S3 and bytes from S3."`
	Saved      savedJSON `json:"saved" description:"Requests and bytes that S3 was spared."`
	Transforms workJSON  `json:"transforms" description:"Transformations that were not in the cache."`
}

type workJSON struct {
	Jobs       int64 `json:"jobs" description:"The number of transformations, those that failed included."`
	WorkerMS   int64 `json:"worker_ms" description:"Milliseconds in which workers were busy with them."`
	SavedBytes int64 `json:"saved_bytes" description:"Bytes by which their results were smaller than their sources, once for each transformation."`
}

type savedJSON struct {
	Hit         countJSON `json:"hit" description:"By answers from the cache."`
	Collapsed   countJSON `json:"collapsed" description:"By requests that joined a running fetch."`
	NotModified countJSON `json:"not_modified" description:"By answers 304 of S3: their requests are in spent, and their bytes were not sent."`
}

type countJSON struct {
	Requests int64 `json:"requests" description:"The number of requests."`
	Bytes    int64 `json:"bytes" description:"The number of bytes."`
}

// usagesJSON is a page of usages, sorted by alias.
type usagesJSON struct {
	Usage []usageJSON `json:"usage" description:"The usage of aliases, by their names."`
}

func showSaved(u alias.Usage) savedJSON {
	return savedJSON{countJSON(u.Hit), countJSON(u.Collapsed), countJSON(u.NotModified)}
}

func showWork(w alias.Work) workJSON { return workJSON{w.Jobs, w.Milliseconds, w.SavedBytes} }

// showUsage fills the gaps of a series, so that it can be plotted as it is. A series
// without usage is empty.
func showUsage(name alias.Name, h alias.UsageHistory, q alias.UsageQuery) usageJSON {
	out := usageJSON{Alias: name, Since: timestampOrNull(h.Since), Spent: countJSON(h.Spent), Saved: showSaved(h.Usage),
		Transforms: showWork(h.Transforms)}
	if q.By == "" {
		return out
	}
	out.Series = []usagePointJSON{}
	if len(h.Periods) == 0 {
		return out
	}
	for _, at := range q.Times() {
		u := h.Periods[at]
		point := usagePointJSON{At: at.Format(time.RFC3339), Spent: countJSON(u.Spent), Saved: showSaved(u),
			Transforms: showWork(u.Transforms)}
		out.Series = append(out.Series, point)
	}
	return out
}

func (h usage) read(ctx context.Context, c *call[none]) (reply[usageJSON], error) {
	q, problems := parseUsageQuery(c.query)
	if len(problems) > 0 {
		return reply[usageJSON]{}, invalid(problems)
	}
	a, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return reply[usageJSON]{}, err
	}
	list, err := h.show(ctx, []*alias.Alias{a}, q)
	if err != nil {
		return reply[usageJSON]{}, err
	}
	return reply[usageJSON]{body: list[0]}, nil
}

func (h usage) list(ctx context.Context, c *call[none]) (reply[usagesJSON], error) {
	q, problems := parseUsageQuery(c.query)
	p, err := parsePage(c.query)
	if f, ok := errors.AsType[*failure](err); ok {
		problems = append(problems, f.problems...)
	}
	if len(problems) > 0 {
		return reply[usagesJSON]{}, invalid(problems)
	}
	aliases, err := c.access.aliases(ctx, c.principal, p)
	if err != nil {
		return reply[usagesJSON]{}, err
	}
	list, err := h.show(ctx, aliases, q)
	return reply[usagesJSON]{body: usagesJSON{list}}, err
}

// show reads the usage of aliases, in their order.
func (h usage) show(ctx context.Context, aliases []*alias.Alias, q alias.UsageQuery) ([]usageJSON, error) {
	if h.reader == nil {
		return nil, errNotImplemented
	}
	for _, a := range aliases {
		q.AliasIDs = append(q.AliasIDs, a.ID)
	}
	found, err := h.reader.Usage(ctx, q)
	if err != nil {
		return nil, err
	}
	out := make([]usageJSON, len(aliases))
	for i, a := range aliases {
		out[i] = showUsage(a.Name, found[a.ID], q)
	}
	return out, nil
}

// parseUsageQuery reads the parameters of seriesQuery.
func parseUsageQuery(values url.Values) (alias.UsageQuery, []alias.Problem) {
	q := alias.UsageQuery{By: alias.Period(values.Get("by")), Now: time.Now()}
	if values.Has("by") && !slices.Contains(alias.Periods(), q.By) {
		return q, problemAt("by", "must be hour or day")
	}
	if !values.Has("last") {
		q.Last = q.By.Kept()
		return q, nil
	}
	if q.By == "" {
		return q, problemAt("last", "is the length of a series: give by=hour or by=day too")
	}
	var err error
	if q.Last, err = strconv.Atoi(values.Get("last")); err != nil || q.Last < 1 || q.Last > q.By.Kept() {
		return q, problemAt("last", "must be a whole number from 1 to "+strconv.Itoa(q.By.Kept()))
	}
	return q, nil
}
