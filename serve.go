package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"ixmage/alias"
	"ixmage/alias/admin"
	"ixmage/alias/canary"
	"ixmage/alias/datadir"
	"ixmage/alias/fleet"
	"ixmage/alias/provision"
	"ixmage/alias/scope"
	"ixmage/alias/seal"
	"ixmage/alias/session"
	"ixmage/alias/sqlstore"
	"ixmage/alias/usage"
	"ixmage/cache"
	"ixmage/internal/logging"
	"ixmage/metrics"
	"ixmage/proxy"
	"ixmage/proxy/origin"
	"ixmage/proxy/transform"
)

func (s *serveCmd) run(k *kong.Context) int {
	if errs := s.validate(); len(errs) > 0 {
		for _, e := range errs {
			fmt.Fprintf(k.Stderr, "ixmage: %s\n", e)
		}
		return exitUsage
	}
	// Without this a write to stderr ends the process when its reader has gone.
	signal.Ignore(syscall.SIGPIPE)
	lines := s.openLog(k.Stderr)
	defer lines.Close(logTimeout)
	s.warnings = logging.KeepWarnings(lines.Handler())
	log := slog.New(s.warnings)
	lines.Logger = log
	s.terminal = s.LogFormat == "text" && isTerminal(k.Stderr)
	// net/http logs what it cannot parse to the standard logger and quotes it: such lines are
	// logged at debug only.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	for _, name := range unknownEnv(k.Flags()) {
		log.Warn("unknown environment variable is ignored: this version has no such flag", "name", name)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	end := newShutdown(s.ShutdownTimeout)
	context.AfterFunc(ctx, end.begin)
	err := end.await("server", end.end, func() error { return s.serveTraced(ctx, lines, end) })
	if left := end.left(); len(left) > 0 {
		log.Error("shutdown timed out; what still runs is cut", "running", left)
	}
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) { // a signal during the start
		return exitOK
	}
	log.Error("ixmage stopped by an error", "error", err)
	return exitFailed
}

// logTimeout is how long the very end of the process waits for a reader of stderr.
const logTimeout = 500 * time.Millisecond

// serve builds everything, bottom up, runs it until ctx ends, and closes it in the
// opposite order.
func (s *serveCmd) serve(ctx context.Context, lines *logging.Log, end *shutdown) error {
	log := lines.Logger
	unlock, err := openDataDir(s.Data, log)
	if err != nil {
		return err
	}
	defer unlock()
	store, err := s.openStore(ctx, log)
	if err != nil {
		return err
	}
	defer end.finish("registry", end.store, store.close)
	return s.serveRegistry(ctx, lines, end, store)
}

