package admin

import (
	"bytes"
	"cmp"
	"log/slog"
	"net/http"
)

const metricsPath = "/metrics"

// OpsConfig is what the metrics listener works with.
type OpsConfig struct {
	// Hosts are names that a listener on loopback answers for beside the loopback
	// names.
	Hosts   []string
	Metrics http.Handler // nil: /metrics is not there
	Ready   func() bool  // nil: always ready
	Log     *slog.Logger
}

// NewOps makes the server of a listener that has metrics and health only.
func NewOps(cfg OpsConfig) *Server {
	s := newServer(cfg.Log, cfg.Hosts)
	mountOps(s.routes, cfg)
	return s
}

// mountOps adds the calls that need no token.
func mountOps(t *routes, cfg OpsConfig) {
	t.add(http.MethodGet, "/-/healthz", healthy)
	t.add(http.MethodGet, "/-/readyz", func(x *exchange, r *http.Request) error {
		if cfg.Ready != nil && !cfg.Ready() {
			return errNotReady
		}
		return healthy(x, r)
	})
	if cfg.Metrics != nil {
		t.add(http.MethodGet, metricsPath, func(x *exchange, r *http.Request) error {
			w := &whole{header: x.Header()}
			cfg.Metrics.ServeHTTP(w, r)
			x.send(cmp.Or(w.status, http.StatusOK), w.body.Bytes())
			return nil
		})
	}
}

func healthy(x *exchange, _ *http.Request) error {
	x.Header().Set("Content-Type", "text/plain; charset=utf-8")
	x.send(http.StatusOK, []byte("ok\n"))
	return nil
}

// whole is a ResponseWriter that keeps an answer until it is complete: a handler
// that panics half-way is answered with a problem.
type whole struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *whole) Header() http.Header { return w.header }

func (w *whole) WriteHeader(status int) { w.status = status }

func (w *whole) Write(p []byte) (int, error) { return w.body.Write(p) }
