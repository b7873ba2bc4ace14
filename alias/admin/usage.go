package admin

import (
	"context"
	"net/http"

	"ixmage/alias"
)

// Bookkeeper knows what aliases have cost.
type Bookkeeper interface {
	// Usage is all that was counted for an alias; zero when nothing was.
	Usage(ctx context.Context, aliasID int64) (alias.Usage, error)
}

// usage is the call that shows what an alias has cost.
type usage struct {
	registry   *alias.Registry
	bookkeeper Bookkeeper
}

func (h usage) mount(t *routes) {
	mount(t, endpoint[none, usageJSON]{method: http.MethodGet, path: aliasesPath + "/{name}/usage", thing: "alias",
		do: h.read})
}

// usageJSON is a usage as the API shows it.
type usageJSON struct {
	Alias alias.Name `json:"alias"`
	Since *string    `json:"since"`
	Spent tallyJSON  `json:"spent"`
	Saved savedJSON  `json:"saved"`
}

type savedJSON struct {
	Hit         tallyJSON `json:"hit"`
	Collapsed   tallyJSON `json:"collapsed"`
	NotModified tallyJSON `json:"not_modified"`
}

type tallyJSON struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
}

func (h usage) read(ctx context.Context, c *call[none]) (reply[usageJSON], error) {
	a, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return reply[usageJSON]{}, err
	}
	if h.bookkeeper == nil {
		return reply[usageJSON]{}, errAbsent
	}
	u, err := h.bookkeeper.Usage(ctx, a.ID)
	if err != nil {
		return reply[usageJSON]{}, err
	}
	return reply[usageJSON]{body: usageJSON{
		Alias: a.Name, Since: stampOrNull(u.Since), Spent: tallyJSON(u.Spent),
		Saved: savedJSON{tallyJSON(u.Hit), tallyJSON(u.Collapsed), tallyJSON(u.NotModified)},
	}}, nil
}
