package origin

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ixmage/alias"
)

const (
	// maxClients bounds the clients kept, a few KiB each. The one used least
	// recently is dropped, and made again when needed.
	maxClients = 4096
	// attempts before the first byte: the second hides a lost connection or a short
	// fault of S3; more would only add load to an S3 that is overloaded.
	attempts = 2
	// customRegion is the region of signatures for custom endpoints without a region.
	customRegion = "us-east-1"
)

// variant holds the fields of a location that a client depends on. The bucket is not one
// of them: it is a parameter of each call.
type variant struct {
	endpoint  string
	region    string
	pathStyle bool
}

func variantOf(loc alias.Location) variant {
	return variant{endpoint: loc.Endpoint, region: loc.Region, pathStyle: loc.PathStyle}
}

// clientKey says which client signs a call. A version of a credential has two key
// pairs while it is rotated: the current one and the previous one.
type clientKey struct {
	credential, version int64
	variant

	keyID   string // empty: no signature, or that of a session
	session session
}

// session says what the temporary keys of a client are for. Each session has a client of its own,
// so that none signs for another alias.
type session struct {
	alias          int64
	bucket, prefix string
}

func clientKeyOf(r alias.Route, keyID string) clientKey {
	at := clientKey{
		credential: r.Credential.ID, version: r.Credential.Version, variant: variantOf(r.Alias.Location), keyID: keyID,
	}
	if r.Credential.Temporary() {
		at.session = session{r.Alias.ID, r.Alias.Bucket, r.Alias.Prefix}
	}
	return at
}

// clients keeps one S3 client per credential version, key pair and variant, of each
// credential those of the newest version only. The client of a previous key pair is
// kept under the version that fell back on it and goes with it. A client dropped here
// lives on in the calls and bodies that use it; its idle connections are closed.
type clients struct {
	secrets  Secrets
	sessions Sessions
	sender   *sender

	mu  sync.Mutex // guards lru
	lru *simplelru.LRU[clientKey, client]
}

// client is an S3 client and its connections, which no other client uses.
type client struct {
	s3   *s3.Client
	pool *pool
}

// newLRU needs a size above zero.
func newLRU[K comparable, V any](size int, evicted func(K, V)) *simplelru.LRU[K, V] {
	lru, _ := simplelru.NewLRU(size, evicted)
	return lru
}

func newClients(secrets Secrets, sessions Sessions, s *sender, limit int) *clients {
	dropped := func(_ clientKey, c client) { c.pool.close() }
	return &clients{secrets: secrets, sessions: sessions, sender: s, lru: newLRU(limit, dropped)}
}

// current returns the client that signs for a route. Two callers may make it at the
// same time; one of the two clients is kept.
func (c *clients) current(r alias.Route) (*s3.Client, error) {
	at := clientKeyOf(r, r.Credential.AccessKeyID())
	if client, ok := c.find(at); ok {
		return client, nil
	}
	provider, err := c.provider(r)
	if err != nil {
		return nil, err
	}
	return c.keep(at, c.newClient(at.variant, provider)), nil
}

// previous is like current, but signs with the previous key pair of the credential.
func (c *clients) previous(r alias.Route, k alias.SealedKey) (*s3.Client, error) {
	at := clientKeyOf(r, k.AccessKeyID)
	if client, ok := c.find(at); ok {
		return client, nil
	}
	kp, err := c.secrets.RevealSealed(r.Credential, k)
	if err != nil {
		return nil, fmt.Errorf("reveal the previous key of credential %s: %w", r.Credential.Name, err)
	}
	return c.keep(at, c.newClient(at.variant, static(kp))), nil
}

func (c *clients) newClient(v variant, provider aws.CredentialsProvider) client {
	conns := c.sender.newClient()
	return client{s3.New(options(v, provider, conns)), conns.pool}
}

func (c *clients) find(at clientKey) (*s3.Client, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stored, ok := c.lru.Get(at)
	return stored.s3, ok
}

// keep stores a client and drops those of older versions. Where another caller has
// stored one first it returns that. It does not store the client of an old version, for
// a request that began before the key pair was replaced: no later request needs it.
func (c *clients) keep(at clientKey, made client) *s3.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stored, ok := c.lru.Get(at); ok {
		return stored.s3
	}
	for _, other := range c.lru.Keys() {
		switch {
		case other.credential != at.credential:
		case other.version > at.version:
			return made.s3
		case other.version < at.version:
			c.lru.Remove(other)
		}
	}
	c.lru.Add(at, made)
	return made.s3
}

