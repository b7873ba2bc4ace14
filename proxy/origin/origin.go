// Package origin reads objects from S3 for the proxy: GetObject and HeadObject,
// signed with the one credential that the alias names, over connections that no other
// credential uses, with a bounded number of calls at a time. It checks what it reads: a body
// ends with io.EOF only if every declared byte has arrived and the object's checksum
// is right.
package origin

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
)

// Config sets the limits of calls to S3. All durations and numbers but Queue
// and BreakerFailures must be positive.
type Config struct {
	// ConnectTimeout covers the name's resolution and the TCP handshake.
	ConnectTimeout time.Duration
	// FirstByteTimeout runs from a request's last byte to its reply's headers.
	FirstByteTimeout time.Duration
	// CallTimeout covers a call until its headers have arrived, retries included, and
	// the read of its Front. It should allow two attempts that reach
	// FirstByteTimeout.
	CallTimeout time.Duration
	// IdleTimeout is the longest wait for the next 4 KiB of a body, or its rest.
	// Time in which the body is not being read does not count.
	IdleTimeout time.Duration
	// QueueTimeout is the longest wait for a free slot.
	QueueTimeout time.Duration

	// Concurrency is the number of calls and open bodies at a time, and
	// AliasConcurrency how many of them one alias may hold.
	Concurrency      int
	AliasConcurrency int
	// IdleConns is how many connections without a call stay open, 0 for twice
	// Concurrency.
	IdleConns int
	// Queue is how many calls may wait for a slot. One alias takes no more
	// places than it leaves free, so alone at most half of them.
	Queue int

	// BreakerFailures is the number of distinct objects whose calls must fail in a
	// row, with one credential at one endpoint, before further calls get
	// OutcomeCircuitOpen without a request to S3; 0: never. After BreakerOpen one
	// call goes out as a probe, and after twice that when the probe fails too.
	BreakerFailures int
	BreakerOpen     time.Duration

	// AllowPrivateEndpoints permits loopback and private addresses. Link-local
	// and metadata addresses are refused always.
	AllowPrivateEndpoints bool
	// Roots are the authorities that S3 servers are trusted with. Nil: those of the system.
	Roots *x509.CertPool

	// CutSlow, if set, is called when a call has waited for a slot for a while. It should
	// close the body that is read most slowly by its client: one of the alias with this
	// id, or of any if alias is 0. It must be quick and safe for concurrent use.
	CutSlow func(alias int64)

	// Sessions makes the temporary keys of credentials without a key of their own. Nil: their
	// calls get OutcomeBadCredential.
	Sessions Sessions

	// Lookup finds the current alias and credential by the alias's name. It is
	// called when S3 refuses a key, because the credential may have a new key since
	// the request began. Nil: the request's route is used again.
	Lookup func(alias string) (alias.Route, bool)
	// PreviousKeyUsed, if set, is called with a credential's id each time that a
	// call is signed with the credential's previous key pair. It must be quick and
	// safe for concurrent use.
	PreviousKeyUsed func(credentialID int64)
	// Outdated, if set, reports whether credentials may have been changed without this node knowing
	// it. It must be quick and safe for concurrent use.
	Outdated func() bool
	// Now is the clock of the nodes that share the registry. Nil: that of the machine.
	Now func() time.Time

	Log *slog.Logger // nil discards
}

// Validate reports every mistake at once.
func (c Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"connect timeout", c.ConnectTimeout},
		{"first byte timeout", c.FirstByteTimeout},
		{"call timeout", c.CallTimeout},
		{"idle timeout", c.IdleTimeout},
		{"queue timeout", c.QueueTimeout},
		{"breaker pause", c.BreakerOpen},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("origin %s is %s, must be above 0", d.name, d.value))
		}
	}
	if c.Concurrency < 1 {
		errs = append(errs, fmt.Errorf("origin concurrency is %d, must be at least 1", c.Concurrency))
	}
	if c.AliasConcurrency < 1 || c.AliasConcurrency > max(c.Concurrency, 1) {
		errs = append(errs, fmt.Errorf(
			"origin concurrency of one alias is %d, must be from 1 to the whole concurrency", c.AliasConcurrency))
	}
	if c.Queue < 0 {
		errs = append(errs, fmt.Errorf("origin queue is %d, must not be below 0", c.Queue))
	}
	if c.BreakerFailures < 0 {
		errs = append(errs, fmt.Errorf("origin breaker failures are %d, must not be below 0", c.BreakerFailures))
	}
	return errors.Join(errs...)
}

