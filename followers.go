package main

import (
	"time"

	"ixmage/alias"
	"ixmage/alias/provision"
	"ixmage/alias/usage"
	"ixmage/cache"
	"ixmage/metrics"
	"ixmage/proxy"
	"ixmage/proxy/origin"
)

// followers keep something of an alias or a credential.
type followers struct {
	registry *alias.Registry
	public   *proxy.Proxy
	s3       *origin.Origin
	memory   *cache.Cache
	m        *metrics.Metrics
	canary   *provision.Canary
	books    *usage.Accounts
}

// follow has them drop what they keep of an alias or credential that changed. What
// was refused to one key may be given to another, so what is missing is unknown then.
func (f followers) follow(c alias.Change) {
	switch {
	case c.AliasDeleted != nil:
		f.m.Forget(string(c.AliasDeleted.Name))
		f.m.ForgetCanary(string(c.AliasDeleted.Name))
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
