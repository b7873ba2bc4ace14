package admin

import (
	"context"
	"net/http"

	"ixmage/alias"
)

// UsageReader reads the usage of aliases.
type UsageReader interface {
	// Usage returns the total of an alias, zero if nothing was counted.
	Usage(ctx context.Context, aliasID int64) (alias.Usage, error)
}

// usage is the call that shows the usage of an alias.
type usage struct {
	registry *alias.Registry
	reader   UsageReader
}

func (h usage) mount(t *routes) {
	mount(t, endpoint[none, usageJSON]{method: http.MethodGet, path: aliasesPath + "/{name}/usage", resource: "alias",
		summary: "Read what an alias has cost and saved", roles: anyToken, fails: []error{errNotImplemented}, do: h.read})
}

// usageJSON is a usage as the API shows it.
type usageJSON struct {
	Alias alias.Name `json:"alias" description:"The name of the alias."`
	Since *string    `json:"since" description:"When the first request was counted; null before."`
	Spent countJSON  `json:"spent" description:"Requests to S3 and bytes from S3."`
	Saved savedJSON  `json:"saved" description:"Requests and bytes that S3 was spared."`
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

func (h usage) read(ctx context.Context, c *call[none]) (reply[usageJSON], error) {
	a, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return reply[usageJSON]{}, err
	}
	if h.reader == nil {
		return reply[usageJSON]{}, errNotImplemented
	}
	u, err := h.reader.Usage(ctx, a.ID)
	if err != nil {
		return reply[usageJSON]{}, err
	}
	return reply[usageJSON]{body: usageJSON{
		Alias: a.Name, Since: timestampOrNull(u.Since), Spent: countJSON(u.Spent),
		Saved: savedJSON{countJSON(u.Hit), countJSON(u.Collapsed), countJSON(u.NotModified)},
	}}, nil
}
