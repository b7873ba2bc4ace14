package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"ixmage/alias"
	"ixmage/alias/admin"
	"ixmage/alias/datadir"
	"ixmage/alias/doctor"
	"ixmage/alias/fleet"
	"ixmage/alias/provision"
	"ixmage/alias/seal"
	"ixmage/alias/session"
	"ixmage/alias/usage"
	"ixmage/cache"
	"ixmage/internal/logging"
	"ixmage/internal/tracing"
	"ixmage/metrics"
	"ixmage/proxy"
	"ixmage/proxy/origin"
)

// limitedMessages are the lines that a stranger or a broken S3 can cause at the rate of
// requests. Each kind is limited to a few lines a second, and the rest is counted.
var limitedMessages = map[string]logging.Kind{
	"request refused": {More: "more requests refused", By: []string{"code"}},
	"request failed":  {More: "more requests failed", By: []string{"code", "alias"}},

	"response cut: the origin failed": {More: "more responses cut", By: []string{"alias"}},
	"resumed a broken body":           {More: "more bodies resumed", By: []string{"alias"}},
	"key refused, falling back on the previous one": {
		More: "more requests fell back on a previous key", By: []string{"credential"},
	},
	"previous key cannot be used": {More: "previous key cannot be used by more requests", By: []string{"credential"}},

	"panic while answering":                       {More: "more panics while answering"},
	"panic while fetching":                        {More: "more panics while fetching"},
	"out of file descriptors: connection refused": {More: "more connections refused"},
	"accept failed; retrying":                     {More: "more accepts failed"},
	"dropped a bad file of the disk cache":        {More: "more bad files of the disk cache"},
	"admin connection failed":                     {More: "more admin connections failed"},
}

// runAccounts stores usage until stop is called, which waits for the last flush. It
// outlives ctx: requests are counted until the listeners have drained.
func runAccounts(ctx context.Context, accounts *usage.Accounts) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = accounts.Run(ctx) // always nil
	}()
	return func() {
		cancel()
		<-ended
	}
}

// recorder counts requests in metrics and in the usage of the alias; neither package
// imports the proxy.
type recorder struct {
	*metrics.Metrics

	accounts aliasAccounts
}

func (r recorder) Series(name string) proxy.Series {
	return series{Series: r.Metrics.Series(name), account: r.accounts.of(name)}
}

// aliasAccounts finds the usage account of an alias by its name. It looks up the alias
// twice because of this sequence:
//
//  1. a request looks up the alias "shop"
//  2. "shop" is deleted, and changeHandler forgets its account
//  3. the request asks for the account, which makes a new one: it would stay in
//     memory forever
//
// A deletion after the second lookup forgets the account after step 3.
type aliasAccounts struct {
	*usage.Accounts

	lookup func(name string) (alias.Route, bool)
}

