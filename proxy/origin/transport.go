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
	// idleConnTimeout is below the minute after which S3 and most load
	// balancers hang up, so that we rarely write to a dead connection.
	idleConnTimeout = 50 * time.Second
	// readBuffer takes the headers and the first 15 KiB of a reply in one
	// system call; larger reads of a body pass by the buffer. It is also what
	// each idle connection costs.
	readBuffer = 16 << 10
	// writeBuffer takes the largest request: a key of 1,024 bytes, escaped to
	// three times that, and its signature.
	writeBuffer = 8 << 10
	// maxHeader is far above what S3 sends: 2 KiB of metadata and a few
	// headers of its own.
	maxHeader = 32 << 10
	// maxErrorBody is far above S3's error documents. The SDK would read any
	// length into memory.
	maxErrorBody = 64 << 10
)

// sender is the HTTP client below every S3 client. All share its connections: a
// request carries its own signature, a connection carries none.
type sender struct {
	client *http.Client
	// noKeepAlive makes a connection for each request, and keeps none.
	noKeepAlive *http.Client
	allowHTTP   bool // http is allowed
}

func newSender(cfg Config, resolver *net.Resolver) *sender {
	dialer := &net.Dialer{
		Timeout:        cfg.ConnectTimeout,
		Resolver:       resolver,
		ControlContext: dialCheck(alias.Policy{AllowPrivateEndpoints: cfg.AllowPrivateEndpoints}),
	}
	transport := &http.Transport{
		// None from the environment: it would see which objects are read and
		// would be dialed instead of the address that dialCheck checks.
		Proxy:       nil,
		DialContext: dialer.DialContext,
		// Each call may come back as an idle connection to the same host;
		// fewer would close connections at every ebb.
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
		// Objects are stored as they are served; a reply that we unpacked
		// would not match its length or its checksum.
		DisableCompression: true,
		Protocols:          new(http.Protocols),
	}
	// HTTP/1.1 only. S3 speaks nothing else, and elsewhere HTTP/2 would put
	// all bodies of a host on one connection: one lost packet stalls them all,
	// and a body dropped halfway still counts against its window.
	transport.Protocols.SetHTTP1(true)
	once := transport.Clone()
	once.DisableKeepAlives = true
	return &sender{client: newClient(transport), noKeepAlive: newClient(once), allowHTTP: cfg.AllowPrivateEndpoints}
}

func newClient(transport *http.Transport) *http.Client {
	return &http.Client{
		Transport: transport,
		// A redirect comes from a wrong region or from a stranger; following
		// it would take the signature elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dialCheck checks the address that a name resolved to, at the moment of dialing:
// a check before that could be outrun by a change of the name. It runs for each
// address tried, so that a forbidden one among good ones is passed over.
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

// addressError is a connection that we ourselves refuse to make: it says nothing about
// the origin.
type addressError struct{ error }

func (f *addressError) Unwrap() error { return f.error }

// errPlainHTTP meets aliases that were registered while plain http was allowed.
var errPlainHTTP = errors.New("plain http needs --allow-private-endpoints")

var userAgent = []string{"ixmage"}

// Do sends one request and counts it. It takes error replies whole, so that
// the SDK neither reads without limit nor forgets to close them.
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
	// The status stands even when the document about it did not come whole.
	if err != nil && req.Context().Err() != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}

// maxResends is how many idle connections, beyond the first, a request may find
// dead. net/http would try as many as there are; where S3 hangs up whenever it
// is asked for some object, each request for that would go through everybody's
// connections, over and over as others bring new ones.
const maxResends = 3

var errDead = fmt.Errorf("idle connections are dead: %w", io.ErrUnexpectedEOF)

// attempt is one request of the SDK: net/http may send it several times.
type attempt struct {
	stats  *callStats
	cancel context.CancelCauseFunc
	conns  int
}

// gotConn counts, before anything is sent on it, each connection.
func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	a.conns++
	switch {
	case a.conns > 1+maxResends:
		a.cancel(errDead)
		_ = info.Conn.Close() // so that the request does not go out before that is seen
	case a.conns > 1:
		a.stats.requests.Add(1)
	}
}

// send sends a request for a tally. One that follows on a lost connection gets a
// new one, so that a retry is not lost on the next dead one.
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
	// Ends with the request's own context, where the body must go on until.
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
