package origin

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"ixmage/alias"
)

const (
	tlsHandshakeTimeout = 5 * time.Second
	// idleConnTimeout is below the minute after which S3 and most load balancers
	// close an idle connection, so that requests rarely get a closed one.
	idleConnTimeout = 50 * time.Second
	// readBuffer takes the headers and the first 15 KiB of a reply in one system
	// call; larger reads of a body bypass it. Each idle connection holds one.
	readBuffer = 16 << 10
	// writeBuffer takes the largest request: a key of 1,024 bytes, escaped to
	// three times that, and its signature.
	writeBuffer = 8 << 10
	// maxHeader is far above the headers of S3: 2 KiB of metadata and a few more.
	maxHeader = 32 << 10
	// maxErrorBody is far above S3's error documents. Without it the SDK would read
	// any length into memory.
	maxErrorBody = 64 << 10
)

// sender sends the requests of all S3 clients over HTTP/1.1: S3 speaks nothing else, and with
// other servers HTTP/2 would put all bodies of a host on one connection, where one lost packet
// stalls them all. It replaces the transport of net/http, which returns a connection to
// its pool before it looks for bytes after the reply. Such bytes can be a
// complete reply, and the next request would take them for its own. A sender looks first:
// see conn.finish and pool.get.
//
// It takes no proxy from the environment: that would see which objects are read, and
// dialCheck would check its address instead of the endpoint's.
type sender struct {
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	tls       *tls.Config
	firstByte time.Duration
	allowHTTP bool // plain, without TLS
	idle      *idleConns
	log       *slog.Logger
}

func newSender(cfg Config, resolver *net.Resolver, log *slog.Logger) *sender {
	dialer := &net.Dialer{
		Timeout:        cfg.ConnectTimeout,
		Resolver:       resolver,
		ControlContext: dialCheck(alias.Policy{AllowPrivateEndpoints: cfg.AllowPrivateEndpoints}),
	}
	idle := cfg.IdleConns
	if idle == 0 {
		idle = 2 * cfg.Concurrency
	}
	return &sender{
		dial: dialer.DialContext,
		tls: &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, RootCAs: cfg.Roots,
			// Shared by all clients: a session holds keys of the server and no bytes of a reply.
			ClientSessionCache: tls.NewLRUClientSessionCache(0),
		},
		firstByte: cfg.FirstByteTimeout,
		allowHTTP: cfg.AllowPrivateEndpoints,
		// Each call may leave an idle connection to the same host; a lower limit
		// would close connections whenever load falls.
		idle: &idleConns{perHost: min(cfg.Concurrency, idle), total: idle},
		log:  log,
	}
}

// httpClient is the HTTP client of one S3 client. It has a pool of connections of its own,
// so that two credentials never use the same connection.
type httpClient struct {
	*sender

	pool *pool
}

func (s *sender) newClient() *httpClient {
	return &httpClient{sender: s, pool: &pool{all: s.idle, log: s.log, conns: map[string][]*conn{}}}
}

// dialCheck checks the resolved address at the moment of dialing: between an earlier check
// and the dial, the name could change to another address. It runs for each address of the
// name, so a forbidden one is skipped and a good one is used.
func dialCheck(policy alias.Policy) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return newAddressError(netip.Addr{}, fmt.Errorf("endpoint address %q: %w", address, err))
		}
		if err := alias.CheckAddr(ap.Addr(), policy); err != nil {
			return newAddressError(ap.Addr(), err)
		}
		return nil
	}
}

// addressError is a connection that dialCheck or Do refused: it says nothing about the
// origin.
type addressError struct {
	error

	private bool // --allow-private-endpoints would allow it
}

func (f *addressError) Unwrap() error { return f.error }

// errPlainHTTP is for aliases that were registered while plain http was allowed.
var errPlainHTTP = errors.New("plain http needs --allow-private-endpoints")

var userAgent = []string{"ixmage"}

// identity is sent with HEAD too, so that a server or proxy that compresses describes the
// object that a GET gets.
var identity = []string{"identity"}

// Do sends one request and counts it. It does not follow a redirect, which comes from a
// wrong region or from an attacker: the signature would go to another host. It
// reads error replies up to maxErrorBody and closes them, which the SDK does not always do.
func (c *httpClient) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !c.allowHTTP {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &addressError{error: errPlainHTTP}}
	}
	// Not among the signed headers. Probes have a user agent of their own.
	req.Header["Accept-Encoding"] = identity
	if req.Header["User-Agent"] == nil {
		req.Header["User-Agent"] = userAgent
	}
	resp, err := c.send(req)
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	_ = resp.Body.Close()
	// The status counts even if the error document is cut.
	if err != nil && req.Context().Err() != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusBadRequest && req.URL.Scheme == "http" {
		if err := wantsTLS(resp.StatusCode, text); err != nil {
			return nil, err
		}
	}
	resp.Body = &errorDocument{bytes.NewReader(text), text}
	return resp, nil
}

// errorDocument is the body of a reply that is an error. Its text stays readable after
// the SDK has read it, because the SDK drops most of its elements.
type errorDocument struct {
	*bytes.Reader

	text []byte
}

func (*errorDocument) Close() error { return nil }

// maxResends is how many idle connections, beyond the first, a request may find dead.
// Without a limit, if S3 closes the connection whenever it is asked for
// some object, each request for that object would use up the connections of all others.
const maxResends = 3

var errDead = fmt.Errorf("idle connections are dead: %w", io.ErrUnexpectedEOF)

// send sends a request, again if an idle connection turns out to be dead, and counts it if
// it belongs to a call. After a lost connection the next request gets a new one, so that a
// retry does not get another dead one; so does a request with a body, which cannot be
// sent twice.
func (c *httpClient) send(req *http.Request) (*http.Response, error) {
	t, _ := req.Context().Value(callStatsKey{}).(*callStats)
	fresh := t.startsAnew() || req.Body != nil && req.Body != http.NoBody
	for resent := 0; ; resent++ {
		t.sent()
		attempt := t.attempt()
		cn, err := c.connection(req, fresh)
		if err != nil {
			endAttempt(attempt, nil, err)
			t.gotNoReply(err)
			return nil, err
		}
		resp, err := cn.exchange(req)
		endAttempt(attempt, resp, err)
		if err == nil {
			return resp, nil
		}
		if !cn.wasDead(req.Context(), err) {
			t.gotNoReply(err)
			return nil, err
		}
		if resent == maxResends {
			t.gotNoReply(errDead)
			return nil, errDead
		}
	}
}

// wasDead reports whether an exchange failed because the server had closed an idle connection.
func (cn *conn) wasDead(ctx context.Context, err error) bool {
	return cn.reused && cn.received == 0 && ctx.Err() == nil && !isTimeout(err)
}

// connection returns an idle connection, or a new one.
func (c *httpClient) connection(req *http.Request, fresh bool) (*conn, error) {
	if !fresh {
		if cn := c.pool.get(poolKey(req.URL)); cn != nil {
			return cn, nil
		}
	}
	cn, err := c.connect(req.Context(), req.URL)
	if err != nil {
		return nil, err
	}
	cn.pool = c.pool
	return cn, nil
}
