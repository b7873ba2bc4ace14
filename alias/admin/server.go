// Package admin is the HTTP API of the operator, for aliases, credentials and their
// IAM users, with metrics and health beside it. It has its own listener, which must not
// be reachable by the public.
//
// A request passes through ServeHTTP (request.go), which reads its body, admit
// (auth.go), which checks host, token and origin, routes (routes.go) and the serve
// of an endpoint (endpoint.go).
package admin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"ixmage/alias"
	"ixmage/alias/admin/console"
)

// Limits of a request and a connection.
const (
	bodyLimit    = 64 << 10
	headerLimit  = 16 << 10         // request line and headers
	headerSlop   = 4 << 10          // net/http adds this to MaxHeaderBytes
	readTimeout  = 10 * time.Second // the whole request
	writeTimeout = time.Minute      // the whole answer
	pushTimeout  = 10 * time.Second // a part of an answer that is sent in parts
	idleTimeout  = 65 * time.Second // above the 60 s that proxies keep connections
)

// Config is the configuration of the admin API.
type Config struct {
	Registry *alias.Registry
	// Token is the token of the configuration, which allows every call under /api/. The zero
	// value allows none.
	Token alias.Secret
	// Tokens are the named ones. With nil there are none, and their calls are absent.
	Tokens *alias.Tokens
	// Provisioner implements the calls on IAM. With nil they answer 403.
	Provisioner Provisioner
	// Sessions makes the temporary keys of roles. With nil no such credential is accepted.
	Sessions Sessions
	// KeyUses knows when signing keys were used. With nil the API does not show it.
	KeyUses KeyUses
	// Purger and Explainer implement the calls on the cache. With nil they answer 501.
	Purger    Purger
	Explainer Explainer
	// Explanation is a value of the type that Explainer returns, for the document of the API.
	Explanation any
	// UsageReader reads the usage of aliases. With nil its call answers 501.
	UsageReader UsageReader
	// Backups copies the registry. With nil its call answers 501.
	Backups Backuper
	// CacheReader reads the state of the cache. With nil its call answers 501.
	CacheReader CacheReader
	// PictureReader fetches pictures from the public listener. With nil its call answers 501.
	PictureReader PictureReader
	// Doctor examines the server. With nil its call answers 501.
	Doctor Doctor
	// Nodes are those that share the registry; nil: it is not shared.
	Nodes Nodes
	// Transforms says whether pictures can be transformed. With nil nothing does.
	Transforms func() Transforms
	About      About
	Metrics    http.Handler // nil: /metrics is 404
	Ready      func() bool  // nil: always ready
	// Hosts are names for which a listener on a loopback address answers, besides the
	// loopback names.
	Hosts []string
	Log   *slog.Logger
}

// Server is an HTTP server for one listener. Its methods are safe for concurrent use,
// except Serve, which is called once.
type Server struct {
	http    http.Server
	routes  *routes
	hosts   hosts
	bearers *bearers // nil: this listener has no API
	access  access
	// registry is that of this node.
	registry registryState
	wrong    *wrongTokens
	log      *slog.Logger
	// refusals counts the log lines of requests that were refused before their call.
	refusals *refusalLog

	closing    context.Context //nolint:containedctx // ends when Shutdown is called
	startClose context.CancelFunc
	lingerTime time.Duration
}

// New makes the server of the admin listener.
func New(cfg Config) *Server {
	s := newServer(cfg.Log, cfg.Hosts)
	s.bearers, s.access = newBearers(cfg.Token, cfg.Tokens), access{cfg.Registry}
	ops := operations{
		registry: cfg.Registry, provisioner: cfg.Provisioner, closing: s.closing, held: make(chan struct{}, maxHeld),
	}
	signIns{s}.mount(s.routes)
	if cfg.Tokens != nil {
		tokens{cfg.Tokens}.mount(s.routes)
	}
	aliases{cfg.Registry, cfg.Sessions}.mount(s.routes)
	signingKeys{cfg.Registry, cfg.KeyUses}.mount(s.routes)
	credentials{ops, cfg.Sessions}.mount(s.routes)
	provisions{ops}.mount(s.routes)
	ops.mount(s.routes)
	events{ops, make(chan struct{}, maxStreams)}.mount(s.routes)
	verifications{ops}.mount(s.routes)
	orphans{ops}.mount(s.routes)
	audit{cfg.Registry}.mount(s.routes)
	purges{cfg.Registry, cfg.Purger, ops, cfg.Log}.mount(s.routes)
	explanations{cfg.Explainer}.mount(s.routes)
	usage{cfg.Registry, cfg.UsageReader}.mount(s.routes)
	backups{cfg.Backups, make(chan struct{}, 1)}.mount(s.routes)
	pictures{cfg.Registry, cfg.PictureReader}.mount(s.routes)
	cacheStates{cfg.CacheReader}.mount(s.routes)
	examinations{cfg.Doctor, make(chan struct{}, 1)}.mount(s.routes)
	s.registry = registryState{cfg.Nodes, cfg.About.StartedAt}
	nodes{cfg.Nodes, cfg.Registry, cfg.About}.mount(s.routes)
	serverInfo{cfg.About, s.registry, cfg.Transforms}.mount(s.routes)
	document{s.routes, cfg.Explanation}.mount(s.routes)
	mountOps(s.routes, OpsConfig{
		Metrics: cfg.Metrics, Ready: cfg.Ready, Nodes: cfg.Nodes, Transforms: cfg.Transforms, StartedAt: cfg.About.StartedAt,
	})
	mountConsole(s.routes)
	return s
}