func (s *serveCmd) serveRegistry(ctx context.Context, lines *logging.Log, end *shutdown, store *registryStore) error {
	log := lines.Logger
	registry, keys, err := s.openRegistry(ctx, log, store)
	if err != nil {
		return err
	}
	token, tokens, err := s.adminTokens(ctx, store)
	if err != nil {
		return err
	}
	accounts := aliasAccounts{usage.New(usage.Config{Store: store, Every: s.UsageFlush, Log: log}), registry.Lookup}
	stopAccounts := runAccounts(ctx, accounts.Accounts)
	defer end.finish("usage", end.store, stopAccounts) // after the last count and before the store is closed
	m := metrics.New(metrics.Config{Version: version, AliasCap: s.MetricsAliasCap})
	m.LogLines(lines.Dropped, lines.Suppressed)
	slow := proxy.NewSlowReaders(m.ClientCut, log)
	purges := diskPurges{store.local, log}
	memory, limit, err := s.openCache(ctx, log, cacheDeps{purges, registry, m, slow})
	if err != nil {
		return err
	}
	defer end.finish("cache", end.cut, memory.Close)
	own, err := s.openAWS(ctx, log, awsDeps{store, registry, m, accounts, slow})
	if err != nil {
		return err
	}
	defer end.finish("sessions", end.cut, own.sessions.Close)
	defer end.finish("S3 client", end.cut, own.s3.Close)
	transforms := s.openTransforms(ctx, log, transformRecorder{m, registry, accounts}, memory.Stats().Capacity+memoryRest)
	defer end.finish("transforms", end.cut, transforms.close)
	var serving atomic.Bool
	expired := s.expired(store)
	ready := func() bool { return serving.Load() && (expired == nil || !expired()) }
	public := proxy.New(proxy.Config{
		Registry: registry, Cache: memory, Origin: own.s3, Recorder: recorder{m, accounts},
		Slow: slow, Canary: own.iam.canary, Sessions: sessionReader{own.sessions}, Tracer: s.traces, Ready: ready,
		Transforms: transforms.transformer(), Expired: expired, Log: log,
	})
	exposeGauges(m, registry, memory, transforms)
	exposeFleet(m, store.node)
	purge := purger{registry, memory, purges, store.node}
	changeHandler{registry, public, own, purge, m, accounts.Accounts, tokens}.observe()
	if err := s.follow(ctx, store, fleetDeps{registry, keys, own.installID}); err != nil {
		return err
	}
	servers, err := s.listen(ctx, publicServer{public, s.clients(log, m)}, admin.Config{
		Registry: registry, Token: token, Tokens: tokens, Provisioner: own.iam, Sessions: own.sessions, UsageReader: accounts,
		Metrics: m.Handler(), Ready: ready, Hosts: s.AdminHost, Log: log, KeyUses: public,
		Purger: purge, Explainer: public, Explanation: proxy.Explanation{},
		CacheReader: cacheReader{registry, memory, m}, Backups: backups{store.copier, s.Data, keys},
		Doctor: s.doctor(doctorDeps{registry, own, keys, store.node, transforms}), Nodes: store.nodes(),
		Transforms: transforms.about,
	})
	if err != nil {
		return err
	}
	s.started(&serving, lines, servers)
	return servers.run(ctx, log, runOptions{
		end: end, draining: func() { serving.Store(false); notifySystemd("STOPPING=1") },
		background: background(limit, own, func(ctx context.Context) error { return tokens.Run(ctx, log) }),
	})
}

// background are the functions that run while the servers do.
func background(
	limit *gcLimit, own *awsParts, tokens func(context.Context) error,
) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"limit of the garbage collector": limit.run, "provisioning": own.iam.Run, "canaries": own.iam.canary.Run,
		"admin tokens": tokens, "sessions": own.sessions.Run,
	}
}

// openStore opens the database, and makes it at the first start. A key set in the data folder
// is made after the database, so without a database its secrets have been lost.
func (s *serveCmd) openStore(ctx context.Context, log *slog.Logger) (*registryStore, error) {
	datadir.RemoveBackups(s.Data)
	if s.Store != "" {
		return s.joinFleet(ctx, log)
	}
	path := datadir.RegistryPath(s.Data)
	keys := seal.InDataFolder(seal.Spec{Master: s.MasterKey, Dir: s.Data})
	info, err := os.Stat(path)
	lost := errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().IsRegular() && info.Size() == 0
	switch used := fleet.Used(s.Data); {
	case lost && used:
		return nil, fmt.Errorf("the data folder %s is that of a node of a fleet, whose registry is in PostgreSQL: "+
			"name it with --store (IXMAGE_STORE); for a server of its own, name another folder with --data", s.Data)
	case used:
		log.Warn("the data folder was used by a node of a fleet, but --store (IXMAGE_STORE) is not set: this server uses "+
			"registry.db, which lacks the changes of the fleet. If the fleet is given up, remove replica.db", "data", s.Data)
	case lost && keys != "":
		return nil, fmt.Errorf("the database %s is missing or empty, but its key set %s is there: "+
			"restore the database from backup; to begin with an empty registry, move the key set away "+
			"or name an empty folder with --data", path, keys)
	}
	store, err := sqlstore.OpenSQLite(ctx, path)
	if err != nil {
		return nil, err
	}
	return &registryStore{Store: store, copier: store, local: store}, nil
}