func (a aliasAccounts) of(name string) *usage.Account {
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

// originRecorder counts calls to S3 in metrics and in the usage of the alias.
type originRecorder struct {
	*metrics.Metrics

	accounts aliasAccounts
}

func (r originRecorder) OriginRequest(name, outcome string, d time.Duration) {
	r.Metrics.OriginRequest(name, outcome, d)
	r.spend(name, 1, 0)
}

func (r originRecorder) OriginRetries(name string, n int) {
	r.Metrics.OriginRetries(name, n)
	r.spend(name, int64(n), 0)
}

func (r originRecorder) OriginBytes(name string, n int64) {
	r.Metrics.OriginBytes(name, n)
	r.spend(name, 0, n)
}

func (r originRecorder) spend(name string, requests, bytes int64) {
	if account := r.accounts.of(name); account != nil {
		account.Spent(requests, bytes)
	}
}

// changeHandler has the parts that hold state of aliases or credentials.
type changeHandler struct {
	registry *alias.Registry
	public   *proxy.Proxy
	own      *awsParts
	purger   purger
	m        *metrics.Metrics
	accounts *usage.Accounts
	tokens   *alias.Tokens
}

// onChange makes each part drop its state of an alias or credential that changed. It
// drops negative entries too: another key or location may have the object.
func (h changeHandler) onChange(c alias.Change) {
	switch {
	case c.AliasDeleted != nil:
		h.m.Forget(string(c.AliasDeleted.Name))
		h.public.Forget(c.AliasDeleted.Name)
		h.own.iam.canary.Forget(c.AliasDeleted.ID)
		h.purger.memory.Forget(c.AliasDeleted.ID, cache.AllEpochs)
		h.purger.memory.SetShare(c.AliasDeleted.ID, 0, 0)
		h.accounts.Forget(c.AliasDeleted.ID)
		h.own.sessions.ForgetAlias(c.AliasDeleted.ID)
	case c.AliasPut != nil:
		if c.AliasPut.Canary == "" {
			h.m.ForgetCanary(string(c.AliasPut.Name))
		}
		h.purger.memory.Forget(c.AliasPut.ID, c.AliasPut.Epoch-1) // a purge of the last epoch may be running
		h.purger.memory.ForgetNegative(c.AliasPut.ID)
		h.share(c.AliasPut)
		h.own.sessions.KeepAlias(c.AliasPut)
		if was := c.AliasWas; was != nil && lifetimes(was) != lifetimes(c.AliasPut) {
			h.purger.memory.Revalidate(c.AliasPut.ID, c.AliasPut.Epoch, c.AliasPut.StaleWhileRevalidate)
		}
	case c.CredentialPut != nil:
		exposeCredential(h.m, c.CredentialPut)
		if c.CredentialPut.Version > 1 {
			h.own.s3.Forget(c.CredentialPut.ID)
			h.own.sessions.ForgetCredential(c.CredentialPut.ID, c.CredentialPut.Version)
			h.forgetNegative(c.CredentialPut.ID)
		}
	case c.CredentialDeleted != nil:
		h.own.s3.Forget(c.CredentialDeleted.ID)
		h.own.sessions.ForgetCredential(c.CredentialDeleted.ID, math.MaxInt64)
		h.m.ForgetCredential(string(c.CredentialDeleted.Name))
	default:
		h.onLog(c)
	}
}

// onLog does what another node was asked for.
func (h changeHandler) onLog(c alias.Change) {
	ctx, cancel := context.WithTimeout(context.Background(), logTime)
	defer cancel()
	switch {
	case c.Purge != nil:
		h.purger.remote(ctx, *c.Purge)
	case c.Missed:
		h.purger.all(ctx)
	}
}

// logTime bounds what a change of another node waits for.
const logTime = 5 * time.Second

// observe follows the registry, and gives the aliases that it has their shares of the cache.
func (h changeHandler) observe() {
	h.registry.Observe(h.onChange)
	h.registry.FollowTokens(h.tokens)
	h.registry.Routes(func(r alias.Route) bool {
		h.share(r.Alias)
		return true
	})
}

func (h changeHandler) share(a *alias.Alias) {
	h.purger.memory.SetShare(a.ID, int64(a.CacheMin), int64(a.CacheMax))
}

// lifetimes returns the lifetimes of objects without their own.
func lifetimes(a *alias.Alias) [3]time.Duration {
	return [...]time.Duration{a.TTL, a.StaleWhileRevalidate, a.StaleIfError}
}

// forgetNegative drops the negative entries of all aliases of a credential.
func (h changeHandler) forgetNegative(credentialID int64) {
	h.registry.Routes(func(r alias.Route) bool {
		if r.Credential.ID == credentialID {
			h.purger.memory.ForgetNegative(r.Alias.ID)
		}
		return true
	})
}

// purger purges the cache for the admin API; neither package imports the other.
type purger struct {
	registry *alias.Registry
	memory   *cache.Cache
	purges   diskPurges
	node     *fleet.Node // nil: there are no others
}

// Purge purges this node. The others purge when they read the log, and so does this one if it
// is killed on the way.
func (p purger) Purge(ctx context.Context, r admin.PurgeRequest) (admin.PurgeResult, error) {
	if p.node == nil {
		return p.local(ctx, r)
	}
	var out admin.PurgeResult
	var err, failed error
	if whole := r.Key == "" && r.Prefix == ""; whole && r.Hard {
		out, err = p.local(ctx, r) // the new epoch is in the log
	} else {
		err = p.registry.Purge(ctx, r.Alias.Name, alias.Purge{
			AliasID: r.Alias.ID, Epoch: r.Alias.Epoch, Key: r.Key, Prefix: r.Prefix, Hard: r.Hard,
		}, func() { out, failed = p.local(ctx, r) })
	}
	if err := errors.Join(err, failed); err != nil {
		return out, err
	}
	revision := p.registry.Position().Revision
	out.Confirmed, out.Pending = p.node.Confirmed(r.Wait, revision) //nolint:contextcheck // it ends before ctx
	return out, nil
}

// local purges this node.
func (p purger) local(ctx context.Context, r admin.PurgeRequest) (admin.PurgeResult, error) {
	var purged cache.Purged
	if r.Hard && r.Key == "" && r.Prefix == "" {
		missing := p.memory.ForgetNegative(r.Alias.ID)
		raised, err := p.registry.RaiseEpoch(ctx, r.Alias.Name)
		if err != nil {
			return admin.PurgeResult{}, err
		}
		purged = p.memory.Retire(raised.ID, raised.Epoch-1)
		purged.Negative += missing
		purged.Err = nil // the new epoch is durable, and the files of the old one are not served
	} else {
		purged = p.drop(r.Alias, alias.Purge{Key: r.Key, Prefix: r.Prefix, Hard: r.Hard})
	}
	if purged.Err != nil {
		if err := p.purges.missed(ctx); err != nil {
			return admin.PurgeResult{}, fmt.Errorf("%w: %w; %w", admin.ErrNotDurable, purged.Err, err)
		}
	}
	return admin.PurgeResult{
		Entries: purged.Entries, Bytes: purged.Bytes, Fetches: purged.Fetches, Negative: purged.Negative,
	}, nil
}

// drop purges objects of an alias.
func (p purger) drop(a *alias.Alias, what alias.Purge) cache.Purged {
	at := cache.Key{Space: a.ID, Epoch: a.Epoch}
	switch {
	case what.Key != "":
		at.Object = what.Key
		return p.memory.Purge(at, what.Hard)
	case what.Prefix != "":
		at.Object = what.Prefix
		return p.memory.PurgePrefix(at, what.Hard)
	}
	return p.memory.PurgeSpace(at.Space, at.Epoch)
}

// remote does what another node was asked for. The epoch of the alias may be another one by
// now; then there is nothing left of the purged objects, and the purge does no harm.
func (p purger) remote(ctx context.Context, what alias.Purge) {
	route, ok := p.registry.ByID(what.AliasID)
	if !ok {
		return
	}
	if purged := p.drop(route.Alias, what); purged.Err != nil {
		p.notDurable(ctx, purged.Err)
	}
}

// all drops every object, because any may be one that was purged.
func (p purger) all(ctx context.Context) {
	p.purges.log.Warn("all cached objects are dropped: the log of the registry does not have every change since the " +
		"last one that this node knows, so that purges may be among those that it lacks")
	// Other epochs too: in a history that begins again, an epoch may come a second time.
	if err := p.memory.DropAll(); err != nil {
		p.notDurable(ctx, err)
	}
}

// notDurable has the next start empty the disk cache.
func (p purger) notDurable(ctx context.Context, why error) {
	if err := p.purges.missed(ctx); err != nil {
		p.purges.log.Error("a purge of another node may not survive a crash: "+
			"empty the disk cache by hand before the next start", "error", errors.Join(why, err))
	}
}

// Stored looks at entries, fetches that run, and negative entries.
func (p purger) Stored(a *alias.Alias, path string) bool {
	v := p.memory.Inspect(cache.Key{Space: a.ID, Epoch: a.Epoch, Object: path}, time.Now())
	return v.Tier != "" || v.Fetching
}

// Search looks at entries only.
func (p purger) Search(a *alias.Alias, limit int, visit func(path string) bool) {
	p.memory.Search(cache.Key{Space: a.ID, Epoch: a.Epoch}, limit, visit)
}

// cacheReader reads the state of the cache for the admin API.
type cacheReader struct {
	registry *alias.Registry
	memory   *cache.Cache
	metrics  *metrics.Metrics
}

func (r cacheReader) CacheState() admin.CacheState {
	evictions := r.metrics.Evictions()
	tier := func(name string, bytes, capacity, entries int64) admin.CacheTier {
		return admin.CacheTier{
			Tier: name, Available: true, Bytes: bytes, Capacity: capacity, Entries: entries, Evictions: evictions[name],
		}
	}
	m, n := r.memory.Stats(), r.memory.NegativeStats()
	tiers := []admin.CacheTier{
		tier(cache.Tier, m.Bytes, m.Capacity, m.Entries), tier(cache.TierNegative, n.Bytes, n.Capacity, n.Entries),
	}
	if r.memory.HasDisk() {
		d := r.memory.DiskStats()
		disk := tier(cache.TierDisk, d.Bytes, d.Capacity, int64(d.Entries))
		disk.Available = d.Available
		tiers = append(tiers, disk)
	}
	return admin.CacheState{Tiers: tiers, Aliases: r.aliases()}
}

// aliases are those that have bytes in memory or evictions. Aliases beyond --metrics-alias-cap
// have no evictions of their own.
func (r cacheReader) aliases() []admin.CacheAlias {
	held, evictions := r.memory.Held(), r.metrics.AliasEvictions()
	var list []admin.CacheAlias
	r.registry.Routes(func(route alias.Route) bool {
		bytes, roles := held[route.Alias.ID], evictions[string(route.Alias.Name)]
		if bytes > 0 || len(roles) > 0 {
			list = append(list, admin.CacheAlias{Alias: route.Alias.Name, Bytes: bytes, Evictions: admin.AliasEvictions{
				Own: roles["own"], Pushed: roles["pushed"], Lost: roles["lost"],
			}})
		}
		return true
	})
	return list
}

// cacheRecorder counts what happens in the cache.
type cacheRecorder struct {
	*metrics.Metrics

	registry *alias.Registry
}

// Pushed counts evictions by the names of the aliases. One that was deleted has none.
func (r cacheRecorder) Pushed(by, lost int64, n int) { r.Metrics.Pushed(r.name(by), r.name(lost), n) }

func (r cacheRecorder) name(space int64) string {
	route, ok := r.registry.ByID(space)
	if !ok {
		return ""
	}
	return string(route.Alias.Name)
}

// exposeGauges lets Prometheus read the running operations and which aliases have a
// canary, and exposes the credentials in memory.
func (p *provisioning) exposeGauges(m *metrics.Metrics, registry *alias.Registry) {
	m.Running(p.Running)
	m.Canaries(func(name string) bool {
		route, ok := registry.Lookup(name)
		return ok && route.Alias.Canary != ""
	})
	registry.CredentialsInMemory(func(c *alias.Credential) bool {
		exposeCredential(m, c)
		return true
	})
}

// exposeCredential sets the gauges of a credential.
func exposeCredential(m *metrics.Metrics, c *alias.Credential) {
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

// sessionReader describes sessions for explain.
type sessionReader struct{ *session.Sessions }

func (r sessionReader) Session(route alias.Route) (proxy.ExplainedSession, bool) {
	info, ok := r.Info(route)
	out := proxy.ExplainedSession{Role: info.Role}
	if !info.Expires.IsZero() {
		expires := info.Expires.UTC()
		out.Expires = &expires
	}
	if info.Err != nil {
		out.Error = info.Err.Error()
	}
	return out, ok
}

// doctor makes what examines this server for the admin API.
func (s *serveCmd) doctor(d doctorDeps) *doctor.Doctor {
	own := d.own
	base, sts := own.machine.Base()
	beside, _ := d.keys.BesideData()
	cfg := doctor.Config{
		Registry: d.registry, Sessions: own.sessions, AWS: base, IAM: s.IAMEndpoint, STS: sts,
		S3: own.s3.Client, S3Hint: origin.Hint, InstallID: own.installID,
		Provision: s.Provision, Boundary: s.IAMBoundary, NoBoundary: s.IAMNoBoundary,
		Buckets: s.ProvisionBuckets, Accounts: s.list, AssumeRoles: s.AssumeRoles,
		AllowDefault: s.AllowDefaultCredential, AllowWideScope: s.AllowWideScope,
		AllowPrivate: s.AllowPrivateEndpoints, KeysetBesideData: beside,
		Workers: d.transforms.examined,
	}
	if d.node != nil { // a nil *fleet.Node is no nil Fleet
		cfg.Fleet = d.node
	}
	return doctor.New(cfg)
}

// doctorDeps are the parts that the doctor examines.
type doctorDeps struct {
	registry   *alias.Registry
	own        *awsParts
	keys       *seal.Keyset
	node       *fleet.Node // nil: the registry is not shared
	transforms *workers
}

// exposeGauges lets Prometheus read the state of the cache, of the registry and of the workers.
func exposeGauges(m *metrics.Metrics, registry *alias.Registry, memory *cache.Cache, transforms *workers) {
	m.Transforms(transforms.state)
	m.CacheStats(cache.Tier, func() (bytes, capacity, entries int64) {
		st := memory.Stats()
		return st.Bytes, st.Capacity, st.Entries
	})
	m.CacheStats(cache.TierNegative, func() (bytes, capacity, entries int64) {
		st := memory.NegativeStats()
		return st.Bytes, st.Capacity, st.Entries
	})
	if memory.HasDisk() {
		m.CacheStats(cache.TierDisk, func() (bytes, capacity, entries int64) {
			st := memory.DiskStats()
			return st.Bytes, st.Capacity, int64(st.Entries)
		})
		m.DiskAvailable(func() bool { return memory.DiskStats().Available })
		m.DiskHits(memory.DiskHits)
	}
	if memory.HeapBytes() == 0 {
		m.Resident(func() int64 { return memory.Stats().Resident })
	}
	m.Pinned(func() int64 { return memory.Stats().Pinned })
	m.Aliases(func() map[string]int {
		byState := make(map[string]int)
		for state, n := range registry.Count() {
			byState[string(state)] = n
		}
		return byState
	})
}

// exposeFleet lets Prometheus read the state of a node.
func exposeFleet(m *metrics.Metrics, node *fleet.Node) {
	if node == nil {
		return
	}
	m.Fleet(func() metrics.Fleet {
		applied, head := node.Revision()
		out := metrics.Fleet{Revision: applied, Lag: head - applied, ClockOffset: node.ClockOffset()}
		if _, why := node.Stale(); why != nil {
			out.Stale = node.Age()
		}
		for _, name := range node.Holds() {
			kind, _, _ := strings.Cut(name, ":")
			out.Leases = append(out.Leases, kind)
		}
		out.Live = len(node.Live())
		for _, other := range node.Known() {
			if !other.Live && other.Name != node.Name() {
				out.Silent++
			}
		}
		return out
	})
}

// previousKeyNotifier notifies the provisioner of requests that used the previous key of
// a credential. The origin is made before the provisioner, which is therefore set later.
type previousKeyNotifier struct {
	to atomic.Pointer[provision.Provisioner]
}

func (n *previousKeyNotifier) used(credentialID int64) {
	if p := n.to.Load(); p != nil {
		p.PreviousKeyUsed(credentialID)
	}
}

// flushTimeout is how long the end of the process waits for the collector of traces.
const flushTimeout = 5 * time.Second

// serveTraced is serve with a tracer, if there is an endpoint, and sends the last spans when
// everything has ended.
func (s *serveCmd) serveTraced(ctx context.Context, lines *logging.Log, end *shutdown) error {
	if s.OTLPEndpoint == "" {
		return s.serve(ctx, lines, end)
	}
	t, err := tracing.New(ctx, tracing.Config{
		Endpoint: s.OTLPEndpoint, Ratio: s.TraceSample, Version: version, Log: lines.Logger,
	})
	if err != nil {
		return err
	}
	s.traces = tracer{t}
	defer end.finish("traces", end.store, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(flushTimeout, s.ShutdownTimeout))
		defer cancel()
		t.Close(ctx)
	})
	return s.serve(ctx, lines, end)
}

// tracer and span let the proxy and the origin trace requests; neither imports OpenTelemetry.
type tracer struct{ *tracing.Tracer }

func (t tracer) Start(parent string, at time.Time) origin.Span {
	if s := t.Tracer.Start(parent, at); s != nil {
		return span{s}
	}
	return nil
}

type span struct{ *tracing.Span }

func (s span) Start(name string) origin.Span { return span{s.Span.Start(name)} }
func (s span) ID() origin.SpanID             { return s.Span.ID() }
func (s span) Link(to origin.SpanID)         { s.Span.Link(to) }

// backups copies the registry for the admin API.
type backups struct {
	store copier
	dir   string
	keys  *seal.Keyset
}

// Backup makes a copy in the data folder, and removes its name at once: the file goes when it
// has been sent, or when the process ends.
func (b backups) Backup(ctx context.Context) (*admin.Backup, error) {
	path, err := b.store.Copy(ctx, b.dir, datadir.BackupPattern)
	if err != nil {
		return nil, err
	}
	defer os.Remove(path)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &admin.Backup{
		ReadCloser: f, Size: info.Size(), Keyset: b.keys.Fingerprint(), KeysetPlace: b.keys.Place(),
	}, nil
}