// newServer makes a server without routes.
func newServer(log *slog.Logger, names []string) *Server {
	s := &Server{
		routes: newRoutes(), hosts: hosts{names: names}, wrong: newWrongTokens(), log: log, refusals: &refusalLog{log: log},
		lingerTime: lingerTime,
	}
	s.closing, s.startClose = context.WithCancel(context.Background())
	s.http = http.Server{
		Handler:                      s,
		DisableGeneralOptionsHandler: true, // OPTIONS * is 404 like every other unknown path
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout, // send starts it again for the answer
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               headerLimit - headerSlop,
		ErrorLog:                     slog.NewLogLogger(connectionLog{log.Handler()}, slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateIdle {
				c.(*conn).state.Store(connWaiting)
			}
		},
	}
	return s
}

// connectionLog is the log of net/http, which has the error of a connection, a failed TLS
// handshake for example, in the message.
type connectionLog struct{ slog.Handler }

func (h connectionLog) Handle(ctx context.Context, r slog.Record) error {
	line := slog.NewRecord(r.Time, r.Level, "admin connection failed", 0)
	line.AddAttrs(slog.String("error", r.Message))
	return h.Handler.Handle(ctx, line)
}

// Serve answers requests on ln until Shutdown, and closes ln. It returns nil
// after Shutdown.
func (s *Server) Serve(ln net.Listener) error {
	s.hosts.loopback = isLoopback(ln.Addr())
	if err := s.http.Serve(listener{ln, s}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops listening, closes connections without a request, ends the waiting
// of held answers, and waits for running requests. It returns the error of ctx if ctx
// ends first. A server cannot serve again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.startClose()
	defer s.refusals.flush()
	return s.http.Shutdown(ctx)
}

const metricsPath = "/metrics"

// OpsConfig is the configuration of the metrics listener.
type OpsConfig struct {
	// Hosts are names for which a listener on a loopback address answers, besides the
	// loopback names.
	Hosts   []string
	Metrics http.Handler // nil: /metrics is 404
	Ready   func() bool  // nil: always ready
	// Nodes are those that share the registry; nil: it is not shared.
	Nodes Nodes
	// Transforms says whether pictures can be transformed. With nil nothing does.
	Transforms func() Transforms
	StartedAt  time.Time
	Log        *slog.Logger
}

// NewOps makes the server of a listener that has metrics and health only.
func NewOps(cfg OpsConfig) *Server {
	s := newServer(cfg.Log, cfg.Hosts)
	mountOps(s.routes, cfg)
	return s
}

// mountOps adds the calls that need no token.
func mountOps(t *routes, cfg OpsConfig) {
	t.add(http.MethodGet, "/-/healthz", func(x *exchange, _ *http.Request) error { return healthy(x) })
	registry := registryState{cfg.Nodes, cfg.StartedAt}
	t.add(http.MethodGet, "/-/readyz", func(x *exchange, _ *http.Request) error {
		detail := registry.detail()
		switch {
		case cfg.Ready == nil || cfg.Ready():
			return healthy(x, detail, transformState(cfg.Transforms).detail())
		case detail != "":
			return failf(errNotReady,
				"the server is starting or draining, or its registry is older than --max-registry-age: %s", detail)
		}
		return errNotReady
	})
	if cfg.Metrics != nil {
		t.add(http.MethodGet, metricsPath, buffer(cfg.Metrics))
	}
}

// mountConsole adds the console: its files need no token, what it shows comes from the API.
func mountConsole(t *routes) {
	for _, f := range console.Files() {
		path := f.Path
		if path == "/" {
			path = "/{$}" // "/" alone would be every path
		}
		t.add(http.MethodGet, path, buffer(f))
	}
}

// buffer sends the answer of h when it is complete.
func buffer(h http.Handler) handler {
	return func(x *exchange, r *http.Request) error {
		w := &buffered{header: x.Header()}
		h.ServeHTTP(w, r)
		x.send(cmp.Or(w.status, http.StatusOK), w.body.Bytes())
		return nil
	}
}

// healthy answers with ok, and on further lines with the details that are not empty.
func healthy(x *exchange, details ...string) error {
	text := []byte("ok\n")
	for _, detail := range details {
		if detail != "" {
			text = append(append(text, detail...), '\n')
		}
	}
	x.Header().Set("Content-Type", "text/plain; charset=utf-8")
	x.send(http.StatusOK, text)
	return nil
}

// buffered is a ResponseWriter that keeps the answer until it is complete, so that a
// handler that panics half-way is answered with a problem.
type buffered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *buffered) Header() http.Header { return w.header }

func (w *buffered) WriteHeader(status int) { w.status = status }

func (w *buffered) Write(p []byte) (int, error) { return w.body.Write(p) }