// openRegistry opens the key set, and the registry whose secrets it seals.
func (s *serveCmd) openRegistry(
	ctx context.Context, log *slog.Logger, store *registryStore,
) (*alias.Registry, *seal.Keyset, error) {
	sealed, err := store.CountSealed(ctx)
	if err != nil {
		return nil, nil, err
	}
	fresh, err := store.fresh(ctx, sealed)
	if err != nil {
		return nil, nil, err
	}
	keys, err := seal.Open(ctx, seal.Spec{Master: s.MasterKey, Dir: s.Data, Fresh: fresh, Sealed: sealed})
	if err != nil {
		return nil, nil, store.explainKeyset(err)
	}
	if path, beside := keys.BesideData(); beside {
		log.Warn("the key set is in the same folder as the database that it protects: a copy of the folder has both; "+
			"see --master-key", "keyset", path)
	}
	registry, err := store.open(ctx, alias.Options{
		Sealer: keys, Policy: alias.Policy{
			AllowPrivateEndpoints: s.AllowPrivateEndpoints, CheckTemplate: transform.CheckTemplate,
		},
	})
	if err != nil {
		return nil, nil, store.explainKeyset(err)
	}
	for _, d := range registry.Damaged() {
		log.Error("a row of the registry is damaged; the rest is served. Restore the database from backup, "+
			"or replace the key pair of a credential", d.Kind, string(d.Name), "id", d.ID, "error", d.Cause)
	}
	return registry, keys, alias.NoteKeyset(ctx, store, keys.Fingerprint())
}

// cacheDeps are the parts that the cache needs.
type cacheDeps struct {
	purges   diskPurges
	registry *alias.Registry
	metrics  *metrics.Metrics
	slow     *proxy.SlowReaders
}

// openCache makes the cache and the limit of the heap beside it, and warns if the cache
// cannot work as well as it should.
func (s *serveCmd) openCache(ctx context.Context, log *slog.Logger, d cacheDeps) (*cache.Cache, *gcLimit, error) {
	have := readAvailable(log)
	budget, err := s.memoryBudget(have, log)
	if err != nil {
		return nil, nil, err
	}
	s.checkWorkerMemory(have, budget, log)
	disk, err := s.openDisk(ctx, log, d)
	if err != nil {
		return nil, nil, err
	}
	memory := cache.New(cache.Config{
		Memory: budget, ObjectMax: int64(s.CacheObjectMax), Relieve: d.slow.CutForMemory, Disk: disk, Log: log,
	}, cacheRecorder{d.metrics, d.registry})
	if memory.HeapBytes() > 0 {
		log.Warn("memfd_create or mmap failed; cached bodies are on the Go heap, and hits need more CPU")
	}
	return memory, newGCLimit(memory.HeapBytes(), have.gcRoomOf(budget)), nil
}

// adminTokens returns the configured token, or else the one in the data folder, and the named
// ones. It removes the variable of the token, to keep it out of child processes and crash
// reports.
func (s *serveCmd) adminTokens(ctx context.Context, store alias.Store) (alias.Secret, *alias.Tokens, error) {
	os.Unsetenv(envToken)
	own := s.token
	if own.IsZero() {
		var err error
		if own, err = admin.OwnToken(s.Data); err != nil {
			return alias.Secret{}, nil, err
		}
	}
	named, err := alias.OpenTokens(ctx, store)
	return own, named, err
}

// openDataDir makes the data folder and locks it for this process.
func openDataDir(dir string, log *slog.Logger) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder (--data): %w", err)
	}
	if err := restrictDataDir(dir); err != nil {
		log.Warn("other users can enter the data folder; set mode 0700", "folder", dir, "error", err)
	}
	return datadir.Lock(dir)
}

// restrictDataDir sets mode 0700 on the data folder, unless the folder contains other
// files: --data may name /tmp or a home folder by mistake.
func restrictDataDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !datadir.Files.MatchString(e.Name()) {
			return fmt.Errorf("its mode was not changed, because it contains %s, which is not a file of ixmage", e.Name())
		}
	}
	return os.Chmod(dir, 0o700) //nolint:gosec // a folder needs the execute bit
}