// Secrets opens the sealed secrets of a credential: of its current key pair, and of
// another one, such as the previous. It is called when a client is made, not for each
// request, and must be safe for concurrent use.
type Secrets interface {
	Reveal(c *alias.Credential) (alias.KeyPair, error)
	RevealSealed(c *alias.Credential, k alias.SealedKey) (alias.KeyPair, error)
}

// Sessions makes temporary keys. It must be safe for concurrent use.
type Sessions interface {
	// Provider returns what signs for a route. Its Retrieve is called for each request, and must
	// return at once while there are living keys.
	Provider(r alias.Route) aws.CredentialsProvider
	// Renew makes other keys for a route after S3 refused those with an id, and reports whether
	// there are others now.
	Renew(ctx context.Context, r alias.Route, keyID string) bool
}

// Recorder counts calls to S3. It must be safe for concurrent use. An outcome is
// an Outcome.Label.
type Recorder interface {
	// OriginRequest counts one Get or Head when it ends: with its error, or when its
	// body is closed. Calls that never left the queue are not counted.
	OriginRequest(alias, outcome string, d time.Duration)
	OriginBytes(alias string, n int64)
	// OriginRetries counts the requests of a call beyond its first.
	OriginRetries(alias string, n int)
	OriginOpenBodies(delta int)
	// OriginCircuit records the CircuitState of a credential's worst circuit, as a
	// number for packages that do not import this one. It is called at each change
	// under the breaker's lock, so it must be quick and must not call the Origin. A
	// credential that is forgotten may be recorded once more.
	OriginCircuit(credential string, state int)
	// RotationFallback counts a call that is repeated with the previous key pair of
	// a credential, because S3 refused the new one.
	RotationFallback(credential string)
}

// Origin reads from S3. It is safe for concurrent use.
type Origin struct {
	cfg     Config
	log     *slog.Logger
	rec     Recorder
	sender  *sender
	clients *clients
	limit   *limiter
	breaker *breaker
	answers *answers

	unchecked *uncheckedEndpoints
}

// New returns an Origin. It does no I/O and starts no goroutine.
func New(cfg Config, secrets Secrets, rec Recorder) (*Origin, error) {
	return newOrigin(cfg, secrets, rec, nil)
}

// newOrigin is New with a resolver of names for tests.
func newOrigin(cfg Config, secrets Secrets, rec Recorder, resolver *net.Resolver) (*Origin, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := newSender(cfg, resolver, log)
	return &Origin{
		cfg: cfg, log: log, rec: rec, sender: s,
		clients: newClients(secrets, cfg.Sessions, s, maxClients),
		limit:   newLimiter(cfg),
		breaker: newBreaker(cfg, rec),
		answers: newAnswers(),

		unchecked: newUncheckedEndpoints(),
	}, nil
}

// Client makes a client for a location that signs with a key pair, for probes with a key
// that is not in use yet. It has the same timeouts of connections, retries and
// check of addresses as the clients that serve, and connections of its own. The zero KeyPair does not sign. The client
// is not kept, and its calls take no slot and are not counted. The caller must bound the
// time of a call and the body of a reply without an error.
func (o *Origin) Client(loc alias.Location, kp alias.KeyPair) *s3.Client {
	return o.ClientWith(loc, providerOf(kp))
}

