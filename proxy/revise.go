package proxy

import (
	"ixmage/alias"
	"ixmage/cache"
)

// Revise has what is stored of an alias live as a says, whose ttl, stale_while_revalidate
// or stale_if_error has changed. What an object says of itself stands. The registry's
// Lookup must give a by now.
func (p *Proxy) Revise(a *alias.Alias) {
	p.cache.Revise(a.ID, a.Epoch, func(meta any) *cache.Source { return meta.(*object).under(a).source() })
}

// standing is a route with the lifetimes and the credential that it has now. Those of a
// request may have changed since it looked the alias up:
//
//  1. A request looks up the alias, does not find the object, and is suspended.
//  2. The alias is changed: Lookup gives the new one, and only then is the cache told
//     (alias.Registry, which calls observers after it has shown a change).
//  3. The request has the object fetched. The cache takes it for new: its fetch began
//     after 2.
//  4. With the lifetimes from before 2, the object would keep them for good.
//
// So a load looks the alias up again when S3 has answered. If it began before 2, it may
// still find the old one, and the cache knows. For the same reason it begins by looking
// up whose key it signs with: what is refused to the old one is not to be noted as what
// the new one found.
func (p *Proxy) standing(r alias.Route) alias.Route {
	now, ok := p.registry.Lookup(string(r.Alias.Name))
	if ok && now.Alias.ID == r.Alias.ID && now.Alias.Epoch == r.Alias.Epoch {
		return now
	}
	return r
}
