package main

import (
	"context"
	"sync/atomic"
	"time"

	"ixmage/alias"
	"ixmage/alias/admin"
	"ixmage/alias/canary"
	"ixmage/alias/provision"
	"ixmage/alias/usage"
	"ixmage/cache"
	"ixmage/metrics"
	"ixmage/proxy"
	"ixmage/proxy/origin"
)

// keep runs the accounts until stop is called, which waits for the last flush. It
// outlives ctx: requests are counted until the listeners have drained.
func keep(ctx context.Context, books *usage.Accounts) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = books.Run(ctx) // it has none
	}()
	return func() {
		cancel()
		<-ended
	}
}

// recorder counts requests in metrics and in the usage of the alias; neither knows the proxy.
type recorder struct {
	*metrics.Metrics

	accounts accounts
}

func (r recorder) Series(name string) proxy.Series {
	return series{Series: r.Metrics.Series(name), account: r.accounts.of(name)}
}

// accounts finds the usage account of an alias by its name. The sequence that a
// second lookup is needed for:
//
//  1. a request looks up the alias "shop"
//  2. "shop" is deleted, and changeHandler forgets its account
//  3. the request asks for the account, which makes a new one: it would stay in
//     memory for good
//
// A deletion after the second lookup forgets the account after step 3.
type accounts struct {
	*usage.Accounts

	lookup func(name string) (alias.Route, bool)
}

func (a accounts) of(name string) *usage.Account {
	route, ok := a.lookup(name)
	if !ok {
		return nil
	}
	account := a.Of(route.Alias.ID)
	if now, ok := a.lookup(name); !ok || now.Alias.ID != route.Alias.ID {
		a.Forget(route.Alias.ID)
	}
	return account
}

type series struct {
	*metrics.Series

	account *usage.Account // nil for names that are not in the registry
}

func (s series) Request(o proxy.Outcome) { s.Series.Request(metrics.Request(o)) }

func (s series) Saved(by proxy.Saving, requests, bytes int64) {
	s.Series.Saved(savings[by].String(), requests, bytes)
	if s.account != nil {
		s.account.Saved(savings[by], requests, bytes)
	}
}

var savings = [...]usage.By{
	proxy.SavedByHit: usage.Hit, proxy.SavedByCollapsed: usage.Collapsed, proxy.SavedByNotModified: usage.NotModified,
}

// spending counts calls of S3 in metrics and in the usage.
type spending struct {
	*metrics.Metrics

	accounts accounts
}

func (s spending) OriginRequest(name, outcome string, d time.Duration) {
	s.Metrics.OriginRequest(name, outcome, d)
	s.spent(name, 1, 0)
}

func (s spending) OriginRetries(name string, n int) {
	s.Metrics.OriginRetries(name, n)
	s.spent(name, int64(n), 0)
}

func (s spending) OriginBytes(name string, n int64) {
	s.Metrics.OriginBytes(name, n)
	s.spent(name, 0, n)
}

func (s spending) spent(name string, requests, bytes int64) {
	if account := s.accounts.of(name); account != nil {
		account.Spent(requests, bytes)
	}
}

// followers keep something of an alias or a credential.
type followers struct {
	registry *alias.Registry
	public   *proxy.Proxy
	s3       *origin.Origin
	memory   *cache.Cache
	m        *metrics.Metrics
	canary   *canary.Canary
	books    *usage.Accounts
}

// follow has them drop what they keep of an alias or credential that changed. What
// was refused to one key may be given to another, so what is missing is unknown then.
func (f followers) follow(c alias.Change) {
	switch {
	case c.AliasDeleted != nil:
		f.m.Forget(string(c.AliasDeleted.Name))
		f.public.Forget(c.AliasDeleted.Name)
		f.canary.Forget(c.AliasDeleted.ID)
		f.memory.Forget(c.AliasDeleted.ID, cache.AllEpochs)
		f.books.Forget(c.AliasDeleted.ID)
	case c.AliasPut != nil:
		if c.AliasPut.Canary == "" {
			f.m.ForgetCanary(string(c.AliasPut.Name))
		}
		f.memory.Forget(c.AliasPut.ID, c.AliasPut.Epoch-1) // the last may be purged just now
		f.memory.ForgetMissing(c.AliasPut.ID)
		if was := c.AliasWas; was != nil && lives(was) != lives(c.AliasPut) {
			f.public.Revise(c.AliasPut)
		}
	case c.CredentialPut != nil:
		showCredential(f.m, c.CredentialPut)
		if c.CredentialPut.Version > 1 {
			f.s3.Forget(c.CredentialPut.ID)
			f.forgetMissing(c.CredentialPut.ID)
		}
	case c.CredentialDeleted != nil:
		f.s3.Forget(c.CredentialDeleted.ID)
		f.m.ForgetCredential(string(c.CredentialDeleted.Name))
	}
}

// lives is how long an alias has objects live that do not say it.
func lives(a *alias.Alias) [3]time.Duration {
	return [...]time.Duration{a.TTL, a.StaleWhileRevalidate, a.StaleIfError}
}

// forgetMissing is for all aliases that a credential signs for.
func (f followers) forgetMissing(credentialID int64) {
	f.registry.Routes(func(r alias.Route) bool {
		if r.Credential.ID == credentialID {
			f.memory.ForgetMissing(r.Alias.ID)
		}
		return true
	})
}

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

// observe lets Prometheus read what runs, and shows the credentials that there are.
func (p *provisioning) observe(registry *alias.Registry, m *metrics.Metrics) {
	m.Running(p.Running)
	m.Canaries(func(name string) bool {
		route, ok := registry.Lookup(name)
		return ok && route.Alias.Canary != ""
	})
	registry.CredentialsInMemory(func(c *alias.Credential) bool {
		showCredential(m, c)
		return true
	})
}

// showCredential tells Prometheus of a credential that a key pair was made for.
func showCredential(m *metrics.Metrics, c *alias.Credential) {
	info := metrics.CredentialInfo{Created: c.CreatedAt, Scope: c.Scope}
	if !c.RotatedAt.IsZero() {
		info.Created = c.RotatedAt
	}
	if p, ok := c.Provisioned(); ok {
		info.RotateEvery = p.RotateEvery
	}
	if c.AccessKeyID() == "" {
		info.Created = time.Time{}
	}
	m.Credential(string(c.Name), info)
}

// observe lets Prometheus read what is not counted but known.
func observe(registry *alias.Registry, m *metrics.Metrics, memory *cache.Cache) {
	m.CacheStats(cache.Tier, func() (bytes, capacity, entries int64) {
		st := memory.Stats()
		return st.Bytes, st.Capacity, st.Entries
	})
	m.CacheStats(cache.TierMissing, func() (bytes, capacity, entries int64) {
		st := memory.MissingStats()
		return st.Bytes, st.Capacity, st.Entries
	})
	m.Aliases(func() map[string]int {
		byState := make(map[string]int)
		for state, n := range registry.Count() {
			byState[string(state)] = n
		}
		return byState
	})
}

// fallbacks tells provisioning of requests that fell back on an old key. The
// origin is made first, so the one who hears of it is put in later.
type fallbacks struct {
	to atomic.Pointer[provision.Provisioner]
}

func (f *fallbacks) tell(credentialID int64) {
	if p := f.to.Load(); p != nil {
		p.Fallback(credentialID)
	}
}
