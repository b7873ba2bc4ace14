// Package origin reads objects from S3 for the proxy: GetObject and HeadObject,
// signed with the one credential that the alias names, over one tuned transport,
// with a bounded number of calls at a time. What it hands out is checked: a body
// ends with io.EOF only when every declared byte came and the object's checksum
// was right.
package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
)

// Config bounds what calls to S3 may cost. All durations and numbers but Queue
// must be positive.
type Config struct {
	// ConnectTimeout covers the name's resolution and the TCP handshake.
	ConnectTimeout time.Duration
	// FirstByteTimeout runs from a request's last byte to its reply's headers.
	FirstByteTimeout time.Duration
	// CallTimeout covers a call until its headers are here, retries included,
	// and until its Front is, where that is asked for. The default leaves room
	// for two attempts that run into FirstByteTimeout.
	CallTimeout time.Duration
	// IdleTimeout is the longest wait for the next piece of a body, 4 KiB or
	// the rest. Time in which nobody reads the body does not count.
	IdleTimeout time.Duration
	// QueueTimeout is the longest wait for a free slot.
	QueueTimeout time.Duration

	// Concurrency is the number of calls and open bodies at a time, and
	// AliasConcurrency how many of them one alias may hold.
	Concurrency      int
	AliasConcurrency int
	// Queue is how many calls may wait for a slot. One alias takes no more
	// places than it leaves free, so alone at most half of them.
	Queue int

	// AllowPrivateEndpoints permits loopback and private addresses. Link-local
	// and metadata addresses are refused always.
	AllowPrivateEndpoints bool

	// Lookup finds an alias and its credential as they stand now, by the
	// alias's name. It is asked when a key is refused, which may be because
	// the credential has got another key since the request began. Nil: what a
	// request brings is the newest.
	Lookup func(alias string) (alias.Route, bool)
	// Fallback is told each time that a call falls back on the previous key
	// pair of a credential, by the credential's id. It must be quick and safe
	// for concurrent use; nil: nobody is told.
	Fallback func(credentialID int64)

	Log *slog.Logger // nil discards
}

// DefaultConfig gives an error within eight seconds when S3 is silent.
func DefaultConfig() Config {
	return Config{
		ConnectTimeout:   2 * time.Second,
		FirstByteTimeout: 3500 * time.Millisecond,
		CallTimeout:      8 * time.Second,
		IdleTimeout:      10 * time.Second,
		QueueTimeout:     5 * time.Second,
		Concurrency:      256,
		AliasConcurrency: 64,
		Queue:            1024,
	}
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
	return errors.Join(errs...)
}

// Secrets opens the sealed secrets of a credential: of the key pair that it
// signs with, and of another one of its own. It is called when a client is
// made, not for each request, and must be safe for concurrent use.
type Secrets interface {
	Reveal(c *alias.Credential) (alias.KeyPair, error)
	RevealSealed(c *alias.Credential, k alias.SealedKey) (alias.KeyPair, error)
}

// Recorder counts. Outcomes are those of Outcome.Label; calls come from many
// goroutines.
type Recorder interface {
	// OriginRequest counts one Get or Head when it is over: a failed one when
	// it fails, a Get with a body when the body is closed. Calls that never
	// left the queue are not counted.
	OriginRequest(alias, outcome string, d time.Duration)
	OriginBytes(alias string, n int64)
	// OriginRetries counts the requests of a call beyond its first.
	OriginRetries(alias string, n int)
	OriginOpenBodies(delta int)
	// RotationFallback counts a call made once more with the previous key pair
	// of a credential, because S3 refused the new one.
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
}

// New returns an Origin. It does no I/O and starts no goroutine.
func New(cfg Config, secrets Secrets, rec Recorder) (*Origin, error) {
	return newOrigin(cfg, secrets, rec, nil)
}

// newOrigin lets tests say how names resolve.
func newOrigin(cfg Config, secrets Secrets, rec Recorder, resolver *net.Resolver) (*Origin, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := newSender(cfg, resolver)
	return &Origin{
		cfg: cfg, log: log, rec: rec, sender: s,
		clients: newClients(secrets, s, maxClients),
		limit:   newLimiter(cfg),
	}, nil
}