// installID returns the name of this installation: the configured one, else the one
// generated at the first start. The registry stores it, because the path of every IAM
// user contains it.
func (s *serveCmd) installID(ctx context.Context, store *registryStore, log *slog.Logger) (string, error) {
	kept, err := store.Meta(ctx, alias.MetaInstallID)
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		return "", err
	}
	id := cmp.Or(s.InstallID, string(kept))
	switch {
	case kept != nil && string(kept) == id:
		return id, nil
	case kept != nil && store.node != nil:
		return "", sameInstallation(string(kept), id)
	case kept != nil:
		log.Warn("the install id has changed: ixmage no longer finds users made under the previous one",
			"before", string(kept), "now", id)
	case id == "":
		id = strings.ToLower(rand.Text()[:12])
	}
	if kept == nil {
		if err := store.emptied(ctx); err != nil {
			return "", err
		}
	}
	return s.keepInstallID(ctx, store, string(kept), id)
}

// keepInstallID stores the install id and returns it, or that of a node that was quicker.
func (s *serveCmd) keepInstallID(ctx context.Context, store alias.Store, before, id string) (string, error) {
	err := store.Update(ctx, func(tx alias.Tx) error {
		now, err := tx.Meta(alias.MetaInstallID)
		if err != nil && !errors.Is(err, alias.ErrNotFound) {
			return err
		}
		if now == nil || string(now) == before {
			return tx.SetMeta(alias.MetaInstallID, []byte(id))
		}
		if s.InstallID == "" {
			id = string(now)
		}
		return sameInstallation(string(now), id)
	})
	return id, err
}

// provisioning runs operations on IAM and reads canaries.
type provisioning struct {
	*provision.Provisioner
	canary *canary.Canary
}

// awsParts are the parts that talk to S3, IAM and STS.
type awsParts struct {
	installID string
	machine   *provision.AWS // signs with the credentials of this server
	sessions  *session.Sessions
	s3        *origin.Origin
	iam       *provisioning
}

// awsDeps are the parts that those need.
type awsDeps struct {
	store    *registryStore
	registry *alias.Registry
	metrics  *metrics.Metrics
	accounts aliasAccounts
	slow     *proxy.SlowReaders
}

func (s *serveCmd) openAWS(ctx context.Context, log *slog.Logger, d awsDeps) (own *awsParts, err error) {
	own = &awsParts{}
	if own.installID, err = s.installID(ctx, d.store, log); err != nil {
		return nil, err
	}
	endpoints := provision.Endpoints{IAM: s.IAMEndpoint, STS: s.STSEndpoint, Roots: s.roots}
	if own.machine, err = provision.OpenAWS(ctx, endpoints); err != nil {
		return nil, err
	}
	own.sessions = session.New(s.sessions(log, own, d))
	d.metrics.Sessions(own.sessions.Stats)
	previousKeys := &previousKeyNotifier{}
	own.s3, err = origin.New(s.origin(log, d.registry, originDeps{
		previousKeys, d.slow, own.sessions, d.store.now(), d.store.outdated(),
	}), d.registry, originRecorder{d.metrics, d.accounts})
	if err != nil {
		return nil, err
	}
	own.iam = s.provisioning(log, d.registry, provisioningDeps{own, d.metrics, previousKeys, d.store.node})
	return own, nil
}

