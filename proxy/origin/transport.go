package origin

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
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

// sender is the HTTP client below every S3 client. All share its connections: requests
// are signed, connections are not.
type sender struct {
	client *http.Client
	// noKeepAlive makes a new connection for each request.
	noKeepAlive *http.Client
	allowHTTP   bool // plain, without TLS
}

func newSender(cfg Config, resolver *net.Resolver) *sender {
	dialer := &net.Dialer{
		Timeout:        cfg.ConnectTimeout,
		Resolver:       resolver,
		ControlContext: dialCheck(alias.Policy{AllowPrivateEndpoints: cfg.AllowPrivateEndpoints}),
	}
	transport := &http.Transport{
		// No proxy from the environment: it would see which objects are read, and
		// dialCheck would check its address instead of the endpoint's.
		Proxy:       nil,
		DialContext: dialer.DialContext,
		// Each call may leave an idle connection to the same host; a lower limit
		// would close connections whenever load falls.
		MaxIdleConnsPerHost: cfg.Concurrency,
		MaxIdleConns:        2 * cfg.Concurrency,
		IdleConnTimeout:     idleConnTimeout,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0),
		},
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		ResponseHeaderTimeout:  cfg.FirstByteTimeout,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         readBuffer,
		WriteBufferSize:        writeBuffer,
		// A reply that the transport unpacked would match neither its length nor
		// its checksum.
		DisableCompression: true,
		Protocols:          new(http.Protocols),
	}
	// HTTP/1.1 only. S3 speaks nothing else, and with other servers HTTP/2 would put
	// all bodies of a host on one connection: one lost packet stalls them all, and a
	// body dropped halfway still counts against its window.
	transport.Protocols.SetHTTP1(true)
	once := transport.Clone()
	once.DisableKeepAlives = true
	return &sender{client: newClient(transport), noKeepAlive: newClient(once), allowHTTP: cfg.AllowPrivateEndpoints}
}

func newClient(transport *http.Transport) *http.Client {
	return &http.Client{
		Transport: transport,
		// A redirect comes from a wrong region or from an attacker. Following it
		// would send the signature to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dialCheck checks the resolved address at the moment of dialing: between an earlier check
// and the dial, the name could change to another address. It runs for each address of the
// name, so a forbidden one is skipped and a good one is used.
func dialCheck(policy alias.Policy) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return &addressError{fmt.Errorf("endpoint address %q: %w", address, err)}
		}
		if err := alias.CheckAddr(ap.Addr(), policy); err != nil {
			return &addressError{err}
		}
		return nil
	}
}

// addressError is a connection that dialCheck or Do refused: it says nothing about the
// origin.
type addressError struct{ error }

func (f *addressError) Unwrap() error { return f.error }

// errPlainHTTP is for aliases that were registered while plain http was allowed.
var errPlainHTTP = errors.New("plain http needs --allow-private-endpoints")

var userAgent = []string{"ixmage"}

// Do sends one request and counts it. It reads error replies up to maxErrorBody and
// closes them, which the SDK does not always do.
func (s *sender) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !s.allowHTTP {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &addressError{errPlainHTTP}}
	}
	// Not among the signed headers.
	req.Header["User-Agent"] = userAgent
	resp, err := s.send(req)
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	closeErr := resp.Body.Close()
	if err == nil {
		err = closeErr
	}
	// The status counts even if the error document is cut.
	if err != nil && req.Context().Err() != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}

// maxResends is how many idle connections, beyond the first, a request may find dead.
// net/http would try all of them: if S3 closes the connection whenever it is asked for
// some object, each request for that object would use up the connections of all others.
const maxResends = 3

var errDead = fmt.Errorf("idle connections are dead: %w", io.ErrUnexpectedEOF)

// attempt is one request of the SDK, which net/http may send several times.
type attempt struct {
	stats  *callStats
	cancel context.CancelCauseFunc
	conns  int
}

// gotConn counts each connection before the request is sent on it.
func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	a.conns++
	switch {
	case a.conns > 1+maxResends:
		a.cancel(errDead)
		_ = info.Conn.Close() // so that the request does not go out before net/http sees the cancellation
	case a.conns > 1:
		a.stats.requests.Add(1)
	}
}

// send sends a request and counts it if it belongs to a call. After a lost connection the
// next request gets a new one, so that a retry does not get another dead one.
func (s *sender) send(req *http.Request) (*http.Response, error) {
	t, ok := req.Context().Value(callStatsKey{}).(*callStats)
	if !ok {
		return s.client.Do(req)
	}
	t.requests.Add(1)
	t.asked.Store(int64(time.Since(t.start)))
	client := s.client
	if t.noReply.Swap(false) {
		client = s.noKeepAlive
	}
	// Not canceled here on success: the body needs it until the request's context ends.
	ctx, cancel := context.WithCancelCause(req.Context())
	a := &attempt{stats: t, cancel: cancel}
	resp, err := client.Do(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: a.gotConn})))
	if err == nil {
		return resp, nil
	}
	t.noReply.Store(true)
	if errors.Is(context.Cause(ctx), errDead) {
		err = errDead
	}
	cancel(nil)
	return nil, err
}
