// Package proxy answers GET and HEAD of /{alias}/{key} with pictures from S3, through the
// cache. It is the hot path: a memory hit does I/O on its socket only, takes only the lock
// of one shard of the cache, starts no goroutine, and needs neither the database nor IAM.
package proxy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/singleflight"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// Config wires a Proxy. All fields but Canary, Expired, Sessions, Slow, Tracer and
// Transforms are required.
type Config struct {
	Registry *alias.Registry
	Cache    *cache.Cache
	Origin   *origin.Origin
	Recorder Recorder
	// Slow is told of answers whose clients read slowly. With nil, clients are cut only if
	// they stall.
	Slow *SlowReaders
	// Canary distinguishes a missing object from a broken alias when S3 refuses; with
	// nil, every refusal counts as a missing object.
	Canary Canary
	// Sessions are those that Explain describes; with nil, it describes none.
	Sessions Sessions
	// Tracer traces requests. With nil, none is.
	Tracer Tracer
	// Transforms makes variants. With nil, the query of a request has no options.
	Transforms Transformer
	// Ready reports whether /-/readyz answers 200.
	Ready func() bool
	// Expired reports whether the registry is too old to serve with. With nil, it never is.
	Expired func() bool
	Log     *slog.Logger
}

// Proxy is the public HTTP server.
type Proxy struct {
	registry   *alias.Registry
	cache      *cache.Cache
	origin     *origin.Origin
	canary     Canary
	sessions   Sessions
	transforms Transformer // nil: transforms are off
	keys       signingKeys
	queries    queries
	failures   *variantFailures
	results    atomic.Int64 // bytes of variants that are outside of the cache
	rec        Recorder
	tracer     Tracer
	series     *seriesTable
	unknown    Series
	ready      func() bool
	expired    func() bool
	log        *slog.Logger
	blocks     *blockGroup
	demand     *demand
	sniffed    *sniffedTypes
	slow       *SlowReaders
	disk       *diskReads
	heads      singleflight.Group // HeadObject of cold objects

	// base is the context of the work for requests. fasthttp has no context that ends
	// with the client, so every wait has a deadline of its own.
	base     context.Context //nolint:containedctx // see above
	app      *fiber.App
	routes   fasthttp.RequestHandler
	draining atomic.Bool
}

// Limits of the server. They cut slow clients and do not affect quick ones.
const (
	readTimeout  = 10 * time.Second // for a request's header
	idleTimeout  = 65 * time.Second // above the usual 60 s of load balancers
	writeTimeout = 60 * time.Second // for an answer that is sent as one slice

	// ReadBufferSize holds a request's header: the longest key, each byte
	// escaped, and some KiB of cookies. WriteBufferSize holds an answer's
	// header and a small body.
	ReadBufferSize  = 16 << 10
	WriteBufferSize = 8 << 10
)

// New makes the server. It listens nowhere yet.
func New(cfg Config) *Proxy {
	if cfg.Canary == nil {
		cfg.Canary = noCanary{}
	}
	if cfg.Slow == nil {
		cfg.Slow = NewSlowReaders(func(string, int) {}, cfg.Log)
	}
	p := &Proxy{
		registry: cfg.Registry, cache: cfg.Cache, origin: cfg.Origin, canary: cfg.Canary, rec: cfg.Recorder,
		tracer: cfg.Tracer, sessions: cfg.Sessions,
		transforms: cfg.Transforms, keys: newSigningKeys(), failures: newVariantFailures(),
		unknown: cfg.Recorder.Series(""), blocks: newBlockGroup(cfg.Cache),
		slow: cfg.Slow, disk: newDiskReads(), demand: newDemand(), sniffed: newSniffedTypes(),
		ready: cfg.Ready, expired: cfg.Expired, log: cfg.Log, base: context.Background(),
	}
	if p.transforms != nil {
		p.queries = newQueries(p.transforms.Version())
	}
	p.series = newSeriesTable(cfg.Recorder, func(name string) bool {
		_, ok := p.registry.Lookup(name)
		return ok
	})
	p.app = fiber.New(fiber.Config{
		AppName: "ixmage", DisableStartupMessage: true,
		CaseSensitive: true, StrictRouting: true,
		ReadTimeout: readTimeout, IdleTimeout: idleTimeout, WriteTimeout: writeTimeout,
		ReadBufferSize: ReadBufferSize, WriteBufferSize: WriteBufferSize,
		// With a streamed body the handler runs, and refuses the request, before
		// the body is read; see skipBody.
		StreamRequestBody: true, BodyLimit: 1, DisablePreParseMultipartForm: true,
		ErrorHandler: p.unrouted,
	})
	p.app.Get("/-/healthz", p.alive)
	p.app.Get("/-/readyz", p.readiness)
	p.app.Get("/*", p.get)
	p.routes = p.app.Handler()
	s := p.app.Server()
	s.HeaderReceived = skipBody
	s.Handler = p.handle
	s.ErrorHandler = p.unreadable
	s.ExpectHandler = p.expectation
	s.SecureErrorLogMessage = true
	s.CloseOnShutdown = true
	return p
}