// provisioning makes the provisioner and the canaries. Without --provision ixmage never
// calls IAM; plans, verification and canaries work without it.
func (s *serveCmd) provisioning(
	log *slog.Logger, registry *alias.Registry, d provisioningDeps,
) *provisioning {
	canaries := canary.New(canary.Config{
		Routes: registry.Routes, Read: d.readCanary(log), Every: s.CanaryInterval, Fresh: s.CanaryFresh,
		Recorder: d.metrics, Log: log, Nodes: d.nodes(),
	})
	cfg := provision.Config{
		Registry: registry, S3: d.s3.Client, S3Hint: origin.Hint,
		S3With: d.s3.ClientWith, Sessions: d.sessions,
		InstallID: d.installID, Boundary: s.IAMBoundary, NoBoundary: s.IAMNoBoundary,
		Buckets: s.ProvisionBuckets, Adopt: s.AdoptUsers, TagKeys: s.ProvisionTags, Accounts: s.list,
		AllowWideScope: s.AllowWideScope, IAMEndpoint: s.IAMEndpoint,
		Timing: s.timing(), Recorder: d.metrics, Log: log, Probes: d.machine,
	}
	if d.node != nil {
		cfg.Fleet, cfg.Clock = provisionFleet{d.node}, fleetClock{node: d.node}
	}
	if s.Provision {
		cfg.AWS = cfg.Probes
		s.warnProvisioning(log)
	}
	p := &provisioning{provision.New(cfg), canaries}
	d.previousKeys.to.Store(p.Provisioner)
	p.exposeGauges(d.metrics, registry)
	return p
}

// provisioningDeps are the parts that provisioning needs.
type provisioningDeps struct {
	*awsParts

	metrics      *metrics.Metrics
	previousKeys *previousKeyNotifier
	node         *fleet.Node // nil: there are no others
}

// readCanary returns a function that reads the first byte of a route's canary with the
// S3 client that serves the route.
func (d provisioningDeps) readCanary(log *slog.Logger) func(context.Context, alias.Route) error {
	return func(ctx context.Context, r alias.Route) error {
		client, err := d.s3.ClientOf(r)
		if err != nil {
			log.Warn("no S3 client for a canary", "alias", string(r.Alias.Name), "error", err)
			return err
		}
		return scope.ReadByte(ctx, client, r.Alias.Location, r.Alias.Prefix+r.Alias.Canary)
	}
}

// warnProvisioning warns of flags that are missing. With --accounts they are only about the account
// of the server's own credentials.
func (s *serveCmd) warnProvisioning(log *slog.Logger) {
	var in []any
	if len(s.list.All()) > 0 {
		in = []any{"account", "that of the server's own credentials"}
	}
	switch {
	case s.IAMBoundary != "":
	case s.IAMEndpoint == "" && !s.IAMNoBoundary:
		log.Warn("provisioning and rotation are refused: there is no permissions boundary; see --iam-boundary", in...)
	default:
		log.Warn("IAM users are made without a permissions boundary: see --iam-boundary", in...)
	}
	if len(s.ProvisionBuckets) == 0 {
		log.Warn("no bucket may be provisioned: see --provision-buckets", in...)
	}
}

// servers are the listeners and the servers that answer on them.
type servers struct {
	public   *proxy.Proxy
	publicLn *proxy.Listener
	admin    net.Listener
	metrics  net.Listener // nil: the admin listener serves the metrics
	operator []operatorServer
}

// descriptors divides the file descriptors of the process. Public connections stop short of
// the limit, so that health checks, the admin listener, calls to S3 and the database have
// some left whatever clients do.
type descriptors struct {
	public int // connections of clients
	idleS3 int // connections to S3 without a call
	files  int // of the disk tier, for further hits
}

func (s *serveCmd) descriptors() descriptors {
	const most = 1 << 24
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > most {
		limit.Cur = most
	}
	// Go has raised it to the hard limit.
	return divideDescriptors(int(limit.Cur), s.OriginConcurrency, s.CacheDisk != amount{})
}

// divideDescriptors divides n descriptors, with as many calls to S3 at a time as concurrency.
// Of the disk tier, as many files again are open for requests under way and for writing.
func divideDescriptors(n, concurrency int, disk bool) descriptors {
	origin := min(3*concurrency, n*3/8)
	own := min(128, 16+n/8)
	files := 0
	if disk {
		files = max(1, min(8192, (n-origin-own)/6))
	}
	return descriptors{
		public: max(1, n-origin-own-2*files),
		idleS3: max(1, origin/3, origin-concurrency),
		files:  files,
	}
}

