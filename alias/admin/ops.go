package admin

import (
	"log/slog"
	"net/http"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
)

const metricsPath = "/metrics"

// OpsConfig is what the metrics listener works with.
type OpsConfig struct {
	Metrics http.Handler // nil: /metrics is not there
	Ready   func() bool  // nil: always ready
	Log     *slog.Logger
}

// NewOps makes the server of a listener that has metrics and health only.
func NewOps(cfg OpsConfig) *Server {
	s := newServer(cfg.Log)
	s.app.Use(sameOrigin)
	mountOps(s.app, cfg)
	s.routes = s.app.Handler()
	return s
}

// mountOps adds the calls that need no token.
func mountOps(app *fiber.App, cfg OpsConfig) {
	app.Get("/-/healthz", routed("/-/healthz", healthy))
	app.Get("/-/readyz", routed("/-/readyz", func(c *fiber.Ctx) error {
		if cfg.Ready != nil && !cfg.Ready() {
			return errNotReady
		}
		return healthy(c)
	}))
	if cfg.Metrics != nil {
		app.Get(metricsPath, routed(metricsPath, adaptor.HTTPHandler(cfg.Metrics)))
	}
}

// routed notes the route for the log.
func routed(path string, h fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		recordOf(c.Context()).route = path
		return h(c)
	}
}

func healthy(c *fiber.Ctx) error { return c.SendString("ok\n") }