// Client makes a client that signs with a key pair and is otherwise as those
// that serve a location: the same transport, timeouts of connections, retries
// and guard of addresses. The zero KeyPair signs nothing. The client is not
// kept, takes no slot and is counted nowhere; it is for probes with a key that
// is not in use yet. Bodies of replies without an error, and the time that a
// call may take, are the caller's to bound.
func (o *Origin) Client(loc alias.Location, kp alias.KeyPair) *s3.Client {
	return s3.New(o.clients.options(variantOf(loc), providerOf(kp)))
}

// ClientOf is the client that serves a route. Like Client's, its calls take no
// slot and are not counted, and do not fall back on another key.
func (o *Origin) ClientOf(r alias.Route) (*s3.Client, error) { return o.clients.of(r) }

// Forget drops the clients made for any version of a credential. Streams in
// flight go on.
func (o *Origin) Forget(credentialID int64) { o.clients.forget(credentialID) }

// Close drops all clients and closes idle connections. Close the bodies first:
// it does not end them.
func (o *Origin) Close() {
	o.clients.clear()
	o.sender.client.CloseIdleConnections()
}

// Request names an object and the part of it that is wanted.
type Request struct {
	Route alias.Route
	Key   string // in the bucket, the alias's prefix included
	Range *Range // nil: all of it
	// IfMatch, if set, is an ETag that the object must have; else the outcome
	// is OutcomePrecondition.
	IfMatch string
}

// Range is a range of bytes, both ends inclusive.
type Range struct{ First, Last int64 }

func (r Range) String() string { return fmt.Sprintf("bytes=%d-%d", r.First, r.Last) }

// Object is what S3 says of an object, and its body after a Get. Strings are as
// S3 sent them: check them before passing them on.
type Object struct {
	Size         int64 // of the whole object, -1 when S3 did not say
	ETag         string
	ContentType  string
	Encoding     string    // all codings of Content-Encoding
	CacheControl string    // all its lines
	LastModified time.Time // zero when S3 did not say
	// Born is when its headers came, less the age that a cache on the way to S3
	// gave it.
	Born time.Time
	// Body is nil after a Head. It must be closed; Close may be called more
	// than once and while a Read is under way, and releases the slot and the
	// connection. Read returns io.EOF only when every declared byte came and
	// the checksum, if there is one, was right; any other end is an *Error.
	Body io.ReadCloser
}

// Front reads the beginning of the body into p: least bytes or more, fewer only
// where it ends or breaks before. Whoever cannot answer before they are here
// waits for them as for the headers, so both together may take CallTimeout. The
// error is that of the last Read, and comes with the bytes before it.
func (o *Object) Front(p []byte, least int) (n int, err error) { return o.Body.(*body).front(p, least) }

// tally is what one call reports when it is over.
type tally struct {
	rec      Recorder
	alias    string
	start    time.Time
	requests atomic.Int64 // tried, whether they reached S3 or not
	lost     atomic.Bool  // the last one got no reply
}

func (o *Origin) tally(r Request) *tally {
	return &tally{rec: o.rec, alias: string(r.Route.Alias.Name), start: time.Now()}
}

// end must be called once, when no more requests can be sent.
func (t *tally) end(outcome Outcome) {
	t.rec.OriginRequest(t.alias, outcome.Label(), time.Since(t.start))
	if n := t.requests.Load(); n > 1 {
		t.rec.OriginRetries(t.alias, int(n-1))
	}
}

type tallyKey struct{}

func (t *tally) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, tallyKey{}, t)
}

// refuse answers keys that S3 must not see: the SDK refuses an empty one, and
// one that ends in a slash names a folder's marker, not a picture.
func refuse(key string) error {
	if key == "" || strings.HasSuffix(key, "/") {
		return &Error{Outcome: OutcomeNotFound, err: errNoObject}
	}
	return nil
}