// clients makes the table of the clients of the public listener.
func (s *serveCmd) clients(log *slog.Logger, m *metrics.Metrics) *proxy.Clients {
	for _, reason := range proxy.ShedReasons() {
		m.Shed(reason, 0)
	}
	clients := proxy.NewClients(proxy.ClientConfig{
		PerClient: s.ClientConnections, Trusted: s.TrustedProxies, Connections: s.descriptors().public,
		Shed: m.Shed, Log: log,
	})
	m.OpenConnections(clients.Open)
	return clients
}

// publicServer is the proxy and the table of its clients.
type publicServer struct {
	*proxy.Proxy

	clients *proxy.Clients
}

// operatorServer is the admin server or the metrics server.
type operatorServer struct {
	server *admin.Server
	ln     net.Listener
}

// listen opens every listener before the first one is served, so that a port in use
// ends the start at once.
func (s *serveCmd) listen(ctx context.Context, public publicServer, cfg admin.Config) (_ *servers, err error) {
	log := cfg.Log
	v := &servers{public: public.Proxy}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.publicLn, err = s.listenPublic(ctx, public.clients, log); err != nil {
		return nil, err
	}
	cfg.PictureReader = newPublicClient(v.publicLn.Addr())
	cfg.About = s.about(v.publicLn.Addr())
	if s.MetricsListen != "" {
		ops := admin.NewOps(admin.OpsConfig{
			Hosts: s.AdminHost, Metrics: cfg.Metrics, Ready: cfg.Ready, Log: cfg.Log,
			Nodes: cfg.Nodes, Transforms: cfg.Transforms, StartedAt: cfg.About.StartedAt,
		})
		cfg.Metrics = nil
		ln, err := net.Listen("tcp", s.MetricsListen)
		if err != nil {
			return nil, fmt.Errorf("open the metrics listener (--metrics-listen): %w", err)
		}
		v.metrics = ln
		v.operator = append(v.operator, operatorServer{ops, ln})
		announce(ctx, log, slog.String("listener", "metrics"), slog.String("addr", ln.Addr().String()))
	}
	ln, err := net.Listen("tcp", s.AdminListen)
	if err != nil {
		return nil, fmt.Errorf("open the admin listener (--admin-listen): %w", err)
	}
	addr := ln.Addr().String()
	if s.cert != nil {
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{*s.cert}, MinVersion: tls.VersionTLS12})
	}
	v.admin = ln
	v.operator = append(v.operator, operatorServer{admin.New(cfg), ln})
	announce(ctx, log, slog.String("listener", "admin"), slog.String("addr", addr), slog.Bool("tls", s.cert != nil))
	addr = v.publicLn.Addr().String()
	announce(ctx, log, slog.String("listener", "public"), slog.String("addr", addr), slog.String("version", version))
	return v, nil
}

// about describes the server to operators. It ends the start, whose warnings it has.
func (s *serveCmd) about(public net.Addr) admin.About {
	return admin.About{
		Version: version, Node: s.Node, PublicURL: string(s.PublicURL), Public: public, AdminTLS: s.cert != nil,
		Provisioning: s.Provision, StartedAt: time.Now(), Warnings: s.warnings.End(),
	}
}

// listenPublic opens the public listener, or takes the one that systemd has opened.
func (s *serveCmd) listenPublic(
	ctx context.Context, clients *proxy.Clients, log *slog.Logger,
) (*proxy.Listener, error) {
	passed, err := passedListener()
	if err != nil {
		return nil, err
	}
	if passed != nil {
		log.Info("the public listener is a socket of systemd; --listen is not used", "listen", s.Listen)
		return proxy.Inherit(passed, clients, log)
	}
	ln, err := proxy.Listen(ctx, s.Listen, clients, log)
	if err != nil {
		return nil, fmt.Errorf("open the public listener (--listen): %w", err)
	}
	return ln, nil
}

// announce logs the address of a listener at every --log-level: with port 0 only the
// log has the address, and scripts wait for the line.
func announce(ctx context.Context, log *slog.Logger, attrs ...slog.Attr) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "listening", 0)
	r.AddAttrs(attrs...)
	_ = log.Handler().Handle(ctx, r) // the logger filters by level, not the handler
}

