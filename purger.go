package main

import (
	"context"

	"ixmage/alias"
	"ixmage/alias/admin"
	"ixmage/cache"
)

// purger empties the cache for the admin API; neither package knows the other.
type purger struct {
	registry *alias.Registry
	memory   *cache.Cache
}

func (p purger) Purge(ctx context.Context, r admin.PurgeRequest) (admin.PurgeResult, error) {
	at := cache.Key{Space: r.Alias.ID, Epoch: r.Alias.Epoch}
	var did cache.Purged
	switch {
	case r.Key != "":
		at.Object = r.Key
		did = p.memory.Purge(at, r.Hard)
	case r.Prefix != "":
		at.Object = r.Prefix
		did = p.memory.PurgePrefix(at, r.Hard)
	case r.Hard:
		missing := p.memory.ForgetMissing(at.Space)
		raised, err := p.registry.RaiseEpoch(ctx, r.Alias.Name)
		if err != nil {
			return admin.PurgeResult{}, err
		}
		did = p.memory.Retire(raised.ID, raised.Epoch-1)
		did.Missing += missing
	default:
		did = p.memory.PurgeSpace(at.Space, at.Epoch)
	}
	return admin.PurgeResult{Entries: did.Entries, Bytes: did.Bytes, Flights: did.Flights, Negative: did.Missing}, nil
}