// ClientWith is Client with keys of any kind.
func (o *Origin) ClientWith(loc alias.Location, keys aws.CredentialsProvider) *s3.Client {
	return o.clients.newClient(variantOf(loc), keys).s3
}

// Hint says what an operator can do about an error of a client for a location, if S3 gave no
// answer. It contains no secret.
func Hint(loc alias.Location, err error) string {
	if _, hint := diagnose(err, variantOf(loc)); hint != "" {
		return hint
	}
	return "S3 cannot be reached: check the alias's endpoint and region, and the network of this host."
}

// ClientOf returns the client that serves a route. Its calls take no slot, are not
// counted, and are not repeated with another key.
func (o *Origin) ClientOf(r alias.Route) (*s3.Client, error) { return o.clients.current(r) }

// Circuit returns the state of the circuit of a route.
func (o *Origin) Circuit(r alias.Route) CircuitInfo { return o.breaker.info(r) }

// Forget drops the clients of a credential and its circuits. Bodies that are being read
// go on.
func (o *Origin) Forget(credentialID int64) {
	o.clients.forget(credentialID)
	o.breaker.forget(credentialID)
}

// Close drops all clients and closes idle connections. It does not end bodies: close them
// first.
func (o *Origin) Close() {
	o.clients.clear()
	o.sender.idle.close()
}

// Request names an object, or a range of it.
type Request struct {
	Route alias.Route
	Key   string // in the bucket, the alias's prefix included
	Range *Range // nil: all of it
	// Force sends the call out even if the circuit is open, and does not count its
	// result.
	Force bool
	// IfMatch, if set, is the ETag that the object must have. For another object the
	// outcome is OutcomePrecondition.
	IfMatch string
	// IfNoneMatch is the ETag of a known version, as S3 sent it; IfModifiedSince its
	// Last-Modified, used if there is no ETag. If the version is still current, Get
	// returns an Object that is NotModified. Head ignores both.
	IfNoneMatch     string
	IfModifiedSince time.Time
}

// Range is a range of bytes, both ends inclusive. With a Last of math.MaxInt64 it is the rest of
// the object.
type Range struct{ First, Last int64 }

func (r Range) String() string {
	if r.Last == math.MaxInt64 {
		return fmt.Sprintf("bytes=%d-", r.First)
	}
	return fmt.Sprintf("bytes=%d-%d", r.First, r.Last)
}

// Object is the metadata of an object and, after a Get, its body. Strings are as S3 sent
// them, or empty: check them before passing them on.
type Object struct {
	// NotModified says that the version is the one that the request named. The other
	// fields hold the headers of the 304, which may be fewer than those of the first
	// answer and have no size, type or encoding.
	NotModified  bool
	Size         int64 // of the whole object, -1 when S3 did not say
	ETag         string
	ContentType  string    // all its lines if they differ
	Encoding     string    // all codings of Content-Encoding
	CacheControl string    // all its lines
	Expires      string    // all its lines; "0", which is no date either, if it is present and empty
	Vary         string    // all its lines
	LastModified time.Time // zero when S3 did not say
	Date         time.Time // zero when S3 did not say
	Received     time.Time // when its headers came
	// Born is when the object's Age was zero: Received minus the age that RFC 9111,
	// section 4.2.3, gives the reply.
	Born time.Time
	// Checked says that the body ends with io.EOF only if it has the checksum that S3
	// stored with the object.
	Checked bool
	// Body is nil after a Head and when NotModified. The caller must close it, which
	// releases the slot and the connection; Close may be called more than once and
	// during a Read. Read returns io.EOF only if every declared byte has arrived and
	// the checksum, if there is one, is right; any other end is an *Error.
	Body io.ReadCloser
}

// Front reads the beginning of the body into p: least bytes or more, fewer only if the
// body ends or fails before. The headers and these bytes together may take CallTimeout,
// because the caller's answer waits for both. The error is that of the last Read and comes
// with the bytes before it.
func (o *Object) Front(p []byte, least int) (n int, err error) { return o.Body.(*body).front(p, least) }
