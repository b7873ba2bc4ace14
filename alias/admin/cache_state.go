package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"ixmage/alias"
)

// CacheReader reads the state of the cache.
type CacheReader interface {
	// CacheState returns the tiers, and the aliases that have bytes in memory or evictions, in any
	// order.
	CacheState() CacheState
}

// CacheState is the state of the cache.
type CacheState struct {
	Tiers   []CacheTier
	Aliases []CacheAlias
}

// CacheTier is a tier of the cache. Evictions are entries that have left it since the start, by
// reason.
type CacheTier struct {
	Tier      string           `json:"tier" description:"The tier: memory, disk, or missing for negative entries."`
	Available bool             `json:"available" description:"Whether it can be used: false while the folder of the disk tier fails."`
	Bytes     int64            `json:"bytes" description:"The bytes that it holds, overhead included."`
	Capacity  int64            `json:"capacity" description:"The bytes that it may hold."`
	Entries   int64            `json:"entries" description:"The entries that it holds."`
	Evictions map[string]int64 `json:"evictions" description:"The entries that have left it since the start, by reason."`
}

// CacheAlias is the part of an alias in the memory tier.
type CacheAlias struct {
	Alias     alias.Name     `json:"alias" description:"The name of the alias."`
	Bytes     int64          `json:"bytes" description:"The bytes of the memory tier that its pictures take."`
	Evictions AliasEvictions `json:"evictions" description:"The entries that were evicted from memory for room since the start. Aliases beyond --metrics-alias-cap have none of their own."`
}

// AliasEvictions are entries that were evicted for room since the start.
type AliasEvictions struct {
	Own    int64 `json:"own" description:"Entries of the alias, for its own objects."`
	Pushed int64 `json:"pushed" description:"Entries of other aliases, for objects of the alias."`
	Lost   int64 `json:"lost" description:"Entries of the alias, for objects of other aliases."`
}

// cacheStates is the call that shows the state of the cache.
type cacheStates struct{ reader CacheReader }

func (h cacheStates) mount(t *routes) {
	mount(t, endpoint[none, cacheJSON]{method: http.MethodGet, path: "/api/v1/cache",
		summary: "Read the tiers of the cache, and the aliases that take the most of its memory", roles: anyToken,
		query: []parameter{{"limit", "the most aliases of the answer, 1000 at most and by default"}},
		fails: []error{errNotImplemented}, do: h.read})
}

type cacheJSON struct {
	Tiers   []CacheTier  `json:"tiers" description:"The tiers of the cache."`
	Aliases []CacheAlias `json:"aliases" description:"The aliases that have pictures in memory or evictions, those with the most bytes first."`
}

// read shows a token with bucket patterns its aliases only.
func (h cacheStates) read(_ context.Context, c *call[none]) (reply[cacheJSON], error) {
	limit, problems := parseLimit(c.query, maxPageSize)
	if len(problems) > 0 {
		return reply[cacheJSON]{}, invalid(problems)
	}
	if h.reader == nil {
		return reply[cacheJSON]{}, errNotImplemented
	}
	state := h.reader.CacheState()
	if c.principal.restricted() {
		state.Aliases = slices.DeleteFunc(state.Aliases, func(a CacheAlias) bool {
			return !c.access.named(c.principal, a.Alias)
		})
	}
	slices.SortFunc(state.Aliases, func(a, b CacheAlias) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Alias, b.Alias))
	})
	for i, t := range state.Tiers {
		if t.Evictions == nil { // {} in JSON, not null
			state.Tiers[i].Evictions = map[string]int64{}
		}
	}
	return reply[cacheJSON]{body: cacheJSON{
		Tiers:   append([]CacheTier{}, state.Tiers...),
		Aliases: append([]CacheAlias{}, state.Aliases[:min(limit, len(state.Aliases))]...),
	}}, nil
}