// Serve answers requests on ln until Shutdown, and then returns nil.
func (p *Proxy) Serve(ln net.Listener) error { return p.app.Server().Serve(ln) }

// Forget drops the series of a deleted alias. The Recorder must forget the alias first.
func (p *Proxy) Forget(name alias.Name) { p.series.forget(string(name)) }

// handle gets every request that could be read before Fiber does, because Fiber answers
// an unknown method by itself and ignores bodies.
func (p *Proxy) handle(fc *fasthttp.RequestCtx) {
	x := p.begin(fc, fc.Time())
	if p.tracer != nil {
		x.trace(&fc.Request.Header)
	}
	if prob, ok := p.refuse(&fc.Request.Header); ok {
		p.reject(x, fc, prob)
		return
	}
	switch {
	case !p.admitted(x, fc):
	case fc.Request.Header.IsOptions():
		p.preflight(x)
	default:
		p.route(x, fc)
	}
	if p.draining.Load() {
		fc.SetConnectionClose()
	}
}

var errClientLimit = errors.New("the client has --client-connections requests under way")

// admitted answers a request of a client beyond its limit with 503. A connection carries one
// request at a time, so the limit of connections is enough except for requests that a
// trusted proxy passes on. Health checks are always admitted.
func (p *Proxy) admitted(x *exchange, fc *fasthttp.RequestCtx) (ok bool) {
	o := x.open
	target := fc.Request.Header.RequestURI()
	if o == nil || !o.trusted || o.clients.cfg.PerClient == 0 || bytes.HasPrefix(target, healthPrefix) {
		return true
	}
	if x.client, ok = o.clients.enter(&fc.Request.Header); !ok {
		t, _ := resolve(target)
		p.attribute(x, t.alias)
		x.fail(problemOf(errClientLimit), errClientLimit)
	}
	return ok
}

var healthPrefix = []byte("/-/")

// route runs Fiber. It answers a panic with a problem: fasthttp does not recover it.
func (p *Proxy) route(x *exchange, fc *fasthttp.RequestCtx) {
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("panic while answering", "request_id", string(x.id[:]), "panic", v, "stack", string(debug.Stack()))
			x.fail(probInternal, errPanic)
			fc.SetConnectionClose()
		}
	}()
	p.routes(fc)
}

var errPanic = errors.New("panic while answering")

// skipBody keeps fasthttp from waiting for the first byte of a body, as it does for one of
// known length even if bodies are streamed. The request is refused in any case.
func skipBody(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if h.ContentLength() > 0 {
		h.SetContentLength(-1)
	}
	return fasthttp.RequestConfig{}
}

// refuse returns the problem of a request that is refused whatever its path, except that
// OPTIONS is allowed where preflight answers it. It checks the method first, then framing,
// then body, then expectation.
func (p *Proxy) refuse(h *fasthttp.RequestHeader) (problem, bool) {
	if !h.IsHTTP11() {
		if prob, ok := refuseVersion(h); ok {
			return prob, true
		}
	}
	if !h.IsGet() && !h.IsHead() && !p.hasPreflight(h) {
		return probMethod, true
	}
	if prob, ok := refuseHeader(h.RawHeaders()); ok {
		return prob, true
	}
	// -2 is neither Content-Length nor Transfer-Encoding, -1 is chunked.
	if n := h.ContentLength(); n != -2 && n != 0 {
		return probBody, true
	}
	if len(h.Peek(fasthttp.HeaderExpect)) > 0 {
		return probExpect, true
	}
	return problem{}, false
}

// refuseVersion refuses a version of HTTP whose major number is not 1 (RFC 9110, section
// 15.6.6). A minor number above 1 has the rules of HTTP/1.1 (section 2.5), and fasthttp
// those of HTTP/1.0, which needs no Host. fasthttp has checked the form of the version.
func refuseVersion(h *fasthttp.RequestHeader) (problem, bool) {
	const major, minor = len("HTTP/"), len("HTTP/1.")
	version := h.Protocol()
	switch {
	case len(version) <= minor || version[major] != '1':
		return probVersion, true
	case version[minor] > '1' && len(h.Host()) == 0:
		return probBadRequest, true
	}
	return problem{}, false
}

