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

// standing is an alias with the lifetimes that it has now. Those of a request may have
// changed since it looked the alias up:
//
//  1. A request looks up the alias, does not find the object, and is suspended.
//  2. The alias is changed: Lookup gives the new one, and only then is the cache told
//     (alias.Registry, which calls observers after it has shown a change).
//  3. The request has the object fetched. The cache takes it for new: its fetch began
//     after 2.
//  4. With the lifetimes from before 2, the object would keep them for good.
//
// So a load looks the alias up again when S3 has answered. If it began before 2, it may
// still find the old one, and the cache knows.
func (p *Proxy) standing(a *alias.Alias) *alias.Alias {
	r, ok := p.registry.Lookup(string(a.Name))
	if ok && r.Alias.ID == a.ID && r.Alias.Epoch == a.Epoch {
		return r.Alias
	}
	return a
}
