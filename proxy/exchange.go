package proxy

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// exchange is one request and its answer, from the request's header until the kernel has
// the last byte of the answer. Its Close does everything that must not happen before:
// it releases cached bytes, counts, and writes the log line. fasthttp calls Close, because
// it closes user values when it has written the response or failed to; for a body given to
// it as a slice there is no other signal.
type exchange struct {
	proxy *Proxy
	fc    *fasthttp.RequestCtx
	open  *openConn // nil if the connection is in no table

	// client is counted in the table of clients, for a request from a trusted proxy.
	client netip.Addr

	id    [16]byte
	start time.Time

	alias   string      // empty unless it is in the registry
	route   alias.Route // the object's; zero before it is known
	terms   terms       // of the query
	series  Series
	cache   string
	triedS3 bool // without success: the answer is stale
	code    int
	bytes   int64
	first   time.Duration // to the first byte of the answer
	entry   *cache.Entry
	reader  chunkReader
	span    origin.Span // nil: not traced
	memory  memoryBody  // if the body is sent by conn
	small   *smallBody  // of an entry on disk
	conn    *conn       // that measures how quickly the client reads; nil if that is not needed

	// What a slow client makes the answer keep from others; see SlowReaders.
	pinned      pinner
	pinnedBytes int64
	cut         bool // the client was cut; cutBytes are released by Close
	cutBytes    int64

	prob    problem // the answer to the client instead of a picture
	err     error   // the cause, for the log
	broken  bool    // the body was cut because the origin failed
	aborted bool    // the client went away
	quiet   bool    // health checks are neither counted nor logged
	unread  bool    // the request could not be read, so its method is not known
}

// exchangeKey is the key of an exchange among the user values.
type exchangeKey struct{}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// begin opens the exchange of a request. Its start is a parameter because fc.Time may
// still be that of the previous request on the same connection.
func (p *Proxy) begin(fc *fasthttp.RequestCtx, start time.Time) *exchange {
	x := exchanges.Get().(*exchange)
	*x = exchange{proxy: p, fc: fc, start: start, series: p.unknown, cache: cacheNone}
	if x.open = openOf(fc.Conn()); x.open != nil {
		x.open.busy(start)
	}
	putID(&x.id)
	fc.SetUserValue(exchangeKey{}, x)
	p.rec.InFlight(1)
	return x
}

// putID writes a request id: 64 random bits in hexadecimal. It serves to find a log line
// and is no secret.
func putID(id *[16]byte) {
	var raw [8]byte
	n := rand.Uint64() //nolint:gosec // see above
	for i := range raw {
		raw[i] = byte(n >> (8 * i))
	}
	hex.Encode(id[:], raw[:])
}

// Close ends the exchange. It is called once.
func (x *exchange) Close() error {
	p := x.proxy
	if x.memory.conn != nil {
		x.memory.conn.drop(x.id[:])
	}
	if x.entry != nil {
		x.entry.Release()
	}
	x.closeReader()
	if x.small != nil {
		smallBodies.Put(x.small)
	}
	x.releaseClient()
	took := time.Since(x.start)
	if x.client.IsValid() {
		x.open.clients.leave(x.client)
	}
	if x.open != nil {
		x.open.idle(x.start.Add(took))
	}
	if !x.quiet {
		x.series.Request(Outcome{
			Method: x.method(), Code: x.code, Cache: x.cache, Duration: took,
			FirstByte: x.first, Bytes: x.bytes, Aborted: x.aborted,
		})
		x.countSaved()
		x.log(took)
	}
	if x.span != nil {
		x.endSpan()
	}
	dropBuffers(&x.fc.Request, x.unread)
	p.rec.InFlight(-1) // now that it is counted: when none is in flight, the counters are complete
	*x = exchange{}
	exchanges.Put(x)
	return nil
}

func (x *exchange) closeReader() {
	if x.reader != nil {
		x.reader.Close()
	}
}

// The parsed header that a connection keeps for its next request. Larger ones are dropped,
// because an idle connection would keep them: fasthttp copies a header several times, and
// a line of four bytes takes 72.
const (
	keptHeader = 2 << 10
	keptLines  = 40
)

// dropBuffers drops the memory of a large header after its request. Ordinary requests keep
// it, so that they allocate nothing.
func dropBuffers(r *fasthttp.Request, unread bool) {
	raw := r.Header.RawHeaders()
	if !unread && len(raw)+len(r.Header.RequestURI()) <= keptHeader && bytes.Count(raw, newline) <= keptLines {
		return
	}
	r.Header = fasthttp.RequestHeader{}
	*r.URI() = fasthttp.URI{}
}

var newline = []byte{'\n'}

// releaseClient ends what the answer has to do with SlowReaders. The bytes that it held are
// released already.
func (x *exchange) releaseClient() {
	if x.conn != nil {
		x.conn.pace.x = nil
	}
	if x.pinned != nil {
		x.pinned.Unpin()
	}
	if x.cut {
		x.proxy.slow.ended(x.cutBytes)
	}
}

// countSaved counts the requests and bytes that S3 did not have to serve. Those that a 304
// saves are counted when it arrives, because no exchange may be waiting for it.
func (x *exchange) countSaved() {
	switch x.cache {
	case cacheHit, cacheStale, cacheNegative:
		requests, sent := int64(1), x.bytes
		if x.triedS3 {
			requests = 0
		}
		if x.code >= http.StatusBadRequest { // the bytes of a problem are not S3's
			sent = 0
		}
		x.series.Saved(SavedByHit, requests, sent)
	case cacheCollapsed:
		x.series.Saved(SavedByCollapsed, 1, x.bytes)
	}
}

func (x *exchange) method() string {
	switch h := &x.fc.Request.Header; {
	case x.unread:
		return "other"
	case h.IsGet():
		return http.MethodGet
	case h.IsHead():
		return http.MethodHead
	}
	return "other"
}

// log writes one line, at debug level for a request that did not fail.
func (x *exchange) log(took time.Duration) {
	level, msg := slog.LevelDebug, "request"
	switch {
	case x.broken:
		level, msg = slog.LevelWarn, "response cut: the origin failed"
	case x.code >= http.StatusInternalServerError && x.prob != probVersion:
		level, msg = slog.LevelWarn, "request failed"
	case x.code >= http.StatusBadRequest:
		level, msg = slog.LevelInfo, "request refused"
	}
	ctx := x.proxy.base
	if !x.proxy.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.String("request_id", string(x.id[:])), slog.String("method", x.method()),
		slog.Int("status", x.code), slog.String("alias", x.alias), slog.String("cache", x.cache),
		slog.Int64("bytes", x.bytes), slog.Duration("took", took))
	if x.prob.code != "" {
		attrs = append(attrs, slog.String("code", x.prob.code))
	}
	if x.err != nil {
		attrs = append(attrs, slog.String("error", x.err.Error()))
	}
	if x.aborted {
		attrs = append(attrs, slog.Bool("client_aborted", true))
	}
	x.proxy.log.LogAttrs(ctx, level, msg, attrs...) //nolint:sloglint // one of the three constants above
}

// sinceStart is the time an exchange has taken so far.
func sinceStart(x *exchange) time.Duration { return max(time.Since(x.start), time.Nanosecond) }