// refuseHeader refuses raw headers that fasthttp accepts and another server on the way may
// read differently, and so find other requests in the same bytes (request smuggling): a
// line that continues the one before it (RFC 9112, section 5.2), a line that ends without
// CR, and a Transfer-Encoding, which fasthttp removes if it is "identity".
func refuseHeader(raw []byte) (problem, bool) {
	const encoding = "transfer-encoding:"
	for len(raw) > 0 {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' || raw[0] == ' ' || raw[0] == '\t' {
			return probBadRequest, true
		}
		if raw[0]|0x20 == 't' && end >= len(encoding) && strings.EqualFold(string(raw[:len(encoding)]), encoding) {
			return probBody, true
		}
		raw = raw[end+1:]
	}
	return problem{}, false
}

// reject answers a request that refuse refused. It counts the request under the alias in
// its path, unless the request can be read in two ways.
func (p *Proxy) reject(x *exchange, fc *fasthttp.RequestCtx, prob problem) {
	if prob != probBadRequest {
		t, _ := resolve(fc.Request.Header.RequestURI())
		p.attribute(x, t.alias)
	}
	x.fail(prob, nil)
	closeAfter(fc)
}

// closeAfter closes the connection after the answer, and lingers: the client may still be
// sending a body that is not read.
func closeAfter(fc *fasthttp.RequestCtx) {
	fc.SetConnectionClose()
	if c, ours := fc.Conn().(*conn); ours {
		c.linger()
	}
}

// expectation refuses requests that wait for 100 Continue.
func (p *Proxy) expectation(fc *fasthttp.RequestCtx) int {
	x := p.begin(fc, time.Now())
	prob, _ := p.refuse(&fc.Request.Header)
	p.reject(x, fc, prob)
	return x.code
}

// unreadable answers bytes that are no request. The error may quote the client's bytes, so
// it is neither logged nor sent.
func (p *Proxy) unreadable(fc *fasthttp.RequestCtx, err error) {
	x := p.begin(fc, time.Now())
	x.unread = true
	// Load balancers check health with a connection that they reset without a request.
	x.quiet = errors.Is(err, syscall.ECONNRESET)
	x.fail(requestProblem(err), nil)
	closeAfter(fc)
}

// unrouted answers a request for which Fiber has no route.
func (p *Proxy) unrouted(c *fiber.Ctx, _ error) error {
	x := c.Context().UserValue(exchangeKey{}).(*exchange)
	x.fail(probNotFound, errNoRoute)
	return nil
}

func (p *Proxy) alive(c *fiber.Ctx) error {
	p.health(c.Context(), http.StatusOK, "ok\n")
	return nil
}

func (p *Proxy) readiness(c *fiber.Ctx) error {
	if p.draining.Load() || !p.ready() {
		p.health(c.Context(), http.StatusServiceUnavailable, "not ready\n")
		return nil
	}
	p.health(c.Context(), http.StatusOK, "ready\n")
	return nil
}

func (p *Proxy) health(fc *fasthttp.RequestCtx, status int, text string) {
	x := fc.UserValue(exchangeKey{}).(*exchange)
	if bytes.IndexByte(fc.Request.Header.RequestURI(), '#') >= 0 { // Fiber ends the path there
		x.fail(probBadKey, errBadKey)
		return
	}
	x.quiet = true
	x.common(&fc.Response.Header)
	fc.Response.SetStatusCode(status)
	fc.Response.Header.SetContentTypeBytes(typeText)
	fc.Response.Header.SetCanonical(nameCacheControl, noStore)
	fc.Response.SetBodyString(text)
}

// drainGrace is how long Stop waits before it closes idle connections. Until then each
// answer tells its client that the connection ends.
const drainGrace = 500 * time.Millisecond

// Stop shuts the server down. Connections that the kernel has accepted are still answered,
// each connection ends with its next answer, idle ones are closed, and requests under way
// may end until ctx does. Then Stop cuts the rest.
func (p *Proxy) Stop(ctx context.Context, ln *Listener) error {
	p.draining.Store(true)
	ln.Drain()
	tick := time.NewTicker(drainGrace / 20)
	defer tick.Stop()
	end := time.After(drainGrace)
	for p.app.Server().GetOpenConnectionsCount() > 0 {
		select {
		case <-tick.C:
			continue
		case <-end:
		case <-ctx.Done():
		}
		break
	}
	return p.app.Server().ShutdownWithContext(ctx)
}
