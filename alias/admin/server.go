// Package admin is the HTTP API of the operator: aliases, credentials and what
// is done to them in IAM, and beside it metrics and health. It belongs on a listener of its own, which the
// public never reaches.
package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ixmage/alias"
)

// Limits of a request and a connection.
const (
	bodyLimit    = 64 << 10
	headerLimit  = 16 << 10
	readTimeout  = 10 * time.Second // the whole request
	writeTimeout = time.Minute      // the whole answer
	idleTimeout  = 65 * time.Second // above the 60 s that proxies keep connections
)

// Config is what the admin API works with.
type Config struct {
	Registry *alias.Registry
	// Token must be sent with every call under /api/. With the zero value no
	// call is allowed.
	Token alias.Secret
	// Provisioner does what the calls on IAM need. With nil they answer that
	// provisioning is switched off.
	Provisioner Provisioner
	// Purger and Explainer work on the cache. With nil their calls are not
	// implemented.
	Purger    Purger
	Explainer Explainer
	// Bookkeeper knows what aliases have cost. With nil its call is not
	// implemented.
	Bookkeeper Bookkeeper
	Metrics    http.Handler // nil: /metrics is not there
	Ready      func() bool  // nil: always ready
	Log        *slog.Logger
}

// Server is an HTTP server for one listener. Its methods are safe for
// concurrent use.
type Server struct {
	app    *fiber.App
	routes fasthttp.RequestHandler
	bearer bearer
	log    *slog.Logger

	once      sync.Once // closes closed
	closed    chan struct{}
	lingerers lingerers
}

// New makes the server of the admin listener.
func New(cfg Config) *Server {
	s := newServer(cfg.Log)
	s.bearer = newBearer(cfg.Token)
	s.app.Use(s.authorize, sameOrigin)
	ops := operations{
		registry: cfg.Registry, provisioner: cfg.Provisioner, closed: s.closed, held: make(chan struct{}, maxHeld),
	}
	aliases{cfg.Registry}.mount(s.app)
	credentials{ops}.mount(s.app)
	provisions{ops}.mount(s.app)
	ops.mount(s.app)
	verifications{ops}.mount(s.app)
	orphans{ops}.mount(s.app)
	audit{cfg.Registry}.mount(s.app)
	purges{cfg.Registry, cfg.Purger, cfg.Log}.mount(s.app)
	explanations{cfg.Explainer}.mount(s.app)
	usage{cfg.Registry, cfg.Bookkeeper}.mount(s.app)
	mountOps(s.app, OpsConfig{Metrics: cfg.Metrics, Ready: cfg.Ready})
	s.routes = s.app.Handler()
	return s
}

// newServer makes a server without routes; who calls it sets routes.
func newServer(log *slog.Logger) *Server {
	s := &Server{log: log, closed: make(chan struct{}), lingerers: lingerers{patience: lingerTime}}
	s.app = fiber.New(fiber.Config{
		StrictRouting:                true,
		CaseSensitive:                true,
		BodyLimit:                    bodyLimit,
		ReadBufferSize:               headerLimit,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		DisablePreParseMultipartForm: true,
		DisableStartupMessage:        true,
		EnableTrustedProxyCheck:      true, // and no proxy is trusted
		ErrorHandler:                 s.refuse,
	})
	server := s.app.Server()
	server.Handler = s.handle
	server.ErrorHandler = s.refuseMalformed
	server.SecureErrorLogMessage = true
	server.CloseOnShutdown = true
	return s
}

// Serve answers requests on ln until Shutdown, and closes ln. It returns nil
// after Shutdown.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close() // twice, as a rule; the second time does nothing
	return s.app.Server().Serve(&listener{Listener: ln, closed: s.closed, lingerers: &s.lingerers})
}

// Shutdown stops listening, lets the requests under way end and closes the idle
// connections and those that only linger. It returns ctx's error if they took too long. A server does not
// serve again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(func() { close(s.closed) })
	s.lingerers.end()
	return s.app.Server().ShutdownWithContext(ctx)
}