// run serves until ctx ends or a server fails. Then the public listener drains. The
// operators' listeners stay open during the drain, so that operators can watch it.
func (v *servers) run(ctx context.Context, log *slog.Logger, o runOptions) error {
	g, gctx := errgroup.WithContext(ctx)
	start := func(name string, fn func() error) {
		g.Go(func() error { return o.end.track(name, fn) })
	}
	start("public listener", func() error { return v.public.Serve(v.publicLn) })
	for _, c := range v.operator {
		start("listener "+c.ln.Addr().String(), func() error { return c.server.Serve(c.ln) })
	}
	for name, fn := range o.background {
		start(name, func() error { return fn(gctx) })
	}
	start("draining", func() error {
		<-gctx.Done()
		o.end.begin()
		o.draining()
		log.Info("draining", "timeout", o.end.timeout)
		end, cancel := context.WithTimeout(context.WithoutCancel(gctx), o.end.timeout)
		defer cancel()
		if err := v.public.Stop(end, v.publicLn); err != nil {
			log.Warn("--shutdown-timeout has passed; remaining requests are cut", "error", err)
		}
		for _, c := range v.operator {
			_ = c.server.Shutdown(end) // open requests of operators are cut
		}
		return nil
	})
	return o.end.await("servers", o.end.cut, g.Wait)
}

// runOptions are the parameters of servers.run.
type runOptions struct {
	end        *shutdown
	background map[string]func(context.Context) error
	draining   func() // called when ctx has ended
}

func (v *servers) close() {
	if v.publicLn != nil {
		v.publicLn.Close()
	}
	for _, c := range v.operator {
		c.ln.Close()
	}
}

// gcLimit keeps the process near the cache's budget. By default, Go's collector lets
// the heap double before it runs. Cached bodies are outside the heap (cache/arena),
// but connections, metadata and bodies smaller than a page do not, so a soft memory
// limit makes the collector run while there is little garbage.
//
// The live heap grows with the number of connections and of small objects. If it came
// near the limit, the collector would run all the time and gain nothing. So run moves
// the limit with the heap that survived the last collection.
// docs/decisions/memory.md has the measurements.
type gcLimit struct {
	floor, slack int64
}

const (
	// gcRoom is the memory for everything except cached bodies, garbage included.
	gcRoom = 80 << 20
	// gcSlack is the least garbage that may accumulate between two collections; less where
	// there is less than gcRoom.
	gcSlack = 24 << 20
	// gcPercent lets garbage accumulate up to the limit while the live heap is small: at
	// Go's default of 100, a small heap is collected every few dozen cache misses.
	gcPercent = 400
	// gcInterval is the time between two adjustments of the limit to the live heap.
	gcInterval = time.Second
)

// newGCLimit sets the memory limit of the process. bodies is how many bytes of cached
// bodies may be on Go's heap, room the memory for everything else. If the environment sets
// GOMEMLIMIT, nothing is set.
func newGCLimit(bodies, room int64) *gcLimit {
	if os.Getenv("GOMEMLIMIT") != "" {
		return &gcLimit{floor: math.MaxInt64}
	}
	l := &gcLimit{floor: room + bodies, slack: min(gcSlack, room/10*3)}
	debug.SetMemoryLimit(l.floor)
	debug.SetGCPercent(gcPercent)
	return l
}

// run keeps the limit above the live heap until ctx ends.
func (l *gcLimit) run(ctx context.Context) error {
	if l.floor == math.MaxInt64 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(gcInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			debug.SetMemoryLimit(max(l.floor, inUse()+l.slack))
		}
	}
}

// inUse returns the memory that no collection would free: the heap that survived the last
// one, stacks, and the runtime's own memory.
func inUse() int64 {
	sample := []runtimemetrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/metadata/mcache/inuse:bytes"},
		{Name: "/memory/classes/metadata/mspan/inuse:bytes"},
		{Name: "/memory/classes/metadata/other:bytes"},
		{Name: "/memory/classes/other:bytes"},
	}
	runtimemetrics.Read(sample)
	var sum uint64
	for _, s := range sample {
		if s.Value.Kind() == runtimemetrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return int64(sum)
}