func (c *clients) forget(credentialID int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.lru.Keys() {
		if at.credential == credentialID {
			c.lru.Remove(at)
		}
	}
}

func (c *clients) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Purge()
}

// provider returns the keys of a credential for the SDK, or no key at all. Only a credential of
// the kind default leads to the default chain, so a broken one never signs as the machine itself.
func (c *clients) provider(r alias.Route) (aws.CredentialsProvider, error) {
	cred := r.Credential
	if cred.Provider == nil {
		return nil, fmt.Errorf("credential %s has no provider", cred.Name)
	}
	switch kind := cred.Provider.Kind(); kind {
	case alias.KindAnonymous:
		return aws.AnonymousCredentials{}, nil
	case alias.KindStatic, alias.KindProvisioned:
		kp, err := c.secrets.Reveal(cred)
		if err != nil {
			return nil, fmt.Errorf("reveal credential %s: %w", cred.Name, err)
		}
		return static(kp), nil
	case alias.KindRole, alias.KindDefault:
		if c.sessions == nil {
			return nil, fmt.Errorf("credential %s is of kind %s, and there are no sessions", cred.Name, kind)
		}
		return c.sessions.Provider(r), nil
	default:
		return nil, fmt.Errorf("credential %s is of kind %q, which does not sign for S3", cred.Name, kind)
	}
}

// providerOf does not sign for the zero KeyPair. Half a pair is an error at signing and
// never a request without a signature.
func providerOf(kp alias.KeyPair) aws.CredentialsProvider {
	if kp == (alias.KeyPair{}) {
		return aws.AnonymousCredentials{}
	}
	return static(kp)
}

func static(kp alias.KeyPair) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
}

// options sets every option that matters: s3.New reads no shared configuration, and its
// zero values are not always safe.
func options(v variant, provider aws.CredentialsProvider, conns *httpClient) s3.Options {
	o := s3.Options{
		Region:       v.region,
		Credentials:  provider,
		HTTPClient:   conns,
		UsePathStyle: v.pathStyle,
		Retryer:      newRetryer(),
		HTTPSignerV4: newSignature(),

		EndpointResolverV2: newResolver(),
		// A log of requests would hold their signatures.
		Logger:        logging.Nop{},
		ClientLogMode: 0,
		// Without this the SDK does not ask for checksums, and body would have
		// none to check.
		ResponseChecksumValidation:                aws.ResponseChecksumValidationWhenSupported,
		RequestChecksumCalculation:                aws.RequestChecksumCalculationWhenRequired,
		DisableLogOutputChecksumValidationSkipped: true,
		// A bucket name is a bucket name: no ARN leads to another host or
		// region, and no suffix to another way of signing.
		UseARNRegion:                   false,
		DisableMultiRegionAccessPoints: true,
		DisableS3ExpressSessionAuth:    aws.Bool(true),
		APIOptions:                     []func(*middleware.Stack) error{removeMiddleware, cleanHeaders},
	}
	if v.endpoint != "" {
		o.BaseEndpoint = aws.String(v.endpoint)
		if o.Region == "" {
			o.Region = customRegion
		}
	}
	return o
}

// newRetryer is the SDK's standard mode with a budget for each client: when many calls
// fail, the second attempts stop. Every option that the environment could change is set.
func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) {
			return 50*time.Millisecond + rand.N(100*time.Millisecond), nil //nolint:gosec // a jitter is no secret
		})
	})
}

// removeMiddleware removes from the SDK the steps that read the environment (an
// execution name for the user agent, a trace id), those that add amz-sdk-… headers, which no
// server needs, and its check of checksums: body makes
// the same check, across a resumed body too, and hashing twice would cost as much as all
// the rest of a large read. A step that a later SDK does not know is no error: only time
// is lost.
func removeMiddleware(stack *middleware.Stack) error {
	_, _ = stack.Build.Remove("RecursionDetection")
	_, _ = stack.Build.Remove("UserAgent")
	_, _ = stack.Build.Remove("ClientRequestID")
	_, _ = stack.Finalize.Remove("RetryMetricsHeader")
	_, _ = stack.Deserialize.Remove("AWSChecksum:ValidateOutputPayloadChecksum")
	return nil
}
